"""PyTorch: eager or compiled, in f32 or bf16."""

import torch

import networks


def prepare(options, stage, batch):
    """A function of no arguments that runs the stage once."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    return training(options, batch) if stage == "train_step" else encoding(options, stage, batch)


def encoding(options, stage, batch):
    dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
    tower = networks.load(options.model, stage).to(dtype)
    x = torch.from_numpy(networks.inputs(options.model, stage, batch))
    if stage == "encode_image":
        tower = tower.to(memory_format=torch.channels_last)
        x = x.to(dtype, memory_format=torch.channels_last)
    if options.compiled:
        import torch._inductor.config as inductor

        inductor.freezing = True
        tower = torch.compile(tower)

    @torch.no_grad()
    def run():
        tower(x)

    return run


def training(options, batch):
    model = networks.SmallClip()
    step = torch.compile(model) if options.compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    pixels = torch.randn(batch, 3, model.SIDE, model.SIDE)
    ids = torch.randint(0, model.VOCABULARY, (batch, model.CONTEXT))

    def run():
        with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bf16"):
            loss = step(pixels, ids)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return run

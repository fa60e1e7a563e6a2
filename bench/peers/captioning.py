"""Captions by transformers: from pixels to the first token, and each token after it, by the model's own `generate`."""

import functools
import time

import numpy as np
import torch

# Tokens of a caption: random weights may never end one.
TOKENS = 20
BEAMS = {"": 1, "_beams3": 3}


def prepare(options, stage, batch):
    """A function that runs the stage once and gives its time and no memory."""
    from transformers import BlipForConditionalGeneration

    torch.set_num_threads(options.threads)
    dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
    model = BlipForConditionalGeneration.from_pretrained(options.model, dtype=dtype).eval()
    side = model.config.vision_config.image_size
    rng = np.random.default_rng(7)
    pixels = torch.from_numpy(rng.standard_normal((batch, 3, side, side), dtype=np.float32)).to(dtype)
    first, beams = stage_of(stage)

    def seconds(write, tokens):
        begin = time.perf_counter()
        write(max_new_tokens=tokens, min_new_tokens=tokens, num_beams=beams, do_sample=False)
        return time.perf_counter() - begin

    if first:

        @torch.no_grad()
        def run():
            return seconds(functools.partial(model.generate, pixel_values=pixels), 1), None

        return run

    # What `generate` of the whole model hands to that of its decoder.
    with torch.no_grad():
        states = model.vision_model(pixel_values=pixels)[0]
    text = model.config.text_config
    seen = dict(encoder_hidden_states=states, encoder_attention_mask=torch.ones(states.shape[:2], dtype=torch.long))
    start = torch.full((batch, 1), text.bos_token_id)
    ids = dict(input_ids=start, eos_token_id=text.sep_token_id, pad_token_id=text.pad_token_id)

    @torch.no_grad()
    def later():
        write = functools.partial(model.text_decoder.generate, **ids, **seen)
        one, all_tokens = seconds(write, 1), seconds(write, TOKENS)
        return (all_tokens - one) / (TOKENS - 1), None

    return later


def stage_of(stage):
    """Whether it is the first token, and how many beams there are."""
    name = stage.removesuffix("_beams3")
    return name == "caption_first_token", BEAMS[stage.removeprefix(name)]

"""From the start of a process to its first embedding: PyTorch from safetensors, the others from what they export.

`prepare` is the stage; as a program this file is the process that is timed.
"""

import json
import os
import subprocess
import sys
import time


def prepare(options, _stage, _batch):
    """A function that runs a process and gives its time and memory."""
    file = None if options.name.startswith("torch") else exported_file(options)
    settings = dict(name=options.name, precision=options.precision, threads=options.threads, image=str(options.image),
                    model=str(options.model), file=file and str(file))
    command = [sys.executable, __file__, json.dumps(settings)]

    def run():
        begin = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            line = process.stdout.readline()
            seconds = time.perf_counter() - begin
        if process.returncode != 0 or not line:
            raise RuntimeError(f"the process ended with {process.returncode}")
        return seconds, json.loads(line)["peak_memory"]

    return run


def exported_file(options):
    import exported

    return exported.path(options, "encode_image", "ir" if options.name.startswith("openvino") else "onnx")


def pixels(file, side=224):
    """A photograph as CLIP prepares it: `[1, 3, side, side]`."""
    import numpy as np
    from PIL import Image

    image = Image.open(file).convert("RGB")
    scale = side / min(image.size)
    width, height = (max(side, int(length * scale)) for length in image.size)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - side) // 2, (height - side) // 2
    image = np.asarray(image.crop((left, top, left + side, top + side)), dtype=np.float32) / 255
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    normalized = (image - np.float32(mean)) / np.float32(std)
    return np.ascontiguousarray(normalized.transpose(2, 0, 1)[None])


def with_torch(options):
    import torch
    from transformers import CLIPVisionModelWithProjection

    torch.set_num_threads(options.threads)
    dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
    model = CLIPVisionModelWithProjection.from_pretrained(options.model, dtype=dtype).eval()
    with torch.no_grad():
        return model(torch.from_numpy(pixels(options.image)).to(dtype)).image_embeds[0].float().tolist()


def with_ort(options):
    import with_ort

    return with_ort.session(options, options.file).run(None, {"x": pixels(options.image)})[0][0].tolist()


def with_openvino(options):
    import with_openvino

    x = pixels(options.image)
    return with_openvino.request(options, options.file, x.shape).infer({0: x})[0][0].tolist()


def main():
    from types import SimpleNamespace

    from peer import peak_memory

    options = SimpleNamespace(**json.loads(sys.argv[1]))
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    kinds = {"torch": with_torch, "ort": with_ort, "openvino": with_openvino}
    embedding = kinds[options.name.split("-")[0]](options)
    print(json.dumps(dict(embedding=embedding, peak_memory=peak_memory())), file=answers, flush=True)


if __name__ == "__main__":
    main()

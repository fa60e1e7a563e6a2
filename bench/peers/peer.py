"""A peer of tuwen as a process that measures stages on demand.

  peer.py --list                                  the peers, a line of JSON each
  peer.py NAME --model DIR --threads N --cache DIR [--image FILE]

Each line on stdin is a request, {"stage": "encode_image", "batch": 16, "seconds": 3}; each is answered by a line on stdout,
{"seconds": 0.17, "runs": 18, "peak_memory": 812000000} (the median of a run, in seconds; memory in bytes, of the process at
its height) or {"error": "..."}. Everything that libraries print goes to stderr.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import time
import warnings
from importlib import metadata

ENCODE = ["encode_image", "encode_text"]
EVERYTHING = [*ENCODE, "train_step", "start_up"]
CAPTION = [stage + beams for stage in ("caption_first_token", "caption_token") for beams in ("", "_beams3")]

# Name: module, package, precision, stages.
PEERS = {
    "torch": ("with_torch", "torch", "f32", EVERYTHING),
    "torch-compile": ("with_torch", "torch", "f32", [*ENCODE, "train_step"]),
    "torch-bf16": ("with_torch", "torch", "bf16", EVERYTHING),
    "torch-compile-bf16": ("with_torch", "torch", "bf16", [*ENCODE, "train_step"]),
    "transformers": ("captioning", "transformers", "f32", CAPTION),
    "transformers-bf16": ("captioning", "transformers", "bf16", CAPTION),
    "ort": ("with_ort", "onnxruntime", "f32", [*ENCODE, "start_up"]),
    "ort-int8": ("with_ort", "onnxruntime", "int8", [*ENCODE, "start_up"]),
    "openvino": ("with_openvino", "openvino", "f32", [*ENCODE, "start_up"]),
    "openvino-bf16": ("with_openvino", "openvino", "bf16", [*ENCODE, "start_up"]),
    "openvino-int8": ("with_openvino", "openvino", "int8", [*ENCODE, "start_up"]),
}

# Runs before a stage is measured, and while it is; and how many times as long as asked for the latter may take.
WARM_UP, RUNS, PATIENCE = 2, 5, 4
# Starts of a process, which take some peers many seconds.
STARTS = 1


def listing():
    """Says which peers there are, and of which version; those whose package is not installed have none."""
    for name, (_, package, precision, stages) in PEERS.items():
        try:
            version = metadata.version(package)
        except metadata.PackageNotFoundError:
            version = None
        print(json.dumps(dict(peer=name, package=package, version=version, precision=precision, stages=stages)))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=PEERS)
    parser.add_argument("--model", type=pathlib.Path, help="a checkpoint that checkpoints.py wrote")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--cache", type=pathlib.Path, help="where exported models are kept")
    parser.add_argument("--image", type=pathlib.Path, help="the photograph of start_up")
    options = parser.parse_args()
    options.precision, options.compiled = PEERS[options.name][2], "compile" in options.name
    return options


def peak_memory():
    """Memory of this process at its height, in bytes; none where the system does not tell."""
    try:
        lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)


def measure(run, seconds, warm_up, least):
    """The median of runs that fill the time, which may be some times as long until there are `least` of them; `run` may
    return its own time and memory."""
    begin = time.perf_counter()
    for number in range(warm_up):
        if number == 0 or time.perf_counter() - begin < seconds:
            run()
    times, memory, begin = [], [], time.perf_counter()
    while len(times) == 0 or time.perf_counter() - begin < (max(seconds, 1) * PATIENCE if len(times) < least else seconds):
        started = time.perf_counter()
        told = run()
        times.append(told[0] if told else time.perf_counter() - started)
        memory.append(told[1] if told else None)
    known = [bytes for bytes in memory if bytes]
    return dict(seconds=statistics.median(times), runs=len(times), peak_memory=max(known) if known else peak_memory())


def serve(options, answer):
    """Answers requests until there are no more. A stage is loaded with its first request and stays."""
    import importlib

    ready = {}
    for line in sys.stdin:
        request = json.loads(line)
        key = (request["stage"], request["batch"])
        try:
            start_up, first = key[0] == "start_up", key not in ready
            warm_up, least = (int(first), STARTS) if start_up else (WARM_UP if first else 1, RUNS)
            if first:
                module = "start_up" if start_up else PEERS[options.name][0]
                ready[key] = importlib.import_module(module).prepare(options, *key)
            answer(measure(ready[key], request["seconds"], warm_up, least))
        except Exception as error:  # whatever a peer fails with is its answer
            answer(dict(error=f"{type(error).__name__}: {error}"[:300].replace("\n", " ")))


def main():
    if sys.argv[1:] == ["--list"]:
        return listing()
    options = arguments()
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(options.threads)
    warnings.filterwarnings("ignore")
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    serve(options, lambda told: print(json.dumps(told), file=answers, flush=True))


if __name__ == "__main__":
    main()

"""Embeds a folder with tuwen and with other programs in turns, whole processes, and prints a table of medians.

    python bench/folder/compare.py MODEL FOLDER [--tuwen target/release/tuwen] [--rounds 3] [--limit N] [--threads 2]

MODEL is a ViT-B/32 in the layout of transformers, and FOLDER what photographs.py made. The other programs take the same
network as ONNX (model.py), where they cannot read MODEL. Seconds are from the start of a process to its end.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
OURS = ["f32", "bf16", "int8"]
PEERS = ["with_torch", "with_fastembed", "with_rclip"]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tuwen", type=Path, default=Path("target/release/tuwen"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=int, default=None, help="only the first so many images")
    return parser.parse_args()


def timed(command: list[str]) -> tuple[float, float]:
    """Wall and processor seconds of a process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, used


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory() as scratch:
        # A folder of links, because not every program can stop early.
        folder = Path(scratch) / "folder"
        folder.mkdir()
        photographs = sorted(options.folder.glob("*.jpg"))[: options.limit]
        for photograph in photographs:
            os.symlink(photograph.resolve(), folder / photograph.name)
        exported = Path(scratch) / "exported"
        subprocess.run([sys.executable, HERE / "model.py", options.model, exported], check=True, stdout=sys.stderr)
        threads = ["--threads", str(options.threads)]
        commands = {
            f"tuwen {precision}": [options.tuwen, "embed", folder, "--model", options.model, "--precision", precision,
                                   "--output", Path(scratch) / f"{precision}.npy", "--quiet", *threads]
            for precision in OURS
        }
        for peer in PEERS:
            model = options.model if peer == "with_torch" else exported
            commands[peer.removeprefix("with_")] = [sys.executable, HERE / f"{peer}.py", model, folder, *threads]
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for _ in range(options.rounds):
            for name, command in commands.items():
                for output in Path(scratch).glob("*.npy*"):
                    output.unlink()
                try:
                    found[name].append(timed([str(part) for part in command]))
                except subprocess.CalledProcessError as error:
                    print(f"{name}: {error}", file=sys.stderr)
    print(f"| {len(photographs)} photographs | images/s | CPU s | rounds |\n|---|--:|--:|--:|")
    for name, runs in found.items():
        if runs:
            wall, used = (statistics.median(run[i] for run in runs) for i in (0, 1))
            print(f"| {name} | {len(photographs) / wall:.1f} | {used:.1f} | {len(runs)} |")


if __name__ == "__main__":
    main()

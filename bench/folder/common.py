"""What the programs over a folder share: arguments, images, and the line that they print."""

import argparse
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path


def arguments(description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a CLIP in the layout of transformers, or what model.py made of it")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=int, default=None, help="only the first so many images")
    return parser.parse_args()


def images(options: argparse.Namespace) -> list[Path]:
    return sorted(options.folder.glob("*.jpg"))[: options.limit]


def report(peer: str, options: argparse.Namespace, run: Callable[[], int], **more: object) -> None:
    """Times `run`, which returns how many images it embedded, from loading the model to the last vector."""
    start = time.perf_counter()
    count = run()
    seconds = time.perf_counter() - start
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    usage = list(used)
    line = {
        "peer": peer,
        "stage": "embed_folder",
        "images": count,
        "batch": options.batch,
        "threads": options.threads,
        "seconds": round(seconds, 3),
        "cpu_seconds": round(sum(u.ru_utime + u.ru_stime for u in usage), 3),
        "per_second": round(count / seconds, 3),
        # Of this process alone: those of workers are not added.
        "peak_memory": usage[0].ru_maxrss * 1024,
    }
    print(json.dumps(line | more), flush=True)

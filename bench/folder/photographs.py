"""Makes a folder of photographs as cameras write them, out of a few small pictures.

    python bench/folder/photographs.py PICTURES FOLDER [--count 2000] [--seed 0] [--processes 2]

Each is a part of one of PICTURES, enlarged to 1 to 12 megapixels, with grain that stands for detail and makes as many
bytes a pixel as cameras do, about a fifth: an enlarged picture alone decodes much faster than a photograph of its size. JPEG with halved chroma,
quality 85 to 95; one in twenty is progressive. The same pictures and seed give the same folder.
"""

import argparse
import random
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

ASPECTS = [(4, 3), (3, 2), (16, 9), (3, 4), (2, 3)]
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
SMALLEST = 256  # shorter side of a picture that is used
GRAIN_SIDE = 512


def grain(seed: int) -> np.ndarray:
    """A square of noise, grey with some colour, a little softer than a pixel, as demosaicing leaves it."""
    noise = np.random.default_rng(seed)
    shape = (GRAIN_SIDE, GRAIN_SIDE)
    square = noise.normal(0, 1, (*shape, 1)) + 0.5 * noise.normal(0, 1, (*shape, 3))
    soft = Image.fromarray(np.clip(128 + 32 * square, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.6))
    return (np.asarray(soft).astype(np.float32) - 128) / 32


def photograph(source: Image.Image, chance: random.Random, square: np.ndarray) -> Image.Image:
    aspect = chance.choice(ASPECTS)
    unit = (chance.uniform(1e6, 12e6) / (aspect[0] * aspect[1])) ** 0.5
    width, height = round(aspect[0] * unit), round(aspect[1] * unit)
    # As large a part of the proportion as there is, a little smaller, somewhere.
    scale = min(source.width / width, source.height / height) * chance.uniform(0.8, 1)
    left = chance.uniform(0, source.width - width * scale)
    top = chance.uniform(0, source.height - height * scale)
    box = (left, top, left + width * scale, top + height * scale)
    large = np.asarray(source.resize((width, height), Image.Resampling.BICUBIC, box)).astype(np.float32)
    repeats = (-(-height // GRAIN_SIDE), -(-width // GRAIN_SIDE), 1)
    large += chance.uniform(4, 14) * np.tile(square, repeats)[:height, :width]
    return Image.fromarray(np.clip(large + 0.5, 0, 255).astype(np.uint8))


def make(arguments: tuple[list[Path], Path, int, int]) -> None:
    pictures, folder, seed, number = arguments
    chance = random.Random(f"{seed} {number}")
    with Image.open(chance.choice(pictures)) as picture:
        image = photograph(picture.convert("RGB"), chance, grain(seed))
    image.save(
        folder / f"{number:05}.jpg",
        quality=chance.randint(85, 95),
        subsampling="4:2:0",
        progressive=chance.random() < 0.05,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    files = sorted(path for path in options.pictures.iterdir() if path.suffix.lower() in SUFFIXES)
    pictures = [path for path in files if min(Image.open(path).size) >= SMALLEST]
    if not pictures:
        parser.error(f"{options.pictures}: no picture with sides of {SMALLEST} pixels or more")
    options.folder.mkdir(parents=True, exist_ok=True)
    work = ((pictures, options.folder, options.seed, number) for number in range(options.count))
    with ProcessPoolExecutor(options.processes) as pool:
        for _ in pool.map(make, work, chunksize=8):
            pass


if __name__ == "__main__":
    main()

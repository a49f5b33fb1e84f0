"""Draw the pictures of ``data/objects``: one drawn object in front of a background.

    python -m experiments.objects --out data/objects      draw all, with SHA256SUMS
    python -m experiments.objects --check data/objects    draw again, compare

The objects are those of :mod:`experiments.shapes`, in colors that say nothing about
their class; streets come from :mod:`experiments.scenes`, with other seeds than those of
``data/pedestrians``. A picture depends on its split, class and number only.
"""

import argparse
import hashlib
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from course_utils.datasets.objects import CLASSES, FOLDER, SIDE, SPLITS
from experiments import shapes

__all__ = ["draw", "main", "pictures", "same"]

SEEDS = {"train": 411, "val": 412}
LEVELS = 32  # of each color: files half as large, and hardly seen
LEAST_SEEN = 0.75  # of the object, inside the picture and not hidden
LEAST_CHANGE = 0.12  # by which the object differs from what it covers, in 3 of 4 pixels


def draw(split: str, name: str, number: int) -> np.ndarray:
    """Draw one picture.

    Args:
        split: ``"train"`` or ``"val"``.
        name: one of :data:`course_utils.datasets.objects.CLASSES`.
        number: from 0 on; each number is another picture.

    Returns:
        uint8 (64, 64, 3), RGB.

    Raises:
        ValueError: an unknown split or class, or a negative number.
    """
    if split not in SEEDS:
        raise ValueError(f"split must be one of {tuple(SEEDS)}, got {split!r}")
    if name not in CLASSES:
        raise ValueError(f"name must be one of {CLASSES}, got {name!r}")
    if number < 0:
        raise ValueError(f"number must not be negative, got {number}")
    index = 10_000 * CLASSES.index(name) + number
    rng = np.random.default_rng([SEEDS[split], index])
    while True:  # until enough of the object shows, and stands out
        image = _background(SEEDS[split], index, rng)
        if _object(rng, image, name):
            break
    gain, offset = rng.uniform(0.7, 1.2), rng.uniform(-0.08, 0.08)
    tint = rng.uniform(0.93, 1.07, 3)
    image = np.clip(image * gain * tint + offset, 0, 1)
    step = 256 // LEVELS
    return (image * 255).astype(np.uint8) // step * step + np.uint8(step // 2)


def _background(seed: int, index: int, rng: np.random.Generator) -> np.ndarray:
    """A square cut out of a street or of colored clouds, float (64, 64, 3)."""
    if rng.random() < 0.75:
        picture = shapes.street(seed, index, rng)
    else:
        picture = shapes.texture(rng)
    height, width = picture.shape[:2]
    side = int(rng.integers(90, min(height, width)))
    x, y = rng.integers(0, width - side + 1), rng.integers(0, height - side + 1)
    square = (picture[y : y + side, x : x + side] * 255).astype(np.uint8)
    small = Image.fromarray(square).resize((SIDE, SIDE), Image.Resampling.BOX)
    image = np.asarray(small, float) / 255
    middle = image.mean(axis=(0, 1))
    return middle + rng.uniform(0.4, 0.9) * (image - middle)  # as if out of focus


def _object(rng: np.random.Generator, image: np.ndarray, name: str) -> bool:
    """Paint an object and, at times, what hides a part of it, in place.

    Returns:
        Whether enough of it can be seen, and it stands out from what was there.
    """
    before = image.copy()
    piece = shapes.cut_out(rng, name, rng.uniform(40, 60))
    high, wide = piece.cover.shape
    middle, foot = rng.uniform(24, 40), rng.uniform(min(0.92 * high, 60), 66)
    corner = int(middle - wide / 2), int(foot - high)
    seen = shapes.put(image, piece, corner, rng.uniform(0.7, 1.1))
    if not seen.any():
        return False
    change = np.abs(image - before).mean(axis=2)[seen]
    if rng.random() < 0.2:
        seen = seen & ~shapes.post(rng, image)
    share = seen.sum() / max((piece.cover >= 0.5).sum(), 1)
    return share >= LEAST_SEEN and np.quantile(change, 0.25) >= LEAST_CHANGE


def pictures() -> Iterator[tuple[str, str, str, int]]:
    """Yield each picture's path in the folder, with its split, class and number."""
    for split, count in SPLITS.items():
        for name in CLASSES:
            for number in range(count):
                yield f"{split}/{name}/{number:03d}.png", split, name, number


def _drawn(job: tuple[str, str, str, int]) -> tuple[str, np.ndarray]:
    return job[0], draw(*job[1:])


def write(folder: Path) -> None:
    """Draw all pictures into a folder, and the sums of their files."""
    lines = []
    with ProcessPoolExecutor() as pool:
        for path, pixels in pool.map(_drawn, pictures(), chunksize=20):
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(file, optimize=True)
            lines.append(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {path}\n")
    (folder / "SHA256SUMS").write_text("".join(sorted(lines, key=lambda x: x[66:])))


def differing(folder: Path) -> list[str]:
    """Draw all pictures again; return the paths of those that differ or are missing.

    A processor may round a sine otherwise, and a color next to a step then falls to the
    other side: a picture differs if more than one value in a hundred does.
    """
    wrong = []
    with ProcessPoolExecutor() as pool:
        for path, pixels in pool.map(_drawn, pictures(), chunksize=20):
            file = folder / path
            if not file.is_file() or not same(np.asarray(Image.open(file)), pixels):
                wrong.append(path)
    return wrong


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two pictures agree in at least 99 of 100 values."""
    return one.shape == other.shape and (one != other).mean() <= 0.01


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.objects",
        description="Draw the pictures that the book classifies.",
    )
    goal = parser.add_mutually_exclusive_group(required=True)
    goal.add_argument("--out", type=Path, metavar="FOLDER", help=f"such as {FOLDER}")
    goal.add_argument("--check", type=Path, metavar="FOLDER")
    chosen = parser.parse_args(arguments)
    if chosen.out:
        write(chosen.out)
        print(f"wrote {sum(1 for _ in pictures())} pictures to {chosen.out}")
        return 0
    wrong = differing(chosen.check)
    print(f"{len(wrong)} pictures differ" + (f": {wrong[0]}, ..." if wrong else ""))
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())

"""Compare two pictures the way a careful reader would: structure yes, antialiasing no.

Both pictures are laid on white and compared in color. A pixel *agrees* when its color
lies within what the other picture shows in the 3 x 3 pixels around that place, give or
take four levels of 255, so that an edge drawn a fraction of a pixel further on, or
snapped to the next one, is no difference. What disagrees is blurred (a box of 3 x 3
pixels), and its mean is taken over overlapping tiles of 16 x 16 pixels: the worst tile
decides. Fine textures, where the neighborhood hides too much, are also compared pixel
by pixel over tiles of 32 x 32.

The limits were set by measurement; ``tests/test_figure_compare.py`` holds the cases: a
line moved by 3 pixels, one digit of a tick label, two colors of equal brightness
swapped and a missing box fail; antialiasing and data times (1 + 1e-6) pass.
"""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

__all__ = [
    "Verdict",
    "compare",
    "decode",
    "difference_picture",
    "is_blank",
    "to_image",
]

# In levels of 0 to 255.
STRUCTURE_TILE, STRUCTURE_LIMIT = 16, 0.4
UNSEEN = 4  # a difference in color that no reader sees
TEXTURE_TILE, TEXTURE_LIMIT = 32, 45.0


@dataclass(frozen=True)
class Verdict:
    """Whether two pictures are the same, and in words why not."""

    same: bool
    reason: str = ""


def decode(png: bytes) -> np.ndarray:
    """A PNG as H x W x 3 floats from 0 to 255, on white.

    Raises:
        ValueError: not a picture.
    """
    try:
        picture = Image.open(io.BytesIO(png)).convert("RGBA")
    except (OSError, SyntaxError) as error:
        raise ValueError(f"not a PNG ({len(png)} bytes)") from error
    white = Image.new("RGBA", picture.size, "white")
    white.alpha_composite(picture)
    return np.asarray(white.convert("RGB"), dtype=np.float32)


def is_blank(picture: np.ndarray) -> bool:
    """Whether a picture shows one flat color."""
    return float(np.ptp(picture, axis=(0, 1)).max()) < 16


def compare(stored: np.ndarray, new: np.ndarray, factor: float = 1.0) -> Verdict:
    """Compare two decoded pictures; ``factor`` loosens the limits."""
    if stored.shape != new.shape:
        sizes = [f"{p.shape[1]}x{p.shape[0]}" for p in (stored, new)]
        return Verdict(False, f"the size was {sizes[0]} pixels and is {sizes[1]}")
    if np.array_equal(stored, new):
        return Verdict(True)
    structure = _worst_tile(_blur(disagreement(stored, new)), STRUCTURE_TILE)
    texture = _worst_tile(np.abs(stored - new).max(axis=2), TEXTURE_TILE)
    for (level, x, y), limit in (
        (structure, STRUCTURE_LIMIT * factor),
        (texture, TEXTURE_LIMIT * factor),
    ):
        if level > limit:
            where = f"worst around x={x}, y={y}"
            return Verdict(False, f"differs by {level:.1f}, limit {limit:g}, {where}")
    return Verdict(True)


def disagreement(stored: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Per pixel, how far each picture leaves the other's 3 x 3 range (H x W)."""
    return np.maximum(_outside(stored, new), _outside(new, stored)).max(axis=2)


def _outside(picture: np.ndarray, other: np.ndarray) -> np.ndarray:
    low, high = _neighborhood(other, np.minimum), _neighborhood(other, np.maximum)
    return np.maximum(0, np.maximum(low - picture, picture - high) - UNSEEN)


def _neighborhood(picture: np.ndarray, pick) -> np.ndarray:
    """The smallest or largest value of each 3 x 3 neighborhood."""
    padded = np.pad(picture, ((1, 1), (1, 1), (0, 0)), mode="edge")
    rows = pick(pick(padded[:-2], padded[1:-1]), padded[2:])
    return pick(pick(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])


def _blur(levels: np.ndarray) -> np.ndarray:
    padded = np.pad(levels, 1, mode="edge")
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    return (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / 9


def _worst_tile(levels: np.ndarray, tile: int) -> tuple[float, int, int]:
    """The largest mean over tiles that overlap by half, and the tile's center."""
    step = tile // 2
    height, width = levels.shape
    padded = np.pad(levels, ((0, -height % step), (0, -width % step)))
    rows, columns = padded.shape[0] // step, padded.shape[1] // step
    halves = padded.reshape(rows, step, columns, step).sum(axis=(1, 3))
    halves = np.pad(halves, ((0, 1), (0, 1)))
    sums = halves[:-1, :-1] + halves[1:, :-1] + halves[:-1, 1:] + halves[1:, 1:]
    row, column = np.unravel_index(sums.argmax(), sums.shape)
    level = float(sums[row, column]) / tile**2
    return level, int((column + 1) * step), int((row + 1) * step)


def to_image(picture: np.ndarray) -> Image.Image:
    """A decoded picture, ready to be saved."""
    return Image.fromarray(picture.astype(np.uint8))


def difference_picture(stored: np.ndarray, new: np.ndarray) -> Image.Image:
    """The stored picture in pale gray, what differs in red."""
    height = max(stored.shape[0], new.shape[0])
    width = max(stored.shape[1], new.shape[1])
    canvas = []
    for picture in (stored, new):
        sheet = np.full((height, width, 3), 255, dtype=np.float32)
        sheet[: picture.shape[0], : picture.shape[1]] = picture
        canvas.append(sheet)
    gap = np.clip(np.abs(canvas[0] - canvas[1]).max(axis=2) / 64, 0, 1)[..., None]
    pale = 255 - (255 - canvas[0].mean(axis=2, keepdims=True)) * 0.35
    red = np.array([220, 0, 0], dtype=np.float32)
    return Image.fromarray((pale * (1 - gap) + red * gap).astype(np.uint8))

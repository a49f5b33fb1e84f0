"""Masks in run lengths, as COCO stores them, written out by hand.

A mask is read column by column, from the top down. Its **counts** are the lengths of
the runs of equal pixels, beginning with a run of zeros (of length 0 where the first
pixel is 1). In a file the counts are either a list of integers, as for COCO's crowds,
or packed into a short string, as for the results of a detector.

Source: the format of https://github.com/cocodataset/cocoapi (``maskApi.c``); every
function gives what pycocotools gives.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["compress", "counts", "decode", "decompress", "encode", "from_polygons"]


def counts(mask: np.ndarray) -> list[int]:
    """The run lengths of a mask, column by column, zeros first.

    Args:
        mask: (H, W), an object where not 0.

    Returns:
        The lengths; their sum is H * W. ``[0]`` for a mask without pixels.

    Raises:
        ValueError: not two dimensions.
    """
    mask = np.asarray(mask)
    if mask.ndim != 2:
        raise ValueError(f"mask must have shape (H, W), got {mask.shape}")
    pixels = (mask != 0).ravel(order="F")
    changes = np.flatnonzero(np.diff(pixels)) + 1  # where a new run begins
    starts = [0, 0] if pixels.size and pixels[0] else [0]
    return np.diff([*starts, *changes, pixels.size]).tolist()


def encode(mask: np.ndarray, compressed: bool = True) -> dict[str, Any]:
    """A mask as COCO's json holds it.

    Args:
        mask: (H, W), an object where not 0.
        compressed: whether the counts are packed into a string.

    Returns:
        ``{"size": [H, W], "counts": ...}``.
    """
    lengths = counts(mask)
    height, width = np.shape(mask)
    packed = compress(lengths) if compressed else lengths
    return {"size": [height, width], "counts": packed}


def decode(rle: dict[str, Any]) -> np.ndarray:
    """The mask of a ``{"size": ..., "counts": ...}``.

    Args:
        rle: counts as a list, a string or (as pycocotools returns them) bytes.

    Returns:
        (H, W), bool.

    Raises:
        ValueError: a part is missing, a count is no integer >= 0, or they do not add up
            to the number of pixels.
    """
    if not isinstance(rle, dict) or not {"size", "counts"} <= set(rle):
        raise ValueError(f"run lengths need 'size' and 'counts', got {rle!r:.60}")
    size, lengths = rle["size"], rle["counts"]
    if not _integers(size) or len(size) != 2:
        raise ValueError(f"size must be [height, width], got {size!r:.60}")
    if isinstance(lengths, str | bytes):
        lengths = decompress(lengths)
    if not _integers(lengths):
        raise ValueError(f"counts must be integers >= 0, got {lengths!r:.60}")
    height, width = size
    if sum(lengths) != height * width:
        raise ValueError(
            f"counts add up to {sum(lengths)}, but {height} x {width} pixels are "
            f"{height * width}"
        )
    values = np.arange(len(lengths)) % 2 == 1  # no, yes, no, yes, ...
    return np.repeat(values, lengths).reshape(width, height).T


def compress(lengths: Sequence[int]) -> str:
    """Run lengths as a string of printable characters.

    From the fourth on, a count is replaced by its difference to the one two places
    before: neighboring columns look alike, so that is small. Each number is cut into
    groups of 5 bits, the lowest first; a sixth bit says that more follow; 48 is added,
    so that the characters run from "0" to "o". The highest bit of the last group is the
    number's sign.
    """
    characters = []
    for i, count in enumerate(lengths):
        value = count - lengths[i - 2] if i > 2 else count
        more = True
        while more:
            group = value & 0b11111
            value >>= 5
            more = value != (-1 if group & 0b10000 else 0)
            characters.append(chr(48 + group + 0b100000 * more))
    return "".join(characters)


def decompress(text: str | bytes) -> list[int]:
    """The run lengths in a string that :func:`compress` or pycocotools made.

    Raises:
        ValueError: a character outside "0" to "o", or the string ends too early.
    """
    text = text.decode("latin-1") if isinstance(text, bytes) else text
    lengths: list[int] = []
    value = shift = 0
    for i, character in enumerate(text):
        group = ord(character) - 48
        if not 0 <= group < 64:
            raise ValueError(f"no character of run lengths: {character!r} at {i}")
        value |= (group & 0b11111) << shift
        shift += 5
        if group & 0b100000:
            continue
        if group & 0b10000:
            value -= 1 << shift  # negative
        lengths.append(value + lengths[-2] if len(lengths) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError(f"run lengths end in the middle of a number: {text[-20:]!r}")
    return lengths


def from_polygons(
    polygons: Sequence[Sequence[float]], height: int, width: int
) -> np.ndarray:
    """The mask of COCO's polygons: the pixels inside any of them.

    A pixel counts as inside by the rule of COCO's own tools, which differs a little
    from the common one (its center lies inside): every outline is drawn on a grid five
    times as fine; where it crosses the middle of a column of pixels, that column turns
    from out to in, or back, at the next pixel below.

    Args:
        polygons: each ``[x, y, x, y, ...]``, at least three points; pixel (0, 0) covers
            0 to 1. May stick out of the image.
        height, width: of the image.

    Returns:
        (H, W), bool.

    Raises:
        ValueError: a polygon has an odd number of coordinates, or fewer than six.
    """
    mask = np.zeros((height, width), dtype=bool)
    for polygon in polygons:
        if len(polygon) < 6 or len(polygon) % 2:
            raise ValueError(
                f"a polygon needs 6, 8, 10, ... numbers, got {len(polygon)}"
            )
        mask |= _fill(np.asarray(polygon, dtype=float).reshape(-1, 2), height, width)
    return mask


def _fill(points: np.ndarray, height: int, width: int) -> np.ndarray:
    fine = np.trunc(5 * points + 0.5).astype(np.int64)
    outline = np.concatenate(
        [_line(*a, *b) for a, b in zip(fine, np.roll(fine, -1, axis=0), strict=True)]
    )
    x, y = np.minimum(outline[1:], outline[:-1]).T
    column, rest = np.divmod(x - 2, 5)  # the middle of column c is 5 c + 2
    moves = outline[1:, 0] != outline[:-1, 0]
    crosses = moves & (rest == 0) & (column >= 0) & (column < width)
    row = -((2 - y[crosses]) // 5)  # (y - 2) / 5, rounded up
    turns = column[crosses] * height + row.clip(0, height)
    inside = np.cumsum(np.bincount(turns, minlength=height * width + 1)) % 2 == 1
    return inside[: height * width].reshape(width, height).T


def _line(x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
    """The points of a line, both ends too, one for each step along its longer side.

    The other coordinate is rounded. Rounding starts from the end that is smaller along
    the longer side, whichever way the line is drawn.
    """
    dx, dy = abs(x2 - x1), abs(y2 - y1)
    longer = max(dx, dy)
    if longer == 0:
        return np.array([[x1, y1]])
    back = x1 > x2 if dx >= dy else y1 > y2
    if back:
        x1, y1, x2, y2 = x2, y2, x1, y1
    t = np.arange(longer + 1)
    if dx >= dy:
        x, y = x1 + t, np.trunc(y1 + (y2 - y1) / longer * t + 0.5)
    else:
        x, y = np.trunc(x1 + (x2 - x1) / longer * t + 0.5), y1 + t
    line = np.stack([x, y], axis=1).astype(np.int64)
    return line[::-1] if back else line


def _integers(values: Any) -> bool:
    return isinstance(values, list | tuple) and all(
        isinstance(v, int | np.integer) and not isinstance(v, bool) and v >= 0
        for v in values
    )

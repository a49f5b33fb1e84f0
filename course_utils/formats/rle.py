"""Masks in run lengths, as COCO stores them: pycocotools behind checked functions.

A mask is read column by column, from the top down. Its **counts** are the lengths of
the runs of equal pixels, beginning with a run of zeros (of length 0 where the first
pixel is 1). In a file the counts are either a list of integers, as for COCO's crowds,
or packed into a short string, as for the results of a detector.

pycocotools does the work in C, with numbers of 32 bits, and trusts its input; what
comes here is checked first. Strings are taken apart here, for :func:`decompress` is
that check, and numpy makes masks of runs: pycocotools' own ``decode`` gives a
deprecation warning with numpy 2. Chapter 9 writes all of it out by hand.

Source: the format of https://github.com/cocodataset/cocoapi (``maskApi.c``).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco

from course_utils.formats.records import shown

__all__ = ["compress", "counts", "decode", "decompress", "encode", "from_polygons"]

MOST_PIXELS = 2**31 - 1  # pycocotools counts with 32 bits, some of them with a sign
LONGEST = 10**8  # steps around an outline, on the grid five times as fine


def counts(mask: np.ndarray) -> list[int]:
    """The run lengths of a mask, column by column, zeros first.

    Args:
        mask: (H, W), an object where not 0.

    Returns:
        The lengths; their sum is H * W. ``[0]`` for a mask without pixels.

    Raises:
        ValueError: not two dimensions, or 2^31 pixels or more.
    """
    return decompress(_encode(mask)["counts"])


def encode(mask: np.ndarray, compressed: bool = True) -> dict[str, Any]:
    """A mask as COCO's json holds it.

    Args:
        mask: (H, W), an object where not 0.
        compressed: whether the counts are packed into a string.

    Returns:
        ``{"size": [H, W], "counts": ...}``.

    Raises:
        ValueError: not two dimensions, or 2^31 pixels or more.
    """
    found = _encode(mask)
    packed = found["counts"].decode()
    lengths = packed if compressed else decompress(packed)
    return {"size": [int(side) for side in found["size"]], "counts": lengths}


def decode(rle: dict[str, Any]) -> np.ndarray:
    """The mask of a ``{"size": ..., "counts": ...}``.

    Args:
        rle: counts as a list, a string or (as pycocotools returns them) bytes.

    Returns:
        (H, W), bool.

    Raises:
        ValueError: a part is missing, a count is no integer >= 0, or they do not add up
            to the number of pixels, which is below 2^31.
    """
    height, width = size_of(rle)
    lengths = rle["counts"]
    if isinstance(lengths, str | bytes):
        lengths = decompress(lengths)
    if not _integers(lengths):
        raise ValueError(f"counts must be integers >= 0, got {shown(lengths)}")
    if sum(lengths) != height * width:
        raise ValueError(
            f"counts add up to {shown(sum(lengths))}, but {height} x {width} pixels "
            f"are {height * width}"
        )
    values = np.arange(len(lengths)) % 2 == 1  # no, yes, no, yes, ...
    return np.repeat(values, lengths).reshape(width, height).T


def size_of(rle: Any) -> tuple[int, int]:
    """The (height, width) that run lengths name, before anything is made of them.

    Raises:
        ValueError: a part is missing, or the size is none, or has 2^31 pixels or more.
    """
    if not isinstance(rle, dict) or not {"size", "counts"} <= set(rle):
        raise ValueError(f"run lengths need 'size' and 'counts', got {shown(rle)}")
    size = rle["size"]
    if not _integers(size) or len(size) != 2:
        raise ValueError(f"size must be [height, width], got {shown(size)}")
    height, width = (int(side) for side in size)
    if height * width > MOST_PIXELS:
        raise ValueError(f"size must have fewer than 2^31 pixels, got {shown(size)}")
    return height, width


def compress(lengths: Sequence[int]) -> str:
    """Run lengths as a string of printable characters.

    From the fourth on, a count is replaced by its difference to the one two places
    before: neighboring columns look alike, so that is small. Each number is cut into
    groups of 5 bits, the lowest first; a sixth bit says that more follow; 48 is added,
    so that the characters run from "0" to "o". The highest bit of the last group is the
    number's sign.

    Raises:
        ValueError: a length is no integer >= 0, or their sum is 2^31 or more.
    """
    if not _integers(lengths) or sum(lengths) > MOST_PIXELS:
        got = shown(lengths)
        raise ValueError(f"counts must be integers >= 0 of a sum < 2^31, got {got}")
    size, lengths = [1, sum(lengths)], [int(length) for length in lengths]
    packed = coco.frPyObjects({"size": size, "counts": lengths}, *size)
    return packed["counts"].decode()


def decompress(text: str | bytes) -> list[int]:
    """The run lengths in a string that :func:`compress` or pycocotools made.

    Returns:
        The lengths; a string that is broken elsewhere may hold negative ones.

    Raises:
        ValueError: a character outside "0" to "o", a number of more than 32 bits, or
            the string ends too early.
    """
    text = text.decode("latin-1") if isinstance(text, bytes) else text
    lengths: list[int] = []
    value = shift = 0
    for i, character in enumerate(text):
        group = ord(character) - 48
        if not 0 <= group < 64:
            raise ValueError(f"no character of run lengths: {character!r} at {i}")
        if shift > 30:
            raise ValueError(f"a run length of more than 32 bits at {i}")
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
        ValueError: a polygon has an odd number of coordinates, or fewer than six; one
            is not finite; the outline is 20 million pixels long or longer.
    """
    if not (_integers([height, width]) and height * width <= MOST_PIXELS):
        got = shown([height, width])
        raise ValueError(f"height and width must be integers >= 0, got {got}")
    flat = [np.asarray(polygon, dtype=float).ravel() for polygon in polygons]
    for polygon in flat:
        if len(polygon) < 6 or len(polygon) % 2:
            raise ValueError(
                f"a polygon needs 6, 8, 10, ... numbers, got {len(polygon)}"
            )
        if not np.isfinite(polygon).all():
            raise ValueError(f"a polygon needs finite numbers, got {shown(polygon)}")
        points = polygon.reshape(-1, 2)
        steps = 5 * np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum()
        if steps + 5 * np.abs(points).max() > LONGEST:  # it counts with 32 bits
            raise ValueError(f"a polygon far outside its image: {shown(polygon)}")
    if not flat or not height * width:
        return np.zeros((height, width), dtype=bool)
    outlines = coco.frPyObjects([polygon.tolist() for polygon in flat], height, width)
    return decode(coco.merge(outlines))


def _encode(mask: np.ndarray) -> dict[str, Any]:
    mask = np.asarray(mask)
    if mask.ndim != 2:
        raise ValueError(f"mask must have shape (H, W), got {mask.shape}")
    if mask.size > MOST_PIXELS:
        raise ValueError(f"mask must have fewer than 2^31 pixels, got {mask.shape}")
    return coco.encode(np.asfortranarray(mask != 0, dtype=np.uint8))


def _integers(values: Any) -> bool:
    return isinstance(values, list | tuple) and all(
        isinstance(v, int | np.integer) and not isinstance(v, bool) and v >= 0
        for v in values
    )

"""Read pictures and label maps from files: upright, RGB, uint8, or a clear error.

:func:`read_image` gives the same kind of tensor whatever the file holds: gray, palette,
alpha, CMYK, 16 bits, or pixels stored on their side with a note (EXIF orientation) how
to turn them. :func:`read_mask` gives the stored integers of a label map, unchanged.

Files are decoded by Pillow. torchvision's PNG decoder is about a tenth faster, but in
0.29 a damaged file ends the whole process there, where Pillow raises an error; and its
decoders are deprecated.

Sizes are ``(height, width)`` in pixels, as in the shape of a tensor.

Sources: the modes of https://pillow.readthedocs.io/en/stable/handbook/concepts.html,
and the tag Orientation (274) of the standard EXIF, CIPA DC-008.
"""

import os
import struct
from os import PathLike
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

__all__ = [
    "orientation",
    "read_image",
    "read_mask",
    "stored_size",
    "upright",
    "upright_size",
]

# Numbers of tags in EXIF and TIFF.
WIDTH, HEIGHT, ORIENTATION = 0x0100, 0x0101, 0x0112
SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Modes that Pillow turns into RGB by itself as a viewer would.
PLAIN = ("1", "L", "LA", "La", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "LAB", "HSV")
INTEGERS = ("1", "L", "P", "I", "I;16", "I;16L", "I;16B")


def read_image(path: str | PathLike) -> Tensor:
    """Read a picture as RGB, upright.

    - Gray is repeated three times; a palette is looked up; CMYK is converted by
      Pillow's formula (no color profile).
    - Of 16 bits the high byte is kept (65535 becomes 255).
    - Alpha is dropped, as by Pillow's ``convert("RGB")`` and torchvision's mode
      ``RGB``: a transparent pixel shows the color stored under it, often black.
    - The EXIF orientation is applied: the tensor has :func:`upright_size`.
    - Of an animation, the first frame is read.

    Args:
        path: the file, in any format Pillow reads.

    Returns:
        (3, height, width), uint8, values 0 to 255: red, green, blue as stored (sRGB in
        nearly all files; a color profile is not applied). On the CPU. Its memory lies
        pixel by pixel (channels last), as decoders leave it; ``.contiguous()`` gives
        planes.

    Raises:
        FileNotFoundError: there is no such file.
        IsADirectoryError, PermissionError: it is a folder, or may not be read.
        TypeError: ``path`` is no path.
        ValueError: it is not an image, is damaged or cut short, has more pixels than
            Pillow takes for sane (``Image.MAX_IMAGE_PIXELS``, twice), or holds numbers
            without a range (32-bit integers, floats).
    """
    pixels, turn = _read(path, _rgb)
    return upright(torch.from_numpy(pixels).permute(2, 0, 1), turn)


def read_mask(path: str | PathLike) -> Tensor:
    """Read a label map, one integer a pixel, as it is stored.

    A palette is not looked up: its indices are the labels. The EXIF orientation is not
    applied. Gray of 2 or 4 bits comes as Pillow scales it, to 0 .. 255.

    Args:
        path: an image with one channel of integers.

    Returns:
        (height, width), uint8, or int32 where the file has more than 8 bits. On the
        CPU.

    Raises:
        FileNotFoundError: there is no such file.
        IsADirectoryError, PermissionError: it is a folder, or may not be read.
        TypeError: ``path`` is no path.
        ValueError: it is not an image, is damaged, or has several channels or floats.
    """
    return torch.from_numpy(_read(path, _labels)[0])


def orientation(path: str | PathLike) -> int:
    """The EXIF orientation of a picture, 1 to 8; 1, upright, where it says nothing.

    Raises:
        OSError, TypeError, ValueError: as in :func:`read_image`.
    """
    return _header(path)[1]


def stored_size(path: str | PathLike) -> tuple[int, int]:
    """``(height, width)`` of the pixels as stored, without decoding them.

    Raises:
        OSError, TypeError, ValueError: as in :func:`read_image`.
    """
    return _header(path)[0]


def upright_size(path: str | PathLike) -> tuple[int, int]:
    """``(height, width)`` of what :func:`read_image` returns, without decoding.

    Raises:
        OSError, TypeError, ValueError: as in :func:`read_image`.
    """
    (height, width), turn = _header(path)
    return (width, height) if turn >= 5 else (height, width)


def upright(pixels: Tensor, orientation: int) -> Tensor:
    """Turn stored pixels, (..., height, width), the way an EXIF orientation says.

    Args:
        pixels: an image or a mask, as stored.
        orientation: 1 to 8, see :func:`orientation`.

    Returns:
        The upright pixels; a copy where anything moves.

    Raises:
        ValueError: another orientation.
    """
    if orientation not in range(1, 9):
        raise ValueError(f"orientation must lie in 1 .. 8, got {orientation!r}")
    if orientation >= 5:  # rows are stored as columns
        pixels = pixels.transpose(-2, -1)
    # 1 as it is, 2 mirrored, 3 half a turn, 4 upside down; 5 to 8 after transposing
    flip = {2: (-1,), 3: (-2, -1), 4: (-2,), 6: (-1,), 7: (-2, -1), 8: (-2,)}
    if orientation in flip:
        return pixels.flip(flip[orientation])
    return pixels if orientation == 1 else pixels.clone()


# --- Pillow --------------------------------------------------------------------------


def _read(path, decode) -> tuple[np.ndarray, int]:
    """The decoded pixels and the orientation; every failure names the file."""
    with _open(path) as image:
        try:
            image.load()
            pixels = decode(image)
        except Exception as error:  # each of Pillow's readers has its own
            raise ValueError(f"{path}: damaged or cut short: {error}") from error
        if pixels is None:
            raise ValueError(f"{path}: cannot use pixels of mode {image.mode!r}")
        return pixels, _orientation(image)


def _header(path) -> tuple[tuple[int, int], int]:
    """The stored (height, width) and the orientation, from the file's header."""
    with _open(path) as image:
        size = image.size[::-1]
        if image.format == "TIFF":  # Pillow gives the upright size already
            size = image.tag_v2[HEIGHT], image.tag_v2[WIDTH]
        plain = image.format == "PNG" and not _tells_more(image.fp)
        return size, 1 if plain else _orientation(image)


def _open(path) -> Image.Image:
    path = os.fspath(path)
    try:
        return Image.open(path)
    except UnidentifiedImageError as error:
        raise ValueError(f"{path}: not an image that can be read") from error
    except (FileNotFoundError, IsADirectoryError, PermissionError):
        raise
    except Exception as error:  # a broken header, or more pixels than is sane
        raise ValueError(f"{path}: cannot be read as an image: {error}") from error


def _rgb(image: Image.Image) -> np.ndarray | None:
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        gray = (np.asarray(image).astype(np.int64) >> 8).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=2)
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # by way of RGBA, or Pillow may warn
    if image.mode in PLAIN:
        image = image.convert("RGB")
    return np.array(image) if image.mode == "RGB" else None


def _labels(image: Image.Image) -> np.ndarray | None:
    if image.mode not in INTEGERS:
        return None
    labels = np.array(image)
    wide = labels.dtype.itemsize > 1
    return labels.astype(np.int32 if wide else np.uint8, copy=False)


def _orientation(image: Image.Image) -> int:
    """The tag's value; 1 where there is none, or none that can be read."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:
        return 1
    return value if value in range(1, 9) else 1


def _tells_more(file: BinaryIO) -> bool:
    """Whether a PNG has text or EXIF: Pillow would decode the pixels to find it."""
    file.seek(0)
    if file.read(8) != SIGNATURE:
        return True
    while len(head := file.read(8)) == 8:
        length, name = struct.unpack(">I4s", head)
        if name in (b"eXIf", b"tEXt", b"zTXt", b"iTXt"):
            return True
        file.seek(length + 4, 1)
    return False

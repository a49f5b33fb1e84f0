"""Small pictures to classify: twelve kinds of drawn objects, bundled with the book.

``data/objects`` has the layout of ``torchvision.datasets.ImageFolder``:
``train/bottle/000.png`` and so on, 64 x 64 pixels, RGB. ``python -m
experiments.objects`` drew them.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

__all__ = ["CLASSES", "FOLDER", "SIDE", "SPLITS", "load"]

FOLDER = Path(__file__).resolve().parents[2] / "data" / "objects"
# In ImageFolder's order, which is that of the alphabet: label k is CLASSES[k].
CLASSES = (
    "balloon",
    "bottle",
    "cactus",
    "chair",
    "dog",
    "flamingo",
    "giraffe",
    "guitar",
    "ladder",
    "mushroom",
    "penguin",
    "umbrella",
)
SPLITS = {"train": 100, "val": 30}  # pictures of each class
SIDE = 64  # pixels


def load(split: Literal["train", "val"], each: int | None = None) -> tuple:
    """Read a split into memory.

    Args:
        split: ``"train"`` (1,200 pictures) or ``"val"`` (360).
        each: take the first so many pictures of each class; default: all.

    Returns:
        ``(images, labels)``: uint8 (N, 3, 64, 64), RGB, and int64 (N,), in the order of
        ``ImageFolder``: class by class.

    Raises:
        ValueError: an unknown split, or ``each`` is not from 1 to what there is.
        FileNotFoundError: a picture is missing.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {tuple(SPLITS)}, got {split!r}")
    count = SPLITS[split] if each is None else each
    if isinstance(count, bool) or not isinstance(count, int):
        raise ValueError(f"each must be an integer, got {each!r}")
    if not 1 <= count <= SPLITS[split]:
        raise ValueError(f"each must lie in 1 .. {SPLITS[split]}, got {each}")
    pictures = [
        _read(FOLDER / split / name / f"{number:03d}.png")
        for name in CLASSES
        for number in range(count)
    ]
    labels = torch.arange(len(CLASSES)).repeat_interleave(count)
    return torch.stack(pictures), labels


def _read(file: Path) -> Tensor:
    with Image.open(file) as picture:
        return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)

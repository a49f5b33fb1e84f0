"""What longer trainings gave: the files of ``data/results``, read.

The commands that made them are in the package ``experiments`` beside this one; each
file names its own. The chapters draw them.
"""

import json
from os import PathLike
from pathlib import Path

import numpy as np
import torch

from course_utils.formats import rle

__all__ = ["FOLDER", "load", "load_detections"]

FOLDER = Path(__file__).resolve().parents[2] / "data" / "results"


def load(name: str) -> dict:
    """Read a file of results.

    Args:
        name: of the file without its suffix, such as ``"fine_tuning"``.

    Returns:
        What the file holds: ``command``, ``date`` and the results themselves.

    Raises:
        FileNotFoundError: there is no such file; the message lists those there are.
    """
    file = FOLDER / f"{name}.json"
    if not file.is_file():
        there = ", ".join(sorted(f.stem for f in FOLDER.glob("*.json"))) or "none"
        raise FileNotFoundError(f"no results {name!r} in {FOLDER}; there are: {there}")
    return json.loads(file.read_text(encoding="utf-8"))


def load_detections(file: str | PathLike = FOLDER / "detections_27.json") -> dict:
    """Read the stored run of chapter 27.

    Args:
        file: what ``python -m experiments.stored_run`` wrote.

    Returns:
        ``command``, ``date``, ``recipe`` and so on as they stand in the file;
        ``losses``, a list of one number a step for each loss; and ``predictions``, a
        dictionary for each test image, in order: ``boxes`` (N, 4), float32, xyxy at
        the size of the recipe, ``labels`` and ``scores`` (N,), falling, ``masks``
        (N, H, W), bool.

    Raises:
        FileNotFoundError: there is no such file.
    """
    stored = json.loads(Path(file).read_text(encoding="utf-8"))
    return stored | {"predictions": [_decoded(image) for image in stored["images"]]}


def _decoded(image: dict) -> dict:
    masks = np.zeros((len(image["masks"]), *image["size"]), bool)
    for mask, counts in zip(masks, image["masks"], strict=True):
        mask[:] = rle.decode({"size": image["size"], "counts": counts})
    return {
        "boxes": torch.tensor(image["boxes"], dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(image["labels"], dtype=torch.int64),
        "scores": torch.tensor(image["scores"], dtype=torch.float32),
        "masks": torch.from_numpy(masks),
    }

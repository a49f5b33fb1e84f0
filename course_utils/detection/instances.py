"""The objects of one image: torchvision's dictionaries, checked and read as arrays."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from course_utils.detection.box_ops import check_boxes, check_format

__all__ = ["Entries", "Objects", "pair_ious", "read_images"]

Entries = Sequence[Mapping[str, torch.Tensor]]  # one dictionary per image


class Objects(NamedTuple):
    """N predicted or true objects of an image; floats are float64, on the CPU."""

    labels: np.ndarray  # (N,), int64
    scores: np.ndarray  # (N,), from 0 to 1; 1 for targets
    crowd: np.ndarray  # (N,), bool; False for predictions
    shapes: np.ndarray  # (N, 4), xyxy, half-open; or masks, (N, bytes), 8 pixels a byte
    extent: np.ndarray  # (N,), the area of the shape, in pixels
    area: np.ndarray  # (N,), the area that the dictionary gives, or else the extent
    size: tuple[int, int] | None  # height and width of the masks; None for boxes


def read_images(
    predictions: Entries, targets: Entries, iou_type: str
) -> Iterator[tuple[Objects, Objects]]:
    """Check each image's two dictionaries, and yield what a metric needs of them.

    Args:
        predictions: a dictionary per image: ``labels`` (N,), integers; ``scores`` (N,),
            from 0 to 1; ``boxes`` (N, 4), xyxy in pixels, half-open, or ``masks``
            (N, H, W) or (N, 1, H, W), where values above 0.5 belong to the object.
        targets: as many dictionaries: ``labels``; ``boxes`` or ``masks``; where known,
            ``iscrowd`` (N,), 0 or 1, and ``area`` (N,), at least 0.
        iou_type: ``"bbox"`` reads the boxes, ``"segm"`` the masks.

    Yields:
        The two :class:`Objects` of each image, as predicted and as they are.

    Raises:
        TypeError: an entry is no dictionary, a field no tensor, labels are no integers,
            or boxes neither floats nor signed integers.
        ValueError: the two differ in length, or a field is missing or has a wrong
            shape, format or value.
    """
    for name, entries in (("predictions", predictions), ("targets", targets)):
        if isinstance(entries, Mapping):
            got = type(entries).__name__
            raise TypeError(f"{name} must be a list of dictionaries, got {got}")
    if len(predictions) != len(targets):
        got = f"{len(predictions)} and {len(targets)}"
        raise ValueError(f"predictions and targets must be equally many, got {got}")
    for i, (prediction, target) in enumerate(zip(predictions, targets, strict=True)):
        found = _read(f"predictions[{i}]", prediction, iou_type, scored=True)
        truth = _read(f"targets[{i}]", target, iou_type, scored=False)
        if found.size != truth.size and len(found.labels) and len(truth.labels):
            got = f"{found.size}, those of targets[{i}]['masks'] {truth.size}"
            raise ValueError(f"predictions[{i}]['masks'] have size {got}")
        yield found, truth


def pair_ious(found: Objects, d: np.ndarray, truth: Objects, g: np.ndarray):
    """IoU of predicted with true objects, pair by pair.

    A crowd is not to be covered whole: with one, it is the share of the prediction that
    lies inside it.

    Args:
        found: predictions of one image.
        d: (P,) integers, indices into ``found``.
        truth: targets of the same image, boxes or masks as ``found``.
        g: (P,) integers, indices into ``truth``.

    Returns:
        (P,), float64, from 0 to 1; 0 where neither has an area.
    """
    shared = _intersections(found, d, truth, g)
    own, other = found.extent[d], truth.extent[g]
    whole = np.where(truth.crowd[g], own, own + other - shared)
    return np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)


def _intersections(a: Objects, i: np.ndarray, b: Objects, j: np.ndarray) -> np.ndarray:
    """The area that objects ``i`` of ``a`` share with ``j`` of ``b``, (P,)."""
    if a.size is None:
        one, other = a.shapes[i], b.shapes[j]
        sides = np.minimum(one[:, 2:], other[:, 2:]) - np.maximum(
            one[:, :2], other[:, :2]
        )
        return sides.clip(min=0).prod(axis=1)
    counts = [
        np.bitwise_count(a.shapes[k] & b.shapes[m]).sum()
        for k, m in zip(i, j, strict=True)
    ]
    return np.array(counts, dtype=float)


def _read(where: str, entry: Mapping, iou_type: str, scored: bool) -> Objects:
    if not isinstance(entry, Mapping):
        raise TypeError(f"{where} must be a dictionary, got {type(entry).__name__}")
    labels = _tensor(where, entry, "labels", ("N",))
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"{where}['labels'] must be integers, got {labels.dtype}")
    n = len(labels)
    scores, crowd = np.ones(n), np.zeros(n)
    if scored:
        scores = _numbers(where, entry, "scores", (n,), "from 0 to 1", _unit)
    elif "iscrowd" in entry:
        crowd = _numbers(where, entry, "iscrowd", (n,), "0 or 1", lambda v: v * v == v)
    if iou_type == "bbox":
        check_format(entry.get("boxes"), f"{where}['boxes']")
        boxes, size = _tensor(where, entry, "boxes", (n, 4)), None
        check_boxes(boxes, f"{where}['boxes']")
        shapes = boxes.cpu().double().numpy()
        extent = (shapes[:, 2:] - shapes[:, :2]).prod(axis=1)
    else:
        masks = entry.get("masks")
        four = isinstance(masks, torch.Tensor) and masks.dim() == 4
        masks = _tensor(where, entry, "masks", (n, *[1] * four, "H", "W"))
        size = tuple(masks.shape[-2:])
        # The same as masks > 0.5, without turning every pixel into a float.
        bits = masks > 0.5 if masks.is_floating_point() else masks.bool()
        shapes = np.packbits(bits.reshape(n, size[0] * size[1]).cpu().numpy(), axis=1)
        extent = np.bitwise_count(shapes).sum(axis=1, dtype=float)
    area = extent
    if not scored and "area" in entry:
        area = _numbers(where, entry, "area", (n,), "finite and >= 0", _not_negative)
    labels = labels.cpu().numpy().astype(np.int64)
    return Objects(labels, scores, crowd == 1, shapes, extent, area, size)


def _tensor(where: str, entry: Mapping, name: str, shape: tuple) -> torch.Tensor:
    """One field, whose shape is as wanted; a letter stands for any length."""
    if name not in entry:
        raise ValueError(f"{where} has no {name!r}, only {list(entry)}")
    value = entry[name]
    if not isinstance(value, torch.Tensor):
        got = type(value).__name__
        raise TypeError(f"{where}[{name!r}] must be a tensor, got {got}")
    got = tuple(value.shape)
    fixed = sum(isinstance(side, int) for side in shape)  # these come first
    if len(got) != len(shape) or got[:fixed] != shape[:fixed]:
        want = ", ".join(map(str, shape)) + "," * (len(shape) == 1)
        raise ValueError(f"{where}[{name!r}] must have shape ({want}), got {got}")
    return value.detach().as_subclass(torch.Tensor)


def _numbers(where, entry, name, shape, want, check) -> np.ndarray:
    """One field as float64, each of whose N values (or rows) passes the check."""
    values = _tensor(where, entry, name, shape).cpu().double().numpy()
    bad = np.flatnonzero(~check(values))
    if bad.size:
        got = f"{values[bad[0]].tolist()} at [{bad[0]}]"
        raise ValueError(f"{where}[{name!r}] must be {want}, got {got}")
    return values


# Comparisons with nan are false, so nan passes none of these.
def _unit(values: np.ndarray) -> np.ndarray:
    return (values >= 0) & (values <= 1)


def _not_negative(values: np.ndarray) -> np.ndarray:
    return (values >= 0) & (values < np.inf)

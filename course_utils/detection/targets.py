"""Check what a detector of torchvision is trained on, and say what is wrong with it."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

__all__ = ["check_target", "check_targets"]

SLACK = 0.01  # pixels that a box may stick out: rounding, after a resize


def check_targets(
    images: Sequence[Tensor],
    targets: Sequence[Mapping],
    num_classes: int | None = None,
) -> None:
    """Check a batch with :func:`check_target`, one image after the other."""
    if len(images) != len(targets):
        raise ValueError(f"got {len(images)} images and {len(targets)} targets")
    for image, target in zip(images, targets, strict=True):
        check_target(image, target, num_classes)


def check_target(
    image: Tensor, target: Mapping, num_classes: int | None = None
) -> None:
    """Return silently if a detector can train on this image, or else say why not.

    Args:
        image: (3, H, W), uint8, or float from 0 to 1.
        target: ``boxes`` (N, 4), float32 or float64, xyxy in pixels, half-open;
            ``labels`` (N,), int64, from 1; where there are any, ``masks`` (N, H, W),
            uint8 or bool; where known, ``image_id``, which the messages name. N may
            be 0: an image without objects trains, too.
        num_classes: classes of the model, with the background. Default: not checked.

    Raises:
        TypeError: something is of the wrong type or dtype.
        ValueError: a field is missing, or has a wrong shape or value.
    """
    if not isinstance(target, Mapping):
        raise TypeError(f"a target must be a dictionary, got {type(target).__name__}")
    name = f"image_id {int(target['image_id'])}" if "image_id" in target else "a target"
    height, width = _check_image(image, name)
    for field in ("boxes", "labels"):
        if field not in target:
            raise ValueError(f"{name}: there is no {field!r}, only {sorted(target)}")
    for field in ("boxes", "labels", "masks"):
        if field in target and not isinstance(target[field], Tensor):
            got = type(target[field]).__name__
            raise TypeError(f"{name}: {field} must be a tensor, got {got}")
    _check_boxes(target["boxes"], height, width, name)
    _check_labels(target["labels"], len(target["boxes"]), num_classes, name)
    if "masks" in target:
        _check_masks(target["masks"], len(target["boxes"]), height, width, name)


def _check_image(image: Tensor, name: str) -> tuple[int, int]:
    if not isinstance(image, Tensor):
        got = type(image).__name__
        raise TypeError(f"{name}: the image must be a tensor, got {got}")
    if image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(
            f"{name}: the image must be (3, height, width), got {tuple(image.shape)}"
        )
    if image.is_floating_point():
        low, high = float(image.min()), float(image.max())
        if not (low >= 0 and high <= 1):
            raise ValueError(
                f"{name}: a float image goes from 0 to 1, got {low:g} to {high:g}"
            )
    elif image.dtype != torch.uint8:
        raise TypeError(f"{name}: the image must be uint8 or float, got {image.dtype}")
    return image.shape[1], image.shape[2]


def _check_boxes(boxes: Tensor, height: int, width: int, name: str) -> None:
    if boxes.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{name}: boxes must be float32 or float64, got {boxes.dtype}")
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"{name}: boxes must be (N, 4), got {tuple(boxes.shape)}")
    limit = boxes.new_tensor([width, height, width, height]) + SLACK
    rules = {
        "is not finite": ~boxes.isfinite(),
        "has no width or height (x2 > x1 and y2 > y1 must hold)": (
            boxes[:, 2:] <= boxes[:, :2]
        ),
        f"leaves the image of {width} x {height}": (boxes < -SLACK) | (boxes > limit),
    }
    for problem, bad in rules.items():
        if bad.any():
            i = int(bad.any(dim=1).nonzero()[0])
            raise ValueError(f"{name}: box {i}, {boxes[i].tolist()}, {problem}")


def _check_labels(
    labels: Tensor, count: int, num_classes: int | None, name: str
) -> None:
    if labels.dtype != torch.int64:
        raise TypeError(f"{name}: labels must be int64, got {labels.dtype}")
    if labels.shape != (count,):
        raise ValueError(
            f"{name}: there are {count} boxes, but labels are {tuple(labels.shape)}"
        )
    if count and int(labels.min()) < 1:
        raise ValueError(
            f"{name}: labels start at 1 (0 is the background), got {labels.tolist()}"
        )
    if count and num_classes is not None and int(labels.max()) >= num_classes:
        raise ValueError(
            f"{name}: a model of {num_classes} classes takes labels 1 to "
            f"{num_classes - 1}, got {labels.tolist()}"
        )


def _check_masks(masks: Tensor, count: int, height: int, width: int, name: str) -> None:
    if masks.dtype not in (torch.uint8, torch.bool):
        raise TypeError(f"{name}: masks must be uint8 or bool, got {masks.dtype}")
    if masks.shape != (count, height, width):
        raise ValueError(
            f"{name}: masks must be {(count, height, width)}, like the boxes and the "
            f"image, got {tuple(masks.shape)}"
        )
    if count and int(masks.max()) > 1:
        raise ValueError(f"{name}: masks hold 0 and 1, got {int(masks.max())}")

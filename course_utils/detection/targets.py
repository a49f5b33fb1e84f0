"""Check what a detector of torchvision is trained on, and say what is wrong with it."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from course_utils.detection.box_ops import check_boxes, check_format, masks_to_boxes

__all__ = ["check_labels", "check_target", "check_targets"]

SLACK = 0.01  # pixels that a box may stick out: rounding, after a resize
# Pixels that a mask may stick out of its box. Where both are resized, the mask's edge
# goes to a whole pixel and the box's does not; COCO's own masks stick out as far.
MARGIN = 1.0


def check_targets(
    images: Sequence[Tensor],
    targets: Sequence[Mapping],
    num_classes: int | None = None,
) -> None:
    """Check a batch with :func:`check_target`, one image after the other.

    Args:
        images: (3, H, W) each, of any sizes.
        targets: as many, as :func:`check_target` takes them. One without ``image_id``
            is named by its place in the batch.
        num_classes: classes of the model, with the background. Default: not checked.

    Raises:
        TypeError, ValueError: as :func:`check_target`, for the first bad image; or the
            images are not as many as the targets.
    """
    if len(images) != len(targets):
        raise ValueError(f"got {len(images)} images and {len(targets)} targets")
    for i, (image, target) in enumerate(zip(images, targets, strict=True)):
        _check(image, target, num_classes, f"image {i} of the batch")


def check_target(
    image: Tensor, target: Mapping, num_classes: int | None = None
) -> None:
    """Return silently if a detector can train on this image, or else say why not.

    Args:
        image: (3, H, W), uint8, or float from 0 to 1.
        target: ``boxes`` (N, 4), float32 or float64, xyxy in pixels, half-open, inside
            the image; ``labels`` (N,), int64, from 1; where there are any, ``masks``
            (N, H, W), uint8 or bool; where known, ``image_id``, which the messages
            name. N may be 0: an image without objects trains, too.

            A mask has at least one pixel, and none of its pixels lies more than one
            pixel outside its box. The box may be larger: boxes that were rotated or
            cropped with their picture are, and some of COCO's.
        num_classes: classes of the model, with the background. Default: not checked.

    Raises:
        TypeError: something is of the wrong type or dtype.
        ValueError: a field is missing, or has a wrong shape, format or value.
    """
    _check(image, target, num_classes, "a target")


def check_labels(targets: Sequence[Mapping], num_classes: int) -> None:
    """Check the labels of a batch, and that its boxes say nothing else than xyxy.

    The models of this course do so in training, on the device, with one comparison for
    the whole batch: a label that a model does not know is an ``IndexError`` deep inside
    of it or, on an accelerator, ends the process.

    Args:
        targets: dictionaries with ``labels`` (N,), and ``boxes`` (N, 4).
        num_classes: classes of the model, with the background.

    Raises:
        TypeError: a target is no dictionary, or one of the two no tensor.
        ValueError: one of the two is missing, a label is below 1 or not below
            ``num_classes``, or boxes are of another format; the message names the image
            by its ``image_id`` or, without one, by its place in the batch.
    """
    names = [_name(t, f"image {i} of the batch") for i, t in enumerate(targets)]
    for name, target in zip(names, targets, strict=True):
        _check_fields(target, name)
        check_format(target["boxes"], f"{name}: boxes")
    if not len(targets):
        return
    labels = torch.cat([target["labels"] for target in targets])
    if ((labels >= 1) & (labels < num_classes)).all():
        return
    for name, target in zip(names, targets, strict=True):
        _check_range(target["labels"], num_classes, name)


def _name(target: Mapping, otherwise: str) -> str:
    """What messages call an image: ids may be numbers, tensors or words."""
    if not isinstance(target, Mapping) or "image_id" not in target:
        return otherwise
    image_id = target["image_id"]
    if isinstance(image_id, Tensor) and image_id.numel() == 1:
        image_id = image_id.item()
    return f"image_id {image_id!r}"


def _check(image, target, num_classes, otherwise: str) -> None:
    name = _name(target, otherwise)
    _check_fields(target, name)
    height, width = _check_image(image, name)
    boxes = target["boxes"]
    _check_boxes(boxes, height, width, name)
    _check_labels(target["labels"], len(boxes), num_classes, name)
    if "masks" in target:
        _check_masks(target["masks"], boxes, height, width, name)


def _check_fields(target: Mapping, name: str) -> None:
    if not isinstance(target, Mapping):
        got = type(target).__name__
        raise TypeError(f"{name}: must be a dictionary, got {got}")
    for field in ("boxes", "labels"):
        if field not in target:
            raise ValueError(f"{name}: there is no {field!r}, only {sorted(target)}")
    for field in ("boxes", "labels", "masks"):
        if field in target and not isinstance(target[field], Tensor):
            got = type(target[field]).__name__
            raise TypeError(f"{name}: {field} must be a tensor, got {got}")


def _check_image(image: Tensor, name: str) -> tuple[int, int]:
    if not isinstance(image, Tensor):
        got = type(image).__name__
        raise TypeError(f"{name}: the image must be a tensor, got {got}")
    if image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(
            f"{name}: the image must be (3, height, width), got {tuple(image.shape)}"
        )
    if not image.numel():
        raise ValueError(f"{name}: the image has no pixel, {tuple(image.shape)}")
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
    check_boxes(boxes, f"{name}: boxes")
    if boxes.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{name}: boxes must be float32 or float64, got {boxes.dtype}")
    boxes = boxes.as_subclass(Tensor)
    limit = boxes.new_tensor([width, height, width, height]) + SLACK
    rules = {
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
    _check_range(labels, num_classes, name)


def _check_range(labels: Tensor, num_classes: int | None, name: str) -> None:
    if not len(labels):
        return
    if int(labels.min()) < 1:
        raise ValueError(
            f"{name}: labels start at 1 (0 is the background), got {labels.tolist()}"
        )
    if num_classes is not None and int(labels.max()) >= num_classes:
        raise ValueError(
            f"{name}: a model of {num_classes} classes takes labels 1 to "
            f"{num_classes - 1}, got {labels.tolist()}"
        )


def _check_masks(masks: Tensor, boxes: Tensor, height: int, width: int, name: str):
    masks, count = masks.as_subclass(Tensor), len(boxes)
    if masks.dtype not in (torch.uint8, torch.bool):
        raise TypeError(f"{name}: masks must be uint8 or bool, got {masks.dtype}")
    if masks.shape != (count, height, width):
        raise ValueError(
            f"{name}: masks must be {(count, height, width)}, like the boxes and the "
            f"image, got {tuple(masks.shape)}"
        )
    if count and int(masks.max()) > 1:
        raise ValueError(f"{name}: masks hold 0 and 1, got {int(masks.max())}")
    found = masks_to_boxes(masks)
    if (empty := (found[:, 2] == 0).nonzero()).numel():
        raise ValueError(f"{name}: mask {int(empty[0])} is empty")
    boxes = boxes.as_subclass(Tensor).to(found)
    over = torch.cat([boxes[:, :2] - found[:, :2], found[:, 2:] - boxes[:, 2:]], dim=1)
    if (bad := (over > MARGIN + SLACK).any(dim=1).nonzero()).numel():
        i = int(bad[0])
        raise ValueError(
            f"{name}: mask {i}, which fills {found[i].tolist()}, leaves its box, "
            f"{boxes[i].tolist()}, by more than a pixel"
        )

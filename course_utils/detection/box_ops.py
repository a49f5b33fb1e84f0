"""Boxes: conventions, areas, the IoU family, its losses, and suppression.

A box is xyxy, ``(x1, y1, x2, y2)``, in pixels and half-open: it covers the pixels from
``x1`` up to, not including, ``x2``, so its width is ``x2 - x1``. Other conventions are
converted with ``torchvision.ops.box_convert``; a tensor that says that it follows one
(``tv_tensors.BoundingBoxes`` of another format) is refused, here and wherever this
course takes boxes, by :func:`check_format`.

Computations follow the device and dtype of the input; float16 and bfloat16 are computed
in float32 and cast back, integers give float32. ``(0, 4)`` is accepted everywhere.

What is torchvision's and what is ours:

- :func:`nms` calls ``torchvision.ops``, which is right and fast, and only checks its
  input first. Converting, clipping and dropping small boxes are torchvision's alone:
  ``ops.box_convert``, ``ops.clip_boxes_to_image``, ``ops.remove_small_boxes``.
- The IoU family and the losses are ours. torchvision's pairwise IoU of two boxes
  without area is ``nan``, its CIoU of them too, and its losses add 1e-7 to each
  denominator, so that the IoU of a box of 0.001 by 0.001 (in fractions of an image)
  with itself is 0.91. Elsewhere the values are equal, which the tests assert.
- :func:`batched_nms` is ours: torchvision's moves each class by its own distance, which
  assumes coordinates of at least 0 and rounds large ones.
- :func:`masks_to_boxes` is ours: torchvision's returns inclusive boxes, one pixel short
  in width and height for every other function here.
"""

import numpy as np
import torch
from torch import Tensor
from torchvision import ops
from torchvision.tv_tensors import BoundingBoxFormat

__all__ = [
    "batched_nms",
    "box_area",
    "box_intersection",
    "box_iou",
    "check_boxes",
    "check_format",
    "complete_box_iou",
    "complete_box_iou_loss",
    "distance_box_iou",
    "distance_box_iou_loss",
    "generalized_box_iou",
    "generalized_box_iou_loss",
    "iou_loss",
    "mask_iou",
    "masks_to_boxes",
    "nms",
    "soft_nms",
]

# --- what a box is --------------------------------------------------------------------


def check_format(boxes: object, name: str = "boxes") -> None:
    """Refuse boxes that say of themselves that they are not xyxy.

    ``tv_tensors.BoundingBoxes`` carry their format. Read as corners, the numbers of
    another one are often valid boxes, only elsewhere, so nothing else would notice.

    Args:
        boxes: anything; what carries no format passes.
        name: what the message calls them.

    Raises:
        ValueError: they carry another format than XYXY; says which, and how to convert.
    """
    layout = getattr(boxes, "format", None)
    if not isinstance(layout, BoundingBoxFormat) or layout is BoundingBoxFormat.XYXY:
        return
    how = "v2.functional.convert_bounding_box_format(boxes, new_format='XYXY')"
    upright = layout in (BoundingBoxFormat.XYWH, BoundingBoxFormat.CXCYWH)
    advice = f"; convert them with {how}" if upright else ""
    raise ValueError(f"{name} must be XYXY, got {layout.name}{advice}")


def check_boxes(boxes: Tensor, name: str = "boxes") -> None:
    """Return silently if these are boxes as this course takes them, or else say why.

    Args:
        boxes: (N, 4), xyxy, floats or signed integers; N may be 0. A box without width
            or height is one, too.
        name: what the message calls them.

    Raises:
        TypeError: not a tensor, or a dtype in which boxes cannot be computed.
        ValueError: of another format (see :func:`check_format`) or shape, or a box with
            ``nan``, infinity, ``x2 < x1`` or ``y2 < y1``; the message quotes the first
            one.
    """
    values = _shaped(name, boxes).detach().as_subclass(Tensor)
    good = values.isfinite().all(dim=1) & (values[:, 2:] >= values[:, :2]).all(dim=1)
    if not good.all():
        i = int((~good).nonzero()[0])
        want = "finite, with x1 <= x2 and y1 <= y2"
        raise ValueError(f"{name} must be {want}, got {values[i].tolist()} at [{i}]")


# --- areas and pairwise measures -----------------------------------------------------


def box_area(boxes: Tensor) -> Tensor:
    """Area of each box.

    Args:
        boxes: (N, 4), xyxy.

    Returns:
        (N,); float32 for float16 and bfloat16, in which 256 by 256 overflows; int64
        for integers.

    Raises:
        TypeError, ValueError: not boxes (see :func:`box_iou`).
    """
    boxes = _wide(_boxes("boxes", boxes))
    return (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)


def box_intersection(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Area that each box of one set shares with each of another.

    Args:
        boxes1: (N, 4), xyxy.
        boxes2: (M, 4), xyxy, on the same device.

    Returns:
        (N, M), in pixels, 0 where boxes do not overlap; float32 for float16 and
        bfloat16, int64 for integers. Differentiable.

    Raises:
        TypeError, ValueError: as in :func:`box_iou`.
    """
    a, b = _pairs(boxes1, boxes2, floating=False)
    return _inter(a, b)


def box_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Intersection over union of each box of one set with each of another.

    Args:
        boxes1: (N, 4), xyxy.
        boxes2: (M, 4), xyxy, on the same device.

    Returns:
        (N, M), from 0 to 1, in the dtype of the boxes (integers: float32); 0 where both
        boxes have no area (torchvision: ``nan``, pycocotools: 0). Differentiable.

    Raises:
        TypeError: not a tensor, or a dtype in which boxes cannot be computed.
        ValueError: not of shape (N, 4), of another format than XYXY, or a box with
            ``nan``, infinity, ``x2 < x1`` or ``y2 < y1``; the message quotes the first
            one (see :func:`check_boxes`).
    """
    a, b = _pairs(boxes1, boxes2)
    return _iou(a, b)[0].to(_dtype(boxes1, boxes2))


def generalized_box_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """IoU minus the empty share of the smallest enclosing box.

    Source: Rezatofighi and others, 2019, https://arxiv.org/abs/1902.09630

    Args:
        boxes1: (N, 4), xyxy.
        boxes2: (M, 4), xyxy, on the same device.

    Returns:
        (N, M), above -1, at most 1, in the dtype of the boxes. Differentiable.

    Raises:
        TypeError, ValueError: as in :func:`box_iou`.
    """
    a, b = _pairs(boxes1, boxes2)
    return _giou(a, b).to(_dtype(boxes1, boxes2))


def distance_box_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """IoU minus the squared distance of the centers over that of the enclosing corners.

    Source: Zheng and others, 2020, https://arxiv.org/abs/1911.08287

    Args:
        boxes1: (N, 4), xyxy.
        boxes2: (M, 4), xyxy, on the same device.

    Returns:
        (N, M), above -1, at most 1, in the dtype of the boxes. Differentiable.

    Raises:
        TypeError, ValueError: as in :func:`box_iou`.
    """
    a, b = _pairs(boxes1, boxes2)
    return _diou(a, b)[0].to(_dtype(boxes1, boxes2))


def complete_box_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Distance IoU minus a term for differing aspect ratios.

    The term's weight is taken as a constant in the gradient, as its authors do. Source:
    as of :func:`distance_box_iou`.

    Args:
        boxes1: (N, 4), xyxy.
        boxes2: (M, 4), xyxy, on the same device.

    Returns:
        (N, M), at most 1, in the dtype of the boxes. Differentiable.

    Raises:
        TypeError, ValueError: as in :func:`box_iou`.
    """
    a, b = _pairs(boxes1, boxes2)
    return _ciou(a, b).to(_dtype(boxes1, boxes2))


# --- elementwise losses --------------------------------------------------------------


def iou_loss(boxes1: Tensor, boxes2: Tensor, reduction: str = "none") -> Tensor:
    """1 - IoU of the i-th box of one set with the i-th of the other.

    Args:
        boxes1: (N, 4), xyxy: the predictions. Values are not checked, so that a step of
            training never stops here: a box with ``x2 < x1`` counts as empty where it
            meets others, and ``nan`` stays ``nan``.
        boxes2: (N, 4), xyxy: the targets.
        reduction: ``"none"``, ``"mean"`` or ``"sum"``.

    Returns:
        (N,) for ``"none"``, otherwise a scalar, in the dtype of the boxes; the mean of
        no boxes is 0.

    Raises:
        TypeError: not tensors, or a dtype in which boxes cannot be computed.
        ValueError: the shapes are not (N, 4) or differ, a format is not XYXY, or the
            reduction is unknown.
    """
    a, b = _aligned(boxes1, boxes2)
    return _reduced(1 - _iou(a, b)[0], reduction, _dtype(boxes1, boxes2))


def generalized_box_iou_loss(
    boxes1: Tensor, boxes2: Tensor, reduction: str = "none"
) -> Tensor:
    """1 - GIoU of the i-th box of one set with the i-th of the other.

    Arguments, result and errors are those of :func:`iou_loss`: (N, 4) xyxy twice, then
    (N,) or a scalar. Source: as of :func:`generalized_box_iou`.
    """
    a, b = _aligned(boxes1, boxes2)
    return _reduced(1 - _giou(a, b), reduction, _dtype(boxes1, boxes2))


def distance_box_iou_loss(
    boxes1: Tensor, boxes2: Tensor, reduction: str = "none"
) -> Tensor:
    """1 - DIoU of the i-th box of one set with the i-th of the other.

    Arguments, result and errors are those of :func:`iou_loss`: (N, 4) xyxy twice, then
    (N,) or a scalar. Source: as of :func:`distance_box_iou`.
    """
    a, b = _aligned(boxes1, boxes2)
    return _reduced(1 - _diou(a, b)[0], reduction, _dtype(boxes1, boxes2))


def complete_box_iou_loss(
    boxes1: Tensor, boxes2: Tensor, reduction: str = "none"
) -> Tensor:
    """1 - CIoU of the i-th box of one set with the i-th of the other.

    Arguments, result and errors are those of :func:`iou_loss`: (N, 4) xyxy twice, then
    (N,) or a scalar. Source: as of :func:`complete_box_iou`.
    """
    a, b = _aligned(boxes1, boxes2)
    return _reduced(1 - _ciou(a, b), reduction, _dtype(boxes1, boxes2))


# --- suppression ---------------------------------------------------------------------


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Greedy non-maximum suppression: torchvision's, with checked input.

    Args:
        boxes: (N, 4), xyxy.
        scores: (N,), any finite numbers.
        iou_threshold: from 0 to 1. A box goes when its IoU with a kept one of higher
            score is *above* it.

    Returns:
        (K,), int64: indices of the boxes kept, by decreasing score; of equal scores the
        smaller index comes first.

    Raises:
        TypeError, ValueError: as in :func:`box_iou`; scores of another length or with
            ``nan`` or infinity; a threshold out of range.
    """
    _boxes("boxes", boxes)
    _scores(boxes, scores)
    _fraction("iou_threshold", iou_threshold)
    return _nms(boxes, scores, iou_threshold)


def batched_nms(
    boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float
) -> Tensor:
    """Non-maximum suppression within each class: only boxes of one label compete.

    Args:
        boxes, scores, iou_threshold: as in :func:`nms`.
        labels: (N,), integers, of any size and sign.

    Returns:
        (K,), int64: indices of the boxes kept, by decreasing score; of equal scores the
        smaller index comes first.

    Raises:
        TypeError, ValueError: as in :func:`nms`; labels that are not N integers.
    """
    _boxes("boxes", boxes)
    _scores(boxes, scores)
    _fraction("iou_threshold", iou_threshold)
    if not isinstance(labels, Tensor):
        raise TypeError(f"labels must be a tensor, got {type(labels).__name__}")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"labels must be integers, got {labels.dtype}")
    if labels.shape != scores.shape:
        n = len(boxes)
        raise ValueError(f"labels must have shape ({n},), got {tuple(labels.shape)}")
    kept = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    for label in labels.unique():
        own = (labels == label).nonzero()[:, 0]
        kept[own[_nms(boxes[own], scores[own], iou_threshold)]] = True
    keep = kept.nonzero()[:, 0]
    return keep[scores[keep].argsort(descending=True, stable=True)]


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    method: str = "gaussian",
    sigma: float = 0.5,
    iou_threshold: float = 0.3,
    score_threshold: float = 0.001,
) -> tuple[Tensor, Tensor]:
    """Lower the scores of overlapping boxes instead of removing them.

    The box of the highest score is taken; each remaining score is multiplied by
    ``exp(-iou**2 / sigma)`` (``"gaussian"``), or by ``1 - iou`` where the IoU is above
    ``iou_threshold`` (``"linear"``); then again, until none is left at or above
    ``score_threshold``. Source: Bodla and others, 2017,
    https://arxiv.org/abs/1704.04503

    Args:
        boxes: (N, 4), xyxy.
        scores: (N,), at least 0.
        method: ``"gaussian"`` or ``"linear"``.
        sigma: above 0; only for ``"gaussian"``.
        iou_threshold: from 0 to 1; only for ``"linear"``.
        score_threshold: the least score that stays.

    Returns:
        ``(keep, scores)``: indices by decreasing lowered score, (K,), int64, and those
        scores, (K,).

    Raises:
        TypeError, ValueError: as in :func:`nms`; negative scores, an unknown method, a
            sigma that is not above 0.
    """
    _boxes("boxes", boxes)
    _scores(boxes, scores)
    boxes, scores = boxes.detach(), scores.detach()
    _fraction("iou_threshold", iou_threshold)
    if method not in ("gaussian", "linear"):
        raise ValueError(f"method must be 'gaussian' or 'linear', got {method!r}")
    if not sigma > 0:
        raise ValueError(f"sigma must be above 0, got {sigma!r}")
    if len(scores) and scores.min() < 0:
        raise ValueError(f"scores must be at least 0, got {scores.min().item():g}")
    if not score_threshold >= 0:
        raise ValueError(f"score_threshold must be >= 0, got {score_threshold!r}")
    left = torch.arange(len(boxes), device=boxes.device)
    wide, current = _floating(boxes), _floating(scores).clone()
    keep, lowered = [left[:0]], [current[:0]]
    while True:
        enough = current >= score_threshold
        left, wide, current = left[enough], wide[enough], current[enough]
        if not len(left):
            break
        best = current.argmax()
        keep.append(left[best][None])
        lowered.append(current[best][None])
        iou = _iou(wide[best], wide)[0].to(current.dtype)
        if method == "gaussian":
            factor = torch.exp(-(iou**2) / sigma)
        else:
            factor = torch.where(iou > iou_threshold, 1 - iou, torch.ones_like(iou))
        current = current * factor
        current[best] = -1  # taken
    dtype = scores.dtype if scores.is_floating_point() else torch.float32
    return torch.cat(keep), torch.cat(lowered).to(dtype)


# --- masks ---------------------------------------------------------------------------


def masks_to_boxes(masks: Tensor) -> Tensor:
    """The smallest half-open box around each mask.

    torchvision's function of this name returns the *last* pixel as x2 and y2, so that
    every width computed as ``x2 - x1`` is one short, and an object of one pixel has no
    area. Here a mask of one pixel gives a box of area 1.

    Args:
        masks: (N, H, W), booleans or integers, an object where not 0. Soft masks must
            be cut first (``masks > 0.5``), so floats are refused.

    Returns:
        (N, 4), float32, xyxy, half-open; ``[0, 0, 0, 0]`` for a mask without a pixel.
        (To add 1 to torchvision's x2 and y2 makes a box of one pixel of that one.)

    Raises:
        TypeError: not a tensor of booleans or integers.
        ValueError: not three dimensions.
    """
    inside = _masks("masks", masks)
    n, height, width = inside.shape
    boxes = torch.zeros(n, 4, device=masks.device)
    if inside.numel() == 0:
        return boxes
    for axis, (hit, size) in enumerate(
        zip(_columns_and_rows(inside), (width, height), strict=True)
    ):
        hit = (hit != 0).byte()  # argmax finds the first of the largest
        boxes[:, axis] = hit.argmax(dim=1).float()
        boxes[:, axis + 2] = (size - hit.flip(1).argmax(dim=1)).float()
    return boxes * hit.any(dim=1, keepdim=True)


def _columns_and_rows(inside: Tensor) -> tuple[Tensor, Tensor]:
    """Where a column (N, W) and a row (N, H) of a mask holds anything but 0."""
    if inside.dtype != torch.uint8:
        inside = (inside if inside.dtype == torch.bool else inside != 0).view(
            torch.uint8
        )
    if inside.device.type != "cpu":
        return inside.amax(dim=1), inside.amax(dim=2)
    array = inside.numpy()  # its or is 4 to 10 times as fast as amax, 100 times any
    columns = torch.from_numpy(np.bitwise_or.reduce(array, axis=1))
    return columns, torch.from_numpy(np.bitwise_or.reduce(array, axis=2))


def mask_iou(masks1: Tensor, masks2: Tensor) -> Tensor:
    """Intersection over union of each mask of one set with each of another.

    Args:
        masks1: (N, H, W), booleans or integers, an object where not 0.
        masks2: (M, H, W), likewise.

    Returns:
        (N, M), float32; 0 where both masks are empty.

    Raises:
        TypeError, ValueError: as in :func:`masks_to_boxes`; pictures of unequal size.
    """
    a, b = _masks("masks1", masks1) != 0, _masks("masks2", masks2) != 0
    if a.shape[1:] != b.shape[1:]:
        sizes = f"{tuple(a.shape[1:])} and {tuple(b.shape[1:])}"
        raise ValueError(f"masks1 and masks2 must have one size, got {sizes}")
    a, b = a.flatten(1).float(), b.flatten(1).float()
    inter = a @ b.T  # exact up to 2**24 pixels
    return _ratio(inter, a.sum(1)[:, None] + b.sum(1) - inter)


# --- the arithmetic: boxes that broadcast, floats of at least 32 bits ----------------


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole, and 0 where both are 0."""
    return part / whole.masked_fill(whole == 0, 1)


def _sides(boxes: Tensor) -> Tensor:
    return boxes[..., 2:] - boxes[..., :2]


def _inter(a: Tensor, b: Tensor) -> Tensor:
    lt = torch.maximum(a[..., :2], b[..., :2])
    rb = torch.minimum(a[..., 2:], b[..., 2:])
    # relu: at 0 its slope is 0 in every version of torch; clamp's is 1 in some.
    width, height = (rb - lt).relu().unbind(-1)
    return width * height


def _iou(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and union."""
    inter = _inter(a, b)
    (wa, ha), (wb, hb) = _sides(a).unbind(-1), _sides(b).unbind(-1)
    union = wa * ha + wb * hb - inter
    return _ratio(inter, union), union


def _hull(a: Tensor, b: Tensor) -> Tensor:
    """Sides of the smallest box around both."""
    lt = torch.minimum(a[..., :2], b[..., :2])
    return torch.maximum(a[..., 2:], b[..., 2:]) - lt


def _giou(a: Tensor, b: Tensor) -> Tensor:
    iou, union = _iou(a, b)
    hull = _hull(a, b).prod(dim=-1)
    return iou - _ratio(hull - union, hull)


def _diou(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """DIoU and IoU."""
    iou = _iou(a, b)[0]
    twice = a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]
    distance = twice.square().sum(dim=-1) / 4
    return iou - _ratio(distance, _hull(a, b).square().sum(dim=-1)), iou


def _angle(boxes: Tensor) -> Tensor:
    """Angle of the diagonal: atan(width / height), and 0 for a point."""
    width, height = _sides(boxes).unbind(-1)
    point = (width == 0) & (height == 0)
    return torch.atan2(width, torch.where(point, torch.ones_like(height), height))


def _ciou(a: Tensor, b: Tensor) -> Tensor:
    diou, iou = _diou(a, b)
    v = 4 / torch.pi**2 * (_angle(a) - _angle(b)).square()
    with torch.no_grad():
        alpha = _ratio(v, 1 - iou + v)
    return diou - alpha * v


def _nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    # torchvision wants one dtype for both, and must not round one to the other.
    dtype = torch.promote_types(_floating(boxes).dtype, _floating(scores).dtype)
    return ops.nms(boxes.detach().to(dtype), scores.detach().to(dtype), iou_threshold)


def _reduced(loss: Tensor, reduction: str, dtype: torch.dtype) -> Tensor:
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"reduction must be none, mean or sum, got {reduction!r}")
    if reduction == "sum" or (reduction == "mean" and loss.numel() == 0):
        loss = loss.sum()
    elif reduction == "mean":
        loss = loss.mean()
    return loss.to(dtype)


# --- what goes in --------------------------------------------------------------------


def _floating(values: Tensor) -> Tensor:
    if values.dtype in (torch.float32, torch.float64):
        return values
    return values.float()


def _wide(values: Tensor) -> Tensor:
    return _floating(values) if values.is_floating_point() else values.long()


def _dtype(a: Tensor, b: Tensor) -> torch.dtype:
    """The dtype of a result: floats are promoted, integers become float32."""
    dtype = torch.promote_types(a.dtype, b.dtype)
    return dtype if dtype.is_floating_point else torch.float32


def _shaped(name: str, boxes: Tensor) -> Tensor:
    if not isinstance(boxes, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(boxes).__name__}")
    check_format(boxes, name)
    signed = boxes.dtype in (torch.int8, torch.int16, torch.int32, torch.int64)
    if not (boxes.is_floating_point() or signed):
        raise TypeError(f"{name} must be floats or signed integers, got {boxes.dtype}")
    if boxes.dim() != 2 or boxes.shape[1] != 4:
        raise ValueError(f"{name} must have shape (N, 4), got {tuple(boxes.shape)}")
    return boxes


def _boxes(name: str, boxes: Tensor) -> Tensor:
    check_boxes(boxes, name)
    return boxes


def _pairs(boxes1, boxes2, floating: bool = True) -> tuple[Tensor, Tensor]:
    """(N, 1, 4) and (1, M, 4), to meet in a table."""
    change = _floating if floating else _wide
    a, b = change(_boxes("boxes1", boxes1)), change(_boxes("boxes2", boxes2))
    return a[:, None], b[None]


def _aligned(boxes1, boxes2) -> tuple[Tensor, Tensor]:
    a, b = _shaped("boxes1", boxes1), _shaped("boxes2", boxes2)
    if a.shape != b.shape:
        shapes = f"{tuple(a.shape)} and {tuple(b.shape)}"
        raise ValueError(f"boxes1 and boxes2 must have one shape, got {shapes}")
    return _floating(a), _floating(b)


def _scores(boxes: Tensor, scores: Tensor) -> None:
    if not isinstance(scores, Tensor):
        raise TypeError(f"scores must be a tensor, got {type(scores).__name__}")
    if scores.shape != boxes.shape[:1]:
        n = len(boxes)
        raise ValueError(f"scores must have shape ({n},), got {tuple(scores.shape)}")
    if not scores.isfinite().all():
        i = int((~scores.isfinite()).nonzero()[0])
        raise ValueError(f"scores must be finite, got {scores[i].item()} at [{i}]")


def _fraction(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must lie from 0 to 1, got {value!r}")


def _masks(name: str, masks: Tensor) -> Tensor:
    if not isinstance(masks, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(masks).__name__}")
    if masks.is_floating_point() or masks.is_complex():
        hint = "cut soft masks first, as in masks > 0.5"
        raise TypeError(
            f"{name} must be booleans or integers, got {masks.dtype}; {hint}"
        )
    if masks.dim() != 3:
        raise ValueError(f"{name} must have shape (N, H, W), got {tuple(masks.shape)}")
    return masks.as_subclass(Tensor)

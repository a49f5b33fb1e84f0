"""What became of each detection and of each object: right, missed, or wrong in one way.

The metric of :mod:`course_utils.detection.metrics` counts; this module names. The
kinds are cut down to four from those of Hoiem and others, 2012,
https://doi.org/10.1007/978-3-642-33712-3_25, and of TIDE, Bolya and others, 2020,
https://arxiv.org/abs/2008.08115
"""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from course_utils.detection.instances import Entries, Objects, pair_ious, read_images

__all__ = ["KINDS", "Verdict", "count_kinds", "detection_kinds"]

# Of detections, and of targets; each in the order in which tables and legends show it.
KINDS = ("right", "duplicate", "class", "localization", "background", "ignored")
FATES = ("found", "missed", "ignored")


class Verdict(NamedTuple):
    """What became of the objects of one image."""

    detections: list[str]  # one of KINDS for each detection, in the order given
    targets: list[str]  # one of FATES for each target


def detection_kinds(
    prediction: Mapping,
    target: Mapping,
    iou_type: str = "bbox",
    iou_threshold: float = 0.5,
    near: float = 0.1,
) -> Verdict:
    """Name what is right and what is wrong in one image, at one IoU threshold.

    Detections choose as in COCO's evaluation: the highest score first, the free target
    of its class with the largest IoU, if that is at least ``iou_threshold``; equal
    scores in the order given. Such a detection is ``right`` and its target ``found``.
    A detection without a target is, by the first rule that fits,

    - ``ignored``, if at least ``iou_threshold`` of its area lies in a crowd region of
      its class;
    - a ``duplicate``, if a target of its class overlaps it enough, but is taken;
    - of the wrong ``class``, if a target of another class overlaps it enough;
    - wrong in ``localization``, if a target of its class overlaps it by ``near`` or
      more, but not enough;
    - ``background``, if none of these holds.

    A target without a detection is ``missed``; a crowd region is ``ignored``.

    Args:
        prediction: ``labels`` (N,), ``scores`` (N,), and ``boxes`` (N, 4), xyxy in
            pixels, half-open, or ``masks`` (N, H, W) or (N, 1, H, W), as torchvision's
            detectors return them. All detections count: take those out that you would
            not show.
        target: ``labels`` (M,), ``boxes`` or ``masks`` and, where known, ``iscrowd``
            (M,), 0 or 1.
        iou_type: ``"bbox"`` compares boxes, ``"segm"`` masks.
        iou_threshold: the least IoU of a match, above 0 and at most 1.
        near: the least IoU of a localization error, above 0.

    Returns:
        The kinds, in the order of the detections and of the targets.

    Raises:
        TypeError, ValueError: a field is missing or wrong (see
            :func:`course_utils.detection.instances.read_images`), or a threshold is
            out of its range, or ``near`` is above ``iou_threshold``.
    """
    if iou_type not in ("bbox", "segm"):
        raise ValueError(f"iou_type must be 'bbox' or 'segm', got {iou_type!r}")
    if not 0 < near <= iou_threshold <= 1:
        got = f"near={near!r} and iou_threshold={iou_threshold!r}"
        raise ValueError(f"0 < near <= iou_threshold <= 1 must hold, got {got}")
    found, truth = next(read_images([prediction], [target], iou_type))
    overlap = _overlaps(found, truth)  # (D, G)
    same = found.labels[:, None] == truth.labels
    single = ~truth.crowd
    enough = overlap >= iou_threshold
    # The rules, each as a table of detections by targets; the first that fits counts.
    rules = {
        "ignored": same & enough & truth.crowd,
        "duplicate": same & enough & single,
        "class": ~same & enough & single,
        "localization": same & (overlap >= near) & single,
    }
    kinds = ["background"] * len(found.labels)
    free = single.copy()
    for d in np.argsort(-found.scores, kind="stable"):
        wish = np.where(same[d] & enough[d] & free, overlap[d], 0)
        if wish.any():
            kinds[d] = "right"
            free[len(wish) - 1 - wish[::-1].argmax()] = False  # the last of equals
        else:
            kinds[d] = next(
                (k for k, table in rules.items() if table[d].any()), kinds[d]
            )
    fates = np.where(truth.crowd, "ignored", np.where(free, "missed", "found"))
    return Verdict(kinds, fates.tolist())


def count_kinds(
    predictions: Entries,
    targets: Entries,
    iou_type: str = "bbox",
    iou_threshold: float = 0.5,
    near: float = 0.1,
) -> dict[str, int]:
    """Count the kinds over a data set; see :func:`detection_kinds`.

    Args:
        predictions: a dictionary per image, as there.
        targets: as many, as there.
        iou_type, iou_threshold, near: as there.

    Returns:
        The number of detections of each kind, in the order of ``KINDS`` without
        ``ignored``, and of targets ``missed``.

    Raises:
        TypeError, ValueError: as :func:`detection_kinds`, or the two lists differ in
            length.
    """
    if len(predictions) != len(targets):
        got = f"{len(predictions)} and {len(targets)}"
        raise ValueError(f"predictions and targets must be equally many, got {got}")
    count: Counter = Counter()
    for prediction, target in zip(predictions, targets, strict=True):
        verdict = detection_kinds(prediction, target, iou_type, iou_threshold, near)
        count.update(verdict.detections)
        count["missed"] += verdict.targets.count("missed")
    return {kind: count[kind] for kind in (*KINDS[:-1], "missed")}


def _overlaps(found: Objects, truth: Objects) -> np.ndarray:
    """IoU of all pairs, (D, G); for a crowd, the share of the detection inside it."""
    d, g = np.indices((len(found.labels), len(truth.labels))).reshape(2, -1)
    return pair_ious(found, d, truth, g).reshape(len(found.labels), len(truth.labels))

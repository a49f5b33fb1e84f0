"""Detection metrics: the twelve numbers of COCO, equal to those of pycocotools.

Read it from top to bottom. ``update`` takes one image at a time: it sorts the
detections, measures their IoU with the targets, keeps the pairs that overlap enough,
and forgets the image. ``compute`` matches the pairs of all images (:func:`_match`),
marks each detection right, wrong or ignored, and follows precision and recall down the
list of scores (:func:`_curve`). The rules are those of COCOeval, corner cases included.

Letters for axes: D detections, G targets, P pairs of the two, K classes, T IoU
thresholds (10), R recall points (101), A area ranges (4), M limits on detections (3).
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch

from course_utils.detection.instances import Entries, Objects, pair_ious, read_images

__all__ = [
    "DetectionEvaluator",
    "average_precision",
    "evaluate_detections",
    "precision_envelope",
]

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_POINTS = np.linspace(0, 1, 101)
# Least and greatest area in pixels, both included: all, small, medium, large.
AREA_RANGES = np.array([[0, 1e5], [0, 32], [32, 96], [96, 1e5]]) ** 2


def evaluate_detections(
    predictions: Entries,
    targets: Entries,
    iou_type: str = "bbox",
    max_detections: Sequence[int] = (1, 10, 100),
) -> dict:
    """Score the detections of a whole data set; see :class:`DetectionEvaluator`.

    Args:
        predictions, targets: a dictionary per image, as in
            :meth:`DetectionEvaluator.update`: boxes (N, 4), xyxy in pixels, half-open.
        iou_type, max_detections: as in :class:`DetectionEvaluator`.

    Returns:
        The numbers and arrays of :meth:`DetectionEvaluator.compute`.

    Raises:
        TypeError, ValueError: as in these two.
    """
    evaluator = DetectionEvaluator(iou_type, max_detections)
    evaluator.update(predictions, targets)
    return evaluator.compute()


class DetectionEvaluator:
    """COCO's average precision and recall, from the dictionaries of torchvision.

    Args:
        iou_type: ``"bbox"`` compares boxes, ``"segm"`` compares masks.
        max_detections: limits on the detections of one image and class; the highest
            scores stay. AP is for the largest limit, AR is given for each.

    Raises:
        ValueError: ``iou_type`` or ``max_detections`` is something else.
    """

    def __init__(
        self, iou_type: str = "bbox", max_detections: Sequence[int] = (1, 10, 100)
    ) -> None:
        if iou_type not in ("bbox", "segm"):
            raise ValueError(f"iou_type must be 'bbox' or 'segm', got {iou_type!r}")
        if len(max_detections) == 0 or min(max_detections) < 1:
            raise ValueError(f"max_detections must be >= 1, got {max_detections!r}")
        self.iou_type = iou_type
        self.max_detections = sorted(max_detections)
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        # One array per image, after an empty one. The rows of detections: label, score,
        # area, rank; of targets: label, crowd, area; of pairs: detection, target, IoU.
        self._detections = [np.empty((4, 0))]
        self._targets = [np.empty((3, 0))]
        self._pairs = [np.empty((3, 0))]
        self._counts = np.zeros((3, 1))  # added to a pair's detection, target, IoU

    def update(self, predictions: Entries, targets: Entries) -> None:
        """Add images; many calls or one, the result is the same.

        Args:
            predictions: a dictionary per image: ``labels`` (N,), integers; ``scores``
                (N,), from 0 to 1; ``boxes`` (N, 4), xyxy in pixels, half-open, or, for
                ``"segm"``, ``masks`` (N, H, W) or (N, 1, H, W), an object where > 0.5.
            targets: as many dictionaries: ``labels``, ``boxes`` or ``masks`` and, where
                known, ``iscrowd`` (N,), 0 or 1, and ``area`` (N,) in pixels, by which
                it is small, medium or large (default: the area of its box or mask).

        Raises:
            TypeError, ValueError: something is missing or wrong. The message names the
                image and the field, and no image of this call is added.
        """
        read = read_images(predictions, targets, self.iou_type)
        images = [_summarize_image(*image, self.max_detections[-1]) for image in read]
        for detections, truths, pairs in images:
            self._detections.append(detections)
            self._targets.append(truths)
            self._pairs.append(pairs + self._counts)
            self._counts += [[detections.shape[1]], [truths.shape[1]], [0]]

    def merge(self, other: "DetectionEvaluator") -> None:
        """Add the images of another evaluator after one's own.

        The result is that of one evaluator that saw both, in this order.

        Args:
            other: an evaluator with the same ``iou_type`` and ``max_detections``; it
                stays as it is.

        Raises:
            TypeError: not an evaluator.
            ValueError: the two differ in one of these.
        """
        if not isinstance(other, DetectionEvaluator):
            raise TypeError(f"other must be an evaluator, got {type(other).__name__}")
        mine, its = [(e.iou_type, e.max_detections) for e in (self, other)]
        if mine != its:
            raise ValueError(f"the evaluators differ: {mine!r} and {its!r}")
        self._detections += other._detections
        self._targets += other._targets
        self._pairs += [pairs + self._counts for pairs in other._pairs]
        self._counts = self._counts + other._counts

    def compute(self) -> dict:
        """Return the numbers for all images so far; -1 where there was nothing to find.

        Returns:
            A dictionary. Floats from 0 to 1: ``AP`` (the mean over IoU thresholds and
            classes), ``AP50``, ``AP75`` (at one threshold), ``APs``, ``APm``, ``APl``
            (by area), ``AR1``, ``AR10``, ``AR100`` (one for each of
            ``max_detections``, named by it), ``ARs``, ``ARm``, ``ARl``. ``per_class``:
            AP by label. Arrays, float64, as in COCOeval: ``classes`` (K,), the labels
            seen, rising; ``precision`` (T, R, K, A, M), the best at a recall or beyond,
            0 where the recall is never reached; ``scores``, of the same shape, the
            score there; ``recall`` (T, K, A, M), at the end of the list. T are the IoU
            thresholds 0.5, 0.55 .. 0.95, R the recalls 0, 0.01 .. 1, A all, small,
            medium and large, M the limits, rising.
        """
        label, score, area, rank = np.concatenate(self._detections, axis=1)
        target_label, crowd, target_area = np.concatenate(self._targets, axis=1)
        # An ignored target need not be found. A detection is ignored if its target is,
        # or if it has none and its own area is out of range: neither right nor wrong.
        ignored = (crowd == 1) | _out_of_range(target_area)  # (A, G)
        pairs = np.concatenate(self._pairs, axis=1)
        matched, excused = _match(pairs, rank, ignored, crowd == 1)  # (T, A, D)
        excused |= ~matched & _out_of_range(area)
        right, wrong = matched & ~excused, ~matched & ~excused

        classes = np.union1d(label, target_label).astype(int)
        shape = len(classes), len(AREA_RANGES), len(self.max_detections)
        recall = np.full((len(IOU_THRESHOLDS), *shape), -1.0)
        precision = np.full((len(IOU_THRESHOLDS), len(RECALL_POINTS), *shape), -1.0)
        scores = precision.copy()
        # All sorts are stable: equal scores stay in the order in which they came.
        by_score = np.argsort(-score, kind="stable")
        for k, one_class in enumerate(classes):
            ranked = by_score[label[by_score] == one_class]
            num_targets = (~ignored & (target_label == one_class)).sum(axis=1)  # (A,)
            for a, m in np.ndindex(shape[1:]):
                if num_targets[a] == 0:
                    continue
                best = ranked[rank[ranked] < self.max_detections[m]]
                r, p = _curve(right[:, a, best], wrong[:, a, best], num_targets[a])
                recall[:, k, a, m] = r[:, -1] if len(best) else 0
                p, s = precision_envelope(p), score[best]
                for t in range(len(IOU_THRESHOLDS)):
                    p_at, s_at = _sample(r[t], RECALL_POINTS, p[t], s)
                    precision[t, :, k, a, m], scores[t, :, k, a, m] = p_at, s_at

        numbers = {
            "AP": precision[..., 0, -1],
            "AP50": precision[0, ..., 0, -1],
            "AP75": precision[5, ..., 0, -1],
            **{f"AP{size}": precision[..., a, -1] for a, size in enumerate("sml", 1)},
            **{f"AR{n}": recall[..., 0, m] for m, n in enumerate(self.max_detections)},
            **{f"AR{size}": recall[..., a, -1] for a, size in enumerate("sml", 1)},
        }
        per_class = precision[..., 0, -1].transpose(2, 0, 1)  # (K, T, R)
        return {
            **{name: _mean(values) for name, values in numbers.items()},
            "per_class": dict(
                zip(classes.tolist(), map(_mean, per_class), strict=True)
            ),
            "classes": classes,
            "precision": precision,
            "recall": recall,
            "scores": scores,
        }


def average_precision(scores, correct, num_targets: int, rule="coco101") -> float:
    """The area under precision over recall, for one class at one IoU threshold.

    Args:
        scores: (D,) scores of the detections, in any order: a tensor, array or list.
        correct: (D,) booleans: was it matched to a target that no other one took?
        num_targets: the number of targets, found or not.
        rule: ``"coco101"``, the mean of the envelope at recall 0, 0.01 .. 1 (COCO);
            ``"voc07"``, at recall 0, 0.1 .. 1 (Pascal VOC until 2009); ``"voc12"``, the
            area under the envelope (from 2010 on); ``"trapezoid"``, the area under the
            raw curve from recall 0, precision 1 on (Cityscapes, without tied scores).

    Returns:
        A number from 0 to 1; -1 where ``num_targets`` is 0.

    Raises:
        ValueError: shapes or counts do not fit, a score is nan, ``rule`` is unknown.
    """
    scores = torch.as_tensor(scores).detach().cpu().double().numpy()
    correct = torch.as_tensor(correct).cpu().bool().numpy()
    if scores.ndim != 1 or scores.shape != correct.shape or np.isnan(scores).any():
        got = f"{scores.shape} with {np.isnan(scores).sum()} nan, and {correct.shape}"
        raise ValueError(f"scores and correct must be (D,), without nan, got {got}")
    if correct.sum() > num_targets:
        raise ValueError(f"{correct.sum()} correct, but num_targets is {num_targets}")
    if rule not in ("coco101", "voc07", "voc12", "trapezoid"):
        raise ValueError(
            f"rule must be 'coco101', 'voc07', 'voc12' or 'trapezoid', got {rule!r}"
        )
    if num_targets == 0:
        return -1.0
    correct = correct[np.argsort(-scores, kind="stable")]
    recall, precision = _curve(correct, ~correct, num_targets)
    if rule == "trapezoid":
        return float(np.trapezoid([1, *precision], [0, *recall]))
    precision = precision_envelope(precision)
    if rule == "voc12":
        return float((np.diff(recall, prepend=0) * precision).sum())
    points = RECALL_POINTS if rule == "coco101" else np.linspace(0, 1, 11)
    return float(_sample(recall, points, precision)[0].mean())


def precision_envelope(precision: np.ndarray) -> np.ndarray:
    """The best precision at each recall or a higher one.

    Args:
        precision: (..., D), after each detection, the highest score first.

    Returns:
        (..., D), never rising along the last axis.
    """
    return np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]


def _summarize_image(found: Objects, truth: Objects, limit: int) -> tuple:
    """One image's detections (4, D), targets (3, G) and overlapping pairs (3, P)."""
    order = np.lexsort((-found.scores, found.labels))  # by class, highest score first
    label = found.labels[order]
    rank = np.arange(len(order)) - np.searchsorted(label, label)  # within its class
    order, label, rank = (values[rank < limit] for values in (order, label, rank))
    d, g = np.nonzero(label[:, None] == truth.labels)  # (P,) each
    iou = pair_ious(found, order[d], truth, g)
    return (
        np.stack([label, found.scores[order], found.area[order], rank]),
        np.stack([truth.labels, truth.crowd, truth.area]),
        np.stack([d, g, iou])[:, iou >= IOU_THRESHOLDS[0]],
    )


def _match(pairs, rank, ignored, crowd) -> tuple[np.ndarray, np.ndarray]:
    """Which detections get a target, and which of them get an ignored one: (T, A, D).

    In each image and class the highest score chooses first, at each IoU threshold and
    area range on its own. So all the first-ranked choose in one step, then the second.
    """
    d, g = pairs[:2].astype(int)
    order = np.lexsort((g, pairs[2], d, rank[d]))  # last of a detection's pairs is best
    d, g, iou = d[order], g[order], pairs[2, order]
    taken = np.zeros((len(IOU_THRESHOLDS), *ignored.shape), dtype=bool)  # (T, A, G)
    matched = np.zeros((*taken.shape[:2], len(rank)), dtype=bool)
    excused = matched.copy()
    bounds = [*np.flatnonzero(np.diff(rank[d], prepend=-1)), len(d)]
    for start, stop in pairwise(bounds):
        chooser, target, n = d[start:stop], g[start:stop], stop - start
        free = ~taken[:, :, target] | crowd[target]  # a crowd holds many objects
        free &= iou[start:stop] >= IOU_THRESHOLDS[:, None, None]
        # Any target that counts comes before any ignored one; 0 stands for no choice.
        wish = free * (np.arange(1, n + 1) + n * ~ignored[:, target])  # (T, A, P)
        first = np.flatnonzero(np.diff(chooser, prepend=-1))
        choice = np.maximum.reduceat(wish, first, axis=-1)  # one for each chooser
        t, a, i = np.nonzero(choice)
        chosen = target[(choice[t, a, i] - 1) % n]
        taken[t, a, chosen] = True
        matched[t, a, chooser[first[i]]] = True
        excused[t, a, chooser[first[i]]] = ignored[a, chosen]
    return matched, excused


def _curve(right, wrong, num_targets) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision after each detection, the highest score first."""
    right, wrong = right.cumsum(axis=-1), wrong.cumsum(axis=-1)
    return right / num_targets, right / (right + wrong + np.spacing(1))  # no 0 / 0


def _sample(recall, points, *curves) -> list[np.ndarray]:
    """Each curve where recall first reaches the points; 0 where it never does."""
    at = np.searchsorted(recall, points)
    return [np.append(curve, 0)[at] for curve in curves]


def _out_of_range(area: np.ndarray) -> np.ndarray:
    least, greatest = AREA_RANGES.T[..., None]
    return (area < least) | (area > greatest)  # (A, N)


def _mean(values: np.ndarray) -> float:
    """The mean over the places that have targets; -1 where none has."""
    values = values[values > -1]
    return float(values.mean()) if values.size else -1.0

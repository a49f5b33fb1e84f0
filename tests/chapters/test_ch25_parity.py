"""Chapter 25's metrics against pycocotools and the package, and that it bites.

The functions come out of the notebook. Random data sets hold crowds, tied scores,
pictures without objects or without detections, all sizes, and a class that is only
detected. Every mistake planted in the chapter's code must be noticed.
"""

import numpy as np
import pytest
import torch
from coco_referee import NAMES, referee

from booktools import chapter_code
from course_utils.detection import errors, metrics

CHAPTER = "25_detection_metrics"
FUNCTIONS = [
    *("overlaps", "prepare", "match_coco", "ap_and_recall", "twelve_numbers"),
    *("average_precision", "judge_picture", "why_wrong", "match"),
]
OURS = chapter_code.definitions(CHAPTER, *FUNCTIONS)
LABELS = (1, 2, 3, 4)  # no object has the last one


def draw(seed: int, images: int = 12, iou_type: str = "bbox"):
    """Predictions and targets; whole coordinates, so that IoUs and scores tie."""
    rng = np.random.default_rng(seed)
    span = 24 if iou_type == "segm" else 200

    def boxes(n):
        corner = rng.integers(0, span // 2, (n, 2))
        size = rng.integers(1, span // 2, (n, 2)) if n else np.zeros((0, 2))
        return torch.from_numpy(np.hstack([corner, corner + size])).float()

    def paint(boxes):
        masks = torch.zeros(len(boxes), span, span, dtype=torch.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
            mask[max(y1, 0) : y2, max(x1, 0) : x2] = 1
        return masks

    predictions, targets = [], []
    for _ in range(images):
        truth = boxes(rng.integers(0, 5))
        near = truth + torch.tensor([2.0, 1, 2, 1])  # a neighbor of each of the first
        truth = torch.cat([truth, near[:2]])
        n = len(truth)
        index = rng.integers(0, n, rng.integers(0, 12)) if n else np.zeros(0, int)
        shift = torch.from_numpy(rng.integers(-4, 5, (len(index), 4)))
        moved = truth[index] + shift
        moved[:, 2:] = torch.maximum(moved[:, 2:], moved[:, :2] + 1)
        found = torch.cat([moved.float(), boxes(rng.integers(0, 3))])
        labels = rng.integers(1, 4, n)
        guess = np.where(rng.random(len(found)) < 0.9, 0, rng.integers(1, 5))
        own = np.concatenate([labels[index], rng.integers(1, 5, len(found))])
        guess = np.where(guess > 0, guess, own[: len(found)])
        predictions.append(
            {
                "boxes": found,
                "labels": torch.from_numpy(guess),
                "scores": torch.from_numpy(rng.integers(0, 9, len(found)) / 8),
            }
        )
        targets.append(
            {
                "boxes": truth,
                "labels": torch.from_numpy(labels),
                "iscrowd": torch.from_numpy((rng.random(n) < 0.2).astype(np.int64)),
                "area": torch.from_numpy(rng.choice([9.0, 1024, 5000, 9216, 2e4], n)),
            }
        )
        if iou_type == "segm":
            predictions[-1]["masks"] = paint(found)
            targets[-1]["masks"] = paint(truth)
    return predictions, targets


def gap(predictions, targets, iou_type="bbox", ours=OURS) -> float:
    """The largest difference from pycocotools over the twelve numbers."""
    numbers = ours.twelve_numbers(predictions, targets, iou_type)
    assert list(numbers) == NAMES
    stats = referee(predictions, targets, LABELS, iou_type).stats
    return np.abs(np.array(list(numbers.values())) - stats).max()


@pytest.mark.parametrize("iou_type, seeds", [("bbox", range(12)), ("segm", range(4))])
def test_twelve_numbers_equal_pycocotools(iou_type, seeds):
    for seed in seeds:
        assert gap(*draw(seed, iou_type=iou_type), iou_type) < 1e-12, seed


def test_limits_cut_the_list():
    """More than 100 detections of one class, and objects of every size."""
    predictions, targets = draw(99, images=2)
    for p in predictions:
        for name in p:
            p[name] = p[name].repeat(60, *[1] * (p[name].dim() - 1))
    assert max(p["labels"].bincount().max() for p in predictions) > 100
    assert gap(predictions, targets) < 1e-12


@pytest.mark.parametrize("none", ["detections", "objects", "anything"])
def test_nothing(none):
    predictions, targets = draw(3)
    if none != "objects":
        predictions = [{k: v[:0] for k, v in p.items()} for p in predictions]
    if none != "detections":
        targets = [{k: v[:0] for k, v in t.items()} for t in targets]
    numbers = OURS.twelve_numbers(predictions, targets)
    package = metrics.evaluate_detections(predictions, targets)
    assert numbers == {name: package[name] for name in NAMES}
    assert set(numbers.values()) <= ({0.0, -1.0} if none == "detections" else {-1.0})


MISTAKES = {
    "above the threshold": ("iou[d][g] >= threshold", "iou[d][g] > threshold"),
    "equal scores reversed": ("key=lambda v: -v[0]", "key=lambda v: (-v[0], v[1])"),
    "no sort over pictures": ("verdicts.sort(key=lambda v: -v[0])", "pass"),
    "the first target, not the best": ("(iou[d][g], g)", "-g"),
    "only objects that count": ("for skip in (False, True)", "for skip in (False,)"),
    "ignored objects first": ("for skip in (False, True)", "for skip in (True, False)"),
    "a crowd is used up": ("if not crowd[best]:", "if True:"),
    "no limit": ("order[:limit]", "order"),
    "the lower border excluded": ("c or not low <= a", "c or not low < a"),
    "size of detections": ("else not low <= group", "else not 0 <= group"),
    "plain IoU for crowds": ('t["iscrowd"] == 1, own', 't["iscrowd"] == 2, own'),
    "recall of what was found": (
        "recall = hits / count",
        "recall = hits / max([1, *hits])",
    ),
    "classes without objects count": ("        return None", "        return 0.0, 0.0"),
    "eleven points": ("np.linspace(0, 1, 101)}", "np.linspace(0, 1, 11)}"),
    "no envelope": ("np.maximum.accumulate(precision[::-1])[::-1]", "precision"),
    "points beyond": ("POINTS[rule])", 'POINTS[rule], "right")'),
    "nine thresholds": ("np.linspace(0.5, 0.95, 10)", "np.linspace(0.5, 0.9, 9)"),
    "the end of AR": ("last = recall[-1]", "last = recall.mean()"),
}


def planted(monkeypatch, old: str, new: str):
    """The chapter's functions with a mistake in them."""
    cells = chapter_code._cells(CHAPTER)
    changed = [
        c for c in cells if old in c.source and "solution" not in str(c.metadata)
    ]
    assert changed, f"the chapter has no {old!r}"
    copies = []
    for cell in cells:
        copy = cell.copy()
        copy["source"] = cell.source.replace(old, new)
        copies.append(copy)
    monkeypatch.setattr(chapter_code, "_cells", lambda chapter: tuple(copies))
    return chapter_code.definitions(CHAPTER, *FUNCTIONS)


@pytest.mark.parametrize("name", MISTAKES)
def test_a_planted_mistake_is_noticed(name, monkeypatch):
    wrong = planted(monkeypatch, *MISTAKES[name])
    assert any(gap(*draw(seed), ours=wrong) > 1e-6 for seed in range(6))


@pytest.mark.parametrize("rule", ["trapezoid", "voc07", "voc12", "coco101"])
def test_average_precision_equals_the_package(rule):
    rng = np.random.default_rng(5)
    for n in (1, 2, 3, 10, 100):
        correct = rng.random(n) < 0.5
        hits, count = correct.cumsum(), max(correct.sum(), 1) + n % 3
        scores = np.arange(n, 0, -1) / n
        ours = OURS.average_precision(hits / count, hits / np.arange(1, n + 1), rule)
        package = metrics.average_precision(scores, correct, count, rule)
        assert ours == pytest.approx(package, abs=1e-12)


def test_an_unknown_rule_is_refused():
    with pytest.raises(KeyError, match="voc2012"):
        OURS.average_precision([0.5, 1.0], [1.0, 1.0], "voc2012")


def test_the_trapezoid_is_that_of_cityscapes():
    """Without equal scores: half the distance of both neighbors is a point's width."""
    rng = np.random.default_rng(6)
    for n in range(1, 30):
        right = rng.random(n) < 0.5
        count = right.sum() + n % 3 + 1
        precision, recall = right.cumsum() / np.arange(1, n + 1), right.cumsum() / count
        heights = np.concatenate([precision[:1], precision])
        places = np.concatenate([[0, 0], recall, recall[-1:]])
        area = (heights * (places[2:] - places[:-2]) / 2).sum()
        ours = OURS.average_precision(recall, precision, "trapezoid")
        assert ours == pytest.approx(area, abs=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_the_plain_functions_equal_the_package(seed):
    """Without crowds: verdicts by picture, and matching of one class."""
    predictions, targets = draw(seed)
    for p, t in zip(predictions, targets, strict=True):
        t["iscrowd"] *= 0
        ours = OURS.judge_picture(p, t)
        assert ours == errors.detection_kinds(p, t)
        p, t = ({**x, "labels": x["labels"] * 0} for x in (p, t))
        iou = OURS.overlaps(p, t, "bbox")[0]
        kinds = errors.detection_kinds(p, t).detections
        assert OURS.match(p["scores"], iou, 0.5) == [k == "right" for k in kinds]

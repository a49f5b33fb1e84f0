"""detection_errors: every kind by hand, against the metric, and clear errors."""

import numpy as np
import pytest
import torch

from course_utils.detection.errors import FATES, KINDS, count_kinds, detection_kinds
from course_utils.detection.metrics import DetectionEvaluator


def prediction(boxes, labels=None, scores=None):
    n = len(boxes)
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(n, 4)
    labels = torch.tensor(labels) if labels else torch.ones(n, dtype=torch.int64)
    scores = torch.tensor(scores) if scores else torch.linspace(0.9, 0.1, n)
    return {"boxes": boxes, "labels": labels, "scores": scores}


def target(boxes, labels=None, crowd=None):
    made = prediction(boxes, labels)
    del made["scores"]
    if crowd:
        made["iscrowd"] = torch.tensor(crowd)
    return made


ONE = target([[0, 0, 10, 10]])


def test_each_kind_by_hand():
    found = prediction(
        [
            [0, 0, 10, 10],  # right
            [0, 0, 10, 8],  # IoU 0.8 with the same one: a duplicate
            [40, 0, 50, 10],  # IoU 1 with an object of class 2
            [5, 0, 15, 10],  # IoU 50/150 with the first: a bad box
            [80, 80, 90, 90],  # nothing there
            [61, 61, 65, 65],  # inside a crowd
        ]
    )
    truth = target(
        [[0, 0, 10, 10], [40, 0, 50, 10], [20, 20, 30, 30], [60, 60, 79, 79]],
        [1, 2, 1, 1],
        [0, 0, 0, 1],
    )
    kinds, fates = detection_kinds(found, truth)
    assert tuple(kinds) == KINDS[:5] + ("ignored",)
    assert fates == ["found", "missed", "missed", "ignored"]
    assert set(fates) == set(FATES)
    counts = count_kinds([found, found], [truth, truth])
    assert counts == {kind: 2 for kind in KINDS[:5]} | {"missed": 4}
    assert list(counts) == [*KINDS[:5], "missed"]


def test_scores_decide_not_order():
    found = prediction([[0, 0, 10, 8], [0, 0, 10, 10]], scores=[0.3, 0.6])
    assert detection_kinds(found, ONE).detections == ["duplicate", "right"]
    tied = prediction([[0, 0, 10, 8], [0, 0, 10, 10]], scores=[0.5, 0.5])
    assert detection_kinds(tied, ONE).detections == ["right", "duplicate"]


def test_a_detection_takes_the_next_free_target():
    truth = target([[0, 0, 10, 10], [2, 0, 12, 10]])
    found = prediction([[0, 0, 10, 10], [0.5, 0, 10.5, 10]])
    assert detection_kinds(found, truth).detections == ["right", "right"]


def test_limits_are_included():
    half = prediction([[0, 0, 10, 5]])
    assert detection_kinds(half, ONE).detections == ["right"]
    assert detection_kinds(half, ONE, iou_threshold=0.51).detections == ["localization"]
    near = prediction([[0, 0, 10, 1]])
    assert detection_kinds(near, ONE).detections == ["localization"]
    assert detection_kinds(near, ONE, near=0.2).detections == ["background"]


@pytest.mark.parametrize(
    "own, other, kind",
    [
        ([0, 0, 10, 2], [0, 0, 10, 9], "class"),  # another class fits better
        ([0, 0, 10, 2], [0, 0, 10, 4], "localization"),  # none fits
        ([0, 0, 1, 1], [0, 0, 10, 4], "background"),  # neither place nor name
    ],
)
def test_the_first_rule_that_fits(own, other, kind):
    found = prediction([[0, 0, 10, 10]])
    truth = target([own, other], [1, 2])
    assert detection_kinds(found, truth).detections == [kind]


def test_masks_and_boxes_may_disagree():
    masks = torch.zeros(2, 8, 8, dtype=torch.uint8)
    masks[0, range(8), range(8)] = 1
    masks[1, range(8), range(7, -1, -1)] = 1
    found = prediction([[0, 0, 8, 8]]) | {"masks": masks[:1, None].float()}
    truth = target([[0, 0, 8, 8]]) | {"masks": masks[1:]}
    assert detection_kinds(found, truth).detections == ["right"]
    assert detection_kinds(found, truth, "segm").detections == ["background"]


def test_empty_and_degenerate():
    none = prediction([])
    assert detection_kinds(none, ONE) == ([], ["missed"])
    assert detection_kinds(prediction([[0, 0, 5, 5]]), target([])) == (
        ["background"],
        [],
    )
    assert detection_kinds(none, target([])) == ([], [])
    point = prediction([[5, 5, 5, 5]])
    assert detection_kinds(point, target([[5, 5, 5, 5]])).detections == ["background"]
    assert set(count_kinds([], []).values()) == {0}


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_right_ones_are_those_of_the_metric(iou_type):
    """The count of right detections is the evaluator's recall times the targets."""
    rng = np.random.default_rng(0)
    for _ in range(30):
        n, m = rng.integers(1, 8, 2)
        entries = []
        for count in (n, m):
            corner = rng.integers(0, 10, (count, 2))
            boxes = np.hstack([corner, corner + rng.integers(1, 12, (count, 2))])
            masks = torch.zeros(count, 24, 24, dtype=torch.uint8)
            for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
                mask[y1:y2, x1:x2] = 1
            made = prediction(boxes.tolist(), scores=(rng.random(count)).tolist())
            entries.append(made | {"masks": masks})
        found, truth = entries
        truth = {k: v for k, v in truth.items() if k != "scores"}
        truth["iscrowd"] = torch.from_numpy(rng.integers(0, 2, m) * (np.arange(m) > 0))
        before = {k: v.clone() for k, v in {**found, **truth}.items()}
        evaluator = DetectionEvaluator(iou_type)
        evaluator.update([found], [truth])
        recall = evaluator.compute()["recall"][0, 0, 0, -1]
        kinds, fates = detection_kinds(found, truth, iou_type)
        countable = (truth["iscrowd"] == 0).sum().item()
        assert kinds.count("right") == fates.count("found")
        assert kinds.count("right") == pytest.approx(recall * countable)
        for name, value in before.items():
            assert torch.equal(value, {**found, **truth}[name]), name


@pytest.mark.parametrize(
    "change, match",
    [
        ({"iou_type": "box"}, "iou_type must be 'bbox' or 'segm', got 'box'"),
        ({"iou_threshold": 0}, "0 < near <= iou_threshold <= 1 .*iou_threshold=0"),
        ({"iou_threshold": 1.5}, "got near=0.1 and iou_threshold=1.5"),
        ({"near": 0.6}, "got near=0.6"),
        ({"near": 0.0}, "got near=0.0"),
    ],
)
def test_clear_errors(change, match):
    with pytest.raises(ValueError, match=match):
        detection_kinds(prediction([]), ONE, **change)


def test_errors_name_the_field():
    with pytest.raises(ValueError, match=r"predictions\[0\] has no 'scores'"):
        detection_kinds(ONE, ONE)
    with pytest.raises(ValueError, match="equally many, got 1 and 2"):
        count_kinds([prediction([])], [ONE, ONE])

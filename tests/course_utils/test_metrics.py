"""Detection metrics by hand: values, invariances, devices, bad input."""

import copy
import math
import re

import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from course_utils.detection.metrics import (
    DetectionEvaluator,
    average_precision,
    evaluate_detections,
)

NAMES = "AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl".split()


def entry(boxes, labels=None, scores=None, **extra):
    """One image's dictionary; labels are 1 unless given."""
    found = {"boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)}
    n = len(found["boxes"])
    found["labels"] = torch.tensor([1] * n if labels is None else labels).long()
    if scores is not None:
        found["scores"] = torch.tensor(scores, dtype=torch.float32)
    return {**found, **{name: torch.as_tensor(value) for name, value in extra.items()}}


def numbers(result) -> dict:
    return {name: result[name] for name in NAMES}


def same(one, other) -> bool:
    """Every float, list and array equal to the bit."""
    return one.keys() == other.keys() and all(
        np.array_equal(one[name], other[name]) for name in one
    )


# --------------------------------------------------------------------- by hand

A, B, C = [0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]
NOWHERE = [70, 70, 80, 80]


def test_all_found():
    result = evaluate_detections(
        [entry([A, B], [1, 2], [0.9, 0.8])], [entry([A, B], [1, 2])]
    )
    # Both are small; there is no target of another size.
    rest = {"APm": -1.0, "APl": -1.0, "ARm": -1.0, "ARl": -1.0}
    assert numbers(result) == pytest.approx({name: 1.0 for name in NAMES} | rest)
    assert result["per_class"] == pytest.approx({1: 1.0, 2: 1.0})
    assert result["classes"].tolist() == [1, 2]
    assert result["precision"].shape == (10, 101, 2, 4, 3)
    assert result["scores"].shape == (10, 101, 2, 4, 3)
    assert result["recall"].shape == (10, 2, 4, 3)


def test_iou_decides_at_how_many_thresholds():
    # 10 x 10 against 10 x 7, within it: IoU 0.7, reached at 0.5 to 0.7, five of ten.
    result = evaluate_detections([entry([[0, 0, 10, 7]], [1], [0.5])], [entry([A])])
    assert (result["AP50"], result["AP75"]) == (pytest.approx(1), 0)
    assert result["AP"] == pytest.approx(0.5)
    assert result["AR100"] == pytest.approx(0.5)


# Three targets; the list of scores reads wrong, right, right. Recall and precision go
# (0, 0), (1/3, 1/2), (2/3, 2/3): the published case of which each rule makes its own.
RULES = {
    "trapezoid": (1 / 3) * (0 + 1 / 2) / 2 + (1 / 3) * (1 / 2 + 2 / 3) / 2,  # 5/18
    "voc07": 7 * (2 / 3) / 11,  # the recalls 0 to 0.6
    "voc12": (2 / 3) * (2 / 3),
    "coco101": 67 * (2 / 3) / 101,  # the recalls 0 to 0.66
}
PUBLISHED = {"trapezoid": 0.2778, "voc07": 0.4242, "voc12": 0.4444, "coco101": 0.4422}


@pytest.mark.parametrize("rule", RULES)
def test_four_rules_on_one_case(rule):
    ap = average_precision([0.7, 0.9, 0.8], [True, False, True], 3, rule)
    assert ap == pytest.approx(RULES[rule], abs=1e-12)
    assert round(ap, 4) == PUBLISHED[rule]


def test_the_same_case_in_boxes():
    result = evaluate_detections(
        [entry([NOWHERE, A, B], scores=[0.9, 0.8, 0.7])], [entry([A, B, C])]
    )
    assert round(result["AP50"], 4) == PUBLISHED["coco101"]
    assert result["AR100"] == pytest.approx(2 / 3)
    assert result["AR1"] == 0  # the one of the highest score is wrong
    # The score at which each recall is reached.
    assert result["scores"][0, [0, 33, 34, 66, 67], 0, 0, -1].tolist() == (
        pytest.approx([0.9, 0.8, 0.7, 0.7, 0])
    )


def test_a_duplicate_is_wrong():
    # Right, wrong, right: precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1.
    result = evaluate_detections(
        [entry([A, A, B], scores=[0.9, 0.8, 0.7])], [entry([A, B])]
    )
    assert result["AP50"] == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_a_detection_takes_its_best_free_target():
    # The first takes B, with IoU 0.9; the second overlaps both, and A is left.
    targets = [entry([[0, 0, 10, 10], [2, 0, 12, 10]])]
    both = entry([[2, 0, 12, 9], [1, 0, 11, 10]], scores=[0.9, 0.8])
    assert evaluate_detections([both], targets)["AR100"] > 0.6
    assert evaluate_detections([both], targets)["AP50"] == pytest.approx(1)


def test_a_crowd_excuses_and_need_not_be_found():
    crowd = entry([A, [0, 0, 100, 100]], iscrowd=[0, 1])
    inside = [[50, 50, 60, 60], [60, 60, 70, 70], [80, 80, 90, 90]]
    predictions = [entry([*inside, A], scores=[0.9, 0.8, 0.7, 0.6])]
    assert evaluate_detections(predictions, [crowd])["AP"] == pytest.approx(1)
    assert evaluate_detections(predictions, [entry([A])])["AP"] == pytest.approx(0.25)


def test_only_a_crowd():
    result = evaluate_detections([entry([A], [1], [0.5])], [entry([A], iscrowd=[True])])
    assert set(numbers(result).values()) == {-1}


def test_area_ranges():
    # 20 x 20 is small; told to be 96 x 96 = 9216, it is medium and large: both ends
    # belong to a range.
    box = [[0, 0, 20, 20]]
    predictions = [entry(box, scores=[0.5])]
    by_box = evaluate_detections(predictions, [entry(box)])
    told = evaluate_detections(predictions, [entry(box, area=[9216])])
    sizes = [[r[f"AR{size}"] for size in "sml"] for r in (by_box, told)]
    assert sizes == [[1, -1, -1], [-1, 1, 1]]


def test_a_wrong_detection_counts_in_its_own_range_only():
    target = entry([A, [0, 0, 50, 50]])
    predictions = entry([NOWHERE, A, [0, 0, 50, 50]], scores=[0.9, 0.8, 0.7])
    result = evaluate_detections([predictions], [target])
    assert result["APm"] == pytest.approx(1)  # the wrong one is small
    assert result["APs"] == pytest.approx(0.5)


def test_limits_on_detections():
    predictions = [entry([NOWHERE, A, B], scores=[0.9, 0.8, 0.7])]
    result = evaluate_detections(predictions, [entry([A, B])], max_detections=[3, 1, 2])
    assert [result[f"AR{n}"] for n in (1, 2, 3)] == [0, 0.5, 1]
    assert result["recall"].shape == (10, 1, 4, 3)


def test_a_limit_is_per_class():
    predictions = [entry([A, B], [1, 2], [0.9, 0.8])]
    assert evaluate_detections(predictions, [entry([A, B], [1, 2])])["AR1"] == 1


def test_a_class_without_targets_counts_for_nothing():
    result = evaluate_detections([entry([A, B], [1, 7], [0.5, 0.9])], [entry([A])])
    assert result["AP"] == pytest.approx(1)
    assert result["per_class"] == pytest.approx({1: 1, 7: -1})


def test_a_class_without_detections_counts_as_zero():
    result = evaluate_detections([entry([A], [1], [0.5])], [entry([A, B], [1, 2])])
    assert result["AP"] == pytest.approx(0.5)
    assert result["per_class"] == pytest.approx({1: 1, 2: 0})


def test_masks_see_what_boxes_do_not():
    # Two triangles of one square: their boxes are equal, and they share the diagonal.
    lower = torch.ones(64, 64).tril().bool()
    predictions = [entry([[0, 0, 64, 64]], scores=[0.5], masks=lower[None])]
    targets = [entry([[0, 0, 64, 64]], masks=lower.T[None])]
    assert evaluate_detections(predictions, targets)["AP"] == pytest.approx(1)
    assert evaluate_detections(predictions, targets, "segm")["AP"] == 0
    assert evaluate_detections(predictions, predictions, "segm")["AP"] == pytest.approx(
        1
    )
    # 64 * 65 / 2 = 2080 pixels: medium by its mask, and small if the target says so.
    result = evaluate_detections(predictions, predictions, "segm")
    assert (result["ARs"], result["ARm"]) == (-1, 1)


def test_masks_as_torchvision_gives_them():
    hard = torch.zeros(2, 30, 37)  # a width that is no multiple of eight
    hard[0, 3:20, 4:33] = hard[1, 10:, :9] = 1
    base = {"labels": torch.tensor([1, 1]), "masks": hard.to(torch.uint8)}
    soft = (hard * 0.4 + 0.3)[:, None]  # 0.3 and 0.7, (N, 1, H, W)
    scores = torch.tensor([0.2, 0.9])
    for masks in (soft, soft.half(), hard.bool(), hard.to(torch.uint8) * 255):
        found = {"labels": base["labels"], "masks": masks, "scores": scores}
        assert evaluate_detections([found], [base], "segm")["AP"] == pytest.approx(1)


def test_average_precision_takes_what_comes():
    scores, correct = [0.9, 0.8, 0.7], [True, False, True]
    expected = average_precision(scores, correct, 2)
    for kind in (np.array, torch.tensor):
        assert average_precision(kind(scores), kind(correct), 2) == expected
    grown = torch.tensor(scores, requires_grad=True)
    assert average_precision(grown, correct, 2) == expected
    for rule in RULES:
        assert average_precision([], [], 3, rule) == 0
        assert average_precision([], [], 0, rule) == -1
        assert average_precision([0.5], [False], 0, rule) == -1
        assert average_precision([0.5], [True], 1, rule) == pytest.approx(1)


def test_average_precision_keeps_the_order_of_equal_scores():
    first = average_precision([0.5, 0.5], [True, False], 1, "voc12")
    last = average_precision([0.5, 0.5], [False, True], 1, "voc12")
    assert (first, last) == pytest.approx((1, 0.5))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.5], [True, False], 2), "(1,) with 0 nan, and (2,)"),
        (([[0.5]], [[True]], 2), "(1, 1)"),
        (([math.nan], [True], 2), "1 nan"),
        (([0.5, 0.4], [True, True], 1), "2 correct, but num_targets is 1"),
        (([], [], -1), "num_targets is -1"),
        (([0.5], [True], 1, "coco"), "'coco'"),
    ],
)
def test_average_precision_refuses(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        average_precision(*arguments)


# ----------------------------------------------------------------- invariances


def scene(seed=0, images=15, ties=False):
    """Random images; all scores differ unless ties are asked for."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*size):
        return torch.rand(*size, generator=generator)

    def boxes(n):
        corner = draw(n, 2) * 60
        return torch.cat([corner, corner + 4 + draw(n, 2) * 60], 1)

    counts = [int(n) for n in torch.randint(0, 9, (images,), generator=generator)]
    scores = torch.randperm(3 * sum(counts) + 1, generator=generator) / 1e3
    if ties:
        scores = (scores * 10).floor() / 10
    predictions, targets = [], []
    for n in counts:
        truth = {"boxes": boxes(n), "labels": (draw(n) * 4).long() + 1}
        truth["iscrowd"] = (draw(n) < 0.1).long()
        near = truth["boxes"].repeat(2, 1) + draw(2 * n, 4) * 5
        own, scores = scores[: 3 * n], scores[3 * n :]
        found = {
            "boxes": torch.cat([near, boxes(n)]),
            "labels": torch.cat([truth["labels"].repeat(2), (draw(n) * 4).long() + 1]),
            "scores": own,
        }
        predictions.append(found)
        targets.append(truth)
    return predictions, targets


def shuffled(entries, seed=1):
    """Each image's objects in another order."""
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(e["labels"]), generator=generator) for e in entries]
    return [
        {name: values[order] for name, values in e.items()}
        for e, order in zip(entries, orders, strict=True)
    ]


def test_the_scene_is_worth_testing():
    result = evaluate_detections(*scene())
    assert 0.1 < result["AP"] < 0.9 and len(result["classes"]) == 4
    assert len(set(numbers(result).values())) >= 9


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("parts", [1, 2, 7, 15, 40])
def test_updates_in_parts(parts, ties):
    predictions, targets = scene(ties=ties)
    evaluator = DetectionEvaluator()
    for part in np.array_split(np.arange(len(targets)), parts):  # some are empty
        evaluator.update([predictions[i] for i in part], [targets[i] for i in part])
    whole = evaluate_detections(predictions, targets)
    assert same(evaluator.compute(), whole)
    assert same(evaluator.compute(), whole)  # computing uses nothing up


def test_computing_between_updates():
    predictions, targets = scene()
    evaluator = DetectionEvaluator()
    evaluator.update(predictions[:5], targets[:5])
    assert same(evaluator.compute(), evaluate_detections(predictions[:5], targets[:5]))
    evaluator.update(predictions[5:], targets[5:])
    assert same(evaluator.compute(), evaluate_detections(predictions, targets))


def test_reset():
    predictions, targets = scene()
    evaluator = DetectionEvaluator()
    empty = evaluator.compute()
    evaluator.update(predictions, targets)
    evaluator.reset()
    assert same(evaluator.compute(), empty)
    evaluator.update(predictions, targets)
    assert same(evaluator.compute(), evaluate_detections(predictions, targets))


def test_no_images():
    result = DetectionEvaluator().compute()
    assert set(numbers(result).values()) == {-1.0}
    assert result["per_class"] == {} and result["classes"].tolist() == []
    assert result["precision"].shape == (10, 101, 0, 4, 3)


def test_images_in_another_order():
    predictions, targets = scene()
    order = np.random.default_rng(2).permutation(len(targets))
    moved = evaluate_detections(
        [predictions[i] for i in order], [targets[i] for i in order]
    )
    assert same(moved, evaluate_detections(predictions, targets))


def test_detections_and_targets_in_another_order():
    predictions, targets = scene()
    moved = evaluate_detections(shuffled(predictions), shuffled(targets, 2))
    assert same(moved, evaluate_detections(predictions, targets))


def test_an_image_without_either_changes_nothing():
    predictions, targets = scene()
    nothing = entry([], [], [])
    more = evaluate_detections([nothing, *predictions], [nothing, *targets])
    assert same(more, evaluate_detections(predictions, targets))


def test_other_labels_for_the_classes():
    predictions, targets = scene()
    new = torch.tensor([0, 40, 30, 20, 10])
    renamed = [
        [{**e, "labels": new[e["labels"]]} for e in side]
        for side in (predictions, targets)
    ]
    before, after = (
        evaluate_detections(predictions, targets),
        evaluate_detections(*renamed),
    )
    assert numbers(after) == pytest.approx(numbers(before), abs=1e-12)
    assert after["per_class"] == {
        int(new[label]): ap for label, ap in before["per_class"].items()
    }


def test_scores_count_only_by_their_order():
    predictions, targets = scene()
    cubed = [{**p, "scores": p["scores"].double() ** 3} for p in predictions]
    before, after = (
        evaluate_detections(predictions, targets),
        evaluate_detections(cubed, targets),
    )
    assert np.array_equal(after["precision"], before["precision"])


def test_input_is_not_modified():
    predictions, targets = scene()
    kept = copy.deepcopy((predictions, targets))
    evaluate_detections(predictions, targets)
    for old, new in zip([*kept[0], *kept[1]], [*predictions, *targets], strict=True):
        assert old.keys() == new.keys()
        assert all(torch.equal(old[name], new[name]) for name in old)


def test_dtypes_devices_and_gradients():
    predictions, targets = scene()
    expected = evaluate_detections(predictions, targets)
    variants = [
        lambda v: v.double() if v.is_floating_point() else v.to(torch.int32),
        lambda v: v.clone().requires_grad_() if v.is_floating_point() else v,
    ]
    if torch.cuda.is_available():
        variants.append(lambda v: v.cuda())
    for change in variants:
        changed = [
            [{name: change(v) for name, v in e.items()} for e in side]
            for side in (predictions, targets)
        ]
        assert same(evaluate_detections(*changed), expected)
    wrapped = [
        {
            **t,
            "boxes": tv_tensors.BoundingBoxes(
                t["boxes"], format="XYXY", canvas_size=(200, 200)
            ),
        }
        for t in targets
    ]
    assert same(evaluate_detections(predictions, wrapped), expected)


def test_bfloat16_scores_and_integer_boxes():
    predictions = [entry([A], scores=[0.5])]
    predictions[0]["scores"] = predictions[0]["scores"].bfloat16()
    targets = [{"boxes": torch.tensor([A]), "labels": torch.ones(1, dtype=torch.uint8)}]
    assert evaluate_detections(predictions, targets)["AP"] == pytest.approx(1)


# -------------------------------------------------------------------- bad input


def good(masks=False):
    p = [entry([], [], []), entry([A, B], [1, 2], [0.9, 0.8])]
    t = [entry([]), entry([A, B], [1, 2], iscrowd=[0, 0], area=[100.0, 100.0])]
    if masks:
        for side in (p, t):
            for e in side:
                e["masks"] = torch.zeros(len(e["labels"]), 8, 9, dtype=torch.bool)
    return p, t


BAD = [
    (
        "predictions",
        "boxes",
        [[5.0, 0, 1, 1], A],
        "x1 <= x2",
        "[5.0, 0.0, 1.0, 1.0] at [0]",
    ),
    ("targets", "boxes", [A, [0.0, 9, 1, 1]], "y1 <= y2", "at [1]"),
    ("predictions", "boxes", [A, [0.0, 0, math.nan, 1]], "finite", "nan"),
    ("targets", "boxes", [[0.0, 0, math.inf, 1], A], "finite", "inf"),
    ("predictions", "boxes", [[0.0, 0, 1]] * 2, "(2, 4)", "(2, 3)"),
    ("targets", "boxes", [[0.0, 0, 1, 1]], "(2, 4)", "(1, 4)"),
    ("predictions", "scores", [1.5, 0.5], "from 0 to 1", "1.5 at [0]"),
    ("predictions", "scores", [0.5, -0.1], "from 0 to 1", "at [1]"),
    ("predictions", "scores", [0.5, math.nan], "from 0 to 1", "nan"),
    ("predictions", "scores", [0.5], "(2,)", "(1,)"),
    ("predictions", "scores", [[0.5], [0.5]], "(2,)", "(2, 1)"),
    ("targets", "labels", [[1, 2]], "(N,)", "(1, 2)"),
    ("targets", "labels", [1, 2, 3], "(3,)", "(2,)"),  # the others are too few
    ("targets", "iscrowd", [0, 2], "0 or 1", "2.0 at [1]"),
    ("targets", "iscrowd", [0], "(2,)", "(1,)"),
    ("targets", "area", [-1.0, 1], "finite and >= 0", "-1.0"),
    ("targets", "area", [math.nan, 1], "finite and >= 0", "nan"),
]


def refused(error, predictions, targets, iou_type="bbox") -> str:
    evaluator = DetectionEvaluator(iou_type)
    first = good(masks=True)
    evaluator.update(*first)
    before = evaluator.compute()
    with pytest.raises(error) as caught:
        evaluator.update(predictions, targets)
    assert same(evaluator.compute(), before)  # nothing of the call was added
    return str(caught.value)


@pytest.mark.parametrize(("side", "field", "value", "wanted", "got"), BAD)
def test_a_bad_field(side, field, value, wanted, got):
    both = dict(zip(("predictions", "targets"), good(), strict=True))
    both[side][1][field] = torch.tensor(value)
    said = refused(ValueError, **both)
    name = "iscrowd" if field == "labels" and "3" in wanted else field
    assert said.startswith(f"{side}[1][{name!r}] must ")
    assert wanted in said and got in said


@pytest.mark.parametrize("side", ["predictions", "targets"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.complex64])
def test_labels_of_another_dtype(side, dtype):
    both = dict(zip(("predictions", "targets"), good(), strict=True))
    both[side][1]["labels"] = both[side][1]["labels"].to(dtype)
    said = refused(TypeError, **both)
    assert said == f"{side}[1]['labels'] must be integers, got {dtype}"


@pytest.mark.parametrize(
    ("side", "field"),
    [
        ("predictions", "boxes"),
        ("predictions", "labels"),
        ("predictions", "scores"),
        ("targets", "boxes"),
        ("targets", "labels"),
    ],
)
def test_a_missing_field_and_one_that_is_no_tensor(side, field):
    both = dict(zip(("predictions", "targets"), good(), strict=True))
    both[side][1][field] = both[side][1][field].tolist()
    said = refused(TypeError, **both)
    assert said == f"{side}[1][{field!r}] must be a tensor, got list"
    del both[side][1][field]
    assert refused(ValueError, **both).startswith(f"{side}[1] has no {field!r}, only [")


def test_sides_of_different_length():
    predictions, targets = good()
    said = refused(ValueError, predictions, targets[:1])
    assert said == "predictions and targets must be equally many, got 2 and 1"


def test_one_dictionary_in_place_of_a_list():
    predictions, targets = good()
    said = refused(TypeError, {"boxes": 0, "labels": 0}, targets)
    assert said == "predictions must be a list of dictionaries, got dict"
    said = refused(TypeError, [predictions[0], predictions], targets)
    assert said == "predictions[1] must be a dictionary, got list"


def test_boxes_of_another_layout():
    predictions, targets = good()
    boxes = targets[1]["boxes"]
    targets[1]["boxes"] = tv_tensors.BoundingBoxes(
        boxes, format="XYWH", canvas_size=(99, 99)
    )
    said = refused(ValueError, predictions, targets)
    assert said.startswith("targets[1]['boxes'] must be XYXY, got XYWH; convert")


def test_masks_of_different_size():
    predictions, targets = good(masks=True)
    predictions[1]["masks"] = torch.zeros(2, 9, 8)
    said = refused(ValueError, predictions, targets, "segm")
    assert said == (
        "predictions[1]['masks'] have size (9, 8), those of targets[1]['masks'] (8, 9)"
    )


@pytest.mark.parametrize("shape", [(1, 8, 9), (2, 8), (2, 3, 8, 9), (2, 1, 1, 8, 9)])
def test_masks_of_wrong_shape(shape):
    predictions, targets = good(masks=True)
    predictions[1]["masks"] = torch.zeros(shape)
    said = refused(ValueError, predictions, targets, "segm")
    assert said.startswith("predictions[1]['masks'] must have shape (2, ")
    assert said.endswith(f"got {shape}")


def test_masks_that_are_missing():
    predictions, targets = good(masks=True)
    del targets[1]["masks"]
    said = refused(ValueError, predictions, targets, "segm")
    assert said.startswith("targets[1] has no 'masks', only ['boxes', 'labels'")


def test_arguments_of_the_evaluator():
    with pytest.raises(ValueError, match="'bbox' or 'segm', got 'boxes'"):
        DetectionEvaluator("boxes")
    for limits in ((), (0, 1)):
        with pytest.raises(ValueError, match=re.escape(f"got {limits}")):
            DetectionEvaluator(max_detections=limits)

"""The twelve numbers and all arrays, equal to those of pycocotools' COCOeval."""

import contextlib
import io
import itertools
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from coco_referee import NAMES, coco, cocoeval, judge, referee, rle
from sweeps import quick_share

from course_utils.detection.metrics import DetectionEvaluator, evaluate_detections

REAL = os.environ.get("COURSE_REAL_DATA")
BOX_SEEDS = range(200)
MASK_SEEDS = range(1000, 1060)
QUICK_SEEDS = [*BOX_SEEDS[:20], *BOX_SEEDS[100:120]]  # those that every run compares


# -------------------------------------------------------------- the comparison


def disagreements(result, evaluation, categories) -> list[str]:
    """Where a result and the referee differ; the twelve numbers may by 1e-9."""
    wrong = []
    if list(evaluation.params.maxDets) == [1, 10, 100]:
        ours = [result[name] for name in NAMES]
        if not np.allclose(ours, evaluation.stats, rtol=0, atol=1e-9):
            wrong.append("numbers")
    theirs = evaluation.eval
    at = [categories.index(c) for c in result["classes"]]
    for name, axis in (("precision", 2), ("recall", 1), ("scores", 2)):
        if not np.array_equal(result[name], theirs[name].take(at, axis)):
            wrong.append(name)
        if np.any(np.delete(theirs[name], at, axis) != -1):
            wrong.append(f"{name} of a class not seen")
    for k, c in zip(at, result["classes"], strict=True):
        p = theirs["precision"][:, :, k, 0, -1]
        if result["per_class"][int(c)] != (p[p > -1].mean() if (p > -1).any() else -1):
            wrong.append(f"class {c}")
    return wrong


def worst(result, evaluation) -> float:
    return max(
        abs(result[name] - number)
        for name, number in zip(NAMES, evaluation.stats, strict=True)
    )


# ------------------------------------------------------------ random data sets


def random_boxes(rng, count, style):
    """xyxy float32 in a frame of 640 by 480 (or far beyond)."""
    if style == "grid":  # many equal IoUs, and IoUs of exactly 0.5 and 0.75
        corner = rng.integers(0, 12, (count, 2)) * 8
        return np.hstack([corner, corner + rng.integers(1, 5, (count, 2)) * 8])
    corner = rng.uniform(0, 400, (count, 2))
    if style == "crowded":  # a detection between two targets, as near to both
        corner = rng.integers(0, 6, (count, 2)) * [2, 1]
        return np.hstack([corner, corner + [12, 8]])
    scale = {
        "usual": rng.choice([12, 60, 200], (count, 1)),
        "tiny": 1e-3,
        "huge": 3e5,
        "flat": rng.choice([0, 40], (count, 2)),  # of no width, no height or neither
    }[style]
    return np.hstack([corner, corner + scale * rng.uniform(0.5, 1.5, (count, 2))])


def random_masks(rng, count, height, width):
    """Ellipses, rectangles, noise and nothing at all: (count, height, width) bool."""
    y, x = np.mgrid[:height, :width]
    masks = np.zeros((count, height, width), bool)
    for mask in masks:
        cy, cx = rng.uniform(0, height), rng.uniform(0, width)
        ry, rx = rng.uniform(1, height / 1.5), rng.uniform(1, width / 1.5)
        kind = rng.integers(10)
        if kind < 5:
            mask |= ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1
        elif kind < 8:
            mask |= (np.abs(y - cy) < ry) & (np.abs(x - cx) < rx)
        elif kind < 9:
            mask |= rng.random((height, width)) < 0.3
    return masks


STYLES = ["usual", "grid", "crowded", "tiny", "huge", "flat", "mixed"]


def random_dataset(seed, iou_type="bbox"):
    """Predictions, targets and categories of a seeded random data set."""
    rng = np.random.default_rng(seed)
    num_classes = int(rng.choice([1, 2, 5, 20, 80]))
    num_images = int(rng.integers(1, 7))
    most = int(rng.choice([0, 3, 10, 30, 100], p=[0.05, 0.3, 0.3, 0.2, 0.15]))
    style = str(rng.choice(STYLES))
    crowds = rng.choice([0, 0.1, 0.5])
    ties = int(rng.choice([0, 1, 3, 20]))  # the number of different scores; 0: any
    height, width = (int(n) for n in rng.integers(20, 130, 2))
    if iou_type == "segm":
        num_images, most = min(num_images, 4), min(most, 30)
    predictions, targets = [], []
    for _ in range(num_images):
        n = int(rng.integers(0, most + 1)) if rng.random() < 0.85 else 0
        extra = int(rng.integers(0, most // 2 + 2)) if rng.random() < 0.85 else 0
        copies = rng.integers(0, n, int(n * rng.uniform(0, 2.5))) if n else []
        if rng.random() < 0.1:
            copies, extra = [], 0
        labels = rng.integers(1, num_classes + 1, n)
        found = np.concatenate(
            [labels[copies], rng.integers(1, num_classes + 1, extra)]
        )
        confused = rng.random(len(found)) < 0.1
        found[confused] = rng.integers(1, num_classes + 1, confused.sum())
        scores = rng.random(len(found))
        if ties:
            scores = np.ceil(scores * ties) / ties
        if style == "mixed":
            kind = str(rng.choice(STYLES[:-1]))
        else:
            kind = style
        target = {"labels": torch.tensor(labels, dtype=torch.int64)}
        prediction = {
            "labels": torch.tensor(found, dtype=torch.int64),
            "scores": torch.tensor(scores, dtype=torch.float32),
        }
        shuffled = rng.permutation(len(found))
        if iou_type == "bbox":
            boxes = random_boxes(rng, n, kind)
            sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)[copies]
            shift = sides * rng.normal(0, rng.choice([0, 0.05, 0.15]), (len(copies), 4))
            if kind == "grid":
                shift = np.round(shift / 8) * 8
            if kind == "crowded":
                shift = np.tile(rng.integers(-2, 3, (len(copies), 2)), 2)
            moved = boxes[copies] + shift
            moved = np.hstack([
                np.minimum(moved[:, :2], moved[:, 2:]),
                np.maximum(moved[:, :2], moved[:, 2:]),
            ])  # fmt: skip
            guesses = np.concatenate([moved, random_boxes(rng, extra, kind)])
            target["boxes"] = torch.tensor(boxes, dtype=torch.float32)
            prediction["boxes"] = torch.tensor(guesses, dtype=torch.float32)
        else:
            masks = random_masks(rng, n, height, width)
            moved = masks[copies].copy()
            for mask in moved:
                axis, step = rng.integers(2), rng.integers(-6, 7)
                mask[:] = np.roll(mask, step, axis) ^ (
                    rng.random(mask.shape) < rng.choice([0, 0.05])
                )
            guesses = np.concatenate([moved, random_masks(rng, extra, height, width)])
            target["masks"] = torch.tensor(masks, dtype=torch.uint8)
            soft = np.where(guesses, rng.uniform(0.51, 1), rng.uniform(0, 0.5))
            prediction["masks"] = torch.tensor(soft, dtype=torch.float32)[:, None]
        for name, values in prediction.items():
            prediction[name] = values[torch.tensor(shuffled, dtype=torch.int64)]
        if crowds:
            target["iscrowd"] = torch.tensor(rng.random(n) < crowds).long()
        if seed % 2:
            areas = rng.choice([0, 10, 32**2, 2000, 96**2, 20000, 1e10, 2e10], n)
            target["area"] = torch.tensor(areas * rng.choice([1, 1, 0.9], n))
        predictions.append(prediction)
        targets.append(target)
    # Categories that nothing has, before, after and between those that are used.
    categories = list(
        range(int(rng.integers(0, 2)), num_classes + int(rng.integers(1, 3)))
    )
    return predictions, targets, categories


@pytest.mark.parametrize("start", quick_share(range(0, 200, 20), 2))
def test_boxes_of_random_data_sets(start):
    for seed in BOX_SEEDS[start : start + 20]:
        predictions, targets, categories = random_dataset(seed)
        evaluation = referee(predictions, targets, categories, "bbox")
        result = evaluate_detections(predictions, targets)
        assert disagreements(result, evaluation, categories) == [], f"seed {seed}"
        assert worst(result, evaluation) <= 1e-9


@pytest.mark.parametrize("start", quick_share(range(0, 60, 15), 1))
def test_masks_of_random_data_sets(start):
    for seed in MASK_SEEDS[start : start + 15]:
        predictions, targets, categories = random_dataset(seed, "segm")
        evaluation = referee(predictions, targets, categories, "segm")
        result = evaluate_detections(predictions, targets, "segm")
        assert disagreements(result, evaluation, categories) == [], f"seed {seed}"
        assert worst(result, evaluation) <= 1e-9


@pytest.mark.parametrize("limits", [(1, 10, 100), (2, 3, 5), (4,), (1, 2, 30, 200)])
def test_limits_on_detections(limits):
    for seed in range(2000, 2010):
        predictions, targets, categories = random_dataset(seed)
        evaluation = referee(predictions, targets, categories, "bbox", limits)
        result = evaluate_detections(predictions, targets, max_detections=limits[::-1])
        assert disagreements(result, evaluation, categories) == [], f"seed {seed}"


def test_more_than_a_hundred_detections_of_one_class_in_an_image():
    rng = np.random.default_rng(0)
    boxes = torch.tensor(random_boxes(rng, 90, "usual"), dtype=torch.float32)
    many = (
        boxes.repeat(4, 1) + torch.tensor(rng.normal(0, 2, (360, 4))).float().sort(1)[0]
    )
    scores = torch.tensor(rng.integers(1, 8, 360) / 8)
    ones = torch.ones(360, dtype=torch.int64)
    predictions = [{"boxes": many, "labels": ones, "scores": scores}]
    targets = [{"boxes": boxes, "labels": ones[:90]}]
    many[:, 2:] = torch.maximum(many[:, :2], many[:, 2:])
    evaluation = referee(predictions, targets, [1], "bbox")
    result = evaluate_detections(predictions, targets)
    assert disagreements(result, evaluation, [1]) == []
    assert 0 < result["AP"] < result["AR100"] < 1


def test_nothing_at_all():
    for entry, categories in (
        ({"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=int)}, [1, 2]),
        ({"boxes": torch.ones(1, 4), "labels": torch.ones(1, dtype=int)}, [1]),
    ):
        n = len(entry["labels"])
        predictions = [{**entry, "scores": torch.ones(n)}]
        nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=int)}
        evaluation = referee(predictions, [nothing], categories, "bbox")
        result = evaluate_detections(predictions, [nothing])
        assert disagreements(result, evaluation, categories) == []
        assert {result[name] for name in NAMES} == {-1.0}


@pytest.mark.parametrize(
    ("seeds", "least"),
    [(QUICK_SEEDS, 1), pytest.param(BOX_SEEDS, 10, marks=pytest.mark.slow)],
    ids=["quick", "all"],
)
def test_the_random_data_sets_hold_what_they_should(seeds, least):
    """Else agreement would prove little."""
    seen = Counter()
    for seed in seeds:
        predictions, targets, categories = random_dataset(seed)
        every = np.concatenate([t["labels"].numpy() for t in targets])
        scores = np.concatenate([p["scores"].numpy() for p in predictions])
        sides = torch.cat([t["boxes"] for t in targets])
        sides = sides[:, 2:] - sides[:, :2]
        crowd = [t["iscrowd"].sum() > 0 for t in targets if "iscrowd" in t]
        numbers = evaluate_detections(predictions, targets)
        seen.update(
            what
            for what, true in {
                "one class": len(categories) <= 3,
                "80 classes": len(categories) >= 80,
                "over 80 objects": max(len(t["labels"]) for t in targets) > 80,
                "crowd": any(crowd),
                "area given": "area" in targets[0],
                "area not given": "area" not in targets[0],
                "tied scores": len(np.unique(scores)) < len(scores),
                "image without targets": any(len(t["labels"]) == 0 for t in targets),
                "image without either": any(
                    len(p["labels"]) + len(t["labels"]) == 0
                    for p, t in zip(predictions, targets, strict=True)
                ),
                "class without targets": len(np.unique(every)) < len(categories),
                "tiny": (sides < 0.01).any(),
                "huge": (sides > 1e5).any(),
                "flat": (sides == 0).any(),
                "over 10 of a class in an image": any(
                    np.bincount(p["labels"], minlength=1).max() > 10
                    for p in predictions
                ),
                **{name: 0.05 < numbers[name] < 0.95 for name in NAMES},
            }.items()
            if true
        )
    assert len(seen) == 14 + len(NAMES) and min(seen.values()) >= least, seen


# --------------------------------------------------------------- planted mistakes

MISTAKES = (
    "no envelope",
    "a crowd is a target to find",
    "a crowd has to be covered",
    "a crowd holds one object",
    "ties turned around between images",
    "ties turned around within an image",
    "duplicates are not false positives",
    "duplicates are true positives",
    "a taken target is not passed over, as in VOC",
    "limit per image, not per class",
    "above, not at the threshold",
    "the first of equal targets",
    "ignored targets first",
    "wrong out of range counts",
    "classes without targets count",
    "range without its ends",
    "area of the box, not the given one",
    "recall above the point",
)
RANGES = np.array([[0, 1e5], [0, 32], [32, 96], [96, 1e5]]) ** 2


def plain(predictions, targets, mistake=None) -> dict:
    """COCO's evaluation of boxes in plain loops, with one of MISTAKES in it."""
    assert mistake is None or mistake in MISTAKES
    classes = sorted({int(c) for e in (*predictions, *targets) for c in e["labels"]})
    shape = len(classes), 4, 3
    result = {
        "classes": np.array(classes, int),
        "precision": np.full((10, 101, *shape), -1.0),
        "scores": np.full((10, 101, *shape), -1.0),
        "recall": np.full((10, *shape), -1.0),
    }
    pairs = list(zip(predictions, targets, strict=True))
    if mistake == "ties turned around between images":
        pairs.reverse()
    for k, label in enumerate(classes):
        images = [one_class(*pair, label, mistake) for pair in pairs]
        for (t, threshold), (a, ends) in itertools.product(
            enumerate(np.linspace(0.5, 0.95, 10)), enumerate(RANGES)
        ):
            number, rows = 0, []  # rows of detections: rank, score, right, wrong
            for image in images:
                outside = out_of_range(image["area"], ends, mistake)
                ignored = outside | image["crowd"]
                if mistake == "a crowd is a target to find":
                    ignored = outside
                number += (~ignored).sum()
                rows += marked(image, ignored, threshold, ends, mistake)
            if number:
                rows = np.array(rows).reshape(-1, 4)
                rows = rows[np.argsort(-rows[:, 1], kind="stable")]
                for m, limit in enumerate((1, 10, 100)):
                    kept = rows[rows[:, 0] < limit]
                    recall, *curves = curve(kept, number, mistake)
                    result["recall"][t, k, a, m] = recall
                    at = np.s_[t, :, k, a, m]
                    result["precision"][at], result["scores"][at] = curves

    def mean(values):
        if mistake != "classes without targets count":
            values = values[values > -1]
        return float(values.mean()) if values.size else -1.0

    p, r = result["precision"], result["recall"]
    numbers = [p[..., 0, 2], p[0, ..., 0, 2], p[5, ..., 0, 2]]
    numbers += [p[..., a, 2] for a in (1, 2, 3)]
    numbers += [r[..., 0, m] for m in range(3)] + [r[..., a, 2] for a in (1, 2, 3)]
    result["per_class"] = {
        c: mean(p[:, :, k, 0, 2]) for k, c in enumerate(result["classes"].tolist())
    }
    return result | dict(zip(NAMES, map(mean, numbers), strict=True))


def one_class(prediction, target, label, mistake) -> dict:
    """What one image holds of a class: detections by falling score, and targets."""
    every = prediction["scores"].double().numpy()
    order = np.argsort(-every, kind="stable")
    if mistake == "ties turned around within an image":
        order = np.lexsort((-np.arange(len(every)), -every))
    own = prediction["labels"].numpy()[order] == label
    rank = np.arange(len(order))[own]
    if mistake != "limit per image, not per class":
        rank = np.arange(own.sum())
    found = prediction["boxes"].double().numpy()[order][own]
    mine = target["labels"].numpy() == label
    true = target["boxes"].double().numpy()[mine]
    crowd = np.zeros(len(true), bool)
    if "iscrowd" in target:
        crowd = target["iscrowd"].numpy()[mine] == 1
    area = (true[:, 2:] - true[:, :2]).prod(axis=1)
    if "area" in target and mistake != "area of the box, not the given one":
        area = target["area"].double().numpy()[mine]
    lt = np.maximum(found[:, None, :2], true[None, :, :2])
    rb = np.minimum(found[:, None, 2:], true[None, :, 2:])
    shared = (rb - lt).clip(min=0).prod(axis=2)
    extent = (found[:, 2:] - found[:, :2]).prod(axis=1)
    whole = extent[:, None] + (true[:, 2:] - true[:, :2]).prod(axis=1) - shared
    if mistake != "a crowd has to be covered":
        whole = np.where(crowd, extent[:, None], whole)
    iou = np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)
    return {
        "rank": rank,
        "score": every[order][own],
        "extent": extent,
        "area": area,
        "crowd": crowd,
        "iou": iou,
    }


def out_of_range(area, ends, mistake):
    if mistake == "range without its ends":
        return (area <= ends[0]) | (area >= ends[1])
    return (area < ends[0]) | (area > ends[1])


def marked(image, ignored, threshold, ends, mistake) -> list[tuple]:
    """Rank, score, right and wrong of each detection of one image and class."""
    crowd, taken, rows = image["crowd"], set(), []
    outside = out_of_range(image["extent"], ends, mistake)
    for d, iou in enumerate(image["iou"]):
        enough = [g for g in range(len(iou)) if iou[g] >= threshold]
        if mistake == "above, not at the threshold":
            enough = [g for g in enough if iou[g] > threshold]
        free = [g for g in enough if g not in taken or crowd[g]]
        if mistake == "a crowd holds one object":
            free = [g for g in enough if g not in taken]
        if mistake in (
            "duplicates are true positives",
            "a taken target is not passed over, as in VOC",
        ):
            free = enough
        counting = [g for g in free if not ignored[g]]
        if mistake == "ignored targets first":
            counting = [g for g in free if ignored[g]]
        order = -1 if mistake == "the first of equal targets" else 1
        choice = max(counting or free, key=lambda g: (iou[g], order * g), default=None)
        if mistake == "a taken target is not passed over, as in VOC":
            if choice in taken and not crowd[choice]:
                choice = None
        if choice is None:
            excused = outside[d] and mistake != "wrong out of range counts"
            if mistake == "duplicates are not false positives":
                excused |= len(enough) > 0
            right, wrong = False, not excused
        else:
            taken.add(choice)
            right, wrong = not ignored[choice], False
        rows.append((image["rank"][d], image["score"][d], right, wrong))
    return rows


def curve(rows, number, mistake):
    """The last recall; precision and score at each of the 101 recall points."""
    right, wrong = rows[:, 2].cumsum(), rows[:, 3].cumsum()
    recall, precision = right / number, right / (right + wrong + np.spacing(1))
    if mistake != "no envelope":
        precision = np.maximum.accumulate(precision[::-1])[::-1]
    side = "right" if mistake == "recall above the point" else "left"
    at = np.searchsorted(recall, np.linspace(0, 1, 101), side)
    last = recall[-1] if len(recall) else 0.0
    return last, np.append(precision, 0)[at], np.append(rows[:, 1], 0)[at]


def test_plain_loops_agree_with_the_referee_and_with_the_evaluator():
    for seed in BOX_SEEDS[:8]:
        predictions, targets, categories = random_dataset(seed)
        evaluation = referee(predictions, targets, categories, "bbox")
        result = plain(predictions, targets)
        assert disagreements(result, evaluation, categories) == [], f"seed {seed}"
        ours = evaluate_detections(predictions, targets)
        for name in ("precision", "scores", "recall"):
            assert np.array_equal(ours[name], result[name])


def test_every_mistake_shows_on_the_random_data_sets():
    """So an evaluator that agrees on all of them makes none of these."""
    at_large = list(MISTAKES)
    for seed in BOX_SEEDS:
        predictions, targets, categories = random_dataset(seed)
        if sum(len(p["labels"]) for p in predictions) > 60 or len(categories) > 8:
            continue  # small ones show them as well, and faster
        evaluation = referee(predictions, targets, categories, "bbox")
        for mistake in list(at_large):
            result = plain(predictions, targets, mistake)
            if disagreements(result, evaluation, categories):
                at_large.remove(mistake)
        if not at_large:
            break
    assert not at_large


# ---------------------------------------------------------------- real annotations


def corners(boxes):
    """xywh to xyxy."""
    return torch.tensor(np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]]))


@pytest.mark.skipif(not REAL, reason="COURSE_REAL_DATA names no folder")
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("split", ["train2017", "val2017"])
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_real_annotations(split, iou_type):
    """COCO's own file, its areas and crowds; detections made from its objects."""
    path = Path(REAL) / "tiny_coco" / "annotations" / f"instances_{split}.json"
    rng = np.random.default_rng(5)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO(str(path))
    categories = sorted(truth.getCatIds())
    predictions, targets, found = [], [], []
    for image in sorted(truth.getImgIds()):
        anns = truth.loadAnns(truth.getAnnIds(image))
        boxes = np.array([a["bbox"] for a in anns]).reshape(-1, 4)
        masks = [truth.annToMask(a) for a in anns]
        size = [truth.imgs[image][side] for side in ("height", "width")]
        targets.append(
            {
                "boxes": corners(boxes),
                "masks": torch.tensor(np.array(masks).reshape(-1, *size)),
                "labels": torch.tensor(
                    [a["category_id"] for a in anns], dtype=torch.int64
                ),
                "iscrowd": torch.tensor([a["iscrowd"] for a in anns]),
                "area": torch.tensor([a["area"] for a in anns], dtype=torch.float64),
            }
        )
        copies = rng.permutation(np.repeat(np.arange(len(anns)), 3))
        copies = copies[rng.random(len(copies)) < 0.7]
        guess = boxes[copies] + np.tile(boxes[copies, 2:], 2) * rng.normal(
            0, 0.08, (len(copies), 4)
        )
        guess[:, 2:] = np.abs(guess[:, 2:])
        label = np.array([a["category_id"] for a in anns], int)[copies]
        label = np.where(rng.random(len(label)) < 0.1, 1, label)
        score = np.round(rng.random(len(copies)), 2)
        shifted = [
            np.roll(masks[i], rng.integers(-5, 6, 2), (0, 1)).astype(np.uint8)
            for i in copies
        ]
        predictions.append(
            {
                "boxes": corners(guess),
                "masks": torch.tensor(np.array(shifted).reshape(-1, *size)),
                "labels": torch.tensor(label),
                "scores": torch.tensor(score),
            }
        )
        for i in range(len(copies)):
            if iou_type == "bbox":
                region = {"bbox": guess[i].tolist()}
            else:
                region = {"segmentation": rle.encode(np.asfortranarray(shifted[i]))}
            found.append(
                {
                    **region,
                    "image_id": image,
                    "category_id": int(label[i]),
                    "score": float(score[i]),
                }
            )
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = judge(cocoeval.COCOeval(truth, truth.loadRes(found), iou_type))
    evaluator = DetectionEvaluator(iou_type)
    for i in range(0, len(targets), 7):
        evaluator.update(predictions[i : i + 7], targets[i : i + 7])
    result = evaluator.compute()
    assert disagreements(result, evaluation, categories) == []
    assert worst(result, evaluation) <= 1e-9
    assert 0.1 < result["AP"] < 0.9

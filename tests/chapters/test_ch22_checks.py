"""The exercises of chapter 22: mistakes are refused, each for its own reason."""

import math

import pytest
import torch
from torch.nn import functional as F
from torchvision import ops

from course_utils import checks

# Right answers written otherwise.


def count_by_range(sizes, window, step):
    (h, w), total = window, 0
    for rows, columns in sizes:
        down = len(range(0, rows - h + 1, step))
        total += down * len(range(0, columns - w + 1, step))
    return total


def cells_by_convert(boxes, stride, cells):
    center = ops.box_convert(boxes, "xyxy", "cxcywh")[:, :2] / stride
    cell = center.floor().clamp(max=cells - 1)
    return cell.to(torch.int64), center - (cell + 0.5)


def peaks_by_pooling(heat, least):
    if not heat.numel():
        return []
    top = F.max_pool2d(heat[None], 3, 1, 1)[0]
    at = ((heat == top) & (heat >= least)).nonzero()
    order = heat[at[:, 0], at[:, 1]].argsort(descending=True, stable=True)
    return [tuple(pair) for pair in at[order].tolist()]


def kmeans_by_boxes(sizes, anchors):
    def placed(shapes):
        return torch.cat([torch.zeros_like(shapes), shapes], dim=1)

    iou = ops.box_iou(placed(sizes), placed(anchors))
    owner = iou.argmax(dim=1).tolist()
    waiting = iter(sorted(range(len(sizes)), key=lambda n: iou[n].max().item()))
    rows = []
    for j, old in enumerate(anchors):
        mine = [sizes[n] for n, k in enumerate(owner) if k == j]
        if mine:
            rows.append(torch.stack(mine).mean(dim=0))
        else:
            n = next(waiting, None)
            rows.append(old if n is None else sizes[n])
    return torch.stack(rows)


def targets(boxes, side, grid, swap=False, root=True, order="area", last=True):
    """The right answer, and each of its mistakes."""
    target = torch.zeros(5, grid, grid)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    index = torch.arange(len(boxes))
    if order == "area":
        index = area.argsort(stable=True)
    elif order == "falling":
        index = area.argsort(descending=True, stable=True)
    elif order == "earlier":
        index = area.argsort(descending=True, stable=True).flip(0)
    elif order == "width":
        index = (boxes[:, 2] - boxes[:, 0]).argsort(stable=True)
    elif order == "height":
        index = (boxes[:, 3] - boxes[:, 1]).argsort(stable=True)
    elif order == "sum":
        index = (boxes[:, 2:] - boxes[:, :2]).sum(dim=1).argsort(stable=True)
    for x1, y1, x2, y2 in (boxes[index] / side).tolist():
        x, y = (x1 + x2) / 2 * grid, (y1 + y2) / 2 * grid
        column, row = int(x), int(y)
        if last:
            column, row = min(column, grid - 1), min(row, grid - 1)
        w, h = x2 - x1, y2 - y1
        size = [math.sqrt(w), math.sqrt(h)] if root else [w, h]
        values = torch.tensor([1, x - column, y - row, *size])
        if swap:
            target[:, column, row] = values
        else:
            target[:, row, column] = values
    return target


@pytest.mark.parametrize(
    "name, answer",
    [
        ("22.count_windows", count_by_range),
        ("22.center_cells", cells_by_convert),
        ("22.find_peaks", peaks_by_pooling),
        ("22.kmeans_step", kmeans_by_boxes),
        ("22.fixed_targets", targets),
    ],
)
def test_other_right_answers_pass(name, answer):
    verdict = checks.judge(name, answer)
    assert verdict.status == "passed", verdict.text


# Wrong answers, each with words of the verdict that must stop it.


def _count(sizes, window, step, one=1, cut=True, turn=False):
    total, (h, w) = 0, window[::-1] if turn else window
    for rows, columns in sizes:
        down, right = (rows - h) // step + one, (columns - w) // step + one
        total += max(down, 0) * max(right, 0) if cut else down * right
    return total


def _rounded_up(sizes, window, step):
    return sum(
        max(math.ceil((r - window[0]) / step) + 1, 0)
        * max(math.ceil((c - window[1]) / step) + 1, 0)
        for r, c in sizes
    )


def _toward_zero(sizes, window, step):
    """`int` of a quotient between -1 and 0 is 0."""
    return sum(
        max(int((r - window[0]) / step) + 1, 0)
        * max(int((c - window[1]) / step) + 1, 0)
        for r, c in sizes
    )


def _gives_up(sizes, window, step):
    total = 0
    for size in sizes:
        if size[0] < window[0] or size[1] < window[1]:
            return total
        total += count_by_range([size], window, step)
    return total


def _cells(boxes, stride, cells, half=0.5, turn=False, keep=True, rounds=False):
    center = (boxes[:, :2] + boxes[:, 2:]) / 2 / stride
    cell = center.round().long() if rounds else center.long()
    cell = cell.clamp(max=cells - 1) if keep else cell
    offset = center - cell - half
    return (cell.flip(1), offset.flip(1)) if turn else (cell, offset)


def _peaks(heat, least, strict=False, cross=False, sort=True, above=False):
    found = []
    for r in range(heat.shape[0]):
        for c in range(heat.shape[1]):
            near = [
                heat[r + i, c + j].item()
                for i in (-1, 0, 1)
                for j in (-1, 0, 1)
                if (i or j)
                and not (cross and i and j)
                and 0 <= r + i < heat.shape[0]
                and 0 <= c + j < heat.shape[1]
            ]
            v = heat[r, c].item()
            top = max(near, default=-math.inf)
            high = v > top if strict else v >= top
            if high and (v > least if above else v >= least):
                found.append((-v, r, c))
    return [(r, c) for _, r, c in (sorted(found) if sort else found)]


def _wrapping(heat, least):
    """A negative index reads the other side of the map."""
    found = []
    for r in range(heat.shape[0]):
        for c in range(heat.shape[1]):
            near = [
                heat[(r + i) % heat.shape[0], (c + j) % heat.shape[1]].item()
                for i in (-1, 0, 1)
                for j in (-1, 0, 1)
            ]
            v = heat[r, c].item()
            if v >= least and v >= max(near):
                found.append((-v, r, c))
    return [(r, c) for _, r, c in sorted(found)]


def _kmeans(sizes, anchors, near="iou", empty="lowest", last=False):
    inter = torch.minimum(sizes[:, None], anchors).prod(dim=2)
    iou = score = inter / (sizes.prod(1)[:, None] + anchors.prod(1) - inter)
    if near == "pixels":
        score = -torch.cdist(sizes, anchors)
    if near == "turned":
        score = -(sizes.sum(1)[:, None] - anchors.sum(1)).abs()
    owner = score.argmax(dim=1)
    if last:
        owner = len(anchors) - 1 - score.flip(1).argmax(dim=1)
    best = iou.amax(dim=1).tolist()
    waiting = sorted(range(len(sizes)), key=lambda n: best[n])
    if empty == "highest":
        waiting = waiting[::-1]
    if empty == "last":
        waiting = sorted(range(len(sizes)), key=lambda n: (best[n], -n))
    if empty == "order":
        waiting = list(range(len(sizes)))
    rows = []
    for j in range(len(anchors)):
        mine = sizes[owner == j]
        if len(mine) or empty == "nan":
            rows.append(mine.mean(dim=0))
        elif empty == "keep" or not waiting:
            rows.append(anchors[j])
        else:
            rows.append(sizes[waiting[0] if empty == "same" else waiting.pop(0)])
    return torch.stack(rows)


def _in_place(sizes, anchors):
    anchors[:] = kmeans_by_boxes(sizes, anchors)
    return anchors


CHANGES = [
    ("22.count_windows", _count, {"one": 0}, "one window that fits exactly"),
    ("22.count_windows", _count, {"turn": True}, "height and width differ"),
    ("22.count_windows", _count, {"cut": False}, "too low"),
    ("22.count_windows", _rounded_up, {}, "steps of two|does not fit"),
    ("22.count_windows", _toward_zero, {}, "less than a step"),
    ("22.count_windows", _gives_up, {}, "then one that fits"),
    ("22.center_cells", _cells, {"half": 0}, "the example"),
    ("22.center_cells", _cells, {"turn": True}, "the example"),
    ("22.center_cells", _cells, {"keep": False}, "border"),
    ("22.center_cells", _cells, {"rounds": True}, "the example|late|middle"),
    ("22.find_peaks", _peaks, {"strict": True}, "two equal neighbors"),
    ("22.find_peaks", _peaks, {"cross": True}, "across the corner"),
    ("22.find_peaks", _peaks, {"sort": False}, "a single column"),
    ("22.find_peaks", _peaks, {"above": True}, "exactly the least value"),
    ("22.find_peaks", _wrapping, {}, "wrap|single|corner|best"),
    ("22.kmeans_step", _kmeans, {"near": "pixels"}, "near in pixels"),
    ("22.kmeans_step", _kmeans, {"near": "turned"}, "lowest|near in pixels|exchanged"),
    ("22.kmeans_step", _kmeans, {"empty": "nan"}, "no sizes"),
    ("22.kmeans_step", _kmeans, {"empty": "keep"}, "without sizes moves"),
    ("22.kmeans_step", _kmeans, {"empty": "highest"}, "lowest IoU"),
    ("22.kmeans_step", _kmeans, {"empty": "order"}, "lowest IoU"),
    ("22.kmeans_step", _kmeans, {"empty": "same"}, "two anchors without"),
    ("22.kmeans_step", _kmeans, {"empty": "last"}, "equally low"),
    ("22.kmeans_step", _kmeans, {"last": True}, "first of equal anchors"),
    ("22.kmeans_step", _in_place, {}, "one size, one anchor"),
    ("22.fixed_targets", targets, {"swap": True}, "upper right corner"),
    ("22.fixed_targets", targets, {"root": False}, "diagonal"),
    ("22.fixed_targets", targets, {"order": "none"}, "after a large one"),
    ("22.fixed_targets", targets, {"order": "falling"}, "after a"),
    ("22.fixed_targets", targets, {"order": "earlier"}, "later of equal"),
    ("22.fixed_targets", targets, {"order": "width"}, "widest nor"),
    ("22.fixed_targets", targets, {"order": "height"}, "widest nor"),
    ("22.fixed_targets", targets, {"order": "sum"}, "widest nor"),
    ("22.fixed_targets", targets, {"last": False}, "border"),
]


@pytest.mark.parametrize("name, answer, change, words", CHANGES)
def test_wrong_answers_are_refused(name, answer, change, words):
    verdict = checks.judge(name, lambda *args: answer(*args, **change))
    assert verdict.status == "failed"
    assert any(word in verdict.text for word in words.split("|")), verdict.text

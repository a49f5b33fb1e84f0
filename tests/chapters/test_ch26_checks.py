"""The exercises of chapter 26: mistakes are refused, each for its own reason."""

import math

import pytest
import torch
import torch.nn.functional as F
from torchvision import ops
from torchvision.models.detection._utils import BoxCoder, Matcher

from course_utils import checks

LIMIT = math.log(1000 / 16)


# Right answers written otherwise.


def decode_library(offsets, proposals):
    coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
    return coder.decode_single(offsets, proposals).unflatten(1, (-1, 4))


def match_library(iou, high, low):
    if len(iou) == 0:
        return -torch.ones(iou.shape[1], dtype=torch.int64)
    return Matcher(high, low, allow_low_quality_matches=True)(iou)


def recall_loop(proposals, boxes, tops, threshold):
    iou = ops.box_iou(boxes, proposals)
    found = []
    for top in tops:
        hits = [any(value >= threshold for value in row[:top]) for row in iou.tolist()]
        found.append(sum(hits) / len(hits) if hits else 1.0)
    return found


def labels_by_score(verdict, anchors, height, width, total, generator):
    """Draws by random scores instead of a permutation."""
    x1, y1, x2, y2 = anchors.unbind(1)
    inside = (x1 >= 0) & (y1 >= 0) & (x2 <= width) & (y2 <= height)
    score = torch.rand(len(verdict), generator=generator)
    labels = torch.full((len(verdict),), -1.0)
    positive = (verdict >= 0) & inside
    negative = (verdict == -1) & inside
    n = min(int(positive.sum()), total // 2)
    m = min(int(negative.sum()), total - n)
    labels[(score + positive).topk(n).indices] = 1
    labels[(score + negative).topk(m).indices] = 0
    return labels


def paste_pixels(mask, box, height, width):
    x1, y1, x2, y2 = box.tolist()
    xs = [2 * (j + 0.5 - x1) / (x2 - x1) - 1 for j in range(width)]
    ys = [2 * (i + 0.5 - y1) / (y2 - y1) - 1 for i in range(height)]
    grid = torch.tensor([[[x, y] for x in xs] for y in ys])[None]
    return F.grid_sample(mask[None, None], grid, align_corners=False)[0, 0]


@pytest.mark.parametrize(
    "name, answer",
    [
        ("26.decode_classes", decode_library),
        ("26.fixed_match", match_library),
        ("26.proposal_recall", recall_loop),
        ("26.anchor_labels", labels_by_score),
        ("26.paste_exact", paste_pixels),
    ],
)
def test_other_right_answers_pass(name, answer):
    verdict = checks.judge(name, answer)
    assert verdict.status == "passed", verdict.text


# Wrong answers, each with words of the verdict that must stop it.


def _count(height, width, strides, per_place, pad=32, up=True):
    height, width = (math.ceil(n / pad) * pad for n in (height, width))
    cells = (lambda n, s: math.ceil(n / s)) if up else (lambda n, s: n // s)
    return per_place * sum(cells(height, s) * cells(width, s) for s in strides)


def count_no_padding(height, width, strides, per_place):
    return _count(height, width, strides, per_place, pad=1)


def count_floor(height, width, strides, per_place):
    return _count(height, width, strides, per_place, up=False)


def count_places(height, width, strides, per_place):
    return _count(height, width, strides, 1)


def count_square(height, width, strides, per_place):
    return _count(height, height, strides, per_place)


def count_one_more(height, width, strides, per_place):
    return _count(height + 32, width + 32, strides, per_place)


def _decode(
    offsets, proposals, weights=(10, 10, 5, 5), early=False, both=False, limit=LIMIT
):
    n, k = len(offsets), offsets.shape[1] // 4
    raw = offsets.reshape(n, k, 4)
    if early:
        raw = torch.cat([raw[..., :2], raw[..., 2:].clamp(max=LIMIT)], dim=2)
    x, y, w, h = ops.box_convert(proposals, "xyxy", "cxcywh")[:, None].unbind(2)
    tx, ty, tw, th = (raw / raw.new_tensor(weights)).unbind(2)
    if not early:
        least = -LIMIT if both else None
        tw, th = tw.clamp(least, limit), th.clamp(least, limit)
    parts = [x + tx * w, y + ty * h, w * tw.exp(), h * th.exp()]
    return ops.box_convert(torch.stack(parts, dim=2), "cxcywh", "xyxy")


def decode_no_weights(offsets, proposals):
    return _decode(offsets, proposals, weights=(1, 1, 1, 1))


def decode_cut_early(offsets, proposals):
    return _decode(offsets, proposals, early=True)


def decode_cut_both_sides(offsets, proposals):
    return _decode(offsets, proposals, weights=(10, 10, 5, 5), both=True)


def decode_all_cut(offsets, proposals):
    weights = offsets.new_tensor([10, 10, 5, 5]).repeat(offsets.shape[1] // 4)
    return _decode((offsets / weights).clamp(max=LIMIT) * weights, proposals)


def decode_not_cut(offsets, proposals):
    return _decode(offsets, proposals, limit=1e9)


def decode_interleaved(offsets, proposals):
    n, k = len(offsets), offsets.shape[1] // 4
    mixed = offsets.reshape(n, 4, k).transpose(1, 2).reshape(n, -1)
    return _decode(mixed, proposals)


def decode_cxcywh(offsets, proposals):
    return ops.box_convert(_decode(offsets, proposals), "xyxy", "cxcywh")


def decode_infer_size(offsets, proposals):
    if not len(offsets):
        offsets.reshape(0, -1, 4)
    return _decode(offsets, proposals)


def _match(iou, high, low, strict=False, first=False, empty=True, own=False):
    if len(iou) == 0 and empty:
        return torch.full((iou.shape[1],), -1)
    best, owner = iou.max(dim=0)
    result = torch.where(best > high if strict else best >= high, owner, -2)
    result[best < low] = -1
    if first:
        favorite = iou.argmax(dim=1)
        result[favorite] = owner[favorite]
    elif own:
        rows, columns = (iou == iou.amax(1, keepdim=True)).nonzero().T
        result[columns] = rows
    else:
        favorite = (iou == iou.amax(1, keepdim=True)).any(0)
        result[favorite] = owner[favorite]
    return result


def match_as_given(iou, high, low):
    best, owner = iou.max(dim=0)
    result = torch.where(best > high, owner, -2)
    result[best < low] = -1
    favorite = iou.argmax(dim=1)
    result[favorite] = owner[favorite]
    return result


def match_strict(iou, high, low):
    return _match(iou, high, low, strict=True)


def match_first_tie(iou, high, low):
    return _match(iou, high, low, first=True)


def match_no_empty(iou, high, low):
    return _match(iou, high, low, empty=False)


def match_guarantee(iou, high, low):
    return _match(iou, high, low, own=True)


def match_only_overlapping(iou, high, low):
    result = _match(iou, high, low)
    if len(iou):
        result[iou.amax(0) == 0] = -1
    return result


def match_low_included(iou, high, low):
    result = _match(iou, high, low)
    best = iou.amax(0) if len(iou) else torch.zeros(iou.shape[1])
    result[(best == low) & (result == -2)] = -1
    return result


def _recall(proposals, boxes, tops, threshold, strict=False, axis=0, at_end=False):
    if len(boxes) == 0:
        return [1.0] * len(tops)
    iou = ops.box_iou(proposals, boxes)
    covers = iou > threshold if strict else iou >= threshold
    found = []
    for top in tops:
        part = covers[-top:] if at_end and top else covers[:top]
        found.append(part.any(dim=axis).float().mean().item())
    return found


def recall_strict(proposals, boxes, tops, threshold):
    return _recall(proposals, boxes, tops, threshold, strict=True)


def recall_is_precision(proposals, boxes, tops, threshold):
    return _recall(proposals, boxes, tops, threshold, axis=1)


def recall_of_all(proposals, boxes, tops, threshold):
    return _recall(proposals, boxes, [len(proposals)] * len(tops), threshold)


def recall_last(proposals, boxes, tops, threshold):
    return _recall(proposals, boxes, tops, threshold, at_end=True)


def recall_growing(proposals, boxes, tops, threshold):
    """Goes on where the number before ended: right for numbers that rise."""
    if len(boxes) == 0:
        return [1.0] * len(tops)
    covers = ops.box_iou(proposals, boxes) >= threshold
    found, last, shares = torch.zeros(len(boxes), dtype=torch.bool), 0, []
    for top in tops:
        found, last = found | covers[last:top].any(dim=0), top
        shares.append(found.float().mean().item())
    return shares


def recall_single(proposals, boxes, tops, threshold):
    """Each proposal counts for one object."""
    if len(boxes) == 0 or len(proposals) == 0:
        return [float(len(boxes) == 0)] * len(tops)
    best, owner = ops.box_iou(proposals, boxes).max(dim=1)
    hits = [owner[:top][best[:top] >= threshold].unique() for top in tops]
    return [len(hit) / len(boxes) for hit in hits]


def recall_nan(proposals, boxes, tops, threshold):
    covers = ops.box_iou(proposals, boxes) >= threshold
    return [covers[:top].any(dim=0).float().mean().item() for top in tops]


def _labels(verdict, anchors, height, width, total, generator, **how):
    limit = anchors.new_tensor([width, height][:: -1 if how.get("swap") else 1])
    if how.get("strict"):
        inside = (anchors[:, :2] > 0).all(1) & (anchors[:, 2:] < limit).all(1)
    else:
        inside = (anchors[:, :2] >= 0).all(1) & (anchors[:, 2:] <= limit).all(1)
    if how.get("keep"):
        inside = torch.ones_like(inside)
    labels = torch.full(verdict.shape, -1.0)
    room = total // 2
    least = 1 if how.get("later") else 0
    for value, rows in ((1.0, verdict >= least), (0.0, verdict == -1)):
        index = (rows & inside).nonzero()[:, 0]
        order = torch.randperm(len(index), generator=generator)
        if how.get("first"):
            order = torch.arange(len(index))
        chosen = index[order[:room]]
        labels[chosen] = value
        room = total // 2 if how.get("half") else total - len(chosen)
    return labels


def labels_strict(*args):
    return _labels(*args, strict=True)


def labels_keep_all(*args):
    return _labels(*args, keep=True)


def labels_swapped(*args):
    return _labels(*args, swap=True)


def labels_half(*args):
    return _labels(*args, half=True)


def labels_first(*args):
    return _labels(*args, first=True)


def labels_later(*args):
    return _labels(*args, later=True)


def labels_unseeded(*args):
    return _labels(*args[:-1], None)


def labels_integers(*args):
    return _labels(*args).long()


def _paste(mask, box, height, width, half=0.5, corners=False, swap=False, pad="zeros"):
    x1, y1, x2, y2 = box
    x = (torch.arange(width) + half - x1) / (x2 - x1) * 2 - 1
    y = (torch.arange(height) + half - y1) / (y2 - y1) * 2 - 1
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    grid = torch.stack([rows, columns] if swap else [columns, rows], dim=2)[None]
    mask = mask[None, None]
    return F.grid_sample(mask, grid, align_corners=corners, padding_mode=pad)[0, 0]


def paste_no_center(mask, box, height, width):
    return _paste(mask, box, height, width, half=0.0)


def paste_corners(mask, box, height, width):
    return _paste(mask, box, height, width, corners=True)


def paste_swapped(mask, box, height, width):
    return _paste(mask, box, height, width, swap=True)


def paste_border(mask, box, height, width):
    return _paste(mask, box, height, width, pad="border")


def paste_rounded(mask, box, height, width):
    return _paste(mask, box.round(), height, width)


def paste_transposed(mask, box, height, width):
    return _paste(mask, box, height, width).T


WRONG = [
    ("26.count_anchors", count_no_padding, "to be padded"),
    ("26.count_anchors", count_floor, "does not divide"),
    ("26.count_anchors", count_places, "three anchors"),
    ("26.count_anchors", count_square, "differ"),
    ("26.count_anchors", count_one_more, "nothing to pad"),
    ("26.decode_classes", decode_no_weights, "shift"),
    ("26.decode_classes", decode_cut_early, "that is cut"),
    ("26.decode_classes", decode_cut_both_sides, "very small"),
    ("26.decode_classes", decode_all_cut, "far to the right"),
    ("26.decode_classes", decode_not_cut, "is cut"),
    ("26.decode_classes", decode_interleaved, "two classes"),
    ("26.decode_classes", decode_cxcywh, "the proposal"),
    ("26.decode_classes", decode_infer_size, "no proposals"),
    ("26.fixed_match", match_as_given, "upper threshold"),
    ("26.fixed_match", match_strict, "upper threshold"),
    ("26.fixed_match", match_first_tie, "tie"),
    ("26.fixed_match", match_no_empty, "no object"),
    ("26.fixed_match", match_guarantee, "shared favorite"),
    ("26.fixed_match", match_only_overlapping, "no anchor overlaps"),
    ("26.fixed_match", match_low_included, "lower threshold"),
    ("26.proposal_recall", recall_strict, "equal to the threshold"),
    ("26.proposal_recall", recall_is_precision, "second one"),
    ("26.proposal_recall", recall_of_all, "second one"),
    ("26.proposal_recall", recall_last, "second one"),
    ("26.proposal_recall", recall_growing, "numbers that fall"),
    ("26.proposal_recall", recall_single, "covers two objects"),
    ("26.proposal_recall", recall_nan, "no objects"),
    ("26.anchor_labels", labels_strict, "touches"),
    ("26.anchor_labels", labels_keep_all, "leaves the picture"),
    ("26.anchor_labels", labels_swapped, "touches"),
    ("26.anchor_labels", labels_half, "negatives"),
    ("26.anchor_labels", labels_first, "must be drawn"),
    ("26.anchor_labels", labels_later, "positive"),
    ("26.anchor_labels", labels_unseeded, "same generator"),
    ("26.anchor_labels", labels_integers, "float32"),
    ("26.paste_exact", paste_no_center, "mask's size"),
    ("26.paste_exact", paste_corners, "mask's size"),
    ("26.paste_exact", paste_swapped, "mask's size"),
    ("26.paste_exact", paste_border, "moved"),
    ("26.paste_exact", paste_rounded, "between"),
    ("26.paste_exact", paste_transposed, "mask's size"),
]


@pytest.mark.parametrize(
    "name, answer, words", WRONG, ids=[answer.__name__ for _, answer, _ in WRONG]
)
def test_mistakes_are_refused(name, answer, words):
    verdict = checks.judge(name, answer)
    assert verdict.status == "failed"
    assert words in verdict.text, verdict.text

"""The exercises of chapter 24: mistakes are refused, each for its own reason."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.autograd import forward_ad
from torchvision import ops

from course_utils import checks
from course_utils.detection import box_ops

# Right answers written otherwise.


def slope_where(z, beta):
    if beta == 0:
        return torch.sign(z)
    return torch.where(z.abs() < beta, z / beta, z.sign())


def slope_clamped(z, beta):
    return z.clamp(-beta, beta) / beta if beta else torch.sign(z)


def decode_factors(offsets, anchors):
    size = anchors[:, 2:] - anchors[:, :2]
    center = (anchors[:, :2] + anchors[:, 2:]) / 2 + offsets[:, :2] * size
    half = size * offsets[:, 2:].exp().clamp(max=1000 / 16) / 2
    return torch.cat([center - half, center + half], dim=1)


def giou_repeated(a, b):
    rows, columns = a.repeat_interleave(len(b), 0), b.repeat(len(a), 1)
    loss = ops.generalized_box_iou_loss(rows, columns, eps=0.0)
    return (1 - loss).reshape(len(a), len(b))


def iou_slope_quotient(boxes, targets):
    """From d(I/U) with U' = A' - I', each edge on its own."""
    lt, rb = (
        torch.maximum(boxes, targets)[:, :2],
        torch.minimum(boxes, targets)[:, 2:],
    )
    w, h = (rb - lt).relu().unbind(1)
    size = boxes[:, 2:] - boxes[:, :2]
    inter = w * h
    union = size.prod(1) + (targets[:, 2:] - targets[:, :2]).prod(1) - inter
    slopes = []
    for edge in range(4):
        sign, across = (-1 if edge < 2 else 1), (h if edge % 2 == 0 else w)
        bound = boxes[:, edge] == (lt if edge < 2 else rb)[:, edge % 2]
        inner = sign * across * bound * (inter > 0)
        own = sign * size[:, 1 - edge % 2]
        slopes.append(inter * (own - inner) / union**2 - inner / union)
    return torch.stack(slopes, dim=1)


def giou_library(a, b):
    return ops.generalized_box_iou(a, b)


def eiou_by_hand(boxes, targets):
    low, high = torch.minimum(boxes, targets), torch.maximum(boxes, targets)
    hull = high[:, 2:] - low[:, :2]
    sizes = [b[:, 2:] - b[:, :2] for b in (boxes, targets)]
    inter = (low[:, 2:] - high[:, :2]).relu().prod(1)
    iou = inter / (sizes[0].prod(1) + sizes[1].prod(1) - inter)
    apart = (boxes - targets).unflatten(1, (2, 2)).mean(1).square().sum(1)
    shape = ((sizes[0] - sizes[1]).square() / hull.square()).sum(1)
    return 1 - iou + apart / hull.square().sum(1) + shape


@pytest.mark.parametrize(
    "name, answer",
    [
        ("24.smooth_l1_slope", slope_where),
        ("24.smooth_l1_slope", slope_clamped),
        ("24.decode", decode_factors),
        ("24.giou_table", giou_library),
        ("24.giou_table", giou_repeated),
        ("24.iou_slope", iou_slope_quotient),
        ("24.fixed_ciou", box_ops.complete_box_iou_loss),
        ("24.fixed_ciou", ops.complete_box_iou_loss),
        ("24.eiou_loss", eiou_by_hand),
    ],
)
def test_other_right_answers_pass(name, answer):
    verdict = checks.judge(name, answer)
    assert verdict.status == "passed", verdict.text


# Wrong answers, each with words of the verdict that must stop it.


def slope_of_huber(z, beta):
    return z.clamp(-beta, beta) if beta else z.sign()


def slope_no_zero(z, beta):
    return (z / beta).clamp(-1, 1)


def slope_value(z, beta):
    return F.smooth_l1_loss(z, torch.zeros_like(z), reduction="none", beta=beta)


def slope_autograd(z, beta):
    leaf = z.clone().requires_grad_()
    zero = torch.zeros_like(z)
    loss = F.smooth_l1_loss(leaf, zero, reduction="sum", beta=beta)
    return torch.autograd.grad(loss, leaf)[0]


def slope_autograd_set(z, beta):
    leaf = z.clone()
    leaf.requires_grad = True
    loss = F.smooth_l1_loss(leaf, torch.zeros_like(z), reduction="sum", beta=beta)
    return torch.autograd.grad(loss, leaf)[0]


def _forward(loss, values, tangent):
    """The change of a loss along a direction, by forward-mode autograd."""
    with forward_ad.dual_level():
        dual = loss(forward_ad.make_dual(values, tangent))
        return forward_ad.unpack_dual(dual).tangent


def slope_forward(z, beta):
    zero = torch.zeros_like(z)

    def loss(values):
        return F.smooth_l1_loss(values, zero, reduction="none", beta=beta)

    return _forward(loss, z, torch.ones_like(z))


def slope_seam_at_one(z, beta):
    return torch.where(z.abs() < 1, z / beta if beta else z.sign(), z.sign())


def slope_in_place(z, beta):
    return z.div_(beta).clamp_(-1, 1) if beta else z.sign_()


def slope_unsigned(z, beta):
    return (z.abs() / beta).clamp(max=1) if beta else (z != 0).to(z.dtype)


LIMIT = math.log(1000 / 16)


def _decoded(offsets, anchors, limit=LIMIT, own=False, corner=False):
    x, y, w, h = ops.box_convert(anchors, "xyxy", "cxcywh").unbind(1)
    if corner:
        x, y = anchors[:, 0], anchors[:, 1]
    tx, ty, tw, th = offsets.unbind(1)
    width, height = w * tw.clamp(max=limit).exp(), h * th.clamp(max=limit).exp()
    unit = (width, height) if own else (w, h)
    center = [x + tx * unit[0], y + ty * unit[1]]
    form = "xywh" if corner else "cxcywh"
    boxes = torch.stack([*center, width, height], dim=1)
    return ops.box_convert(boxes, form, "xyxy")


def decode_no_limit(offsets, anchors):
    return _decoded(offsets, anchors, limit=1e9)


def decode_own_unit(offsets, anchors):
    return _decoded(offsets, anchors, own=True)


def decode_from_corner(offsets, anchors):
    return _decoded(offsets, anchors, corner=True)


def decode_cxcywh(offsets, anchors):
    return ops.box_convert(_decoded(offsets, anchors), "xyxy", "cxcywh")


def decode_both_sides(offsets, anchors):
    cut = torch.cat([offsets[:, :2], offsets[:, 2:].clamp(-LIMIT, LIMIT)], dim=1)
    return _decoded(cut, anchors)


def decode_cut_all(offsets, anchors):
    return _decoded(offsets.clamp(max=LIMIT), anchors)


def decode_cut_pixels(offsets, anchors):
    x1, y1, x2, y2 = _decoded(offsets, anchors, limit=50.0).unbind(1)
    size = [(x2 - x1).clamp(max=1000), (y2 - y1).clamp(max=1000)]
    boxes = torch.stack([(x1 + x2) / 2, (y1 + y2) / 2, *size], dim=1)
    return ops.box_convert(boxes, "cxcywh", "xyxy")


def decode_width_only(offsets, anchors):
    x, y, w, h = ops.box_convert(anchors, "xyxy", "cxcywh").unbind(1)
    tx, ty, tw, th = offsets.unbind(1)
    size = [w * tw.clamp(max=LIMIT).exp(), h * th.exp()]
    boxes = torch.stack([x + tx * w, y + ty * h, *size], dim=1)
    return ops.box_convert(boxes, "cxcywh", "xyxy")


def giou_pairs(a, b):
    return 1 - ops.generalized_box_iou_loss(a, b)


def giou_loss_table(a, b):
    return 1 - ops.generalized_box_iou(a, b)


def giou_transposed(a, b):
    return ops.generalized_box_iou(b, a)


def giou_no_clamp(a, b, late=False):
    a, b = a[:, None], b[None]
    inner = torch.minimum(a, b)[..., 2:] - torch.maximum(a, b)[..., :2]
    outer = torch.maximum(a, b)[..., 2:] - torch.minimum(a, b)[..., :2]
    inter, hull = inner.prod(-1), outer.prod(-1)
    inter = inter.clamp(min=0) if late else inter
    areas = [(x[..., 2:] - x[..., :2]).prod(-1) for x in (a, b)]
    union = areas[0] + areas[1] - inter
    return inter / union - (hull - union) / hull


def giou_late_clamp(a, b):
    return giou_no_clamp(a, b, late=True)


def giou_one_loop(a, b):
    rows = [ops.generalized_box_iou(row[None], b)[0] for row in a]
    return torch.stack(rows) if rows else torch.zeros(0, len(b))


def giou_arrays(a, b):
    rows = [[_giou_of(p, q) for q in np.asarray(b)] for p in np.asarray(a)]
    return torch.tensor(rows, dtype=a.dtype).reshape(len(a), len(b))


def _giou_of(p, q):
    pair = torch.tensor(np.array([p, q], dtype=np.float64))
    return ops.generalized_box_iou(pair[:1], pair[1:]).item()


def giou_not_negative(a, b):
    return ops.generalized_box_iou(a, b).clamp(min=0)


def giou_over_union(a, b):
    iou = ops.box_iou(a, b)
    outer = (
        torch.maximum(a[:, None], b)[..., 2:] - torch.minimum(a[:, None], b)[..., :2]
    )
    hull = outer.prod(-1)
    areas = ops.box_area(a)[:, None] + ops.box_area(b)
    union = areas / (1 + iou)
    return iou - (hull - union) / union


def _ciou(boxes, targets, clamp=True, center=True, detach=True, late=False):
    inner = torch.minimum(boxes, targets)[:, 2:] - torch.maximum(boxes, targets)[:, :2]
    inter = (inner.clamp(min=0) if clamp else inner).prod(1)
    inter = inter.clamp(min=0) if late else inter
    sizes = [b[:, 2:] - b[:, :2] for b in (boxes, targets)]
    iou = inter / (sizes[0].prod(1) + sizes[1].prod(1) - inter)
    outer = torch.maximum(boxes, targets)[:, 2:] - torch.minimum(boxes, targets)[:, :2]
    gap = boxes - targets
    apart = (gap[:, :2] + gap[:, 2:]) / 2 if center else gap[:, :2]
    angles = [(s[:, 0] / s[:, 1]).atan() for s in sizes]
    v = 4 / math.pi**2 * (angles[0] - angles[1]).square()
    alpha = v / (1 - iou + v)
    alpha = alpha.detach() if detach else alpha
    return 1 - iou + apart.square().sum(1) / outer.square().sum(1) + alpha * v


def ciou_as_given(boxes, targets):
    return _ciou(boxes, targets, clamp=False, center=False, detach=False)


def ciou_no_clamp(boxes, targets):
    return _ciou(boxes, targets, clamp=False)


def ciou_late_clamp(boxes, targets):
    return _ciou(boxes, targets, clamp=False, late=True)


def ciou_of_corners(boxes, targets):
    return _ciou(boxes, targets, center=False)


def ciou_through(boxes, targets):
    return _ciou(boxes, targets, detach=False)


def ciou_v_detached(boxes, targets):
    diou = ops.distance_box_iou_loss(boxes, targets, eps=0.0)
    return diou + (_ciou(boxes, targets) - diou).detach()


def ciou_hull_constant(boxes, targets):
    value = _ciou(boxes, targets)
    low, high = torch.minimum(boxes, targets), torch.maximum(boxes, targets)
    hull = (high[:, 2:] - low[:, :2]).square().sum(1)
    gap = boxes - targets
    apart = ((gap[:, :2] + gap[:, 2:]) / 2).square().sum(1)
    return value - apart / hull + apart / hull.detach()


def ciou_zero_below_half(boxes, targets):
    diou = ops.distance_box_iou_loss(boxes, targets, eps=0.0)
    close = ops.box_iou(boxes, targets).diagonal() >= 0.5
    return torch.where(close, _ciou(boxes, targets), diou)


def ciou_mean(boxes, targets):
    return _ciou(boxes, targets).mean()


def _iou_slope(boxes, targets, bound=True, inside=True, sign=-1, own=True):
    low, high = torch.maximum(boxes, targets), torch.minimum(boxes, targets)
    w, h = (high[:, 2:] - low[:, :2]).clamp(min=0).unbind(1)
    own_w, own_h = (boxes[:, 2:] - boxes[:, :2]).unbind(1)
    inter = (w * h)[:, None]
    area = (targets[:, 2:] - targets[:, :2]).prod(1)
    union = (own_w * own_h + area)[:, None] - inter
    edge = torch.cat([boxes[:, :2] > targets[:, :2], boxes[:, 2:] < targets[:, 2:]], 1)
    d_inter = torch.stack([-h, -w, h, w], dim=1)
    d_inter = d_inter * edge if bound else d_inter
    d_inter = d_inter * (inter > 0) if inside else d_inter
    d_area = torch.stack([-own_h, -own_w, own_h, own_w], dim=1) * own
    return sign * (d_inter * union - inter * (d_area - d_inter)) / union**2


def iou_slope_every_edge(boxes, targets):
    return _iou_slope(boxes, targets, bound=False)


def iou_slope_apart(boxes, targets):
    return _iou_slope(boxes, targets, inside=False)


def _masked(boxes, targets, side):
    """Asks one side alone whether the boxes meet."""
    inner = torch.minimum(boxes, targets)[:, 2:] - torch.maximum(boxes, targets)[:, :2]
    meet = (inner[:, side] > 0)[:, None]
    return _iou_slope(boxes, targets, inside=False) * meet


def iou_slope_width_alone(boxes, targets):
    return _masked(boxes, targets, 0)


def iou_slope_height_alone(boxes, targets):
    return _masked(boxes, targets, 1)


def iou_slope_forward(boxes, targets):
    def loss(values):
        return box_ops.iou_loss(values, targets)

    rows = torch.eye(4, dtype=boxes.dtype)
    tangents = [row.expand_as(boxes) for row in rows]
    found = [_forward(loss, boxes, t) for t in tangents]
    return torch.stack(found, dim=1)


def iou_slope_sign(boxes, targets):
    return _iou_slope(boxes, targets, sign=1)


def iou_slope_no_area(boxes, targets):
    return _iou_slope(boxes, targets, own=False)


def iou_slope_autograd(boxes, targets):
    leaf = boxes.detach().clone().requires_grad_()
    with torch.enable_grad():
        loss = box_ops.iou_loss(leaf, targets).sum()
    return torch.autograd.grad(loss, leaf)[0]


def _eiou(boxes, targets, by=None, square=True):
    diou = ops.distance_box_iou_loss(boxes, targets, eps=0.0)
    low, high = torch.minimum(boxes, targets), torch.maximum(boxes, targets)
    hull = high[:, 2:] - low[:, :2] if by is None else by
    gap = (boxes[:, 2:] - boxes[:, :2]) - (targets[:, 2:] - targets[:, :2])
    share = gap / hull
    return diou + (share.square() if square else share.abs()).sum(1)


def eiou_by_target(boxes, targets):
    return _eiou(boxes, targets, by=targets[:, 2:] - targets[:, :2])


def eiou_not_squared(boxes, targets):
    return _eiou(boxes, targets, square=False)


def eiou_by_diagonal(boxes, targets):
    low, high = torch.minimum(boxes, targets), torch.maximum(boxes, targets)
    diagonal = (high[:, 2:] - low[:, :2]).square().sum(1, keepdim=True).sqrt()
    return _eiou(boxes, targets, by=diagonal)


def eiou_swapped(boxes, targets):
    low, high = torch.minimum(boxes, targets), torch.maximum(boxes, targets)
    return _eiou(boxes, targets, by=(high[:, 2:] - low[:, :2]).flip(1))


def eiou_from_giou(boxes, targets):
    diou = ops.distance_box_iou_loss(boxes, targets, eps=0.0)
    giou = ops.generalized_box_iou_loss(boxes, targets, eps=0.0)
    return _eiou(boxes, targets) - diou + giou


def eiou_ciou(boxes, targets):
    return ops.complete_box_iou_loss(boxes, targets)


def eiou_constant(boxes, targets):
    return _eiou(boxes, targets).detach()


def eiou_hull_constant(boxes, targets):
    low, high = torch.minimum(boxes, targets), torch.maximum(boxes, targets)
    return _eiou(boxes, targets, by=(high[:, 2:] - low[:, :2]).detach())


WRONG = {
    "24.smooth_l1_slope": {
        slope_of_huber: "a beta below 1",
        slope_no_zero: "beta 0",
        slope_value: "far outside",
        slope_autograd: "write the slope by hand",
        slope_autograd_set: "write the slope by hand",
        slope_unsigned: "far outside",
        slope_forward: "write the slope by hand",
        slope_seam_at_one: "a beta below 1",
        slope_in_place: "input was changed",
    },
    "24.decode": {
        decode_no_limit: "far too wide",
        decode_own_unit: "shifted and wider",
        decode_from_corner: "twice as wide",
        decode_cxcywh: "offsets of 0",
        decode_both_sides: "very narrow",
        decode_width_only: "far too high",
        decode_cut_all: "a far shift",
        decode_cut_pixels: "far too wide",
    },
    "24.giou_table": {
        giou_pairs: "shape (1,), expected (1, 1)",
        giou_loss_table: "one box with itself",
        giou_transposed: "two with three",
        giou_no_clamp: "apart in one direction",
        giou_late_clamp: "apart in both directions",
        giou_over_union: "two that overlap",
        giou_one_loop: "use broadcasting",
        giou_arrays: "stay with tensors",
        giou_not_negative: "two that overlap",
    },
    "24.fixed_ciou": {
        ciou_as_given: "a smaller box",
        ciou_no_clamp: "apart in one direction",
        ciou_late_clamp: "apart in both directions",
        ciou_of_corners: "a smaller box",
        ciou_through: "which factor is a constant",
        ciou_v_detached: "which factor is a constant",
        ciou_hull_constant: "which factor is a constant",
        ciou_zero_below_half: "another shape",
        ciou_mean: "shape (), expected (1,)",
    },
    "24.iou_slope": {
        iou_slope_every_edge: "right lower corner",
        iou_slope_apart: "apart along x",
        iou_slope_width_alone: "apart along y",
        iou_slope_height_alone: "apart along x",
        iou_slope_forward: "write the slope by hand",
        iou_slope_sign: "right lower corner",
        iou_slope_no_area: "right lower corner",
        iou_slope_autograd: "write the slope by hand",
    },
    "24.eiou_loss": {
        eiou_by_target: "too wide",
        eiou_not_squared: "half the size",
        eiou_by_diagonal: "half the size",
        eiou_ciou: "half the size",
        eiou_swapped: "too wide",
        eiou_from_giou: "only shifted",
        eiou_constant: "cut off from the graph",
        eiou_hull_constant: "the gradient is not",
    },
}


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
@pytest.mark.parametrize(
    "name, answer, says",
    [(n, a, s) for n, answers in WRONG.items() for a, s in answers.items()],
)
def test_mistakes_are_refused(name, answer, says):
    verdict = checks.judge(name, answer)
    assert verdict.status == "failed", verdict.text
    failure = verdict.text.split("not yet: ")[1]
    assert says in failure, verdict.text

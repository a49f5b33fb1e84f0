"""Chapter 24's losses against the library's, values and gradients, and that it bites.

The functions come out of the notebook. The library adds 1e-7 to its denominators, so
boxes of about a pixel or more agree to that; tiny boxes are compared with the library's
result for the same boxes made large, which must be equal because every loss of this
family ignores the scale.
"""

import ast
import inspect
import math

import pytest
import torch
import torch.nn.functional as F
from torchvision import ops
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import ciou_loss as library_source
from torchvision.ops._utils import _loss_inter_union

from booktools import chapter_code
from course_utils.detection import box_ops

CHAPTER = "24_box_losses"
NAMES = [
    *("smooth_l1", "encode", "overlap", "iou_loss", "slopes", "enclosing"),
    *("giou_loss", "distance_share", "diou_loss", "shape_gap", "ciou_loss"),
    *("ciou_loss_through", "corners", "cross", "alpha_of"),
]
OURS = chapter_code.definitions(CHAPTER, *NAMES)
WITHIN = {torch.float32: 3e-6, torch.float64: 3e-7}
DTYPES = pytest.mark.parametrize("dtype", WITHIN, ids=str)


def iou_library(boxes, targets, reduction="none"):
    """torchvision has no IoU loss, but the parts that its other losses share.

    (Its ``box_iou`` has the same values, and slopes that depend on torch's version
    where boxes touch: those of ``clamp`` at its border.)
    """
    inter, union = _loss_inter_union(boxes, targets)
    loss = 1 - inter / union.masked_fill(union == 0, 1)
    return loss if reduction == "none" else getattr(loss, reduction)()


LOSSES = {
    "iou_loss": (iou_library, box_ops.iou_loss),
    "giou_loss": (
        ops.generalized_box_iou_loss,
        box_ops.generalized_box_iou_loss,
    ),
    "diou_loss": (ops.distance_box_iou_loss, box_ops.distance_box_iou_loss),
    "ciou_loss": (ops.complete_box_iou_loss, box_ops.complete_box_iou_loss),
}


pytestmark = pytest.mark.usefixtures("one_thread")


# --- the boxes they are tried on -----------------------------------------------------


def whole(n, seed):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.randint(12, (n, 2), generator=generator)
    size = torch.randint(1, 12, (n, 2), generator=generator)
    return torch.cat([corner, corner + size], dim=1).double()


def generic(n, seed):
    generator = torch.Generator().manual_seed(100 + seed)
    return whole(n, seed) + 0.3 * torch.rand(n, 4, generator=generator).double()


def inside(n, seed):
    share = torch.tensor([0.25, 0.5, -0.25, -0.125], dtype=torch.float64)
    boxes = generic(n, seed)
    size = boxes[:, 2:] - boxes[:, :2]
    return boxes + share * torch.cat([size, size], dim=1)


AWAY = torch.tensor([64.0, -32, 64, -32], dtype=torch.float64)
SETS = {
    "generic": lambda: (generic(200, 1), generic(200, 2)),
    "ties": lambda: (whole(400, 1), whole(400, 2)),
    "apart": lambda: (whole(50, 1) + AWAY, whole(50, 2)),
    "inside": lambda: (inside(50, 1), generic(50, 1)),
    "around": lambda: (generic(50, 1), inside(50, 1)),
    "identical": lambda: (whole(30, 1), whole(30, 1)),
    "none": lambda: (whole(0, 1), whole(0, 2)),
    "one": lambda: (generic(1, 1), generic(1, 2)),
    "huge": lambda: (whole(50, 1) * 2**17, whole(50, 2) * 2**17),
    "strided": lambda: (generic(40, 1).T.contiguous().T, generic(80, 2)[::2]),
}
SCALE = 2.0**-14  # exact in binary, so that ties stay ties


def gap(a, b) -> float:
    """The largest difference relative to the largest absolute value of ``b``.

    It is absolute where that is below 1e-6: the library's 1e-7 leaves such traces
    where the right value is 0.
    """
    assert a.shape == b.shape and a.dtype == b.dtype
    if not b.numel():
        return 0.0
    size = b.abs().max().item()
    worst = (a - b).abs().max().item() / (size if size > 1e-6 else 1.0)
    return worst if worst == worst else math.inf


def contract(name, pair, dtype, space=OURS):
    """Assert that the chapter's loss is the library's: values, reductions, slopes."""
    ours, (library, package) = getattr(space, name), LOSSES[name]
    boxes, targets = (side.to(dtype) for side in pair)
    kept = boxes.clone(), targets.clone()
    within = WITHIN[dtype]
    each = ours(boxes, targets)
    assert gap(each, library(boxes, targets)) <= within, "values"
    if len(boxes):
        assert gap(each.mean(), library(boxes, targets, "mean")) <= within, "mean"
    assert gap(each.sum(), library(boxes, targets, "sum")) <= within, "sum"
    slopes = OURS.slopes(ours, boxes, targets)
    wanted = OURS.slopes(library, boxes, targets)
    assert gap(slopes, wanted) <= within, "slopes"
    small = boxes * SCALE, targets * SCALE
    assert gap(ours(*small), each) <= within, "scale"
    assert gap(OURS.slopes(ours, *small) * SCALE, slopes) <= within, "scale, slopes"
    assert gap(package(boxes, targets), each) <= within, "package"
    for reduction in ("mean", "sum"):
        if len(boxes):
            reduced = getattr(each, reduction)()
            assert gap(package(boxes, targets, reduction), reduced) <= within, "package"
    assert torch.equal(boxes, kept[0]) and torch.equal(targets, kept[1]), "changed"


@DTYPES
@pytest.mark.parametrize("pair", SETS)
@pytest.mark.parametrize("name", LOSSES)
def test_loss_equals_the_library(name, pair, dtype):
    contract(name, SETS[pair](), dtype)


@DTYPES
@pytest.mark.parametrize("pair", SETS)
def test_iou_is_the_diagonal_of_the_table(pair, dtype):
    boxes, targets = (side.to(dtype) for side in SETS[pair]())
    wanted = 1 - ops.box_iou(boxes, targets).diagonal()
    assert gap(OURS.iou_loss(boxes, targets), wanted) <= 1e-6


@DTYPES
@pytest.mark.parametrize("name", LOSSES)
def test_mean_of_no_boxes_is_zero(name, dtype):
    none = torch.zeros(0, 4, dtype=dtype, requires_grad=True)
    library, package = LOSSES[name]
    losses = [package] if name == "iou_loss" else [library, package]
    for loss in losses:
        value = loss(none, none.detach(), "mean")
        assert value.item() == 0 and value.dtype == dtype
        (grad,) = torch.autograd.grad(value, none)
        assert grad.shape == (0, 4)


# --- the places where they differ ----------------------------------------------------

ODD = {
    "no height": [1.0, 2, 3, 2],
    "no height, off center": [1.0, 1, 3, 1],
    "no width": [2.0, 1, 2, 3],
    "point": [3.0, 3, 3, 3],
    "point outside": [9.0, 9, 9, 9],
    "touching": [4.0, 0, 8, 4],
    "touching at a corner": [4.0, 4, 8, 8],
}


@DTYPES
@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("name", LOSSES)
def test_odd_boxes(name, odd, dtype):
    """Equal to the library, but finite where its CIoU is not."""
    boxes = torch.tensor([ODD[odd]], dtype=dtype)
    targets = torch.tensor([[0.0, 0, 4, 4]], dtype=dtype)
    ours, (library, package) = getattr(OURS, name), LOSSES[name]
    value, slopes = ours(boxes, targets), OURS.slopes(ours, boxes, targets)
    assert value.isfinite().all() and slopes.isfinite().all()
    assert gap(package(boxes, targets), value) <= WITHIN[dtype]
    wanted = library(boxes, targets)
    if wanted.isfinite().all():  # nan for a point
        assert gap(value, wanted) <= WITHIN[dtype]
    else:
        assert name == "ciou_loss" and odd.startswith("point")
    wanted = OURS.slopes(library, boxes, targets)
    if wanted.isfinite().all():
        assert (slopes - wanted).abs().max() <= WITHIN[dtype]
    else:
        flat = odd.startswith(("no height", "point"))
        assert name == "ciou_loss" and flat


def test_two_points():
    point = torch.tensor([[3.0, 3, 3, 3]])
    for name in LOSSES:
        ours = getattr(OURS, name)
        assert ours(point, point).item() == 1
        assert OURS.slopes(ours, point, point).isfinite().all()
    assert OURS.giou_loss(point, point + 1).item() == 2
    assert OURS.diou_loss(point, point + 1).item() == 2


def test_the_library_charges_tiny_boxes():
    tiny = torch.tensor([[0.5, 0.5, 0.501, 0.501]], dtype=torch.float64)
    for name, (library, _) in LOSSES.items():
        assert getattr(OURS, name)(tiny, tiny).item() == pytest.approx(0, abs=1e-9)
        if name != "iou_loss":
            assert library(tiny, tiny).item() == pytest.approx(1 / 11, rel=1e-6)


# --- gradients against finite differences --------------------------------------------


@pytest.mark.parametrize("name", ["iou_loss", "giou_loss", "diou_loss"])
def test_slopes_are_those_of_the_values(name):
    boxes, targets = SETS["generic"]()
    loss = getattr(OURS, name)
    leaf = boxes[:20].requires_grad_()
    assert torch.autograd.gradcheck(lambda b: loss(b, targets[:20]), leaf)


def test_ciou_slopes_are_not():
    boxes, targets = (side[:20] for side in SETS["generic"]())
    leaf = boxes.requires_grad_()
    for loss, right in ((OURS.ciou_loss, False), (OURS.ciou_loss_through, True)):
        answer = torch.autograd.gradcheck(
            lambda b, loss=loss: loss(b, targets), leaf, raise_exception=False
        )
        assert answer is right
    values = [loss(boxes, targets) for loss in (OURS.ciou_loss, OURS.ciou_loss_through)]
    assert gap(*[v.detach() for v in values]) < 1e-12
    source = inspect.getsource(library_source.complete_box_iou_loss)
    assert "with torch.no_grad():" in source


def test_ranges():
    """A hundred thousand pairs of all sizes stay below 2, 2 and 2.5, and come near."""
    generator = torch.Generator().manual_seed(0)
    draw = torch.rand(2, 100_000, 4, generator=generator, dtype=torch.float64)
    center, half = 10 ** (6 * draw[..., :2] - 3), 10 ** (8 * draw[..., 2:] - 4)
    boxes, targets = torch.cat([center - half, center + half], dim=2)
    for name, low, high in (
        ("iou_loss", 0, 1),
        ("giou_loss", 0, 2),
        ("diou_loss", 0, 2),
        ("ciou_loss", 0, 2.5),
    ):
        values = getattr(OURS, name)(boxes, targets)
        assert values.min() > low and values.max() <= high, name
        assert values.max() > high - 0.1, name
        if name != "iou_loss":
            assert (values < high).all(), name


def test_no_pair_has_a_larger_alpha_than_its_cross():
    """The bound of the chapter, on a million pairs of all shapes, and that it bites."""
    generator = torch.Generator().manual_seed(0)
    draw = torch.rand(3, 1_000_000, 2, generator=generator, dtype=torch.float64)
    half, aim = 10 ** (4 * draw[:2] - 2)
    center = aim * (draw[2] - 0.5) * (draw[2, :, :1] < 0.5)  # half of them at home
    boxes = torch.cat([center - half, center + half], dim=1)
    targets = torch.cat([-aim, aim], dim=1)
    iou, alpha = OURS.overlap(boxes, targets)[0], OURS.alpha_of(boxes, targets)
    limit = OURS.alpha_of(*OURS.cross(iou))
    assert (alpha <= limit + 1e-9).all()
    assert (alpha > 0.999 * limit).any() and (alpha < 0.5).all()
    sample = torch.tensor([0.01, 0.1, 0.5, 0.9], dtype=torch.float64)
    assert gap(OURS.overlap(*OURS.cross(sample))[0], sample) < 1e-12


def test_ties_of_overlapping_boxes_take_the_mean_of_both_sides():
    boxes, targets = SETS["ties"]()
    meet = OURS.overlap(boxes, targets)[0] > 0
    for name in LOSSES:
        loss, at = getattr(OURS, name), OURS.slopes(getattr(OURS, name), boxes, targets)
        worst = []
        for edge in range(4):
            step = torch.zeros(4, dtype=torch.float64)
            step[edge] = 1e-7
            sides = [OURS.slopes(loss, boxes + k * step, targets) for k in (-1, 1)]
            worst.append(((sides[0] + sides[1]) / 2 - at)[:, edge].abs())
        worst = torch.stack(worst, dim=1)
        assert worst[meet].max() < 1e-6
        assert worst[~meet].max() > 0.01  # boxes that touch: there relu decides


# --- smooth L1 and the encoding ------------------------------------------------------


@DTYPES
@pytest.mark.parametrize("beta", [0.0, 1 / 9, 0.5, 1.0, 3.0])
def test_smooth_l1(beta, dtype):
    z = torch.cat([torch.linspace(-4, 4, 33), torch.tensor([beta, -beta, 0.0])])
    ours, theirs = (z.to(dtype).requires_grad_() for _ in range(2))
    zero = torch.zeros_like(ours)
    value = OURS.smooth_l1(ours, beta)
    wanted = F.smooth_l1_loss(theirs, zero, reduction="none", beta=beta)
    assert gap(value.detach(), wanted.detach()) <= 1e-6
    value.sum().backward()
    wanted.sum().backward()
    assert gap(ours.grad, theirs.grad) <= 1e-6
    if beta:
        huber = F.huber_loss(ours, zero, reduction="none", delta=beta)
        assert gap(huber.detach(), beta * value.detach()) <= 1e-6
    assert OURS.smooth_l1(torch.zeros(0), beta).shape == (0,)


@DTYPES
def test_encoding(dtype):
    boxes, anchors = (side.to(dtype) for side in SETS["generic"]())
    coder = BoxCoder((1.0, 1.0, 1.0, 1.0))
    offsets = OURS.encode(boxes, anchors)
    assert gap(offsets, coder.encode_single(boxes, anchors)) <= 1e-6
    exercise = chapter_code.exercises(CHAPTER)["24.decode"]
    decode = exercise.answer(exercise.solution)
    assert gap(decode(offsets, anchors), boxes) <= 1e-6
    wild = 5 * offsets
    assert gap(decode(wild, anchors), coder.decode_single(wild, anchors)) <= 1e-6
    assert OURS.encode(boxes[:0], anchors[:0]).shape == (0, 4)
    for scale in (SCALE, 1 / SCALE):
        assert gap(OURS.encode(boxes * scale, anchors * scale), offsets) <= 1e-6


# --- the contract bites: mistakes planted in the chapter's own source ----------------


def planted(old: str, new: str):
    """The chapter's definitions with one piece of their source replaced."""
    chunks = []
    for cell in chapter_code._cells(CHAPTER):
        if not {"exercise", "solution"} & set(cell.metadata.get("tags", [])):
            for node in ast.parse(cell.source).body:
                if getattr(node, "name", None) in NAMES:
                    lines = cell.source.splitlines()
                    chunks.append("\n".join(lines[node.lineno - 1 : node.end_lineno]))
    source = "\n\n\n".join(chunks)
    assert source.count(old) == 1, f"{source.count(old)} times in the chapter: {old}"
    space = {"torch": torch, "math": math, "ops": ops}
    exec(compile(source.replace(old, new), "<planted>", "exec"), space)
    return type("Planted", (), {n: staticmethod(space[n]) for n in NAMES})


MAX_LT = "lt = torch.maximum(boxes[:, :2], targets[:, :2])"
MIN_LT = "lt = torch.minimum(boxes[:, :2], targets[:, :2])"
PLANTED = {
    "no relu": ("(rb - lt).relu()", "(rb - lt)", "iou_loss", "apart"),
    "relu on the area": (
        *("inter = width * height", "inter = ((rb - lt).prod(1)).relu()"),
        *("iou_loss", "apart"),
    ),
    "a tie on one side": (
        MAX_LT,
        "lt = torch.where(boxes > targets, boxes, targets)[:, :2]",
        *("iou_loss", "identical"),
    ),
    "ties of the enclosing box": (
        MIN_LT,
        "lt = torch.where(boxes < targets, boxes, targets)[:, :2]",
        *("giou_loss", "ties"),
    ),
    "intersection counted twice": (
        *("areas[0] + areas[1] - inter", "areas[0] + areas[1]"),
        *("iou_loss", "generic"),
    ),
    "a constant in the union": (
        *("inter / union.masked_fill(union == 0, 1)", "inter / (union + 1e-7)"),
        *("iou_loss", "ties"),  # caught by the scale
    ),
    "empty share of the union": (
        *("(area - union) / area.masked_fill", "(area - union) / union.masked_fill"),
        *("giou_loss", "generic"),
    ),
    "distance of corners": (
        "center = (boxes[:, :2] + boxes[:, 2:]) / 2",
        "center = boxes[:, :2] + (targets[:, 2:] - targets[:, :2]) / 2",
        *("diou_loss", "generic"),
    ),
    "distance not squared": (
        *("(center - aim).square()", "(center - aim).abs()"),
        *("diou_loss", "generic"),
    ),
    "diagonal held constant": (
        "diagonal = enclosing(boxes, targets).square().sum(dim=1)",
        "diagonal = enclosing(boxes, targets).square().sum(dim=1).detach()",
        *("diou_loss", "apart"),
    ),
    "alpha differentiated": (
        *("with torch.no_grad():", "if True:"),
        *("ciou_loss", "generic"),
    ),
    "v held constant": (
        *("+ alpha * v\n", "+ alpha * v.detach()\n"),
        *("ciou_loss", "generic"),
    ),
    "alpha forgotten": ("+ alpha * v\n", "+ v\n", "ciou_loss", "generic"),
    "the angle's factor": (
        *("4 / math.pi**2", "4 / math.pi"),
        *("ciou_loss", "generic"),
    ),
    "ratios without arctan": (
        "torch.atan2(width, height.masked_fill(none, 1))",
        "width / height.masked_fill(none, 1)",
        *("ciou_loss", "generic"),
    ),
}


@DTYPES
@pytest.mark.parametrize("mistake", PLANTED)
def test_planted_mistake_is_caught(mistake, dtype):
    old, new, name, pair = PLANTED[mistake]
    with pytest.raises(AssertionError):
        contract(name, SETS[pair](), dtype, space=planted(old, new))


def test_the_source_itself_is_no_mistake():
    space = planted("def giou_loss(boxes, targets)", "def giou_loss(boxes,  targets)")
    for name in LOSSES:
        for pair in SETS.values():
            contract(name, pair(), torch.float64, space=space)

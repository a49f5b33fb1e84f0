"""Exercises of chapter 24, box losses."""

import math
from contextlib import contextmanager

import torch

from course_utils.checks.core import Case, Wrong, exercise
from course_utils.checks.samples import EMPTY, some_boxes
from course_utils.checks.watch import Watch, by_hand, without
from course_utils.detection import box_ops

__all__: list[str] = []


def _boxes(n: int, seed: int, dtype=torch.float32) -> torch.Tensor:
    """Boxes with an area, of which no two share an edge (by their fractions)."""
    return some_boxes(n, seed, high=12, dtype=dtype) + 0.1 * (seed % 7)


def _slopes(loss, boxes, targets):
    """The gradient of each box's loss; says so where there is none."""
    leaf = boxes.clone().requires_grad_()
    value = loss(leaf, targets)
    if not (isinstance(value, torch.Tensor) and value.requires_grad):
        raise Wrong("the result is cut off from the graph: a loss needs its slope")
    return torch.autograd.grad(value.sum(), leaf)[0]


@contextmanager
def _no_autograd():
    """Refuse autograd inside, forward mode too."""
    says = "autograd was used: write the slope by hand"
    with by_hand(says), without("_make_dual", says=says):
        yield


def _numbers(values) -> list[float]:
    return [round(v, 4) for v in values.tolist()]


# --- 1 ------------------------------------------------------------------------


@exercise(
    "24.smooth_l1_slope",
    hint="Take the two pieces of the formula one by one: what is the slope of z**2 / "
    "(2 * beta), and what is that of |z|? Where do they meet?",
)
def smooth_l1_slope() -> list[Case]:
    def case(says, z, beta, expect):
        return Case(says, args=(torch.tensor(z), beta), expect=torch.tensor(expect))

    def written(answer):
        with _no_autograd():
            answer(torch.tensor([0.5]), 1.0)

    z = torch.linspace(-2, 2, 24, dtype=torch.float64).reshape(2, 3, 4)
    leaf = z.clone().requires_grad_()
    loss = torch.nn.functional.smooth_l1_loss(
        leaf, torch.zeros_like(z), reduction="sum", beta=1 / 9
    )
    (many,) = torch.autograd.grad(loss, leaf)
    return [
        case("far outside and inside", [-3.0, 0.5], 1.0, [-1.0, 0.5]),
        case("a beta below 1", [-0.1, 0.1, 0.4], 0.2, [-0.5, 0.5, 1.0]),
        case("a beta above 1", [-3.0, 1.0, 8.0], 4.0, [-0.75, 0.25, 1.0]),
        case("beta 0", [-0.3, 0.0, 2.0], 0.0, [-1.0, 0.0, 1.0]),
        case("the seam itself", [-1.0, 1.0], 1.0, [-1.0, 1.0]),
        Case("no numbers", args=(torch.zeros(0), 1.0), expect=torch.zeros(0)),
        Case("three dimensions, float64", args=(z, 1 / 9), expect=many),
        Case("by hand", test=written),
    ]


# --- 2 ------------------------------------------------------------------------


def _decode(offsets, anchors):
    size = anchors[:, 2:] - anchors[:, :2]
    center = (anchors[:, :2] + anchors[:, 2:]) / 2 + offsets[:, :2] * size
    half = size * offsets[:, 2:].clamp(max=math.log(1000 / 16)).exp() / 2
    return torch.cat([center - half, center + half], dim=1)


@exercise(
    "24.decode",
    hint="Solve the four equations of the offsets for x, y, w and h. First get the "
    "center and the size of each anchor.",
)
def decode() -> list[Case]:
    def case(says, offsets, anchors):
        return Case(
            says,
            args=(offsets, anchors),
            expect=_decode(offsets, anchors),
            within=1e-5,
        )

    square = torch.tensor([[0.0, 0, 10, 10]])
    wide = torch.tensor([[20.0, 30, 60, 40]])
    generator = torch.Generator().manual_seed(0)
    some = torch.randn(9, 4, generator=generator, dtype=torch.float64) / 2
    return [
        case("offsets of 0", torch.zeros(1, 4), wide),
        case("a shift", torch.tensor([[0.5, -0.1, 0, 0]]), wide),
        case("twice as wide", torch.tensor([[0.0, 0, math.log(2), 0]]), square),
        case("shifted and wider", torch.tensor([[0.5, 0, math.log(2), 0]]), wide),
        case("far too wide", torch.tensor([[0.0, 0, 100, 0]]), square),
        case("far too high", torch.tensor([[0.0, 0, 0, 100]]), square),
        case("a far shift", torch.tensor([[6.0, -7, 0, 0]]), square),
        case("very narrow", torch.tensor([[0.0, 0, -8, 0]]), square),
        case("no boxes", EMPTY, EMPTY),
        case("nine, float64", some, _boxes(9, 1, torch.float64)),
    ]


# --- 3 ------------------------------------------------------------------------


@exercise(
    "24.giou_table",
    hint="Give a the shape (N, 1, 4) and b the shape (1, M, 4): then minimum and "
    "maximum of the two are (N, M, 4).",
)
def giou_table() -> list[Case]:
    def case(says, a, b):
        return Case(says, args=(a, b), expect=box_ops.generalized_box_iou(a, b))

    def no_loop(answer):
        counts = []
        for n in (3, 12):
            with Watch(
                "tolist",
                "numpy",
                "__array__",
                says="numbers in Python lists need a loop: stay with tensors",
            ) as watch:
                answer(_boxes(n, 5), _boxes(n + 1, 6))
            counts.append(len(watch.names))
        if counts[1] > counts[0]:
            raise Wrong(
                f"3 by 4 boxes took {counts[0]} calls, 12 by 13 took {counts[1]}: "
                "a loop over boxes; use broadcasting"
            )

    one = torch.tensor([[0.0, 0, 2, 2]])
    return [
        case("one box with itself", one, one),
        case("two that overlap", one, one + 1),
        case("apart in one direction", one, one + torch.tensor([5.0, 1, 5, 1])),
        case("apart in both directions", one, one + 5),
        case("one inside the other", one, torch.tensor([[-1.0, -1, 9, 9]])),
        case("two with three", _boxes(2, 1), _boxes(3, 2)),
        case("none with three", EMPTY, _boxes(3, 2)),
        case("float64", _boxes(9, 3, torch.float64), _boxes(7, 4, torch.float64)),
        Case("no loop over boxes", test=no_loop),
    ]


# --- 4 ------------------------------------------------------------------------


@exercise(
    "24.fixed_ciou",
    hint="Try it on two pairs whose loss you can work out on paper: a box of half the "
    "size at the target's center, and two boxes apart in both directions. The "
    "third mistake shows in the gradient alone.",
)
def fixed_ciou() -> list[Case]:
    def case(says, boxes, targets):
        expect = box_ops.complete_box_iou_loss(boxes, targets)
        return Case(says, args=(boxes, targets), expect=expect, within=1e-5)

    def gradient(answer):
        boxes = torch.tensor([[1.0, 0, 5, 2]])
        targets = torch.tensor([[0.0, 0.5, 4, 4]])
        got = _slopes(answer, boxes, targets)
        want = _slopes(box_ops.complete_box_iou_loss, boxes, targets)
        if not torch.allclose(got, want, atol=1e-6):
            raise Wrong(
                f"the values are right; the gradient is {_numbers(got[0])}\n"
                f"instead of {_numbers(want[0])}: which factor is a constant?"
            )

    square = torch.tensor([[0.0, 0, 4, 4]])
    return [
        case("a shift", square + torch.tensor([1.0, 0, 1, 0]), square),
        case("a smaller box at the center", torch.tensor([[1.0, 1, 3, 3]]), square),
        case("apart in one direction", square + torch.tensor([9.0, 0, 9, 0]), square),
        case("apart in both directions", square + 9, square),
        case("another shape", torch.tensor([[1.0, 0, 5, 2]]), square),
        Case("the gradient", test=gradient),
        case("no boxes", EMPTY, EMPTY),
        case("many", _boxes(20, 1), _boxes(20, 2)),
    ]


# --- 5 ------------------------------------------------------------------------


def _eiou(boxes, targets):
    loss = box_ops.distance_box_iou_loss(boxes, targets)
    hull = torch.maximum(boxes, targets)[:, 2:] - torch.minimum(boxes, targets)[:, :2]
    sizes = [b[:, 2:] - b[:, :2] for b in (boxes, targets)]
    return loss + ((sizes[0] - sizes[1]) / hull).square().sum(dim=1)


@exercise(
    "24.eiou_loss",
    hint="Width and height of the enclosing box are the larger x2, y2 minus the "
    "smaller x1, y1. DIoU loss is the sum of the first two terms.",
)
def eiou_loss() -> list[Case]:
    def case(says, boxes, targets):
        return Case(
            says,
            args=(boxes, targets),
            expect=_eiou(boxes, targets),
            within=1e-5,
        )

    def gradient(answer):
        boxes, targets = _boxes(6, 1, torch.float64), _boxes(6, 2, torch.float64)
        got, want = (_slopes(f, boxes, targets) for f in (answer, _eiou))
        if not torch.allclose(got, want, atol=1e-6):
            raise Wrong("the values are right, the gradient is not: what was detached?")

    square = torch.tensor([[0.0, 0, 4, 4]])
    return [
        case("half the size, same center", torch.tensor([[1.0, 1, 3, 3]]), square),
        case("the same box", square, square),
        case("only shifted", square + 1, square),
        case("too wide", torch.tensor([[-2.0, 0, 6, 4]]), square),
        case("apart", torch.tensor([[9.0, 9, 10, 14]]), square),
        case("no boxes", EMPTY, EMPTY),
        case("many", _boxes(20, 1), _boxes(20, 2)),
        Case("a slope can be taken", test=gradient),
    ]


# --- 6 ------------------------------------------------------------------------


@exercise(
    "24.iou_slope",
    hint="Begin with A', the slope of the box's own area along x1, y1, x2 and y2: it "
    "is (-h, -w, h, w). I' looks alike, with the sides of the intersection, and "
    "is 0 for an edge that does not bound it.",
)
def iou_slope() -> list[Case]:
    def case(says, boxes, targets):
        expect = _slopes(box_ops.iou_loss, boxes, targets)
        return Case(says, args=(boxes, targets), expect=expect, within=1e-5)

    def written(answer):
        boxes = torch.tensor([[1.0, 1, 5, 5]], requires_grad=True)
        with _no_autograd():
            answer(boxes, torch.tensor([[0.0, 0, 4, 4]]))

    square = torch.tensor([[0.0, 0, 4, 4]])
    apart_x, apart_y = torch.tensor([[9.0, 1, 9, 1], [1.0, 9, 1, 9]])
    return [
        case("beyond the right lower corner", square + 1, square),
        case("beyond the left upper corner", square - 1, square),
        case("inside", torch.tensor([[1.0, 1, 3, 2]]), square),
        case("around", torch.tensor([[-1.0, -2, 5, 7]]), square),
        case("apart along x", square + apart_x, square),
        case("apart along y", square + apart_y, square),
        case("apart in both directions", square + 9, square),
        case("no boxes", EMPTY, EMPTY),
        case("many", _boxes(20, 1, torch.float64), _boxes(20, 2, torch.float64)),
        Case("by hand", test=written),
    ]

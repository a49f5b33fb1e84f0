"""Exercises of chapter 23, IoU and non-maximum suppression."""

import torch
from torchvision import ops

from course_utils.checks.core import Case, Wrong, exercise
from course_utils.checks.samples import EMPTY, some_boxes
from course_utils.checks.watch import Watch, without
from course_utils.detection import box_ops

__all__: list[str] = []


def _scores(n: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed + 100)
    return torch.randint(4, (n,), generator=generator) / 4


# --- 1 ------------------------------------------------------------------------


@exercise(
    "23.voc_to_coco",
    hint="Write down pixel [1, 1, 1, 1] in both forms: by how much does the corner "
    "change, and how wide is one pixel?",
)
def voc_to_coco() -> list[Case]:
    def case(says, boxes):
        corner, size = boxes[:, :2] - 1, boxes[:, 2:] - boxes[:, :2] + 1
        return Case(says, args=(boxes,), expect=torch.cat([corner, size], 1), within=0)

    return [
        case("one pixel in the corner", torch.tensor([[1.0, 1, 1, 1]])),
        case("one box", torch.tensor([[3.0, 2, 6, 4]])),
        case("no boxes", EMPTY),
        case("integers", torch.tensor([[1, 1, 1, 1], [5, 6, 9, 12]])),
        case("many", some_boxes(9, 0, dtype=torch.float64) + 1),
    ]


# --- 2 ------------------------------------------------------------------------


@exercise(
    "23.paired_iou",
    hint="In the chapter's `box_iou`, `[:, None]` makes the table. What do the "
    "shapes become without it?",
)
def paired_iou() -> list[Case]:
    def case(says, a, b):
        expect = box_ops.box_iou(a, b).diagonal().clone()
        return Case(says, args=(a, b), expect=expect)

    point = torch.tensor([[5.0, 5, 5, 5]])
    row = torch.tensor([[0.0, 0, 2, 2]])

    def slope(answer):
        leaf = row.clone().requires_grad_()
        value = answer(leaf, row + torch.tensor([1.0, 0, 1, 0]))
        if not (isinstance(value, torch.Tensor) and value.requires_grad):
            raise Wrong("the result is cut off from the graph: a loss needs its slope")

    def no_table(answer):
        a, b = some_boxes(60, 8), some_boxes(60, 9)
        with Watch() as watch:
            answer(a, b)
        if watch.largest >= 60 * 60:
            raise Wrong("for 60 pairs a table of 60 by 60 was built: no [:, None] here")

    return [
        case("one pair", row, row + torch.tensor([1.0, 0, 1, 0])),
        case("apart in both directions", row, row + 3),
        case("two points", point, point),
        case("a point and a box", point, row),
        case("fractions of a picture", row / 1024, (row + 1) / 1024),
        case("no pairs", EMPTY, EMPTY),
        case("many", some_boxes(12, 1), some_boxes(12, 2)),
        case(
            "float64",
            some_boxes(5, 3, dtype=torch.float64),
            some_boxes(5, 4, dtype=torch.float64),
        ),
        Case("a slope can be taken", test=slope),
        Case("no table is built", test=no_table),
    ]


# --- 3 ------------------------------------------------------------------------


@exercise(
    "23.mask_to_box",
    hint="`mask.any(dim=0)` says which columns hold a pixel. The first and the "
    "last of them give two of the four numbers.",
)
def mask_to_box() -> list[Case]:
    def case(says, mask):
        expect = box_ops.masks_to_boxes(mask[None])[0]
        return Case(says, args=(mask,), expect=expect, within=0)

    mask = torch.zeros(6, 8, dtype=torch.bool)
    pixel, block, parts = mask.clone(), mask.clone(), mask.clone()
    pixel[2, 5] = True
    block[1:4, 2:6] = True
    parts[0, 7] = parts[4, 1] = True
    return [
        case("one pixel", pixel),
        case("a block", block),
        case("two pixels far apart", parts),
        case("no pixel", mask),
        case("all pixels", ~mask),
        case("a strided mask", block.T.contiguous().T),
    ]


# --- 4 ------------------------------------------------------------------------


@exercise(
    "23.fixed_nms",
    hint="Run it on two boxes far apart, then on a chain of three. A box that is "
    "removed must not remove others.",
)
def fixed_nms() -> list[Case]:
    def written(answer):
        with without("nms", says="the text asks for it without torchvision's nms"):
            answer(chain.clone(), torch.tensor([0.9, 0.8, 0.7]), 0.25)

    def case(says, boxes, scores, threshold=0.25):
        expect = ops.nms(boxes, scores, threshold)
        return Case(says, args=(boxes, scores, threshold), expect=expect)

    chain = torch.tensor([[0.0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]])
    half = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5]])
    two = torch.tensor([0.5, 0.75])
    return [
        case("two apart: the better one first", chain[[0, 2]], two),
        case("two that overlap", chain[:2], two),
        case("a chain of three", chain, torch.tensor([0.9, 0.8, 0.7])),
        case("equal scores", chain, torch.tensor([0.5, 0.5, 0.5])),
        case("an IoU equal to the threshold", half, two, 0.5),
        case("no boxes", EMPTY, torch.zeros(0)),
        case("forty boxes with ties", some_boxes(40, 5), _scores(40, 5)),
        Case("without torchvision's nms", test=written),
    ]


# --- 5 ------------------------------------------------------------------------


@exercise(
    "23.class_nms",
    hint="`labels[:, None] == labels` is a table, too: it says which pairs "
    "compete. Then go through the boxes, best first.",
)
def class_nms() -> list[Case]:
    def case(says, boxes, scores, labels, threshold=0.5):
        expect = box_ops.batched_nms(boxes, scores, labels, threshold)
        return Case(says, args=(boxes, scores, labels, threshold), expect=expect)

    pair = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10]])
    two = torch.tensor([0.75, 0.5])
    outside = torch.tensor([[0.0, 0, 10, 10], [-11, -11, -1, -1]])
    wide = torch.tensor([[0.0, 0, 40, 40], [20, 0, 60, 40]])
    chain = torch.tensor([[0.0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]])
    large = 10_000_003
    half = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5]])
    # An IoU of 0.5021; moved by a million pixels, the edges are rounded: 0.4953.
    close = [[100.03, 100, 110.03, 110], [103.345, 100, 113.345, 110]]
    close = torch.tensor([*close, [0, 0, 1_000_000, 10]])
    three = torch.tensor([0.75, 0.5, 0.25])
    huge = torch.tensor([2**60, 2**60 + 1])
    return [
        case("one class", pair, two, torch.tensor([0, 0])),
        case("two classes", pair, two, torch.tensor([0, 1])),
        case("the better one comes second", pair, two.flip(0), torch.tensor([0, 1])),
        case(
            "a chain", chain, torch.tensor([0.9, 0.8, 0.7]), torch.ones(3).long(), 0.25
        ),
        case("an IoU equal to the threshold", half, two, torch.tensor([3, 3])),
        case("outside the picture", outside, two, torch.tensor([0, 1])),
        case("a large label", wide, two, torch.tensor([large, large])),
        case("labels that only integers tell apart", pair, two, huge),
        case("an IoU of 0.502 beside 0.5", close, three, torch.tensor([1, 1, 0])),
        case("negative labels", pair, two, torch.tensor([-1, -2])),
        case("no boxes", EMPTY, torch.zeros(0), torch.zeros(0, dtype=torch.int64)),
        case("many with ties", some_boxes(40, 6), _scores(40, 6), torch.arange(40) % 3),
    ]


# --- 6 ------------------------------------------------------------------------


@exercise(
    "23.safe_threshold",
    hint="Which pair of boxes is the first to lose one, as the threshold falls? "
    "Leave out each box's IoU with itself.",
)
def safe_threshold() -> list[Case]:
    def case(says, boxes):
        iou = ops.box_iou(boxes, boxes)
        iou.fill_diagonal_(0)
        expect = iou.max().item() if len(boxes) > 1 else 0.0
        return Case(says, args=(boxes,), expect=expect)

    def keeps(answer):
        # 77 of 128 pixels are shared: 0.6015625, exact in every kind of float.
        close = torch.tensor([[0.0, 0, 100, 1], [23, 0, 128, 1]])
        got = answer(close.clone())
        for scores in (torch.tensor([0.5, 0.75]), torch.tensor([0.75, 0.5])):
            if len(ops.nms(close, scores, float(got))) < 2:
                raise Wrong(
                    f"boxes {close.tolist()}: NMS at {got!r} removes one of them; "
                    "was it rounded?"
                )
        if float(got) > 77 / 128:
            raise Wrong(
                f"boxes {close.tolist()}: a smaller threshold, {77 / 128}, keeps both, "
                f"too; got {got!r}"
            )

    people = torch.tensor([[0.0, 0, 40, 100], [10, 0, 50, 100]])
    return [
        case("two people", people),
        case("two far apart", people[:1] + torch.tensor([[0.0], [500]])),
        case("one person", people[:1]),
        case("nobody", EMPTY),
        case("the same box twice", people[[0, 0]]),
        case("many", some_boxes(12, 7)),
        Case("NMS at this threshold keeps both", test=keeps),
    ]

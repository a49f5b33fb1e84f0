"""Exercises of chapter 26, inside Faster R-CNN: anchors and proposals."""

import math

import torch
import torch.nn.functional as F
from torchvision import ops

from course_utils.checks.core import Case, Wrong, exercise
from course_utils.checks.samples import EMPTY, some_boxes

__all__: list[str] = []


def _boxes(n: int, seed: int) -> torch.Tensor:
    return some_boxes(n, seed, smallest=2)


# --- 1 ------------------------------------------------------------------------


@exercise(
    "26.count_anchors",
    hint="Pad the two sides first; then each stride adds its rows times its columns.",
)
def count_anchors() -> list[Case]:
    def case(says, height, width, strides, per_place):
        rows, columns = (32 * math.ceil(n / 32) for n in (height, width))
        cells = [math.ceil(rows / s) * math.ceil(columns / s) for s in strides]
        args = (height, width, strides, per_place)
        return Case(says, args=args, expect=sum(cells) * per_place)

    five = (4, 8, 16, 32, 64)
    return [
        case("one level, nothing to pad", 32, 32, (32,), 1),
        case("three anchors per place", 32, 32, (32,), 3),
        case("a picture to be padded", 20, 30, (4, 8), 3),
        case("height and width differ", 32, 64, (16,), 1),
        case("a stride that does not divide the side", 96, 96, (64,), 1),
        case("one pixel too many", 33, 32, (4,), 2),
        case("no level", 32, 32, (), 3),
        case("the model's five levels", 256, 315, five, 3),
    ]


# --- 2 ------------------------------------------------------------------------


@exercise(
    "26.decode_classes",
    hint="Give the offsets the shape (N, K, 4); the proposals then need a "
    "dimension of size 1 in the middle.",
)
def decode_classes() -> list[Case]:
    def case(says, offsets, proposals):
        x1, y1, x2, y2 = proposals.double().unbind(1)
        w, h = x2 - x1, y2 - y1
        parts = []
        for k in range(offsets.shape[1] // 4):
            tx, ty, tw, th = offsets[:, 4 * k : 4 * k + 4].double().unbind(1)
            tw, th = (t.div(5).clamp(max=math.log(1000 / 16)) for t in (tw, th))
            x, y = x1 + w / 2 + tx / 10 * w, y1 + h / 2 + ty / 10 * h
            u, v = w * tw.exp() / 2, h * th.exp() / 2
            parts.append(torch.stack([x - u, y - v, x + u, y + v], dim=1))
        expect = torch.stack(parts, dim=1).to(proposals.dtype)
        return Case(says, args=(offsets, proposals), expect=expect, within=1e-5)

    def row(*numbers):
        return torch.tensor([numbers], dtype=torch.float32)

    box = row(10, 20, 30, 60)
    generator = torch.Generator().manual_seed(1)
    many = torch.randn(5, 12, generator=generator)
    return [
        case("one class, offsets of 0: the proposal", row(0, 0, 0, 0), box),
        case("a shift to the right", row(5, 0, 0, 0), box),
        case("a shift far to the right", row(50, 0, 0, 0), box),
        case("a wider box", row(0, 0, 2, 0), box),
        case("two classes", row(0, 0, 0, 0, 5, -5, 2, -2), box),
        case("a logarithm that is cut", row(0, 0, 40, 0), box),
        case("just below the cut", row(0, 0, 20, 0), box),
        case("very small", row(0, 0, -40, -40), box),
        case("no proposals", torch.zeros(0, 8), EMPTY),
        case("five proposals, three classes", many, _boxes(5, 2)),
        case("float64", many.double(), _boxes(5, 3).double()),
    ]


# --- 3 ------------------------------------------------------------------------


def _match(iou, high, low):
    objects, count = iou.shape
    result = []
    for j in range(count):
        column = iou[:, j].tolist()
        best = max(column, default=0.0)
        owner = column.index(best) if column else -1
        verdict = owner if best >= high else -1 if best < low else -2
        tops = [iou[i].max().item() for i in range(objects)]
        if any(column[i] == tops[i] for i in range(objects)):
            verdict = owner
        result.append(verdict)
    return torch.tensor(result, dtype=torch.int64)


@exercise(
    "26.fixed_match",
    hint="Compare it with `match` of the chapter, line by line: two of the three "
    "mistakes can be seen so.",
)
def fixed_match() -> list[Case]:
    def case(says, rows, high=0.75, low=0.25):
        iou = torch.tensor(rows) if isinstance(rows, list) else rows
        expect = _match(iou, high, low)
        return Case(says, args=(iou, high, low), expect=expect)

    generator = torch.Generator().manual_seed(4)
    # Quarters, with a little more per row so that no two tie in one column.
    many = torch.randint(5, (4, 30), generator=generator) / 4
    many = many + torch.arange(4)[:, None] / 64
    return [
        case("one object, one good anchor", [[0.875]]),
        case("good, between, background", [[0.875, 0.5, 0.125]]),
        case("exactly at the upper threshold", [[0.875, 0.75]]),
        case("exactly at the lower threshold", [[0.875, 0.25]]),
        case("the best is poor, and kept", [[0.125, 0.0625]]),
        case("two poor ones that tie", [[0.125, 0.0, 0.125]]),
        case("a shared favorite", [[0.875, 0.125], [0.5, 0.0625]]),
        case("an object that no anchor overlaps", torch.zeros(1, 3)),
        case("no object in the picture", torch.zeros(0, 3)),
        case("four objects, thirty anchors", many),
    ]


# --- 4 ------------------------------------------------------------------------


@exercise(
    "26.proposal_recall",
    hint="One table of booleans, proposals against boxes, answers for every "
    "number: keep its first rows, and ask which boxes any of them covers.",
)
def proposal_recall() -> list[Case]:
    def case(says, proposals, boxes, tops, threshold=0.5):
        expect = []
        for top in tops:
            hits = [
                any(
                    ops.box_iou(p[None], b[None]).item() >= threshold
                    for p in proposals[:top]
                )
                for b in boxes
            ]
            expect.append(sum(hits) / len(hits) if hits else 1.0)
        return Case(says, args=(proposals, boxes, tops, threshold), expect=expect)

    box = torch.tensor([[0.0, 0, 10, 10]])
    half = torch.tensor([[0.0, 0, 10, 5]])
    pair = torch.cat([box, box + 100])
    near = torch.tensor([[0.0, 0, 10, 9], [0, 0, 10, 8]])
    return [
        case("one proposal, on the object", box, box, [1]),
        case("one proposal, elsewhere", box + 50, box, [1]),
        case("an IoU equal to the threshold", half, box, [1]),
        case("only the second one hits", torch.cat([box + 50, box]), box, [1, 2]),
        case("numbers that fall", torch.cat([box + 50, box]), box, [2, 1]),
        case("two objects, one found", torch.cat([box, half]), pair, [1, 2]),
        case("one proposal covers two objects", box, near, [1]),
        case("more asked for than there are", box, pair, [1, 1000]),
        case("no objects", box, EMPTY, [1, 10]),
        case("no proposals", EMPTY, box, [1, 10]),
        case("none of them asked for", box, box, [0, 1]),
        case("many", _boxes(40, 5), _boxes(6, 6), [1, 5, 10, 40]),
    ]


# --- 5 ------------------------------------------------------------------------


def _labels(says, verdict, anchors, total, size=(40, 40)) -> Case:
    """Which anchors are labeled is left to chance; how many, and which may be, not."""
    verdict = torch.tensor(verdict)

    def test(answer):
        def ask(seed):
            generator = torch.Generator().manual_seed(seed)
            return answer(verdict.clone(), anchors.clone(), *size, total, generator)

        labels = ask(0)
        if not isinstance(labels, torch.Tensor):
            raise Wrong(f"labels must be a tensor, got {type(labels).__name__}")
        if labels.shape != verdict.shape or labels.dtype != torch.float32:
            got = f"{tuple(labels.shape)}, {labels.dtype}"
            raise Wrong(f"labels must be {tuple(verdict.shape)}, float32, got {got}")
        edge = torch.tensor([size[1], size[0]])
        inside = (anchors[:, :2] >= 0).all(1) & (anchors[:, 2:] <= edge).all(1)
        shown = f"verdict {verdict.tolist()[:8]}, labels {labels.tolist()[:8]}"
        if len(verdict) <= 3:
            shown += f", anchors {anchors.tolist()}, height {size[0]}, width {size[1]}"
        if ((labels != -1) & ~inside).any():
            raise Wrong(f"an anchor that leaves the picture must be ignored: {shown}")
        may = {1.0: (verdict >= 0) & inside, 0.0: (verdict == -1) & inside}
        for value, where in may.items():
            if ((labels == value) & ~where).any():
                raise Wrong(f"a label {value:g} where it cannot be: {shown}")
        positives = min(int(may[1.0].sum()), total // 2)
        negatives = min(int(may[0.0].sum()), total - positives)
        for name, value, right in (
            ("positives", 1, positives),
            ("negatives", 0, negatives),
        ):
            count = int((labels == value).sum())
            if count != right:
                raise Wrong(f"{name} to be kept: {right}, got {count}: {shown}")
        if not torch.equal(labels, ask(0)):
            raise Wrong("the same generator must give the same labels: use it")
        for name, value in (("positives", 1.0), ("negatives", 0.0)):
            if 0 < (labels == value).sum() < may[value].sum():
                draws = {tuple((ask(s) == value).tolist()) for s in range(12)}
                if len(draws) == 1:
                    raise Wrong(f"the {name} must be drawn, not always the same ones")

    return Case(says, test=test)


@exercise(
    "26.anchor_labels",
    hint="Start with -1 everywhere. Then draw among the positives that are "
    "inside, and with what room is left among the background.",
)
def anchor_labels() -> list[Case]:
    inner = torch.tensor([[5.0, 5, 20, 20]])
    border = torch.tensor([[0.0, 0, 40, 30]])
    out = torch.tensor([[-1.0, 5, 20, 20], [5, 5, 20, 41], [5, 5, 41, 20]])
    four = inner.expand(4, 4)
    generator = torch.Generator().manual_seed(7)
    verdict = torch.randint(-2, 3, (60,), generator=generator).tolist()
    wide = _boxes(60, 8)
    return [
        _labels("one positive", [0], inner, 4, (30, 40)),
        _labels("a later object is positive too", [2], inner, 4, (30, 40)),
        _labels("positive, background, ignored", [0, -1, -2, -1], four, 8),
        _labels("an anchor that touches the border", [-1], border, 4, (30, 40)),
        _labels("anchors that leave the picture", [0, -1, -1], out, 4),
        _labels("few positives: negatives fill up", [0] + [-1] * 9, _boxes(10, 1), 6),
        _labels("many positives: half of the total", [0] * 9 + [-1], _boxes(10, 2), 6),
        _labels("an odd total", [0] * 5 + [-1] * 5, _boxes(10, 3), 5),
        _labels("no anchors", [], EMPTY, 4),
        _labels("sixty anchors, a flat picture", verdict, wide, 16, (25, 38)),
    ]


# --- 6 ------------------------------------------------------------------------


def _paste(mask, box, height, width):
    """By hand: bilinear interpolation between cell centers, zero outside."""
    side = len(mask)
    padded = F.pad(mask, (1, 1, 1, 1))
    x1, y1, x2, y2 = box.tolist()
    result = torch.zeros(height, width)
    for i in range(height):
        for j in range(width):
            y = (i + 0.5 - y1) / (y2 - y1) * side + 0.5  # in cells of padded
            x = (j + 0.5 - x1) / (x2 - x1) * side + 0.5
            a, b = math.floor(y), math.floor(x)
            if 0 <= a <= side and 0 <= b <= side:
                near = padded[a : a + 2, b : b + 2]
                rows = torch.tensor([1 - (y - a), y - a])
                columns = torch.tensor([1 - (x - b), x - b])
                result[i, j] = rows @ near @ columns
    return result


@exercise(
    "26.paste_exact",
    hint="Make the places of the columns and those of the rows first, each "
    "as one line of numbers; `grid_sample` wants x before y.",
)
def paste_exact() -> list[Case]:
    def case(says, mask, box, height, width):
        box = torch.tensor(box)
        expect = _paste(mask, box, height, width)
        return Case(says, args=(mask, box, height, width), expect=expect, within=1e-4)

    generator = torch.Generator().manual_seed(9)
    soft = torch.rand(7, 7, generator=generator)
    steps = torch.arange(4.0).reshape(2, 2) / 4
    return [
        case("the box is the mask's size", steps, [0.0, 0, 2, 2], 2, 2),
        case("moved by two pixels", steps, [2.0, 1, 4, 3], 5, 6),
        case("enlarged", steps, [0.0, 0, 4, 4], 4, 4),
        case("wider than tall", steps, [1.0, 1, 7, 4], 6, 9),
        case("between the pixels", soft, [1.3, 2.6, 9.1, 8.2], 12, 11),
        case("partly outside", soft, [-3.5, -2.0, 6.5, 5.0], 8, 8),
        case("wholly outside", soft, [20.0, 20, 30, 30], 6, 6),
    ]

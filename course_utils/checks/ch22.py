"""Exercises of chapter 22, what detection is: from windows to centers."""

import math

import torch

from course_utils.checks.core import Case, exercise
from course_utils.checks.samples import EMPTY, some_boxes

__all__: list[str] = []


def _row(*numbers: float) -> torch.Tensor:
    return torch.tensor([numbers], dtype=torch.float32)


# --- 1 ------------------------------------------------------------------------


@exercise(
    "22.count_windows",
    hint="Along one side: how many steps fit into what is left beside one window?",
)
def count_windows() -> list[Case]:
    def case(says, sizes, window, step):
        total = sum(
            len(range(0, height - window[0] + 1, step))
            * len(range(0, width - window[1] + 1, step))
            for height, width in sizes
        )
        return Case(says, args=(sizes, window, step), expect=total)

    return [
        case("one window that fits exactly", [(3, 3)], (3, 3), 1),
        case("the example", [(4, 6)], (3, 3), 1),
        case("height and width differ", [(10, 5)], (4, 2), 1),
        case("steps of two", [(8, 8)], (3, 3), 2),
        case("a last step that does not fit", [(9, 10)], (4, 4), 4),
        case("a picture that is too low", [(2, 9)], (3, 3), 1),
        case("too low by less than a step", [(2, 9)], (3, 3), 4),
        case("too low and too narrow", [(1, 1)], (9, 9), 1),
        case("two sizes", [(20, 30), (10, 15)], (6, 4), 2),
        case("a size too small, then one that fits", [(2, 2), (5, 5)], (3, 3), 1),
        case("no picture", [], (3, 3), 1),
        case("the chapter's window", [(256, 190), (128, 95)], (66, 26), 4),
    ]


# --- 2 ------------------------------------------------------------------------


@exercise(
    "22.center_cells",
    hint="Divide the center by the stride: the whole part is the cell, and the middle "
    "of a cell is half a cell further.",
)
def center_cells() -> list[Case]:
    def case(says, boxes, stride=8, cells=32):
        cell, offset = [], []
        for x1, y1, x2, y2 in boxes.tolist():
            places = [(x1 + x2) / 2 / stride, (y1 + y2) / 2 / stride]
            cell.append([min(math.floor(v), cells - 1) for v in places])
            offset.append([v - c - 0.5 for v, c in zip(places, cell[-1], strict=True)])
        cell = torch.tensor(cell, dtype=torch.int64).reshape(-1, 2)
        offset = torch.tensor(offset, dtype=boxes.dtype).reshape(-1, 2)
        args = (boxes, stride, cells)
        return Case(says, args=args, expect=(cell, offset), within=1e-4)

    corner = torch.tensor([[240.0, 248, 272, 264]])
    return [
        case("the example", _row(0, 0, 8, 16)),
        case("a center in the middle of a cell", _row(16, 24, 24, 32)),
        case("another stride", _row(16, 24, 24, 32), 16),
        case("a center late in its cell", _row(0, 0, 15, 30)),
        case("a center on the right border of the picture", corner),
        case("few cells", _row(20, 4, 44, 12), 8, 4),
        case("no boxes", EMPTY),
        case("many boxes", some_boxes(6, 3).float()),
        case("float64", some_boxes(3, 4).double()),
    ]


# --- 3 ------------------------------------------------------------------------


def _peaks(heat, least):
    table = heat.tolist()
    found = []
    for r, values in enumerate(table):
        for c, value in enumerate(values):
            around = [
                table[i][j]
                for i in range(max(r - 1, 0), min(r + 2, len(table)))
                for j in range(max(c - 1, 0), min(c + 2, len(values)))
            ]
            if value >= least and value >= max(around):
                found.append((-value, r, c))
    return [(r, c) for _, r, c in sorted(found)]


@exercise(
    "22.find_peaks",
    hint="Two loops over the cells; for each, cut out the rows and columns around it, "
    "as far as there are any.",
)
def find_peaks() -> list[Case]:
    def case(says, heat, least=0.5):
        heat = torch.as_tensor(heat, dtype=torch.float32)
        return Case(says, args=(heat, least), expect=_peaks(heat, least))

    generator = torch.Generator().manual_seed(5)
    levels = torch.randint(9, (9, 12), generator=generator) / 8
    return [
        case("one cell", [[0.9]]),
        case("one cell below the least value", [[0.4]]),
        case("exactly the least value", [[0.5]]),
        case("a single row", [[0.9, 0.2, 0.6, 0.7]]),
        case("a single column", [[0.6], [0.1], [0.9]]),
        case("a higher neighbor across the corner", [[0.6, 0.1], [0.1, 0.7]]),
        case("two equal neighbors", [[0.8, 0.8], [0.1, 0.1]]),
        case("the best comes first", [[0.6, 0, 0], [0, 0, 0], [0, 0, 0.9]]),
        case("equal peaks in reading order", [[0.1, 0, 0.7], [0, 0, 0], [0.7, 0, 0]]),
        case("the highest does not wrap around", [[0.9, 0, 0], [0, 0, 0], [0, 0, 0.8]]),
        case("negative values", [[-0.5, -1.0], [-2.0, -3.0]], -0.7),
        case("no cells", torch.zeros(0, 4)),
        case("a map of 9 by 12 with many ties", levels, 0.25),
    ]


# --- 4 ------------------------------------------------------------------------


def _step(sizes, anchors):
    owned = [[] for _ in anchors]
    highest = []
    for n, (w, h) in enumerate(sizes.tolist()):
        ious = []
        for a, b in anchors.tolist():
            inter = min(w, a) * min(h, b)
            ious.append(inter / (w * h + a * b - inter))
        owned[ious.index(max(ious))].append((w, h))
        highest.append((max(ious), n))
    waiting = [sizes[n].tolist() for _, n in sorted(highest)]
    rows = []
    for mine, old in zip(owned, anchors.tolist(), strict=True):
        if mine:
            rows.append([sum(v) / len(mine) for v in zip(*mine, strict=True)])
        else:
            rows.append(waiting.pop(0) if waiting else old)
    return torch.tensor(rows, dtype=anchors.dtype)


@exercise(
    "22.kmeans_step",
    hint="First a table of IoU, (N, K). Its maximum along the anchors says who owns a "
    "size, and how well it fits. Sort the sizes by how well they fit.",
)
def kmeans_step() -> list[Case]:
    def case(says, sizes, anchors):
        sizes = torch.as_tensor(sizes, dtype=torch.float32).reshape(-1, 2)
        anchors = torch.as_tensor(anchors, dtype=torch.float32)
        expect = _step(sizes, anchors)
        return Case(says, args=(sizes, anchors), expect=expect, within=1e-5)

    generator = torch.Generator().manual_seed(2)
    sizes = (5 + 90 * torch.rand(40, 2, generator=generator)).round()
    three = [[4, 8], [10, 10], [40, 20]]
    far = torch.tensor([[900.0, 2], [2, 900]])
    return [
        case("one size, one anchor", [[4, 8]], [[2, 2]]),
        case("two sizes, one anchor", [[4, 8], [2, 4]], [[3, 3]]),
        case("no sizes", torch.zeros(0, 2), [[3, 4], [5, 6]]),
        case("an anchor without sizes moves", [[4, 8]], [[4, 7], [50, 50]]),
        case("to the lowest IoU", three, [[4, 8], [10, 12], [200, 1]]),
        case("two anchors without sizes", three, [[300, 1], [10, 12], [1, 300]]),
        case("more anchors than sizes", [[4, 8]], [[50, 50], [4, 8], [60, 9]]),
        case("the first of equally low", [[4, 8], [8, 4], [6, 6]], [[6, 6], [90, 90]]),
        case("near in pixels is not near in IoU", [[8, 8], [2, 3]], [[2, 2], [18, 18]]),
        case("sides are not exchanged", [[2, 8], [8, 3]], [[8, 2], [3, 9]]),
        case("the first of equal anchors", [[4, 4], [8, 3]], [[2, 8], [8, 2]]),
        case("forty sizes, five anchors", sizes, sizes[:5]),
        case("forty sizes, two of six anchors far", sizes, torch.cat([far, sizes[:4]])),
    ]


# --- 5 ------------------------------------------------------------------------


def _targets(boxes, side, grid):
    target = torch.zeros(5, grid, grid)
    rows = boxes.tolist()
    for x1, y1, x2, y2 in sorted(rows, key=lambda b: (b[2] - b[0]) * (b[3] - b[1])):
        x, y = (x1 + x2) / 2 / side * grid, (y1 + y2) / 2 / side * grid
        column, row = min(int(x), grid - 1), min(int(y), grid - 1)
        w, h = (x2 - x1) / side, (y2 - y1) / side
        values = [1.0, x - column, y - row, w**0.5, h**0.5]
        target[:, row, column] = torch.tensor(values)
    return target


@exercise(
    "22.fixed_targets",
    hint="Follow one wide box in the upper right corner by hand: which row, which "
    "column, which two roots? Then put a small box into the cell of a large one.",
)
def fixed_targets() -> list[Case]:
    def case(says, boxes, side=64, grid=4):
        expect = _targets(boxes, side, grid)
        return Case(says, args=(boxes, side, grid), expect=expect, within=1e-5)

    large, small = _row(0, 0, 32, 32), _row(18, 18, 24, 24)
    area = torch.tensor([[18.0, 18, 34, 34], [4, 22, 44, 26], [22, 4, 26, 44]])
    equal = torch.tensor([[16.0, 16, 24, 24], [20, 20, 28, 28]])
    return [
        case("a box of the whole picture's size", _row(0, 0, 64, 64), grid=1),
        case("a square box on the diagonal", _row(0, 0, 16, 16)),
        case("a wide box in the upper right corner", _row(40, 2, 62, 10)),
        case("a center on the lower right border", _row(60, 60, 68, 68)),
        case("a large box after a small one", torch.cat([small, large])),
        case("a small box after a large one", torch.cat([large, small])),
        case("the largest is neither the widest nor the highest", area),
        case("the later of equal boxes", equal),
        case("no boxes", EMPTY),
        case("five boxes, a grid of 7", some_boxes(5, 7, smallest=2).float(), 64, 7),
    ]

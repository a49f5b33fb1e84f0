"""Checks for the exercises of chapter 4, shapes and memory."""

import torch

from course_utils.checks.core import Case, Wrong, exercise

__all__: list[str] = []


@exercise(
    "04.is_contiguous",
    hint="Go through the dimensions from the last to the first. Keep the stride "
    "that is expected next: 1 at first, then multiplied by each size.",
)
def is_contiguous() -> list[Case]:
    return [
        Case("a scalar has no strides", ((), ()), expect=True),
        Case("a vector", ((3,), (1,)), expect=True),
        Case("every second element", ((3,), (2,)), expect=False),
        Case("a matrix", ((3, 4), (4, 1)), expect=True),
        Case("its transpose", ((4, 3), (1, 4)), expect=False),
        Case("two of four columns", ((3, 2), (4, 1)), expect=False),
        Case("a size of 1 may have any stride", ((1, 3), (77, 1)), expect=True),
        Case("also in the last place", ((3, 1), (1, 5)), expect=True),
        Case("one of four columns", ((3, 1), (4, 1)), expect=False),
        Case("an expanded row", ((3, 4), (0, 1)), expect=False),
        Case("no elements: nothing to walk", ((2, 0, 3), (9, 1, 5)), expect=True),
        Case("three dimensions", ((2, 3, 4), (12, 4, 1)), expect=True),
        Case(
            "the last element lies as far, the others do not",
            ((2, 2, 2), (5, 1, 1)),
            expect=False,
        ),
        Case("channels last", ((2, 3, 4, 5), (60, 1, 15, 3)), expect=False),
    ]


@exercise(
    "04.expand_strides",
    hint="Compare the lengths first. Then walk shape, strides and the last sizes of "
    "target together: per dimension there are three cases.",
)
def expand_strides() -> list[Case]:
    return [
        Case("nothing to do", ((3,), (1,), (3,)), expect=(1,)),
        Case("a single element grows", ((1,), (1,), (4,)), expect=(0,)),
        Case("a column grows to the right", ((3, 1), (1, 1), (3, 4)), expect=(1, 0)),
        Case("a new dimension on the left", ((3,), (1,), (2, 3)), expect=(0, 1)),
        Case("both", ((3, 1), (1, 1), (2, 3, 4)), expect=(0, 1, 0)),
        Case(
            "strides of a transpose are kept",
            ((4, 1, 3), (1, 7, 4), (4, 5, 3)),
            expect=(1, 0, 4),
        ),
        Case(
            "a size of 1 that stays keeps its stride",
            ((1, 3), (3, 1), (1, 3)),
            expect=(3, 1),
        ),
        Case("a size of 1 grows to 0", ((3, 1), (1, 1), (3, 0)), expect=(1, 0)),
        Case("3 does not fit 4", ((3,), (1,), (4,)), expect=ValueError),
        Case("3 does not fit 6", ((3,), (1,), (6,)), expect=ValueError),
        Case("3 does not shrink to 1", ((3,), (1,), (1,)), expect=ValueError),
        Case("3 does not shrink to 0", ((3,), (1,), (0,)), expect=ValueError),
        Case("0 does not grow", ((0,), (1,), (3,)), expect=ValueError),
        Case("fewer dimensions", ((1, 3), (3, 1), (3,)), expect=ValueError),
    ]


def _wide(images: torch.Tensor) -> torch.Tensor:
    """The pictures of a batch side by side, column by column."""
    count, channels, height, width = images.shape
    out = images.new_zeros(channels, height, count * width)
    for i in range(count):
        out[:, :, i * width : (i + 1) * width] = images[i]
    return out


@exercise(
    "04.side_by_side",
    hint="A reshape merges neighbors only. Which two dimensions become one, and in "
    "which order must they stand before?",
)
def side_by_side() -> list[Case]:
    one = torch.arange(6).reshape(1, 1, 2, 3)
    two = torch.arange(8).reshape(2, 1, 2, 2)
    color = torch.arange(36.0).reshape(3, 2, 2, 3)
    turned = torch.arange(36.0).reshape(3, 3, 2, 2).transpose(2, 3)[:, :2]
    return [
        Case("one picture", (one,), expect=_wide(one)),
        Case("two gray pictures of 2 by 2", (two,), expect=_wide(two)),
        Case("three pictures with two channels", (color,), expect=_wide(color)),
        Case("strides that are not contiguous", (turned,), expect=_wide(turned)),
        Case(
            "an empty batch",
            (torch.zeros(0, 2, 3, 4, dtype=torch.int64),),
            expect=torch.zeros(2, 3, 0, dtype=torch.int64),
        ),
    ]


@exercise(
    "04.boxes_of_class",
    hint="Advanced indexing takes two index tensors in pairs. The second one is "
    "labels; what must the first one hold?",
)
def boxes_of_class() -> list[Case]:
    def case(says, boxes, labels):
        chosen = [boxes[i, k] for i, k in enumerate(labels.tolist())]
        expect = torch.stack(chosen) if chosen else boxes.new_zeros(0, 4)
        return Case(says, (boxes, labels), expect=expect)

    boxes = torch.arange(24.0).reshape(2, 3, 4)
    many = torch.arange(80.0).reshape(5, 4, 4)
    return [
        case("one region", boxes[:1], torch.tensor([2])),
        case("two regions, two classes", boxes, torch.tensor([2, 0])),
        case("a class that repeats", many, torch.tensor([3, 1, 1, 0, 3])),
        case("strides that are not contiguous", many.transpose(0, 1), torch.arange(4)),
        case("integer boxes", many.long(), torch.tensor([1, 0, 2, 0, 3])),
        case("no regions", boxes[:0], torch.zeros(0, dtype=torch.int64)),
    ]


@exercise(
    "04.patches",
    hint="Split H and W into two dimensions each with a reshape, and write down the "
    "five dimensions. Then put them into the order that the result needs.",
)
def patches() -> list[Case]:
    def case(says, image, size):
        channels, height, width = image.shape
        found = [
            image[:, r : r + size, c : c + size]
            for r in range(0, height, size)
            for c in range(0, width, size)
        ]
        expect = (
            torch.stack(found) if found else image.new_zeros(0, channels, size, size)
        )
        return Case(says, (image, size), expect=expect)

    gray = torch.arange(16).reshape(1, 4, 4)
    wide = torch.arange(48.0).reshape(2, 4, 6)
    return [
        case("one patch", gray[:, :2, :2], 2),
        case("four patches of a gray picture", gray, 2),
        case("patches of one pixel", gray[:, :2, :2], 1),
        case("two channels, wider than high", wide, 2),
        case("patches of 3 by 3", torch.arange(54).reshape(1, 6, 9), 3),
        case("a transposed picture", wide.transpose(1, 2), 2),
        Case("3 rows do not divide by 2", (gray[:, :3, :2], 2), expect=ValueError),
        Case("3 columns do not divide by 2", (gray[:, :2, :3], 2), expect=ValueError),
        # 3 x 4 has as many pixels as three patches of 2 x 2
        Case(
            "the number of pixels fits, the sides do not",
            (gray[:, :3, :4], 2),
            expect=ValueError,
        ),
    ]


@exercise(
    "04.merge_windows",
    hint="Keep two rows of zeros: one for the sums and one for how many windows "
    "reach each position. Divide at the end.",
)
def merge_windows() -> list[Case]:
    def aliasing(answer):
        windows = torch.tensor([[1.0, 2.0, 3.0]])
        result = answer(windows, 1)
        if not isinstance(result, torch.Tensor):
            raise Wrong(f"a tensor was expected, not a {type(result).__name__}")
        result += 1
        if windows.tolist() != [[1.0, 2.0, 3.0]]:
            raise Wrong(
                "the result is a view of the windows: writing into it changed them"
            )

    line = torch.arange(5.0) ** 2
    return [
        Case(
            "one window",
            (torch.tensor([[1.0, 2.0]]), 1),
            expect=torch.tensor([1.0, 2.0]),
        ),
        Case(
            "two windows that overlap",
            (torch.tensor([[1.0, 2.0], [4.0, 3.0]]), 1),
            expect=torch.tensor([1.0, 3.0, 3.0]),
        ),
        Case(
            "two windows side by side",
            (torch.tensor([[1.0, 2.0], [4.0, 3.0]]), 2),
            expect=torch.tensor([1.0, 2.0, 4.0, 3.0]),
        ),
        Case(
            "windows of one line give it back", (line.unfold(0, 3, 1), 1), expect=line
        ),
        Case(
            "a gap between windows holds 0",
            (torch.tensor([[1.0, 2.0], [4.0, 3.0]]), 3),
            expect=torch.tensor([1.0, 2.0, 0.0, 4.0, 3.0]),
        ),
        Case(
            "three windows over one place",
            (torch.tensor([[0.0, 0.0, 0.0], [3.0, 3.0, 3.0], [9.0, 9.0, 9.0]]), 1),
            expect=torch.tensor([0.0, 1.5, 4.0, 6.0, 9.0]),
        ),
        Case(
            "windows of 3 in steps of 2",
            (torch.tensor([[1.0, 2.0, 3.0], [5.0, 4.0, 6.0]]), 2),
            expect=torch.tensor([1.0, 2.0, 4.0, 4.0, 6.0]),
        ),
        Case("no windows", (torch.zeros(0, 3), 1), expect=torch.zeros(0)),
        Case(
            "float64 stays float64",
            (torch.ones(2, 2, dtype=torch.float64), 1),
            expect=torch.ones(3, dtype=torch.float64),
        ),
        Case(
            "no windows, in float64",
            (torch.zeros(0, 3, dtype=torch.float64), 1),
            expect=torch.zeros(0, dtype=torch.float64),
        ),
        Case("the result has its own memory", test=aliasing),
    ]

"""The exercises of chapter 3, Tensors."""

import torch

from course_utils.checks.core import Case, Wrong, exercise
from course_utils.checks.watch import without

__all__: list[str] = []

INF, NAN = float("inf"), float("nan")


@exercise(
    "03.count_bytes",
    hint="Multiply the sizes of the shape, starting from the bytes of one element. "
    "Python's integers have no largest value; a tensor's have.",
)
def _count_bytes():
    def whole(answer):
        got = answer((3,), torch.float32)
        if type(got) is float:
            raise Wrong(f"a Python integer is wanted, got the float {got}")

    return [
        Case("a vector of bytes", ((3,), torch.uint8), expect=3),
        Case("a Python integer, no float", test=whole),
        Case("the example, 2 x 3 of float32", ((2, 3), torch.float32), expect=24),
        Case("no dimensions: one element", ((), torch.float64), expect=8),
        Case("a dimension of size 0: no elements", ((4, 0), torch.int64), expect=0),
        Case("float8 takes one byte", ((5,), torch.float8_e4m3fn), expect=5),
        Case("a torch.Size", (torch.Size([2, 2]), torch.bfloat16), expect=8),
        Case(
            "too large to create: count it from the shape",
            ((10**8, 10**8), torch.float32),
            expect=4 * 10**16,
        ),
        Case(
            "more than 64 bits can count, and exact",
            ((10**8, 10**8, 10**8), torch.float32),
            expect=4 * 10**24,
        ),
    ]


def _stays_there(table: torch.Tensor, *args):
    """A test that the answer for a tensor on another device lies there, too.

    The meta device stands for it: it is on every machine.
    """
    there = table.to("meta")

    def test(answer):
        says = f"a tensor of shape {tuple(table.shape)} on another device"
        try:
            got = answer(there, *args)
        except (RuntimeError, NotImplementedError) as error:
            reason = str(error).strip().splitlines()[0]
            if "meta tensor" in reason:  # it asked for values, which meta has not
                return
            raise Wrong(f"{says}: it raised\n{reason}") from None
        if not isinstance(got, torch.Tensor) or got.device != there.device:
            where = got.device if isinstance(got, torch.Tensor) else "no tensor"
            raise Wrong(f"{says}: the result was on another: {where}")

    return test


def _picture(values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.uint8)


@exercise(
    "03.contrast",
    hint="Convert to a type that holds fractions and negative numbers before you "
    "compute. Converting back to uint8 comes last.",
)
def _contrast():
    wide = _picture([[100, 9, 130, 9], [128, 9, 60, 9]])
    # All but the two that 1.03 moves to the middle of two whole numbers.
    every = _picture([v for v in range(256) if v not in (78, 178)])
    return [
        Case("factor 1 changes nothing", (_picture([7]), 1), expect=_picture([7])),
        Case(
            "100 with factor 2 becomes 72", (_picture([100]), 2), expect=_picture([72])
        ),
        Case(
            "too bright: 250 stops at 255", (_picture([250]), 2), expect=_picture([255])
        ),
        Case("too dark: 10 stops at 0", (_picture([10]), 2), expect=_picture([0])),
        Case(
            "rounded to the nearest: 129.8 and 131.6",
            (_picture([131, 134]), 0.6),
            expect=_picture([130, 132]),
        ),
        Case("factor 0 gives gray", (_picture([0, 9]), 0), expect=_picture([128, 128])),
        Case(
            "far beyond what 16 bits hold",
            (_picture([0, 128, 255]), 1000),
            expect=_picture([0, 128, 255]),
        ),
        Case(
            "a picture that is a strided view",
            (wide[:, ::2], 2),
            expect=_picture([[72, 132], [128, 0]]),
        ),
        Case("no pixels", (_picture([]), 2), expect=_picture([])),
        Case(
            "every value, factor 1.03: floats of 16 bits do not do",
            (every, 1.03),
            expect=(128 + 1.03 * (every.double() - 128)).round().clamp(0, 255).byte(),
        ),
    ]


@exercise(
    "03.equation",
    hint="Give each dimension a letter: b, c, h, w for the features. Which letter "
    "do both operands share, and which are missing in the result?",
)
def _equation():
    def is_equation(answer):
        if not isinstance(answer, str):
            raise Wrong(f"a string was expected, got {answer!r}")
        if "->" not in answer:
            raise Wrong(
                "the equation needs an arrow, ->, and the letters of the result"
            )
        if answer.split("->")[0].count(",") != 1:
            raise Wrong(
                "before the arrow: the letters of both operands, one comma between"
            )

    def try_on(features, weights):
        def test(answer):
            sizes = f"features {tuple(features.shape)}, weights {tuple(weights.shape)}"
            try:
                got = torch.einsum(answer, features, weights)
            except (RuntimeError, ValueError) as error:
                reason = str(error).strip().splitlines()[0]
                raise Wrong(f"{sizes}: einsum refused it\n{reason}") from None
            expected = (features[:, None] * weights[:, :, None, None]).sum(dim=2)
            if got.shape != expected.shape:
                raise Wrong(
                    f"{sizes}\nexpected: shape {tuple(expected.shape)}\n"
                    f"got:      shape {tuple(got.shape)}"
                )
            if not torch.allclose(got, expected, rtol=1e-5, atol=1e-6):
                raise Wrong(
                    f"{sizes}: right shape, wrong values\n"
                    f"expected: first element {expected.flatten()[0]:.4f}\n"
                    f"got:      first element {got.flatten()[0]:.4f}"
                )

        return test

    generator = torch.Generator().manual_seed(0)
    one = torch.ones(1, 2, 1, 1), torch.tensor([[1.0, 2.0]])
    many = (
        torch.rand(2, 3, 4, 5, generator=generator),
        torch.rand(6, 3, generator=generator),
    )
    # All sizes equal: only the letters tell the dimensions apart.
    square = (
        torch.rand(3, 3, 3, 3, generator=generator),
        torch.rand(3, 3, generator=generator),
    )
    return [
        Case("a string with two operands and an arrow", test=is_equation),
        Case("one pixel, two channels, one class", test=try_on(*one)),
        Case("two pictures, six classes", test=try_on(*many)),
        Case("all sizes equal", test=try_on(*square)),
    ]


@exercise(
    "03.scale_boxes",
    hint="Try it on one box in a picture 100 wide and 50 high. Then look at your "
    "boxes again after the call, and try integer boxes.",
)
def _scale_boxes():
    box = torch.tensor([[10.0, 10, 20, 40]])
    return [
        Case("width 1, height 1", (box, 1, 1), expect=box.clone()),
        Case(
            "one box in a picture 100 wide and 50 high",
            (box, 100, 50),
            expect=torch.tensor([[0.1, 0.2, 0.2, 0.8]]),
        ),
        Case(
            "integer boxes give float32",
            (torch.tensor([[0, 4, 8, 8]]), 8, 16),
            expect=torch.tensor([[0.0, 0.25, 1.0, 0.5]]),
        ),
        Case(
            "float64 boxes stay float64",
            (box.double(), 20, 40),
            expect=torch.tensor([[0.5, 0.25, 1.0, 1.0]], dtype=torch.float64),
        ),
        Case(
            "and are computed in float64",
            (box.double(), 30, 70),
            expect=box.double() / torch.tensor([30, 70, 30, 70]),
            within=1e-12,
        ),
        Case("no boxes", (torch.zeros(0, 4), 100, 50), expect=torch.zeros(0, 4)),
        Case("boxes on another device", test=_stays_there(box, 100, 50)),
    ]


@exercise(
    "03.log_sum_exp",
    hint="amax with keepdim=True gives a largest value for each row that can be "
    "subtracted from it. Where that value is infinite, subtract 0 instead.",
)
def _log_sum_exp():
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(3, 4, generator=generator)
    deep = torch.randn(3, 1, 5, generator=generator)
    rows = torch.tensor([[-INF, -INF], [-INF, 0.0], [INF, 1.0]])

    def written(answer):
        says = "the text asks for it without torch.logsumexp"
        with without("logsumexp", "special_logsumexp", says=says):
            answer(table.clone(), 0)

    return [
        Case("one value is itself", (torch.tensor([3.0]), 0), expect=torch.tensor(3.0)),
        Case(
            "two zeros: log 2",
            (torch.zeros(2), 0),
            expect=torch.tensor(2.0).log(),
        ),
        Case(
            "large values do not overflow",
            (torch.tensor([1000.0, 1000.0]), 0),
            expect=torch.tensor([1000.0, 1000.0]).logsumexp(0),
        ),
        Case(
            "nor do very negative ones vanish",
            (torch.tensor([-1000.0, -1000.0]), 0),
            expect=torch.tensor([-1000.0, -1000.0]).logsumexp(0),
        ),
        Case("along dim 0", (table, 0), expect=table.logsumexp(0)),
        Case("along dim 1", (table, 1), expect=table.logsumexp(1)),
        Case("along dim -1", (table, -1), expect=table.logsumexp(-1)),
        Case(
            "each row its own largest value",
            (torch.tensor([[0.0, 0.0], [500.0, 500.0]]), 1),
            expect=torch.tensor([[0.0, 0.0], [500.0, 500.0]]).logsumexp(1),
        ),
        Case(
            "large and small values together",
            (torch.tensor([0.0, 1000.0]), 0),
            expect=torch.tensor(1000.0),
        ),
        Case("infinite values", (rows, 1), expect=torch.tensor([-INF, 0.0, INF])),
        Case(
            "float64 stays float64",
            (table.double(), 0),
            expect=table.double().logsumexp(0),
        ),
        Case(
            "another dimension of size 1 stays",
            (deep, 2),
            expect=deep.logsumexp(2),
        ),
        Case("without torch.logsumexp", test=written),
    ]


@exercise(
    "03.match",
    hint="max with dim=1 gives the best IoU of each prediction and its column. "
    "torch.where then chooses; a table without columns needs a line of its "
    "own.",
)
def _match():
    chapter = torch.tensor([[0.75, 0.0], [0.0, 0.6522], [0.1739, 0.1290]])
    return [
        Case(
            "one pair that fits", (torch.tensor([[0.8]]), 0.5), expect=torch.tensor([0])
        ),
        Case(
            "one pair that does not",
            (torch.tensor([[0.2]]), 0.5),
            expect=torch.tensor([-1]),
        ),
        Case(
            "exactly at the threshold: not below, so it counts",
            (torch.tensor([[0.25, 0.5]]), 0.5),
            expect=torch.tensor([1]),
        ),
        Case("the chapter's table", (chapter, 0.5), expect=torch.tensor([0, 1, -1])),
        Case(
            "the largest of two that fit",
            (torch.tensor([[0.6, 0.9]]), 0.5),
            expect=torch.tensor([1]),
        ),
        Case(
            "another threshold",
            (torch.tensor([[0.1, 0.4]]), 0.3),
            expect=torch.tensor([1]),
        ),
        Case(
            "one object may be matched twice",
            (torch.tensor([[0.1, 0.6], [0.2, 0.9]]), 0.5),
            expect=torch.tensor([1, 1]),
        ),
        Case(
            "more objects than predictions",
            (torch.tensor([[0.1, 0.2, 0.9, 0.3]]), 0.5),
            expect=torch.tensor([2]),
        ),
        Case(
            "no objects",
            (torch.zeros(2, 0), 0.5),
            expect=torch.tensor([-1, -1]),
        ),
        Case(
            "no predictions",
            (torch.zeros(0, 3), 0.5),
            expect=torch.zeros(0, dtype=torch.int64),
        ),
        Case(
            "neither",
            (torch.zeros(0, 0), 0.5),
            expect=torch.zeros(0, dtype=torch.int64),
        ),
        Case(
            "nan, from boxes without area: no match",
            (torch.tensor([[NAN, 0.2], [0.3, 0.9]]), 0.5),
            expect=torch.tensor([-1, 1]),
        ),
        Case(
            "no objects, on another device",
            test=_stays_there(torch.zeros(2, 0), 0.5),
        ),
    ]

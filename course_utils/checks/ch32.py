"""Exercises of chapter 32, shipping."""

import copy
import itertools

import torch
from torch import nn

from course_utils.checks.core import Case, Wrong, difference, exercise

__all__: list[str] = []


# --- 1 ------------------------------------------------------------------------


@exercise(
    "32.percentile",
    hint="Sort a copy. How many of the times may lie at or below the answer, at least? "
    "Round that number up with whole numbers alone.",
)
def percentile() -> list[Case]:
    hundred = [float((37 * k) % 100) for k in range(100)]  # 0 to 99, in disorder
    few = [5, 1, 4, 2]

    def each_percent(answer):
        for percent in range(1, 101):
            got = answer(list(hundred), percent)
            if got != percent - 1:
                raise Wrong(
                    f"the {percent}th percentile of 0.0 to 99.0, in disorder: "
                    f"got {got!r}, expected {float(percent - 1)}"
                )

    return [
        Case("one time", args=([3.5], 50), expect=3.5),
        Case("one time, the slowest", args=([3.5], 100), expect=3.5),
        Case("the 50th of four", args=(few, 50), expect=2),
        Case("the 51st of four", args=(few, 51), expect=4),
        Case("the 1st of four", args=(few, 1), expect=1),
        Case("the 75th and not above", args=(few, 75), expect=4),
        Case("the 100th", args=(few, 100), expect=5),
        Case("equal times", args=([2, 2, 2, 7], 75), expect=2),
        Case("three times", args=([30, 10, 20], 34), expect=20),
        Case("the 7th of a hundred", args=(hundred, 7), expect=6.0),
        Case("each of a hundred", test=each_percent),
    ]


# --- 2 ------------------------------------------------------------------------


@exercise(
    "32.quantize_groups",
    hint="Pad the columns with zeros to a multiple of the size, and give the groups an "
    "axis of their own. Zeros change no largest value.",
)
def quantize_groups() -> list[Case]:
    def case(says, weight, size, q, scales, dtype=torch.float32):
        weight = torch.tensor(weight, dtype=dtype)
        expect = (
            torch.tensor(q, dtype=torch.int8),
            torch.tensor(scales, dtype=dtype),
        )
        return Case(says, args=(weight, size), expect=expect)

    generator = torch.Generator().manual_seed(0)
    many = torch.randn(5, 37, generator=generator)
    many[3, 8:16] = 0

    def expected(weight, size):
        q = torch.zeros(weight.shape, dtype=torch.int8)
        starts = range(0, weight.shape[1], size)
        scales = torch.ones(len(weight), len(starts), dtype=weight.dtype)
        for row, (k, start) in itertools.product(range(len(weight)), enumerate(starts)):
            group = weight[row, start : start + size]
            if group.abs().max() > 0:
                scales[row, k] = group.abs().max() / 7
            steps = (group / scales[row, k]).round()
            q[row, start : start + size] = steps.to(torch.int8)
        return q, scales

    view = many.T.contiguous().T
    return [
        case("one group", [[7.0, -3.0, 0.0]], 3, [[7, -3, 0]], [[1.0]]),
        case("two groups", [[7.0, 0.0, 14.0, 2.0]], 2, [[7, 0, 7, 1]], [[1.0, 2.0]]),
        case("a shorter last group", [[7.0, 1.0, -14.0]], 2, [[7, 1, -7]], [[1, 2]]),
        case("a group of zeros", [[0.0, 0.0, 7.0]], 2, [[0, 0, 7]], [[1.0, 1.0]]),
        case("two rows", [[7.0], [-21.0]], 4, [[7], [-7]], [[1.0], [3.0]]),
        case("half a step", [[7.0, 0.5, 1.5, -2.5]], 4, [[7, 0, 2, -2]], [[1.0]]),
        Case(
            "no rows",
            args=(torch.zeros(0, 3), 2),
            expect=(torch.zeros(0, 3, dtype=torch.int8), torch.zeros(0, 2)),
        ),
        case("float64", [[14.0, -2.0]], 1, [[7, -7]], [[2, 2 / 7]], torch.float64),
        Case("37 columns, groups of 8", args=(many, 8), expect=expected(many, 8)),
        Case("groups of 1", args=(many, 1), expect=expected(many, 1)),
        Case("one group of 64", args=(many, 64), expect=expected(many, 64)),
        Case("a transposed weight", args=(view, 8), expect=expected(many, 8)),
    ]


# --- 3 ------------------------------------------------------------------------


@exercise(
    "32.median_time",
    hint="Two loops: one that measures nothing, and one that looks at the clock before "
    "and after each call.",
)
def median_time() -> list[Case]:
    def case(says, lengths, warm, expect):
        def test(answer):
            state = {"now": 100.0, "calls": 0, "looks": 0}

            def call():
                if state["calls"] == len(lengths):
                    raise Wrong(f"more than {len(lengths)} calls, {warm} to warm up")
                state["now"] += lengths[state["calls"]]
                state["calls"] += 1

            def clock():
                state["looks"] += 1
                state["now"] += 0  # looking takes no time
                return state["now"]

            got = answer(call, warm, len(lengths) - warm, clock)
            told = f"calls that take {lengths} s, the first {warm} to warm up"
            if state["calls"] != len(lengths):
                raise Wrong(f"{told}: {state['calls']} calls were made")
            if not isinstance(got, int | float) or abs(got - expect) > 1e-9:
                raise Wrong(f"{told}: got {got!r}, expected {expect}")

        return Case(says, test=test)

    def between(answer):
        """Work between two calls is not part of either."""
        now = itertools.count()
        got = answer(lambda: None, 0, 4, lambda: float(next(now)))
        if got != 1.0:
            raise Wrong(
                f"each look at the clock a second later, calls that take none: got "
                f"{got!r}, expected 1.0; look once before and once after each call"
            )

    return [
        case("one call", [0.5], 0, 0.5),
        case("one to warm up", [9.0, 0.5], 1, 0.5),
        case("three equal calls", [0.5, 0.5, 0.5], 0, 0.5),
        case("one slow call", [1.0, 1.0, 16.0], 0, 1.0),
        case("in disorder", [4.0, 1.0, 2.0], 0, 2.0),
        case("an even number", [4.0, 1.0, 2.0, 8.0], 0, 3.0),
        case("two", [0.25, 4.0, 1.0], 1, 2.5),
        case("slow while warming up", [50.0, 30.0, 1.0, 2.0, 3.0], 2, 2.0),
        Case("looks at the clock", test=between),
    ]


# --- 4 ------------------------------------------------------------------------


def _pair(inputs, outputs, affine=True, bias=True, dtype=torch.float32):
    """A normalization and a layer whose numbers are all different."""
    norm = nn.BatchNorm1d(inputs, affine=affine, eps=1e-3, dtype=dtype)
    linear = nn.Linear(inputs, outputs, bias=bias, dtype=dtype)
    steps = torch.arange(1, inputs + 1, dtype=dtype)
    with torch.no_grad():
        norm.running_mean.copy_(steps - 2.5)
        norm.running_var.copy_(steps / 2)
        if affine:
            norm.weight.copy_(2 - steps / 3)
            norm.bias.copy_(steps / 4 - 1)
        values = torch.linspace(-2, 3, inputs * outputs, dtype=dtype).sin()
        linear.weight.copy_(values.reshape(outputs, inputs))
        if bias:
            linear.bias.copy_(torch.linspace(1, 2, outputs, dtype=dtype))
    return norm.eval(), linear


@exercise(
    "32.fold_before",
    hint="Write the normalization as x * scale + shift, one scale and one shift for "
    "each input. What does the layer's matrix make of the two?",
)
def fold_before() -> list[Case]:
    def case(says, *shape, train=False, **options):
        def test(answer):
            norm, linear = _pair(*shape, **options)
            before = copy.deepcopy((norm.state_dict(), linear.state_dict()))
            norm.train(train)
            new = answer(norm, linear)
            if norm.training != train:
                raise Wrong(
                    f"the norm's mode was changed: training is {norm.training}, was "
                    f"{train}"
                )
            norm.eval()
            if not isinstance(new, nn.Linear) or new is linear:
                raise Wrong(f"expected a new nn.Linear, got {type(new).__name__}")
            if new.bias is None:
                raise Wrong("the new layer has no bias")
            after = (norm.state_dict(), linear.state_dict())
            if found := difference(after, before):
                raise Wrong(f"the norm or the layer was changed: {found}")
            dtype = options.get("dtype", torch.float32)
            if new.weight.dtype != dtype or new.bias.dtype != dtype:
                raise Wrong(f"expected {dtype}, got {new.weight.dtype}")
            if (new.in_features, new.out_features) != shape:
                raise Wrong(
                    f"expected {shape[0]} inputs and {shape[1]} outputs, got "
                    f"{new.in_features} and {new.out_features}"
                )
            x = torch.linspace(-3, 3, 5 * shape[0], dtype=dtype).reshape(5, shape[0])
            with torch.no_grad():
                wanted, got = linear(norm(x)), new(x)
            bad = (wanted - got).abs() > 1e-4 * (1 + wanted.abs())
            if bool(bad.any()) or not bool(got.isfinite().all()):
                row, column = (int(n) for n in bad.nonzero()[0])
                raise Wrong(
                    f"{norm}, {linear}: output [{row}, {column}] is "
                    f"{got[row, column].item():.4f}, expected "
                    f"{wanted[row, column].item():.4f}"
                )

        return Case(says, test=test)

    return [
        case("one input, one output", 1, 1),
        case("three inputs, two outputs", 3, 2),
        case("as many outputs as inputs", 4, 4),
        case("a layer without bias", 3, 2, bias=False),
        case("a norm without weight and bias", 3, 2, affine=False),
        case("neither", 3, 2, affine=False, bias=False),
        case("float64", 3, 2, dtype=torch.float64),
        case("a norm in training mode: its stored statistics", 3, 2, train=True),
        case("many inputs", 40, 7),
    ]


# --- 5 ------------------------------------------------------------------------


@exercise(
    "32.fuse",
    hint="First collect, for each name, the nodes that read it; count a node twice if "
    "it reads the name twice. Then walk through the nodes once.",
)
def fuse() -> list[Case]:
    conv, relu = ("Conv", ("x", "w"), "a"), ("Relu", ("a",), "b")
    fused = ("FusedConv", ("x", "w"), "b")
    other = ("Add", ("b", "x"), "c")
    pool = ("MaxPool", ("x",), "p")
    second = ("Conv", ("b", "v", "u"), "d"), ("Relu", ("d",), "e")
    both = ("FusedConv", ("b", "v", "u"), "e")
    twice = ("Relu", ("b",), "d")
    return [
        Case("no nodes", args=([], ["x"]), expect=[]),
        Case("only a Conv", args=([conv], ["a"]), expect=[conv]),
        Case("only a Relu", args=([relu], ["b"]), expect=[relu]),
        Case("Conv and Relu", args=([conv, relu], ["b"]), expect=[fused]),
        Case(
            "the name between is an output",
            args=([conv, relu], ["b", "a"]),
            expect=[conv, relu],
        ),
        Case(
            "somebody else reads it",
            args=([conv, relu, ("Add", ("a", "b"), "c")], ["c"]),
            expect=[conv, relu, ("Add", ("a", "b"), "c")],
        ),
        Case(
            "two Relus read it",
            args=([conv, relu, ("Relu", ("a",), "c")], ["b", "c"]),
            expect=[conv, relu, ("Relu", ("a",), "c")],
        ),
        Case(
            "another node reads it, no Relu",
            args=([conv, ("Clip", ("a",), "b")], ["b"]),
            expect=[conv, ("Clip", ("a",), "b")],
        ),
        Case(
            "nodes before, between and behind",
            args=([pool, conv, ("Exp", ("p",), "q"), relu, other], ["c", "q"]),
            expect=[pool, fused, ("Exp", ("p",), "q"), other],
        ),
        Case("two pairs", args=([conv, relu, *second], ["e"]), expect=[fused, both]),
        Case(
            "pairs side by side",
            args=(
                [
                    conv,
                    ("Conv", ("y", "v"), "d"),
                    ("Relu", ("d",), "e"),
                    relu,
                ],
                ["b", "e"],
            ),
            expect=[fused, ("FusedConv", ("y", "v"), "e")],
        ),
        Case(
            "a second Relu stays",
            args=([conv, relu, twice], ["d"]),
            expect=[fused, twice],
        ),
        Case(
            "a Relu of the input stays",
            args=([("Relu", ("x",), "r"), conv, relu], ["b", "r"]),
            expect=[("Relu", ("x",), "r"), fused],
        ),
        Case(
            "what a Conv gives is read twice by one node",
            args=([conv, ("Mul", ("a", "a"), "b")], ["b"]),
            expect=[conv, ("Mul", ("a", "a"), "b")],
        ),
    ]

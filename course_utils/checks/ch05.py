"""Exercises of chapter 05, autograd."""

import math
from unittest import mock

import torch

from course_utils.checks.core import Case, Wrong, exercise, three_numbers
from course_utils.checks.samples import uniform
from course_utils.checks.watch import Watch, called_by, without

__all__: list[str] = []


def _near(got: float, wanted: float) -> bool:
    return abs(got - wanted) <= 1e-6 * max(1.0, abs(wanted))


# --- 1 ------------------------------------------------------------------------


@exercise(
    "05.predict",
    hint="Follow one tensor, w, and its .grad line by line. Each backward adds the "
    "slope at the value that w has then to what stands in .grad already.",
)
def predict() -> list[Case]:
    def first(answer):
        if not _near(three_numbers(answer)[0], 4):
            raise Wrong("the slope of w * w at 2 is not what you gave: w is used twice")

    def second(answer):
        one, two, _ = three_numbers(answer)
        if _near(two, 3):
            raise Wrong("3 is the slope of 3 * w alone; was .grad reset in between?")
        if not _near(two, one + 3):
            raise Wrong("the second call adds the slope of 3 * w to what was there")

    def third(answer):
        _, two, three = three_numbers(answer)
        if _near(three, 3):
            raise Wrong("3 is the slope of w ** 3 alone; was .grad reset in between?")
        if _near(three, two + 12):
            raise Wrong("12 is the slope of w ** 3 at 2; what is w by then?")
        if not _near(three, two + 3):
            raise Wrong("the third call adds the slope of w ** 3 at the new w")

    return [
        Case("three numbers", test=three_numbers),
        Case("the first", test=first),
        Case("the second", test=second),
        Case("the third", test=third),
    ]


# --- 2 ------------------------------------------------------------------------


def _fit(x: torch.Tensor, targets: torch.Tensor, steps: int, lr: float):
    a = torch.zeros((), dtype=x.dtype)
    b = torch.zeros((), dtype=x.dtype)
    for _ in range(steps):
        error = a * x + b - targets
        a, b = a - lr * 2 * (error * x).mean(), b - lr * 2 * error.mean()
    return torch.stack([a, b])


@exercise(
    "05.fit_line",
    hint="Print line.grad after each step: what does backward do with what is there? "
    "The update belongs into a block in which nothing is recorded.",
)
def fit_line() -> list[Case]:
    x = torch.tensor([0.0, 1.0, 2.0])
    targets = torch.tensor([1.0, 3.0, 5.0])
    both = torch.stack([uniform(6), uniform(6, seed=1)], dim=1)

    def case(says, *args, within=1e-4):
        return Case(says, args=args, expect=_fit(*args), within=within)

    def plain(answer):
        with without(".data", ".data=", says="the text asks for it without .data"):
            got = answer(x, targets, 3, 0.1)
        if watched_by_optimizer(answer):
            raise Wrong("the text asks for it without an optimizer")
        if not isinstance(got, torch.Tensor):
            raise Wrong(f"a tensor was expected, not a {type(got).__name__}")
        if got.requires_grad:
            raise Wrong("the result still requires a gradient: detach it")

    def watched_by_optimizer(answer):
        made = torch.optim.Optimizer.__init__
        with mock.patch.object(torch.optim.Optimizer, "__init__", autospec=True) as new:
            new.side_effect = made
            answer(x, targets, 1, 0.1)
        return new.called

    def quiet(answer):
        with torch.enable_grad():  # restores the mode, whatever the answer does
            answer(x, targets, 2, 0.1)
            on = torch.is_grad_enabled()
        if not on:
            raise Wrong("recording is switched off after your function: use a block")

    return [
        case("no step at all", x, targets, 0, 0.1),
        case("one step", x, targets, 1, 0.1),
        case("two steps", x, targets, 2, 0.1),
        case("fifty steps", x, targets, 50, 0.1),
        case("float64, strided input", both[:, 0], both[:, 1], 20, 0.05),
        Case("the result requires no gradient", test=plain),
        Case("recording is left on", test=quiet),
    ]


# --- 3 ------------------------------------------------------------------------


@exercise(
    "05.length",
    hint="Let sqrt never see a zero: put a harmless number in its place first, and put "
    "the zero back afterwards.",
)
def length() -> list[Case]:
    def slope(x, says):
        def test(answer):
            leaf = x.detach().clone().requires_grad_()
            result = answer(leaf)
            if not isinstance(result, torch.Tensor) or not result.requires_grad:
                raise Wrong("the result is cut off from the graph: no gradient")
            (got,) = torch.autograd.grad(result.sum(), leaf)
            norm = x.norm(dim=-1, keepdim=True)
            wanted = torch.where(norm > 0, x / norm, torch.zeros_like(x))
            if not torch.allclose(got, wanted, rtol=1e-6, atol=1e-9):
                raise Wrong(
                    f"input:    {x.tolist()}\n"
                    f"gradient expected: {wanted.tolist()}\n"
                    f"gradient got:      {got.tolist()}"
                )

        return Case(says, test=test)

    def written(answer):
        names = ["norm", "linalg_norm", "linalg_vector_norm", "linalg_matrix_norm"]
        names += ["hypot", "dist", "cdist", "pairwise_distance"]
        says = "write it from square, sum and sqrt, without a ready-made norm"
        with without(*names, says=says):
            answer(three_four.clone())

    three_four = torch.tensor([3.0, 4.0])
    batch = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    tiny = torch.tensor([[3e-9, 4e-9]], dtype=torch.float64)
    return [
        Case("one vector", args=(three_four,), expect=torch.tensor(5.0)),
        Case(
            "two vectors, of which one is zero",
            args=(batch,),
            expect=torch.tensor([5.0, 0.0]),
            within=0,
        ),
        Case(
            "no vectors",
            args=(torch.zeros(0, 2),),
            expect=torch.zeros(0),
        ),
        Case(
            "a tiny vector",
            args=(tiny,),
            expect=tiny.norm(dim=-1),
            within=1e-9,
            absolute=0,
        ),
        slope(three_four, "the gradient of one vector"),
        slope(torch.zeros(2), "the gradient at zero"),
        slope(batch, "the gradient of a batch that holds a zero vector"),
        slope(tiny, "the gradient of a tiny vector is exact"),
        slope(torch.tensor([3.0, 0.0]), "the gradient where one number is zero"),
        slope(torch.tensor([1e-16, 0]).double(), "a length of 1e-16 is not zero"),
        slope(uniform(2, 5, 3).transpose(0, 1), "three dimensions, transposed"),
        Case("from square, sum and sqrt", test=written),
    ]


# --- 4 ------------------------------------------------------------------------


@exercise(
    "05.jacobian",
    hint="Work on a copy of x that requires a gradient. Call torch.autograd.grad for "
    "each element of f(x).flatten(), keep the graph, and allow unused inputs.",
)
def jacobian() -> list[Case]:
    def case(says, f, x, wanted, watch_x=True):
        def by_hand(at):
            if called_by("torch._functorch", "torch.autograd.functional"):
                raise Wrong("without torch.func or torch.autograd.functional, please")
            return f(at)

        def test(answer):
            watched = x.detach().clone()
            if watch_x:
                watched.requires_grad_().grad = torch.full_like(watched, 7.0)
            with Watch() as watch:
                got = answer(by_hand, watched)
            if got is None:
                raise Wrong("None came back: does the function end with a return?")
            if not isinstance(got, torch.Tensor):
                raise Wrong(f"a tensor was expected, not a {type(got).__name__}")
            if got.shape != wanted.shape:
                raise Wrong(
                    f"input: {x.tolist()}\n"
                    f"shape {tuple(got.shape)} instead of {tuple(wanted.shape)}: "
                    "the output's shape, then the input's"
                )
            if got.dtype != wanted.dtype:
                raise Wrong(f"dtype {got.dtype} instead of {wanted.dtype}")
            if not torch.allclose(got, wanted, rtol=1e-5, atol=1e-7):
                raise Wrong(
                    f"input:    {x.tolist()}\n"
                    f"expected: {wanted.tolist()}\n"
                    f"got:      {got.tolist()}"
                )
            if watched.requires_grad != watch_x:
                raise Wrong("x was changed: it requires a gradient now")
            if watch_x and not torch.equal(watched.grad, torch.full_like(x, 7.0)):
                raise Wrong("the .grad of x was changed on the way")
            if not torch.equal(watched.detach(), x):
                raise Wrong("x was changed on the way")
            if "grad" not in watch.names and wanted.any():
                raise Wrong("the text asks for torch.autograd.grad; it was not called")

        return Case(says, test=test)

    two = torch.tensor([2.0, 3.0])
    square = uniform(2, 3).transpose(0, 1)  # (3, 2), not contiguous
    return [
        case("two in, two out", lambda x: 2 * x, two, 2 * torch.eye(2)),
        case(
            "an x that nobody watches",
            lambda x: 2 * x,
            two,
            2 * torch.eye(2),
            watch_x=False,
        ),
        case("a scalar output", lambda x: x.prod(), two, torch.tensor([3.0, 2.0])),
        case(
            "the rows are outputs, the columns inputs",
            lambda x: torch.stack([x[0] * x[1], x[0] ** 2, 3 * x[1]]),
            two,
            torch.tensor([[3.0, 2.0], [4.0, 0.0], [0.0, 3.0]]),
        ),
        case(
            "an output that does not depend on x",
            lambda x: torch.ones(3),
            two,
            torch.zeros(3, 2),
        ),
        case(
            "one output of two does not depend on x",
            lambda x: torch.stack(
                [x.sum(), torch.ones((), requires_grad=True) * 1], dim=0
            ),
            two,
            torch.tensor([[1.0, 1.0], [0.0, 0.0]]),
        ),
        case("an empty output", lambda x: x[:0], two, torch.zeros(0, 2)),
        case(
            "a matrix to a matrix, not contiguous",
            lambda x: x.mT @ x,
            square,
            torch.func.jacrev(lambda x: x.mT @ x)(square),
        ),
    ]


# --- 5 ------------------------------------------------------------------------


@exercise(
    "05.sign_through",
    hint="backward needs to know where x was: save x in forward. torch.where builds "
    "the sign, and a comparison times grad_output the slope.",
)
def sign_through() -> list[Case]:
    def values(x, wanted, says):
        def test(answer):
            given = x.clone()
            got = answer.apply(given)
            if not isinstance(got, torch.Tensor):
                raise Wrong(f"forward returned {got!r}: a tensor is wanted")
            if got.dtype != x.dtype:
                raise Wrong(f"dtype {got.dtype} instead of {x.dtype}")
            if not torch.equal(got, wanted):
                raise Wrong(
                    f"input:    {x.tolist()}\n"
                    f"expected: {wanted.tolist()}\n"
                    f"got:      {got.tolist()}"
                )
            if not torch.equal(given, x):
                raise Wrong("forward wrote into its input x")

        return Case(says, test=test)

    def slopes(x, arriving, wanted, says):
        def test(answer):
            leaf = x.detach().clone().requires_grad_()
            y = answer.apply(leaf)
            arrived = arriving.clone()
            (got,) = torch.autograd.grad(y, leaf, arrived, allow_unused=True)
            if got is None:
                raise Wrong("backward returned None: no slope arrives at x")
            if not torch.equal(got, wanted):
                raise Wrong(
                    f"input:          {x.tolist()}\n"
                    f"slopes arrived: {arriving.tolist()}\n"
                    f"expected:       {wanted.tolist()}\n"
                    f"got:            {got.tolist()}"
                )
            if not torch.equal(arrived, arriving):
                raise Wrong("backward wrote into grad_output: make a new tensor")

        return Case(says, test=test)

    def overwritten(answer):
        leaf = x.detach().clone().requires_grad_()
        between = leaf * 1
        y = answer.apply(between)
        between.add_(100)
        try:
            (got,) = torch.autograd.grad(y, leaf, tens)
        except RuntimeError as error:
            if "inplace operation" in str(error):
                return
            raise
        if not torch.equal(got, torch.tensor([0.0, 10.0, 10.0, 0.0])):
            raise Wrong(
                "x was overwritten after forward, and the slopes are wrong without an "
                "error: save x with ctx.save_for_backward"
            )

    x = torch.tensor([-2.0, -0.5, 0.0, 3.0])
    tens = torch.full((4,), 10.0)
    edge = torch.tensor([-1.0, 1.0, 1.5])
    twos = torch.tensor([2.0, 3.0, 4.0])
    wide = torch.tensor([[0.5, -3.0], [-0.25, 2.0]], dtype=torch.float64).T
    return [
        values(x, torch.tensor([-1.0, -1.0, 1.0, 1.0]), "the signs, 0 counts as +1"),
        values(wide, torch.where(wide >= 0, 1.0, -1.0).double(), "float64 is kept"),
        values(torch.zeros(0), torch.zeros(0), "an empty tensor"),
        values(
            torch.tensor([-1e-12, -0.0, 1e-12]),
            torch.tensor([-1.0, 1.0, 1.0]),
            "next to 0, and minus 0",
        ),
        slopes(
            x, tens, torch.tensor([0.0, 10.0, 10.0, 0.0]), "slopes pass inside only"
        ),
        slopes(edge, twos, torch.tensor([2.0, 3.0, 0.0]), "the borders are inside"),
        slopes(
            wide,
            torch.ones_like(wide) * 5,
            (wide.abs() <= 1).double() * 5,
            "a transposed matrix",
        ),
        Case("x overwritten between forward and backward", test=overwritten),
    ]


# --- 6 ------------------------------------------------------------------------


@exercise(
    "05.curvature",
    hint="Take the gradient with create_graph=True, multiply it with v, and sum: the "
    "result is one number, and its gradient is the product.",
)
def curvature() -> list[Case]:
    def case(says, f, x, v, wanted):
        def test(answer):
            watched = x.detach().clone()
            with Watch() as watch:
                got = answer(f, watched, v.clone())
            walks = watch.names.count("grad") + watch.names.count("backward")
            if walks > 3:
                raise Wrong(
                    f"{walks} walks through the graph for {x.numel()} numbers: that "
                    "builds the matrix; two are enough"
                )
            if got is None:
                raise Wrong("None came back: does the function end with a return?")
            if not isinstance(got, torch.Tensor):
                raise Wrong(f"a tensor was expected, not a {type(got).__name__}")
            if got.dtype != wanted.dtype:
                raise Wrong(f"dtype {got.dtype} instead of {wanted.dtype}")
            near = 1e-10 if wanted.dtype == torch.float64 else 1e-5
            if got.shape != wanted.shape or not torch.allclose(
                got, wanted, rtol=near, atol=near
            ):
                raise Wrong(
                    f"input:    x={x.tolist()}, v={v.tolist()}\n"
                    f"expected: {wanted.tolist()}\n"
                    f"got:      {got.tolist()}"
                )
            if watched.requires_grad or watched.grad is not None:
                raise Wrong("x was changed: it requires a gradient now")
            if watch.largest >= x.numel() ** 2 > 100:
                raise Wrong(
                    f"a tensor of {watch.largest} numbers was made for an x of "
                    f"{x.numel()}: that is the matrix"
                )

        return Case(says, test=test)

    def wave(x):
        return x.sin().sum() ** 2

    def bowl(x):
        return (x**3).sum()

    def coupled(x):
        return (x.sin().sum() * x.prod()) ** 2

    x, v = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 10.0])
    three = uniform(3, seed=3)
    direction = uniform(3, seed=4)
    hessian = torch.func.jacrev(torch.func.jacrev(coupled))(three)
    matrix, other = uniform(2, 3, seed=5).T, uniform(3, 2, seed=6)
    forty, along = uniform(40, seed=7), uniform(40, seed=8)
    sine, cosine = forty.sin(), forty.cos()
    bent = 2 * cosine * (cosine @ along) - 2 * sine.sum() * sine * along
    return [
        case("one element", bowl, x[:1], v[:1], torch.tensor([6.0])),
        case("two elements", bowl, x, v, torch.tensor([6.0, 120.0])),
        case("coupled elements", coupled, three, direction, hessian @ direction),
        case("a matrix, not contiguous", bowl, matrix, other, 6 * matrix * other),
        case("a linear function", lambda x: (2 * x).sum(), x, v, torch.zeros(2)),
        case(
            "a gradient that needs no x",
            lambda x: x.sum() * math.pi,
            x,
            v,
            torch.zeros(2),
        ),
        case("forty elements, no matrix of 1600", wave, forty, along, bent),
    ]

"""Exercises of chapter 17, gradient descent from scratch."""

import math

import torch

from course_utils.checks.core import Case, Wrong, exercise
from course_utils.checks.samples import uniform
from course_utils.checks.watch import Watch, by_hand

__all__: list[str] = []


# --- 1 ------------------------------------------------------------------------


@exercise(
    "17.three_numbers",
    hint="All three come from the smallest and the largest curvature. "
    "`torch.linalg.eigvalsh` lists the curvatures from small to large.",
)
def three_numbers() -> list[Case]:
    def case(says, hessian, smallest, largest):
        wanted = (
            2 / largest,
            2 / (smallest + largest),
            (largest - smallest) / (largest + smallest),
        )
        names = ("limit", "best rate", "factor of the best rate")

        def test(answer):
            kept = hessian.clone()
            got = answer(hessian)
            if not isinstance(got, (tuple, list)) or len(got) != 3:
                raise Wrong(f"three numbers are wanted, in order; got {got!r}")
            shown = f"input:    {kept.tolist()}"
            for name, mine, yours in zip(names, wanted, got, strict=True):
                if isinstance(yours, torch.Tensor):
                    raise Wrong(f"the {name} is a tensor; a float is wanted (.item())")
                if not isinstance(yours, (int, float)):
                    raise Wrong(f"the {name} is {yours!r}; a float is wanted")
                if not abs(yours - mine) <= 1e-5 * max(1.0, mine):
                    raise Wrong(
                        f"{shown}\n{name} expected: {mine:.6g}\n{name} got:      "
                        f"{yours:.6g}"
                    )
            if not torch.equal(kept, hessian):
                raise Wrong("the input was changed on the way")

        return Case(says, test=test)

    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)
    askew = turn @ torch.diag(torch.tensor([0.5, 50.0]).double()) @ turn.T
    wide = torch.zeros(4, 4)
    wide[::2, ::2] = torch.tensor([[2.0, 1.0], [1.0, 2.0]])
    return [
        case("one curvature", torch.tensor([[4.0]]), 4.0, 4.0),
        case("curvatures 1 and 3", torch.tensor([[2.0, 1.0], [1.0, 2.0]]), 1.0, 3.0),
        case("largest first", torch.diag(torch.tensor([8.0, 2.0, 4.0])), 2.0, 8.0),
        case("a valley that lies askew, float64", askew, 0.5, 50.0),
        case("a strided view", wide[::2, ::2], 1.0, 3.0),
    ]


# --- 2 ------------------------------------------------------------------------


def _fit(inputs, targets, lr, size, passes):
    weight = [0.0] * inputs.shape[1]
    rows, wanted = inputs.double().tolist(), targets.double().tolist()
    for _ in range(passes):
        for first in range(0, len(rows), size):
            part = range(first, min(first + size, len(rows)))
            slope = [0.0] * len(weight)
            for n in part:
                gap = sum(x * w for x, w in zip(rows[n], weight, strict=True))
                gap -= wanted[n]
                for j, x in enumerate(rows[n]):
                    slope[j] += 2 * gap * x / len(part)
            weight = [w - lr * s for w, s in zip(weight, slope, strict=True)]
    return torch.tensor(weight, dtype=inputs.dtype)


@exercise(
    "17.fit",
    hint="Work out one step by hand for a single sample and compare its sign. Then ask "
    "what `gradient` holds at the second batch, and which samples the inner loop "
    "never sees.",
)
def fit() -> list[Case]:
    one = torch.tensor([[1.0], [2.0]]), torch.tensor([1.0, 4.0])
    five = uniform(5, 2), uniform(5, seed=1)
    turned = uniform(3, 7, seed=2).T, uniform(7, 2, seed=3)[:, 1]

    def case(says, *args):
        return Case(says, args=args, expect=_fit(*args), within=1e-4)

    return [
        case("no pass at all", *one, 0.1, 2, 0),
        case("one step with one batch: the direction", *one, 0.1, 2, 1),
        case("two steps: each batch by itself", *one, 0.1, 1, 1),
        case("a smaller last batch", *five, 0.1, 2, 1),
        case("a batch larger than the set", *five, 0.1, 8, 2),
        case("twenty passes, strided input", *turned, 0.05, 3, 20),
    ]


# --- 3 ------------------------------------------------------------------------


@exercise(
    "17.backtrack",
    hint="Compute f(x), the gradient and its squared length once, before the loop. "
    "Inside the loop only the rate and the value at the new place change.",
)
def backtrack() -> list[Case]:
    def case(says, f, x, lr, wanted):
        def test(answer):
            calls = 0

            def counted(point):
                nonlocal calls
                calls += 1
                if calls > 300:
                    raise Wrong(
                        f"input:    x={x.tolist()}, lr={lr:g}\n"
                        "f was called 300 times: the loop does not seem to end"
                    )
                return f(point)

            start = x.clone()
            got = answer(counted, start, lr)
            if got is None:
                raise Wrong("None came back: does the function end with a return?")
            if isinstance(got, torch.Tensor) and got.numel() == 1:
                got = got.item()
            if not isinstance(got, (int, float)):
                raise Wrong(f"one number is wanted; got {got!r}")
            if not math.isclose(got, wanted, rel_tol=1e-9):
                raise Wrong(
                    f"input:    x={x.tolist()}, lr={lr:g}\n"
                    f"expected: {wanted:g}\ngot:      {got:g}"
                )
            if start.requires_grad or start.grad is not None:
                raise Wrong("x was changed: it requires a gradient now")
            if not torch.equal(start, x):
                raise Wrong("x was moved; only the rate is wanted")

        return Case(says, test=test)

    def bowl(x):
        return (x**2).sum()

    def ravine(x):
        return x[0] ** 2 / 2 + 50 * x[1] ** 2

    def cliff(x):
        return (x - x.log()).sum()  # nan for x below 0, infinite at 0

    def pit(x):
        return x.log().sum()  # minus infinity at 0

    def wall(x):
        return 1e12 * (x**2).sum()

    two = torch.tensor([3.0, -1.0], dtype=torch.float64)
    far = torch.tensor([10.0], dtype=torch.float64)
    square = torch.tensor([[3.0, -1.0], [2.0, 0.5]], dtype=torch.float64)
    return [
        case("the rate passes at once", bowl, two, 0.25, 0.25),
        case("halved three times", bowl, two, 4.0, 0.5),
        case("zero gradient", bowl, torch.zeros(2, dtype=torch.float64), 4.0, 4.0),
        case("a narrow ravine", ravine, two, 1.0, 2.0**-7),
        case("nan on the other side", cliff, far, 16.0, 8.0),
        case("a step onto infinity", cliff, torch.tensor([2.0]).double(), 4.0, 2.0),
        case("onto minus infinity", pit, torch.tensor([2.0]).double(), 4.0, 2.0),
        case("a matrix", bowl, square, 4.0, 0.5),
        case("halved 41 times", wall, torch.ones(1).double(), 1.0, 2.0**-41),
    ]


# --- 4 ------------------------------------------------------------------------


@exercise(
    "17.softmax_regression",
    hint="Subtract each row's largest logit first: the probabilities stay the same, "
    "and no exponential overflows. Take the logarithm of the sum, not of a "
    "probability.",
)
def softmax_regression() -> list[Case]:
    def reference(weight, inputs, labels):
        leaf = weight.detach().double().requires_grad_()
        loss = torch.nn.functional.cross_entropy(inputs.double() @ leaf, labels)
        (gradient,) = torch.autograd.grad(loss, leaf)
        return loss.detach().to(weight.dtype), gradient.to(weight.dtype)

    def case(says, weight, inputs, labels, within=1e-5):
        return Case(
            says,
            args=(weight, inputs, labels),
            expect=reference(weight, inputs, labels),
            within=within,
        )

    def written(answer):
        says = "the text asks for it without autograd"
        with by_hand(says), Watch() as watch:
            answer(weight.clone(), inputs.clone(), labels.clone())
        ready = {"softmax", "log_softmax", "cross_entropy", "nll_loss"}
        ready |= {f"special_{name}" for name in ready}
        used = ready & set(watch.names)
        if used:
            raise Wrong(
                f"the text asks for it without a ready softmax: {min(used)} was called"
            )

    one = torch.tensor([[1.0, 2.0]])
    weight, inputs = uniform(3, 4), uniform(6, 3, seed=1)
    labels = torch.tensor([0, 3, 1, 1, 2, 0])
    return [
        case("one sample, zero weights", torch.zeros(2, 2), one, torch.tensor([0])),
        case("six samples, four classes", weight, inputs, labels, 1e-9),
        case("logits near 1000", weight * 300, inputs, labels, 1e-9),
        case("large negative logits", -1000 - weight, inputs.abs(), labels, 1e-9),
        case(
            "float32, transposed inputs",
            weight.float(),
            uniform(3, 6, seed=4).float().T,
            labels,
        ),
        case("a single class", weight[:, :1], inputs, torch.zeros(6).long(), 1e-9),
        Case("by hand", test=written),
    ]


# --- 5 ------------------------------------------------------------------------


@exercise(
    "17.accumulate_valid",
    hint="Two loops over the parts: the first counts the valid samples, the second "
    "runs backward. Select with the mask before you compute anything.",
)
def accumulate_valid() -> list[Case]:
    def case(says, parts, before=None, dtype=torch.float64):
        width = parts[0][0].shape[1] if parts else 2
        parts = [(x.to(dtype), y.to(dtype), v) for x, y, v in parts]

        def test(answer):
            weight = uniform(width, seed=9).to(dtype)
            leaf = weight.clone().requires_grad_()
            start = None if before is None else torch.full_like(weight, before)
            leaf.grad = None if start is None else start.clone()
            with Watch() as watch:
                answer(leaf, [tuple(t.clone() for t in part) for part in parts])
            wanted = None if start is None else start.clone()
            held = [(x[v], y[v]) for x, y, v in parts if v.any()]
            if held:
                x, y = (torch.cat(side) for side in zip(*held, strict=True))
                slope = 2 * x.T @ (x @ weight - y) / len(y)
                wanted = slope if wanted is None else wanted + slope
            got = leaf.grad
            if not torch.equal(leaf.detach(), weight):
                raise Wrong("the weight was moved; only its .grad is wanted")
            sizes = ", ".join(f"{int(v.sum())} of {len(v)} valid" for _, _, v in parts)
            if wanted is None or got is None:
                if wanted is not got:
                    raise Wrong(
                        f"parts:    {sizes or 'none'}\nexpected: "
                        f"{wanted if wanted is None else wanted.tolist()}\n"
                        f"got:      {got if got is None else got.tolist()}"
                    )
                return
            if got.shape != wanted.shape or not torch.allclose(got, wanted, rtol=1e-5):
                raise Wrong(
                    f"parts:    {sizes or 'none'}\n"
                    f"expected: {[round(v, 4) for v in wanted.tolist()]}\n"
                    f"got:      {[round(v, 4) for v in got.tolist()]}"
                )
            calls = watch.names.count("backward")
            if calls != len(held):
                raise Wrong(
                    f"parts:    {sizes or 'none'}\n"
                    f"calls of backward expected: {len(held)}, one for each part "
                    f"with valid samples\ncalls of backward:          {calls}"
                )

        return Case(says, test=test)

    def part(valid, seed):
        valid = torch.tensor(valid, dtype=torch.bool)
        return (
            uniform(len(valid), 2, seed=seed),
            uniform(len(valid), seed=seed + 50),
            valid,
        )

    holed = part([1, 0, 1], 5)
    holed[1][1] = math.nan
    return [
        case("one part, all valid", [part([1, 1], 0)]),
        case("parts of different sizes", [part([1, 1, 1], 1), part([1], 2)]),
        case("valid counts differ", [part([1, 1, 1], 1), part([0, 0, 1], 2)]),
        case("what was in .grad stays in it", [part([1, 1], 0)], before=3.0),
        case("a part with nothing valid", [part([0, 0], 3), part([1, 1], 4)]),
        case("a target that is nan where not valid", [holed, part([1], 6)]),
        case("nothing valid at all", [part([0, 0], 3)], before=3.0),
        case("nothing valid, no gradient before", [part([0], 3)]),
        case("float32", [part([1, 0, 1], 7), part([1, 1], 8)], dtype=torch.float32),
    ]


# --- 6 ------------------------------------------------------------------------


def _clipped(weight, inputs, targets, max_norm):
    total = torch.zeros_like(weight)
    for x, y in zip(inputs, targets, strict=True):
        slope = 2 * (x @ weight - y) * x
        size = slope.norm()
        total += slope * (max_norm / size) if size > max_norm else slope
    return total / max(len(inputs), 1)


@exercise(
    "17.clipped_gradient",
    hint="Write the samples' gradients as rows, (N, D), and take each row's norm. "
    "Which factor does a row need that is too long, and which one that is short "
    "enough?",
)
def clipped_gradient() -> list[Case]:
    def case(says, *args, **bounds):
        bounds = {"within": 1e-9, **bounds}
        return Case(says, args=args, expect=_clipped(*args), **bounds)

    zero = torch.zeros(2, dtype=torch.float64)
    one = torch.tensor([[3.0, 4.0]], dtype=torch.float64)

    def exactly(answer):
        got = answer(zero.clone(), one.clone(), one[0, :1].clone(), 1.0)
        shown = f"input:    weight {zero.tolist()}, inputs {one.tolist()}, target 3"
        if not isinstance(got, torch.Tensor) or got.shape != zero.shape:
            raise Wrong(f"{shown}\na tensor of two values is wanted; got {got!r}")
        wanted = torch.tensor([-0.6, -0.8], dtype=torch.float64)
        if not torch.allclose(got.double(), wanted, rtol=1e-4):
            raise Wrong(
                f"{shown}\nexpected: {wanted.tolist()}\ngot:      {got.tolist()}"
            )
        if abs(got.norm().item() - 1.0) > 1e-12:
            raise Wrong(
                f"{shown}\nthe norm is {got.norm().item():.10f}, not exactly 1: "
                "is a small constant added somewhere?"
            )

    weight, inputs, targets = uniform(3), uniform(8, 3, seed=1), uniform(8, seed=2)
    both = torch.cat([inputs, torch.zeros(2, 3).double()])
    more = torch.cat([targets, torch.tensor([0.0, 5.0]).double()])
    return [
        case("one sample, short enough", zero, one, one[0, :1], 100.0),
        Case("one sample, too long: the limit is met exactly", test=exactly),
        case("a sample that is fitted exactly", zero, one, zero[:1], 1.0),
        case("eight samples, some clipped", weight, inputs, targets, 4.0),
        case("samples with a gradient of zero", weight, both, more, 4.0),
        case("a tiny limit", weight, inputs, targets, 1e-8, absolute=0),
        case("a tiny gradient", weight, inputs * 1e-6, targets * 0, 1e-14, absolute=0),
        case("no samples", weight, inputs[:0], targets[:0], 1.0),
        case(
            "float32, transposed",
            weight.float(),
            uniform(3, 8, seed=4).float().T,
            targets.float(),
            2.0,
            within=1e-5,
        ),
    ]

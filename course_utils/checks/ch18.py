"""Checks for the exercises of chapter 18, optimizers."""

import itertools

import torch
from torch import nn

from course_utils.checks.core import Case, Wrong, exercise, three_numbers
from course_utils.checks.samples import uniform

__all__: list[str] = []


def _close(got: torch.Tensor, wanted: torch.Tensor, within: float = 1e-9) -> bool:
    # The absolute part is for sums that cancel; it is far below every value wanted.
    size = wanted.abs().max().item() if wanted.numel() else 0.0
    return torch.allclose(got, wanted, rtol=within, atol=1e-3 * within * size)


# --- 1 ------------------------------------------------------------------------


@exercise(
    "18.places",
    hint="Make a table with a row a step: the gradient, the new buffer, and what the "
    "weight moves. The buffer is 0 before the first step.",
)
def places() -> list[Case]:
    def near(got: float, wanted: float) -> bool:
        return abs(got - wanted) <= 1e-6

    def total(answer):
        first = three_numbers(answer)[0]
        if near(first, 0.425):
            raise Wrong("the size is right; the weight moves against the gradient")
        if near(first, -0.175):
            raise Wrong("-0.175 is the last step alone; add up all three")
        if near(first, -0.2125):
            raise Wrong("-0.2125 is the average's; the sum takes the whole gradient")
        if not near(first, -0.425):
            raise Wrong("the buffers of the sum are 1, 0.5 * 1 + 1, and so on")

    def average(answer):
        second = three_numbers(answer)[1]
        if near(second, -0.3125):
            raise Wrong("here the average starts from zero, not from the gradient")
        if not near(second, -0.2125):
            raise Wrong("the buffers of the average are 0.5, 0.5 * 0.5 + 0.5, ...")

    def nesterov(answer):
        third = three_numbers(answer)[2]
        if near(third, -0.425):
            raise Wrong("that is plain momentum; Nesterov steps along g + mu * b")
        if not near(third, -0.5125):
            raise Wrong("Nesterov steps along g + mu * b, where b is the new buffer")

    return [
        Case("three numbers", test=three_numbers),
        Case("the sum", test=total),
        Case("the average", test=average),
        Case("Nesterov", test=nesterov),
    ]


# --- 2 ------------------------------------------------------------------------


def _rmsprop(w, grad, square, lr=0.01, alpha=0.99, eps=1e-8):
    square = alpha * square + (1 - alpha) * grad * grad
    return w - lr * grad / (square.sqrt() + eps), square


@exercise(
    "18.rmsprop_step",
    hint="Put the two gradients into the formula by hand: which is larger under the "
    "root, the average of squares or epsilon?",
)
def rmsprop_step() -> list[Case]:
    def case(says, *args, **kwargs):
        expect = _rmsprop(*args, **kwargs)
        bounds = {"within": 1e-6, "absolute": 0}  # some of the numbers are tiny
        return Case(says, args=args, kwargs=kwargs, expect=expect, **bounds)

    def many(scale):
        def test(answer):
            w = square = torch.zeros(3, dtype=torch.float64)
            wanted, average = w, square
            for step in range(50):
                grad = scale * uniform(3, seed=step)
                wanted, average = _rmsprop(wanted, grad, average)
                result = answer(w, grad, square)
                if not isinstance(result, tuple) or len(result) != 2:
                    raise Wrong(
                        f"the new weight and average are wanted, got {result!r}"
                    )
                w, square = result
            if not _close(square, average):
                raise Wrong(f"the average of squares is {square}, expected {average}")
            if not _close(w, wanted):
                raise Wrong(
                    f"after 50 steps with gradients of about {scale:g}\n"
                    f"expected: {wanted.tolist()}\ngot:      {w.tolist()}"
                )

        return Case(f"50 steps, gradients of about {scale:g}", test=test)

    def small(answer):
        zero, grad = torch.zeros(1), torch.full((1,), 1e-6)
        result = answer(zero, grad, zero.clone())
        if not isinstance(result, tuple) or len(result) != 2:
            raise Wrong(f"the new weight and average are wanted, got {result!r}")
        got, square = result
        root, eps = 0.01**0.5 * 1e-6, 1e-8
        wrong = {
            (root**2 + eps) ** 0.5: "epsilon stands inside the root, where 1e-8 acts "
            "like 1e-4",
            (root**2 + eps**2) ** 0.5: "a squared epsilon inside the root is not the "
            "same as epsilon outside: the root of a sum is less than the sum of roots",
            root: "epsilon does not act here, though it is a tenth of the root",
        }
        wanted = -0.01 * 1e-6 / (root + eps)
        if abs(got.item() - wanted) <= 1e-5 * abs(wanted):
            if abs(square.item() - root**2) > 1e-5 * root**2:
                raise Wrong(
                    f"the average is {square.item():.5g}, expected {root**2:.5g}"
                )
            return
        for below, words in wrong.items():
            if abs(got.item() * below + 0.01 * 1e-6) <= 1e-5 * 0.01 * 1e-6:
                raise Wrong(words)
        raise Wrong(f"the weight moves to {got.item():.5g}, expected {wanted:.5g}")

    one, matrix = torch.ones(1), uniform(2, 3).T
    settings = {"lr": 0.1, "alpha": 0.5, "eps": 1.0}
    return [
        case("a gradient of 1", 0 * one, 1 * one, 0 * one),
        case("a gradient of 0, at the start", 1 * one, 0 * one, 0 * one),
        Case("a gradient of 1e-6", test=small),
        case("a gradient of 1e-10, below epsilon", 0 * one, 1e-10 * one, 0 * one),
        case("another epsilon", 0 * one, 1 * one, 0 * one, **settings),
        case("no weights", *(torch.zeros(0) for _ in range(3))),
        case("a transposed matrix", matrix, 1e-6 * matrix, 1e-12 * matrix**2),
        many(1.0),
        many(1e-8),
    ]


# --- 3 ------------------------------------------------------------------------


@exercise(
    "18.translate",
    hint="Write down the buffers of both rules for a gradient that is always 1. How "
    "many times longer is the sum's, and which rate makes up for it?",
)
def translate() -> list[Case]:
    def path(lr, beta, *decay):
        def test(answer):
            settings = answer(lr, beta, *decay)
            if not isinstance(settings, dict):
                raise Wrong(f"a dictionary of settings is wanted, got {settings!r}")
            w = nn.Parameter(torch.zeros(1, dtype=torch.float64))
            optimizer = torch.optim.SGD([w], **settings)
            place = buffer = 0.0
            for step, gradient in enumerate([1.0, -0.5, 2.0, 0.0, 1.0], 1):
                buffer = beta * buffer + (1 - beta) * gradient
                place -= lr * buffer
                w.grad = torch.full_like(w, gradient)
                optimizer.step()
                if abs(w.item() - place) > 1e-9:
                    raise Wrong(
                        f"translate({lr}, {beta}) gave {settings}\n"
                        f"after step {step}, with gradients 1, -0.5, 2, 0, 1:\n"
                        f"expected: {place:.6g}\ngot:      {w.item():.6g}"
                    )

        says = f", decay {decay[0]}" if decay else ""
        return Case(f"rate {lr}, beta {beta}{says}", test=test)

    return [
        path(0.5, 0.0),
        path(0.4, 0.5),
        path(1.0, 0.9),
        path(0.03, 0.99),
        path(0.01, 0.25, 0.0),
        Case("a small decay", args=(0.4, 0.5, 1e-6), expect=ValueError),
        Case("a decay cannot be translated", args=(0.4, 0.5, 0.1), expect=ValueError),
    ]


# --- 4 ------------------------------------------------------------------------


def _names(model, groups) -> list:
    known = {id(p): name for name, p in model.named_parameters()}
    rows = []
    for group in groups:
        if not isinstance(group, dict):
            raise Wrong(f"each group is a dictionary, got {type(group).__name__}")
        for key in ("params", "weight_decay"):
            if key not in group:
                raise Wrong(f"a group lacks the key {key!r}: it has {list(group)}")
        if not isinstance(group["params"], list):
            kind = type(group["params"]).__name__
            raise Wrong(f"'params' is to be a list, got {kind}")
        names = [known.get(id(p), "a stranger") for p in group["params"]]
        rows.append((names, float(group["weight_decay"])))
    return rows


@exercise(
    "18.decay_groups",
    hint="Walk over model.parameters() once and sort each one into one of two lists. "
    "What decides is requires_grad and ndim, not the name.",
)
def decay_groups() -> list[Case]:
    def case(says, make, decay, wanted):
        def test(answer):
            model = make()
            flags = [p.requires_grad for p in model.parameters()]
            got = answer(model, decay)
            if not isinstance(got, (list, tuple)):
                raise Wrong(f"a list of groups is wanted, got {type(got).__name__}")
            rows = _names(model, got)
            if rows != wanted:
                raise Wrong(f"expected: {wanted}\ngot:      {rows}")
            if [p.requires_grad for p in model.parameters()] != flags:
                raise Wrong("requires_grad of a parameter was changed")
            if got:
                torch.optim.SGD(got, lr=0.1)

        return Case(says, test=test)

    def block():
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))

    def frozen():
        model = block()
        model[0].requires_grad_(False)
        return model

    def shared():
        model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        model[1].weight = model[0].weight
        return model

    def unusual():
        model = nn.Sequential(nn.Embedding(3, 2), nn.Conv1d(2, 1, 2), nn.PReLU())
        model.register_parameter("gain", nn.Parameter(torch.tensor(1.0)))
        model.register_parameter("bias_table", nn.Parameter(torch.ones(2, 2)))
        return model

    two = ["0.weight", "2.weight"]
    rest = ["0.bias", "1.weight", "1.bias", "2.bias"]
    return [
        case(
            "one linear layer",
            lambda: nn.Sequential(nn.Linear(2, 1)),
            0.1,
            [(["0.weight"], 0.1), (["0.bias"], 0.0)],
        ),
        case("a scale of BatchNorm is spared", block, 0.01, [(two, 0.01), (rest, 0.0)]),
        case(
            "a frozen layer",
            frozen,
            0.01,
            [(["2.weight"], 0.01), (["1.weight", "1.bias", "2.bias"], 0.0)],
        ),
        case(
            "a shared weight",
            shared,
            0.5,
            [(["0.weight"], 0.5), (["0.bias", "1.bias"], 0.0)],
        ),
        case(
            "an embedding, Conv1d, PReLU, a number and a matrix of its own",
            unusual,
            0.1,
            [
                (["bias_table", "0.weight", "1.weight"], 0.1),
                (["gain", "1.bias", "2.weight"], 0.0),
            ],
        ),
        case(
            "no biases: one group",
            lambda: nn.Sequential(nn.Linear(2, 2, bias=False)),
            0.1,
            [(["0.weight"], 0.1)],
        ),
        case(
            "only normalization: one group",
            lambda: nn.Sequential(nn.LayerNorm(3)),
            0.1,
            [(["0.weight", "0.bias"], 0.0)],
        ),
        case("no parameters: no groups", lambda: nn.Sequential(nn.ReLU()), 0.1, []),
    ]


# --- 5 ------------------------------------------------------------------------


BUGS = {
    "start": "the averages start from the first gradient instead of zero",
    "count": "the steps are counted for all weights together",
    "decay": "the decay joins the gradient, and so passes through the averages",
}


def _adamw(weights, grads, state, lr, beta1, beta2, eps, decay, bugs=()):
    """One step of AdamW with some of the bugs of the exercise, in place."""
    for i, (w, g) in enumerate(zip(weights, grads, strict=True)):
        if g is None:
            continue
        state["all"] = state.get("all", 0) + 1
        if "decay" in bugs:
            g = g + decay * w
        else:
            w *= 1 - lr * decay
        zero = torch.zeros_like(w)
        t, m, s = state.get(i, (0, g, g**2) if "start" in bugs else (0, zero, zero))
        t, m = t + 1, beta1 * m + (1 - beta1) * g
        s = beta2 * s + (1 - beta2) * g**2
        state[i] = (t, m, s)
        t = state["all"] if "count" in bugs else t
        w -= lr * m / (1 - beta1**t) / ((s / (1 - beta2**t)).sqrt() + eps)


def _subsets(names) -> list[tuple]:
    """The non-empty subsets, small ones first."""
    sizes = range(1, len(names) + 1)
    return [found for n in sizes for found in itertools.combinations(names, n)]


@exercise(
    "18.adamw_step",
    hint="Compare it line by line with Adam's formula in the chapter: what do the "
    "averages start from, whose steps are counted, and where does the decay act?",
)
def adamw_step() -> list[Case]:
    def case(says, shapes, steps, decay, *, missing=None, scale=1.0, start=1.0):
        def test(answer):
            ours = [start * uniform(*shape, seed=i) for i, shape in enumerate(shapes)]
            theirs = [nn.Parameter(w.clone()) for w in ours]
            optimizer = torch.optim.AdamW(
                theirs, lr=0.1, betas=(0.8, 0.9), eps=1e-6, weight_decay=decay
            )
            state = {}
            suspects = {
                bugs: ([w.clone() for w in ours], {}) for bugs in _subsets(BUGS)
            }
            for step in range(1, steps + 1):
                grads = [
                    scale * uniform(*shape, seed=10 * step + i)
                    for i, shape in enumerate(shapes)
                ]
                if missing is not None and step == 2:
                    grads[missing] = None
                for p, g in zip(theirs, grads, strict=True):
                    p.grad = g
                optimizer.step()
                before = [None if g is None else g.clone() for g in grads]
                old = [w.clone() for w in ours]
                answer(ours, grads, state, 0.1, 0.8, 0.9, 1e-6, decay)
                for bugs, (copies, its) in suspects.items():
                    _adamw(copies, before, its, 0.1, 0.8, 0.9, 1e-6, decay, bugs)
                for g, kept in zip(grads, before, strict=True):
                    if g is not None and not torch.equal(g, kept):
                        raise Wrong("a gradient was changed on the way")
                for i, (got, wanted) in enumerate(zip(ours, theirs, strict=True)):
                    if not _close(got, wanted.detach()):
                        if grads[i] is not None and torch.equal(got, old[i]):
                            raise Wrong(
                                f"weight {i} did not move in step {step}; "
                                "it is to be changed in place"
                            )
                        like = [
                            "; ".join(BUGS[bug] for bug in bugs)
                            for bugs, (copies, _) in suspects.items()
                            if all(map(_close, ours, copies))
                        ]
                        raise Wrong(
                            f"weight {i} after step {step}\n"
                            f"expected: {wanted.tolist()}\n"
                            f"got:      {got.tolist()}"
                            + (f"\nas if {like[0]}" if like else "")
                        )

        return Case(says, test=test)

    return [
        case("one weight, one step, no decay", [(1,)], 1, 0.0),
        case("one weight, three steps, no decay", [(1,)], 3, 0.0),
        case("two weights, one step", [(1,), (2,)], 1, 0.0),
        case("one weight with decay", [(1,)], 2, 0.5),
        case(
            "a weight without a gradient in the second step",
            [(1,), (2,)],
            3,
            0.1,
            missing=0,
        ),
        case("tiny gradients", [(3,)], 5, 0.1, scale=1e-6),
        case("no elements", [(0,)], 2, 0.1),
        case("three weights, twenty steps", [(2, 3), (4,), ()], 20, 0.1),
    ]


# --- 6 ------------------------------------------------------------------------


@exercise(
    "18.lion",
    hint="start and decay are short: a tensor of zeros, and AdamW's decay. In update, "
    "compute the sign before you change the average.",
)
def lion() -> list[Case]:
    def case(says, steps, *, decay=0.0, betas=(0.9, 0.99), gradients=None, split=False):
        def test(answer):
            w = nn.Parameter(uniform(3, 2).T)
            wanted = w.detach().clone()
            other = nn.Parameter(torch.ones(1))
            settings = {"lr": 0.1, "betas": betas, "weight_decay": decay}
            optimizer = answer([w, other], **settings)
            m = torch.zeros_like(wanted)
            for step in range(steps):
                g = (
                    uniform(3, 2, seed=step + 1).T
                    if gradients is None
                    else (torch.full_like(wanted, gradients[step]))
                )
                if split and step == steps // 2:
                    saved = optimizer.state_dict()
                    optimizer = answer([w, other], **settings)
                    optimizer.load_state_dict(saved)
                wanted = (1 - 0.1 * decay) * wanted
                wanted = wanted - 0.1 * torch.sign(betas[0] * m + (1 - betas[0]) * g)
                m = betas[1] * m + (1 - betas[1]) * g
                w.grad = g.clone()
                optimizer.step()
                if not torch.equal(w.grad, g):
                    raise Wrong("the gradient was changed on the way")
                if not _close(w.detach(), wanted):
                    raise Wrong(
                        f"after step {step + 1}, gradient {g.tolist()}\n"
                        f"expected: {wanted.tolist()}\n"
                        f"got:      {w.tolist()}"
                    )
            state = optimizer.state.get(w, {})
            if "exp_avg" not in state:
                raise Wrong(f"the state needs 'exp_avg', it has {list(state)}")
            if not _close(state["exp_avg"], m):
                raise Wrong(
                    f"exp_avg after {steps} steps\n"
                    f"expected: {m.tolist()}\n"
                    f"got:      {state['exp_avg'].tolist()}"
                )
            if other in optimizer.state:
                raise Wrong("a weight without a gradient got a state")

        return Case(says, test=test)

    return [
        case("one step", 1),
        case("a gradient of zero at the start", 1, gradients=[0.0]),
        case("the sign uses the old average", 3, gradients=[1.0, -0.5, -0.5]),
        case("twenty steps", 20),
        case("other betas", 20, betas=(0.5, 0.7)),
        case("with decay", 5, decay=0.5),
        case("interrupted and resumed", 10, split=True),
    ]

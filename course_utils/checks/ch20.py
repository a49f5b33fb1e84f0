"""Exercises of chapter 20, the training script."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from course_utils.checks.core import Case, Wrong, exercise

__all__: list[str] = []


# --- 1 ------------------------------------------------------------------------


@exercise(
    "20.averages",
    hint="Multiply each mean by its count, add up, and divide once by the number of "
    "all pictures. Which batches should be dropped before?",
)
def averages() -> list[Case]:
    nan = math.nan
    two = [(32, {"loss": 0.5, "right": 0.75}), (8, {"loss": 1.0, "right": 0.5})]
    equal = [(4, {"loss": 1.0}), (4, {"loss": 3.0})]
    empty = [(2, {"loss": 1.0}), (0, {"loss": nan}), (6, {"loss": 2.0})]
    rights = [(32, {"right": 1.0}), (32, {"right": 1.0}), (11, {"right": 0.0})]

    def of_tensors(answer):
        given = [(3, {"loss": 1.0}), (1, {"loss": 5.0})]
        for _ in range(2):  # called twice on the same list
            got = answer(given)
        if got != {"loss": 2.0}:
            raise Wrong(f"called twice with the same list: got {got}, not loss 2.0")

    return [
        Case("no batch", args=([],), expect={}),
        Case("one batch", args=([(5, {"loss": 2.0})],), expect={"loss": 2.0}),
        Case("two equal batches", args=(equal,), expect={"loss": 2.0}),
        Case("two values", args=(two,), expect={"loss": 0.6, "right": 0.7}),
        Case("75 pictures", args=(rights,), expect={"right": 64 / 75}),
        Case("an empty batch with nan", args=(empty,), expect={"loss": 1.75}),
        Case("only an empty batch", args=([(0, {"loss": nan})],), expect={}),
        Case("called twice", test=of_tensors),
    ]


# --- 2 ------------------------------------------------------------------------


@exercise(
    "20.patience",
    hint="Keep the best value and count the calls since it came. A comparison with "
    "nan is always false: use that.",
)
def patience() -> list[Case]:
    nan = math.nan

    def runs(says, epochs, values, stops, best, **options):
        def test(answer):
            watch = answer(epochs, **options)
            got = [watch.update(value) for value in values]
            if [bool(g) for g in got] != stops or not all(
                isinstance(g, bool) for g in got
            ):
                raise Wrong(
                    f"Patience({epochs}{_named(options)}) with {values}: "
                    f"update returned {got}, expected {stops}"
                )
            if watch.best != best or isinstance(watch.best, bool):
                raise Wrong(
                    f"after {values}: best is {watch.best!r}, expected {best!r}"
                )

        return Case(says, test=test)

    def fresh(answer):
        if (best := answer(3).best) is not None:
            raise Wrong(f"before the first value best is {best!r}, expected None")

    def two(answer):
        one, other = answer(1), answer(1)
        one.update(0.9)
        if other.update(0.1) or other.best != 0.1:
            raise Wrong("two objects share what they remember")

    no, yes = False, True
    return [
        Case("before the first value", test=fresh),
        runs("one value", 1, [0.5], [no], 0.5),
        runs("it grows", 1, [0.1, 0.2, 0.3], [no] * 3, 0.3),
        runs("patience 1", 1, [0.5, 0.4], [no, yes], 0.5),
        runs("the example", 2, [0.5, 0.6, 0.6, 0.5], [no, no, no, yes], 0.6),
        runs(
            "better again just in time",
            2,
            [0.5, 0.4, 0.6, 0.5, 0.5],
            [no, no, no, no, yes],
            0.6,
        ),
        runs("negative values", 1, [-3.0, -2.0, -2.5], [no, no, yes], -2.0),
        runs("a first value of 0", 1, [0.0, -1.0], [no, yes], 0.0),
        runs("nan is not better", 2, [0.5, nan, nan], [no, no, yes], 0.5),
        runs("nan first", 2, [nan, 0.3, 0.2], [no, no, no], 0.3),
        runs("nan all the time", 2, [nan, nan], [no, yes], None),
        runs(
            "too small a gain",
            2,
            [0.5, 0.6, 0.7, 0.8],
            [no, no, no, no],
            0.7,
            least=0.15,
        ),
        runs("a gain of exactly least", 1, [1.0, 1.5], [no, yes], 1.0, least=0.5),
        runs("still waiting", 1, [0.5, 0.4, 0.3], [no, yes, yes], 0.5),
        Case("two at once", test=two),
    ]


def _named(options: dict) -> str:
    return "".join(f", {name}={value}" for name, value in options.items())


# --- 3 ------------------------------------------------------------------------


def _net(dropout: float = 0.5) -> nn.Module:
    model = nn.Sequential(
        nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Dropout(dropout), nn.Linear(4, 3)
    )
    with torch.no_grad():
        for k, parameter in enumerate(model.parameters()):
            values = torch.linspace(-1, 1, parameter.numel()) * (1 + k % 2)
            parameter.copy_(values.reshape(parameter.shape))
    return model


def _pictures(*sizes: int) -> list[tuple]:
    total = sum(sizes)
    x = torch.linspace(-2, 2, 2 * total).reshape(total, 2).sin() * 2
    y = torch.arange(total) * 7 % 3
    return list(zip(x.split(sizes), y.split(sizes), strict=True))


def _truth(batches) -> tuple[float, float]:
    model = _net().eval()
    x, y = (torch.cat(part) for part in zip(*batches, strict=True))
    with torch.no_grad():
        scores = model(x)
    loss = F.cross_entropy(scores, y).item()
    return loss, (scores.argmax(1) == y).double().mean().item()


@exercise(
    "20.judge",
    hint="Which loss wants scores, which probabilities? Add up sums, not means, and "
    "look at `model.training` before you change it.",
)
def judge() -> list[Case]:
    def plain(got):
        if not (isinstance(got, tuple) and len(got) == 2):
            raise Wrong(f"expected a pair, got {got!r}")
        for name, value in zip(("loss", "share"), got, strict=True):
            if not isinstance(value, float):
                kind = type(value).__name__
                raise Wrong(f"the {name} must be a Python float, got a {kind}")

    def agrees(says, *sizes):
        def test(answer):
            batches = _pictures(*sizes)
            got, expected = answer(_net(), batches), _truth(batches)
            plain(got)
            for name, a, b in zip(("loss", "share right"), got, expected, strict=True):
                if not abs(a - b) <= 1e-4 * (1 + abs(b)):
                    raise Wrong(
                        f"batches of {list(sizes)}: {name} {a:.4f}, expected {b:.4f}"
                    )

        return Case(says, test=test)

    def nothing(answer):
        for batches in ([], [(torch.zeros(0, 2), torch.zeros(0, dtype=torch.long))]):
            got = answer(_net(), batches)
            if not (isinstance(got, tuple) and all(math.isnan(v) for v in got)):
                raise Wrong(f"without any picture: got {got!r}, expected (nan, nan)")

    def iterator(answer):
        got = answer(_net(), iter(_pictures(3, 2)))
        expected = _truth(_pictures(3, 2))
        if not abs(got[0] - expected[0]) <= 1e-4 * (1 + expected[0]):
            raise Wrong(
                f"with an iterator: loss {got[0]:.4f}, expected {expected[0]:.4f}"
            )

    def mode(answer):
        for training in (True, False):
            model = _net().train(training)
            answer(model, _pictures(3))
            modes = {part.training for part in model.modules()}
            if modes != {training}:
                raise Wrong(
                    f"the model had training={training}, afterwards its parts have "
                    f"{sorted(modes)}"
                )

    def unchanged(answer):
        model = _net()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        answer(model, _pictures(4, 4))
        moved = [n for n, v in model.state_dict().items() if not v.equal(before[n])]
        if moved:
            raise Wrong(f"judging changed {moved}")

    def records(answer):
        recorded = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t: recorded.append(1) or t, lambda t: t
        ):
            answer(_net(), _pictures(3))
        if recorded:
            raise Wrong(f"{len(recorded)} tensors were recorded for a backward pass")
        if not torch.is_grad_enabled():
            torch.set_grad_enabled(True)
            raise Wrong("afterwards recording is switched off for everybody")

    return [
        Case("no pictures", test=nothing),
        agrees("one picture", 1),
        agrees("one batch", 6),
        agrees("a smaller last batch", 4, 4, 1),
        agrees("batches of any size", 1, 7, 2, 5),
        Case("an iterator", test=iterator),
        Case("the mode afterwards", test=mode),
        Case("the state afterwards", test=unchanged),
        Case("nothing is recorded", test=records),
    ]


# --- 4 ------------------------------------------------------------------------


def _bytes(*seeds: int, size=(3, 4, 5)) -> torch.Tensor:
    drawn = [
        torch.randint(
            256, size, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8
        )
        for seed in seeds
    ]
    return torch.stack(drawn) if drawn else torch.zeros(0, *size, dtype=torch.uint8)


@exercise(
    "20.leaked",
    hint="Put both views of each training picture into a set, as bytes. The axis of "
    "the width is the last one of a picture.",
)
def leaked() -> list[Case]:
    train, val = _bytes(1, 2, 3), _bytes(7, 2, 8, 1)
    mirrored = torch.stack([_bytes(9)[0], train[2].flip(2), train[0]])
    upside = torch.stack([train[0].flip(1), train[1].flip(0)])
    one_off = train.clone()
    one_off[:, 0, 0, 0] ^= 1
    turned = _bytes(4, 5).transpose(2, 3)  # not contiguous

    def many(answer):
        count = 600
        x = torch.arange(2 * count).reshape(-1, 1, 1, 1)
        spread = torch.tensor([1, 7, 49, 343]).reshape(1, 1, 2, 2)
        pictures = (x * spread % 256).to(torch.uint8)
        pictures = torch.cat([pictures, (x // 256 + spread % 5).to(torch.uint8)], 1)
        calls, native = [], torch.equal

        def counted(*arguments):
            calls.append(1)
            return native(*arguments)

        torch.equal = counted
        try:
            got = answer(pictures[:count], pictures[count:])
        finally:
            torch.equal = native
        if len(calls) > 4 * count:
            raise Wrong(f"{count} and {count} pictures: {len(calls)} comparisons")
        if got != []:
            raise Wrong(f"{count} and {count} different pictures: got {got[:3]} ...")

    return [
        Case("nothing to judge", args=(train, _bytes()), expect=[]),
        Case("nothing to train on", args=(_bytes(), val), expect=[]),
        Case("no picture twice", args=(train, _bytes(7, 8)), expect=[]),
        Case("two of four", args=(train, val), expect=[1, 3]),
        Case("mirrored", args=(train, mirrored), expect=[1, 2]),
        Case("upside down, or other colors", args=(train, upside), expect=[]),
        Case("one bit differs", args=(train, one_off), expect=[]),
        Case("the same twice in val", args=(train, train[[1, 1]]), expect=[0, 1]),
        Case("a view", args=(turned, turned.contiguous()), expect=[0, 1]),
        Case(
            "a mirrored view",
            args=(turned.contiguous(), turned.flip(3)),
            expect=[0, 1],
        ),
        Case("many pictures", test=many),
    ]


# --- 5 ------------------------------------------------------------------------


class _Parts(nn.Module):
    """Two layers in use, one that is not, and a frozen one."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(2, 3)
        self.second = nn.Linear(3, 1)
        self.idle = nn.Linear(2, 2)
        self.fixed = nn.Linear(2, 3).requires_grad_(False)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(
                    torch.linspace(0.5, 1, parameter.numel()).reshape_as(parameter)
                )

    def forward(self, x):
        return self.second(self.first(x) + self.fixed(x))


X = torch.tensor([[1.0, 2.0], [3.0, -1.0]])


@exercise(
    "20.gradient_report",
    hint="`torch.autograd.grad(loss, parameters, allow_unused=True)` gives None where "
    "the loss does not depend on a parameter. What keeps the graph?",
)
def gradient_report() -> list[Case]:
    def reports(says, make, expected):
        def test(answer):
            model, loss = make()
            got = answer(model, loss)
            if got != expected:
                raise Wrong(_first_difference(got, expected))

        return Case(says, test=test)

    def linear(scale=1.0):
        model = nn.Linear(2, 1)
        with torch.no_grad():
            model.weight.fill_(0.5)
            model.bias.fill_(0.25)
        return model, (model(X) * scale).square().mean()

    def parts():
        model = _Parts()
        return model, model(X).square().mean()

    def dead():
        model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(1.0)
            model[0].bias.fill_(-100.0)
        return model, model(X).mean()

    def broken():
        model = nn.Linear(2, 1)
        with torch.no_grad():
            model.weight.zero_()
            model.bias.zero_()
        return model, model(X).sqrt().sum()

    def partly():
        model = nn.Linear(2, 1)
        loss = (model.weight * torch.tensor([[1.0, math.inf]])).sum()
        return model, loss

    def half_zero():
        model = nn.Linear(2, 1)
        return model, (model.weight * torch.tensor([[0.0, 2.0]])).sum()

    def apart():
        return nn.Linear(1, 1), torch.tensor(2.0)

    def foreign():
        return nn.Linear(1, 1), nn.Linear(2, 1)(X).sum()

    def all_frozen():
        model = nn.Linear(2, 1).requires_grad_(False)
        return model, model(X).sum()

    def no_parameters():
        return nn.ReLU(), torch.tensor(1.0)

    def grads_kept(answer):
        model, loss = parts()
        model.first.weight.grad = torch.full((3, 2), 7.0)
        answer(model, loss)
        changed = {
            name: p.grad
            for name, p in model.named_parameters()
            if (p.grad is not None) != (name == "first.weight")
        }
        if changed:
            raise Wrong(f"the .grad of {sorted(changed)} was made or removed")
        if not (model.first.weight.grad == 7).all():
            raise Wrong("first.weight had a .grad of sevens; it was changed")

    def backward_after(answer):
        model, loss = parts()
        answer(model, loss)
        try:
            loss.backward()
        except RuntimeError:
            raise Wrong("loss.backward() fails afterwards: the graph is gone") from None

    def recorded(answer):
        model, loss = parts()
        flags = [p.requires_grad for p in model.parameters()]
        answer(model, loss)
        if flags != [p.requires_grad for p in model.parameters()]:
            raise Wrong("a parameter's requires_grad was changed")

    fine = {"weight": "fine", "bias": "fine"}
    of_parts = {
        f"{layer}.{name}": word
        for layer, word in (
            ("first", "fine"),
            ("second", "fine"),
            ("idle", "unused"),
            ("fixed", "frozen"),
        )
        for name in ("weight", "bias")
    }
    of_dead = {
        "0.weight": "zero",
        "0.bias": "zero",
        "2.weight": "zero",
        "2.bias": "fine",
    }
    return [
        reports("no parameters", no_parameters, {}),
        reports("one layer", linear, fine),
        reports("a loss that depends on nothing", apart, dict.fromkeys(fine, "unused")),
        reports("another model's loss", foreign, dict.fromkeys(fine, "unused")),
        reports("all frozen", all_frozen, dict.fromkeys(fine, "frozen")),
        reports("in use, idle, frozen", parts, of_parts),
        reports("dead units", dead, of_dead),
        reports("a slope of infinity", broken, dict.fromkeys(fine, "broken")),
        reports(
            "one value is not finite", partly, {"weight": "broken", "bias": "unused"}
        ),
        reports("one value is 0", half_zero, {"weight": "fine", "bias": "unused"}),
        Case("no .grad is touched", test=grads_kept),
        Case("backward is possible afterwards", test=backward_after),
        Case("nothing is frozen or woken", test=recorded),
    ]


def _first_difference(got, expected: dict) -> str:
    if not isinstance(got, dict):
        return f"expected a dictionary, got {type(got).__name__}"
    if missing := [name for name in expected if name not in got]:
        return f"{missing[0]!r} is missing; there are {sorted(got)}"
    if extra := [name for name in got if name not in expected]:
        return f"{extra[0]!r} is no parameter of the model"
    name = next(name for name in expected if got[name] != expected[name])
    return f"{name}: got {got[name]!r}, expected {expected[name]!r}"

"""Exercises of chapter 14, looking inside a model."""

import torch
from tensorboardX.record_writer import masked_crc32c
from torch import nn

from course_utils.checks.core import Case, Wrong, exercise
from course_utils.checks.samples import uniform

__all__: list[str] = []


# --- 1 ------------------------------------------------------------------------


@exercise(
    "14.heaviest",
    hint="First a dictionary from names to sizes. Sort its names by size; "
    "Python's sort keeps the order of equal ones.",
)
def heaviest() -> list[Case]:
    layer = nn.Linear(3, 2)
    pair = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    deep = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Sequential(nn.BatchNorm2d(8)))
    frozen = nn.Sequential(nn.Linear(5, 1), nn.Linear(2, 1))
    frozen[0].requires_grad_(False)
    norms = nn.Sequential(nn.BatchNorm2d(6), nn.Linear(3, 3, bias=False))
    return [
        Case("no parameters", args=(nn.ReLU(), 0.5), expect=[]),
        Case("a share of 0", args=(layer, 0), expect=[]),
        Case("exactly three quarters", args=(layer, 0.75), expect=["weight"]),
        Case("a little more", args=(layer, 0.8), expect=["weight", "bias"]),
        Case("all of it", args=(layer, 1), expect=["weight", "bias"]),
        Case(
            "equal ones in the model's order",
            args=(pair, 0.9),
            expect=["0.weight", "1.weight", "0.bias", "1.bias"],
        ),
        Case(
            "as many weights as biases", args=(nn.Linear(1, 2), 0.4), expect=["weight"]
        ),
        Case("the first of two equals", args=(pair, 0.3), expect=["0.weight"]),
        Case("a part within a part", args=(deep, 0.93), expect=["0.weight", "0.bias"]),
        Case("frozen ones count", args=(frozen, 0.5), expect=["0.weight"]),
        Case("buffers do not", args=(norms, 0.4), expect=["1.weight"]),
    ]


# --- 2 ------------------------------------------------------------------------


@exercise(
    "14.frame",
    hint="Four parts, in the order in which `records` reads them. The first "
    "checksum is that of the eight bytes of the length.",
)
def frame() -> list[Case]:
    def case(says: str, message: bytes) -> Case:
        def test(answer):
            got = answer(message)
            if not isinstance(got, bytes):
                raise Wrong(f"bytes are expected, got {type(got).__name__}")
            _read(got, message)

        return Case(says, test=test)

    return [
        case("an empty message", b""),
        case("one byte", b"\x01"),
        case("abc", b"abc"),
        case("300 bytes", bytes(300)),
        case("every byte", bytes(range(256))),
    ]


def _read(got: bytes, message: bytes) -> None:
    """Say what is wrong with a record, part by part."""
    count = len(message)
    if len(got) != count + 16:
        raise Wrong(
            f"a message of {count} bytes needs a record of {count + 16}, got {len(got)}"
        )
    size = got[:8]
    if int.from_bytes(size, "little") != count:
        raise Wrong(
            f"the first 8 bytes must say {count}, the low byte first; they are "
            f"{size.hex(' ')}"
        )
    if int.from_bytes(got[8:12], "little") != masked_crc32c(size):
        raise Wrong("bytes 8 to 11 must be the masked checksum of the first 8")
    if got[12 : 12 + count] != message:
        raise Wrong("from byte 12 on the message is expected, unchanged")
    if int.from_bytes(got[-4:], "little") != masked_crc32c(message):
        raise Wrong("the last 4 bytes must be the masked checksum of the message")


# --- 3 ------------------------------------------------------------------------


class _Unit(nn.Module):
    """A ReLU under a name of its own, behind a linear layer with given weights."""

    def __init__(self, weight, bias):
        super().__init__()
        weight = torch.tensor(weight)
        self.front = nn.Linear(weight.shape[1], weight.shape[0])
        self.front.weight.data.copy_(weight)
        self.front.bias.data.copy_(torch.tensor(bias))
        self.bend = nn.ReLU()

    def forward(self, x):
        return self.bend(self.front(x))


@exercise(
    "14.dead_units",
    hint="A forward hook on each `nn.ReLU` notes which channels were above zero; "
    "join it with what earlier batches showed by `|`.",
)
def dead_units() -> list[Case]:
    def case(says, build, batches, expect):
        def test(answer):
            got = answer(build(), batches)
            if got != expect:
                raise Wrong(f"expected {expect}, got {got}")

        return Case(says, test=test)

    def one():
        return _Unit([[1.0], [-1.0], [0.0]], [0.0, 0.0, -1.0])

    def nested():
        return nn.Sequential(one(), nn.Sequential(nn.Linear(3, 2), nn.Tanh()))

    def maps():
        net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU())
        net[0].weight.data.copy_(torch.tensor([[[[1.0]]], [[[0.0]]]]))
        net[0].bias.data.copy_(torch.tensor([0.0, -1.0]))
        return net

    def smooth():
        net = maps()
        return nn.Sequential(net[0], nn.Sigmoid())

    plus, minus = torch.tensor([[2.0], [1.0]]), torch.tensor([[-3.0]])
    picture = torch.zeros(1, 1, 4, 4)
    picture[0, 0, 2, 3] = 1.0

    def left_behind(answer):
        net = one().train()
        answer(net, [plus])
        if net.bend._forward_hooks or net.front._forward_hooks:
            raise Wrong("a hook is left on the model")
        if not net.training:
            raise Wrong("the model was in training mode, and now it is not")
        if any(p.grad is not None for p in net.parameters()):
            raise Wrong("a parameter has got a gradient")

    def after_error(answer):
        net = one()
        try:
            answer(net, [plus, torch.zeros(1, 2)])
        except RuntimeError:
            pass
        else:
            raise Wrong("the model's own error must come through")
        if net.bend._forward_hooks:
            raise Wrong("after an error in the model a hook is left")

    def once_only(answer):
        got = answer(one(), iter([plus, minus]))
        if got != {"bend": 1}:
            raise Wrong(f"batches that can be read once: expected 1 dead, got {got}")

    return [
        case("no batches", one, [], {}),
        case("a positive batch", one, [plus], {"bend": 2}),
        case("a negative batch", one, [minus], {"bend": 2}),
        case("dead in one of two batches is alive", one, [plus, minus], {"bend": 1}),
        case("the same, the other way round", one, [minus, plus], {"bend": 1}),
        case("a name deep in the tree", nested, [plus, minus], {"0.bend": 1}),
        case("one bright place of a map is enough", maps, [picture], {"1": 1}),
        case("maps of zeros", maps, [0 * picture], {"1": 2}),
        case("a model without ReLU", smooth, [picture], {}),
        Case("read once", test=once_only),
        Case("nothing is left behind", test=left_behind),
        Case("nor after an error", test=after_error),
    ]


# --- 4 ------------------------------------------------------------------------


class _Body(nn.Module):
    """Two maps of a picture: its first color, and its second."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return self.scale * x[:, :2]


def _head(weight, bias=(0.0, 0.0)) -> nn.Sequential:
    linear = nn.Linear(2, len(weight))
    linear.weight.data.copy_(torch.tensor(weight))
    linear.bias.data.copy_(torch.tensor(bias))
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)


class _Corner(nn.Module):
    """A head that looks at one place more than at the others."""

    def forward(self, maps):
        corner = maps[:, :, 0, 0]
        return torch.stack([corner.sum(1), corner[:, 0] - corner[:, 1]], 1)


def _cams(body, head, x, labels):
    maps = body(x).detach().requires_grad_()
    scores = head(maps).gather(1, labels[:, None]).sum()
    (slope,) = torch.autograd.grad(scores, maps)
    return (slope.mean((2, 3), keepdim=True) * maps.detach()).sum(1).relu()


@exercise(
    "14.fixed_cams",
    hint="Compare it line by line with `grad_cam` of the chapter. What does a "
    "probability near 1 do to the gradient, and where does `backward` leave its own?",
)
def fixed_cams() -> list[Case]:
    x = uniform(3, 3, 3, 4, seed=1, low=-1, high=2, dtype=torch.float32)
    plain = _head([[1.0, 1.0], [0.0, 1.0]])
    mixed = _head([[2.0, -1.0], [-1.0, 3.0]])
    sure = _head([[9.0, 9.0], [-9.0, -9.0]], (50.0, -50.0))

    def case(says, head, labels, picture):
        def test(answer):
            body, wanted = _Body(), torch.tensor(labels, dtype=torch.int64)
            got = answer(body, head, picture.clone(), wanted.clone())
            expect = _cams(body, head, picture, wanted)
            if not isinstance(got, torch.Tensor) or got.shape != expect.shape:
                shape = tuple(getattr(got, "shape", ()))
                raise Wrong(f"maps of {tuple(expect.shape)} are expected, got {shape}")
            for n, (one, right) in enumerate(zip(got, expect, strict=True)):
                if not torch.allclose(one, right, rtol=1e-4, atol=1e-6):
                    raise Wrong(
                        f"expected {_rounded(right[0])} in the first row of map {n}, "
                        f"got {_rounded(one[0])}"
                    )

        return Case(says, test=test)

    def left_behind(answer):
        body, head, picture = _Body(), _head([[1.0, 2.0], [0.0, 1.0]]), x.clone()
        got = answer(body, head, picture, torch.tensor([0, 1, 0]))
        for name, part in (("body", body), ("head", head)):
            if any(p.grad is not None for p in part.parameters()):
                raise Wrong(f"the {name}'s parameters have got gradients")
        if not torch.equal(picture, x):
            raise Wrong("the pictures were changed")
        if got.requires_grad:
            raise Wrong("the maps still want a gradient")

    def older_gradients(answer):
        body, head = _Body(), _head([[1.0, 2.0], [0.0, 1.0]])
        own = [*body.parameters(), *head.parameters()]
        for p in own:
            p.grad = torch.ones_like(p)
        answer(body, head, x.clone(), torch.tensor([0, 1, 0]))
        if any(p.grad is None or not (p.grad == 1).all() for p in own):
            raise Wrong("gradients that body and head had before were changed")
        if not all(p.requires_grad for p in own):
            raise Wrong("parameters of body or head no longer want a gradient")

    return [
        case("two maps, equal weights", plain, [0], x[:1]),
        case("one map counts", plain, [1], x[:1]),
        case("weights of both signs", mixed, [0], x[:1]),
        case("the other class", mixed, [1], x[:1]),
        case("a class that is almost certain", sure, [0], x[:1]),
        case("a head that looks at a corner", _Corner(), [0], x[:1]),
        case("and with a minus", _Corner(), [1], x[:1]),
        case("one place", mixed, [1], x[:1, :, :1, :1]),
        case("three pictures of one class", mixed, [1, 1, 1], x),
        case("three pictures of two classes", mixed, [1, 0, 1], x),
        case("no picture", mixed, [], x[:0]),
        Case("nothing is left behind", test=left_behind),
        Case("nothing is taken away", test=older_gradients),
    ]


def _rounded(row: torch.Tensor) -> list[float]:
    return [round(v, 4) for v in row.tolist()]


# --- 5 ------------------------------------------------------------------------


@exercise(
    "14.path_gradients",
    hint="One straight piece is what the chapter's `integrated_gradients` does, from "
    "`start` to `end`. Add the shares of all pieces.",
)
def path_gradients() -> list[Case]:
    def product(x):
        return x[0] * x[1]

    def squares(x):
        return (x**2).sum()

    def ramp(x):
        return x.clamp(max=1).sum()

    def cube(x):
        return (x**3).sum()

    def points(*rows):
        return torch.tensor(rows, dtype=torch.float64)

    def values(*numbers):
        return torch.tensor(numbers, dtype=torch.float64)

    grid = uniform(3, 2, 4, seed=3)
    expect = grid[2] ** 2 - grid[0] ** 2

    def no_graph(answer):
        path = points((0, 0), (1, 1)).requires_grad_()
        got = answer(product, path, 2)
        if got.requires_grad:
            raise Wrong("the shares still lead to a graph: detach the points")
        if path.grad is not None:
            raise Wrong("the points have got a gradient")

    return [
        Case(
            "one point",
            args=(product, points((2, 3)), 5),
            expect=values(0.0, 0.0),
        ),
        Case(
            "a straight piece",
            args=(product, points((0, 0), (2, 3)), 4),
            expect=values(3.0, 3.0),
        ),
        Case(
            "around a corner",
            args=(product, points((0, 0), (2, 0), (2, 3)), 4),
            expect=values(0.0, 6.0),
        ),
        Case(
            "around the other corner",
            args=(product, points((0, 0), (0, 3), (2, 3)), 4),
            expect=values(6.0, 0.0),
        ),
        Case(
            "there and back",
            args=(squares, points((1, 2), (3, 1), (1, 2)), 3),
            expect=values(0.0, 0.0),
        ),
        Case(
            "a flat end",
            args=(ramp, points((0, 0), (1, 0.5), (4, 0.5)), 8),
            expect=values(1.0, 0.5),
        ),
        Case(
            "one step, at the middle",
            args=(cube, points((0.0,), (2.0,)), 1),
            expect=values(6.0),
        ),
        Case(
            "two pieces, two steps each",
            args=(cube, points((0.0,), (1.0,), (2.0,)), 2),
            expect=values(7.875),
        ),
        Case("shapes of two axes", args=(squares, grid, 6), expect=expect),
        Case(
            "float32 stays",
            args=(squares, torch.tensor([[0.0, 0.0], [1.0, 2.0]]), 4),
            expect=torch.tensor([1.0, 4.0]),
        ),
        Case("no graph is left", test=no_graph),
    ]

"""Chapter 10's Module against torch's, on networks that the chapter does not show."""

import pytest
import torch
from torch import nn

from booktools import chapter_code

NAMES = ("Module", "Linear", "ReLU", "Sequential", "DRAWERS")


@pytest.fixture(scope="module")
def ours():
    """The chapter's class with all methods, which it attaches in several cells."""
    space = {"__name__": "chapter"}
    for cell in chapter_code._cells("10_modules"):
        wanted = (
            "class Module:",
            "def state_dict",
            "def train(self",
            "def named_modules",
            "class Linear(Module)",
            "class Sequential(Module)",
        )
        if cell.source.startswith("import copy") or any(
            w in cell.source for w in wanted
        ):
            exec(compile(cell.source, "<10>", "exec"), space)
    return space["OURS"]


def trees(lib):
    """Networks with every shape of nesting."""

    class Branch(lib.Module):
        def __init__(self):
            super().__init__()
            self.left = lib.Linear(3, 2)
            self.gain = nn.Parameter(torch.ones(1))
            self.right = lib.Sequential(lib.Sequential(lib.Linear(3, 2)), lib.ReLU())
            self.register_buffer("kept", torch.zeros(2))
            self.register_buffer("gone", torch.zeros(2), persistent=False)
            self.nothing = None

        def forward(self, x):
            return self.left(x) * self.gain + self.right(x) + self.kept + self.gone

    shared = lib.Linear(3, 3)
    return [
        lib.Linear(3, 2),
        lib.Sequential(),
        lib.Sequential(shared, lib.ReLU(), shared),
        Branch(),
        lib.Sequential(lib.Linear(3, 3), Branch(), lib.ReLU()),
    ]


@pytest.mark.parametrize("index", range(5))
def test_names_state_outputs_gradients(ours, index):
    torch.manual_seed(index)
    mine, theirs = trees(ours)[index], trees(nn)[index]
    names = [name for name, _ in theirs.named_parameters()]
    assert [name for name, _ in mine.named_parameters()] == names
    assert list(mine.state_dict()) == list(theirs.state_dict())
    mine.load_state_dict(theirs.state_dict())
    for x in (torch.randn(4, 3), torch.zeros(0, 3), torch.full((2, 3), 1e-38)):
        mine.zero_grad(), theirs.zero_grad()
        one, two = mine(x), theirs(x)
        torch.testing.assert_close(one, two)
        if names:
            one.sum().backward(), two.sum().backward()
            for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
                torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize("index", range(5))
def test_modes_and_the_order_of_apply(ours, index):
    seen = []
    for net in (trees(ours)[index], trees(nn)[index]):
        names = []
        net.apply(lambda part, names=names: names.append(type(part).__name__))
        assert net.eval() is net and not net.training
        seen.append(names)
    assert seen[0] == seen[1]  # a shared module is visited once


def test_a_refused_state_changes_nothing(ours):
    net = ours.Sequential(ours.Linear(2, 2), ours.Linear(2, 2))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    for change in ({"1.weight": torch.ones(2, 3)}, {"2.bias": torch.ones(2)}):
        state = {n: torch.ones_like(v) for n, v in before.items()} | change
        with pytest.raises(RuntimeError):
            net.load_state_dict(state)
    state = {n: torch.ones_like(v) for n, v in before.items() if n != "0.bias"}
    with pytest.raises(RuntimeError, match="missing 0.bias"):
        net.load_state_dict(state)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])


def test_attributes_change_drawers(ours):
    layer = ours.Linear(2, 2)
    layer.bias = None
    assert list(layer.state_dict()) == ["weight"] and layer.bias is None
    layer.bias = nn.Parameter(torch.zeros(2))
    assert list(layer.state_dict()) == ["weight", "bias"]
    layer.register_buffer("mean", torch.zeros(1))
    layer.mean = torch.ones(1)  # stays a buffer
    assert list(layer.state_dict()) == ["weight", "bias", "mean"]
    layer.mean = nn.Parameter(torch.ones(1))  # becomes a parameter, as in torch
    assert [n for n, _ in layer.named_parameters()] == ["weight", "bias", "mean"]
    layer.late = None  # a plain attribute first, then a parameter
    layer.late = nn.Parameter(torch.zeros(3))
    assert isinstance(layer.late, nn.Parameter)
    layer.register_buffer("count", torch.tensor(0))
    with pytest.raises(TypeError, match="count cannot become int"):
        layer.count = 3
    with pytest.raises(AttributeError, match="nope"):
        getattr(layer, "nope")  # noqa: B009


@pytest.mark.parametrize("index", range(2))
def test_corners_of_both_classes(ours, index):
    """What a name may become, a child that is None, hooks that return, arguments."""
    lib = (ours, nn)[index]
    layer = lib.Linear(2, 2)
    layer.register_buffer("mean", torch.zeros(1), persistent=False)
    assert list(layer.state_dict()) == ["weight", "bias"]
    layer.register_buffer("mean", torch.zeros(1))
    assert list(layer.state_dict()) == ["weight", "bias", "mean"]
    layer.register_buffer("mean", torch.zeros(1), persistent=False)
    layer.mean = nn.Parameter(torch.zeros(1))  # now it is saved
    assert list(layer.state_dict()) == ["weight", "bias", "mean"]
    layer.number = 3
    for name in ("weight", "number"):
        with pytest.raises(KeyError):
            layer.register_buffer(name, torch.zeros(1))
    with pytest.raises(TypeError):
        layer.weight = lib.ReLU()
    net = lib.Sequential(lib.Linear(2, 2))
    setattr(net, "0", None)
    assert list(net.train().state_dict()) == [] and list(net.parameters()) == []
    assert [name for name, _ in net.named_modules()] == [""]
    layer.register_forward_hook(lambda module, args, output: 0)
    assert layer(torch.zeros(1, 2)) == 0
    with pytest.raises(NotImplementedError):
        lib.Module()(torch.zeros(1))

    class Scaled(lib.Module):
        def forward(self, x, scale=1):
            return x * scale

    assert Scaled()(torch.ones(1), scale=3).item() == 3


def test_a_shared_module_is_named_once(ours):
    names = []
    for lib in (ours, nn):
        layer = lib.Linear(2, 2)
        net = lib.Sequential(lib.Sequential(layer), layer)
        names.append([name for name, _ in net.named_modules()])
    assert names[0] == names[1] == ["", "0", "0.0"]

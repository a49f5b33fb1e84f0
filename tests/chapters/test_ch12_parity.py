"""Chapter 12's layers against the library's: the parity contract, and that it bites.

The classes come out of the notebook. Each pair starts from the same parameters, gets
the same inputs for twenty updates and then evaluates; outputs, gradients, parameters
and buffers must agree, per tensor, relative to the largest absolute value of the
library's. On inputs that float32 cannot resolve (a mean far above the spread, a batch
of two) both are held against float64 instead, where ours may err at most twice as much.
"""

import ast
import copy
import math
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.ops import FrozenBatchNorm2d

from booktools import chapter_code

CHAPTER = "12_normalization"
NAMES = [
    *("center", "standardize", "widen", "per_channel", "trailing", "BatchNorm"),
    *("LayerNorm", "RMSNorm", "GroupNorm", "InstanceNorm", "FrozenBatchNorm"),
    *("batch_norm_backward", "fold"),
]
OURS = chapter_code.definitions(CHAPTER, *NAMES)
WITHIN = {torch.float64: 1e-12, torch.float32: 2e-6}
STEPS = 20


pytestmark = pytest.mark.usefixtures("one_thread")


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1


# --- the layers, and the inputs they are tried on ------------------------------------


@dataclass
class Pair:
    """A layer of the chapter, the library's, their arguments and an input's shape."""

    ours: str
    library: type
    shape: tuple
    args: tuple
    switches: dict

    def make_ours(self, space=OURS):
        return getattr(space, self.ours)(*self.args, **self.switches)

    def make_library(self):
        return self.library(*self.args, **self.switches)


def batch(shape, **switches):
    library = nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d
    return Pair("BatchNorm", library, shape, (4,), switches)


ROWS, LINES, IMAGES, ONE = (16, 4), (3, 4, 7), (3, 4, 5, 6), (1, 4, 5, 6)
PAIRS = {
    "batch rows": batch(ROWS),
    "batch lines": batch(LINES),
    "batch images": batch(IMAGES),
    "batch one image": batch(ONE),
    "batch square": batch((4, 4, 3, 3)),
    "batch momentum=None": batch(IMAGES, momentum=None),
    "batch momentum, eps": batch(ROWS, momentum=0.3, eps=1e-2),
    "batch affine=False": batch(IMAGES, affine=False),
    "batch untracked": batch(IMAGES, track_running_stats=False),
    "batch bare": batch(ROWS, affine=False, track_running_stats=False),
    "layer": Pair("LayerNorm", nn.LayerNorm, (2, 5, 8), (8,), {}),
    "layer two axes": Pair("LayerNorm", nn.LayerNorm, (3, 5, 6), ((5, 6),), {}),
    "layer no bias": Pair("LayerNorm", nn.LayerNorm, (5, 8), (8,), {"bias": False}),
    "layer plain": Pair(
        "LayerNorm", nn.LayerNorm, (2, 5, 8), (8,), {"elementwise_affine": False}
    ),
    "rms": Pair("RMSNorm", nn.RMSNorm, (2, 5, 8), (8,), {}),
    "rms eps": Pair("RMSNorm", nn.RMSNorm, (2, 5, 6), ((5, 6),), {"eps": 1e-3}),
    "group": Pair("GroupNorm", nn.GroupNorm, IMAGES, (2, 4), {}),
    "group of all": Pair("GroupNorm", nn.GroupNorm, ROWS, (1, 4), {"affine": False}),
    "instance": Pair("InstanceNorm", nn.InstanceNorm2d, IMAGES, (4,), {}),
    "instance affine": Pair(
        "InstanceNorm", nn.InstanceNorm1d, LINES, (4,), {"affine": True}
    ),
    "frozen": Pair("FrozenBatchNorm", FrozenBatchNorm2d, IMAGES, (4,), {}),
}


def strided(x):
    """The same values in another memory order."""
    return x.transpose(-1, -2).contiguous().transpose(-1, -2)


INPUTS = {
    "plain": lambda x: x,
    "strided": strided,
    "every other": lambda x: torch.stack([x, -x], -1).flatten(-2)[..., ::2],
    "huge": lambda x: x * 1e15,
    "tiny": lambda x: x * 1e-15,
}
HARD = {
    "mean 100": lambda x: x + 100,
    "mean 10000": lambda x: x + 1e4,
    "constant": lambda x: torch.full_like(x, 0.1),
    "constant 3": lambda x: torch.full_like(x, 3.0),
}


# --- the contract --------------------------------------------------------------------


def history(layer, batches, slopes) -> dict:
    """Every tensor that a layer produces and keeps, over training and evaluation."""
    found = {}
    for step, x in enumerate([*batches, batches[0]]):
        training = step < len(batches)
        layer.train(training)
        x = x.detach().requires_grad_()
        layer.zero_grad()
        y = layer(x)
        (y * slopes).sum().backward()
        if step in (0, len(batches) - 1) or not training:
            when = f"step {step}" if training else "evaluation"
            found[f"{when}: output"] = y.detach()
            found[f"{when}: input gradient"] = x.grad
            for name, p in layer.named_parameters():
                found[f"{when}: {name} gradient"] = p.grad
        if training:
            with torch.no_grad():
                for p in layer.parameters():
                    p -= 0.01 * p.grad
    for name, value in layer.state_dict().items():
        found[f"state: {name}"] = value.clone()
    return found


def gap(a, b, unit=0.0) -> float:
    """The largest difference relative to the largest absolute value of ``b``."""
    assert a.shape == b.shape, (a.shape, b.shape)
    if not b.is_floating_point():
        return 0.0 if torch.equal(a, b) else float("inf")
    size = max(b.abs().max().item(), unit) or 1.0
    worst = (a.double() - b.double()).abs().max().item() / size
    return worst if worst == worst else float("inf")


def contract(pair, change, dtype, hard=False, space=OURS, within=None) -> float:
    """Assert that ours keeps to the contract; return the largest difference.

    Args:
        pair: the two layers.
        change: what is done to the plain input, which lies in -1 .. 1.
        dtype: of the layers and inputs.
        hard: hold both against float64, and allow ours twice the library's error
            (or what the contract allows anyway, where the library's is less).
        space: where the chapter's class is looked up, for planted mistakes.
        within: instead of the contract's bound for the dtype.

    Evaluation subtracts a running mean that float32 has rounded. Beside a mean far
    larger than the spread that rounding shows, on both sides and by chance; so there
    two roundings of the mean are allowed as well.
    """
    within = WITHIN[dtype] if within is None else within
    library, ours = pair.make_library().to(dtype), pair.make_ours(space).to(dtype)
    start = library.state_dict()
    shapes = {key: value.shape for key, value in start.items()}
    assert {key: v.shape for key, v in ours.state_dict().items()} == shapes
    for seed, (key, value) in enumerate(start.items()):
        if key in ("weight", "bias"):
            value.copy_(draw(*value.shape, seed=50 + seed) + 0.6)
        elif pair.ours == "FrozenBatchNorm":
            value.copy_(draw(*value.shape, seed=50 + seed) + 1.5)
    ours.load_state_dict(start)
    with torch.no_grad():
        drawn = draw(STEPS, *pair.shape)
        batches = [change(x).to(dtype) for x in drawn]
        slopes = draw(*pair.shape, seed=1).to(dtype)
    exact = copy.deepcopy(library).double()
    a, b = history(ours, batches, slopes), history(library, batches, slopes)
    assert list(a) == list(b)
    worst, unit, chance = 0.0, float(hard), 0.0
    if hard:
        spread, mean = torch.std_mean(batches[0].double())
        if spread > 1e-6:
            chance = 2 * torch.finfo(dtype).eps * (mean.abs() / spread).item()
        c = history(exact, [x.double() for x in batches], slopes.double())
    for name in b:
        assert a[name].dtype == b[name].dtype, name
        if hard:
            mine, theirs = gap(a[name], c[name], unit), gap(b[name], c[name], unit)
            allowed = max(2 * theirs, within)
            if name.startswith("evaluation"):
                allowed = max(allowed, chance)
            assert mine <= allowed, (name, mine, theirs)
        else:
            mine = gap(a[name], b[name])
            assert mine <= within, (name, mine)
        worst = max(worst, mine)
    fresh = pair.make_library().to(dtype)
    fresh.load_state_dict(ours.state_dict())  # the other direction
    x = draw(*pair.shape, seed=2).to(dtype)
    again = [layer.eval()(x).detach() for layer in (ours, fresh)]
    assert gap(*again) <= within
    return worst


@pytest.mark.parametrize("dtype", WITHIN, ids=str)
@pytest.mark.parametrize("change", INPUTS)
@pytest.mark.parametrize("name", PAIRS)
def test_layer_equals_the_library(name, change, dtype):
    # The library's own float32 gradient underflows there: both against float64.
    hard = (PAIRS[name].ours, change, dtype) == ("RMSNorm", "huge", torch.float32)
    contract(PAIRS[name], INPUTS[change], dtype, hard)


@pytest.mark.parametrize("change", HARD)
@pytest.mark.parametrize("name", PAIRS)
def test_hard_input_against_float64(name, change):
    contract(PAIRS[name], HARD[change], torch.float32, hard=True)


def test_batch_of_two_rows():
    """Outputs are plus and minus one; the input's gradient is what rounding leaves."""
    contract(batch((2, 4)), INPUTS["plain"], torch.float64, within=1e-10)
    contract(batch((2, 4)), INPUTS["plain"], torch.float32, hard=True)


# --- the contract bites: mistakes planted in the chapter's own source ----------------


def planted(old: str, new: str):
    """The chapter's definitions with one piece of their source replaced."""
    chunks = []
    for cell in chapter_code._cells(CHAPTER):
        if not {"exercise", "solution"} & set(cell.metadata.get("tags", [])):
            for node in ast.parse(cell.source).body:
                if getattr(node, "name", None) in NAMES:
                    lines = cell.source.splitlines()
                    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
                    chunks.append("\n".join(lines[first - 1 : node.end_lineno]))
    source = "\n\n\n".join(chunks)
    assert source.count(old) == 1, f"{source.count(old)} times in the chapter: {old}"
    space = {"torch": torch, "nn": nn, "copy": copy, "math": math}
    exec(compile(source.replace(old, new), "<planted>", "exec"), space)
    return type("Planted", (), space)


BUFFER = "self.register_buffer(name, start if track_running_stats else None)"
PLAIN = "setattr(self, name, start if track_running_stats else None)"
PLANTED = {
    "biased running variance": (
        *("variance * (count / (count - 1))", "variance"),
        "batch images",
    ),
    "unbiased variance to normalize": (
        *("return rest, variance\n", "return rest, variance * count / (count - 1)\n"),
        "batch images",
    ),
    "eval ignored": (
        *("if self.training or self.running_mean is None", "if True"),
        "batch images",
    ),
    "mode taken from grad mode": (
        "if self.training or self.running_mean is None",
        "if torch.is_grad_enabled()",
        "batch images",
    ),
    "buffers missing": (BUFFER, PLAIN, "batch images"),
    "eps outside the root": (
        "torch.sqrt(per_channel(variance, x) + self.eps)",
        "(torch.sqrt(per_channel(variance, x)) + self.eps)",
        "batch images",
    ),
    "wrong axes": (
        *("[0, *range(2, x.dim())]", "[1, *range(2, x.dim())]"),
        "batch square",  # as many samples as channels: nothing fails by its shape
    ),
    "momentum the other way": (
        *("running.dtype), share)", "running.dtype), 1 - share)"),
        "batch images",
    ),
    "momentum=None as 0.1": (
        "share = 1 / self.num_batches_tracked.item()",
        "share = 0.1",
        "batch momentum=None",
    ),
    "batches not counted": (
        *("self.num_batches_tracked += 1", "pass"),
        "batch images",
    ),
    "layer: one axis of two": (
        *("trailing(x, self.shape), self.eps", "-1, self.eps"),
        "layer two axes",
    ),
    "per sample: eps outside": (
        *("torch.sqrt(variance + eps)", "(torch.sqrt(variance) + eps)"),
        "layer",
    ),
    "per sample: unbiased": (
        "variance = rest.square().mean(axes, keepdim=True)",
        "variance = rest.var(axes, keepdim=True)",
        "group",
    ),
    "group: channels interleaved": (
        "unflatten(1, self.size)",
        "unflatten(1, self.size[::-1]).transpose(1, 2)",
        "group",
    ),
    "rms: an eps of 1e-5": (
        *("torch.finfo(wide.dtype).eps if", "1e-5 if"),
        "rms",
    ),
    "rms: the mean removed": (
        "wide = trailing(x, self.shape), widen(x)",
        "wide = -1, widen(x - x.mean(-1, keepdim=True))",
        "rms",
    ),
    "instance: affine by default": (
        *("eps=1e-5, affine=False", "eps=1e-5, affine=True"),
        "instance",
    ),
    "frozen: eps forgotten": (
        *("torch.sqrt(self.running_var + self.eps)", "torch.sqrt(self.running_var)"),
        "frozen",
    ),
    "frozen: a trained weight": (
        'self.register_buffer("weight", torch.ones(num_features))',
        "self.weight = nn.Parameter(torch.ones(num_features))",
        "frozen",
    ),
}


@pytest.mark.parametrize("dtype", WITHIN, ids=str)
@pytest.mark.parametrize("mistake", PLANTED)
def test_planted_mistake_is_caught(mistake, dtype):
    old, new, name = PLANTED[mistake]
    with pytest.raises(AssertionError):
        contract(PAIRS[name], INPUTS["plain"], dtype, space=planted(old, new))


def test_planted_rounding_is_caught():
    """Without the slip a mean of 10000 costs digits; nor may a variance be lost."""
    rough = planted("return mean + slip, rest - slip", "return mean, rest")
    x = (draw(16, 3, 28, 28) + 1e4).float()
    exact = OURS.standardize(x.double(), (0, 2, 3))
    assert gap(OURS.standardize(x, (0, 2, 3)), exact) < 1e-6
    assert gap(rough.standardize(x, (0, 2, 3)), exact) > 1e-5
    lossy = planted(
        "running.lerp_(new.to(running.dtype), share)",
        "running += share * (new - running)",
    )
    with pytest.raises(AssertionError, match="running_var"):
        pair = PAIRS["batch momentum=None"]
        contract(pair, INPUTS["tiny"], torch.float32, space=lossy)


def test_the_source_itself_is_no_mistake():
    space = planted("class LayerNorm(nn.Module)", "class LayerNorm( nn.Module)")
    for pair in PAIRS.values():
        contract(pair, INPUTS["plain"], torch.float64, space=space)


# --- what the contract does not cover ------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 4), (1, 4, 1), (1, 4, 1, 1)])
@pytest.mark.parametrize("track", [True, False])
def test_one_value_per_channel_is_refused_by_both(shape, track):
    library = nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d
    for layer in (OURS.BatchNorm, library):
        layer = layer(4, track_running_stats=track)
        with pytest.raises(ValueError):
            layer(torch.ones(shape))
        layer.eval()
        if track:
            assert layer(torch.ones(shape)).shape == shape
        else:
            with pytest.raises(ValueError):
                layer(torch.ones(shape))


@pytest.mark.parametrize("shape", [(2, 4, 1, 1), (1, 4, 1, 1)])
def test_a_map_of_one_pixel_is_refused_by_both(shape):
    for layer in (OURS.InstanceNorm(4), nn.InstanceNorm2d(4)):
        for mode in (True, False):
            with pytest.raises(ValueError):
                layer.train(mode)(torch.ones(shape))


def test_an_empty_batch_leaves_the_statistics():
    for layer in (OURS.BatchNorm(4), nn.BatchNorm2d(4)):
        x = torch.zeros(0, 4, 2, 2, requires_grad=True)
        layer(x).sum().backward()
        assert layer.running_mean.tolist() == [0.0] * 4
        assert layer.running_var.tolist() == [1.0] * 4
        assert x.grad.shape == x.shape and layer.weight.grad.tolist() == [0.0] * 4
    for layer in (OURS.GroupNorm(2, 4), OURS.LayerNorm(2), OURS.RMSNorm(2)):
        assert layer(torch.zeros(0, 4, 2, 2)).shape == (0, 4, 2, 2)


def test_bad_shapes_are_named():
    with pytest.raises(ValueError, match=r"4 channels, got shape \(2, 3\)"):
        OURS.BatchNorm(4)(torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"\(5,\), got \(2, 3\)"):
        OURS.LayerNorm(5)(torch.zeros(2, 3))
    for layer in (OURS.LayerNorm(5), OURS.RMSNorm(5)):
        with pytest.raises(ValueError, match=r"\(5,\), got \(2, 1\)"):
            layer(torch.zeros(2, 1))  # would broadcast
    with pytest.raises(RuntimeError):
        OURS.GroupNorm(1, 4)(torch.zeros(2, 1, 3, 3))
    with pytest.raises(ValueError, match="6 channels do not split into 4 groups"):
        OURS.GroupNorm(4, 6)


@pytest.mark.filterwarnings("ignore:Mismatch dtype")
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool], ids=str)
def test_integers_are_refused_by_both(dtype):
    x = torch.ones(2, 4, 3, 8).to(dtype)
    for ours, library in (
        (OURS.BatchNorm(4), nn.BatchNorm2d(4)),
        (OURS.GroupNorm(2, 4), nn.GroupNorm(2, 4)),
        (OURS.InstanceNorm(4), nn.InstanceNorm2d(4)),
        (OURS.LayerNorm(8), nn.LayerNorm(8)),
        (OURS.RMSNorm(8), nn.RMSNorm(8)),
    ):
        with pytest.raises(TypeError, match="floating point"):
            ours(x)
        with pytest.raises((RuntimeError, TypeError)):
            library(x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_computed_in_float32(dtype):
    """Narrow input, float32 layers: within one unit of the narrow type's last place."""
    x = (300 * draw(16, 4, 3, 8)).to(dtype)
    last = torch.finfo(dtype).eps
    for ours, library in (
        (OURS.BatchNorm(4), nn.BatchNorm2d(4)),
        (OURS.GroupNorm(2, 4), nn.GroupNorm(2, 4)),
        (OURS.LayerNorm(8), nn.LayerNorm(8)),
        (OURS.RMSNorm(8), nn.RMSNorm(8)),
    ):
        y, wanted = ours(x), library(x.float())
        assert y.dtype == dtype
        torch.testing.assert_close(y.float(), wanted, rtol=last, atol=1e-6)


@pytest.mark.parametrize("shape", [(16, 3), (4, 3, 7), (4, 3, 5, 6), (2, 3, 4, 2, 3)])
def test_backward_by_hand(shape):
    x, grad = draw(*shape).requires_grad_(), draw(*shape, seed=1)
    weight, bias = draw(3, seed=2).requires_grad_(), draw(3, seed=3).requires_grad_()
    y = nn.functional.batch_norm(x, None, None, weight, bias, True, 0.1, 1e-3)
    wanted = torch.autograd.grad(y, [x, weight, bias], grad)
    with torch.no_grad():
        got = OURS.batch_norm_backward(grad, x, weight, 1e-3)
    for a, b in zip(got, wanted, strict=True):
        assert gap(a, b) <= 1e-12


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", WITHIN, ids=str)
def test_folding(dtype, bias):
    conv = nn.Conv2d(3, 4, 3, padding=1, stride=2, bias=bias).to(dtype)
    norm = OURS.BatchNorm(4).to(dtype)
    theirs = nn.BatchNorm2d(4).to(dtype).eval()
    for seed, p in enumerate([*conv.parameters(), *norm.parameters()]):
        p.data.copy_(draw(*p.shape, seed=seed))
    x = draw(4, 3, 8, 9).to(dtype)
    norm(conv(x))
    with pytest.raises(ValueError, match="evaluation"):
        OURS.fold(conv, norm)
    kept = copy.deepcopy(conv.state_dict())
    folded = OURS.fold(conv, norm.eval())
    assert all(torch.equal(kept[k], v) for k, v in conv.state_dict().items())
    assert gap(folded(x).detach(), norm(conv(x)).detach()) <= 5 * WITHIN[dtype]
    theirs.load_state_dict(norm.state_dict())
    wanted = fuse_conv_bn_eval(conv.eval(), theirs)
    assert gap(folded(x).detach(), wanted(x).detach()) <= 5 * WITHIN[dtype]


def test_folding_without_weight_and_bias():
    conv, norm = nn.Conv2d(3, 4, 3).double(), OURS.BatchNorm(4, affine=False).double()
    for seed, p in enumerate(conv.parameters()):
        p.data.copy_(draw(*p.shape, seed=seed))
    x = draw(4, 3, 8, 9)
    norm(conv(x))
    folded = OURS.fold(conv, norm.eval())
    assert gap(folded(x).detach(), norm(conv(x)).detach()) <= 1e-12


def test_folding_refuses_what_it_cannot():
    norm = OURS.BatchNorm(3).eval()
    for other in (nn.ConvTranspose2d(3, 3, 1), nn.Linear(3, 3)):
        with pytest.raises(TypeError, match=type(other).__name__):
            OURS.fold(other, norm)
    bare = OURS.BatchNorm(3, track_running_stats=False).eval()
    with pytest.raises(ValueError, match="running statistics"):
        OURS.fold(nn.Conv2d(3, 3, 1), bare)


def test_frozen_loads_an_ordinary_layer():
    norm = nn.BatchNorm2d(4)
    norm(draw(4, 4, 3, 3).float())
    ours, theirs = OURS.FrozenBatchNorm(4), FrozenBatchNorm2d(4)
    for layer in (ours, theirs):
        layer.load_state_dict(norm.state_dict())
        assert not list(layer.parameters())
    nested = nn.Sequential(OURS.FrozenBatchNorm(4))
    nested.load_state_dict(nn.Sequential(norm).state_dict())
    x = draw(2, 4, 3, 3, seed=1).float()
    wanted = norm.eval()(x)
    for layer in (ours, theirs, nested):
        assert gap(layer.train()(x), wanted.detach()) <= 2e-6

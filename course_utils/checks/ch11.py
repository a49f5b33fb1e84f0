"""Exercises of chapter 11, convolutional networks."""

import copy

import torch
from torch import nn
from torch.nn import functional as F

from course_utils.checks.core import Case, Wrong, difference, exercise
from course_utils.checks.samples import uniform
from course_utils.checks.watch import without

__all__: list[str] = []


def _brief(tensor: torch.Tensor) -> str:
    text = str([round(v, 4) for v in tensor.detach().flatten()[:6].tolist()])
    return text if tensor.numel() <= 6 else text[:-1] + ", ...]"


def _same(what: str, got, wanted: torch.Tensor, within: float = 1e-5) -> None:
    """Refuse what is not this tensor, in shape, dtype or values."""
    if not isinstance(got, torch.Tensor):
        raise Wrong(f"{what}: a tensor was expected, not {type(got).__name__}")
    if got.shape != wanted.shape:
        raise Wrong(
            f"{what}: expected shape {tuple(wanted.shape)}, got {tuple(got.shape)}"
        )
    if got.dtype != wanted.dtype:
        raise Wrong(f"{what}: expected {wanted.dtype}, got {got.dtype}")
    if difference(got.detach(), wanted.detach(), within):
        raise Wrong(f"{what}\nexpected: {_brief(wanted)}\ngot:      {_brief(got)}")


def _signed(*shape: int, seed: int = 0, dtype=torch.float32) -> torch.Tensor:
    return uniform(*shape, seed=seed, low=-1, high=1, dtype=dtype)


# --- 1 ------------------------------------------------------------------------


@exercise(
    "11.same_padding",
    hint="How many pixels does the output lose without padding? They must come "
    "back, half of them on each side.",
)
def same_padding() -> list[Case]:
    def case(says, expect, *args, **kwargs):
        return Case(says, args=args, kwargs=kwargs, expect=expect)

    def whole(answer):
        got = answer(5)
        if not isinstance(got, int) or isinstance(got, bool):
            raise Wrong(f"same_padding(5) must be a whole number, got {got!r}")

    return [
        case("a kernel of 1", 0, 1),
        case("a kernel of 3", 1, 3),
        Case("a whole number", test=whole),
        case("a kernel of 7", 3, 7),
        case("dilated by 2", 2, 3, 2),
        case("dilated by 3, by name", 6, 5, dilation=3),
        case("a kernel of 2", ValueError, 2),
        case("a kernel of 4, dilated by 3", ValueError, 4, 3),
        case("a kernel of 2 that reaches over 3", 1, 2, 2),
        case("a kernel of 4 that reaches over 13", 6, 4, 4),
        case("a kernel of 1, dilated", 0, 1, 4),
    ]


# --- 2 ------------------------------------------------------------------------


@exercise(
    "11.seen",
    hint="Begin at the last layer: which of its inputs does the cell read, from "
    "where to where? Then ask the same of the layer before.",
)
def seen() -> list[Case]:
    def case(says, layers, index, expect):
        return Case(says, args=(layers, index), expect=expect)

    return [
        case("no layers", [], 5, (5, 5)),
        case("one window", [(3, 1, 0)], 0, (0, 2)),
        case("its third place", [(3, 1, 0)], 2, (2, 4)),
        case("padding", [(3, 2, 1)], 0, (-1, 1)),
        case("stride 2", [(3, 2, 1)], 4, (7, 9)),
        case("a kernel of 1 with stride 3", [(1, 3, 0)], 2, (6, 6)),
        case("two layers", [(3, 1, 0), (3, 1, 0)], 0, (0, 4)),
        case("two different layers", [(5, 2, 0), (3, 1, 1)], 1, (0, 8)),
        case("the same two, exchanged", [(3, 1, 1), (5, 2, 0)], 1, (1, 7)),
        case("padding twice", [(3, 2, 1), (3, 2, 1)], 0, (-3, 3)),
        case("a pooling", [(5, 1, 2), (2, 2, 0)], 3, (4, 9)),
        case(
            "AlexNet's first three",
            [(11, 4, 2), (3, 2, 0), (5, 1, 2)],
            13,
            (86, 136),
        ),
    ]


# --- 3 ------------------------------------------------------------------------

READY_MADE = ("conv2d", "conv1d", "conv3d", "convolution", "_convolution")
BY_HAND = "write it by hand: a ready-made convolution was called"


@exercise(
    "11.fixed_conv",
    hint="Try it on what it was not tried on: two channels, a picture that is "
    "higher than wide, a padding of 1. Each shows another fault.",
)
def fixed_conv() -> list[Case]:
    def case(says, x, weight, bias, stride, padding):
        def test(answer):
            inputs = [t.clone() for t in (x, weight, bias)]
            with without(*READY_MADE, says=BY_HAND):
                got = answer(*inputs, stride, padding)
            what = (
                f"x {tuple(x.shape)}, weight {tuple(weight.shape)}, stride {stride}, "
                f"padding {padding}"
            )
            _same(what, got, F.conv2d(x, weight, bias, stride, padding))
            for before, after in zip((x, weight, bias), inputs, strict=True):
                if not torch.equal(before, after):
                    raise Wrong(f"{what}: an input was changed on the way")

        return Case(says, test=test)

    one, two = torch.tensor([0.5]), torch.tensor([1.0, -1.0])
    wide = _signed(1, 3, 6, 9)
    return [
        case("one pixel", _signed(1, 1, 1, 1), _signed(1, 1, 1, 1, seed=1), one, 1, 0),
        case(
            "a gray square", _signed(1, 1, 4, 4), _signed(1, 1, 3, 3, seed=1), one, 1, 0
        ),
        case("padding", _signed(1, 1, 4, 4), _signed(1, 1, 3, 3, seed=1), one, 1, 1),
        case(
            "two channels", _signed(1, 2, 4, 4), _signed(1, 2, 2, 2, seed=1), one, 1, 0
        ),
        case(
            "higher than wide",
            _signed(1, 1, 5, 3),
            _signed(1, 1, 2, 2, seed=1),
            one,
            1,
            0,
        ),
        case(
            "two outputs", _signed(1, 1, 4, 4), _signed(2, 1, 3, 3, seed=1), two, 1, 0
        ),
        case("stride 2", _signed(2, 3, 7, 8), _signed(2, 3, 3, 3, seed=1), two, 2, 1),
        case("not contiguous", wide.mT, _signed(2, 3, 3, 3, seed=1), two, 2, 2),
        case(
            "float64",
            wide.double(),
            _signed(2, 3, 3, 3, seed=1).double(),
            two.double(),
            3,
            1,
        ),
        case("no pictures", wide[:0], _signed(2, 3, 3, 3, seed=1), two, 1, 1),
    ]


# --- 4 ------------------------------------------------------------------------


@exercise(
    "11.as_convolution",
    hint="A kernel as large as the map fits at one place. Each row of the linear "
    "layer's weight, put into the shape of the map, is such a kernel.",
)
def as_convolution() -> list[Case]:
    def make(sizes, classes=4, bias=True, dtype=torch.float32):
        channels, height, width = sizes
        inputs = channels * height * width
        linear = nn.Linear(inputs, classes, bias=bias, dtype=dtype)
        with torch.no_grad():
            linear.weight.copy_(_signed(classes, inputs, dtype=dtype))
            if bias:
                linear.bias.copy_(_signed(classes, seed=1, dtype=dtype))
        return linear

    def turned(answer, linear, sizes):
        conv = answer(linear, *sizes)
        if not isinstance(conv, nn.Conv2d):
            raise Wrong(f"an nn.Conv2d was expected, not {type(conv).__name__}")
        return conv

    def scores(says, sizes, **switches):
        def test(answer):
            linear = make(sizes, **switches)
            before = copy.deepcopy(linear.state_dict())
            kept = [(p, p.requires_grad) for p in linear.parameters()]
            conv = turned(answer, linear, sizes)
            maps = _signed(2, *sizes, seed=2, dtype=linear.weight.dtype)
            wanted = linear(maps.flatten(1))[..., None, None]
            _same(f"maps {tuple(maps.shape)}", conv(maps), wanted)
            for name, value in linear.state_dict().items():
                if not torch.equal(value, before[name]):
                    raise Wrong(f"{name} of the linear layer was changed")
            after = [(p, p.requires_grad) for p in linear.parameters()]
            if len(kept) != len(after) or any(
                one is not other or needs != still
                for (one, needs), (other, still) in zip(kept, after, strict=True)
            ):
                raise Wrong("the parameters of the linear layer were changed")

        return Case(says, test=test)

    def larger(answer):
        sizes = (2, 3, 4)
        linear = make(sizes)
        conv = turned(answer, linear, sizes)
        maps = _signed(1, 2, 5, 6, seed=2)
        windows = F.unfold(maps, (3, 4)).mT  # (1, places, inputs)
        wanted = linear(windows).mT.unflatten(2, (3, 3))
        _same("maps (1, 2, 5, 6) for a head of (2, 3, 4)", conv(maps), wanted)

    def memory(answer):
        linear = make((1, 2, 2))
        conv = turned(answer, linear, (1, 2, 2))
        kept = conv.weight.detach().clone(), conv.bias.detach().clone()
        with torch.no_grad():
            linear.weight.zero_()
            linear.bias.zero_()
        if not torch.equal(conv.weight, kept[0]):
            raise Wrong("the weight shares its memory with the linear layer's")
        if not torch.equal(conv.bias, kept[1]):
            raise Wrong("the bias shares its memory with the linear layer's")

    def trained(answer):
        conv = turned(answer, make((1, 2, 2)), (1, 2, 2))
        parameters = dict(conv.named_parameters())
        if sorted(parameters) != ["bias", "weight"]:
            raise Wrong(f"its parameters are {sorted(parameters)}, not weight and bias")
        for name, parameter in parameters.items():
            if not (parameter.requires_grad and parameter.is_leaf):
                raise Wrong(f"{name} cannot be trained")

    def refused(answer):
        for channels in (3, 1):  # too many, too few
            try:
                got = answer(make((2, 3, 4)), channels, 3, 4)
            except ValueError:
                continue
            raise Wrong(
                f"24 inputs are not {channels} x 3 x 4: a ValueError was expected, "
                f"got {type(got).__name__}"
            )

    def elsewhere(answer):
        linear = make((2, 2, 2)).to("meta")  # a device without values
        conv = turned(answer, linear, (2, 2, 2))
        for name, parameter in conv.named_parameters():
            if parameter.device != linear.weight.device:
                raise Wrong(
                    f"the linear layer lies on {linear.weight.device}, {name} on "
                    f"{parameter.device}"
                )

    return [
        scores("one pixel, one channel", (1, 1, 1)),
        scores("a square map", (1, 2, 2)),
        scores("two channels", (2, 2, 2)),
        scores("wider than high", (2, 3, 4)),
        scores("one class", (2, 2, 3), classes=1),
        scores("without a bias", (2, 2, 2), bias=False),
        scores("float64", (3, 2, 2), dtype=torch.float64),
        Case("a larger map", test=larger),
        Case("memory of its own", test=memory),
        Case("it can be trained", test=trained),
        Case("on the device of the linear layer", test=elsewhere),
        Case("sizes that do not fit", test=refused),
    ]


# --- 5 ------------------------------------------------------------------------


@exercise(
    "11.unit_variance",
    hint="Keep what comes out of the layers so far in a variable. Mend one layer, "
    "then send the variable through it, and go on.",
)
def unit_variance() -> list[Case]:
    def filled(*layers):
        model = nn.Sequential(*layers)
        with torch.no_grad():
            for seed, parameter in enumerate(model.parameters()):
                parameter.copy_(0.3 * _signed(*parameter.shape, seed=seed))
        return model

    def call(answer, model, batch):
        got = answer(model, batch)
        if got is not model:
            raise Wrong("the same model must be returned")

    def wanted_of(model, batch):
        """The rule once more, on a copy."""
        model, x = copy.deepcopy(model), batch
        with torch.no_grad():
            for layer in model:
                if hasattr(layer, "weight") and layer.weight.dim() > 1:
                    if layer.bias is not None:
                        layer.bias.zero_()
                    spread = layer(x).double().var(correction=0).sqrt()
                    if spread > 0:
                        layer.weight.div_(spread)
                x = layer(x)
        return model

    def case(says, batch, *layers):
        def test(answer):
            model = filled(*copy.deepcopy(layers))
            wanted, given = wanted_of(model, batch), batch.clone()
            call(answer, model, batch)
            if not torch.equal(given, batch):
                raise Wrong("the batch was changed")
            found = dict(model.named_parameters())
            names = [name for name, _ in wanted.named_parameters()]
            if list(found) != names:
                raise Wrong(f"the parameters must stay {names}, got {list(found)}")
            for name, expected in wanted.named_parameters():
                _same(f"parameter {name}", found[name], expected, 1e-4)

        return Case(says, test=test)

    def variances(answer):
        model = filled(
            nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 9), nn.ReLU(), nn.Linear(9, 2)
        )
        x = _signed(20, 6, seed=9)
        call(answer, model, x)
        for i, layer in enumerate(model):
            x = layer(x)
            found = x.var(correction=0).item()
            if isinstance(layer, nn.Linear) and abs(found - 1) > 1e-3:
                raise Wrong(f"layer {i} puts out a variance of {found:.4f}, not 1")

    def constant(answer):
        model = filled(nn.Linear(3, 2))
        before = model[0].weight.detach().clone()
        call(answer, model, torch.zeros(4, 3))
        if not torch.equal(model[0].weight, before):
            raise Wrong("all outputs are 0: the weight must stay as it is")
        if model[0].bias.any():
            raise Wrong("all outputs are 0: the bias is still set to 0")

    def gradients(answer):
        model = filled(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        held = list(model.parameters())
        call(answer, model, _signed(5, 3, seed=9))
        for before, after in zip(held, model.parameters(), strict=True):
            if before is not after:
                raise Wrong("in place: the parameters must be the same objects")
            if not (after.requires_grad and after.is_leaf and after.grad is None):
                raise Wrong("the parameters must stay trainable, and without gradients")

    def mode(answer):
        for training in (True, False):
            torch_dropout = nn.Dropout(0.5)
            model = filled(nn.Linear(3, 4), torch_dropout, nn.Linear(4, 2))
            model.train(training)
            call(answer, model, _signed(5, 3, seed=9))
            if any(part.training != training for part in model.modules()):
                raise Wrong("the mode of the model was changed")

    def evaluation(answer):
        model = filled(nn.Linear(3, 50), nn.Dropout(0.5), nn.Linear(50, 4)).eval()
        x = _signed(40, 3, seed=9)
        call(answer, model, x)
        found = model(x).var(correction=0).item()
        if abs(found - 1) > 1e-3:
            raise Wrong(
                f"in evaluation mode the last layer puts out a variance of {found:.4f}"
            )

    def normalized(answer):
        norm = nn.BatchNorm2d(3)
        model = filled(nn.Conv2d(2, 3, 3, bias=False), norm, nn.ReLU())
        before = norm.weight.detach().clone(), norm.bias.detach().clone()
        call(answer, model, _signed(4, 2, 5, 5, seed=9))
        for name, kept in zip(("weight", "bias"), before, strict=True):
            if not torch.equal(getattr(norm, name), kept):
                raise Wrong(f"{name} of a BatchNorm2d was changed")

    rows, maps = _signed(7, 3, seed=9), _signed(3, 2, 6, 5, seed=9)
    batches = (nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Linear(8, 4))
    flat = (nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 4))
    return [
        Case("no layers", test=lambda answer: call(answer, nn.Sequential(), rows)),
        case("one linear layer", rows, nn.Linear(3, 4)),
        case("without a bias", rows, nn.Linear(3, 4, bias=False)),
        case("one convolution", maps, nn.Conv2d(2, 3, 3)),
        case("two layers", rows, nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 4)),
        case("a convolution, then a linear layer", maps, *flat),
        Case("every layer's variance is 1", test=variances),
        case("outputs far from 0", rows + 100, nn.Linear(3, 4), nn.Tanh()),
        case("a batch of one", rows[:1], nn.Linear(3, 4)),
        Case("constant outputs", test=constant),
        Case("other layers stay", test=normalized),
        Case("still trainable, in place", test=gradients),
        Case("the mode stays", test=mode),
        case("training mode is respected", rows, *batches),
        Case("evaluation mode is respected", test=evaluation),
    ]

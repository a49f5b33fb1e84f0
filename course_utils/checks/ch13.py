"""Exercises of chapter 13, backbones."""

import copy
import inspect

import torch
from torch import nn

from course_utils.checks.core import Case, Wrong, exercise
from course_utils.checks.samples import uniform

__all__: list[str] = []


def _filled(model: nn.Module, seed: int = 0) -> nn.Module:
    """The same module with drawn weights and statistics, in evaluation mode."""
    for place, (name, value) in enumerate(model.state_dict().items()):
        if value.is_floating_point():
            low = 0.5 if name.endswith("var") else -0.5
            drawn = uniform(*value.shape, seed=seed + place, low=low, high=low + 1)
            value.copy_(drawn.to(value))
    return model.eval()


# --- 1 ------------------------------------------------------------------------


@exercise(
    "13.block_weights",
    hint="Write the layers of a block as a list of (inputs, outputs, size). What does "
    "one of them cost, its batch normalization included?",
)
def block_weights() -> list[Case]:
    # 2 (9 c^2 + 2 c), and with n = c / 4: c n + 2 n + 9 n^2 + 2 n + n c + 2 c
    known = [
        (4, False, 304),
        (4, True, 29),
        (8, True, 92),
        (64, False, 73984),
        (64, True, 4544),
        (256, True, 70400),
        (256, False, 1180672),
        (2048, True, 4462592),
    ]
    return [
        Case(
            f"{'a bottleneck' if narrow else 'a basic block'} of {channels} channels",
            args=(channels, narrow),
            expect=expect,
        )
        for channels, narrow, expect in known
    ]


# --- 2 ------------------------------------------------------------------------


class _Basic(nn.Module):
    """A residual block with the names of torchvision's, and few channels."""

    def __init__(self, channels: int = 2, downsample: nn.Module | None = None):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = downsample

    def change(self, x):
        return self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))

    def forward(self, x):
        around = x if self.downsample is None else self.downsample(x)
        return torch.relu(self.change(x) + around)


class _Narrow(_Basic):
    """A bottleneck: a third convolution and normalization."""

    def __init__(self, channels: int = 2, downsample: nn.Module | None = None):
        super().__init__(channels, downsample)
        self.conv3 = nn.Conv2d(channels, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)

    def change(self, x):
        return self.bn3(self.conv3(torch.relu(super().change(x))))


@exercise(
    "13.zero_start",
    hint="`model.modules()` goes through all parts, each once. "
    "Change the numbers of a weight under `torch.no_grad()`, not the weight itself.",
)
def zero_start() -> list[Case]:
    def count(got, wanted):
        if isinstance(got, bool) or not isinstance(got, int) or got != wanted:
            raise Wrong(f"expected the number of blocks, {wanted}, got {got!r}")

    def zeroed(model, names):
        """Compare with what the state was, except for these weights."""
        before = copy.deepcopy(model.state_dict())

        def compare(got):
            for name, value in model.state_dict().items():
                if name in names and value.any():
                    raise Wrong(f"{name} should be 0, and is {value.tolist()}")
                if name not in names and not torch.equal(value, before[name]):
                    raise Wrong(f"{name} was changed, and should stay")
            count(got, len(names))

        return compare

    def none(answer):
        model = _filled(nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)))
        compare = zeroed(model, set())
        compare(answer(model))

    def one(answer):
        model = _filled(_Basic())
        compare = zeroed(model, {"bn2.weight"})
        compare(answer(model))

    def narrow(answer):
        model = _filled(nn.Sequential(_Narrow()))
        compare = zeroed(model, {"0.bn3.weight"})
        compare(answer(model))

    def projected(answer):
        around = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2))
        model = _filled(nn.Sequential(nn.Sequential(_Basic(2, around)), _Narrow()))
        compare = zeroed(model, {"0.0.bn2.weight", "1.bn3.weight"})
        compare(answer(model))

    def shared(answer):
        block = _filled(_Basic())
        model = nn.Sequential(block, nn.Sequential(block))
        count(answer(model), 1)
        if block.bn2.weight.any():
            raise Wrong("the weight of a block in two places should be 0")

    def nothing_left(answer):
        model, x = _filled(_Basic()), uniform(2, 2, 4, 4, dtype=torch.float32)
        with torch.no_grad():
            model.bn2.bias.zero_()
            answer(model)
            if not torch.allclose(model(x), torch.relu(x)):
                raise Wrong("a block with the bias 0 must begin as its shortcut")

    def same_objects(answer):
        model = nn.Sequential(_Basic(), _Basic()).train()
        model[1].bn2.weight.requires_grad_(False)
        before = dict(model.named_parameters())
        trained = {name: p.requires_grad for name, p in before.items()}
        with torch.enable_grad():
            answer(model)
        after = dict(model.named_parameters())
        for name, parameter in before.items():
            if after.get(name) is not parameter:
                raise Wrong(
                    f"{name} is another object now: an optimizer would keep the old one"
                )
            if parameter.requires_grad != trained[name]:
                raise Wrong(f"requires_grad of {name} was {trained[name]}")
            if not parameter.is_leaf:
                raise Wrong(f"{name} became the result of an operation")
        if not model.training:
            raise Wrong("the mode of the model was changed")
        if torch.is_grad_enabled() is False:
            raise Wrong("gradients are switched off afterwards")

    def half(answer):
        model = _filled(_Basic().half())
        count(answer(model), 1)
        if model.bn2.weight.any() or model.bn2.weight.dtype != torch.float16:
            raise Wrong("in float16, bn2.weight should be 0 and stay float16")

    return [
        Case("no block", test=none),
        Case("one basic block", test=one),
        Case("one bottleneck", test=narrow),
        Case("a block with a downsample", test=projected),
        Case("a block in two places", test=shared),
        Case("it begins as its shortcut", test=nothing_left),
        Case("the parameters stay the same objects", test=same_objects),
        Case("a model in float16", test=half),
    ]


# --- 3 ------------------------------------------------------------------------

_WIDTHS = (32, 64, 128, 128, 256, 256, 512)


def _body_maps(net: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """The seven maps, computed from the parameters in their order."""
    state = list(net.state_dict().values())
    maps, start = [], 0
    for place in range(7):
        for convolution in range(1 if place == 0 else 2):
            weight, scale, shift, mean, var, _ = state[start : start + 6]
            start += 6
            deep = place > 0 and convolution == 0
            stride = 2 if place in (0, 2, 4, 6) and convolution == 0 else 1
            x = nn.functional.conv2d(
                x,
                weight,
                stride=stride,
                padding=weight.shape[-1] // 2,
                groups=weight.shape[0] if deep else 1,
            )
            x = nn.functional.batch_norm(x, mean, var, scale, shift)
            x = x.clamp(min=0)
        maps.append(x)
    return maps


@exercise(
    "13.fixed_body",
    hint="Print the shapes of the weights and of the maps. Which map is there twice, "
    "which layer mixes channels, what happens at the edges, and what ends a part?",
)
def fixed_body() -> list[Case]:
    def make(answer) -> nn.Module:
        if not (inspect.isclass(answer) and issubclass(answer, nn.Module)):
            raise Wrong("hand over the class itself, a subclass of nn.Module")
        return _filled(answer())

    def returned(net, x) -> tuple:
        with torch.no_grad():
            maps = net(x)
        if not isinstance(maps, (tuple, list)) or len(maps) != 7:
            raise Wrong(f"seven maps should be returned, got {type(maps).__name__}")
        return maps

    def parameters(answer):
        net = make(answer)
        names = [name for name, _ in net.named_children()]
        if names != [f"conv{k}" for k in range(1, 8)]:
            raise Wrong(f"the parts should be called conv1 to conv7, got {names}")
        for place, part in enumerate(net.children(), 1):
            shapes = [tuple(p.shape) for p in part.parameters() if p.dim() == 4]
            outputs = _WIDTHS[place - 1]
            inputs = 3 if place == 1 else _WIDTHS[place - 2]
            wanted = [(outputs, inputs, 3, 3)]
            if place > 1:
                wanted = [(inputs, 1, 3, 3), (outputs, inputs, 1, 1)]
            if shapes != wanted:
                raise Wrong(f"conv{place}: kernels {wanted} expected, got {shapes}")
        count = sum(p.numel() for p in net.parameters())
        if count != 269120:
            raise Wrong(f"269,120 weights are expected, got {count:,}")

    def sizes(answer):
        net = make(answer)
        for height, width in ((64, 64), (33, 48)):
            maps = returned(net, torch.zeros(1, 3, height, width))
            got = [tuple(m.shape[1:]) for m in maps]
            wanted, h, w = [], height, width
            for place, channels in enumerate(_WIDTHS):
                if place % 2 == 0:
                    h, w = (h + 1) // 2, (w + 1) // 2
                wanted.append((channels, h, w))
            for place, (one, two) in enumerate(zip(got, wanted, strict=True), 1):
                if one != two:
                    raise Wrong(
                        f"a picture of {height} x {width}: map {place} should have "
                        f"the shape {two}, and has {one}"
                    )

    def values(answer):
        net = make(answer)
        x = uniform(2, 3, 32, 32, dtype=torch.float32)
        wanted = _body_maps(net, x)
        for place, (got, right) in enumerate(
            zip(returned(net, x), wanted, strict=True), 1
        ):
            if got.shape != right.shape:
                raise Wrong(
                    f"map {place} should have the shape {tuple(right.shape)}, and has "
                    f"{tuple(got.shape)}"
                )
            if got.min() < 0:
                raise Wrong(f"map {place} has negative values: no ReLU ends it")
            bound = 1e-4 * right.abs().max().item()
            if not torch.allclose(got, right, rtol=1e-4, atol=bound):
                raise Wrong(
                    f"map {place} of a random picture has other values: are the layers "
                    "in the order that the text gives?"
                )

    def large(answer):
        net = make(answer)
        x = uniform(1, 3, 16, 16, dtype=torch.float32) * 1e4
        for place, (got, right) in enumerate(
            zip(returned(net, x), _body_maps(net, x), strict=True), 1
        ):
            if got.max() < 0.9 * right.max():
                raise Wrong(
                    f"map {place} reaches {got.max().item():.0f}, and should reach "
                    f"{right.max().item():.0f}: is a ReLU6 in the place of a ReLU?"
                )

    def trained(answer):
        net = make(answer).train()
        maps = net(uniform(2, 3, 16, 16, dtype=torch.float32))
        sum(m.sum() for m in maps).backward()
        lacking = [name for name, p in net.named_parameters() if p.grad is None]
        if lacking:
            raise Wrong(f"no gradient for {', '.join(lacking[:3])}")

    def empty(answer):
        maps = returned(make(answer), torch.zeros(0, 3, 32, 32))
        if any(len(m) for m in maps):
            raise Wrong("no picture should give maps of no picture")

    return [
        Case("the kernels", test=parameters),
        Case("the shapes of the maps", test=sizes),
        Case("the values of the maps", test=values),
        Case("large values", test=large),
        Case("gradients reach each parameter", test=trained),
        Case("no picture", test=empty),
    ]


# --- 4 ------------------------------------------------------------------------


class _Writer(nn.Module):
    """Parts that work in place, one that is used twice, one inside another."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 2, 1)
        self.act = nn.ReLU(inplace=True)
        self.inner = nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU(inplace=True))

    def forward(self, x):
        return self.act(self.inner(self.act(self.first(x)))) + 1


class _Broken(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Identity()

    def forward(self, x):
        self.first(x)
        raise RuntimeError("the second layer failed")


def _hooks(model: nn.Module) -> int:
    return sum(
        len(part._forward_hooks) + len(part._forward_pre_hooks)
        for part in model.modules()
    )


@exercise(
    "13.maps_of",
    hint="A hook gets the part, its inputs and its output. Copy the output there. What "
    "removes the hooks whatever happens between?",
)
def maps_of() -> list[Case]:
    x = uniform(2, 1, 3, 3, dtype=torch.float32)

    def run(answer, model, names, images=x):
        before, mode = _hooks(model), model.training
        found = answer(model, images.clone(), names)
        if not isinstance(found, dict):
            raise Wrong(f"a dictionary is expected, got {type(found).__name__}")
        if list(found) != list(names):
            raise Wrong(f"the keys should be {list(names)}, got {list(found)}")
        if _hooks(model) != before:
            raise Wrong(
                f"hooks in the model before: {before}, afterwards: {_hooks(model)}"
            )
        if model.training != mode:
            raise Wrong("the mode of the model was changed")
        return found

    def same(name, got, right):
        if not torch.is_tensor(got) or got.shape != right.shape:
            shape = tuple(got.shape) if torch.is_tensor(got) else type(got).__name__
            raise Wrong(f"{name}: {shape}, expected the shape {tuple(right.shape)}")
        if not torch.allclose(got, right, atol=1e-6):
            raise Wrong(
                f"{name}: the values are not those that the part returned; the "
                f"smallest is {got.min().item():.3f}, expected "
                f"{right.min().item():.3f}"
            )

    def nothing(answer):
        run(answer, _filled(_Writer()), [])

    def one(answer):
        model = _filled(nn.Sequential(nn.Conv2d(1, 2, 1), nn.Sigmoid()))
        same("0", run(answer, model, ["0"])["0"], model[0](x))

    def in_place(answer):
        model = _filled(_Writer())
        right = model.first(x)
        same("first", run(answer, model, ["first"])["first"], right)

    def deep(answer):
        model = _filled(_Writer())
        right = model.inner[0](torch.relu(model.first(x)))
        names = ("inner.0", "first")
        found = run(answer, model, names)
        same("inner.0", found["inner.0"], right)
        same("first", found["first"], model.first(x))

    def last_call(answer):
        model = _filled(_Writer())
        right = torch.relu(model.inner[0](torch.relu(model.first(x))))
        same("act, called twice", run(answer, model, ["act"])["act"], right)

    def whole(answer):
        model = _filled(_Writer())
        same("the model itself", run(answer, model, [""])[""], model(x))

    def once(answer):
        model, calls = _filled(_Writer()), []
        handle = model.register_forward_hook(lambda *_: calls.append(1))
        found = run(answer, model, ["first", "inner"])
        handle.remove()
        if len(calls) != 1:
            raise Wrong(f"the model should be called once, it was {len(calls)} times")
        same("inner", found["inner"], model.inner(torch.relu(model.first(x))))

    def others(answer):
        model, calls = _filled(_Writer()).train(), []
        model.first.register_forward_hook(lambda *_: calls.append(1))
        run(answer, model, ["first"])
        model(x)
        if len(calls) != 2:
            raise Wrong("a hook that first had before does not work afterwards")

    def gradients(answer):
        model = _filled(_Writer())
        run(answer, model, ["first"])["first"].sum().backward()
        if model.first.weight.grad is None:
            raise Wrong("no gradient arrived at first.weight")

    def after_error(answer):
        model = _Broken()
        try:
            answer(model, x.clone(), ["first"])
        except RuntimeError:
            pass
        else:
            raise Wrong("the error of model(images) should be passed on")
        if _hooks(model):
            raise Wrong("after an error in model(images) a hook is left")

    def unknown(answer):
        model = _filled(_Writer())
        try:
            answer(model, x.clone(), ["first", "third"])
        except (AttributeError, KeyError, ValueError):
            pass
        else:
            raise Wrong("an unknown name, 'third', should be an error")
        if _hooks(model):
            raise Wrong("after an unknown name a hook is left")

    def empty(answer):
        model = _filled(_Writer())
        got = run(answer, model, ["inner"], x[:0])["inner"]
        if tuple(got.shape) != (0, 2, 3, 3):
            raise Wrong(f"no picture gave a map of shape {tuple(got.shape)}")

    return [
        Case("no names", test=nothing),
        Case("one part", test=one),
        Case("a layer in place follows", test=in_place),
        Case("a part inside a part, in the order asked for", test=deep),
        Case("a part that is called twice", test=last_call),
        Case("the empty name is the model", test=whole),
        Case("the model is called once", test=once),
        Case("a part that has a hook already", test=others),
        Case("gradients flow", test=gradients),
        Case("an error in the model", test=after_error),
        Case("an unknown name", test=unknown),
        Case("no picture", test=empty),
    ]


# --- 5 ------------------------------------------------------------------------


def _branches(channels, groups=1, biases=(False, False), dtype=torch.float64, seed=0):
    made = []
    for size, bias in zip((3, 1), biases, strict=True):
        made.append(
            nn.Conv2d(
                channels,
                channels,
                size,
                padding=size // 2,
                groups=groups,
                bias=bias,
                dtype=dtype,
            )
        )
    return [_filled(conv, seed + 10 * place) for place, conv in enumerate(made)]


@exercise(
    "13.merged",
    hint="Make all three kernels 3 x 3, and add them. `F.pad` puts zeros around a "
    "1 x 1. Try one channel first: where does the shortcut's 1 stand?",
)
def merged() -> list[Case]:
    def apply(answer, conv3, conv1):
        before = [copy.deepcopy(conv.state_dict()) for conv in (conv3, conv1)]
        one = answer(conv3, conv1)
        if type(one) is not nn.Conv2d:
            raise Wrong(f"one nn.Conv2d is expected, got {type(one).__name__}")
        if one is conv3 or one is conv1:
            raise Wrong("a new convolution is expected, not one of the given ones")
        for name, conv, state in zip(
            ("conv3", "conv1"), (conv3, conv1), before, strict=True
        ):
            same = all(torch.equal(v, state[k]) for k, v in conv.state_dict().items())
            if not same:
                raise Wrong(f"{name} was changed")
        shared = {p.data_ptr() for conv in (conv3, conv1) for p in conv.parameters()}
        if any(p.data_ptr() in shared for p in one.parameters()):
            raise Wrong("the new convolution shares memory with a given one")
        if not all(p.requires_grad and p.is_leaf for p in one.parameters()):
            raise Wrong("the parameters of the new convolution must be trainable")
        return one

    def check(channels, within=1e-9, **kwargs):
        def test(answer):
            conv3, conv1 = _branches(channels, **kwargs)
            dtype = conv3.weight.dtype
            one = apply(answer, conv3, conv1)
            if one.weight.dtype != dtype:
                raise Wrong(f"the weight should be {dtype}, and is {one.weight.dtype}")
            for x in (
                torch.ones(1, channels, 1, 1, dtype=dtype),
                uniform(2, channels, 4, 5, seed=5, dtype=dtype),
                torch.zeros(0, channels, 4, 4, dtype=dtype),
            ):
                with torch.no_grad():
                    right, got = conv3(x) + conv1(x) + x, one(x)
                if got.shape != right.shape:
                    raise Wrong(
                        f"input {tuple(x.shape)}: output {tuple(got.shape)}, expected "
                        f"{tuple(right.shape)}"
                    )
                if not torch.allclose(got, right, rtol=within, atol=within):
                    worst = (got - right).abs().flatten(1).sum(1).argmax()
                    place = (got - right)[worst].abs().flatten().argmax()
                    pair = [v[worst].flatten()[place].item() for v in (got, right)]
                    raise Wrong(
                        f"input {tuple(x.shape)}: an output is {pair[0]:.4f}, the sum "
                        f"of the branches {pair[1]:.4f}"
                    )

        return test

    def frozen(answer):
        conv3, conv1 = _branches(2, biases=(True, True))
        conv3.weight.requires_grad_(False)
        with torch.enable_grad():
            one = apply(answer, conv3, conv1)
        one(torch.ones(1, 2, 3, 3, dtype=torch.float64)).sum().backward()
        if any(
            p.grad is not None for conv in (conv3, conv1) for p in conv.parameters()
        ):
            raise Wrong("the new convolution is still tied to the given ones")

    return [
        Case("one channel", test=check(1)),
        Case("three channels", test=check(3)),
        Case("a bias in one branch", test=check(2, biases=(True, False))),
        Case("a bias in the other", test=check(2, biases=(False, True))),
        Case("a bias in both", test=check(3, biases=(True, True))),
        Case("two groups of two", test=check(4, groups=2, biases=(True, True))),
        Case("depthwise", test=check(3, groups=3)),
        Case("float32", test=check(4, within=1e-4, dtype=torch.float32)),
        Case("a new one, tied to nothing", test=frozen),
    ]

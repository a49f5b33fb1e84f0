"""Exercises of chapter 10, modules."""

import inspect

import torch
from torch import nn

from course_utils.checks.core import Case, Wrong, exercise

__all__: list[str] = []


def _module(answer) -> None:
    if not (inspect.isclass(answer) and issubclass(answer, nn.Module)):
        raise Wrong("hand over the class itself, a subclass of nn.Module")


def _ramp(*shape: int) -> torch.Tensor:
    """Numbers from -1 to 1 in even steps."""
    count = torch.Size(shape).numel()
    return torch.linspace(-1, 1, count).reshape(shape)


def _linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    with torch.no_grad():
        layer.weight.copy_(_ramp(outputs, inputs))
        layer.bias.copy_(_ramp(outputs) / 2)
    return layer


# --- 1 ------------------------------------------------------------------------


@exercise(
    "10.count_weights",
    hint="`model.parameters()` lists each parameter once, however often "
    "it is used. Which two things do you ask of each?",
)
def count_weights() -> list[Case]:
    frozen = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    frozen[0].requires_grad_(False)
    shared = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    shared[2].weight = shared[0].weight
    twice = nn.Linear(5, 5)
    deep = nn.Sequential(nn.Sequential(nn.Sequential(nn.Linear(2, 2, bias=False))))
    mixed = nn.Linear(3, 2)
    mixed.bias.requires_grad_(False)
    return [
        Case("no parameters", args=(nn.ReLU(),), expect=(0, 0)),
        Case("one layer", args=(nn.Linear(2, 3),), expect=(9, 0)),
        Case("a bias that is None", args=(nn.Linear(2, 3, bias=False),), expect=(6, 0)),
        Case("a frozen layer", args=(frozen,), expect=(4, 9)),
        Case("half of a layer frozen", args=(mixed,), expect=(6, 2)),
        Case("buffers do not count", args=(nn.BatchNorm2d(7),), expect=(14, 0)),
        Case("three levels down", args=(deep,), expect=(4, 0)),
        Case("its own, and a child's", args=(_Scaled(),), expect=(10, 0)),
        Case("a shared weight once", args=(shared,), expect=(24, 0)),
        Case(
            "a layer in two places", args=(nn.Sequential(twice, twice),), expect=(30, 0)
        ),
        Case("a convolution", args=(nn.Conv2d(2, 3, 5),), expect=(153, 0)),
        Case("an empty parameter", args=(nn.Embedding(0, 3),), expect=(0, 0)),
    ]


class _Scaled(nn.Module):
    """One parameter of its own, and a child."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.layer = nn.Linear(2, 3)


# --- 2 ------------------------------------------------------------------------


@exercise(
    "10.residual",
    hint="Keep the block as an attribute. Which shape must `block(x)` have "
    "before you add?",
)
def residual() -> list[Case]:
    def build(answer, block):
        _module(answer)
        return answer(block)

    def identity(answer):
        x = _ramp(2, 3)
        got = build(answer, nn.Identity())(x.clone())
        if not torch.equal(got, 2 * x):
            raise Wrong("around nn.Identity() the output is 2 x")

    def layer(answer):
        x, block = _ramp(4, 3), _linear(3, 3)
        got = build(answer, block)(x.clone())
        if not torch.allclose(got, x + block(x)):
            raise Wrong("around a Linear(3, 3) the output is not x + block(x)")

    def found(answer):
        block = _linear(3, 3)
        net = build(answer, block)
        names = [name for name, _ in net.named_parameters()]
        if len(names) != 2:
            raise Wrong(f"a Linear has 2 parameters; the block around it lists {names}")
        if not any(part is block for part in net.modules()):
            raise Wrong("the block itself must be kept, not a copy of it")

    def input_kept(answer):
        for block in (nn.ReLU(), nn.Identity()):
            x = _ramp(2, 2)
            before = x.clone()
            build(answer, block)(x)
            if not torch.equal(x, before):
                raise Wrong(f"around {block} the input was changed")

    def misfit(shape, block):
        def test(answer):
            net = build(answer, block)
            try:
                got = net(_ramp(*shape))
            except ValueError:
                return
            except RuntimeError as error:
                raise Wrong("a wrong shape must be a ValueError") from error
            wanted = tuple(block(_ramp(*shape)).shape)
            raise Wrong(
                f"x has shape {shape}, the block gives {wanted}: no ValueError, but an "
                f"output of shape {tuple(got.shape)}"
            )

        return test

    def gradient(answer):
        x, block = _ramp(2, 2).requires_grad_(), _linear(2, 2)
        build(answer, block)(x).sum().backward()
        wanted = 1 + block.weight.sum(0)
        if x.grad is None or not torch.allclose(x.grad, wanted.expand(2, 2)):
            raise Wrong("the gradient of x is not that of both ways")

    def called_once(answer):
        block, calls = _linear(2, 2), []
        block.register_forward_hook(lambda *_: calls.append(1))
        build(answer, block)(_ramp(3, 2))
        if len(calls) != 1:
            raise Wrong(
                f"the block must be called once; its hooks ran {len(calls)} times"
            )

    return [
        Case("around nothing", test=identity),
        Case("around a layer", test=layer),
        Case("its parameters are found", test=found),
        Case("the input stays", test=input_kept),
        Case("three columns become one", test=misfit((4, 3), _linear(3, 1))),
        Case("three columns become two", test=misfit((4, 3), _linear(3, 2))),
        Case("one row becomes four", test=misfit((1, 3), _Repeat())),
        Case("a column becomes a row", test=misfit((4, 1), _Turn())),
        Case("the block is called once", test=called_once),
        Case("both ways get a gradient", test=gradient),
        Case(
            "an empty batch",
            test=lambda answer: build(answer, _linear(3, 3))(torch.zeros(0, 3)),
        ),
    ]


class _Repeat(nn.Module):
    def forward(self, x):
        return x.repeat(4, 1)


class _Turn(nn.Module):
    def forward(self, x):
        return x.mT


# --- 3 ------------------------------------------------------------------------


@exercise(
    "10.rescale",
    hint="Two buffers. The update belongs under `self.training`, and only "
    "if there are values; the last line stands outside of it.",
)
def rescale() -> list[Case]:
    def make(answer):
        _module(answer)
        layer = answer()
        for name in ("low", "high"):
            value = getattr(layer, name, None)
            if not isinstance(value, torch.Tensor) or value.dim():
                raise Wrong(
                    f"{name} must be a tensor without dimensions, got {value!r}"
                )
        return layer

    def expect(what, got, wanted):
        wanted = torch.as_tensor(wanted)
        if not (isinstance(got, torch.Tensor) and got.shape == wanted.shape):
            raise Wrong(f"{what}: expected {wanted.tolist()}, got {got!r}")
        if not torch.allclose(got.detach().float(), wanted.float(), atol=1e-6):
            raise Wrong(f"{what}: expected {wanted.tolist()}, got {got.tolist()}")

    def start(answer):
        layer = make(answer)
        if (layer.low.item(), layer.high.item()) != (float("inf"), float("-inf")):
            raise Wrong("low starts as inf, high as -inf")

    def first(answer):
        layer = make(answer)
        expect("the batch 2, 4, 3", layer(torch.tensor([2.0, 4, 3])), [0.0, 1, 0.5])

    def second(answer):
        layer = make(answer)
        layer(torch.tensor([[0.0], [4.0]]))
        expect(
            "first 0 and 4, then 1 and 2", layer(torch.tensor([1.0, 2])), [0.25, 0.5]
        )

    def columns(answer):
        layer, x = make(answer), torch.tensor([[0.0, 1], [2, 4]])
        expect("the batch [[0, 1], [2, 4]]", layer(x), [[0.0, 0.25], [0.5, 1]])
        for name in ("low", "high"):
            if getattr(layer, name).dim():
                raise Wrong(f"{name} is one number, not one for each column")

    def outside(answer):
        layer = make(answer)
        layer(torch.tensor([1.0, 3]))
        got = layer(torch.tensor([0.0, 2, 4]))
        expect("first 1 and 3, then 0, 2, 4", got, [0.0, 0.5, 1])

    def narrow(answer):
        got = make(answer)(torch.tensor([0.0, 1, 2]) / 2**20)
        expect("0, 1 and 2 millionths, nearly", got, [0.0, 0.5, 1])

    def without_gradients(answer):
        layer = make(answer)
        with torch.no_grad():
            layer(torch.tensor([0.0, 4]))
        expect("high after a batch under torch.no_grad()", layer.high, 4.0)

    def evaluation(answer):
        layer = make(answer)
        layer(torch.tensor([0.0, 4]))
        layer.eval()
        expect("0 and 4, then 8 in evaluation", layer(torch.tensor([8.0])), [2.0])
        expect("high after evaluation", layer.high, 4.0)

    def empty(answer):
        layer = make(answer)
        layer(torch.tensor([0.0, 4]))
        got = layer(torch.zeros(0, 3))
        if tuple(got.shape) != (0, 3):
            raise Wrong(f"an empty batch (0, 3) became {tuple(got.shape)}")
        expect("low after an empty batch", layer.low, 0.0)
        if tuple(layer(torch.zeros(3, 0)).shape) != (3, 0):
            raise Wrong("a batch of shape (3, 0) must keep its shape")

    def state(answer):
        layer = make(answer)
        layer(torch.tensor([1.0, 3]))
        if sorted(layer.state_dict()) != ["high", "low"]:
            raise Wrong(f"saved are {sorted(layer.state_dict())}, not high and low")
        if list(layer.parameters()):
            raise Wrong("low and high are never trained: no parameters")
        fresh = make(answer).eval()
        fresh.load_state_dict(layer.state_dict())
        expect("after loading into a new one", fresh(torch.tensor([2.0])), [0.5])

    def moved(answer):
        layer = make(answer)
        layer(torch.tensor([1.0, 3]))
        layer.double()
        if layer.low.dtype != torch.float64 or layer.high.dtype != torch.float64:
            raise Wrong("after .double() low and high are not float64")
        layer(torch.tensor([0.0, 5], dtype=torch.float64))
        if layer.low.dtype != torch.float64:
            raise Wrong("after a float64 batch low is not float64")

    def graph(answer):
        layer = make(answer)
        for _ in range(2):  # a kept graph would fail the second time
            x = torch.tensor([1.0, 3], requires_grad=True)
            layer(x).sum().backward()
        if layer.low.requires_grad or layer.high.requires_grad:
            raise Wrong("low or high hold on to the graph of a batch")

    return [
        Case("a new one", test=start),
        Case("the first batch", test=first),
        Case("a second batch inside the range", test=second),
        Case("a second batch beyond it", test=outside),
        Case("two columns, one range", test=columns),
        Case("a narrow range", test=narrow),
        Case("evaluation mode", test=evaluation),
        Case("without gradients", test=without_gradients),
        Case("an empty batch", test=empty),
        Case("saved, loaded, not trained", test=state),
        Case("moved to float64", test=moved),
        Case("no graph is kept", test=graph),
    ]


# --- 4 ------------------------------------------------------------------------


@exercise(
    "10.fixed_net",
    hint="Look at the class with this chapter's questions: are the layers "
    "found, does the mode arrive, is it saved, does the gradient flow?",
)
def fixed_net() -> list[Case]:
    def make(answer, width=4, depth=2, temperature=2.0):
        _module(answer)
        net = answer(width, depth, temperature)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.copy_(_ramp(*parameter.shape))
        return net

    def listed(answer):
        net = make(answer)
        shapes = sorted(tuple(p.shape) for p in net.parameters())
        if shapes != [(3,), (3, 4), (4,), (4,), (4, 4), (4, 4)]:
            raise Wrong(f"width 4, depth 2: parameters of shapes {shapes}")

    def values(answer):
        net, x = make(answer).eval(), _ramp(5, 4)
        wanted = x
        for layer in net.layers:
            wanted = torch.relu(layer(wanted))
        wanted = net.head(wanted) / 2.0
        got = net(x)
        if got.shape != wanted.shape:
            raise Wrong(f"five rows give {tuple(got.shape)}, not {tuple(wanted.shape)}")
        if not torch.allclose(got, wanted, atol=1e-6):
            raise Wrong("in evaluation mode the scores are not head(...) / temperature")

    def dropout(answer):
        net, x = make(answer, width=64), _ramp(2, 64)
        if torch.equal(net(x), net(x)):
            raise Wrong("in training mode nothing is dropped")
        net.eval()
        if not torch.equal(net(x), net(x)):
            raise Wrong("in evaluation mode two calls differ: something is dropped")
        wide, seen = make(answer, width=1000, depth=1), []
        with torch.no_grad():
            wide.layers[0].weight.zero_()
            wide.layers[0].bias.fill_(1)
        wide.head.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        wide(_ramp(2, 1000))
        share = (seen[-1] == 0).float().mean().item() if seen else 0.5
        if not 0.4 < share < 0.6:
            raise Wrong(f"dropout deletes a share of {share:.2f}, not one half")
        if seen and seen[-1].max() != 2:
            raise Wrong("what dropout leaves must be doubled, so that the mean stays")

    def places(answer):
        net = make(answer, width=1000, depth=2)
        with torch.no_grad():
            for layer in net.layers:
                layer.weight.zero_()
                layer.bias.fill_(1)
        inputs, scores = [], []
        for layer in (*net.layers, net.head):
            layer.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
        net.head.register_forward_hook(lambda *args: scores.append(args[-1]))
        got = net(torch.ones(2, 1000))
        if len(inputs) != 3:  # computed by functions: nothing to look at
            return
        for x, name, drops in zip(
            inputs,
            ("the first layer", "the second layer", "the head"),
            (False, True, True),
            strict=True,
        ):
            if bool((x == 0).any()) != drops:
                raise Wrong(
                    f"dropout stands after each hidden layer: the input of {name} "
                    f"{'has no' if drops else 'has'} deleted values"
                )
        if not torch.allclose(got, scores[0] / 2.0, atol=1e-6):
            raise Wrong("in training mode the scores are not head(...) / temperature")

    def gradients(answer):
        net = make(answer).eval()
        net(_ramp(5, 4)).square().sum().backward()
        lacking = [name for name, p in net.named_parameters() if p.grad is None]
        if lacking:
            raise Wrong(f"no gradient for {', '.join(lacking)}")

    def saved(answer):
        net = make(answer, temperature=3.0)
        if "temperature" not in net.state_dict():
            raise Wrong(f"saved are {list(net.state_dict())}: where is temperature?")
        if "temperature" in dict(net.named_parameters()):
            raise Wrong("the temperature is fixed: it must not be a parameter")
        other = make(answer, temperature=1.0)
        other.load_state_dict(net.state_dict())
        if float(other.temperature) != 3.0:
            raise Wrong("a loaded temperature of 3 did not arrive")
        x = _ramp(2, 4)
        if not torch.allclose(other.eval()(x), net.eval()(x), atol=1e-6):
            raise Wrong("a loaded temperature of 3 is not used in forward")

    def no_layers(answer):
        net, x = make(answer, depth=0).eval(), _ramp(2, 4)
        if not torch.allclose(net(x), net.head(x) / 2.0, atol=1e-6):
            raise Wrong("with depth 0 the scores are head(x) / temperature")

    return [
        Case("every layer is found", test=listed),
        Case("dropout in both modes", test=dropout),
        Case("dropout after each hidden layer", test=places),
        Case("the scores", test=values),
        Case("every parameter gets a gradient", test=gradients),
        Case("the temperature is saved, not trained", test=saved),
        Case("no hidden layer", test=no_layers),
    ]


# --- 5 ------------------------------------------------------------------------


@exercise(
    "10.swap",
    hint="First collect what is to be replaced, and make each new module "
    "once. Then go through the modules and their `_modules`.",
)
def swap() -> list[Case]:
    def apply(answer, model, kind=nn.ReLU, make=None):
        made = []

        def making(old):
            new = nn.GELU() if make is None else make(old)
            made.append((old, new))
            return new

        return answer(model, kind, making), made

    def count(got, wanted):
        if got != wanted or isinstance(got, bool):
            raise Wrong(f"{wanted} replaced, but {got!r} was returned")

    def none(answer):
        model = nn.Sequential(nn.Linear(2, 2))
        count(apply(answer, model)[0], 0)

    def flat(answer):
        model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.ReLU())
        count(apply(answer, model)[0], 2)
        kinds = [type(part).__name__ for part in model]
        if kinds != ["Linear", "GELU", "Linear", "GELU"]:
            raise Wrong(f"Linear, ReLU, Linear, ReLU became {', '.join(kinds)}")

    def deep(answer):
        model = nn.Sequential(nn.Sequential(nn.ModuleDict({"act": nn.ReLU()})))
        count(apply(answer, model)[0], 1)
        if not isinstance(model[0][0]["act"], nn.GELU):
            raise Wrong("a ReLU three levels down was not replaced")

    def subclass(answer):
        class Leaky(nn.ReLU):
            pass

        model = nn.Sequential(Leaky())
        count(apply(answer, model)[0], 1)

    def old_given(answer):
        model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 5))
        _, made = apply(
            answer, model, nn.Linear, lambda old: nn.Linear(old.in_features, 7)
        )
        if [part.in_features for part in model] != [2, 3]:
            raise Wrong("make must get the module that it replaces")

    def shared(answer):
        act = nn.ReLU()
        model = nn.Sequential(act, nn.Linear(2, 2), act)
        got, made = apply(answer, model)
        if model[0] is not model[2]:
            raise Wrong("one module in two places became two")
        if isinstance(model[2], nn.ReLU):
            raise Wrong("a module in two places was replaced in one of them only")
        count(got, 1)

    def not_again(answer):
        model = nn.Sequential(nn.Linear(2, 2))
        _, made = apply(
            answer, model, nn.Linear, lambda old: nn.Sequential(old, nn.Linear(2, 2))
        )
        if len(made) != 1 or not isinstance(model[0], nn.Sequential):
            raise Wrong("what make returns must not be searched again")
        if model[0][0] is not made[0][0]:
            raise Wrong("the old layer inside the new one was replaced, too")

    def attributes(answer):
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.act = nn.ReLU()

        model = Net()
        apply(answer, model)
        if not isinstance(model.act, nn.GELU):
            raise Wrong("a ReLU that is an attribute was not replaced")

    def containers(answer):
        part = nn.Sequential(nn.ReLU())
        model = nn.Sequential(part, part)
        count(apply(answer, model)[0], 1)

    def root(answer):
        model = nn.Sequential(nn.Sequential(nn.ReLU()), nn.Linear(2, 2))
        got, made = apply(answer, model, nn.Sequential)
        if any(old is model for old, _ in made):
            raise Wrong("the model itself was handed to make")
        count(got, 1)
        if not isinstance(model[0], nn.GELU):
            raise Wrong("a Sequential inside a Sequential was not replaced")

    def rest_stays(answer):
        model = nn.Sequential(nn.Linear(2, 2), nn.ReLU()).train()
        model[0].weight.requires_grad_(False)
        weight = model[0].weight
        apply(answer, model)
        if not (model.training and model[0].training):
            raise Wrong("the mode of the model was changed")
        if model[0].weight is not weight or weight.requires_grad:
            raise Wrong("a layer of another kind was changed")

    def nothing_there(answer):
        model = nn.Sequential(nn.ReLU())
        model.register_module("downsample", None)
        count(apply(answer, model)[0], 1)

    return [
        Case("nothing of that kind", test=none),
        Case("two in a row", test=flat),
        Case("an attribute", test=attributes),
        Case("three levels down", test=deep),
        Case("a subclass is an instance, too", test=subclass),
        Case("make gets the old module", test=old_given),
        Case("one module in two places", test=shared),
        Case("its parent in two places", test=containers),
        Case("the model is of that kind, too", test=root),
        Case("the rest stays", test=rest_stays),
        Case("a child that is None", test=nothing_there),
        Case("the new ones are not searched", test=not_again),
    ]

"""Exercises of chapter 12, normalization."""

import copy
import gc
import inspect
import weakref

import torch
from torch import nn

from course_utils.checks.core import Case, Wrong, difference, exercise
from course_utils.checks.samples import uniform
from course_utils.checks.watch import Watch, by_hand, without

__all__: list[str] = []


def _rand(*shape: int, seed: int = 0, dtype=torch.float64) -> torch.Tensor:
    return uniform(*shape, seed=seed, low=-1, high=3, dtype=dtype)


def _agree(got: torch.Tensor, wanted: torch.Tensor, within: float) -> bool:
    return not difference(got.detach().double(), wanted.detach().double(), within)


def _brief(tensor: torch.Tensor) -> str:
    text = str([round(v, 4) for v in tensor.detach().flatten()[:4].tolist()])
    return text if tensor.numel() <= 4 else text[:-1] + ", ...]"


def _same(name: str, got, wanted: torch.Tensor, within: float = 1e-6) -> None:
    if not isinstance(got, torch.Tensor):
        raise Wrong(f"{name}: a tensor was expected, not {type(got).__name__}")
    if got.shape != wanted.shape:
        raise Wrong(f"{name}: shape {tuple(got.shape)}, not {tuple(wanted.shape)}")
    if not _agree(got, wanted, within):
        raise Wrong(f"{name}\nexpected: {_brief(wanted)}\ngot:      {_brief(got)}")


# --- 1 ------------------------------------------------------------------------


@exercise(
    "12.count_means",
    hint="One mean is shared by everything the layer averages over. So count "
    "what is left: channels, samples, or both.",
)
def count_means() -> list[Case]:
    image, flat, line = (8, 32, 7, 7), (8, 32), (5, 6, 7)

    def case(says, kind, shape, expect, **kwargs):
        return Case(says, args=(kind, shape), kwargs=kwargs, expect=expect)

    return [
        case("batch, two axes", "batch", flat, 32),
        case("batch, an image", "batch", image, 32),
        case("layer", "layer", image, 8),
        case("instance", "instance", image, 256),
        case("instance, three axes", "instance", line, 30),
        case("four groups", "group", image, 32, groups=4),
        case("one group", "group", line, 5),
        case("three groups, three axes", "group", line, 15, groups=3),
        case("layer, two axes", "layer", flat, 8),
        case("layer, three axes", "layer", line, 5),
        case("an empty batch", "instance", (0, 6, 4, 4), 0),
        case("an empty batch has channels", "batch", (0, 6, 4, 4), 6),
    ]


# --- 2 ------------------------------------------------------------------------

READY_MADE = ("batch_norm", "native_batch_norm", "instance_norm", "group_norm")
BY_HAND = "write it by hand: a ready-made normalization was called"


@exercise(
    "12.three_bugs",
    hint="Ask of each tensor whether it is saved, of each branch who sets the "
    "mode, and of the remembered variance what it was divided by.",
)
def three_bugs() -> list[Case]:
    def make(answer, channels=2):
        if not (inspect.isclass(answer) and issubclass(answer, nn.Module)):
            raise Wrong("hand over the class itself, a subclass of nn.Module")
        layer = answer(channels)
        ready = [
            type(part).__name__
            for part in layer.modules()
            if isinstance(part, nn.modules.batchnorm._NormBase)
        ]
        if ready:
            raise Wrong(f"write it by hand: {ready[0]} is a ready-made layer")
        return layer

    def state(layer, name):
        if not isinstance(getattr(layer, name, None), torch.Tensor):
            raise Wrong(f"the layer has no tensor {name}")
        return getattr(layer, name)

    def training(answer):
        x = _rand(4, 2, 3, 3, dtype=torch.float32)
        layer = make(answer)
        with without(*READY_MADE, says=BY_HAND):
            got = layer(x)
        _same("output in training", got, nn.BatchNorm2d(2)(x), 1e-5)

    def means(answer):
        x = _rand(4, 2, 3, 3, dtype=torch.float32)
        layer, wanted = make(answer), nn.BatchNorm2d(2)
        layer(x), wanted(x)
        _same("running_mean", state(layer, "running_mean"), wanted.running_mean, 1e-5)

    def variances(answer):
        x = torch.tensor([1.0, 2.0, 3.0, 6.0]).view(2, 1, 2, 1)
        layer, wanted = make(answer, 1), nn.BatchNorm2d(1)
        layer(x), wanted(x)
        got = state(layer, "running_var")
        if got.numel() == 1 and abs(got.item() - (0.9 + 0.1 * 3.5)) < 1e-4:
            raise Wrong(
                "values 1, 2, 3, 6: running_var is 1.25, it should be 1.3667.\n"
                "3.5 is the biased variance, for this batch alone. Which one\n"
                "estimates the variance of data not yet seen?"
            )
        _same("running_var after 1, 2, 3, 6", got, wanted.running_var, 1e-5)

    def trained(answer):
        layer, wanted = make(answer), nn.BatchNorm2d(2)
        for seed in range(3):
            x = _rand(4, 2, 3, 3, seed=seed, dtype=torch.float32)
            layer(x), wanted(x)
        return layer, wanted

    def evaluation(answer):
        layer, wanted = trained(answer)
        before = state(layer, "running_mean").clone()
        layer.eval(), wanted.eval()
        for size in (1, 4):
            x = _rand(size, 2, 3, 3, seed=9, dtype=torch.float32) + 7
            with without(*READY_MADE, says=BY_HAND):
                got = layer(x)
            if not torch.equal(before, state(layer, "running_mean")):
                raise Wrong("in eval(), with gradients on, the running mean moved")
            name = f"output for {size} in eval(), with gradients on"
            _same(name, got, wanted(x), 1e-5)

    def no_grad(answer):
        layer, wanted = trained(answer)
        x = _rand(4, 2, 3, 3, seed=9, dtype=torch.float32) + 7
        with torch.no_grad():
            _same("output in train(), under no_grad()", layer(x), wanted(x), 1e-5)
        name = "running_var in train(), under no_grad()"
        _same(name, state(layer, "running_var"), wanted.running_var, 1e-5)

    def saved(answer):
        layer, _ = trained(answer)
        wanted = ["weight", "bias", "running_mean", "running_var"]
        keys = list(layer.state_dict())
        missing = [key for key in wanted if key not in keys]
        if missing:
            raise Wrong(
                f"state_dict() holds {keys}: {', '.join(missing)} would be lost"
            )
        other = make(answer)
        other.load_state_dict(layer.state_dict())
        x = _rand(2, 2, 3, 3, seed=5, dtype=torch.float32)
        _same("output after loading", other.eval()(x), layer.eval()(x), 1e-6)

    def learned(answer):
        names = sorted(name for name, _ in make(answer).named_parameters())
        if names != ["bias", "weight"]:
            raise Wrong(f"only weight and bias are trained, not {', '.join(names)}")

    def slopes(answer):
        layer, wanted = make(answer, 3).double(), nn.BatchNorm2d(3).double()
        grad = _rand(2, 3, 4, 5, seed=1)
        got = []
        for norm in (layer, wanted):
            x = _rand(2, 5, 4, 3).transpose(1, 3).detach().requires_grad_()
            for _ in range(2):
                y = norm(x)
            y.backward(grad)
            got.append([x.grad, norm.weight.grad, norm.bias.grad])
            norm.zero_grad()
        for name, a, b in zip(("x", "weight", "bias"), *got, strict=True):
            if a is None:
                raise Wrong(f"no gradient reaches {name}")
            _same(f"gradient of {name}, float64", a, b, 1e-9)
        if layer.running_mean.requires_grad:
            raise Wrong("running_mean drags the graph of every batch along")

    return [
        Case("outputs in training", test=training),
        Case("the running mean", test=means),
        Case("the running variance", test=variances),
        Case("evaluation is asked for by eval()", test=evaluation),
        Case("training under no_grad() is still training", test=no_grad),
        Case("the statistics are saved", test=saved),
        Case("the statistics are not trained", test=learned),
        Case("gradients, a strided input", test=slopes),
    ]


# --- 3 ------------------------------------------------------------------------


@exercise(
    "12.layer_norm_backward",
    hint="The formula for one channel of a batch holds for one row. The weight "
    "is shared by all rows, so its slope is a sum over them.",
)
def layer_norm_backward() -> list[Case]:
    forward = "the library's layer normalization was called: write it by hand"

    def case(says, grad, x, weight, eps, within=1e-9):
        def test(answer):
            size = (x.shape[-1],)
            leaves = [x.clone(), weight.clone(), torch.zeros_like(weight)]
            leaves = [leaf.requires_grad_() for leaf in leaves]
            y = nn.functional.layer_norm(leaves[0], size, leaves[1], leaves[2], eps)
            wanted = torch.autograd.grad(y, leaves, grad)
            kept = [t.clone() for t in (grad, x, weight)]
            with by_hand(), without("layer_norm", "native_layer_norm", says=forward):
                got = answer(grad, x, weight, eps)
            if not isinstance(got, (tuple, list)) or len(got) != 3:
                raise Wrong("three slopes are wanted: of x, of weight, of bias")
            for name, a, b in zip(("x", "weight", "bias"), got, wanted, strict=True):
                _same(f"x = {_brief(x)}: slope of {name}", a, b, within)
            if any(
                not torch.equal(a, b)
                for a, b in zip(kept, (grad, x, weight), strict=True)
            ):
                raise Wrong("an argument was changed on the way")

        return Case(says, test=test)

    def pair(answer):
        x, grad = torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 0.0]])
        got = answer(grad, x, torch.ones(2), 0.0)
        if not isinstance(got, (tuple, list)) or len(got) != 3:
            raise Wrong("three slopes are wanted: of x, of weight, of bias")
        for name, a, b in (
            ("x", got[0], torch.zeros(1, 2)),
            ("weight", got[1], torch.tensor([-1.0, 0.0])),
            ("bias", got[2], torch.tensor([1.0, 0.0])),
        ):
            _same(f"slope of {name}", a, b)

    ones = torch.ones(3, dtype=torch.float64)
    weight = _rand(3, seed=7)
    wide = _rand(2, 3, 5, seed=2).transpose(1, 2)  # (2, 5, 3), not contiguous
    return [
        Case("two values", test=pair),
        case("one row of three", _rand(1, 3), _rand(1, 3, seed=1), ones, 1e-5),
        case("a weight", _rand(1, 3), _rand(1, 3, seed=1), weight, 1e-5),
        case("eps counts", _rand(2, 3), _rand(2, 3, seed=1), weight, 0.5),
        case("four rows", _rand(4, 3), _rand(4, 3, seed=1), weight, 1e-5),
        case("tokens, strided", _rand(2, 5, 3, seed=3), wide, weight, 1e-5),
        case("a single vector", _rand(3), _rand(3, seed=1), weight, 1e-5),
        case(
            "a constant row", _rand(1, 3), 3 * torch.ones(1, 3).double(), weight, 1e-5
        ),
        case("no rows", _rand(0, 3), _rand(0, 3), weight, 1e-5),
    ]


# --- 4 ------------------------------------------------------------------------


def _norm(channels: int, seed: int = 0, **switches) -> nn.BatchNorm1d:
    norm = nn.BatchNorm1d(channels, **switches).double()
    with torch.no_grad():
        for k, tensor in enumerate(norm.state_dict().values()):
            if tensor.is_floating_point():
                tensor.copy_(_rand(channels, seed=seed + k))
        norm.running_var.abs_().add_(0.1)
    return norm.eval()


def _linear(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    linear = nn.utils.skip_init(nn.Linear, inputs, outputs, bias=bias).double()
    with torch.no_grad():
        for k, parameter in enumerate(linear.parameters()):
            parameter.copy_(_rand(*parameter.shape, seed=20 + k))
    return linear


@exercise(
    "12.fold_before",
    hint="Write bn(x) as x * scale + shift first. Then put that into x @ "
    "weight.T + bias and multiply out.",
)
def fold_before() -> list[Case]:
    def case(says, norm, linear, rows=4):
        def test(answer):
            one, two = copy.deepcopy(norm), copy.deepcopy(linear)
            got = answer(one, two)
            if type(got) is not nn.Linear:
                raise Wrong(f"a plain nn.Linear is wanted, not {type(got).__name__}")
            if got is two:
                raise Wrong("the given linear layer came back: make a new one")
            for name, a, b in (("bn", one, norm), ("linear", two, linear)):
                kept = b.state_dict()
                if any(not torch.equal(v, kept[k]) for k, v in a.state_dict().items()):
                    raise Wrong(f"{name} was changed on the way")
            x = _rand(rows, linear.in_features, seed=9)
            if tuple(got.weight.shape) != tuple(linear.weight.shape):
                raise Wrong(
                    f"weight has shape {tuple(got.weight.shape)}, "
                    f"not {tuple(linear.weight.shape)}"
                )
            if got.weight.dtype != linear.weight.dtype:
                raise Wrong(f"weight is {got.weight.dtype}, not {linear.weight.dtype}")
            with torch.no_grad():
                _same("linear(bn(x))", got(x), linear(norm(x)), 1e-9)

        return Case(says, test=test)

    plain = _norm(1)
    with torch.no_grad():
        plain.running_mean.zero_()
        plain.bias.zero_()
    return [
        case("one feature, only a scale", plain, _linear(1, 1, bias=False)),
        case("one feature", _norm(1), _linear(1, 1)),
        case("three features to two", _norm(3), _linear(3, 2)),
        case("as many out as in", _norm(3), _linear(3, 3)),
        case("a linear layer without bias", _norm(3), _linear(3, 2, bias=False)),
        case("bn without weight and bias", _norm(3, affine=False), _linear(3, 2)),
        case("an eps of its own", _norm(3, eps=0.3), _linear(3, 2)),
    ]


# --- 5 ------------------------------------------------------------------------


def _model() -> nn.Module:
    inner = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5))
    return nn.Sequential(
        nn.Conv2d(2, 3, 1),
        nn.BatchNorm2d(3),
        nn.Sequential(inner, nn.ReLU()),
        nn.Flatten(),
        nn.Linear(16, 3),
        nn.BatchNorm1d(3),
    )


@exercise(
    "12.freeze_batch_norm",
    hint="model.train() calls train() of each layer inside. An attribute of an "
    "object may shadow a method of its class.",
)
def freeze_batch_norm() -> list[Case]:
    def norms(model):
        kinds = (nn.BatchNorm1d, nn.BatchNorm2d)
        return [(n, m) for n, m in model.named_modules() if isinstance(m, kinds)]

    def made(answer, model=None):
        model = _model() if model is None else model
        got = answer(model)
        if got is None:
            raise Wrong("None came back: return the model")
        if got is not model:
            raise Wrong("another object came back: change the model in place")
        if not norms(model):
            raise Wrong("the batch normalization layers are gone: keep them")
        return model

    def parameters(answer):
        model = made(answer)
        for name, norm in norms(model):
            if any(p.requires_grad for p in norm.parameters()):
                raise Wrong(f"layer {name} still has trainable parameters")

    def others(answer):
        model = made(answer)
        inside = {id(p) for _, norm in norms(model) for p in norm.parameters()}
        for name, p in model.named_parameters():
            if id(p) not in inside and not p.requires_grad:
                raise Wrong(f"{name} belongs to another layer and was frozen, too")

    def evaluating(model, when):
        for name, norm in norms(model):
            if norm.training:
                raise Wrong(f"layer {name} is in training mode {when}")

    def now(answer):
        evaluating(made(answer), "right after the call")

    def later(answer):
        model = made(answer)
        model.train()
        evaluating(model, "after model.train()")
        model.eval()
        model.train()
        evaluating(model, "after model.eval() and model.train()")

    def dropout(answer):
        model = made(answer)
        model.train()
        if not model[2][0][2].training or not model.training:
            raise Wrong("after model.train(), dropout must be in training mode")
        model.eval()
        if model[2][0][2].training or model.training:
            raise Wrong("after model.eval(), dropout must be in evaluation mode")

    def statistics(answer):
        model = made(answer)
        kept = copy.deepcopy(model.state_dict())
        model.train()
        for seed in range(3):
            model(_rand(4, 2, 2, 2, seed=seed, dtype=torch.float32) + 3)
        for name, value in model.state_dict().items():
            if "running" in name and not torch.equal(value, kept[name]):
                raise Wrong(f"{name} moved while training")

    def itself(answer):
        norm = made(answer, nn.BatchNorm2d(3))
        norm.train()
        evaluating(norm, "after train(), where the model is the layer")

    def bare(answer):
        norm = made(answer, nn.Sequential(nn.BatchNorm2d(3, affine=False)))
        evaluating(norm, "where it has no weight and bias")
        evaluating(norm.train(), "after model.train(), without weight and bias")

    return [
        Case("no gradient for weight and bias", test=parameters),
        Case("other layers stay trainable", test=others),
        Case("evaluation mode", test=now),
        Case("model.train() does not wake them", test=later),
        Case("dropout still follows train() and eval()", test=dropout),
        Case("the running statistics stay", test=statistics),
        Case("the model is itself a BatchNorm", test=itself),
        Case("a layer with affine=False", test=bare),
    ]


# --- 6 ------------------------------------------------------------------------


class _Copies(Watch):
    """Counts the tensors of a batch's size that were made inside and still live.

    Attributes:
        most: how many lived at one time; views of one memory count once.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size, self.most = size, 0
        self.alive: list[tuple[weakref.ref, int]] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = super().__torch_function__(func, types, args, kwargs)
        for tensor in args:
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel())
        if isinstance(result, torch.Tensor) and result.numel() >= self.size:
            memory = result.untyped_storage().data_ptr()
            self.alive.append((weakref.ref(result), memory))
        self.alive = [(ref, memory) for ref, memory in self.alive if ref() is not None]
        self.most = max(self.most, len({memory for _, memory in self.alive}))
        return result


@exercise(
    "12.exact_statistics",
    hint="Keep three things: the count, the mean, and the sum of squared "
    "distances from it. What must be added to the last when two means are "
    "merged?",
)
def exact_statistics() -> list[Case]:
    def case(says, batches, within=1e-6):
        def test(answer):
            whole = torch.cat(batches).double()
            variance, mean = torch.var_mean(whole, (0, 2, 3), correction=1)
            got = answer(batch.clone() for batch in batches)
            if not isinstance(got, (tuple, list)) or len(got) != 2:
                raise Wrong("two tensors are wanted: the means, the variances")
            _same(f"{says}: mean", got[0], mean, within)
            sizes = [len(batch) for batch in batches]
            n = whole.numel() // whole.shape[1]
            if (
                isinstance(got[1], torch.Tensor)
                and got[1].shape == variance.shape
                and not _agree(got[1], variance, within)
                and _agree(got[1], variance * (n - 1) / n, within)
            ):
                raise Wrong("the biased variance: divide by the count minus one")
            where = f"variance of batches with {sizes} samples"
            _same(where, got[1], variance, within)

        return Case(says, test=test)

    def not_kept(answer):
        alive, most = [], 0

        def read():
            nonlocal most
            for seed in range(24):
                # torch.from_numpy holds the array as long as the memory is in use.
                array = _rand(2, 3, 4, 4, seed=seed).numpy().copy()
                alive.append(weakref.ref(array))
                batch = torch.from_numpy(array)
                del array
                yield batch
                del batch
                if sum(ref() is not None for ref in alive) > 2:
                    gc.collect()
                most = max(most, sum(ref() is not None for ref in alive))

        with _Copies(2 * 3 * 4 * 4) as watch:
            answer(read())
        if most > 2:
            raise Wrong(f"{most} of 24 batches were still held: keep sums, not batches")
        if watch.most > 8:  # those of one batch, and those of the one before
            raise Wrong(f"{watch.most} copies of batches were held: keep sums instead")
        if watch.largest > 2 * 3 * 4 * 4:
            raise Wrong(
                f"a tensor of {watch.largest} numbers was made from batches of 96: "
                "treat them one by one"
            )

    def split(x, *sizes):
        return list(x.split(list(sizes)))

    one = torch.tensor([1.0, 2.0, 3.0, 6.0]).view(4, 1, 1, 1)
    many = _rand(9, 3, 4, 5)
    drift = torch.cat([_rand(3, 2, 4, 4, seed=1), _rand(3, 2, 4, 4, seed=2) + 5])
    far = (_rand(16, 2, 8, 8, seed=3) + 4000).float()
    strided = _rand(6, 4, 4, 2, seed=4).permute(0, 3, 1, 2)
    return [
        case("one batch", [one]),
        case("two equal batches", split(one, 2, 2)),
        case("unequal batches", split(one, 1, 3)),
        case("three channels", split(many, 4, 4, 1)),
        case("batches with different means", split(drift, 3, 3)),
        case("empty batches", split(many, 0, 5, 0, 4)),
        case("not contiguous", split(strided, 4, 2)),
        case("a mean far larger than the spread", split(far, 5, 5, 5, 1), 1e-4),
        Case("batches are not kept", test=not_kept),
    ]

"""The optimizers of chapter 18 against torch's, as the reader sees them.

Weights and state after 200 steps, at four scales of the gradients, with and without
weight decay, in two groups, with a weight that never gets a gradient, gradients that
are partly or wholly zero, and a weight that is not contiguous; an interruption at step
100; a change from ours to torch's in the middle, and back. The same contract refuses
the classic mistakes.
"""

import copy

import pytest
import torch
from torch import nn

from booktools.chapter_code import definitions
from course_utils import compare, runtime

CHAPTER = "18_optimizers"
NAMES = ("Optimizer", "SGD", "Adagrad", "RMSprop", "Adadelta", "Adam", "AMSGrad")
code = definitions(CHAPTER, *NAMES, "AdamW", "Muon", "orthogonalize")

WITHIN = {torch.float64: 1e-12, torch.float32: 2e-6}
SCALES = (1e-8, 1e-4, 1.0, 1e4)
STEPS = 200

# ours, torch's, settings of ours, further settings of torch's
MATCHES = {
    "SGD": (code.SGD, torch.optim.SGD, {"lr": 0.01}, {}),
    "momentum": (code.SGD, torch.optim.SGD, {"lr": 0.01, "momentum": 0.9}, {}),
    "dampening": (
        code.SGD,
        torch.optim.SGD,
        {"lr": 0.01, "momentum": 0.9, "dampening": 0.9},
        {},
    ),
    "Nesterov": (
        code.SGD,
        torch.optim.SGD,
        {"lr": 0.01, "momentum": 0.9, "nesterov": True},
        {},
    ),
    "Adagrad": (code.Adagrad, torch.optim.Adagrad, {"lr": 0.01}, {}),
    "Adagrad, lr_decay": (
        code.Adagrad,
        torch.optim.Adagrad,
        {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.5},
        {},
    ),
    "RMSprop": (code.RMSprop, torch.optim.RMSprop, {"lr": 1e-3}, {}),
    "RMSprop, momentum": (
        code.RMSprop,
        torch.optim.RMSprop,
        {"lr": 1e-4, "momentum": 0.9, "alpha": 0.9},
        {},
    ),
    "RMSprop, centered": (
        code.RMSprop,
        torch.optim.RMSprop,
        {"lr": 1e-4, "centered": True, "momentum": 0.5},
        {},
    ),
    "Adadelta": (code.Adadelta, torch.optim.Adadelta, {"lr": 1.0}, {}),
    "Adam": (code.Adam, torch.optim.Adam, {"lr": 1e-3}, {}),
    "AMSGrad": (code.AMSGrad, torch.optim.Adam, {"lr": 1e-3}, {"amsgrad": True}),
    "AdamW": (code.AdamW, torch.optim.AdamW, {"lr": 1e-3}, {}),
}


def gradients(dtype, scale):
    """For each step a gradient for every weight; ``None`` for the third weight."""
    generator = torch.Generator().manual_seed(3)
    for step in range(STEPS):
        matrix = torch.randn(4, 3, generator=generator, dtype=torch.float64)
        matrix[step % 4] = 0  # a row without gradient, as in an embedding
        vector = torch.randn(5, generator=generator, dtype=torch.float64)
        vector[torch.rand(5, generator=generator) < 0.6] = 0  # mostly zero
        scalar = 0.5 + torch.rand((), generator=generator, dtype=torch.float64)
        whole = 0.0 if step % 5 == 0 or 60 <= step < 70 else scale
        parts = (matrix, vector, None, scalar)
        yield [None if g is None else (whole * g).to(dtype) for g in parts]


def prepare(kind, settings, dtype, decay):
    """Four weights (the first not contiguous) and their optimizer with two groups.

    The weights begin away from zero, and the rates are too small to bring them there:
    under decay a normalized step flips its sign at zero, and so would rounding errors.
    """
    device = runtime.device()
    line = torch.linspace(1, 2, 12, dtype=dtype, device=device)
    line[::2] *= -1
    weights = [line.view(3, 4).clone().T, line[:5].clone(), line[:2].clone(), line[7]]
    weights = [nn.Parameter(w.clone() if w.ndim < 2 else w) for w in weights]
    assert not weights[0].is_contiguous()
    first = {"params": weights[:2], "weight_decay": decay}
    rate = 2 * settings["lr"]
    second = {"params": weights[2:], "lr": rate, "weight_decay": 0.5 * decay}
    return weights, kind([first, second], **settings)


def advance(weights, optimizer, steps):
    """Take the steps; gradients are written into one buffer, as loops often do."""
    for parts in steps:
        for w, g in zip(weights, parts, strict=True):
            if g is not None:
                w.grad = torch.zeros_like(w) if w.grad is None else w.grad
                w.grad.copy_(g)
        optimizer.step()


def outcome(weights, optimizer):
    """Weights and states as plain values; the skipped weight has no state to show."""
    states = []
    for w in (weights[0], weights[1], weights[3]):
        state = optimizer.state.get(w) or {}
        states.append({k: float(v) if k == "step" else v for k, v in state.items()})
        if isinstance(optimizer, torch.optim.SGD):  # torch notes no step for SGD
            states[-1].pop("step", None)
    return {"weights": [w.detach() for w in weights], "states": states}


def contract(ours, theirs, settings, more, dtype, scale, decay, **options):
    """Largest difference of ours from torch's after 200 steps; raises beyond bounds."""
    ends = []
    for kind, extra in ((ours, {}), (theirs, {**more, **options})):
        weights, optimizer = prepare(kind, {**settings, **extra}, dtype, decay)
        before = weights[2].detach().clone()
        advance(weights, optimizer, gradients(dtype, scale))
        assert torch.equal(weights[2], before), "a weight without gradient moved"
        ends.append(outcome(weights, optimizer))
        if kind is ours:
            assert weights[2] not in optimizer.state
    within = WITHIN[dtype]
    largest = max(w.abs().max().item() for w in ends[1]["weights"])
    absolute = within * max(1.0, largest)  # a sum rounds as its largest part does
    return float(compare.compare("200 steps", *ends, within, absolute))


def resumed(ours, settings, dtype, decay):
    """An interruption at step 100 (with its state saved) changes nothing."""
    steps = list(gradients(dtype, 1.0))
    whole = prepare(ours, settings, dtype, decay)
    advance(*whole, steps)
    weights, optimizer = prepare(ours, settings, dtype, decay)
    advance(weights, optimizer, steps[:100])
    saved = copy.deepcopy(optimizer.state_dict())
    values = [w.detach().clone() for w in weights]
    # a new process: other settings until the saved ones are loaded
    fresh, successor = prepare(ours, {**settings, "lr": 7.0}, dtype, 0.0)
    with torch.no_grad():
        for new, old in zip(fresh, values, strict=True):
            new.copy_(old)
    successor.load_state_dict(saved)
    advance(fresh, successor, steps[100:])
    compare.compare("resumed", outcome(fresh, successor), outcome(*whole), within=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", MATCHES)
def test_equal_to_torch(name, dtype):
    for scale in SCALES:
        for decay in (0.0, 0.1):
            contract(*MATCHES[name], dtype, scale, decay)


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("name", MATCHES)
def test_equal_to_torch_whichever_implementation_it_takes(name, foreach):
    contract(*MATCHES[name], torch.float64, 1e-4, 0.1, foreach=foreach)


@pytest.mark.parametrize("name", MATCHES)
def test_default_settings_are_those_of_torch(name):
    ours, theirs, _, more = MATCHES[name]
    library = theirs([nn.Parameter(torch.zeros(1))], **more).defaults
    assert {k: library[k] for k in ours.defaults} == ours.defaults


@pytest.mark.parametrize("name", MATCHES)
def test_an_interruption_changes_nothing(name):
    ours, _, settings, _ = MATCHES[name]
    resumed(ours, settings, torch.float64, 0.1)


@pytest.mark.parametrize("direction", ["ours to torch", "torch to ours"])
@pytest.mark.parametrize("name", MATCHES)
def test_state_dicts_are_exchangeable(name, direction):
    ours, theirs, settings, more = MATCHES[name]
    kinds = [(ours, settings), (theirs, {**settings, **more})]
    if direction == "torch to ours":
        kinds.reverse()
    steps = list(gradients(torch.float64, 1.0))
    alone = prepare(theirs, {**settings, **more}, torch.float64, 0.1)
    advance(*alone, steps)
    (first, its), (second, others) = kinds
    weights, optimizer = prepare(first, its, torch.float64, 0.1)
    advance(weights, optimizer, steps[:100])
    fresh, successor = prepare(second, {**others, "lr": 7.0}, torch.float64, 0.0)
    with torch.no_grad():
        for new, old in zip(fresh, weights, strict=True):
            new.copy_(old)
    successor.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    advance(fresh, successor, steps[100:])
    ends = [outcome(fresh, successor), outcome(*alone)]
    compare.compare("handed over", *ends, within=1e-12)


def test_muon_equals_torch_to_the_precision_of_bfloat16():
    generator = torch.Generator().manual_seed(0)
    for shape in ((12, 5), (5, 12), (6, 6)):
        begin = torch.randn(shape, generator=generator)
        pair = [nn.Parameter(begin.clone()) for _ in range(2)]
        optimizers = [code.Muon(pair[:1], lr=0.1), torch.optim.Muon(pair[1:], lr=0.1)]
        for _ in range(20):
            gradient = torch.randn(shape, generator=generator)
            for w, optimizer in zip(pair, optimizers, strict=True):
                w.grad = gradient.clone()
                optimizer.step()
        both = zip(optimizers, pair, strict=True)
        buffers = [o.state[w]["momentum_buffer"] for o, w in both]
        compare.compare("buffer", *buffers, within=2e-6)
        compare.compare("weights", *pair, within=0.03)
    with pytest.raises(ValueError, match="shape"):
        bias = nn.Parameter(torch.zeros(3))
        bias.grad = torch.ones(3)
        code.Muon([bias]).step()


def test_bad_input_is_refused():
    weight = nn.Parameter(torch.zeros(2))
    with pytest.raises(ValueError, match="parameters"):
        code.SGD([])
    with pytest.raises(TypeError, match="momentun"):
        code.SGD([weight], momentun=0.9)
    optimizer = code.Adam([{"params": weight}, {"params": []}])
    assert [len(g["params"]) for g in optimizer.param_groups] == [1, 0]
    with pytest.raises(ValueError):  # another number of groups
        optimizer.load_state_dict(code.Adam([weight]).state_dict())


# --- classic mistakes, each refused by the same contract -------------------------


class AveragedMomentum(code.SGD):
    """b <- mu b + (1 - mu) g, from zero."""

    def update(self, p, grad, state, group):
        state.setdefault("momentum_buffer", torch.zeros_like(p))
        mu = group["momentum"]
        state["momentum_buffer"].mul_(mu).add_(grad, alpha=1 - mu)
        p -= group["lr"] * state["momentum_buffer"]


class BufferFromZero(code.SGD):
    """The first gradient is damped, too."""

    def update(self, p, grad, state, group):
        state.setdefault("momentum_buffer", torch.zeros_like(p))
        super().update(p, grad, state, group)


class BufferIsTheGradient(code.SGD):
    """No clone: the buffer lives in .grad."""

    def update(self, p, grad, state, group):
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = grad
            p -= group["lr"] * grad
        else:
            super().update(p, grad, state, group)


class OldBufferNesterov(code.SGD):
    """g + mu b with the buffer of the step before."""

    def update(self, p, grad, state, group):
        mu, old = group["momentum"], state.get("momentum_buffer")
        old = torch.zeros_like(p) if old is None else old.clone()
        state["momentum_buffer"] = mu * old + grad
        p -= group["lr"] * (grad + mu * old)


class AdagradInside(code.Adagrad):
    """Epsilon inside the root."""

    def update(self, p, grad, state, group):
        state["step"] += 1
        state["sum"].addcmul_(grad, grad)
        p -= group["lr"] * grad / (state["sum"] + group["eps"]).sqrt()


class RMSpropInside(code.RMSprop):
    """Epsilon inside the root."""

    def update(self, p, grad, state, group):
        state["step"] += 1
        square = state["square_avg"].lerp_(grad**2, 1 - group["alpha"])
        p -= group["lr"] * grad / (square + group["eps"]).sqrt()


class NotCentered(code.RMSprop):
    """The mean is subtracted without being squared."""

    def update(self, p, grad, state, group):
        state["step"] += 1
        share = 1 - group["alpha"]
        square = state["square_avg"].lerp_(grad**2, share)
        square = square - state["grad_avg"].lerp_(grad, share).abs()
        step = grad / (square.clamp(min=0).sqrt() + group["eps"])
        buffer = state["momentum_buffer"].mul_(group["momentum"]).add_(step)
        p -= group["lr"] * buffer


class AdadeltaOutside(code.Adadelta):
    """Epsilon outside the root, where Adadelta has it inside."""

    def update(self, p, grad, state, group):
        state["step"] += 1
        eps, share = group["eps"], 1 - group["rho"]
        square = state["square_avg"].lerp_(grad**2, share)
        delta = (state["acc_delta"].sqrt() + eps) / (square.sqrt() + eps) * grad
        state["acc_delta"].lerp_(delta**2, share)
        p -= group["lr"] * delta


def adam(p, grad, state, group, *, corrected=True, place="outside"):
    beta1, beta2 = group["betas"]
    eps = group["eps"]
    state["step"] += 1
    m = state["exp_avg"].lerp_(grad, 1 - beta1)
    s = state["exp_avg_sq"].lerp_(grad**2, 1 - beta2)
    first = 1 - beta1 ** state["step"] if corrected else 1
    second = 1 - beta2 ** state["step"] if corrected else 1
    root = {
        "outside": (s / second).sqrt() + eps,
        "inside": (s / second + eps).sqrt(),
        "before the correction": (s.sqrt() + eps) / second**0.5,
    }[place]
    p -= group["lr"] * m / first / root


class AdamUncorrected(code.Adam):
    """No bias correction."""

    def update(self, p, grad, state, group):
        adam(p, grad, state, group, corrected=False)


class AdamInside(code.Adam):
    """Epsilon inside the root."""

    def update(self, p, grad, state, group):
        adam(p, grad, state, group, place="inside")


class AdamEarlyEpsilon(code.Adam):
    """Epsilon added before the squares are corrected."""

    def update(self, p, grad, state, group):
        adam(p, grad, state, group, place="before the correction")


class AdamSharedStep(code.Adam):
    """One step counter for all weights."""

    count = 0

    def update(self, p, grad, state, group):
        self.count += 1
        state["step"] = self.count - 1
        super().update(p, grad, state, group)


class AMSGradCorrectedFirst(code.AMSGrad):
    """The largest of the corrected squares."""

    def squares(self, s, state):
        correction = 1 - 0.999 ** state["step"]
        largest = state["max_exp_avg_sq"]
        torch.maximum(largest, s / correction, out=largest)
        return largest * correction


class AdamWCoupled(code.Adam):
    """Weight decay joins the gradient."""

    defaults = code.AdamW.defaults


class AdamWithoutRate(code.AdamW):
    """Decoupled, but by the decay alone instead of rate times decay."""

    def decay(self, p, grad, group):
        p *= 1 - group["weight_decay"]
        return grad


class SkipsZeros(code.SGD):
    """A gradient of zero taken for no gradient."""

    def update(self, p, grad, state, group):
        if grad.any():
            super().update(p, grad, state, group)


class OneGroup(code.SGD):
    """All groups take the first group's settings."""

    def update(self, p, grad, state, group):
        super().update(p, grad, state, self.param_groups[0])


class MovesAll(code.SGD):
    """A weight without gradient decays."""

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    p -= group["lr"] * group["weight_decay"] * p
        super().step()


MISTAKES = [
    (AveragedMomentum, "momentum"),
    (BufferFromZero, "dampening"),
    (BufferIsTheGradient, "momentum"),
    (OldBufferNesterov, "Nesterov"),
    (AdagradInside, "Adagrad"),
    (RMSpropInside, "RMSprop"),
    (NotCentered, "RMSprop, centered"),
    (AdadeltaOutside, "Adadelta"),
    (AdamUncorrected, "Adam"),
    (AdamInside, "Adam"),
    (AdamEarlyEpsilon, "Adam"),
    (AdamSharedStep, "Adam"),
    (AMSGradCorrectedFirst, "AMSGrad"),
    (AdamWCoupled, "AdamW"),
    (AdamWithoutRate, "AdamW"),
    (SkipsZeros, "momentum"),
    (OneGroup, "SGD"),
    (MovesAll, "SGD"),
]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(
    ("wrong", "name"), MISTAKES, ids=[wrong.__name__ for wrong, _ in MISTAKES]
)
def test_mistakes_are_refused(wrong, name, dtype):
    with pytest.raises(AssertionError):
        for scale in SCALES:
            for decay in (0.0, 0.1):
                contract(wrong, *MATCHES[name][1:], dtype, scale, decay)


@pytest.mark.parametrize("wrong", [AdagradInside, RMSpropInside, AdamInside])
def test_epsilon_inside_the_root_is_worst_at_small_gradients(wrong):
    name = wrong.__name__.removesuffix("Inside")
    with pytest.raises(AssertionError, match="largest difference"):
        contract(wrong, *MATCHES[name][1:], torch.float32, 1e-8, 0.0)


class ForgetsSteps(code.Adam):
    """The step count is not saved."""

    def load_state_dict(self, saved):
        super().load_state_dict(saved)
        for state in self.state.values():
            state["step"] = 0


class ForgetsState(code.SGD):
    """Only the settings are saved."""

    def state_dict(self):
        return {**super().state_dict(), "state": {}}


class ForgetsSettings(code.SGD):
    """Only the state is saved."""

    def load_state_dict(self, saved):
        settings = [dict(group) for group in self.param_groups]
        super().load_state_dict(saved)
        self.param_groups = settings


class Misnumbered(code.SGD):
    """States are numbered in the order of their making, skipping the skipped weight."""

    def state_dict(self):
        saved = super().state_dict()
        return {**saved, "state": dict(enumerate(saved["state"].values()))}


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        (ForgetsSteps, "Adam"),
        (ForgetsState, "momentum"),
        (ForgetsSettings, "momentum"),
        (Misnumbered, "momentum"),
    ],
)
def test_mistakes_in_saving_are_refused(wrong, name):
    with pytest.raises((AssertionError, RuntimeError)):
        resumed(wrong, MATCHES[name][2], torch.float64, 0.1)

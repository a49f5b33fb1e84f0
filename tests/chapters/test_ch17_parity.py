"""Chapter 17's own descent, accumulation, clipping and gradients against torch.

Each ``..._contract`` takes an implementation and raises AssertionError where it is not
torch's. The chapter's own definitions pass; planted classic mistakes are refused.
"""

import copy
import math
import warnings

import pytest
import torch
import torch.nn.functional as F

from booktools.chapter_code import definitions
from course_utils.compare import compare

CHAPTER = "17_gradient_descent"
own = definitions(
    CHAPTER,
    "Descent",
    "accumulate",
    "clip_by_norm",
    "clip_by_value",
    "descend",
    "logistic",
    "loss_sum",
    "squared_error",
    "steps_until",
)
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6}
DTYPES = list(TOLERANCE)


def rand(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    drawn = 2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1
    return drawn.to(dtype)


def network(dtype=torch.float64, seed=0):
    layers = [torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)]
    model = torch.nn.Sequential(*layers).to(dtype)
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            parameter.copy_(rand(*parameter.shape, seed=seed + i))
    return model


def gradients(parameters):
    return [p.grad for p in parameters]


# --- descent ---------------------------------------------------------------------


def descent_contract(descent, dtype=torch.float64, scale=1.0, steps=200):
    """Parameters after every tenth of 200 steps, with gradients of a given scale.

    One parameter never has a gradient; one has none in every third step.
    """
    sides = []
    for make in (descent, torch.optim.SGD):
        parameters = [rand(4, 3, seed=s, dtype=dtype).requires_grad_() for s in (1, 2)]
        parameters.append(rand(2, seed=3, dtype=dtype).requires_grad_())
        target = [rand(4, 3, seed=s + 10, dtype=dtype) for s in (1, 2)]
        optimizer, history = make(iter(parameters), lr=0.05 / scale), []
        for step in range(steps):
            optimizer.zero_grad()
            first, second, _ = parameters
            loss = ((first - target[0]) ** 2).sum() + (first * second).sum().cos()
            if step % 3:
                loss = loss + ((second - target[1]) ** 4).sum()
            else:
                loss = ((first - target[0]) ** 2).sum()
            (scale * loss).backward()
            optimizer.step()
            if step % 10 == 9:
                history.append([p.detach().clone() for p in parameters])
        sides.append(history)
    compare("descent", *sides, within=TOLERANCE[dtype])


@pytest.mark.parametrize("scale", [1e-8, 1e-4, 1.0, 1e4])
@pytest.mark.parametrize("dtype", DTYPES)
def test_descent(dtype, scale):
    descent_contract(own.Descent, dtype, scale)


class NoReset(own.Descent):
    def zero_grad(self):
        pass


class ResetToZero(own.Descent):
    """Not a mistake in plain descent: a zero gradient moves nothing."""

    def zero_grad(self):
        for parameter in self.parameters:
            if parameter.grad is not None:
                parameter.grad.zero_()


class Uphill(own.Descent):
    @torch.no_grad()
    def step(self):
        for parameter in self.parameters:
            if parameter.grad is not None:
                parameter += self.lr * parameter.grad


class GeneratorUsedUp(own.Descent):
    """Keeps the iterator, which is empty after the first loop over it."""

    def __init__(self, parameters, lr):
        self.parameters, self.lr = parameters, lr


class Halved(own.Descent):
    def __init__(self, parameters, lr):
        super().__init__(parameters, lr / 2)


@pytest.mark.parametrize("planted", [NoReset, Uphill, GeneratorUsedUp, Halved])
def test_descent_contract_catches(planted):
    with pytest.raises(AssertionError, match="descent"):
        descent_contract(planted)


def test_zeros_instead_of_none_are_harmless_without_momentum():
    descent_contract(ResetToZero)


def test_missing_gradient_is_left_alone():
    parameter = torch.ones(2, requires_grad=True)
    own.Descent([parameter], lr=0.1).step()
    assert torch.equal(parameter, torch.ones(2)) and parameter.grad is None
    assert parameter.is_leaf and parameter.requires_grad


# --- accumulation ----------------------------------------------------------------


def accumulate_contract(accumulate, size=4, samples=10, dtype=torch.float64):
    """200 steps on parts of a batch against 200 steps on the whole of it."""
    inputs = rand(samples, 3, seed=1, dtype=dtype)
    targets = rand(samples, 2, seed=2, dtype=dtype)
    ours, library = network(dtype), network(dtype)
    steps = [torch.optim.SGD(m.parameters(), lr=0.1) for m in (ours, library)]
    for step in range(200):
        for optimizer in steps:
            optimizer.zero_grad()
        accumulate(ours, own.loss_sum, inputs, targets, size)
        (own.loss_sum(library(inputs), targets) / samples).backward()
        if step == 0:
            compare(
                "the first gradient",
                gradients(ours.parameters()),
                gradients(library.parameters()),
                within=TOLERANCE[dtype],
            )
        for optimizer in steps:
            optimizer.step()
    # rounding grows along a walk of 200 steps in float32
    within = 1e-12 if dtype == torch.float64 else 1e-5
    compare("accumulated", ours.state_dict(), library.state_dict(), within=within)


@pytest.mark.parametrize("size, samples", [(4, 10), (5, 10), (1, 7), (16, 10), (3, 4)])
def test_accumulation(size, samples):
    accumulate_contract(own.accumulate, size, samples)


def test_accumulation_in_float32():
    accumulate_contract(own.accumulate, dtype=torch.float32)


def test_accumulation_adds_to_what_is_there():
    model, x, y = network(), rand(6, 3), rand(6, 2)
    own.accumulate(model, own.loss_sum, x, y, 4)
    once = [g.clone() for g in gradients(model.parameters())]
    own.accumulate(model, own.loss_sum, x, y, 4)
    compare("twice", gradients(model.parameters()), [2 * g for g in once], 1e-12)


def sum_instead_of_mean(model, loss_sum, inputs, targets, size):
    for x, y in zip(inputs.split(size), targets.split(size), strict=True):
        loss_sum(model(x), y).backward()


def means_never_divided(model, loss_sum, inputs, targets, size):
    for x, y in zip(inputs.split(size), targets.split(size), strict=True):
        (loss_sum(model(x), y) / len(x)).backward()


def mean_of_means(model, loss_sum, inputs, targets, size):
    parts = math.ceil(len(inputs) / size)
    for x, y in zip(inputs.split(size), targets.split(size), strict=True):
        (loss_sum(model(x), y) / len(x) / parts).backward()


def reset_within(model, loss_sum, inputs, targets, size):
    for x, y in zip(inputs.split(size), targets.split(size), strict=True):
        model.zero_grad()
        (loss_sum(model(x), y) / len(inputs)).backward()


def last_part_dropped(model, loss_sum, inputs, targets, size):
    for i in range(len(inputs) // size):
        x, y = (t[i * size : (i + 1) * size] for t in (inputs, targets))
        (loss_sum(model(x), y) / len(inputs)).backward()


@pytest.mark.parametrize(
    "planted",
    [
        sum_instead_of_mean,
        means_never_divided,
        mean_of_means,
        reset_within,
        last_part_dropped,
    ],
)
def test_accumulation_contract_catches(planted):
    with pytest.raises(AssertionError, match="gradient"):
        accumulate_contract(planted)


def test_mean_of_means_is_right_for_equal_parts_only():
    accumulate_contract(mean_of_means, size=5, samples=10)


def forgets_zero_grad(accumulate):
    """A loop that forgets the reset: the parts of the last step stay in."""
    model, x, y = network(), rand(6, 3), rand(6, 2)
    library = copy.deepcopy(model)
    for m, optimizer in (
        (model, own.Descent(model.parameters(), 0.1)),
        (library, torch.optim.SGD(library.parameters(), 0.1)),
    ):
        for _ in range(3):
            if m is library:
                optimizer.zero_grad()
            accumulate(m, own.loss_sum, x, y, 4)
            optimizer.step()
    compare("after three steps", model.state_dict(), library.state_dict(), 1e-6)


def test_a_forgotten_zero_grad_is_seen():
    with pytest.raises(AssertionError, match="after three steps"):
        forgets_zero_grad(own.accumulate)


# --- clipping --------------------------------------------------------------------


def with_gradients(*values, dtype=torch.float64):
    parameters = []
    for value in values:
        parameter = torch.zeros(3, dtype=dtype)
        if value is not None:
            parameter = torch.zeros(torch.tensor(value).shape, dtype=dtype)
            parameter.grad = torch.tensor(value, dtype=dtype)
        parameters.append(parameter)
    return parameters


CORNERS = {
    "plain": ([3.0, 4.0], [[0.0, 12.0], [-84.0, 0.0]]),
    "shorter than the limit": ([0.1, -0.2], [0.3]),
    "exactly the limit": ([3.0, 4.0], [0.0]),
    "one gradient": ([3.0, 4.0],),
    "a parameter without gradient": ([3.0, 4.0], None, [12.0]),
    "no gradient at all": (None, None),
    "no parameters": (),
    "zeros": ([0.0, 0.0], [0.0]),
    "negative zero": ([-0.0, 30.0],),
    "tiny": ([3e-12, 4e-12],),
    "huge": ([3e6, 4e6], [1.0]),
    "infinite": ([3.0, math.inf], [12.0]),
    "minus infinity": ([-math.inf, 1.0], [0.0]),
    "nan": ([3.0, math.nan], [12.0]),
    "nan and infinity": ([math.inf, math.nan], [12.0]),
    "a scalar": (7.0, [24.0]),
}
ORDERS = [1.0, 2.0, 3.0, math.inf]


def norm_contract(clip, dtype=torch.float64):
    """The norm that is returned, and every gradient afterward, in all corners."""
    for name, values in CORNERS.items():
        for order in ORDERS:
            for limit in (5.0, 0.5, 1e9):
                sides = []
                for function in (clip, torch.nn.utils.clip_grad_norm_):
                    parameters = with_gradients(*values, dtype=dtype)
                    norm = function(parameters, limit, order)
                    sides.append([norm, gradients(parameters)])
                case = f"{name}, order {order}, limit {limit}"
                compare(case, *sides, within=TOLERANCE[dtype])


def norm_over_steps_contract(clip):
    """200 clipped steps of a network, norms included."""
    x, y = rand(10, 3, seed=1), 3 * rand(10, 2, seed=2)
    sides = []
    for function in (clip, torch.nn.utils.clip_grad_norm_):
        model, norms = network(), []
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(200):
            optimizer.zero_grad()
            (own.loss_sum(model(x), y) / len(x)).backward()
            norms.append(function(model.parameters(), 0.3).detach())
            optimizer.step()
        assert max(norms) > 0.3 > min(norms)
        sides.append([norms, model.state_dict()])
    compare("200 clipped steps", *sides, within=1e-12)


def value_contract(clip, dtype=torch.float64):
    for name, values in CORNERS.items():
        if all(value is None for value in values):
            continue  # see test_by_value_without_any_gradient
        for limit in (5.0, 0.5, 0.0):
            ours, library = (with_gradients(*values, dtype=dtype) for _ in range(2))
            clip(ours, limit)
            torch.nn.utils.clip_grad_value_(library, limit)
            case = f"{name}, limit {limit}"
            compare(case, gradients(ours), gradients(library), within=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_clipping_by_norm(dtype):
    norm_contract(own.clip_by_norm, dtype)


def test_clipping_by_norm_over_steps():
    norm_over_steps_contract(own.clip_by_norm)


@pytest.mark.parametrize("dtype", DTYPES)
def test_clipping_by_value(dtype):
    value_contract(own.clip_by_value, dtype)


def test_by_value_without_any_gradient():
    """Nothing to do for ours; torch raises an internal error (2.11 to 2.15)."""
    own.clip_by_value(with_gradients(None), 1.0)
    with pytest.raises(RuntimeError):
        torch.nn.utils.clip_grad_value_(with_gradients(None), 1.0)


@pytest.mark.parametrize("name", ["infinite", "minus infinity", "nan"])
@pytest.mark.parametrize("order", ORDERS)
def test_error_if_nonfinite(name, order):
    for clip in (own.clip_by_norm, torch.nn.utils.clip_grad_norm_):
        parameters = with_gradients(*CORNERS[name])
        before = copy.deepcopy(gradients(parameters))
        with pytest.raises(RuntimeError, match="finite"):
            clip(parameters, 5.0, order, error_if_nonfinite=True)
        compare("unchanged", gradients(parameters), before, within=0)
    parameters = with_gradients([3.0, 4.0])
    assert own.clip_by_norm(parameters, 1.0, error_if_nonfinite=True) == 5.0


def test_a_generator_of_parameters_will_do():
    for clip in (own.clip_by_norm, torch.nn.utils.clip_grad_norm_):
        parameters = with_gradients([3.0, 4.0], [12.0])
        assert clip((p for p in parameters), 6.5) == 13.0
        assert torch.allclose(parameters[1].grad, torch.tensor([6.0]).double())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of an empty generator
        assert own.clip_by_norm(iter(()), 1.0) == 0.0


def test_clipping_by_hand():
    """(3, 4) and (0, 12) have the norm 13; half of it halves everything."""
    parameters = with_gradients([3.0, 4.0], [0.0, 12.0])
    assert own.clip_by_norm(parameters, 6.5).item() == 13.0
    got = torch.cat(gradients(parameters))
    assert torch.allclose(got, torch.tensor([1.5, 2.0, 0.0, 6.0]).double())
    parameters = with_gradients([3.0, -4.0], [0.0, 12.0])
    own.clip_by_value(parameters, 3.5)
    assert torch.cat(gradients(parameters)).tolist() == [3.0, -3.5, 0.0, 3.5]


def clip_each_parameter(parameters, max_norm, order=2.0):
    parameters = list(parameters)
    norms = [own.clip_by_norm([p], max_norm, order) for p in parameters]
    return torch.linalg.vector_norm(torch.stack(norms), order) if norms else norms


def clip_that_amplifies(parameters, max_norm, order=2.0):
    held = [p.grad for p in parameters if p.grad is not None]
    total = own.clip_by_norm(parameters, math.inf, order)
    for gradient in held:
        gradient.mul_(max_norm / (total + 1e-6))
    return total


def clip_without_constant(parameters, max_norm, order=2.0):
    held = [p.grad for p in parameters if p.grad is not None]
    total = own.clip_by_norm(parameters, math.inf, order)
    for gradient in held:
        gradient.mul_(max_norm / total)
        if not total > max_norm:
            gradient.mul_(total / max_norm)
    return total


def clip_returns_norm_after(parameters, max_norm, order=2.0):
    parameters = list(parameters)
    own.clip_by_norm(parameters, max_norm, order)
    return own.clip_by_norm(parameters, math.inf, order)


def clip_always_euclidean(parameters, max_norm, order=2.0):
    return own.clip_by_norm(parameters, max_norm)


def clip_value_as_norm(parameters, max_norm, order=2.0):
    total = own.clip_by_norm(parameters, math.inf, order)
    own.clip_by_value(parameters, max_norm)
    return total


def clip_heals_infinity(parameters, max_norm, order=2.0):
    total = own.clip_by_norm(parameters, max_norm, order)
    for p in parameters:
        if p.grad is not None:
            p.grad.nan_to_num_()
    return total


@pytest.mark.parametrize(
    "planted",
    [
        clip_each_parameter,
        clip_that_amplifies,
        clip_without_constant,
        clip_returns_norm_after,
        clip_always_euclidean,
        clip_value_as_norm,
        clip_heals_infinity,
    ],
)
def test_norm_contract_catches(planted):
    with pytest.raises(AssertionError, match="order"):
        norm_contract(planted)


def test_steps_contract_catches_clipping_each_parameter():
    with pytest.raises(AssertionError, match="200 clipped steps"):
        norm_over_steps_contract(clip_each_parameter)


@pytest.mark.parametrize(
    "planted",
    [
        lambda ps, limit: own.clip_by_norm(ps, limit, math.inf),
        lambda ps, limit: [p.grad.clamp_(max=limit) for p in ps if p.grad is not None],
        lambda ps, limit: [
            p.grad.copy_(p.grad.nan_to_num(posinf=math.inf, neginf=-math.inf)).clamp_(
                -limit, limit
            )
            for p in ps
            if p.grad is not None
        ],
    ],
    ids=["infinity norm", "one side only", "nan made 0"],
)
def test_value_contract_catches(planted):
    with pytest.raises(AssertionError, match="limit"):
        value_contract(planted)


# --- the two models --------------------------------------------------------------

SCALES = [1e-8, 1e-4, 1.0, 30.0, 1e4]


def logistic_contract(logistic, dtype=torch.float64):
    """Loss and gradient at logits up to 10000 in absolute value."""
    x, weight = rand(40, 5, seed=1, dtype=dtype), rand(5, seed=2, dtype=dtype)
    y = (torch.arange(40) % 2).to(dtype)
    for scale in SCALES:
        inputs, leaf = scale * x, weight.clone().requires_grad_()
        loss = F.binary_cross_entropy_with_logits(inputs @ leaf, y)
        loss.backward()
        got = logistic(weight, inputs, y)
        assert all(bool(t.isfinite().all()) for t in got), f"scale {scale}: not finite"
        compare(f"scale {scale}", got, (loss.detach(), leaf.grad), TOLERANCE[dtype])


def extreme_contract(logistic):
    """One sample at a time, where a probability has rounded to 0 or 1."""
    one = torch.ones(1, dtype=torch.float64)
    for z in (-1e4, -800.0, -40.0, 0.0, 40.0, 800.0, 1e4):
        for y in (0.0, 1.0, 0.3):
            leaf = torch.tensor([z], dtype=torch.float64, requires_grad=True)
            loss = F.binary_cross_entropy_with_logits(leaf, y * one)
            loss.backward()
            got = logistic(leaf.detach(), one[:, None], y * one)
            case = f"logit {z}, target {y}"
            compare(case, got, (loss.detach(), leaf.grad), within=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_logistic(dtype):
    logistic_contract(own.logistic, dtype)


def test_logistic_at_extreme_logits():
    extreme_contract(own.logistic)


def naive_logistic(weight, inputs, targets):
    p = 1 / (1 + torch.exp(-(inputs @ weight)))
    losses = -(targets * p.log() + (1 - targets) * (1 - p).log())
    return losses.mean(), inputs.T @ (p - targets) / len(targets)


def clamped_logistic(weight, inputs, targets):
    p = torch.sigmoid(inputs @ weight).clamp(1e-7, 1 - 1e-7)
    losses = -(targets * p.log() + (1 - targets) * (1 - p).log())
    return losses.mean(), inputs.T @ (p - targets) / len(targets)


def sign_flipped(weight, inputs, targets):
    loss, gradient = own.logistic(weight, inputs, targets)
    return loss, -gradient


def summed_logistic(weight, inputs, targets):
    loss, gradient = own.logistic(weight, inputs, targets)
    return loss, gradient * len(targets)


@pytest.mark.parametrize(
    "planted", [naive_logistic, clamped_logistic, sign_flipped, summed_logistic]
)
def test_logistic_contract_catches(planted):
    with pytest.raises(AssertionError, match="scale"):
        logistic_contract(planted)


@pytest.mark.parametrize("planted", [naive_logistic, clamped_logistic])
def test_extreme_contract_catches(planted):
    with pytest.raises(AssertionError, match="logit"):
        extreme_contract(planted)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", SCALES)
def test_linear_regression(dtype, scale):
    x, y = scale * rand(40, 5, seed=1, dtype=dtype), rand(40, seed=3, dtype=dtype)
    weight = rand(5, seed=2, dtype=dtype)
    leaf = weight.clone().requires_grad_()
    loss = F.mse_loss(x @ leaf, y)
    loss.backward()
    got = own.squared_error(weight, x, y)
    compare("squared error", got, (loss.detach(), leaf.grad), TOLERANCE[dtype])


# --- what the chapter says about speed -------------------------------------------


@pytest.mark.parametrize("curvature", [0.01, 1.0, 8.0, 3e4])
def test_two_over_the_curvature_is_the_limit(curvature):
    for share, arrives in ((1.99, True), (2.01, False)):
        path = own.descend(lambda x: curvature * x, 1.0, share / curvature, 1000)
        assert (abs(path[-1]) < abs(path[0])) == arrives
    path = own.descend(lambda x: 8.0 * x, 10.0, 0.25, 100)
    assert {abs(x) for x in path} == {10.0}


@pytest.mark.parametrize("kappa", [3, 10, 37, 100, 1000])
def test_steps_follow_the_condition_number(kappa):
    curvatures = torch.linspace(1, kappa, 7, dtype=torch.float64)
    factor = (kappa - 1) / (kappa + 1)
    predicted = math.ceil(math.log(1e-6) / math.log(factor))
    best, limit = 2 / (1 + kappa), 2 / kappa
    assert own.steps_until(curvatures, best) == predicted
    for other in (0.95 * best, (best + limit) / 2):  # no other fixed rate is faster
        assert own.steps_until(curvatures, other) >= predicted

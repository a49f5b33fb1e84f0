"""The exercises of chapter 17: mistakes are refused, each for its own reason."""

import math

import pytest
import torch

from course_utils import checks

# Wrong answers, each with words of the verdict that must stop it.


def numbers_first_is_smallest(hessian):
    values = torch.linalg.eigvalsh(hessian).flip(0)
    low, high = values[0].item(), values[-1].item()
    return 2 / high, 2 / (low + high), (high - low) / (low + high)


def numbers_diagonal(hessian):
    values = hessian.diagonal()
    low, high = values.min().item(), values.max().item()
    return 2 / high, 2 / (low + high), (high - low) / (low + high)


def numbers_one_over(hessian):
    values = torch.linalg.eigvalsh(hessian)
    low, high = values[0].item(), values[-1].item()
    return 1 / high, 2 / (low + high), (high - low) / (low + high)


def numbers_as_tensors(hessian):
    values = torch.linalg.eigvalsh(hessian)
    low, high = values[0], values[-1]
    return 2 / high, 2 / (low + high), (high - low) / (low + high)


def numbers_condition(hessian):
    values = torch.linalg.eigvalsh(hessian)
    low, high = values[0].item(), values[-1].item()
    return 2 / high, 2 / (low + high), high / low


def _fit(
    inputs,
    targets,
    lr,
    size,
    passes,
    *,
    sign=1,
    keep=False,
    drop=False,
    total=False,
    in_place=False,
):
    weight = torch.zeros(inputs.shape[1], dtype=inputs.dtype)
    gradient = torch.zeros_like(weight)
    for _ in range(passes):
        for x, y in zip(inputs.split(size), targets.split(size), strict=True):
            if drop and len(x) < size:
                continue
            new = 2 * x.T @ (x @ weight - y)
            new = new if total else new / len(x)
            gradient = gradient + new if keep else new
            weight = weight - sign * lr * gradient
    if in_place:
        targets -= inputs @ weight
    return weight


def fit_uphill(*args):
    return _fit(*args, sign=-1)


def fit_accumulates(*args):
    return _fit(*args, keep=True)


def fit_drops_the_rest(*args):
    return _fit(*args, drop=True)


def fit_sums(*args):
    return _fit(*args, total=True)


def fit_changes_targets(*args):
    return _fit(*args, in_place=True)


def fit_as_printed(inputs, targets, lr, size, passes):
    weight = torch.zeros(inputs.shape[1], dtype=inputs.dtype)
    gradient = torch.zeros_like(weight)
    for _ in range(passes):
        for i in range(len(inputs) // size):
            x = inputs[i * size : (i + 1) * size]
            y = targets[i * size : (i + 1) * size]
            gradient += 2 * x.T @ (y - x @ weight) / len(x)
            weight -= lr * gradient
    return weight


def _backtrack(f, x, lr, *, fails, half=0.5, track=True):
    leaf = x.detach().clone().requires_grad_() if track else x.requires_grad_()
    value = f(leaf)
    (gradient,) = torch.autograd.grad(value, leaf)
    squared = gradient.square().sum()
    with torch.no_grad():
        while fails(f(leaf - lr * gradient), value, lr * squared):
            lr = lr * half
    return lr


def backtrack_greater(f, x, lr):
    return _backtrack(f, x, lr, fails=lambda new, old, drop: new > old - drop / 2)


def backtrack_any_descent(f, x, lr):
    return _backtrack(f, x, lr, fails=lambda new, old, drop: not new <= old)


def backtrack_full_drop(f, x, lr):
    if not x.any():
        return lr
    return _backtrack(f, x, lr, fails=lambda new, old, drop: not new <= old - drop)


def backtrack_strict(f, x, lr):
    return _backtrack(f, x, lr, fails=lambda new, old, drop: not new < old - drop / 2)


def backtrack_watches_x(f, x, lr):
    return _backtrack(
        f, x, lr, fails=lambda new, old, drop: not new <= old - drop / 2, track=False
    )


def backtrack_tenth(f, x, lr):
    return _backtrack(
        f, x, lr, fails=lambda new, old, drop: not new <= old - drop / 2, half=0.1
    )


def backtrack_at_most_20(f, x, lr):
    tries = iter(range(20))

    def fails(new, old, drop):
        passes = new.isfinite() and new <= old - drop / 2
        return not passes and next(tries, None) is not None

    return _backtrack(f, x, lr, fails=fails)


def backtrack_falls_into_the_pit(f, x, lr):
    """Takes minus infinity for the best value of all."""
    return _backtrack(f, x, lr, fails=lambda new, old, drop: not new <= old - drop / 2)


def backtrack_vectors_only(f, x, lr):
    leaf = x.detach().clone().requires_grad_()
    value = f(leaf)
    (gradient,) = torch.autograd.grad(value, leaf)
    with torch.no_grad():
        while True:
            new = f(leaf - lr * gradient)
            if new.isfinite() and new <= value - lr / 2 * gradient @ gradient:
                return lr
            lr = lr / 2


def backtrack_forever(f, x, lr):
    while f(x) >= 0:
        pass


def _softmax(weight, inputs, labels, shift=True, divide=True, dim=1):
    z = inputs @ weight
    if shift:
        z = z - z.amax(1, keepdim=True)
    p = z.exp() / z.exp().sum(dim, keepdim=True)
    rows = torch.arange(len(labels))
    loss = -p[rows, labels].log().mean()
    p[rows, labels] -= 1
    gradient = inputs.T @ p
    return loss, gradient / len(labels) if divide else gradient


def softmax_overflows(weight, inputs, labels):
    return _softmax(weight, inputs, labels, shift=False)


def softmax_log_of_zero(weight, inputs, labels):
    return _softmax(weight, inputs, labels)


def softmax_sums(weight, inputs, labels):
    return _softmax(weight, inputs, labels, divide=False)


def softmax_over_samples(weight, inputs, labels):
    return _softmax(weight, inputs, labels, dim=0)


def softmax_transposed(weight, inputs, labels):
    loss, gradient = _softmax(weight, inputs, labels)
    return loss, gradient.T


def softmax_in_float64(weight, inputs, labels):
    z = (inputs @ weight).double()
    p = z.softmax(1)
    loss = -z.log_softmax(1)[torch.arange(len(labels)), labels].mean()
    p[torch.arange(len(labels)), labels] -= 1
    return loss, inputs.double().T @ p / len(labels)


def softmax_ready(weight, inputs, labels, log_softmax=torch.log_softmax):
    log_p = log_softmax(inputs @ weight, 1)
    rows, p = torch.arange(len(labels)), log_p.exp()
    p[rows, labels] -= 1
    return -log_p[rows, labels].mean(), inputs.T @ p / len(labels)


def softmax_from_nn(weight, inputs, labels):
    ready = torch.nn.functional.log_softmax
    return softmax_ready(weight, inputs, labels, ready)


def softmax_special(weight, inputs, labels):
    return softmax_ready(weight, inputs, labels, torch.special.log_softmax)


def softmax_largest_of_all(weight, inputs, labels):
    z = inputs @ weight
    z = z - z.max()

    def log_softmax(*_):
        return z - z.exp().sum(1, keepdim=True).log()

    return softmax_ready(weight, inputs, labels, log_softmax)


def valid_backward_on_nothing(weight, parts):
    count = sum(int(v.sum()) for _, _, v in parts)
    if count:
        for x, y, v in parts:
            ((x[v] @ weight - y[v]).square().sum() / count).backward()


def valid_backward_once(weight, parts):
    held = [(x[v], y[v]) for x, y, v in parts if v.any()]
    if held:
        x, y = (torch.cat(side) for side in zip(*held, strict=True))
        (x @ weight - y).square().mean().backward()


def valid_mean_of_means(weight, parts):
    for x, y, v in parts:
        if v.any():
            loss = (x[v] @ weight - y[v]).square().mean() / len(parts)
            loss.backward()


def valid_by_part_size(weight, parts):
    samples = sum(len(v) for _, _, v in parts)
    for x, y, v in parts:
        if v.any():
            ((x[v] @ weight - y[v]).square().sum() / samples).backward()


def valid_mask_by_product(weight, parts):
    count = sum(int(v.sum()) for _, _, v in parts)
    for x, y, v in parts:
        if v.any():
            (((x @ weight - y).square() * v).sum() / count).backward()


def valid_resets(weight, parts):
    count = sum(int(v.sum()) for _, _, v in parts)
    weight.grad = None
    for x, y, v in parts:
        if v.any():
            ((x[v] @ weight - y[v]).square().sum() / count).backward()


def valid_divides_by_zero(weight, parts):
    count = sum(int(v.sum()) for _, _, v in parts)
    for x, y, v in parts:
        ((x[v] @ weight - y[v]).square().sum() / count).backward()


def valid_steps_too(weight, parts):
    valid_divides_by_zero(weight, parts)
    with torch.no_grad():
        weight -= 0.1 * weight.grad


def _clip(weight, inputs, targets, limit, whole=False, eps=0.0, total=False):
    gradients = 2 * (inputs @ weight - targets)[:, None] * inputs
    if whole:
        mean = gradients.sum(0) / max(len(inputs), 1)
        return mean * (limit / mean.norm().clamp(min=limit))
    factor = (limit / (gradients.norm(dim=1, keepdim=True) + eps)).clamp(max=1)
    result = (gradients * factor).sum(0)
    return result if total else result / max(len(inputs), 1)


def clip_the_mean(*args):
    return _clip(*args, whole=True)


def clip_constant_added(*args):
    return _clip(*args, eps=1e-6)


def clip_zero_over_zero(weight, inputs, targets, limit):
    gradients = 2 * (inputs @ weight - targets)[:, None] * inputs
    norms = gradients.norm(dim=1, keepdim=True)
    clipped = gradients / norms * norms.clamp(max=limit)
    return clipped.sum(0) / max(len(inputs), 1)


def clip_sum(*args):
    return _clip(*args, total=True)


def clip_stretches(weight, inputs, targets, limit):
    gradients = 2 * (inputs @ weight - targets)[:, None] * inputs
    norms = gradients.norm(dim=1, keepdim=True)
    norms = torch.where(norms == 0, torch.ones_like(norms), norms)
    return (gradients * limit / norms).sum(0) / max(len(inputs), 1)


def clip_mean_of_nothing(weight, inputs, targets, limit):
    gradients = 2 * (inputs @ weight - targets)[:, None] * inputs
    norms = gradients.norm(dim=1, keepdim=True)
    return (gradients * (limit / norms.clamp(min=limit))).mean(0)


WRONG = [
    ("three_numbers", numbers_first_is_smallest, "curvatures 1 and 3"),
    ("three_numbers", numbers_diagonal, "curvatures 1 and 3"),
    ("three_numbers", numbers_one_over, "limit expected: 0.5"),
    ("three_numbers", numbers_as_tensors, "is a tensor"),
    ("three_numbers", numbers_condition, "factor of the best rate expected: 0"),
    ("three_numbers", lambda hessian: 2 / hessian.max().item(), "three numbers"),
    ("fit", fit_uphill, "one step with one batch"),
    ("fit", fit_accumulates, "two steps: each batch by itself"),
    ("fit", fit_drops_the_rest, "a smaller last batch"),
    ("fit", fit_sums, "one step with one batch"),
    ("fit", fit_changes_targets, "the input was changed"),
    ("fit", fit_as_printed, "one step with one batch"),
    ("backtrack", backtrack_greater, "nan on the other side"),
    ("backtrack", backtrack_any_descent, "halved three times"),
    ("backtrack", backtrack_full_drop, "the rate passes at once"),
    ("backtrack", backtrack_strict, "halved three times"),
    ("backtrack", backtrack_watches_x, "it requires a gradient now"),
    ("backtrack", backtrack_tenth, "halved three times"),
    ("backtrack", backtrack_at_most_20, "halved 41 times"),
    ("backtrack", backtrack_falls_into_the_pit, "onto minus infinity"),
    ("backtrack", backtrack_vectors_only, "a matrix"),
    ("backtrack", lambda f, x, lr: None, "end with a return"),
    ("backtrack", backtrack_forever, "the loop does not seem to end"),
    ("softmax_regression", softmax_overflows, "logits near 1000"),
    ("softmax_regression", softmax_log_of_zero, "logits near 1000"),
    ("softmax_regression", softmax_sums, "six samples"),
    ("softmax_regression", softmax_over_samples, "one sample"),
    ("softmax_regression", softmax_transposed, "one sample"),
    ("softmax_regression", softmax_in_float64, "dtype torch.float64"),
    ("softmax_regression", softmax_ready, "log_softmax was called"),
    ("softmax_regression", softmax_from_nn, "log_softmax was called"),
    ("softmax_regression", softmax_special, "log_softmax was called"),
    ("softmax_regression", softmax_largest_of_all, "logits near 1000"),
    ("accumulate_valid", valid_mean_of_means, "parts of different sizes"),
    ("accumulate_valid", valid_backward_on_nothing, "backward expected: 1, one"),
    ("accumulate_valid", valid_backward_once, "calls of backward:          1"),
    ("accumulate_valid", valid_by_part_size, "valid counts differ"),
    ("accumulate_valid", valid_mask_by_product, "nan where not valid"),
    ("accumulate_valid", valid_resets, "what was in .grad"),
    ("accumulate_valid", valid_divides_by_zero, "calls of backward:          2"),
    ("accumulate_valid", valid_steps_too, "the weight was moved"),
    ("clipped_gradient", clip_the_mean, "eight samples"),
    ("clipped_gradient", clip_constant_added, "not exactly 1"),
    ("clipped_gradient", clip_zero_over_zero, "fitted exactly"),
    ("clipped_gradient", clip_sum, "eight samples"),
    ("clipped_gradient", clip_stretches, "one sample, short enough"),
    ("clipped_gradient", clip_mean_of_nothing, "no samples"),
]


# Right answers, written otherwise than the book's own.


def numbers_from_singular_values(hessian):
    values = torch.linalg.svdvals(hessian)
    low, high = values[-1].item(), values[0].item()
    return [2 / high, 2 / (low + high), 1 - 2 * low / (low + high)]


def fit_by_slices(inputs, targets, lr, size, passes):
    weight = torch.zeros(inputs.shape[1], dtype=inputs.dtype)
    for _ in range(passes):
        for i in range(0, len(inputs), size):
            x, y = inputs[i : i + size], targets[i : i + size]
            weight = weight - lr * 2 * ((x @ weight - y)[:, None] * x).mean(0)
    return weight


def backtrack_by_backward(f, x, lr):
    leaf = x.clone().requires_grad_()
    value = f(leaf)
    value.backward()
    old, slope = value.item(), leaf.grad
    while True:
        new = f(x - lr * slope).item()
        if math.isfinite(new) and new <= old - lr * (slope**2).sum().item() / 2:
            return lr
        lr *= 0.5


def softmax_by_logsumexp(weight, inputs, labels):
    z = inputs @ weight
    log_p = z - torch.logsumexp(z, 1, keepdim=True)
    hot = torch.eye(weight.shape[1], dtype=z.dtype)[labels]
    loss = -(hot * log_p).sum() / len(labels)
    return loss, inputs.T @ (log_p.exp() - hot) / len(labels)


def valid_by_where(weight, parts):
    count = torch.cat([v for _, _, v in parts]).sum()
    for x, y, v in parts:
        if v.any():
            error = x @ weight - torch.where(v, y, torch.zeros_like(y))
            torch.autograd.backward((error[v] ** 2).sum() / count)


def clip_by_largest(weight, inputs, targets, limit):
    gradients = 2 * (inputs.T * (inputs @ weight - targets)).T
    norms = gradients.square().sum(1, keepdim=True).sqrt()
    clipped = gradients / torch.maximum(norms / limit, torch.ones_like(norms))
    return clipped.sum(0) / max(len(inputs), 1)


RIGHT = [
    ("three_numbers", numbers_from_singular_values),
    ("fit", fit_by_slices),
    ("backtrack", backtrack_by_backward),
    ("softmax_regression", softmax_by_logsumexp),
    ("accumulate_valid", valid_by_where),
    ("clipped_gradient", clip_by_largest),
]


@pytest.mark.parametrize("name, right", RIGHT)
def test_right_answers_are_accepted(name, right):
    verdict = checks.judge(f"17.{name}", right)
    assert verdict.status == "passed", verdict.text


@pytest.mark.parametrize("name, wrong, words", WRONG)
def test_wrong_answers_are_refused(name, wrong, words):
    verdict = checks.judge(f"17.{name}", wrong)
    assert verdict.status == "failed", verdict.text
    assert words in verdict.text.split("  not yet: ")[1], verdict.text


def test_backtrack_cases_are_worked_out_by_hand():
    """On a parabola of curvature 2 the promise holds exactly from 1/2 down."""
    for lr, passes in ((1.0, False), (0.5, True), (0.25, True)):
        for x in (3.0, -1.0):
            slope = 2 * x
            after = (x - lr * slope) ** 2
            assert (after <= x * x - lr / 2 * slope**2) == passes
    assert math.isclose(2 - math.log(2) - 0.25, 1.0569, abs_tol=1e-4)

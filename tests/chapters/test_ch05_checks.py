"""The exercises of chapter 5: mistakes are refused, each for its own reason."""

import pytest
import torch

from booktools.chapter_code import answers
from course_utils import checks

_, SOLUTIONS = answers("05_autograd")


# Wrong answers, each with words of the verdict that must stop it.


def fit_accumulates(x, targets, steps, lr):
    line = torch.zeros(2, dtype=x.dtype, requires_grad=True)
    for _ in range(steps):
        ((line[0] * x + line[1] - targets) ** 2).mean().backward()
        with torch.no_grad():
            line -= lr * line.grad
    return line.detach()


def fit_watched(x, targets, steps, lr):
    return SOLUTIONS["05.fit_line"](x, targets, steps, lr).requires_grad_()


def fit_rebinds(x, targets, steps, lr):
    line = torch.zeros(2, dtype=x.dtype, requires_grad=True)
    for _ in range(steps):
        line.grad = None
        ((line[0] * x + line[1] - targets) ** 2).mean().backward()
        line = line - lr * line.grad
    return line.detach()


def fit_sums(x, targets, steps, lr):
    line = torch.zeros(2, dtype=x.dtype, requires_grad=True)
    for _ in range(steps):
        loss = ((line[0] * x + line[1] - targets) ** 2).sum()
        (gradient,) = torch.autograd.grad(loss, line)
        with torch.no_grad():
            line -= lr * gradient
    return line.detach()


def fit_float32(x, targets, steps, lr):
    return SOLUTIONS["05.fit_line"](x.float(), targets.float(), steps, lr)


def fit_switches_off(x, targets, steps, lr):
    torch.set_grad_enabled(True)
    result = SOLUTIONS["05.fit_line"](x, targets, steps, lr)
    torch.set_grad_enabled(False)
    return result


def fit_forgets(x, targets, steps, lr):
    SOLUTIONS["05.fit_line"](x, targets, steps, lr)


def length_plain(x):
    return x.square().sum(-1).sqrt()


def length_one_where(x):
    squares = x.square().sum(-1)
    return torch.where(squares > 0, squares.sqrt(), torch.zeros_like(squares))


def length_epsilon(x):
    return (x.square().sum(-1) + 1e-12).sqrt()


def length_clamped(x):
    return x.square().sum(-1).clamp(min=1e-12).sqrt()


def length_of_all(x):
    return x.square().sum().sqrt()


def length_detached(x):
    return x.detach().norm(dim=-1)


def jacobian_transposed(f, x):
    return SOLUTIONS["05.jacobian"](f, x).mT


def jacobian_of_sum(f, x):
    x = x.detach().clone().requires_grad_()
    return torch.autograd.grad(f(x).sum(), x)[0]


def jacobian_backward(f, x):
    y, rows = f(x), []
    for element in y.flatten():
        x.grad = None
        element.backward(retain_graph=True)
        rows.append(x.grad)
    return torch.stack(rows).reshape(y.shape + x.shape)


def jacobian_accumulates(f, x):
    x = x.detach().clone().requires_grad_()
    y, rows = f(x), []
    for element in y.flatten():
        element.backward(retain_graph=True)
        rows.append(x.grad.clone())
    return torch.stack(rows).reshape(y.shape + x.shape)


def jacobian_no_constant(f, x):
    x = x.detach().clone().requires_grad_()
    y = f(x)
    rows = [torch.autograd.grad(e, x, retain_graph=True)[0] for e in y.flatten()]
    return torch.stack(rows).reshape(y.shape + x.shape)


def jacobian_walks_once(f, x):
    x = x.detach().clone().requires_grad_()
    y = f(x)
    rows = [torch.autograd.grad(e, x)[0] for e in y.flatten()]
    return torch.stack(rows).reshape(y.shape + x.shape)


class Sign(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.where(x >= 0, torch.ones_like(x), -torch.ones_like(x))

    @staticmethod
    def backward(ctx, grad_output):
        return grad_output * (ctx.saved_tensors[0].abs() <= 1)


class SignOfZero(Sign):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sign()


class SignFloat32(Sign):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.where(x >= 0, 1.0, -1.0)


class SignInPlace(Sign):
    @staticmethod
    def forward(ctx, x):
        x[x >= 0], x[x < 0] = 1, -1
        ctx.save_for_backward(x)
        return x


class SignEverywhere(Sign):
    @staticmethod
    def backward(ctx, grad_output):
        return grad_output


class SignOpen(Sign):
    @staticmethod
    def backward(ctx, grad_output):
        return grad_output * (ctx.saved_tensors[0].abs() < 1)


class SignIgnores(Sign):
    @staticmethod
    def backward(ctx, grad_output):
        return (ctx.saved_tensors[0].abs() <= 1).to(grad_output.dtype)


class SignNothing(Sign):
    @staticmethod
    def backward(ctx, grad_output):
        return None


def curvature_first_order(f, x, v):
    x = x.detach().clone().requires_grad_()
    return torch.autograd.grad(f(x), x)[0] * v


def curvature_without_graph(f, x, v):
    x = x.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(f(x), x)
    return torch.autograd.grad((gradient * v).sum(), x)[0]


def curvature_diagonal(f, x, v):
    x = x.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(f(x), x, create_graph=True)
    return torch.autograd.grad(gradient.sum(), x)[0] * v


def curvature_not_linear(f, x, v):
    x = x.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(f(x), x, create_graph=True)
    return torch.autograd.grad((gradient * v).sum(), x)[0]


def curvature_marks_x(f, x, v):
    result = SOLUTIONS["05.curvature"](f, x, v)
    x.requires_grad_()
    return result


def fit_one_after_the_other(x, targets, steps, lr):
    a, b = torch.zeros(2, dtype=x.dtype)
    for _ in range(steps):
        a = a - lr * 2 * ((a * x + b - targets) * x).mean()
        b = b - lr * 2 * (a * x + b - targets).mean()
    return torch.stack([a, b])


def fit_one_too_many(x, targets, steps, lr):
    return SOLUTIONS["05.fit_line"](x, targets, steps + 1, lr)


def length_pairwise(x):
    zeros = torch.zeros_like(x)
    return torch.nn.functional.pairwise_distance(x, zeros, eps=0.0)


def length_kept_dimension(x):
    return SOLUTIONS["05.length"](x)[..., None]


def jacobian_float32(f, x):
    return SOLUTIONS["05.jacobian"](f, x).float()


def jacobian_marks_x(f, x):
    rows = []
    for element in f(x.requires_grad_()).flatten():
        rows.append(torch.autograd.grad(element, x, retain_graph=True)[0])
    return torch.stack(rows)


def jacobian_of_the_watched_only(f, x):
    y = f(x)
    if not y.requires_grad:
        return torch.zeros(y.shape + x.shape)
    rows = [torch.autograd.grad(e, x, retain_graph=True)[0] for e in y.flatten()]
    return torch.stack(rows)


def jacobian_by_differences(f, x):
    x = x.detach().double()
    steps = 1e-6 * torch.eye(x.numel()).double()
    columns = [(f(x + step) - f(x - step)) / 2e-6 for step in steps]
    return torch.stack(columns, dim=-1).float()


class SignNearZero(Sign):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x + 1e-9).sign()


class SignOfMinusZero(Sign):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.copysign(torch.ones_like(x), x)


class SignAttribute(Sign):
    @staticmethod
    def forward(ctx, x):
        ctx.x = x
        return torch.where(x >= 0, torch.ones_like(x), -torch.ones_like(x))

    @staticmethod
    def backward(ctx, grad_output):
        return grad_output * (ctx.x.abs() <= 1)


class SignWritesSlopes(Sign):
    @staticmethod
    def backward(ctx, grad_output):
        grad_output[ctx.saved_tensors[0].abs() > 1] = 0
        return grad_output


def curvature_matrix(f, x, v):
    def flat(z):
        return f(z.reshape(x.shape))

    product = torch.func.hessian(flat)(x.flatten()) @ v.flatten()
    return product.reshape(x.shape)


def curvature_float32(f, x, v):
    return SOLUTIONS["05.curvature"](f, x.float(), v.float())


def curvature_by_differences(f, x, v):
    gradient = torch.func.grad(f)
    x, step = x.double(), 1e-5 * v
    return ((gradient(x + step) - gradient(x - step)) / 2e-5).to(v.dtype)


WRONG = [
    ("05.predict", (4.0, 3.0, 3.0), "3 is the slope of 3 * w alone"),
    ("05.predict", (2.0, 5.0, 8.0), "w is used twice"),
    ("05.predict", (4.0, 7.0, 19.0), "12 is the slope of w ** 3 at 2"),
    ("05.predict", (4.0, 7.0, 3.0), "was .grad reset"),
    ("05.predict", (4.0, 7.0), "three numbers are wanted"),
    ("05.predict", None, "three numbers are wanted"),
    ("05.predict", ("4", "7", "10"), "three plain numbers are wanted"),
    ("05.fit_line", fit_accumulates, "not yet: two steps"),
    ("05.fit_line", fit_watched, "requires a gradient"),
    ("05.fit_line", fit_rebinds, "not yet: two steps"),
    ("05.fit_line", fit_sums, "not yet: one step"),
    ("05.fit_line", fit_float32, "dtype torch.float32"),
    ("05.fit_line", fit_switches_off, "recording is switched off"),
    ("05.fit_line", fit_forgets, "does the function end with a return?"),
    ("05.fit_line", fit_one_after_the_other, "not yet: one step"),
    ("05.fit_line", fit_one_too_many, "not yet: no step at all"),
    ("05.length", length_plain, "not yet: the gradient at zero"),
    ("05.length", length_one_where, "not yet: the gradient at zero"),
    ("05.length", length_epsilon, "not yet: two vectors"),
    ("05.length", length_clamped, "not yet: two vectors"),
    ("05.length", length_of_all, "not yet: two vectors"),
    ("05.length", length_detached, "cut off from the graph"),
    ("05.length", length_pairwise, "without a ready-made norm"),
    ("05.length", length_kept_dimension, "not yet: one vector"),
    ("05.jacobian", jacobian_transposed, "not yet: "),
    ("05.jacobian", jacobian_of_sum, "shape (2,) instead of (2, 2)"),
    ("05.jacobian", jacobian_backward, ".grad of x was changed"),
    ("05.jacobian", jacobian_accumulates, "not yet: two in, two out"),
    ("05.jacobian", jacobian_no_constant, "that does not depend on x"),
    ("05.jacobian", jacobian_walks_once, "a second time"),
    ("05.jacobian", jacobian_float32, "dtype torch.float32"),
    ("05.jacobian", jacobian_marks_x, "it requires a gradient now"),
    ("05.jacobian", jacobian_of_the_watched_only, "that nobody watches"),
    ("05.jacobian", jacobian_by_differences, "it was not called"),
    ("05.sign_through", SignOfZero, "0 counts as +1"),
    ("05.sign_through", SignFloat32, "dtype torch.float32"),
    ("05.sign_through", SignInPlace, "wrote into its input"),
    ("05.sign_through", SignEverywhere, "slopes pass inside only"),
    ("05.sign_through", SignOpen, "the borders are inside"),
    ("05.sign_through", SignIgnores, "slopes pass inside only"),
    ("05.sign_through", SignNothing, "no slope arrives"),
    ("05.sign_through", SignNearZero, "next to 0"),
    ("05.sign_through", SignOfMinusZero, "minus 0"),
    ("05.sign_through", SignAttribute, "save_for_backward"),
    ("05.sign_through", SignWritesSlopes, "wrote into grad_output"),
    ("05.curvature", curvature_first_order, "not yet: one element"),
    ("05.curvature", curvature_without_graph, "does not require grad"),
    ("05.curvature", curvature_diagonal, "not yet: coupled elements"),
    ("05.curvature", curvature_not_linear, "not yet: a linear function"),
    ("05.curvature", curvature_marks_x, "x was changed"),
    ("05.curvature", curvature_matrix, "that is the matrix"),
    ("05.curvature", curvature_float32, "dtype torch.float32"),
    ("05.curvature", curvature_by_differences, "not yet: "),
]


# One wrong answer reads .grad of a tensor that is no leaf: that is its mistake.
@pytest.mark.filterwarnings("ignore:The .grad attribute")
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
@pytest.mark.parametrize("name, answer, words", WRONG)
def test_wrong_answers_are_refused_for_their_own_reason(name, answer, words):
    try:
        verdict = checks.judge(name, answer)
    finally:
        torch.set_grad_enabled(True)
    assert verdict.status == "failed"
    assert words in verdict.text, verdict.text
    assert "Traceback" not in verdict.text


# Right answers, written in another way.


def fit_anew(x, targets, steps, lr):
    line = torch.zeros(2, dtype=x.dtype)
    for _ in range(steps):
        line = line.detach().requires_grad_()
        ((line[0] * x + line[1] - targets) ** 2).mean().backward()
        line = line.detach() - lr * line.grad
    return line.detach()


def length_masked(x):
    squares = x.square().sum(-1)
    result, some = torch.zeros_like(squares), squares > 0
    result[some] = squares[some].sqrt()
    return result


def jacobian_in_one_call(f, x):
    x = x.detach().clone().requires_grad_()
    y = f(x)
    if not y.requires_grad or not y.numel():
        return x.new_zeros(y.shape + x.shape)
    rows = torch.eye(y.numel(), dtype=y.dtype).reshape(-1, *y.shape)
    (slopes,) = torch.autograd.grad(y, x, rows, is_grads_batched=True)
    return slopes.detach().reshape(y.shape + x.shape)


class SignMask(Sign):
    @staticmethod
    def forward(ctx, x):
        ctx.inside = x.abs() <= 1
        return torch.where(x >= 0, torch.ones_like(x), -torch.ones_like(x))

    @staticmethod
    def backward(ctx, grad_output):
        return grad_output * ctx.inside


class SignSetup(torch.autograd.Function):
    @staticmethod
    def forward(x):
        return torch.where(x >= 0, torch.ones_like(x), -torch.ones_like(x))

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad_output):
        return grad_output * (ctx.saved_tensors[0].abs() <= 1)


def curvature_forward_mode(f, x, v):
    return torch.func.jvp(torch.func.grad(f), (x,), (v,))[1]


RIGHT = [
    ("05.predict", [4, 7, 10]),
    ("05.fit_line", fit_anew),
    ("05.length", length_masked),
    ("05.jacobian", jacobian_in_one_call),
    ("05.sign_through", SignMask),
    ("05.sign_through", SignSetup),
    ("05.curvature", curvature_forward_mode),
]


# Some versions of torch warn of their own code where forward mode begins.
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
@pytest.mark.parametrize("name, answer", RIGHT)
def test_right_answers_pass_however_they_are_written(name, answer):
    verdict = checks.judge(name, answer)
    assert verdict.status == "passed", verdict.text

"""The exercises of chapter 18: mistakes are refused, each for its own reason."""

import pytest
import torch

from booktools.chapter_code import definitions
from course_utils import checks

CHAPTER = "18_optimizers"
BASE = definitions(CHAPTER, "Optimizer").Optimizer


# Wrong answers, each with words of the verdict that must stop it.


def rmsprop_inside(w, grad, square, lr=0.01, alpha=0.99, eps=1e-8):
    square = alpha * square + (1 - alpha) * grad**2
    return w - lr * grad / torch.sqrt(square + eps), square


def rmsprop_no_epsilon(w, grad, square, lr=0.01, alpha=0.99, eps=1e-8):
    square = alpha * square + (1 - alpha) * grad**2
    return w - lr * grad / square.sqrt(), square


def rmsprop_squared_epsilon(w, grad, square, lr=0.01, alpha=0.99, eps=1e-8):
    square = alpha * square + (1 - alpha) * grad**2
    return w - lr * grad / (square + eps**2).sqrt(), square


def rmsprop_in_place(w, grad, square, lr=0.01, alpha=0.99, eps=1e-8):
    square.mul_(alpha).add_((1 - alpha) * grad**2)
    return w - lr * grad / (square.sqrt() + eps), square


def rmsprop_old_square(w, grad, square, lr=0.01, alpha=0.99, eps=1e-8):
    new = alpha * square + (1 - alpha) * grad**2
    return w - lr * grad / (square.sqrt() + eps), new


def rmsprop_only_weight(w, grad, square, lr=0.01, alpha=0.99, eps=1e-8):
    return rmsprop_squared_epsilon(w, grad, square)[0]


def rmsprop_clamped(w, grad, square, lr=0.01, alpha=0.99, eps=1e-8):
    square = alpha * square + (1 - alpha) * grad**2
    return w - lr * grad / square.sqrt().clamp(min=eps), square


def rmsprop_own_settings(w, grad, square, lr=0.01, alpha=0.99, eps=1e-8):
    square = 0.99 * square + 0.01 * grad**2
    return w - 0.01 * grad / (square.sqrt() + 1e-8), square


def translate_dampening(lr, beta, decay=0.0):
    if decay:
        raise ValueError("no")
    return {"lr": lr, "momentum": beta, "dampening": beta}


def translate_unchanged(lr, beta, decay=0.0):
    if decay:
        raise ValueError("no")
    return {"lr": lr, "momentum": beta}


def translate_upside_down(lr, beta, decay=0.0):
    if decay:
        raise ValueError("no")
    return {"lr": lr / (1 - beta), "momentum": beta}


def translate_coupled(lr, beta, decay=0.0):
    return {"lr": lr * (1 - beta), "momentum": beta, "weight_decay": decay}


def translate_tuple(lr, beta, decay=0.0):
    return lr * (1 - beta), beta


def translate_nesterov(lr, beta, decay=0.0):
    if decay:
        raise ValueError("no")
    return {"lr": lr * (1 - beta), "momentum": beta, "nesterov": beta > 0}


def translate_refuses_zero(lr, beta, decay=None):
    if decay is not None:
        raise ValueError("no")
    return {"lr": lr * (1 - beta), "momentum": beta}


def translate_tolerates(lr, beta, decay=0.0):
    if round(decay, 4):
        raise ValueError("no")
    return {"lr": lr * (1 - beta), "momentum": beta}


def split(model, weight_decay, decays):
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    groups = [
        {"params": [p for n, p in named if decays(n, p)], "weight_decay": weight_decay},
        {"params": [p for n, p in named if not decays(n, p)], "weight_decay": 0.0},
    ]
    return [g for g in groups if g["params"]]


def groups_by_name(model, weight_decay):
    return split(model, weight_decay, lambda n, p: "bias" not in n)


def groups_with_frozen(model, weight_decay):
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1]},
        {"params": [p for p in model.parameters() if p.ndim <= 1]},
    ]
    groups[0]["weight_decay"], groups[1]["weight_decay"] = weight_decay, 0.0
    return [g for g in groups if g["params"]]


def groups_twice(model, weight_decay):
    decaying, spared = [], []
    for module in model.children():
        for p in module.parameters():
            if p.requires_grad:
                (decaying if p.ndim > 1 else spared).append(p)
    groups = [
        {"params": decaying, "weight_decay": weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]
    return [g for g in groups if g["params"]]


def groups_empty_kept(model, weight_decay):
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def groups_by_their_kind(model, weight_decay):
    return split(model, weight_decay, lambda n, p: p.ndim in (2, 4))


def groups_not_vectors(model, weight_decay):
    return split(model, weight_decay, lambda n, p: p.ndim != 1)


def groups_by_name_and_size(model, weight_decay):
    return split(model, weight_decay, lambda n, p: "bias" not in n and p.ndim > 1)


def groups_lazy(model, weight_decay):
    groups = split(model, weight_decay, lambda n, p: p.ndim > 1)
    return [{**g, "params": iter(g["params"])} for g in groups]


def groups_no_key(model, weight_decay):
    groups = groups_empty_kept(model, weight_decay)
    del groups[1]["weight_decay"]
    return groups


def adamw(coupled=False, shared=False, zero=True, skip=True, corrected=True):
    def adamw_step(weights, grads, state, lr, beta1, beta2, eps, decay):
        for i, (w, g) in enumerate(zip(weights, grads, strict=True)):
            if g is None:
                if skip:
                    continue
                g = torch.zeros_like(w)
            first = (torch.zeros_like(w),) * 2 if zero else (g, g**2)
            t, m, s = state.get(i, (0, *first))
            state["step"] = state.get("step", 0) + 1
            t = state["step"] if shared else t + 1
            if coupled:
                g = g + decay * w
            m = beta1 * m + (1 - beta1) * g
            s = beta2 * s + (1 - beta2) * g**2
            state[i] = (t, m, s)
            if not coupled:
                w *= 1 - lr * decay
            if not corrected:
                t = 10**9
            w -= lr * m / (1 - beta1**t) / ((s / (1 - beta2**t)).sqrt() + eps)

    return adamw_step


def adamw_rebinds(weights, grads, state, lr, beta1, beta2, eps, decay):
    copies = [w.clone() for w in weights]
    adamw()(copies, grads, state, lr, beta1, beta2, eps, decay)
    weights = copies


def adamw_inside(weights, grads, state, lr, beta1, beta2, eps, decay):
    for i, (w, g) in enumerate(zip(weights, grads, strict=True)):
        if g is None:
            continue
        zero = torch.zeros_like(w)
        t, m, s = state.get(i, (0, zero, zero))
        t, m = t + 1, beta1 * m + (1 - beta1) * g
        s = beta2 * s + (1 - beta2) * g**2
        state[i] = (t, m, s)
        w *= 1 - lr * decay
        w -= lr * m / (1 - beta1**t) / (s / (1 - beta2**t) + eps).sqrt()


def adamw_decays_without_gradient(weights, grads, state, lr, *settings):
    right = adamw()
    right(weights, grads, state, lr, *settings)
    for w, g in zip(weights, grads, strict=True):
        if g is None:
            w *= 1 - lr * settings[-1]


class Lion(BASE):
    """The right one, to be spoiled below."""

    defaults = {"lr": 1e-4, "betas": (0.9, 0.99), "weight_decay": 0}

    def start(self, p, group):
        return {"exp_avg": torch.zeros_like(p)}

    def decay(self, p, grad, group):
        p *= 1 - group["lr"] * group["weight_decay"]
        return grad

    def update(self, p, grad, state, group):
        beta1, beta2 = group["betas"]
        m = state["exp_avg"]
        p -= group["lr"] * torch.lerp(m, grad, 1 - beta1).sign()
        m.lerp_(grad, 1 - beta2)


class LionNewAverage(Lion):
    def update(self, p, grad, state, group):
        m = state["exp_avg"].lerp_(grad, 1 - group["betas"][1])
        p -= group["lr"] * m.sign()


class LionNoSign(Lion):
    def update(self, p, grad, state, group):
        beta1, beta2 = group["betas"]
        m = state["exp_avg"]
        p -= group["lr"] * torch.lerp(m, grad, 1 - beta1)
        m.lerp_(grad, 1 - beta2)


class LionCoupled(Lion):
    decay = BASE.decay


class LionSwapped(Lion):
    def update(self, p, grad, state, group):
        swapped = {**group, "betas": group["betas"][::-1]}
        super().update(p, grad, state, swapped)


class LionHidden(Lion):
    def start(self, p, group):
        self.hidden = getattr(self, "hidden", {})
        return {}

    def update(self, p, grad, state, group):
        m = self.hidden.setdefault(id(p), torch.zeros_like(p))
        super().update(p, grad, {"exp_avg": m}, group)


class LionGradientStart(Lion):
    def update(self, p, grad, state, group):
        if not state["exp_avg"].any():
            state["exp_avg"].copy_(grad)
        super().update(p, grad, state, group)


class LionDecayAfter(Lion):
    def decay(self, p, grad, group):
        return grad

    def update(self, p, grad, state, group):
        super().update(p, grad, state, group)
        p *= 1 - group["lr"] * group["weight_decay"]


class LionDecayWithoutRate(Lion):
    def decay(self, p, grad, group):
        p *= 1 - group["weight_decay"]
        return grad


class LionDivides(Lion):
    def update(self, p, grad, state, group):
        beta1, beta2 = group["betas"]
        m = state["exp_avg"]
        ahead = torch.lerp(m, grad, 1 - beta1)
        p -= group["lr"] * ahead / ahead.abs()
        m.lerp_(grad, 1 - beta2)


WRONG = [
    ("18.places", (-0.425, -0.2125), "three numbers are wanted"),
    ("18.places", ("a", "b", "c"), "plain numbers"),
    ("18.places", (0.425, 0.2125, 0.5125), "against the gradient"),
    ("18.places", (-0.175, -0.2125, -0.5125), "last step alone"),
    ("18.places", (-0.425, -0.3125, -0.5125), "starts from zero"),
    ("18.places", (-0.425, -0.2125, -0.425), "plain momentum"),
    ("18.places", (-0.425, -0.2125, -0.425 - 0.0875 / 2), "where b is the new buffer"),
    ("18.places", (-0.2125, -0.425, -0.5125), "the sum takes the whole gradient"),
    ("18.rmsprop_step", rmsprop_inside, "not yet: a gradient of 1e-6"),
    ("18.rmsprop_step", rmsprop_no_epsilon, "not yet: a gradient of 0"),
    ("18.rmsprop_step", rmsprop_squared_epsilon, "not yet: a gradient of 1e-6"),
    ("18.rmsprop_step", rmsprop_inside, "inside the root, where 1e-8 acts like 1e-4"),
    ("18.rmsprop_step", rmsprop_squared_epsilon, "the root of a sum is less"),
    ("18.rmsprop_step", rmsprop_clamped, "epsilon does not act here"),
    ("18.rmsprop_step", rmsprop_own_settings, "not yet: another epsilon"),
    ("18.rmsprop_step", rmsprop_in_place, "input was changed"),
    ("18.rmsprop_step", rmsprop_old_square, "not yet: a gradient of 1"),
    ("18.rmsprop_step", rmsprop_only_weight, "not yet: a gradient of 1"),
    ("18.translate", translate_dampening, "after step 1"),
    ("18.translate", translate_unchanged, "after step 1"),
    ("18.translate", translate_upside_down, "after step 1"),
    ("18.translate", translate_coupled, "ValueError"),
    ("18.translate", translate_nesterov, "after step 1"),
    ("18.translate", translate_refuses_zero, "not yet: rate 0.01, beta 0.25, decay"),
    ("18.translate", translate_tolerates, "not yet: a small decay"),
    ("18.translate", translate_tuple, "dictionary of settings"),
    ("18.decay_groups", groups_by_name, "not yet: a scale of BatchNorm"),
    ("18.decay_groups", groups_with_frozen, "not yet: a frozen layer"),
    ("18.decay_groups", groups_twice, "not yet: a shared weight"),
    ("18.decay_groups", groups_empty_kept, "not yet: no biases"),
    ("18.decay_groups", groups_by_their_kind, "not yet: an embedding"),
    ("18.decay_groups", groups_not_vectors, "not yet: an embedding"),
    ("18.decay_groups", groups_by_name_and_size, "not yet: an embedding"),
    ("18.decay_groups", groups_lazy, "'params' is to be a list, got list_iterator"),
    ("18.decay_groups", groups_no_key, "lacks the key 'weight_decay'"),
    ("18.adamw_step", adamw(zero=False), "not yet: one weight, one step"),
    ("18.adamw_step", adamw(corrected=False), "not yet: one weight, one step"),
    ("18.adamw_step", adamw(shared=True), "not yet: two weights, one step"),
    ("18.adamw_step", adamw(coupled=True), "not yet: one weight with decay"),
    ("18.adamw_step", adamw(skip=False), "not yet: a weight without a gradient"),
    ("18.adamw_step", adamw(zero=False), "as if the averages start from the first"),
    ("18.adamw_step", adamw(shared=True), "as if the steps are counted for all"),
    ("18.adamw_step", adamw(coupled=True), "as if the decay joins the gradient"),
    ("18.adamw_step", adamw(zero=False, shared=True), "as if the averages start from"),
    ("18.adamw_step", adamw_inside, "not yet: one weight, one step"),
    ("18.adamw_step", adamw_decays_without_gradient, "not yet: a weight without"),
    ("18.adamw_step", adamw_rebinds, "not yet: one weight, one step"),
    ("18.lion", LionNoSign, "not yet: one step"),
    ("18.lion", LionNewAverage, "not yet: the sign uses the old average"),
    ("18.lion", LionSwapped, "not yet: one step"),
    ("18.lion", LionCoupled, "not yet: with decay"),
    ("18.lion", LionHidden, "state needs 'exp_avg'"),
    ("18.lion", LionGradientStart, "not yet: one step"),
    ("18.lion", LionDecayAfter, "not yet: with decay"),
    ("18.lion", LionDecayWithoutRate, "not yet: with decay"),
    ("18.lion", LionDivides, "not yet: a gradient of zero"),
]


@pytest.mark.parametrize(("name", "wrong", "words"), WRONG)
def test_wrong_answers_are_refused(name, wrong, words):
    verdict = checks.judge(name, wrong)
    assert verdict.status == "failed", verdict.text
    assert words in verdict.text, verdict.text


def explicit(lr, beta, decay=0):
    """Right, and written differently: an explicit dampening of zero."""
    if decay != 0:
        raise ValueError("no")
    return {"lr": lr - lr * beta, "momentum": beta, "dampening": 0, "nesterov": False}


def multiplied(w, grad, square, lr=0.01, alpha=0.99, eps=1e-8):
    """Right, and written differently: lerp, and a division rearranged."""
    new = torch.lerp(square, grad * grad, 1 - alpha)
    return w - (grad / (new**0.5 + eps)) * lr, new


class LionWithoutHelpers(BASE):
    """Right, and written differently: decay inside update's own formula."""

    defaults = {"lr": 1e-4, "betas": (0.9, 0.99), "weight_decay": 0}

    def start(self, p, group):
        return {"exp_avg": p * 0}

    def decay(self, p, grad, group):
        p.mul_(1 - group["lr"] * group["weight_decay"])
        return grad

    def update(self, p, grad, state, group):
        one, two = group["betas"]
        m = state["exp_avg"]
        p.sub_(group["lr"] * torch.sign(one * m + (1 - one) * grad))
        state["exp_avg"] = two * m + (1 - two) * grad


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("18.places", [-0.425, -0.2125, -0.5125]),
        ("18.rmsprop_step", multiplied),
        ("18.translate", explicit),
        ("18.decay_groups", lambda m, d: split(m, d, lambda n, p: p.dim() >= 2)),
        ("18.adamw_step", adamw()),
        ("18.lion", LionWithoutHelpers),
    ],
)
def test_right_answers_written_differently_pass(name, right):
    verdict = checks.judge(name, right)
    assert verdict.status == "passed", verdict.text


def test_the_buggy_functions_of_the_chapter_are_refused():
    """The code that the exercises show is wrong in the way they say."""
    import re

    from booktools import notebook

    text = "\n".join(
        cell.source
        for cell in notebook.read(notebook.CHAPTERS / f"{CHAPTER}.ipynb").cells
        if cell.cell_type == "markdown"
    )
    shown = re.findall(r"(?s)```python\n(def .*?)```", text)
    assert len(shown) == 2
    for source in shown:
        space = {"torch": torch}
        exec(source, space)
        name = re.match(r"def (\w+)", source)[1]
        assert checks.judge(f"18.{name}", space[name]).status == "failed"

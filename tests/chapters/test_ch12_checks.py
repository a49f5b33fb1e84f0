"""The exercises of chapter 12: mistakes are refused, each for its own reason."""

import copy
import types

import numpy as np
import pytest
import torch
from torch import nn

from booktools import chapter_code
from course_utils import checks

EXERCISES = chapter_code.exercises("12_normalization")


# Wrong answers: the exercise, a change of the solution's source, and words of the
# verdict. The change is a mistake that people make.

LAYER_NORM_PLAIN = """
def layer_norm_backward(grad, x, weight, eps):
    spread = (x.var(-1, correction=0, keepdim=True) + eps).sqrt()
    y = (x - x.mean(-1, keepdim=True)) / spread
    return grad * weight / spread, (grad * y).sum(0), grad.sum(0)
"""
FOLD_AFTER = """
def fold_before(bn, linear):
    scale = bn.weight / (bn.running_var + bn.eps).sqrt()
    folded = nn.Linear(linear.in_features, linear.out_features).double()
    folded.weight.data = linear.weight * scale[: linear.out_features, None]
    folded.bias.data = linear.bias + bn.bias[: linear.out_features]
    return folded
"""
FOLD_IN_PLACE = """
def fold_before(bn, linear):
    scale = bn.weight / (bn.running_var + bn.eps).sqrt()
    shift = bn.bias - bn.running_mean * scale
    extra = 0 if linear.bias is None else linear.bias
    bias = nn.Parameter(linear.weight.detach() @ shift + extra)
    linear.weight.data *= scale
    linear.bias = bias
    return linear
"""
ONLY_EVAL = """
def freeze_batch_norm(model):
    for part in model.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
            part.requires_grad_(False)
            part.eval()
    return model
"""
ALL_FROZEN = """
def freeze_batch_norm(model):
    model.requires_grad_(False)
    model.eval()
    model.train = lambda mode=True: model
    return model
"""
TOP_ONLY = """
def freeze_batch_norm(model):
    for part in model.children():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
            part.requires_grad_(False).eval()
            part.train = lambda mode=True, part=part: part
    return model
"""
MEAN_OF_MEANS = """
def exact_statistics(batches):
    means, variances = [], []
    for batch in batches:
        if len(batch):
            variances.append(batch.var((0, 2, 3)))
            means.append(batch.mean((0, 2, 3)))
    return torch.stack(means).mean(0), torch.stack(variances).mean(0)
"""
SQUARES = """
def exact_statistics(batches):
    count, total, squares = 0, 0.0, 0.0
    for batch in batches:
        count += batch.numel() // batch.shape[1]
        total = total + batch.sum((0, 2, 3))
        squares = squares + batch.square().sum((0, 2, 3))
    mean = total / count
    return mean, (squares / count - mean**2) * count / (count - 1)
"""
TWICE = """
def exact_statistics(batches):
    mean = torch.cat(list(batches)).mean((0, 2, 3))
    return mean, torch.cat(list(batches)).var((0, 2, 3))
"""
COPIES = """
def exact_statistics(batches):
    kept = [batch.clone() for batch in batches if len(batch)]
    count = sum(batch.numel() // batch.shape[1] for batch in kept)
    mean = sum(batch.sum((0, 2, 3)) for batch in kept) / count
    rest = [batch - mean.view(1, -1, 1, 1) for batch in kept]
    return mean, sum(r.square().sum((0, 2, 3)) for r in rest) / (count - 1)
"""
KEPT = COPIES.replace("batch.clone() for", "batch for")
ARRAYS = """
def exact_statistics(batches):
    whole = torch.from_numpy(np.concatenate([b.numpy().copy() for b in batches]))
    return whole.mean((0, 2, 3)), whole.var((0, 2, 3))
"""
AFFINE_ONLY = """
def freeze_batch_norm(model):
    for part in model.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
            part.weight.requires_grad_(False)
            part.bias.requires_grad_(False)
            part.eval()
            part.train = lambda mode=True, part=part: part
    return model
"""
DISGUISED = """
def fold_before(bn, linear):
    class Both(nn.Linear):
        def forward(self, x):
            return linear(bn(x))

    return Both(linear.in_features, linear.out_features, dtype=linear.weight.dtype)
"""
LIBRARY_BACKWARD = """
def layer_norm_backward(grad, x, weight, eps):
    bias, size = torch.zeros_like(weight), weight.shape
    _, mean, scale = torch.native_layer_norm(x, size, weight, bias, eps)
    backward = torch.ops.aten.native_layer_norm_backward
    return backward(grad, x, size, mean, scale, weight, bias, [True] * 3)
"""
PER_POSITION = """
def count_means(kind, shape, groups=1):
    samples, channels = shape[:2]
    positions = shape[2] if len(shape) == 3 else 1
    return {
        "batch": channels,
        "layer": samples * positions,
        "instance": samples * channels,
        "group": samples * groups,
    }[kind]
"""
FUNCTION = """
class Repaired(nn.Module):
    def __init__(self, num_features):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x):
        state = self.running_mean, self.running_var, self.weight, self.bias
        return nn.functional.batch_norm(x, *state, self.training)
"""
READY_MADE = """
class Repaired(nn.Module):
    def __init__(self, num_features):
        super().__init__()
        self.norm = nn.BatchNorm2d(num_features)

    def forward(self, x):
        return self.norm(x)
"""

CHANGES = [
    ("count_means", '"layer": samples', '"layer": channels', "layer"),
    ("count_means", '"batch": channels', '"batch": samples', "batch, two axes"),
    ("count_means", "samples * groups", "groups", "four groups"),
    ("count_means", "samples * groups", "channels // groups", "four groups"),
    ("count_means", "samples * channels", "samples + channels", "instance"),
    ("three_bugs", "var * n / (n - 1)", "var", "running_var is 1.25"),
    ("three_bugs", "self.training", "torch.is_grad_enabled()", "eval()"),
    ("three_bugs", "if self.training:", "if True:", "in eval()"),
    ("three_bugs", "self.training:", "self.training or len(x) > 1:", "in eval()"),
    ("three_bugs", "(var + 1e-5).sqrt()", "(var.sqrt() + 1e-5)", "float64"),
    (
        *(
            "three_bugs",
            'self.register_buffer("running_mean", torch',
            "self.m = (torch",
        ),
        "running_mean",
    ),
    (
        "three_bugs",
        'self.register_buffer("running_var", torch.ones(num_features))',
        "self.running_var = torch.ones(num_features)",
        "running_var would be lost",
    ),
    (
        "three_bugs",
        'self.register_buffer("running_mean", torch.zeros(num_features))',
        "self.running_mean = nn.Parameter(torch.zeros(num_features))",
        "only weight and bias are trained",
    ),
    ("three_bugs", "(0, 2, 3), correction=0", "(0, 2, 3)", "output in training"),
    ("three_bugs", "lerp_(mean, 0.1)", "lerp_(mean, 0.9)", "running_mean"),
    ("layer_norm_backward", "- h.mean(-1, keepdim=True)", "", "slope of x"),
    ("layer_norm_backward", "h = grad * weight", "h = grad", "a weight"),
    ("layer_norm_backward", ".sum(rows), grad", ".sum(0), grad", "tokens"),
    (
        "layer_norm_backward",
        "mean(-1, keepdim=True) + eps",
        "mean(-1, True)",
        "slope of x",
    ),
    (
        "fold_before",
        "bn.running_var + bn.eps",
        "bn.running_var + 1e-5",
        "eps of its own",
    ),
    ("fold_before", "linear.weight * scale", "linear.weight", "only a scale"),
    ("fold_before", "shift * bn.weight + bn.bias", "shift + bn.bias", "one feature"),
    ("fold_before", "if bn.weight is not None:", "if True:", "without weight"),
    ("fold_before", "if linear.bias is not None:", "if True:", "only a scale"),
    ("freeze_batch_norm", "part.requires_grad_(False)", "pass", "trainable"),
    ("freeze_batch_norm", "            part.eval()\n", "", "evaluation mode"),
    ("freeze_batch_norm", "(nn.BatchNorm1d, nn.BatchNorm2d)", "nn.BatchNorm2d", "5"),
    ("freeze_batch_norm", "    return model\n", "", "None came back"),
    ("freeze_batch_norm", "part.train = stay", "pass", "after model.train()"),
    ("exact_statistics", "squares / (count - 1)", "squares / count", "biased"),
    ("exact_statistics", "n == 0", "False", "empty batches"),
    ("exact_statistics", "+ gap**2 * (count * n / (count + n))", "", "variance"),
    ("exact_statistics", "gap * (n / (count + n))", "gap / 2", "one batch"),
]
WHOLE = [
    ("count_means", PER_POSITION, "layer, three axes"),
    ("three_bugs", READY_MADE, "ready-made"),
    ("three_bugs", FUNCTION, "ready-made"),
    ("layer_norm_backward", LAYER_NORM_PLAIN, "slope of x"),
    ("layer_norm_backward", LIBRARY_BACKWARD, "write it by hand"),
    ("fold_before", FOLD_AFTER, "one feature"),
    ("fold_before", DISGUISED, "a plain nn.Linear"),
    ("fold_before", FOLD_IN_PLACE, "came back"),
    ("freeze_batch_norm", ONLY_EVAL, "after model.train()"),
    ("freeze_batch_norm", ALL_FROZEN, "another layer"),
    ("freeze_batch_norm", TOP_ONLY, "still has trainable"),
    ("freeze_batch_norm", AFFINE_ONLY, "affine=False"),
    ("exact_statistics", MEAN_OF_MEANS, "variance of batches"),
    ("exact_statistics", SQUARES, "a mean far larger"),
    ("exact_statistics", TWICE, "ValueError"),
    ("exact_statistics", KEPT, "24 of 24 batches"),
    ("exact_statistics", COPIES, "copies of batches"),
    ("exact_statistics", ARRAYS, "one by one"),
]
# Right answers, written otherwise than the solution.
FIRST_AS_ORIGIN = """
def exact_statistics(batches):
    count, total, squares, origin = 0, 0.0, 0.0, None
    for batch in batches:
        if batch.numel() == 0:
            continue
        if origin is None:
            origin = batch.mean((0, 2, 3), keepdim=True)
        rest = batch.double() - origin
        count += rest.numel() // rest.shape[1]
        total = total + rest.sum((0, 2, 3))
        squares = squares + rest.square().sum((0, 2, 3))
    mean = total / count
    return origin.flatten() + mean, (squares - count * mean**2) / (count - 1)
"""
COPIED = """
def fold_before(bn, linear):
    folded = copy.deepcopy(linear)
    gamma, beta = (1, 0) if bn.weight is None else (bn.weight, bn.bias)
    scale = gamma / (bn.running_var + bn.eps).sqrt()
    shift = beta - bn.running_mean * scale
    start = 0 if linear.bias is None else linear.bias
    folded.weight = nn.Parameter(linear.weight * scale)
    folded.bias = nn.Parameter(linear.weight @ shift + start)
    return folded
"""
METHOD = """
def freeze_batch_norm(model):
    for part in model.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
            for p in part.parameters():
                p.requires_grad = False
            part.training = False
            part.train = types.MethodType(lambda self, mode=True: self, part)
    return model
"""
ROWS = """
def layer_norm_backward(grad, x, weight, eps):
    n = x.shape[-1]
    flat, g = x.reshape(-1, n), grad.reshape(-1, n)
    rest = flat - flat.mean(1, True)
    var = (rest * rest).mean(1, True)
    y = rest * (var + eps).rsqrt()
    h = g * weight
    inner = n * h - h.sum(1, True) - y * (h * y).sum(1, True)
    slope = inner * (var + eps).rsqrt() / n
    return slope.view_as(grad), (g * y).sum(0), g.sum(0)
"""
RIGHT = [
    ("exact_statistics", FIRST_AS_ORIGIN),
    ("fold_before", COPIED),
    ("freeze_batch_norm", METHOD),
    ("layer_norm_backward", ROWS),
]
NAMES = {"torch": torch, "nn": nn, "copy": copy, "np": np, "types": types}


def refused(name: str, source: str, words: str) -> None:
    exercise = EXERCISES[f"12.{name}"]
    verdict = checks.judge(exercise.name, exercise.answer(source, **NAMES))
    assert verdict.status == "failed", verdict.text
    last = verdict.text.split("not yet: ", 1)[-1]
    assert words in last, verdict.text
    assert "Traceback" not in verdict.text


def _replaced(source: str, old: str, new: str) -> str:
    assert source.count(old) == 1, f"{source.count(old)} times in the class: {old}"
    return source.replace(old, new)


@pytest.mark.filterwarnings("ignore:var_mean")  # one mistake divides by nothing
@pytest.mark.parametrize(("name", "old", "new", "words"), CHANGES)
def test_changed_solution_is_refused(name, old, new, words):
    source = EXERCISES[f"12.{name}"].solution
    refused(name, _replaced(source, old, new), words)


@pytest.mark.parametrize(("name", "source", "words"), WHOLE)
def test_wrong_answer_is_refused(name, source, words):
    refused(name, source, words)


@pytest.mark.parametrize(("name", "source"), RIGHT)
def test_another_right_answer_passes(name, source):
    exercise = EXERCISES[f"12.{name}"]
    verdict = checks.judge(exercise.name, exercise.answer(source, **NAMES))
    assert verdict.status == "passed", verdict.text


def test_the_bugs_as_printed_are_refused():
    """The class in the exercise's text has exactly the three bugs it promises."""
    from booktools import notebook

    book = notebook.read(notebook.CHAPTERS / "12_normalization.ipynb")
    text = next(c.source for c in book.cells if "class ThreeBugs" in c.source)
    code = text.split("```python\n", 1)[1].split("```", 1)[0]
    first = _replaced(code, "ThreeBugs", "Repaired")
    refused("three_bugs", first, "running_var is 1.25")
    second = _replaced(
        first,
        "0.1 * var.detach()",
        "0.1 * var.detach() * len(x) * x[0, 0].numel() / "
        "(len(x) * x[0, 0].numel() - 1)",
    )
    refused("three_bugs", second, "in eval(), with gradients on")
    third = _replaced(second, "torch.is_grad_enabled()", "self.training")
    refused("three_bugs", third, "would be lost")

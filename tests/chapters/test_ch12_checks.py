"""The exercises of chapter 12: mistakes are refused, each for its own reason."""

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
    ("three_bugs", READY_MADE, "ready-made"),
    ("layer_norm_backward", LAYER_NORM_PLAIN, "slope of x"),
    ("fold_before", FOLD_AFTER, "one feature"),
    ("fold_before", FOLD_IN_PLACE, "came back"),
    ("freeze_batch_norm", ONLY_EVAL, "after model.train()"),
    ("freeze_batch_norm", ALL_FROZEN, "another layer"),
    ("freeze_batch_norm", TOP_ONLY, "still has trainable"),
    ("exact_statistics", MEAN_OF_MEANS, "variance of batches"),
    ("exact_statistics", SQUARES, "a mean far larger"),
    ("exact_statistics", TWICE, "ValueError"),
]


def refused(name: str, source: str, words: str) -> None:
    exercise = EXERCISES[f"12.{name}"]
    verdict = checks.judge(exercise.name, exercise.answer(source, torch=torch, nn=nn))
    assert verdict.status == "failed", verdict.text
    last = verdict.text.split("not yet: ", 1)[-1]
    assert words in last, verdict.text
    assert "Traceback" not in verdict.text


@pytest.mark.filterwarnings("ignore:var_mean")  # one mistake divides by nothing
@pytest.mark.parametrize(("name", "old", "new", "words"), CHANGES)
def test_changed_solution_is_refused(name, old, new, words):
    source = EXERCISES[f"12.{name}"].solution
    assert source.count(old) == 1, f"{source.count(old)} times in the solution: {old}"
    refused(name, source.replace(old, new), words)


@pytest.mark.parametrize(("name", "source", "words"), WHOLE)
def test_wrong_answer_is_refused(name, source, words):
    refused(name, source, words)


def test_the_bugs_as_printed_are_refused():
    """The class in the exercise's text has exactly the three bugs it promises."""
    from booktools import notebook

    book = notebook.read(notebook.CHAPTERS / "12_normalization.ipynb")
    text = next(c.source for c in book.cells if "class ThreeBugs" in c.source)
    code = text.split("```python\n", 1)[1].split("```", 1)[0]
    first = code.replace("ThreeBugs", "Repaired")
    refused("three_bugs", first, "running_var is 1.25")
    second = first.replace(
        "0.1 * var.detach()",
        "0.1 * var.detach() * len(x) * x[0, 0].numel() / "
        "(len(x) * x[0, 0].numel() - 1)",
    )
    refused("three_bugs", second, "in eval(), with gradients on")
    third = second.replace("torch.is_grad_enabled()", "self.training")
    refused("three_bugs", third, "would be lost")

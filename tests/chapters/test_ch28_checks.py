"""The exercises of chapter 28: mistakes are refused, each for its own reason."""

import pytest
from answers import assert_changed, assert_verdict

from booktools import chapter_code

EXERCISES = chapter_code.exercises("28_attention")

# The exercise, a change of the solution's source, and words of the verdict; None where
# the changed solution is right, too.
CHANGES = [
    ("allowed_pairs", "place < lengths", "place <= lengths", "two of three"),
    ("allowed_pairs", "place <= place[:, None]", "place < place[:, None]", "two of"),
    ("allowed_pairs", "place <= place[:, None]", "place >= place[:, None]", "two of"),
    ("allowed_pairs", "if causal", "if not causal", "two of three, causal"),
    ("allowed_pairs", "return real & (", "return (", "two of three, causal"),
    ("allowed_pairs", "return real & (", "return ~real | ~(", "two of three, causal"),
    ("allowed_pairs", "real.expand(-1, 1, n, n)", "real", "one token"),
    (
        "allowed_pairs",
        "real.expand(-1, 1, n, n)",
        "real.expand(-1, 1, n, n) & real.mT",
        "two of three",
    ),
    ("allowed_pairs", "lengths[:, None, None, None]", "lengths[0]", "one token"),
    ("allowed_pairs", "real & (", "real & torch.ones(n, n).tril().bool() & (", None),
    (
        "allowed_pairs",
        "place = torch.arange(n, device=lengths.device)",
        "place = torch.arange(int(lengths.max()))",
        "two of three, causal",
    ),
    ("relative_bias", "place - place[:, None]", "place[:, None] - place", "two tokens"),
    ("relative_bias", "distance + span - 1", "distance", "two tokens"),
    ("relative_bias", "distance + span - 1", "distance + n - 1", "fewer tokens"),
    ("relative_bias", "distance + span - 1", "distance.abs()", "two tokens"),
    ("relative_bias", "n > span", "n > table.shape[1]", "more tokens than the span"),
    ("relative_bias", "n > span", "False", "more tokens than the span"),
    ("relative_bias", "ValueError(", "IndexError(", "more tokens than the span"),
    ("relative_bias", "table[:, dis", "table.detach()[:, dis", "no gradient"),
    ("relative_bias", "table[:, dis", "table.float()[:, dis", "integers stay"),
    (
        "relative_bias",
        "table[:, distance + span - 1]",
        "table.index_select(1, (distance + span - 1).flatten()).unflatten(1, (n, n))",
        None,
    ),
    ("repaired", "self.heads, d // self.heads\n", "d // self.heads, self.heads\n", ""),
    ("repaired", "d // self.heads)  # bug 2", "d)  # bug 2", "two heads"),
    ("repaired", "softmax(-1)", "softmax(-2)", "add up to 1"),
    ("repaired", "~allowed", "allowed", "one token"),
    (
        "repaired",
        "scores = scores.masked_fill(~allowed, -math.inf)",
        "scores = scores",
        "take part in the softmax",
    ),
    (
        "repaired",
        "scores.softmax(-1)",
        "scores.softmax(-1).masked_fill(~allowed, 0)",
        None,
    ),
    (
        "repaired",
        "scores = scores.masked_fill(~allowed, -math.inf)",
        "scores = scores.masked_fill(~allowed, 0)",
        "take part in the softmax",
    ),
    ("repaired", ".transpose(1, 2).reshape(b, n, d)", ".reshape(b, n, d)", "one token"),
    ("repaired", "self.out((weights", "((weights", "one token"),
    ("repaired", "f(x).view(shape)", "f(x.contiguous()).view(shape)", None),
    ("reads", "(slope != 0)", "(slope > 0)", "slopes below 0"),
    ("reads", "(slope != 0)", "(slope.abs() > 1e-8)", "tiny slopes"),
    ("reads", "for number in numbers:", "for number in [numbers.sum()]:", "behind"),
    ("reads", "for number in numbers:", "for number in numbers[:1]:", "turned"),
    ("reads", ".any(-1)", ".all(-1)", "the table is wrong"),
    ("reads", "(slope != 0).any(-1)", "slope.sum(-1) != 0", "cancel in one token"),
    ("relative_bias", "n > span", "n >= span", "one token"),
    ("repaired", "math.sqrt(d // self.heads)", "math.sqrt(self.heads)", "root right"),
    ("reads", "found[i] |=", "found[i] =", "the table is wrong"),
    ("reads", "x.detach().clone().requires_grad_()", "x.requires_grad_()", "changed"),
    ("reads", "@torch.enable_grad()\n", "", "under torch.no_grad()"),
    (
        "reads",
        "    if not out.requires_grad:\n        return found\n",
        "",
        "a constant",
    ),
    ("reads", "(len(out), len(x)", "(len(x), len(x)", "the mean"),
    ("reads", ", materialize_grads=True", "", "trained, but without x"),
    ("merge", "logs.logsumexp(0)", "logs.exp().sum(0).log()", "near 1000"),
    ("merge", "logs.logsumexp(0)", "logs.sum(0)", "the first example"),
    ("merge", "(logs - safe).exp()", "logs.softmax(0)", "no machine has a key"),
    ("merge", "(logs - safe).exp()", "(logs - total).exp()", "no machine has a key"),
    (
        "merge",
        "(logs - safe).exp()",
        "torch.full_like(logs, 1 / len(logs))",
        "the first example",
    ),
    ("merge", ", total", ", total.exp()", "one machine"),
    ("merge", "logs.logsumexp(0)", "logs.amax(0)", "the first example"),
    (
        "merge",
        "logs.logsumexp(0)",
        "torch.logaddexp(logs[0], logs[-1])",
        "one machine",
    ),
]


@pytest.mark.parametrize(("name", "old", "new", "says"), CHANGES)
def test_changed_solutions(name, old, new, says):
    assert_changed(EXERCISES[f"28.{name}"], old, new, says)


FAULTS = {
    "shape = b, n, self.heads, d // self.heads": (
        "shape = b, self.heads, n, d // self.heads"
    ),
    "f(x).view(shape).transpose(1, 2)": "f(x).view(shape)",
    "d // self.heads)  # bug 2": "d)  # bug 2",
    "scores = scores.masked_fill(~allowed, -math.inf)": "scores = scores",
    "softmax(-1)": "softmax(-2)",
    "(weights @ v).transpose(1, 2).reshape(b, n, d)": "(weights @ v).reshape(b, n, d)",
}


def test_the_printed_class_is_refused():
    exercise = EXERCISES["28.repaired"]
    broken = exercise.solution
    for right, wrong in FAULTS.items():
        assert right in broken
        broken = broken.replace(right, wrong)
    assert_verdict(exercise, broken, "one head")


@pytest.mark.parametrize(
    "kept",
    [
        ("shape = b", "f(x).view(shape)", "(weights @ v)"),
        ("d // self.heads)  # bug 2",),
        ("scores = scores",),
        ("softmax",),
    ],
)
def test_three_faults_mended_are_not_enough(kept):
    exercise = EXERCISES["28.repaired"]
    source = exercise.solution
    for right, wrong in FAULTS.items():
        if right.startswith(kept):
            source = source.replace(right, wrong)
    assert source != exercise.solution
    assert_verdict(exercise, source, "")


JACOBIAN = """
def reads(function, x):
    slopes = torch.autograd.functional.jacobian(function, x)
    return (slopes != 0).any(-1).any(1)
"""
POKED = """
def reads(function, x):
    out = function(x)
    found = torch.zeros(len(out), len(x), dtype=torch.bool)
    for j in range(len(x)):
        moved = x.clone()
        moved[j] *= 3.0
        found[:, j] = (function(moved) != out).any(-1)
    return found
"""
ADDED = """
@torch.enable_grad()
def reads(function, x):
    x = x.detach().clone().requires_grad_()
    out = function(x)
    found = torch.zeros(len(out), len(x), dtype=torch.bool)
    if not out.requires_grad:
        return found
    for i, row in enumerate(out):
        (slope,) = torch.autograd.grad(
            row.square().sum(), x, retain_graph=True, materialize_grads=True)
        found[i] = (slope != 0).any(-1)
    return found
"""
ONE_TOP = """
def merge(outs, logs):
    top = logs.amax() if logs.numel() else 0.0
    raised = (logs - (0.0 if top == -math.inf else top)).exp()
    total = raised.sum(0)
    out = (raised[..., None] * outs).sum(0) / total.masked_fill(total == 0, 1)[:, None]
    return out, total.log() + top
"""
EVEN = """
def merge(outs, logs):
    total = logs.logsumexp(0)
    shares = torch.where(total == -math.inf, 1 / len(logs), (logs - total).exp())
    return (shares[..., None] * outs).sum(0), total
"""
ONE_BY_ONE = """
def merge(outs, logs):
    out, log = outs[0], logs[0]
    for other, new in zip(outs[1:], logs[1:]):
        total = torch.logaddexp(log, new)
        safe = torch.where(total == -math.inf, 0.0, total)
        out = (log - safe).exp()[:, None] * out + (new - safe).exp()[:, None] * other
        log = total
    return out, log
"""
LIBRARY_HEADS = """
class Repaired(nn.Module):
    def __init__(self, d, heads):
        super().__init__()
        self.heads = heads
        self.query, self.key = nn.Linear(d, d), nn.Linear(d, d)
        self.value, self.out = nn.Linear(d, d), nn.Linear(d, d)

    def forward(self, x, allowed):
        q, k, v = (
            torch.stack(f(x).chunk(self.heads, -1), 1)
            for f in (self.query, self.key, self.value)
        )
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
        return self.out(torch.cat(y.unbind(1), -1))
"""
ROWS = """
def allowed_pairs(lengths, n, causal):
    mask = torch.zeros(len(lengths), 1, n, n, dtype=torch.bool)
    for row, length in zip(mask, lengths.tolist()):
        row[:, :, :length] = True
    return mask.tril() if causal else mask
"""


@pytest.mark.parametrize(
    ("name", "source", "says"),
    [
        ("reads", JACOBIAN, "no outputs"),
        ("reads", POKED, "rounding"),
        ("reads", ADDED, "outputs of 0"),
        ("reads", ADDED.replace("square", "abs"), "outputs of 0"),
        ("merge", ONE_TOP, "queries far apart"),
        ("merge", EVEN, "no machine has a key"),
        ("merge", ONE_BY_ONE, None),
        ("repaired", LIBRARY_HEADS, None),
        ("allowed_pairs", ROWS, None),
        ("repaired", "Repaired = nn.Linear", "the layer query must be"),
        ("repaired", "def Repaired(d, heads):\n    return d", "the class itself"),
        ("reads", "def reads(function, x):\n    return x", "torch.float64"),
    ],
)
def test_other_answers(name, source, says):
    assert_verdict(EXERCISES[f"28.{name}"], source, says)

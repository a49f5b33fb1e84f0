"""The exercises of chapter 32: mistakes are refused, each for its own reason."""

import pytest
from answers import assert_changed, assert_verdict

from booktools import chapter_code

EXERCISES = chapter_code.exercises("32_shipping")

# The exercise, a change of the solution's source, and words of the verdict.
CHANGES = [
    (
        "percentile",
        "-(-percent * len(times) // 100)",
        "percent * len(times) // 100",
        "",
    ),
    ("percentile", "[rank - 1]", "[min(rank, len(times) - 1)]", "the 50th of four"),
    (
        "percentile",
        "-(-percent * len(times) // 100)",
        "__import__('math').ceil(percent / 100 * len(times))",
        "the 7th of a hundred",
    ),
    (
        "percentile",
        "-(-percent * len(times) // 100)",
        "max(1, round(percent * len(times) / 100))",
        "the 51st of four",
    ),
    (
        "percentile",
        "return sorted(times)[rank - 1]",
        "times.sort()\n    return times[rank - 1]",
        "changed",
    ),
    (
        "percentile",
        "return sorted(times)[rank - 1]",
        "return float(np.percentile(times, percent))",
        "the 50th of four",
    ),
    (
        "percentile",
        "return sorted(times)[rank - 1]",
        "return next(t for t in sorted(times) "
        "if 100 * sum(u <= t for u in times) >= percent * len(times))",
        None,
    ),
    ("quantize_groups", "/ 7\n", "/ 8\n", "one group"),
    ("quantize_groups", ".amax(2)", ".amax((1, 2), keepdim=True)[:, :, 0]", "two"),
    ("quantize_groups", "groups.abs().amax(2)", "groups.amax(2)", "shorter"),
    ("quantize_groups", ".round()", ".floor()", "two groups"),
    ("quantize_groups", ".round()", "", "two groups"),
    (
        "quantize_groups",
        "    scales = torch.where(scales > 0, scales, torch.ones_like(scales))\n",
        "",
        "a group of zeros",
    ),
    ("quantize_groups", ".to(torch.int8)", "", "one group"),
    ("quantize_groups", "[:, :columns], scales", ", scales", "shorter"),
    ("quantize_groups", "groups.abs()", "groups.float().abs()", "float64"),
    (
        "quantize_groups",
        "torch.where(scales > 0, scales, torch.ones_like(scales))",
        "scales.clamp(min=1e-8)",
        "a group of zeros",
    ),
    ("quantize_groups", ".clamp(-7, 7)", "", None),
    (
        "median_time",
        "    for _ in range(warm):\n        call()\n",
        "",
        "one to warm up",
    ),
    (
        "median_time",
        "    taken = []\n    for _ in range(repeats):\n        start = clock()\n",
        "    taken = []\n    start = clock()\n    for _ in range(repeats):\n",
        "three equal calls",
    ),
    (
        "median_time",
        "(taken[(repeats - 1) // 2] + taken[repeats // 2]) / 2",
        "sum(taken) / repeats",
        "one slow call",
    ),
    (
        "median_time",
        "(taken[(repeats - 1) // 2] + taken[repeats // 2]) / 2",
        "taken[repeats // 2]",
        "an even number",
    ),
    ("median_time", "    taken.sort()\n", "", "in disorder"),
    (
        "median_time",
        "clock() - start",
        "(clock(), clock())[1] - start",
        "looks at the clock",
    ),
    ("median_time", "for _ in range(repeats)", "for _ in range(repeats - 1)", ""),
    (
        "median_time",
        "    taken.sort()\n    return (taken[(repeats - 1) // 2] "
        "+ taken[repeats // 2]) / 2",
        "    import statistics\n    return statistics.median(taken)",
        None,
    ),
    ("fold_before", "norm.running_var + norm.eps", "norm.running_var", "one input"),
    (
        "fold_before",
        "1 / (norm.running_var + norm.eps).sqrt()",
        "1 / (norm.running_var + norm.eps)",
        "one input",
    ),
    ("fold_before", "-norm.running_mean * scale", "-norm.running_mean", "one input"),
    ("fold_before", "weight * scale", "weight * scale[:, None]", "inputs"),
    ("fold_before", "weight @ shift", "weight @ norm.running_mean", "one input"),
    ("fold_before", "if linear.bias is not None", "if True", "without bias"),
    ("fold_before", "if norm.weight is not None", "if True", "without weight"),
    ("fold_before", ", dtype=weight.dtype", "", "float64"),
    (
        "fold_before",
        "    new = nn.Linear(linear.in_features, linear.out_features,\n"
        "                    device=weight.device, dtype=weight.dtype)\n",
        "    new = linear\n",
        "new",
    ),
    (
        "fold_before",
        "    weight = linear.weight\n",
        "    norm.running_mean.zero_()\n    weight = linear.weight\n",
        "changed",
    ),
    (
        "fold_before",
        "    weight = linear.weight\n",
        "    norm.eval()\n    weight = linear.weight\n",
        "the norm's mode was changed",
    ),
    ("fold_before", "weight @ shift", "(weight * shift).sum(1)", None),
    ("fuse", "(kind, inputs, made))", "(kind, inputs[:2], made))", "two pairs"),
    (
        "fuse",
        "made not in outputs",
        "made not in outputs[:1]",
        "the name between is an output",
    ),
    ("fuse", " and len(after) == 1", " and after", "somebody else reads it"),
    ("fuse", "made not in outputs and ", "", "the name between is an output"),
    ("fuse", '                and after[0][0] == "Relu"', "", "no Relu"),
    ("fuse", "        elif made in gone:\n            continue\n", "", "Conv and Relu"),
    ("fuse", 'kind == "Conv" and ', "", "a second Relu stays"),
    ("fuse", 'kind, made = "FusedConv", after[0][2]', 'kind = "FusedConv"', "Conv and"),
    (
        "fuse",
        "    return fused",
        "    return sorted(fused, key=lambda node: node[2])",
        "before, between and behind",
    ),
    ("fuse", "len(after) == 1", "len(set(after)) == 1", None),
    (
        "fuse",
        "        elif made in gone:",
        "        elif kind == 'Relu':",
        "only a Relu",
    ),
]


@pytest.mark.parametrize(("name", "old", "new", "says"), CHANGES)
def test_a_changed_solution(name, old, new, says):
    assert_changed(EXERCISES[f"32.{name}"], old, new, says)


NEXT_NODE = """
def fuse(nodes, outputs):
    fused = []
    for node in nodes:
        if (fused and fused[-1][0] == "Conv" and node[0] == "Relu"
                and node[1] == (fused[-1][2],) and fused[-1][2] not in outputs):
            _, inputs, _ = fused.pop()
            node = ("FusedConv", inputs, node[2])
        fused.append(node)
    return fused
"""
BY_ROWS = """
def quantize_groups(weight, size):
    q = torch.zeros(weight.shape, dtype=torch.int8)
    scales = weight.new_ones(len(weight), -(-weight.shape[1] // size))
    for k in range(scales.shape[1]):
        part = weight[:, k * size:(k + 1) * size]
        largest = part.abs().amax(1)
        scales[:, k] = torch.where(largest > 0, largest / 7, 1)
        q[:, k * size:(k + 1) * size] = (part / scales[:, k, None]).round()
    return q, scales
"""
SMALLEST = """
def median_time(call, warm, repeats, clock):
    taken = []
    for _ in range(warm + repeats):
        start = clock()
        call()
        taken.append(clock() - start)
    taken = sorted(taken)[:repeats]  # as if the first calls were always the slowest
    return (taken[(repeats - 1) // 2] + taken[repeats // 2]) / 2
"""
AS_PUBLISHED = """
def median_time(call, warm, repeats, clock):
    taken = []
    start = clock()
    for _ in range(warm + repeats):
        call()
        taken.append(clock() - start)
    return sum(taken) / len(taken)
"""


@pytest.mark.parametrize(
    ("name", "source", "says"),
    [
        ("fuse", NEXT_NODE, "somebody else reads it"),
        ("quantize_groups", BY_ROWS, None),
        ("median_time", AS_PUBLISHED, "one to warm up"),
        ("median_time", SMALLEST, "two"),
    ],
)
def test_another_answer(name, source, says):
    assert_verdict(EXERCISES[f"32.{name}"], source, says)

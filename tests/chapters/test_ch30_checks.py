"""The exercises of chapter 30: mistakes are refused, each for its own reason."""

import pytest
from answers import assert_changed, assert_verdict

from booktools import chapter_code

EXERCISES = chapter_code.exercises("30_detr")

# The exercise, a change of the solution's source, and words of the verdict; None where
# the changed solution is right, too.
CHANGES = [
    ("is_best", "left >= 0", "left > 0", "one pair"),
    ("is_best", "(left >= 0).all().item()", "True", "a price above a cost elsewhere"),
    ("is_best", "once and", "True and", "one column twice"),
    ("is_best", "left[i, j].item() == 0", "True", "prices too low"),
    (
        "is_best",
        "left[i, j].item() == 0",
        "left[j, i].item() == 0",
        "three in a circle",
    ),
    ("is_best", "u[:, None] - v", "u - v[:, None]", "two by two"),
    ("is_best", "u[:, None] - v", "u[:, None] + v", "one pair"),
    (
        "is_best",
        "all(left[i, j].item() == 0 for i, j in enumerate(columns))",
        "(u.sum() + v.sum()).item() == sum(costs[i, j].item()"
        " for i, j in enumerate(columns))",
        None,
    ),
    ("class_targets", "queries), classes)", "queries), classes - 1)", "one pair"),
    ("class_targets", "queries), classes)", "queries), 0)", "one pair"),
    ("class_targets", "own[thing]", "own[query]", ""),
    ("class_targets", "own[thing]", "thing", "one pair"),
    ("class_targets", "row[query] =", "row[thing] =", "one pair"),
    ("class_targets", "row[query] =", "row[sorted(chosen).index(query)] =", "one pair"),
    ("class_targets", "out = torch.full", "out = 1.0 * torch.full", "one pair"),
    (
        "class_targets",
        "        for query, thing in zip(chosen, objects):\n"
        "            row[query] = own[thing]",
        "        row[list(chosen)] = own[list(objects)]",
        None,
    ),
    ("denoising_mask", "group >= 0", "group < 0", "one of denoising"),
    ("denoising_mask", "& (group >= 0)", "", "one of denoising"),
    ("denoising_mask", "return (", "return ~(", "no group"),
    ("denoising_mask", "(group >= 0)", "(group[:, None] >= 0)", "one of denoising"),
    (
        "denoising_mask",
        "repeat_interleave(each)",
        "repeat(each)",
        "two groups of two",
    ),
    (
        "denoising_mask",
        "(group[:, None] != group) & (group >= 0)",
        "(group >= 0).expand(len(group), -1)",
        "one of denoising",
    ),
    ("denoising_mask", "group[:, None] != group", "group[:, None] < group", "of one"),
    ("class_costs", "softmax(-1)", "softmax(0)", "-0.5"),
    ("class_costs", ".abs()", "", "one query"),
    ("class_costs", ".sum(-1)", ".mean(-1)", "-0.5"),
    ("class_costs", "- 2 * overlap", "+ 2 * overlap", "-0.5"),
    ("class_costs", '"xyxy"', '"cxcywh"', "-0.5"),
    ("class_costs", "@torch.no_grad()\n", "", "no gradient"),
    ("class_costs", "[:, labels]", "[:, :len(labels)]", "labels out of order"),
    ("class_costs", "[:, labels]", "[:, 1:]", "too large"),
    ("class_costs", "logits.softmax(-1)", "logits.sigmoid()", "too large"),
    ("class_costs", "generalized_box_iou", "box_iou", "one"),
    ("class_costs", "5 * distance", "distance", "-0.5"),
    (
        "class_costs",
        "(boxes[:, None] - target).abs().sum(-1)",
        "torch.cdist(boxes, target.to(boxes), p=1)",
        None,
    ),
    ("match_or_leave", "if pair[0] < queries", "", ""),
    ("match_or_leave", "(objects, objects), leave", "(1, objects), leave", ""),
    ("match_or_leave", "(objects, objects), leave", "(objects, objects), 0.0", ""),
    ("match_or_leave", "torch.cat([costs, nobody])", "costs", ""),
    ("match_or_leave", "sorted(pair", "list(pair", None),
    (
        "match_or_leave",
        "linear_sum_assignment(torch.cat([costs, nobody]))",
        "linear_sum_assignment(costs.clamp(max=leave))",
        "",
    ),
]


@pytest.mark.parametrize(("name", "old", "new", "says"), CHANGES)
def test_changed_solutions(name, old, new, says):
    assert_changed(EXERCISES[f"30.{name}"], old, new, says)


PRINTED = """
@torch.no_grad()
def class_costs(logits, boxes, labels, target):
    scores = logits.softmax(0)[:, labels]
    distance = (boxes[:, None] - target).mean(-1)
    overlap = ops.generalized_box_iou(boxes, target)
    return 5 * distance + 2 * overlap - scores
"""
DROPPED = """
def match_or_leave(costs, leave):
    rows, columns = linear_sum_assignment(costs)
    return [(i, j) for i, j in zip(rows.tolist(), columns.tolist())
            if costs[i, j] < leave]
"""
GREEDY = """
def match_or_leave(costs, leave):
    left, pairs = costs.clone(), []
    while left.numel() and left.min() < leave:
        i, j = divmod(left.argmin().item(), left.shape[1])
        pairs.append((i, j))
        left[i], left[:, j] = math.inf, math.inf
    return sorted(pairs)
"""
SQUARE = """
def match_or_leave(costs, leave):
    queries, objects = costs.shape
    n = queries + objects
    table = torch.zeros(n, n, dtype=costs.dtype)
    table[:queries, :objects] = costs
    table[queries:, :objects] = leave
    rows, columns = linear_sum_assignment(table)
    return [(i, j) for i, j in zip(rows.tolist(), columns.tolist())
            if i < queries and j < objects]
"""
LOOPS = """
def denoising_mask(queries, groups, each):
    n = queries + groups * each
    mask = torch.ones(n, n, dtype=torch.bool)
    mask[:, :queries] = False
    for k in range(queries, n, max(each, 1)):
        mask[k:k + each, k:k + each] = False
    return mask
"""
BY_TENSOR = """
def is_best(costs, columns, u, v):
    if sorted(columns) != list(range(len(columns))):
        return False
    for i, row in enumerate(costs.tolist()):
        for j, cost in enumerate(row):
            price = u[i].item() + v[j].item()
            if price > cost or (columns[i] == j and price != cost):
                return False
    return True
"""


@pytest.mark.parametrize(
    ("name", "source", "says"),
    [
        ("class_costs", PRINTED, "-0.5"),
        ("match_or_leave", DROPPED, "two by two, one is left"),
        ("match_or_leave", GREEDY, "nobody is left"),
        ("match_or_leave", SQUARE, None),
        ("denoising_mask", LOOPS, None),
        ("is_best", BY_TENSOR, None),
    ],
)
def test_other_answers(name, source, says):
    assert_verdict(EXERCISES[f"30.{name}"], source, says)

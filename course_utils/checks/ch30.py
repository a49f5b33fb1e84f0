"""Exercises of chapter 30, DETR."""

from itertools import permutations

import torch
from torchvision import ops

from course_utils.checks.core import Case, Wrong, exercise
from course_utils.checks.samples import uniform

__all__: list[str] = []


def whole(rows) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


# --- 1 ------------------------------------------------------------------------


@exercise(
    "30.is_best",
    hint="Subtract both prices from the table first, so that each place says what is "
    "left of its cost. Which numbers may be left, and which at the chosen pairs?",
)
def is_best() -> list[Case]:
    def case(says, costs, columns, u, v, wanted):
        given = whole(costs).reshape(len(columns), len(columns))
        return Case(says, args=(given, columns, whole(u), whole(v)), expect=wanted)

    table = [[1, 2, 7, 8], [2, 9, 8, 9], [6, 7, 3, 5], [8, 8, 4, 9]]
    best, u, v = [1, 0, 3, 2], [1, 2, 3, 4], [0, 1, 0, 2]
    return [
        case("one pair", [[5]], [0], [3], [2], True),
        case("prices too low for the pair", [[5]], [0], [1], [2], False),
        case("prices above the cost", [[5]], [0], [3], [4], False),
        case("two by two", [[1, 2], [2, 9]], [1, 0], [1, 2], [0, 1], True),
        case(
            "the other assignment of two by two",
            [[1, 2], [2, 9]],
            [0, 1],
            [1, 2],
            [0, 1],
            False,
        ),
        case("the chapter's table", table, best, u, v, True),
        case(
            "three in a circle",
            [[9, 2, 9], [9, 9, 4], [3, 9, 9]],
            [1, 2, 0],
            [1, 2, 3],
            [0, 1, 2],
            True,
        ),
        case("one column twice", [[1, 1], [1, 1]], [0, 0], [1, 1], [0, 0], False),
        case("a price above a cost elsewhere", table, best, [2, 2, 3, 4], v, False),
        case(
            "pairs are right, another place is overcharged",
            [[1, 0], [9, 1]],
            [0, 1],
            [1, 1],
            [0, 0],
            False,
        ),
        case("negative prices", [[-3, 0], [0, -3]], [0, 1], [-1, -1], [-2, -2], True),
        case(
            "another assignment, equally good",
            [[1, 1], [1, 1]],
            [1, 0],
            [1, 1],
            [0, 0],
            True,
        ),
        case("nobody", [], [], [], [], True),
    ]


# --- 2 ------------------------------------------------------------------------


@exercise(
    "30.class_targets",
    hint="Begin with a table full of `classes`, and overwrite the paired places.",
)
def class_targets() -> list[Case]:
    def case(says, pairs, labels, queries, classes, wanted):
        given = [torch.tensor(own, dtype=torch.int64) for own in labels]
        out = torch.tensor(wanted, dtype=torch.int64).reshape(len(pairs), queries)
        return Case(says, args=(pairs, given, queries, classes), expect=out)

    return [
        case("one pair", [([2], [0])], [[5]], 3, 7, [[7, 7, 5]]),
        case("no object", [([], [])], [[]], 3, 7, [[7, 7, 7]]),
        case("class 0", [([0], [0])], [[0]], 2, 4, [[0, 4]]),
        case("two objects, crossed", [([0, 2], [1, 0])], [[3, 1]], 3, 4, [[1, 4, 3]]),
        case("queries out of order", [([2, 0], [0, 1])], [[3, 1]], 3, 4, [[1, 4, 3]]),
        case(
            "two pictures",
            [([1], [0]), ([0, 1], [1, 0])],
            [[2], [0, 1]],
            2,
            3,
            [[3, 2], [1, 0]],
        ),
        case("an object without a query", [([0], [1])], [[0, 1]], 1, 2, [[1]]),
        case("every query is paired", [([0, 1], [0, 1])], [[1, 1]], 2, 2, [[1, 1]]),
        case("no pictures", [], [], 2, 2, []),
    ]


# --- 3 ------------------------------------------------------------------------


@exercise(
    "30.denoising_mask",
    hint="Give each query the number of its group, the ordinary ones -1, and compare "
    "the numbers of all pairs.",
)
def denoising_mask() -> list[Case]:
    def wanted(queries, groups, each):
        def group(k):
            return None if k < queries else (k - queries) // each

        n = queries + groups * each
        return torch.tensor(
            [
                [group(j) is not None and group(j) != group(i) for j in range(n)]
                for i in range(n)
            ],
            dtype=torch.bool,
        ).reshape(n, n)

    def case(says, *args):
        return Case(says, args=args, expect=wanted(*args))

    def served(answer):
        """In the library's layer no slope leads where none may."""
        torch.manual_seed(0)
        layer = torch.nn.MultiheadAttention(4, 1, batch_first=True)
        x = uniform(1, 6, 4, dtype=torch.float32).requires_grad_()
        out = layer(x, x, x, attn_mask=answer(2, 2, 2))[0]
        (slope,) = torch.autograd.grad(out[0, :2].square().sum(), x)
        if slope[0, 2:].abs().max() > 0:
            raise Wrong("in nn.MultiheadAttention ordinary queries read the answers")

    return [
        case("one query, no group", 1, 0, 3),
        case("one query, one of denoising", 1, 1, 1),
        case("one query, two groups of one", 1, 2, 1),
        case("two queries, a group of two", 2, 1, 2),
        case("two groups of two", 2, 2, 2),
        case("three groups of two", 3, 3, 2),
        case("no ordinary query", 0, 2, 2),
        case("groups of nobody", 2, 3, 0),
        case("nobody at all", 0, 0, 0),
        Case("it fits the library's layer", test=served),
    ]


# --- 4 ------------------------------------------------------------------------


@exercise(
    "30.class_costs",
    hint="Take one query and one object, and work out each of the three terms by hand. "
    "Which sign must a large overlap have in a cost?",
)
def class_costs() -> list[Case]:
    def wanted(logits, boxes, labels, target):
        scores = logits.double().softmax(-1)
        mine, other = (
            ops.box_convert(b.double(), "cxcywh", "xyxy") for b in (boxes, target)
        )
        overlap = ops.generalized_box_iou(mine, other)
        out = torch.zeros(len(boxes), len(target), dtype=torch.float64)
        for i in range(len(boxes)):
            for j, label in enumerate(labels.tolist()):
                distance = sum(
                    abs(boxes[i, k].item() - target[j, k].item()) for k in range(4)
                )
                out[i, j] = 5 * distance - 2 * overlap[i, j] - scores[i, label]
        return out

    def case(says, q, n, classes, seed, **change):
        logits = uniform(q, classes + 1, seed=seed)
        boxes = uniform(q, 4, seed=seed + 1, low=0.2, high=0.5)
        target = uniform(n, 4, seed=seed + 2, low=0.2, high=0.5)
        labels = torch.arange(n) % classes
        given = {"logits": logits, "boxes": boxes, "labels": labels, "target": target}
        given |= change
        args = tuple(given.values())
        return Case(says, args=args, expect=wanted(*args), within=1e-5)

    def gradient(answer):
        boxes = uniform(2, 4, low=0.2, high=0.5).requires_grad_()
        logits = uniform(2, 3).requires_grad_()
        out = answer(logits, boxes, torch.tensor([1]), whole([[0.5, 0.5, 0.2, 0.2]]))
        if not isinstance(out, torch.Tensor) or out.requires_grad:
            raise Wrong("the costs carry a gradient: the choice of pairs has no slope")

    one = {
        "logits": whole([[0, 0]]),
        "boxes": whole([[0.5, 0.5, 0.4, 0.2]]),
        "target": whole([[0.5, 0.5, 0.4, 0.4]]),
    }
    return [
        case("one query, one object: -0.5", 1, 1, 1, 0, **one),
        case(
            "a query that is too large", 1, 1, 1, 1, boxes=whole([[0.5, 0.5, 0.9, 0.9]])
        ),
        case("two queries, one object", 2, 1, 1, 2),
        case("one query, two classes", 1, 2, 2, 3),
        case("three queries, two objects", 3, 2, 2, 4),
        case("labels out of order", 2, 3, 3, 5, labels=torch.tensor([2, 0, 2])),
        case("large logits", 2, 2, 2, 6, logits=1000 * uniform(2, 3, seed=6)),
        case("no objects", 3, 0, 2, 7),
        case("no queries", 0, 2, 2, 8),
        Case("no gradient", test=gradient),
    ]


# --- 5 ------------------------------------------------------------------------


@exercise(
    "30.match_or_leave",
    hint="Add rows to the table that stand for nobody. How many does it take, and what "
    "does each of their places cost?",
)
def match_or_leave() -> list[Case]:
    def best(costs, leave):
        """All choices: each object a query of its own, or -1."""
        rows, columns = costs.shape
        slots = [*range(rows), *[-1] * columns]
        choices = set(permutations(slots, columns))

        def total(choice):
            return sum(
                leave if i < 0 else costs[i, j].item() for j, i in enumerate(choice)
            )

        choice = min(choices, key=total)
        return sorted((i, j) for j, i in enumerate(choice) if i >= 0)

    def case(says, costs, leave):
        costs = whole(costs) if isinstance(costs, list) else costs
        return Case(says, args=(costs, leave), expect=best(costs, leave))

    pair = [[1, 2], [3, 9]]
    return [
        case("one pair, cheap", [[1]], 2.0),
        case("one pair, too dear", [[3]], 2.0),
        case("two by two, nobody is left", pair, 10.0),
        case("two by two, one is left", pair, 2.5),
        case("two by two, all are left", pair, 0.5),
        case("leaving one changes the other's pair", [[1, 2], [3, 9]], 4.5),
        case("negative costs", [[-1, -5], [-4, -3]], -2.0),
        case("fewer queries than objects", [[4, 1, 3]], 6.0),
        case("fewer queries, and the best is too dear", [[4, 9, 3]], 1.0),
        case("more queries than objects", uniform(4, 2, seed=1, low=0), 1.0),
        case("four by three", uniform(4, 3, seed=2, low=0), 1.0),
        case("three by four", uniform(3, 4, seed=3, low=0), 0.9),
        case("no objects", torch.zeros(3, 0), 1.0),
        case("no queries", torch.zeros(0, 2), 1.0),
    ]

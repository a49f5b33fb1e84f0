"""Exercises of chapter 25, detection metrics."""

import math

import torch

from course_utils.checks.core import Case, Wrong, exercise
from course_utils.detection.metrics import average_precision

__all__: list[str] = []

NONE, NO_VERDICTS = torch.zeros(0), torch.zeros(0, dtype=torch.bool)


def _list(n: int, seed: int, ties: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores with ties, exact in float32, and verdicts."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(1, ties, (n,), generator=generator) / ties
    return scores, torch.rand(n, generator=generator) < 0.5


def _verdicts(*values: int) -> torch.Tensor:
    return torch.tensor(values).bool()


# --- 1 ------------------------------------------------------------------------


@exercise(
    "25.f1_score",
    hint="Keep the detections with `scores >= threshold`; F1 is twice the hits, "
    "divided by the number kept plus the number of objects.",
)
def f1_score() -> list[Case]:
    def case(says, scores, correct, num_targets, threshold):
        kept = scores >= threshold
        total = kept.sum().item() + num_targets
        hits = (kept & correct).sum().item()
        expect = 2 * hits / total if total else 0.0
        args = (scores, correct, num_targets, threshold)
        return Case(says, args=args, expect=expect)

    three, verdicts = torch.tensor([0.9, 0.8, 0.3]), _verdicts(1, 0, 1)
    return [
        case("one right detection of one object", three[:1], verdicts[:1], 1, 0.5),
        case("the example of the text", three, verdicts, 4, 0.5),
        case(
            "a score equal to the threshold", torch.tensor([0.5]), _verdicts(1), 1, 0.5
        ),
        case("nothing is kept", three, verdicts, 4, 0.95),
        case("a score just below", torch.tensor([0.48]), _verdicts(1), 1, 0.5),
        case("no object, one false alarm", three[1:2], verdicts[1:2], 0, 0.5),
        case("nothing at all", NONE, NO_VERDICTS, 0, 0.5),
        case("no detections", NONE, NO_VERDICTS, 3, 0.5),
        case("many", *_list(30, 1), 40, 0.4),
    ]


# --- 2 ------------------------------------------------------------------------


@exercise(
    "25.voc_match",
    hint="Start from the chapter's match: choose the best of all objects first, and "
    "ask only then whether it is free.",
)
def voc_match() -> list[Case]:
    def rule(scores, iou, threshold):
        right, taken = [False] * len(scores), set()
        for d in scores.argsort(descending=True, stable=True).tolist():
            if iou.shape[1] and iou[d].max() >= threshold:
                best = iou[d].tolist().index(iou[d].max().item())
                right[d] = best not in taken
                taken.add(best)
        return right

    def case(says, scores, iou, threshold=0.5):
        scores = torch.tensor(scores)
        args = (scores, iou, threshold)
        return Case(says, args=args, expect=rule(scores, iou, threshold))

    generator = torch.Generator().manual_seed(3)
    many = torch.randint(9, (12, 5), generator=generator) / 8
    second = torch.tensor([[0.75, 0.0], [0.625, 0.5625]])
    return [
        case("one detection, one object", [0.9], torch.tensor([[0.75]])),
        case("an IoU equal to the threshold", [0.9], torch.tensor([[0.5]])),
        case(
            "two detections of one object", [0.9, 0.8], torch.tensor([[0.75], [0.875]])
        ),
        case(
            "the better score comes second", [0.8, 0.9], torch.tensor([[0.75], [0.875]])
        ),
        case("its best object is taken, another would do", [0.9, 0.8], second),
        case("equal scores", [0.5, 0.5], torch.tensor([[0.75], [0.875]])),
        case("a poor box takes nothing", [0.9, 0.8], torch.tensor([[0.25], [0.75]])),
        case("no objects", [0.9, 0.8], torch.zeros(2, 0)),
        case("no detections", [], torch.zeros(0, 3)),
        case("equal overlaps", [0.9, 0.8], torch.tensor([[0.75, 0.75], [0.0, 0.625]])),
        case("many with ties", _list(12, 4)[0].tolist(), many),
    ]


# --- 3 ------------------------------------------------------------------------


@exercise(
    "25.cheapest_threshold",
    hint="Compute the cost for each different score, from the highest down, and "
    "begin with the cost of reporting nothing.",
)
def cheapest_threshold() -> list[Case]:
    def rule(scores, correct, num_targets, false_alarm, miss):
        best, least = math.inf, miss * num_targets
        for threshold in sorted(set(scores.tolist()), reverse=True):
            kept = scores >= threshold
            hits = (kept & correct).sum().item()
            cost = false_alarm * (kept.sum().item() - hits)
            cost += miss * (num_targets - hits)
            if cost < least:
                best, least = threshold, cost
        return best

    def case(says, scores, correct, num_targets, false_alarm, miss):
        args = (scores, correct, num_targets, false_alarm, miss)
        return Case(says, args=args, expect=rule(*args))

    three = torch.tensor([0.75, 0.5, 0.25])
    tied = torch.tensor([0.5, 0.5, 0.75])
    return [
        case("one right detection", three[:1], _verdicts(1), 1, 1, 1),
        case("one wrong detection: report nothing", three[:1], _verdicts(0), 1, 1, 1),
        case("objects that no detection finds", three[:1], _verdicts(0), 3, 1, 1),
        case("a miss costs more", three, _verdicts(1, 0, 1), 2, 1, 3),
        case("a false alarm costs more", three, _verdicts(1, 0, 1), 2, 3, 1),
        case("equal costs: the higher one", three, _verdicts(1, 0, 1), 2, 1, 1),
        case("not sorted", three.flip(0), _verdicts(1, 0, 1), 3, 1, 3),
        case("equal scores stay or go together", tied, _verdicts(1, 0, 1), 3, 3, 2),
        case("no detections", NONE, NO_VERDICTS, 2, 1, 1),
        case("many with ties", *_list(30, 5), 25, 1, 2),
    ]


# --- 4 ------------------------------------------------------------------------


@exercise(
    "25.fixed_ap",
    hint="Compare it line by line with curve_of and average_precision: what is "
    "sorted, what is counted, and from which end the envelope runs.",
)
def fixed_ap() -> list[Case]:
    def case(says, *pictures):
        scores, correct, counts = zip(*pictures, strict=True)
        expect = average_precision(torch.cat(scores), torch.cat(correct), sum(counts))
        return Case(says, args=(list(pictures),), expect=expect, within=1e-9)

    one = (torch.tensor([0.75]), _verdicts(1), 1)
    wrong_first = (torch.tensor([0.75, 0.5]), _verdicts(0, 1), 1)
    silent = (NONE, NO_VERDICTS, 2)
    late = (torch.tensor([0.25]), _verdicts(0), 0)
    return [
        case("one right detection of one object", one),
        case("the better score is wrong", wrong_first),
        case(
            "right, wrong, right",
            (torch.tensor([0.75, 0.5, 0.25]), _verdicts(1, 0, 1), 2),
        ),
        case("a picture without detections", one, silent),
        case("two pictures: one list", late, one),
        case("two pictures, scores that interleave", wrong_first, one, late),
        case("no detections", silent),
        case("no objects", late),
        case("many", *[(*_list(6, seed), 7) for seed in range(8)]),
    ]


# --- 5 ------------------------------------------------------------------------


@exercise(
    "25.calibration_error",
    hint="torch.bucketize(scores, edges, right=True) names the bin of each score; "
    "then go through the bins that hold something.",
)
def calibration_error() -> list[Case]:
    def rule(scores, correct, num_bins):
        error = 0.0
        for b in range(num_bins):
            inside = (scores >= b / num_bins) & (scores < (b + 1) / num_bins)
            if b == num_bins - 1:
                inside |= scores == 1
            if inside.any():
                gap = scores[inside].double().mean() - correct[inside].double().mean()
                error += abs(gap.item()) * inside.sum().item()
        return error / max(len(scores), 1)

    def case(says, scores, correct, num_bins):
        args = (scores, correct, num_bins)
        return Case(says, args=args, expect=rule(*args), within=1e-5)

    four = torch.tensor([0.125, 0.25, 0.875, 0.75])
    pairs = torch.tensor([0.3, 0.25, 0.7, 0.65, 0.9, 0.85], dtype=torch.float64)
    on_edges = pairs, _verdicts(1, 0, 1, 0, 0, 1)
    return [
        case("one right detection", torch.tensor([0.75]), _verdicts(1), 2),
        case("one bin", four, _verdicts(0, 0, 1, 1), 1),
        case("two bins of different size", four[:3], _verdicts(1, 0, 1), 2),
        case("too high here, too low there", four, _verdicts(1, 1, 0, 0), 2),
        case("a score on an edge", torch.tensor([0.5, 0.25]), _verdicts(1, 0), 2),
        case("a score of 1", torch.tensor([1.0]), _verdicts(0), 4),
        case("scores on the edges 0.3, 0.7, 0.9 of ten bins", *on_edges, 10),
        case("no detections", NONE, NO_VERDICTS, 5),
        case("many", _list(50, 6, 16)[0], _list(50, 6, 16)[1], 4),
    ]


# --- 6 ------------------------------------------------------------------------


@exercise(
    "25.f1_interval",
    hint="counts[draws] has shape (R, N, 3); sum over the pictures first, then "
    "compute F1 of each row.",
)
def f1_interval() -> list[Case]:
    def f1(counts):
        hits, wrong, missed = counts.double().sum(0).tolist()
        whole = 2 * hits + wrong + missed
        return 2 * hits / whole if whole else 0.0

    def rule(a, b, draws):
        gaps = [f1(a[draw]) - f1(b[draw]) for draw in draws]
        gaps = torch.tensor(gaps, dtype=torch.float64)
        return [gaps.quantile(q).item() for q in (0.025, 0.975)]

    def case(says, a, b, draws):
        expect = rule(a, b, draws)
        return Case(says, args=(a, b, draws), expect=expect, within=1e-5)

    def paired(answer):
        generator = torch.Generator().manual_seed(9)
        a = torch.randint(9, (20, 3), generator=generator)
        draws = torch.randint(20, (200, 20), generator=generator)
        low, high = answer(a.clone(), a.clone(), draws)
        if not (abs(low) < 1e-6 and abs(high) < 1e-6):
            raise Wrong(
                "a detector against itself: both ends must be 0, got "
                f"{low:.4f} and {high:.4f}; take the difference draw by draw"
            )

    generator = torch.Generator().manual_seed(8)
    a = torch.tensor([[3, 1, 0], [0, 0, 2]])
    b = torch.tensor([[1, 0, 2], [1, 2, 1]])
    counts = torch.randint(6, (2, 15, 3), generator=generator)
    draws = torch.randint(15, (100, 15), generator=generator)
    return [
        case("one draw of one picture", a[:1], b[:1], torch.tensor([[0]])),
        case("sums, not means: two pictures", a, b, torch.tensor([[0, 1]])),
        case("a picture drawn twice", a, b, torch.tensor([[0, 0], [1, 0]])),
        case("nothing there, nothing reported", 0 * a, b, torch.tensor([[0, 1]])),
        Case("a detector against itself", test=paired),
        case("many", counts[0], counts[1], draws),
    ]

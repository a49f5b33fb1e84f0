"""The exercises of chapter 25: mistakes are refused, each for its own reason."""

import itertools
import re

import numpy as np
import pytest
import torch

from booktools import notebook
from course_utils import checks

# Wrong answers, each with words of the verdict that must stop it.


def f1(scores, correct, num_targets, threshold, keep=torch.ge):
    kept = keep(scores, threshold)
    hits = (kept & correct).sum().item()
    total = kept.sum().item() + num_targets
    return 2 * hits / total if total else 0.0


def f1_above(scores, correct, num_targets, threshold):
    return f1(scores, correct, num_targets, threshold, torch.gt)


def f1_from_parts(scores, correct, num_targets, threshold):
    kept = scores >= threshold
    hits = (kept & correct).sum().item()
    precision, recall = hits / kept.sum().item(), hits / num_targets
    return 2 * precision * recall / (precision + recall)


def f1_all(scores, correct, num_targets, threshold):
    return f1(scores, correct, num_targets, 0.0)


def f1_tensor(scores, correct, num_targets, threshold):
    return torch.tensor(f1(scores, correct, num_targets, threshold))


def f1_of_found(scores, correct, num_targets, threshold):
    return f1(scores, correct, int(correct.sum()), threshold)


def voc(scores, iou, threshold, free=False, order=True, strict=False, last=False):
    right, taken = [False] * len(scores), set()
    ranks = range(len(scores))
    if order:
        ranks = scores.argsort(descending=True, stable=True).tolist()
    for d in ranks:
        rivals = [g for g in range(iou.shape[1]) if not (free and g in taken)]
        if not rivals:
            continue
        best = max(rivals, key=lambda g: (iou[d, g].item(), g if last else -g))
        enough = iou[d, best] > threshold if strict else iou[d, best] >= threshold
        if enough and best not in taken:
            taken.add(best)
            right[d] = True
    return right


def voc_as_coco(scores, iou, threshold):
    return voc(scores, iou, threshold, free=True)


def voc_unsorted(scores, iou, threshold):
    return voc(scores, iou, threshold, order=False)


def voc_above(scores, iou, threshold):
    return voc(scores, iou, threshold, strict=True)


def voc_last(scores, iou, threshold):
    return voc(scores, iou, threshold, last=True)


def voc_argmax(scores, iou, threshold):
    best = iou.argmax(1)
    return voc(scores, iou, threshold) if len(best) else []


def voc_no_marks(scores, iou, threshold):
    return (iou >= threshold).any(1).tolist()


def voc_sorted_output(scores, iou, threshold):
    order = scores.argsort(descending=True, stable=True)
    right = voc(scores, iou, threshold)
    return [right[d] for d in order]


def cheapest(scores, correct, num_targets, false_alarm, miss, up=False, inf=True):
    costs = {float("inf"): miss * num_targets} if inf else {}
    for t in scores.tolist():
        kept = scores >= t
        hits = (kept & correct).sum().item()
        wrong = kept.sum().item() - hits
        costs[t] = false_alarm * wrong + miss * (num_targets - hits)
    return min(costs, key=lambda t: (costs[t], t if up else -t))


def cheapest_lower(*args):
    return cheapest(*args, up=True)


def cheapest_never_silent(*args):
    return cheapest(*args, inf=False)


def cheapest_swapped(scores, correct, num_targets, false_alarm, miss):
    return cheapest(scores, correct, num_targets, miss, false_alarm)


def cheapest_one_by_one(scores, correct, num_targets, false_alarm, miss):
    order = scores.argsort(descending=True, stable=True)
    best, least, cost = float("inf"), 0.0, 0.0
    for d in order.tolist():
        cost += -miss if correct[d] else false_alarm
        if cost < least:
            best, least = scores[d].item(), cost
    return best


def cheapest_as_given(scores, correct, num_targets, false_alarm, miss):
    best, least, cost = float("inf"), 0.0, 0.0
    for s, c in zip(scores.tolist(), correct.tolist(), strict=True):
        cost += -miss if c else false_alarm
        if cost < least:
            best, least = s, cost
    return best


def ap(pictures, skip=False, one_list=True, envelope="back", rule=101):
    lists, count = [], 0
    for scores, correct, n in pictures:
        if skip and len(scores) == 0:
            continue
        order = scores.argsort(descending=True, stable=True)
        lists.append((scores[order], correct[order]))
        count += n
    if count == 0:
        return -1.0
    if not lists:
        return 0.0
    scores, correct = map(torch.cat, zip(*lists, strict=True))
    if one_list:
        correct = correct[scores.argsort(descending=True, stable=True)]
    hits = correct.double().cumsum(0)
    precision = hits / torch.arange(1, len(hits) + 1)
    if envelope == "back":
        precision = precision.flip(0).cummax(0).values.flip(0)
    if envelope == "front":
        precision = precision.cummax(0).values
    at = torch.searchsorted(hits / count, torch.from_numpy(np.linspace(0, 1, rule)))
    return torch.cat([precision, torch.zeros(1)])[at].mean().item()


def ap_skips(pictures):
    return ap(pictures, skip=True)


def ap_not_sorted(pictures):
    return ap(pictures, one_list=False)


def ap_front(pictures):
    return ap(pictures, envelope="front")


def ap_raw(pictures):
    return ap(pictures, envelope="")


def ap_eleven(pictures):
    return ap(pictures, rule=11)


def ap_mean(pictures):
    values = [ap([p]) for p in pictures if p[2]]
    return float(np.mean(values)) if values else -1.0


def error(scores, correct, num_bins, weigh=True, clamp=True, middle=False):
    bins = (scores * num_bins).long()
    bins = bins.clamp(max=num_bins - 1) if clamp else bins
    total, parts = 0.0, 0
    for b in bins.unique().tolist():
        inside = bins == b
        score = (b + 0.5) / num_bins if middle else scores[inside].mean().item()
        gap = abs(score - correct[inside].float().mean().item())
        total += gap * (inside.sum().item() if weigh else 1)
        parts += 1
    return total / max(len(scores) if weigh else parts, 1)


def error_unweighted(scores, correct, num_bins):
    return error(scores, correct, num_bins, weigh=False)


def error_last_bin(scores, correct, num_bins):
    bins = (scores * num_bins).long()
    kept = bins < num_bins  # a score of 1 is lost
    return error(scores[kept], correct[kept], num_bins)


def error_middle(scores, correct, num_bins):
    return error(scores, correct, num_bins, middle=True)


def error_overall(scores, correct, num_bins):
    gap = scores.mean() - correct.float().mean()
    return abs(gap.item()) if len(scores) else 0.0


def error_empty(scores, correct, num_bins):
    return error(scores, correct, num_bins) / (1 if len(scores) else 0)


def interval(a, b, draws, pool=True, pair=True, safe=True):
    values = []
    for counts in (a, b):
        hits, wrong, missed = counts.double()[draws].unbind(-1)
        if pool:
            hits, wrong, missed = (x.sum(1) for x in (hits, wrong, missed))
        whole = 2 * hits + wrong + missed
        value = 2 * hits / (whole.clamp(min=1) if safe else whole)
        values.append(value if pool else value.mean(1))
    ends = torch.tensor([0.025, 0.975], dtype=torch.float64)
    if pair:
        return tuple((values[0] - values[1]).quantile(ends).tolist())
    (low, high), (low2, high2) = (v.quantile(ends).tolist() for v in values)
    return low - high2, high - low2


def interval_of_means(a, b, draws):
    return interval(a, b, draws, pool=False)


def interval_unpaired(a, b, draws):
    return interval(a, b, draws, pair=False)


def interval_nan(a, b, draws):
    return interval(a, b, draws, safe=False)


def interval_swapped(a, b, draws):
    return interval(b, a, draws)


def interval_tensor(a, b, draws):
    return torch.tensor(interval(a, b, draws))


def f1_rounded(scores, correct, num_targets, threshold):
    return f1(scores.round(decimals=1), correct, num_targets, threshold)


def voc_poor_box_takes(scores, iou, threshold):
    right, taken = [False] * len(scores), set()
    for d in scores.argsort(descending=True, stable=True).tolist():
        if iou.shape[1]:
            best = max(range(iou.shape[1]), key=lambda g: (iou[d, g].item(), -g))
            right[d] = iou[d, best].item() >= threshold and best not in taken
            taken.add(best)  # also below the threshold
    return right


def cheapest_counts_found(scores, correct, num_targets, false_alarm, miss):
    best, least = float("inf"), miss * num_targets
    for threshold in sorted(set(scores.tolist()), reverse=True):
        kept = scores >= threshold
        hits = (kept & correct).sum().item()
        cost = false_alarm * (kept.sum().item() - hits)
        cost += miss * (correct.sum().item() - hits)  # not num_targets
        if cost < least:
            best, least = threshold, cost
    return best


def error_linspace(scores, correct, num_bins):
    """Its edges miss 0.3 and 0.7 by a last bit."""
    if len(scores) == 0:
        return 0.0
    edges = torch.linspace(0, 1, num_bins + 1, dtype=torch.float64)[1:-1]
    bins = torch.bucketize(scores.double(), edges, right=True)
    error = 0.0
    for b in bins.unique():
        inside = bins == b
        gap = scores[inside].double().mean() - correct[inside].double().mean()
        error += inside.sum().item() * abs(gap.item())
    return error / len(scores)


WRONG = [
    ("25.f1_score", f1_above, "equal to the threshold"),
    ("25.f1_score", f1_from_parts, "nothing is kept"),
    ("25.f1_score", f1_all, "the example"),
    ("25.f1_score", f1_rounded, "just below"),
    ("25.f1_score", f1_tensor, "one right detection"),
    ("25.f1_score", f1_of_found, "the example"),
    ("25.voc_match", voc_as_coco, "another would do"),
    ("25.voc_match", voc_unsorted, "comes second"),
    ("25.voc_match", voc_poor_box_takes, "a poor box"),
    ("25.voc_match", voc_above, "equal to the threshold"),
    ("25.voc_match", voc_last, "equal overlaps"),
    ("25.voc_match", voc_argmax, "no objects"),
    ("25.voc_match", voc_no_marks, "two detections"),
    ("25.voc_match", voc_sorted_output, "comes second"),
    ("25.cheapest_threshold", cheapest_lower, "the higher one"),
    ("25.cheapest_threshold", cheapest_never_silent, "report nothing"),
    ("25.cheapest_threshold", cheapest_counts_found, "no detection finds"),
    ("25.cheapest_threshold", cheapest_swapped, "a miss costs more"),
    ("25.cheapest_threshold", cheapest_one_by_one, "together"),
    ("25.cheapest_threshold", cheapest_as_given, "not sorted"),
    ("25.fixed_ap", ap_skips, "without detections"),
    ("25.fixed_ap", ap_not_sorted, "one list"),
    ("25.fixed_ap", ap_front, "the better score is wrong"),
    ("25.fixed_ap", ap_raw, "the better score is wrong"),
    ("25.fixed_ap", ap_eleven, "right, wrong, right"),
    ("25.fixed_ap", ap_mean, "without detections"),
    ("25.calibration_error", error_unweighted, "of different size"),
    ("25.calibration_error", error_last_bin, "a score of 1"),
    ("25.calibration_error", error_linspace, "on the edges"),
    ("25.calibration_error", error_middle, "too high here"),
    ("25.calibration_error", error_overall, "too high here"),
    ("25.calibration_error", error_empty, "no detections"),
    ("25.f1_interval", interval_of_means, "sums, not means"),
    ("25.f1_interval", interval_unpaired, "a picture drawn twice"),
    ("25.f1_interval", interval_nan, "nothing there"),
    ("25.f1_interval", interval_swapped, "one draw"),
    ("25.f1_interval", interval_tensor, "one draw"),
]


@pytest.mark.parametrize("name, answer, says", WRONG)
def test_wrong_answers_are_refused(name, answer, says):
    verdict = checks.judge(name, answer)
    assert verdict.status == "failed", verdict.text
    stopped = verdict.text.split("not yet: ")[-1].splitlines()[0]
    assert says in stopped, verdict.text


MENDS = [
    (  # pictures without detections have objects, too
        "if len(scores) == 0:\n            continue",
        "pass",
    ),
    (  # one list for all pictures
        "hits = torch.cat(lists)",
        "order = torch.cat([s.sort(descending=True, stable=True)[0] for s, _, _ in "
        "pictures]).argsort(descending=True, stable=True)\n"
        "    hits = torch.cat(lists)[order]",
    ),
    (  # the envelope comes from the end
        "precision.cummax(0).values",
        "precision.flip(0).cummax(0).values.flip(0)",
    ),
]


def test_the_broken_function_of_the_page_has_three_mistakes():
    """It passes once all three are mended, and not before."""
    book = notebook.read(notebook.CHAPTERS / "25_detection_metrics.ipynb")
    (text,) = [c.source for c in book.cells if "wrong in three places" in c.source]
    broken = re.search(r"(?s)```python\n(.*?)```", text)[1]
    for count in range(len(MENDS) + 1):
        for mends in itertools.combinations(MENDS, count):
            source = broken
            for old, new in mends:
                assert old in source
                source = source.replace(old, new)
            space = {"torch": torch, "np": np}
            exec(source, space)
            status = checks.judge("25.fixed_ap", space["fixed_ap"]).status
            assert status == ("passed" if count == len(MENDS) else "failed"), source

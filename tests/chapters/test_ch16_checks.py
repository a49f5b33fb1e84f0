"""The exercises of chapter 16: mistakes are refused, each for its own reason."""

import pytest
from answers import assert_changed, assert_verdict

from booktools import chapter_code

EXERCISES = chapter_code.exercises("16_losses")

# The exercise, a change of the solution's source, and words of the verdict.
CHANGES = [
    ("constant_loss", "shares.log()", "shares.log2()", "two classes"),
    (
        "constant_loss",
        "-(shares * shares.log()).sum()",
        "-shares.log().mean()",
        "three",
    ),
    ("constant_loss", "-(shares * shares.log()).sum()", "counts.log().sum()", ""),
    ("constant_loss", ".sum().item()", ".mean().item()", "two classes"),
    ("constant_loss", ".sum().item()", ".sum()", "got a tensor"),
    (
        "constant_loss",
        "_, counts = labels.unique(return_counts=True)",
        "counts = torch.bincount(labels.flatten())",
        "nan",
    ),
    (
        "constant_loss",
        "_, counts = labels.unique(return_counts=True)",
        "counts = torch.bincount(labels)",
        "",
    ),
    (
        "constant_loss",
        "-(shares * shares.log()).sum()",
        "torch.tensor(len(counts)).log()",
        "three to one",
    ),
    (
        "constant_loss",
        'if labels.numel() == 0:\n        raise ValueError("no labels")',
        "pass",
        "no labels",
    ),
    ("constant_loss", "labels.numel()\n", "len(labels)\n", "a picture of labels"),
    ("constant_loss", "counts.double()", "counts", None),
    ("dataset_loss", "total / count", "total / max(count, 1)", None),
    (
        "dataset_loss",
        "weight[labels[labels != -100]].sum().item()",
        "len(labels)",
        "batches of [9]",
    ),
    (
        "dataset_loss",
        "weight[labels[labels != -100]].sum().item()",
        "(labels != -100).sum().item()",
        "batches of [9]",
    ),
    (
        "dataset_loss",
        "weight[labels[labels != -100]].sum().item()",
        "weight[labels].sum().item()",
        "-100",
    ),
    ("dataset_loss", 'weight, reduction="sum"', 'reduction="sum"', "weights"),
    ("dataset_loss", 'reduction="sum")', 'reduction="mean")', ""),
    ("dataset_loss", " if count else math.nan", "", "ZeroDivisionError"),
    ("dataset_loss", " if count else math.nan", " if count else 0.0", "expected nan"),
    (
        "dataset_loss",
        "total / count if count else math.nan",
        "total / max(count, 1e-9) if (labels != -100).any() else math.nan",
        "every label has weight 0",
    ),
    ("dataset_loss", "losses.item()", "losses", "a Python float is wanted"),
    (
        "dataset_loss",
        "for logits, labels in batches:",
        "batches = list(batches)\n    for logits, labels in batches:",
        "must not be kept",
    ),
    (
        "dataset_loss",
        "for logits, labels in batches:",
        "list(batches)\n    for logits, labels in batches:",
        "",
    ),
    ("fixed_loss", "logits.movedim(1, -1)[kept]", "logits.mT[kept]", ""),
    (
        "fixed_loss",
        "logits.movedim(1, -1)[kept]",
        "logits.reshape(*labels.shape, -1)[kept]",
        "two pixels, axes",
    ),
    (
        "fixed_loss",
        "logits.movedim(1, -1)[kept]",
        "logits.movedim(1, -1).view(-1, logits.shape[1])[kept.view(-1)]",
        "two pictures",
    ),
    ("fixed_loss", "rows.log_softmax(1)", "rows.softmax(1).log()", "a thousand"),
    ("fixed_loss", "rows.log_softmax(1)", "rows", "one pixel"),
    (
        "fixed_loss",
        "rows.log_softmax(1)",
        "(rows.softmax(1) + 1e-7).log()",
        "a thousand",
    ),
    ("fixed_loss", "rows.log_softmax(1)", "rows.detach().log_softmax(1)", "slope"),
    ("fixed_loss", "losses.sum() / weight[labels].sum()", "losses.mean()", "weights"),
    ("fixed_loss", "weight[labels].sum()", "kept.numel()", "unknown pixels"),
    ("fixed_loss", "weight[labels].sum()", "weight.sum()", ""),
    (
        "fixed_loss",
        "weight[labels].sum()",
        "weight[labels].sum().clamp(min=1e-6)",
        "no pixel is known",
    ),
    ("fixed_loss", "weight[labels].sum()", "(weight[labels].sum() + 1e-7)", "no pixel"),
    (
        "fixed_loss",
        "kept = labels != 255",
        "kept = labels != 255\n    if not kept.any():\n        return logits.sum() * 0",
        "no pixel is known",
    ),
    (
        "fixed_loss",
        "labels = labels[kept]",
        "labels[~kept] = 0\n    labels = labels[kept]",
        "labels of the caller were changed",
    ),
    (
        "fixed_loss",
        "kept = labels != 255",
        "return F.cross_entropy(logits, labels, weight, 255)\n    kept = 1",
        "cross_entropy was called",
    ),
    (
        "fixed_loss",
        "log_p.gather(1, labels[:, None])[:, 0]",
        "log_p[torch.arange(len(labels)), labels]",
        None,
    ),
    ("ce_backward", "logits.softmax(1) * pull", "pull", ""),
    ("ce_backward", "pull.sum(1, keepdim=True) - pull", "1 - pull", ""),
    ("ce_backward", "/ counts.sum()", "/ len(logits)", "weights"),
    ("ce_backward", "/ counts.sum()", "/ kept.sum()", "weights"),
    ("ce_backward", "/ counts.sum()", "/ pull.sum()", "smoothing, weights"),
    ("ce_backward", "weight[labels] * kept", "weight[labels]", "ignored rows"),
    ("ce_backward", "weight * kept[:, None]", "weight", "smoothing, ignored rows"),
    ("ce_backward", "weight * kept[:, None]", "kept[:, None]", "smoothing, weights"),
    (
        "ce_backward",
        "weight * kept[:, None]",
        "counts[:, None]",
        "smoothing, weights",
    ),
    ("ce_backward", "(1 - smoothing) * counts", "counts", "smoothing"),
    ("ce_backward", "smoothing / classes", "smoothing / (classes - 1)", "smoothing"),
    (
        "ce_backward",
        "logits.softmax(1)",
        "(logits.exp() / logits.exp().sum(1, keepdim=True))",
        "large logits",
    ),
    (
        "ce_backward",
        "labels = labels.where(kept, 0)",
        "labels[~kept] = 0",
        "an input was changed",
    ),
    (
        "ce_backward",
        "classes = logits.shape[1]",
        "logits = logits.clone().requires_grad_()\n    classes = logits.shape[1]",
        "autograd was used",
    ),
    ("chunked_loss", "start:start + size", "start:start + size - 1", "one piece"),
    (
        "chunked_loss",
        "range(0, len(matrix), size)",
        "range(0, len(matrix) - size + 1, size)",
        "the last piece",
    ),
    (
        "chunked_loss",
        "torch.logaddexp(total, logits.logsumexp(1))",
        "(total.exp() + logits.exp().sum(1)).log()",
        "a thousand",
    ),
    (
        "chunked_loss",
        "torch.logaddexp(total, logits.logsumexp(1))",
        "total.maximum(logits.logsumexp(1))",
        "two equal pieces",
    ),
    (
        "chunked_loss",
        "total = features.new_full",
        "size = 2 * size\n    total = features.new_full",
        "a tensor of 8000 elements",
    ),
    ("chunked_loss", "-math.inf", "0.0", "one piece"),
    ("chunked_loss", "place >= 0", "place > 0", ""),
    ("chunked_loss", "place < logits.shape[1]", "place <= logits.shape[1]", ""),
    ("chunked_loss", "(total - own).mean()", "(total - own).sum()", "one piece"),
    (
        "chunked_loss",
        "total = features.new_full",
        "return F.cross_entropy(features @ matrix.T, labels)\n"
        "    total = features.new_full",
        "a tensor of 50000 elements",
    ),
    (
        "chunked_loss",
        "return (total - own).mean()",
        "return (total.detach() - own).mean()",
        "slopes",
    ),
]


@pytest.mark.parametrize(("name", "old", "new", "says"), CHANGES)
def test_changed_solutions(name, old, new, says):
    assert_changed(EXERCISES[f"16.{name}"], old, new, says)


PRINTED = """
def fixed_loss(logits, labels, weight):
    rows = logits.view(-1, logits.shape[1])
    labels = labels.view(-1)
    kept = labels != 255
    labels[~kept] = 0
    log_p = rows.softmax(1).log()
    losses = -log_p[torch.arange(len(rows)), labels] * weight[labels]
    return losses[kept].mean()
"""
FAULTS = {
    "rows = logits.view(-1, logits.shape[1])": (
        "rows = logits.movedim(1, -1).reshape(-1, logits.shape[1])"
    ),
    "labels = labels.view(-1)": "labels = labels.reshape(-1).clone()",
    "rows.softmax(1).log()": "rows.log_softmax(1)",
    "losses[kept].mean()": "losses[kept].sum() / weight[labels[kept]].sum()",
}


def test_the_four_faults_are_refused():
    """The printed code, and each version that mends only three faults; all four pass.

    What is mended differs from the book's solution, so it is another right answer.
    """
    exercise = EXERCISES["16.fixed_loss"]
    assert_verdict(exercise, PRINTED, "")
    mended = PRINTED
    for wrong, right in FAULTS.items():
        assert wrong in mended
        mended = mended.replace(wrong, right)
    for wrong, right in FAULTS.items():
        assert_verdict(exercise, mended.replace(right, wrong), "")
    assert_verdict(exercise, mended, None)


ONLINE = """
def chunked_loss(features, matrix, labels, size):
    top = torch.full_like(features[:, 0], -math.inf)
    total, own = torch.zeros_like(top), torch.zeros_like(top)
    for start in range(0, matrix.shape[0], size):
        z = torch.einsum("bd,cd->bc", features, matrix[start : start + size])
        new = torch.maximum(top, z.max(1).values.detach())
        total = total * (top - new).exp() + (z - new[:, None]).exp().sum(1)
        top = new
        hit = labels[:, None] == start + torch.arange(z.shape[1])
        own = own + (z * hit).sum(1)
    return (top + total.log() - own).mean()
"""
KEPT = """
def chunked_loss(features, matrix, labels, size):
    pieces = [features @ part.T for part in matrix.split(size)]
    total = torch.stack([piece.logsumexp(1) for piece in pieces]).logsumexp(0)
    own = (features * matrix[labels]).sum(1)
    return (total - own).mean()
"""
DOTTED = """
def chunked_loss(features, matrix, labels, size):
    parts = [(features @ part.T).logsumexp(1) for part in matrix.split(size)]
    total = torch.stack(parts).logsumexp(0)
    return (total - (features * matrix[labels]).sum(1)).mean()
"""
BY_LOGS = """
def ce_backward(logits, labels, weight, smoothing):
    p = logits.softmax(1)
    slope = torch.zeros_like(logits)
    count = 0.0
    for n, label in enumerate(labels.tolist()):
        if label == -100:
            continue
        count += weight[label].item()
        for c in range(logits.shape[1]):
            factor = smoothing / logits.shape[1] * weight[c]
            if c == label:
                factor = factor + (1 - smoothing) * weight[label]
            slope[n] += factor * p[n]
            slope[n, c] -= factor
    return slope / count
"""
COUNTED = """
def constant_loss(labels):
    values = labels.flatten().tolist()
    if not values:
        raise ValueError("nothing to count")
    total = 0.0
    for value in set(values):
        share = values.count(value) / len(values)
        total -= share * math.log(share)
    return total
"""
JOINED = """
def dataset_loss(batches, weight):
    pairs = [(a, b) for a, b in batches]
    logits = torch.cat([a for a, _ in pairs])
    return F.cross_entropy(logits, torch.cat([b for _, b in pairs]), weight).item()
"""


@pytest.mark.parametrize(
    ("name", "source", "says"),
    [
        ("chunked_loss", ONLINE, None),
        ("chunked_loss", DOTTED, None),
        ("chunked_loss", KEPT, "were alive at once"),
        ("ce_backward", BY_LOGS, None),
        ("constant_loss", COUNTED, None),
        ("dataset_loss", JOINED, ""),
    ],
)
def test_other_answers(name, source, says):
    assert_verdict(EXERCISES[f"16.{name}"], source, says)

"""The exercises of chapter 21: mistakes are refused, each for its own reason."""

import pytest
from answers import assert_changed, assert_verdict

from booktools import chapter_code
from course_utils import checks

EXERCISES = chapter_code.exercises("21_transfer_learning")

# The exercise, a change of the solution's source, and words of the verdict; None where
# it says the same by other words.
CHANGES = [
    # 1
    ("nearest_mean", "known = F.normalize(known, dim=1)", "pass", "expected"),
    (
        "nearest_mean",
        "F.normalize(new, dim=1) @ F.normalize(means, dim=1).T",
        "F.normalize(new, dim=1) @ means.T",
        "expected",
    ),
    (
        "nearest_mean",
        "F.normalize(new, dim=1) @ F.normalize(means, dim=1).T",
        "F.normalize(new, dim=0) @ F.normalize(means, dim=1).T",
        "not yet",
    ),
    ("nearest_mean", "similar.argmax(1)", "similar.argmin(1)", "not yet"),
    ("nearest_mean", "similar.argmax(1)", "similar.max(1).values", "expected"),
    ("nearest_mean", "int(labels.max()) + 1", "int(labels.max())", "not yet"),
    (
        "nearest_mean",
        "F.normalize(new, dim=1) @ F.normalize(means, dim=1).T",
        "-torch.cdist(new, means)",
        "not yet",
    ),
    (
        "nearest_mean",
        "F.normalize(new, dim=1) @",
        "new @",  # the new row's length changes no order
        None,
    ),
    # 2
    ("falling_rates", "reversed(parts)", "parts", "parts[0]"),
    ("falling_rates", "groups[::-1]", "groups", "expected groups"),
    ("falling_rates", "p.requires_grad and ", "", "a frozen part"),
    ("falling_rates", " and id(p) not in seen", "", "a shared weight"),
    ("falling_rates", "if chosen:", "if True:", "without weights"),
    ("falling_rates", "factor**distance", "factor * distance", "rates"),
    ("falling_rates", "factor**distance", "factor**len(groups)", "rates"),
    ("falling_rates", '"lr": rate', '"rate": rate', "keys"),
    ("falling_rates", "part.parameters()", "part.parameters(recurse=False)", "groups"),
    ("falling_rates", "if chosen:", "if list(part.parameters()):", "a frozen part"),
    (
        "falling_rates",
        "if chosen:",
        "if any(p.requires_grad for p in part.parameters()):",
        "the same part twice",
    ),
    ("falling_rates", "groups[::-1]", "list(reversed(groups))", None),
    # 3
    ("store_features", "body.eval()\n", "body.train()\n", "features"),
    ("store_features", "body.eval()\n", "pass\n", "features"),
    ("store_features", "with torch.no_grad():", "if True:", "graph"),
    ("store_features", "body(x).mean((2, 3))", "body(x).flatten(1)", "features"),
    ("store_features", "body(x).mean((2, 3))", "body(x).mean((0, 2, 3))[None]", "not"),
    ("store_features", "body(x).mean((2, 3))", "body(x).amax((2, 3))", "features"),
    ("store_features", "part.training = mode", "pass", "was"),
    ("store_features", "part.training = mode", "part.training = True", "training was"),
    (
        "store_features",
        "labels.append(y)",
        "pass\n        labels = [y for _, y in loader]",
        "labels are not right",
    ),
    (
        "store_features",
        "with torch.no_grad():",
        "body.requires_grad_(False)\n    if True:",
        "requires_grad",
    ),
    (
        "store_features",
        "for x, y in loader:",
        "for x, y in list(loader):",
        None,
    ),
    # cat makes ordinary tensors of these, unless it is called in the same mode.
    ("store_features", "torch.no_grad():", "torch.inference_mode():", None),
    (
        "store_features",
        "return torch.cat(features), torch.cat(labels)",
        "with torch.inference_mode():\n"
        "        return torch.cat(features), torch.cat(labels)",
        "cannot be trained",
    ),
    (
        "store_features",
        "with torch.no_grad():",
        "torch.set_grad_enabled(False)\n    if True:",
        "no gradients",
    ),
    (
        "store_features",
        "for part in body.modules()",
        "for part in (body, *body.children())",
        "training was",
    ),
    (
        "store_features",
        "return torch.cat(features), torch.cat(labels)",
        "order = torch.cat(labels).argsort()\n"
        "    return torch.cat(features)[order], torch.cat(labels)[order]",
        "features",
    ),
    # 4
    (
        "audit",
        "not torch.allclose(value, before[kind][name],\n"
        "                                           rtol=0, atol=0, equal_nan=True)",
        "((value != before[kind][name]) & ~value.isnan()).any()",
        "nan that comes",
    ),
    (
        "audit",
        "if not torch.allclose",
        "if not (value.isnan() & before[kind][name].isnan()).any()\n"
        "                     and not torch.allclose",
        "beside nan",
    ),
    (
        "audit",
        '"buffers": model.named_buffers',
        '"buffers": lambda: [(n, b) for n, b in model.named_buffers()\n'
        "                         if n in model.state_dict()]",
        "not saved",
    ),
    ("audit", "value.detach().clone()", "value.detach()", "expected"),
    ("audit", "equal_nan=True", "equal_nan=False", "nan"),
    ("audit", "rtol=0, atol=0, ", "", "smallest"),
    ("audit", "    step(model)\n", "    step(model)\n    step(model)\n", "2 times"),
    ("audit", "    step(model)\n", "    pass\n", "0 times"),
    (
        "audit",
        '"buffers": model.named_buffers',
        '"buffers": lambda: iter(())',
        "running_mean",
    ),
    (
        "audit",
        '"parameters": model.named_parameters',
        '"parameters": lambda: model.state_dict().items()',
        "expected",
    ),
    # 5
    ("thaw", "if count < 0:", "if False:", "expected: ValueError"),
    (
        "thaw",
        "max(len(with_weights) - count, 0):",
        "-count:",
        "nothing",
    ),
    (
        "thaw",
        "max(len(with_weights) - count, 0):",
        "len(with_weights) - count:",
        "more",
    ),
    (
        "thaw",
        "any(before < k for before in thawed)",
        "any(a < k for a in thawed) and any(a > k for a in thawed)",
        "Dropout",
    ),
    ("thaw", "if any(True for _ in part.parameters())", "if part.state_dict()", "Lin"),
    (
        "thaw",
        "    if count < 0:",
        "    net.eval()\n    if count < 0:",
        "changed before",
    ),
    ("thaw", "part.requires_grad_(trains)", "pass", "requires_grad"),
    (
        "thaw",
        "part.requires_grad_(trains)",
        "part.requires_grad_(part.training or trains)",
        "requires_grad",
    ),
    ("thaw", "part.train(trains)", "pass", "training should be False"),
    (
        "thaw",
        "part.train(any(before < k for before in thawed))",
        "part.train()",
        "Dropout",
    ),
    (
        "thaw",
        "part.train(any(before < k for before in thawed))",
        "part.eval()",
        "ReLU",
    ),
    ("thaw", "net.training = bool(thawed)", "net.train(bool(thawed))", None),
    ("thaw", "net.training = bool(thawed)", "pass", "net.training"),
    (
        "thaw",
        "sum(p.numel() for p in net.parameters() if p.requires_grad)",
        "sum(p.requires_grad for p in net.parameters())",
        "weights, got",
    ),
]


@pytest.mark.parametrize(("name", "old", "new", "says"), CHANGES)
def test_a_changed_solution(name, old, new, says):
    assert_changed(EXERCISES[f"21.{name}"], old, new, says)


def test_the_printed_bugs_are_refused():
    source = """
def store_features(body, loader):
    body.train()
    features, labels = [], []
    for x, y in loader:
        features.append(body(x).flatten(1))
    for x, y in loader:
        labels.append(y)
    return torch.cat(features), torch.cat(labels)
"""
    assert_verdict(EXERCISES["21.store_features"], source, "features")


def test_other_right_answers():
    source = """
def nearest_mean(known, labels, new):
    known = known / known.norm(dim=1, keepdim=True)
    rows = []
    for k in range(labels.max().item() + 1):
        mean = known[labels == k].sum(0)
        rows.append(mean / mean.norm())
    similar = torch.stack(rows) @ new.T
    return similar.argmax(0)
"""
    assert_verdict(EXERCISES["21.nearest_mean"], source, None)


def test_each_exercise_has_wrong_answers():
    for name in checks.exercises("21"):
        wrong = [c for c in CHANGES if f"21.{c[0]}" == name and c[3] is not None]
        assert len(wrong) >= 3, name

"""The exercises of chapter 20: mistakes are refused, each for its own reason."""

import pytest
from answers import assert_changed, assert_verdict

from booktools import chapter_code

EXERCISES = chapter_code.exercises("20_training_loop")

# The exercise, a change of the solution's source, and words of the verdict.
CHANGES = [
    ("averages", "sum(count * means[name] for", "sum(means[name] for", "one batch"),
    (
        "averages",
        "sum(count * means[name] for count, means in batches) / total",
        "sum(means[name] for _, means in batches) / len(batches)",
        "two values",
    ),
    ("averages", " if count > 0]", "]", "nan"),
    ("averages", "batches[0][1] if batches else ()", "batches[0][1]", "no batch"),
    ("averages", "total = sum(count for count, _ in batches)", "total = 40", "one"),
    ("averages", "count > 0", "count", None),
    ("patience", "self.waited = value, 0", "self.waited = value, 1", "one value"),
    ("patience", "self.waited >= self.epochs", "self.waited > self.epochs", "patience"),
    ("patience", "value > self.best", "value >= self.best", "the example"),
    (
        "patience",
        "self.best, self.waited = None, 0",
        "self.best, self.waited = 0.0, 0",
        "before the first value",
    ),
    ("patience", " + self.least", "", "too small a gain"),
    ("patience", " and not math.isnan(value)", "", "nan first"),
    ("patience", "self.best is None and", "not self.best and", "a first value of 0"),
    (
        "patience",
        "self.best is None and not math.isnan(value)",
        "self.best is None and value == value",
        None,
    ),
    (
        "patience",
        "        self.best, self.waited = None, 0\n",
        "        Patience.best, self.waited = None, 0\n",
        None,
    ),
    ("judge", "    mode = model.training\n    model.eval()\n", "    mode = True\n", ""),
    ("judge", "    model.train(mode)\n", "", "afterwards its parts"),
    ("judge", "    model.train(mode)\n", "    model.train()\n", "afterwards its parts"),
    ("judge", "@torch.no_grad()\n", "", "recorded for a backward"),
    ("judge", "given = model(x)", "given = model(x).softmax(1)", "one picture"),
    (
        "judge",
        'reduction="sum").item()',
        'reduction="mean").item()',
        "loss",
    ),
    ("judge", "count += len(y)", "count += 1", "without any picture"),
    ("judge", 'reduction="sum").item()', 'reduction="sum")', "a Python float"),
    (
        "judge",
        "return (loss / count, right / count) if count else (math.nan, math.nan)",
        "return loss / max(count, 1), right / max(count, 1)",
        "without any picture",
    ),
    ("judge", "    loss, right", "    batches = list(batches)\n    loss, right", None),
    (
        "judge",
        "for x, y in batches:",
        "len(batches)\n    for x, y in batches:",
        "iterator",
    ),
    ("leaked", "picture.flip(2)", "picture.flip(1)", "mirrored"),
    ("leaked", "(picture, picture.flip(2))", "(picture,)", "mirrored"),
    (
        "leaked",
        "for view in (picture, picture.flip(2))",
        "for view in (picture, picture.flip(2), picture.flip(1))",
        "upside down",
    ),
    (
        "leaked",
        "picture.contiguous().numpy().tobytes() in seen",
        "picture.flip(1).contiguous().numpy().tobytes() in seen",
        "two of four",
    ),
    ("leaked", "[row for row", "[float(picture.sum()) for row", "two of four"),
    (
        "leaked",
        "picture.contiguous().numpy().tobytes()",
        "bytes(picture.flatten().tolist())",
        None,
    ),
    ("gradient_report", ", allow_unused=True", "", "RuntimeError"),
    ("gradient_report", "retain_graph=True", "retain_graph=False", "backward"),
    (
        "gradient_report",
        'if parameter.requires_grad else "frozen"',
        'if True else ""',
        "frozen",
    ),
    ("gradient_report", " and loss.requires_grad", "", "depends on nothing"),
    (
        "gradient_report",
        "not slope.isfinite().all()",
        "slope.isnan().any()",
        "a slope of infinity",
    ),
    (
        "gradient_report",
        "not slope.isfinite().all()",
        "not slope.isfinite().any()",
        "one value is not finite",
    ),
    ("gradient_report", "if slope.any()", "if slope.all()", "one value is 0"),
    ("gradient_report", '"zero")', '"unused")', "dead units"),
    ("gradient_report", "slope.any()", "slope.abs().max() > 0", None),
]


@pytest.mark.parametrize(("name", "old", "new", "says"), CHANGES)
def test_a_changed_solution(name, old, new, says):
    assert_changed(EXERCISES[f"20.{name}"], old, new, says)


BY_BACKWARD = """
def gradient_report(model, loss):
    loss.backward(retain_graph=True)
    report = {}
    for name, parameter in model.named_parameters():
        slope = parameter.grad
        report[name] = ("frozen" if not parameter.requires_grad else
                        "unused" if slope is None else
                        "broken" if not slope.isfinite().all() else
                        "zero" if not slope.any() else "fine")
    return report
"""
ALL_PAIRS = """
def leaked(train, val):
    found = []
    for row, picture in enumerate(val):
        for other in train:
            if torch.equal(picture, other) or torch.equal(picture.flip(2), other):
                found.append(row)
                break
    return found
"""
AS_IT_WAS = """
def judge(model, batches):
    model.eval()
    losses, rights = [], []
    for x, y in batches:
        scores = model(x).softmax(1)
        losses.append(F.cross_entropy(scores, y))
        rights.append((scores.argmax(1) == y).float().mean())
    return sum(losses) / len(losses), sum(rights) / len(rights)
"""
SWITCHED_OFF = """
def judge(model, batches):
    torch.set_grad_enabled(False)
    mode = model.training
    model.eval()
    loss, right, count = 0.0, 0, 0
    for x, y in batches:
        given = model(x)
        loss += F.cross_entropy(given, y, reduction="sum").item()
        right += (given.argmax(1) == y).sum().item()
        count += len(y)
    model.train(mode)
    return (loss / count, right / count) if count else (math.nan, math.nan)
"""


@pytest.mark.parametrize(
    ("name", "source", "says"),
    [
        ("gradient_report", BY_BACKWARD, "RuntimeError"),
        ("leaked", ALL_PAIRS, "comparisons"),
        ("judge", AS_IT_WAS, "ZeroDivisionError"),
        ("judge", SWITCHED_OFF, "switched off for everybody"),
    ],
)
def test_other_wrong_answers(name, source, says):
    assert_verdict(EXERCISES[f"20.{name}"], source, says)

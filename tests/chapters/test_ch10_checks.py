"""The exercises of chapter 10: mistakes are refused, each for its own reason."""

import pytest
from answers import assert_changed

from booktools import chapter_code
from course_utils import checks

EXERCISES = chapter_code.exercises("10_modules")

# The exercise, a change of the solution's source, and words of the verdict.
CHANGES = [
    ("count_weights", "model.parameters()", "model.state_dict().values()", "got"),
    (
        "count_weights",
        "for parameter in model.parameters():",
        "for parameter in [p for m in model.modules() for p in m._parameters.values()\n"
        "                      if p is not None]:",
        "a shared weight once",
    ),
    ("count_weights", "parameter.numel()", "1", "one layer"),
    (
        "count_weights",
        "counts[True], counts[False]",
        "counts[False], counts[True]",
        "one",
    ),
    ("residual", "self.block = block", "self.block = [block]\n", "TypeError"),
    (
        "count_weights",
        "model.parameters()",
        "[p for c in ([*model.children()] or [model]) for p in c.parameters()]",
        "its own",
    ),
    ("residual", "self.block(x)", "self.block.forward(x)", "called once"),
    (
        "residual",
        "change.shape != x.shape",
        "change.numel() != x.numel()",
        "no ValueError",
    ),
    ("fixed_net", "0.5, self.training", "0.2, self.training", "not one half"),
    ("residual", "change.shape != x.shape", "False", "no ValueError"),
    (
        "residual",
        "change.shape != x.shape",
        "change.dim() != x.dim()",
        "no ValueError",
    ),
    ("residual", "ValueError(", "RuntimeError(", "must be a ValueError"),
    ("residual", "return x + change", "x += change\n        return x", "was changed"),
    ("residual", "x + change", "x.detach() + change", "not that of both ways"),
    ("residual", "x + change", "change", "the output is 2 x"),
    ("rescale", "self.training and ", "", "8 in evaluation"),
    ("rescale", " and x.numel()", "", "an empty batch"),
    ("rescale", "seen = x.detach()", "seen = x", "graph"),
    ("rescale", ".to(self.low)", "", None),
    (
        "rescale",
        'self.register_buffer("low", torch.tensor(float("inf")))',
        'self.low = torch.tensor(float("inf"))',
        "saved are",
    ),
    (
        "rescale",
        'self.register_buffer("low", torch.tensor(float("inf")))',
        'self.register_buffer("low", torch.tensor(float("inf")), persistent=False)',
        "saved are",
    ),
    (
        "rescale",
        "torch.minimum(self.low, seen",
        "torch.minimum(seen.min(), seen",
        "1 and 2",
    ),
    ("fixed_net", "nn.ModuleList(", "list(", "parameters of shapes"),
    ("fixed_net", ", self.training", "", "in evaluation mode two calls differ"),
    (
        "fixed_net",
        "self.head(x)",
        "F.linear(x, self.head.weight, self.head.bias.data)",
        "no",
    ),
    ("fixed_net", "self.head(x)", "F.linear(x, self.head.weight)", "the scores"),
    (
        "fixed_net",
        'self.register_buffer("temperature", torch.tensor(temperature))',
        "self.temperature = torch.tensor(temperature)",
        "where is temperature",
    ),
    (
        "fixed_net",
        'self.register_buffer("temperature", torch.tensor(temperature))',
        "self.temperature = nn.Parameter(torch.tensor(temperature))",
        "parameter",
    ),
    (
        "fixed_net",
        "F.dropout(F.relu(layer(x)), 0.5, self.training)",
        "F.relu(layer(x))",
        "nothing is dropped",
    ),
    ("count_weights", "parameter.numel()", "sum(parameter.shape[:2])", "one layer"),
    (
        "count_weights",
        "parameter.numel()",
        "parameter.shape[:2].numel()",
        "a convolution",
    ),
    ("residual", "self.block = block", "self.block = copy.deepcopy(block)", "a copy"),
    (
        "residual",
        "return x + change",
        "change += x\n        return change",
        "around Identity() the input was changed",
    ),
    ("rescale", "seen.min()", "seen.amin(0)", "two columns"),
    ("rescale", "(self.high - self.low)", "(self.high - self.low + 1e-5)", "narrow"),
    (
        "rescale",
        "torch.minimum(self.low, seen.min().to(self.low))",
        "self.low.clamp(max=seen.min().to(self.low))",
        None,
    ),
    (
        "rescale",
        "self.low = torch",
        "if self.low.isinf():\n                self.low = torch",
        "first 1 and 3, then 0, 2, 4",
    ),
    ("rescale", "x.numel()", "len(x)", "an empty batch"),
    (
        "rescale",
        "self.training and",
        "torch.is_grad_enabled() and self.training and",
        "under torch.no_grad()",
    ),
    (
        "fixed_net",
        "F.dropout(F.relu(layer(x)), 0.5, self.training)",
        "F.relu(layer(x))\n        if len(self.layers):\n"
        "            x = F.dropout(x, 0.5, self.training)",
        "the input of the second layer has no",
    ),
    (
        "fixed_net",
        "for layer in self.layers:",
        "x = F.dropout(x, 0.5, self.training)\n        for layer in self.layers:",
        "the input of the first layer has deleted values",
    ),
    (
        "fixed_net",
        "self.head(x)",
        "F.dropout(self.head(x), 0.5, self.training)",
        "in training mode the scores",
    ),
    (
        "fixed_net",
        "/ self.temperature",
        "/ (1 if self.training else self.temperature)",
        "in training mode the scores",
    ),
    (
        "fixed_net",
        "self.head = ",
        "self.number = temperature\n        self.head = ",
        None,
    ),
    ("swap", " and part is not model", "", "the model itself"),
    ("swap", "return len(new)", "model.eval()\n    return len(new)", "the mode"),
    ("swap", "list(model.modules()):", "[model]:", "three levels down"),
    ("swap", "isinstance(part, kind)", "type(part) is kind", "1 replaced"),
    (
        "swap",
        "setattr(parent, name, new[id(child)])",
        "setattr(parent, name, make(child))",
        "",
    ),
    ("swap", "return len(new)", "return None", "returned"),
    (
        "swap",
        "if id(child) in new:",
        "if isinstance(child, kind) and id(child) in new:",
        None,
    ),
]


@pytest.mark.parametrize(("name", "old", "new", "says"), CHANGES)
def test_changed_solutions(name, old, new, says):
    assert_changed(EXERCISES[f"10.{name}"], old, new, says)


def test_the_four_faults_are_refused():
    """The class that the text prints, and each answer that mends only three faults."""
    faults = {
        "nn.ModuleList(\n            nn.Linear(width, width) for _ in range(depth))": (
            "[nn.Linear(width, width) for _ in range(depth)]"
        ),
        'self.register_buffer("temperature", torch.tensor(temperature))': (
            "self.temperature = torch.tensor(temperature)"
        ),
        ", self.training": "",
        "self.head(x)": "F.linear(x, self.head.weight.data)",
    }
    exercise = EXERCISES["10.fixed_net"]
    broken = exercise.solution
    for right, wrong in faults.items():
        assert right in exercise.solution
        one = exercise.solution.replace(right, wrong)
        verdict = checks.judge("10.fixed_net", exercise.answer(one))
        assert verdict.status == "failed", wrong
        broken = broken.replace(right, wrong)
    verdict = checks.judge("10.fixed_net", exercise.answer(broken))
    assert verdict.status == "failed"


KEPT_AS_A_NUMBER = """
class FixedNet(nn.Module):
    def __init__(self, width, depth, temperature):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.head = nn.Linear(width, 3)
        self.register_buffer("temperature", torch.tensor(temperature))
        self.number = temperature

    def forward(self, x):
        for layer in self.layers:
            x = F.dropout(F.relu(layer(x)), 0.5, self.training)
        return self.head(x) / self.number
"""
RECURSIVE = """
def swap(model, kind, make):
    count = 0
    for name, child in model.named_children():
        if isinstance(child, kind):
            setattr(model, name, make(child))
            count += 1
        count += swap(getattr(model, name), kind, make)
    return count
"""
NO_REGISTRATION = """
class Rescale(nn.Module):
    def __init__(self):
        super().__init__()
        self.low, self.high = float("inf"), float("-inf")

    def forward(self, x):
        if self.training and x.numel():
            self.low = min(self.low, x.min().item())
            self.high = max(self.high, x.max().item())
        return (x - self.low) / (self.high - self.low)
"""


@pytest.mark.parametrize(
    ("name", "source", "says"),
    [
        ("swap", RECURSIVE, ""),
        ("fixed_net", KEPT_AS_A_NUMBER, "is not used in forward"),
        ("rescale", NO_REGISTRATION, "must be a tensor"),
        (
            "residual",
            "class Residual:\n    def __init__(self, block):\n        self.x = block",
            "a subclass of nn.Module",
        ),
    ],
)
def test_other_wrong_answers(name, source, says):
    exercise = EXERCISES[f"10.{name}"]
    verdict = checks.judge(f"10.{name}", exercise.answer(source))
    assert verdict.status == "failed" and says in verdict.text, verdict.text

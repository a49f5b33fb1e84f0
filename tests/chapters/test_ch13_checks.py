"""The exercises of chapter 13: mistakes are refused, each for its own reason."""

import pytest
from answers import assert_changed, assert_verdict

from booktools import chapter_code, notebook

CHAPTER = "13_backbones"
EXERCISES = chapter_code.exercises(CHAPTER)

# The exercise, a change of the solution's source, and words of the verdict.
CHANGES = [
    ("block_weights", "+ 2 * outputs", "+ outputs", "a basic block of 4 channels"),
    ("block_weights", " + 2 * outputs", "", "a basic block of 4 channels"),
    ("block_weights", "size**2", "size", "a basic block of 4 channels"),
    ("block_weights", "channels // 4", "channels // 2", "a bottleneck of 4 channels"),
    ("block_weights", "channels // 4", "channels / 4", None),
    ("block_weights", "(narrow, channels, 1)", "(narrow, narrow, 1)", "a bottleneck"),
    ("block_weights", "* 2\n", "\n", "a basic block of 4 channels"),
    ("block_weights", "if bottleneck:", "if channels > 64:", "a bottleneck of 4"),
    ("zero_start", "block.bn3 if", "block.bn2 if", "bn2.weight was changed"),
    ("zero_start", "else block.bn2", "else block.bn1", "bn1.weight was changed"),
    (
        "zero_start",
        "last.weight.zero_()",
        "last.weight.zero_(); last.bias.zero_()",
        "bn2.bias was changed",
    ),
    (
        "zero_start",
        "last.weight.zero_()",
        "last.weight = nn.Parameter(torch.zeros_like(last.weight))",
        "another object",
    ),
    ("zero_start", "model.modules()", "model.children()", "should be 0"),
    ("zero_start", "return len(blocks)", "return model", "expected the number"),
    (
        "zero_start",
        "return len(blocks)",
        "model.eval()\n    return len(blocks)",
        "mode",
    ),
    (
        "zero_start",
        "last.weight.zero_()",
        "last.weight.zero_().requires_grad_(False)",
        "requires_grad of",
    ),
    (
        "zero_start",
        'if hasattr(part, "downsample")]',
        'if getattr(part, "downsample", None) is not None]',
        "bn2.weight should be 0",
    ),
    (
        "zero_start",
        "model.modules() if",
        "[m for n, m in model.named_modules(remove_duplicate=False)] if",
        "expected the number of blocks, 1, got 2",
    ),
    ("zero_start", "last.weight.zero_()", "last.weight.fill_(0)", None),
    ("zero_start", "with torch.no_grad():", "with torch.inference_mode():", None),
    ("fixed_body", "groups=inputs", "groups=1", "kernels"),
    ("fixed_body", "size // 2", "0", "should have the shape (32, 32, 32)"),
    ("fixed_body", "1, groups, False", "1, groups, True", "weights are expected"),
    ("fixed_body", "maps.append(x)", "maps.append(x.clone())", None),
    (
        "fixed_body",
        "return tuple(maps)",
        "maps[4] = maps[3]\n        return tuple(maps)",
        "map 5 should have the shape",
    ),
    (
        "fixed_body",
        "*convolve(inputs, outputs, 1))",
        "*convolve(inputs, outputs, 1)[:2])",
        "map 2 has negative values",
    ),
    (
        "fixed_body",
        "nn.ReLU(inplace=True)]",
        "nn.ReLU6(inplace=True)]",
        "is a ReLU6 in the place of a ReLU?",
    ),
    ("fixed_body", "1 + place % 2", "2", "map 2 should have the shape"),
    ("fixed_body", "return tuple(maps)", "return x", "seven maps"),
    ("fixed_body", 'f"conv{place}"', 'f"part{place}"', "should be called"),
    ("fixed_body", "maps.append(x)", "maps.append(x.detach()); x = x.detach()", "grad"),
    (
        "maps_of",
        "output.clone()",
        "output",
        "first: the values are not those",
    ),
    ("maps_of", "output.clone()", "output.detach().clone()", "does not require grad"),
    ("maps_of", "            handle.remove()", "            pass", "afterwards"),
    ("maps_of", "finally:", "except ZeroDivisionError:", "afterwards"),
    ("maps_of", "finally:\n", "finally:\n        model(images)\n", "once, it was 2"),
    (
        "maps_of",
        "for name in names}\n    found, h",
        "for name in names[:1]}\n    found, h",
        "",
    ),
    ("maps_of", "return {name: found[name] for name in names}", "return found", "keys"),
    (
        "maps_of",
        "return {name: found[name] for name in names}",
        "return list(found.values())",
        "a dictionary is expected",
    ),
    (
        "maps_of",
        "found[name] = output.clone()",
        "found.setdefault(name, output.clone())",
        "called twice",
    ),
    (
        "maps_of",
        "    try:\n",
        "    model.train()\n    try:\n",
        "the mode of the model was changed",
    ),
    (
        "maps_of",
        "    try:\n",
        "    model.eval()\n    try:\n",
        "the mode of the model was changed",
    ),
    (
        "maps_of",
        "            handle.remove()",
        "            handle.remove()\n"
        "        for part in parts.values():\n"
        "            part._forward_hooks.clear()",
        "hooks in the model before: 1, afterwards: 0",
    ),
    ("merged", "(1, 1, 1, 1)", "(2, 0, 2, 0)", "the sum of the branches"),
    ("merged", "1, 1] += 1", "1, 1] = 1", "the sum of the branches"),
    ("merged", "places % (channels // groups)", "places % groups", "three channels"),
    (
        "merged",
        "places % (channels // groups)",
        "places",
        "index",
    ),
    (
        "merged",
        "places % (channels // groups), 1, 1] += 1",
        "places % (channels // groups)] += 1",
        "the sum of the branches",
    ),
    ("merged", "weight[places, places % (channels // groups)", "weight[:, :", "three"),
    ("merged", "bias += conv.bias.detach()", "bias = conv.bias.detach()", "both"),
    ("merged", "for conv in (conv3, conv1):", "for conv in (conv3,):", "the other"),
    ("merged", ", dtype=weight.dtype", "", "should be torch.float64"),
    (
        "merged",
        "weight = conv3.weight.detach() +",
        "weight = conv3.weight.data\n    weight +=",
        "conv3 was changed",
    ),
    ("merged", "groups=groups,", "", ""),
    (
        "merged",
        "return one",
        "one.weight = nn.Parameter(one.weight.detach(), False)\n    return one",
        "must be trainable",
    ),
]


@pytest.mark.parametrize(("name", "old", "new", "says"), CHANGES)
def test_changed_solutions(name, old, new, says):
    assert_changed(EXERCISES[f"13.{name}"], old, new, says)


def published():
    """The class with four faults, as the text of the exercise prints it."""
    for cell in notebook.read(f"chapters/{CHAPTER}.ipynb").cells:
        if cell.cell_type == "markdown" and "### 3. A bug hunt" in cell.source:
            return cell.source.split("```python\n")[1].split("```")[0]
    raise LookupError("the bug hunt is not there")


FAULTS = {
    "nn.Conv2d(inputs, inputs, 3, stride, 0, bias=False)": (
        "nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False)"
    ),
    "3, stride, 0, ": "3, stride, 1, ",
    "nn.BatchNorm2d(outputs))\n\n": (
        "nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))\n\n"
    ),
    "x1, x2, x3, x4, x4, x6, x7": "x1, x2, x3, x4, x5, x6, x7",
}


def test_the_published_class_and_what_mends_three_faults_only():
    source, exercise = published(), EXERCISES["13.fixed_body"]
    assert_verdict(exercise, source, "kernels")
    groups, padding = "inputs, 3, stride, 0,", "inputs, 3, stride, 1, groups=inputs,"
    repairs = [
        (groups, "inputs, 3, stride, 1,", padding),  # the first without groups
        (groups, "inputs, 3, stride, 0, groups=inputs,", padding),
    ]
    relu = ("nn.BatchNorm2d(outputs))\n\n", FAULTS["nn.BatchNorm2d(outputs))\n\n"])
    map5 = ("x4, x4, x6", "x4, x5, x6")
    right = source.replace(*relu).replace(*map5)
    assert_verdict(exercise, right.replace(groups, padding), None)
    for old, new, _ in repairs:
        says = "kernels" if "groups" not in new else "map 2 should have the shape"
        assert_verdict(exercise, right.replace(old, new), says)
    whole = source.replace(groups, padding)
    assert_verdict(exercise, whole.replace(*map5), "map 2 has negative values")
    assert_verdict(exercise, whole.replace(*relu), "map 5 should have the shape")


BY_MODULES = """
def block_weights(channels, bottleneck):
    n = channels // 4
    if bottleneck:
        net = nn.Sequential(
            nn.Conv2d(channels, n, 1, bias=False), nn.BatchNorm2d(n),
            nn.Conv2d(n, n, 3, bias=False), nn.BatchNorm2d(n),
            nn.Conv2d(n, channels, 1, bias=False), nn.BatchNorm2d(channels))
    else:
        net = nn.Sequential(
            nn.Conv2d(channels, channels, 3, bias=False), nn.BatchNorm2d(channels),
            nn.Conv2d(channels, channels, 3, bias=False), nn.BatchNorm2d(channels))
    return sum(p.numel() for p in net.parameters())
"""
BY_NAMES = """
def zero_start(model):
    count = 0
    for part in model.modules():
        if "downsample" in dir(part):
            last = getattr(part, "bn3", part.bn2)
            last.weight.data.zero_()
            count += 1
    return count
"""
BY_STACK = """
from contextlib import ExitStack


def maps_of(model, images, names):
    found = {}
    with ExitStack() as stack:
        for name in names:
            def hook(part, inputs, output, name=name):
                found[name] = output * 1
            handle = model.get_submodule(name).register_forward_hook(hook)
            stack.callback(handle.remove)
        model(images)
    return {name: found[name] for name in names}
"""
LATE = """
def maps_of(model, images, names):
    found = {}
    handles = []
    for name in names:
        def hook(part, inputs, output):
            found[name] = output.clone()
        handles.append(model.get_submodule(name).register_forward_hook(hook))
    model(images)
    for handle in handles:
        handle.remove()
    return {name: found[name] for name in names}
"""
BY_TRYING = """
def merged(conv3, conv1):
    one = nn.Conv2d(
        conv3.out_channels, conv3.out_channels, 3, padding=1, groups=conv3.groups,
        device=conv3.weight.device, dtype=conv3.weight.dtype)
    with torch.no_grad():
        one.weight.copy_(conv3.weight)
        one.weight[:, :, 1, 1] += conv1.weight[:, :, 0, 0]
        size = conv3.out_channels // conv3.groups
        for c in range(conv3.out_channels):
            one.weight[c, c % size, 1, 1] += 1
        one.bias.zero_()
        for conv in (conv3, conv1):
            if conv.bias is not None:
                one.bias += conv.bias
    return one
"""
THREE_IN_A_ROW = """
def merged(conv3, conv1):
    return nn.Sequential(conv3, conv1)
"""


@pytest.mark.parametrize(
    ("name", "source", "says"),
    [
        ("block_weights", BY_MODULES, None),
        ("zero_start", BY_NAMES, None),
        ("maps_of", BY_STACK, None),
        ("maps_of", LATE, "KeyError"),
        ("merged", BY_TRYING, None),
        ("merged", THREE_IN_A_ROW, "one nn.Conv2d is expected"),
        (
            "fixed_body",
            "class FixedBody:\n    def forward(self, x):\n        return x",
            "a subclass of nn.Module",
        ),
    ],
)
def test_other_answers(name, source, says):
    assert_verdict(EXERCISES[f"13.{name}"], source, says)

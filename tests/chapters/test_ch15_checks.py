"""The exercises of chapter 15: mistakes are refused, each for its own reason."""

import pytest
from answers import assert_changed, assert_verdict

from booktools import chapter_code
from course_utils import checks

EXERCISES = chapter_code.exercises("15_saving_and_surgery")

# The exercise, a change of the solution's source, and words of the verdict; None where
# it says the same by other words.
CHANGES = [
    # 1
    ("clean_names", "while name", "if name", "one in the other"),
    ("clean_names", '("module.", "_orig_mod.")', '"module."', "_orig_mod."),
    (
        "clean_names",
        '("module.", "_orig_mod.")',
        '("module", "_orig_mod")',
        "modules.0",
    ),
    (
        "clean_names",
        'while name.startswith(("module.", "_orig_mod.")):\n'
        '            name = name.partition(".")[2]',
        'name = name.replace("module.", "").replace("_orig_mod.", "")',
        "body.module.b",
    ),
    (
        "clean_names",
        'while name.startswith(("module.", "_orig_mod.")):\n'
        '            name = name.partition(".")[2]',
        'name = name.removeprefix("module.").removeprefix("_orig_mod.")',
        "_orig_mod.module.b",
    ),
    (
        "clean_names",
        'while name.startswith(("module.", "_orig_mod.")):\n'
        '            name = name.partition(".")[2]',
        'name = name.lstrip("module.").lstrip("_orig_mod.")',
        "became",
    ),
    (
        "clean_names",
        'while name.startswith(("module.", "_orig_mod.")):\n'
        '            name = name.partition(".")[2]',
        "for _ in range(2):\n"
        '            name = name.removeprefix("module.").removeprefix("_orig_mod.")',
        "_orig_mod.module._orig_mod",
    ),
    ("clean_names", "if name in clean:", "if False:", "expected a ValueError"),
    (
        "clean_names",
        "clean[name] = value",
        "clean[name] = value.clone()",
        "same objects",
    ),
    (
        "clean_names",
        "return clean",
        "return dict(sorted(clean.items()))",
        "in the middle",
    ),
    ("clean_names", 'name.partition(".")[2]', 'name.split(".", 1)[1]', None),
    # 2
    ("best", 'float("inf")', "0.0", "should return True"),
    ("best", 'float("inf")', "1e6", "1e30"),
    (
        "best",
        "copy.deepcopy(self.model.state_dict())",
        "self.model.state_dict()",
        "should hold 1",
    ),
    (
        "best",
        "copy.deepcopy(self.model.state_dict())",
        "self.model.state_dict().copy()",
        "should hold 1",
    ),
    (
        "best",
        "copy.deepcopy(self.model.state_dict())",
        "copy.deepcopy(dict(self.model.named_parameters()))",
        "RuntimeError",
    ),
    (
        "best",
        "copy.deepcopy(self.model.state_dict())",
        "{n: v.clone() for n, v in self.model.state_dict().items()}",
        None,
    ),
    ("best", "self.loss = float(loss)", "pass", "should return False"),
    ("best", "self.loss = float(loss)", "self.loss = loss", "as tensors"),
    ("best", "loss < self.loss", "loss <= self.loss", "should return False"),
    ("best", "loss < self.loss", "not loss >= self.loss", "nan"),
    ("best", "if self.state is not None:", "if True:", "nothing was kept"),
    ("best", "return better", "return None", "it returned None"),
    ("best", "(self.state)", "(self.state, strict=False)", "load strictly"),
    (
        "best",
        "self.model.load_state_dict(self.state)",
        "self.model.load_state_dict(self.state, assign=True)",
        "",
    ),
    # 3
    ("new_head", "if known else rows.mean(0)", "if known else 0", "new"),
    ("new_head", "rows.mean(0)", "rows.mean()", "new ['dog', 'cow']"),
    ("new_head", "rows[old.index(kind)]", "rows[k]", "one of two"),
    (
        "new_head",
        "rows[old.index(kind)]",
        "rows[new.index(kind)]",
        "new ['dog']",
    ),
    ("new_head", ", layer.bias is not None", "", "no bias"),
    ("new_head", "head = head.to(layer.weight)\n", "pass\n", "float64"),
    (
        "new_head",
        "head = nn.Linear(layer.in_features,",
        "head = layer\n    nn.Linear(2,",
        "",
    ),
    (
        "new_head",
        "in head.named_parameters():",
        'in [("weight", head.weight)]:',
        "bias",
    ),
    (
        "new_head",
        "return head",
        "return head.requires_grad_(False)",
        "cannot be trained",
    ),
    (
        "new_head",
        "known = kind in old",
        "known = kind in old\n                layer.requires_grad_(True)",
        "was frozen",
    ),
    ("new_head", "head.to(layer.weight)", "head.to(layer.weight.dtype)", None),
    (
        "new_head",
        "return head",
        "return head.requires_grad_(layer.weight.requires_grad)",
        "and the new one is, too",
    ),
    (
        "new_head",
        "return head",
        "old.extend(new)\n    return head",
        "the lists are now",
    ),
    # 4
    ("named_globals", "sorted(found)", "found", "a list is wanted"),
    ("named_globals", "sorted(found)", "sorted(found, reverse=True)", "expected"),
    ("named_globals", '.replace(" ", ".")', "", "expected"),
    ("named_globals", "found = set()", "found = []", ""),
    (
        "named_globals",
        'raise ValueError("names are put together on the way")',
        "continue",
        "STACK_GLOBAL",
    ),
    (
        "named_globals",
        "found = set()",
        "found = set()\n    torch.load(io.BytesIO(data), weights_only=False)",
        "nothing may be carried out",
    ),
    (
        "named_globals",
        '[n for n in archive.namelist() if n.endswith("data.pkl")]',
        '["archive/data.pkl"]',
        "another folder",
    ),
    (
        "named_globals",
        '[n for n in archive.namelist() if n.endswith("data.pkl")]',
        "archive.namelist()[:1]",
        "another folder",
    ),
    # 5
    ("insert", "(int(number) >= index)", "(int(number) > index)", "first difference"),
    ("insert", "int(number) + (int(number) >= index)", "int(number) + 1", "index"),
    (
        "insert",
        "int(number) + (int(number) >= index)",
        "int(number) + (number >= str(index))",
        "12 parts",
    ),
    (
        "insert",
        'number, _, rest = name.partition(".")',
        "number, rest = name[0], name[2:]",
        "12 parts",
    ),
    (
        "insert",
        'number, _, rest = name.partition(".")',
        '*_, number, rest = name.split(".")',
        "parts in parts",
    ),
    ("insert", "net.insert(index, layer)", "pass", "the parts are now"),
    ("insert", "net.insert(index, layer)", "net.append(layer)", "the parts are now"),
    ("insert", "return moved", "return net.state_dict()", "the values of its entry"),
    (
        "insert",
        "return moved",
        "own = {f'{index}.{n}': v for n, v in layer.state_dict().items()}\n"
        "    return moved | own",
        "a layer with entries",
    ),
    (
        "insert",
        "return moved",
        "state.clear()\n    state.update(moved)\n    return state",
        "the old state was changed",
    ),
    (
        "insert",
        "for name, value in state.items():",
        "for name, value in list(state.items()):",
        None,
    ),
]


@pytest.mark.parametrize(("name", "old", "new", "says"), CHANGES)
def test_changed_solutions(name, old, new, says):
    assert_changed(EXERCISES[f"15.{name}"], old, new, says)


PRINTED = """
class Best:
    def __init__(self, model):
        self.model, self.loss, self.state = model, {start}, None

    def update(self, loss):
        if loss < self.loss:
            self.loss = loss
            self.state = {kept}
            return True
        return False

    def restore(self):
        if self.state:
            self.model.load_state_dict(self.state{strict})
"""
RIGHT = {
    "start": 'float("inf")',
    "kept": "copy.deepcopy(self.model.state_dict())",
    "strict": "",
}
WRONG = {
    "start": "0.0",
    "kept": "dict(self.model.named_parameters()).copy()",
    "strict": ", strict=False",
}


@pytest.mark.parametrize("fault", ["all", *WRONG])
def test_the_printed_class_and_each_of_its_faults(fault):
    parts = WRONG if fault == "all" else {**RIGHT, fault: WRONG[fault]}
    exercise = EXERCISES["15.best"]
    verdict = checks.judge("15.best", exercise.answer(PRINTED.format(**parts)))
    assert verdict.status == "failed", fault


BY_REGULAR_EXPRESSION = """
def clean_names(state):
    import re
    names = [re.sub(r"^((module|_orig_mod)[.])+", "", name) for name in state]
    if len(set(names)) < len(names):
        raise ValueError("names clash")
    return dict(zip(names, state.values()))
"""
BY_CAT = """
def new_head(layer, old, new):
    def rows(values):
        return torch.stack([values[old.index(c)] if c in old else values.mean(0)
                            for c in new]).detach().clone()
    bias = layer.bias is not None
    head = nn.Linear(layer.in_features, len(new), bias, dtype=layer.weight.dtype)
    head.weight = nn.Parameter(rows(layer.weight))
    if bias:
        head.bias = nn.Parameter(rows(layer.bias))
    return head
"""
BY_NAMES = """
def insert(net, index, layer, state):
    names = list(net.state_dict())
    net.insert(index, layer)
    now = [n for n in net.state_dict() if int(n.split(".")[0]) != index]
    return {new: state[old] for old, new in zip(names, now)}
"""
BY_WORDS = """
def named_globals(data):
    import re
    archive = zipfile.ZipFile(io.BytesIO(data))
    (name,) = [n for n in archive.namelist() if n.endswith("data.pkl")]
    program = archive.read(name)
    if b"\\x93" in program:
        raise ValueError("a newer pickle")
    pairs = re.findall(rb"c([\\w.]+)\\n([\\w.]+)\\n", program)
    return sorted({f"{a.decode()}.{b.decode()}" for a, b in pairs})
"""
BY_PROTOCOL = """
def named_globals(data):
    archive = zipfile.ZipFile(io.BytesIO(data))
    (name,) = [n for n in archive.namelist() if n.endswith("data.pkl")]
    found = set()
    for instruction, value, _ in pickletools.genops(archive.read(name)):
        if instruction.name == "PROTO" and value > 2:
            raise ValueError("a newer pickle")
        if instruction.name == "GLOBAL":
            found.add(value.replace(" ", "."))
    return sorted(found)
"""
BY_THE_NET = """
def insert(net, index, layer, state):
    net.insert(index, layer)
    return {n: v for n, v in net.state_dict().items()
            if n.split(".")[0] != str(index)}
"""
BY_REPLACE = """
def insert(net, index, layer, state):
    net.insert(index, layer)
    moved = dict(state)
    for number in range(index, len(net) - 1):
        for name in state:
            if name.startswith(f"{number}."):
                moved[name.replace(str(number), str(number + 1))] = moved.pop(name)
    return moved
"""


@pytest.mark.parametrize(
    ("name", "source", "says"),
    [
        ("clean_names", BY_REGULAR_EXPRESSION, None),
        ("new_head", BY_CAT, None),
        ("insert", BY_NAMES, None),
        ("insert", BY_REPLACE, "insert"),
        ("insert", BY_THE_NET, "the values of its entry"),
        ("named_globals", BY_WORDS, "os.system"),
        ("named_globals", BY_PROTOCOL, "names nothing"),
    ],
)
def test_other_answers(name, source, says):
    assert_verdict(EXERCISES[f"15.{name}"], source, says)

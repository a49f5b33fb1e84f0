"""The exercises of chapter 2: mistakes are refused, each for its own reason."""

import pytest
from answers import assert_changed, assert_verdict

from booktools import chapter_code

EXERCISES = chapter_code.exercises("02_python_essentials")

# The exercise, a change of the solution's source, and words of the verdict.
CHANGES = [
    ("grouped", "    if group:\n        yield group", "", "one item"),
    ("grouped", "    if group:\n        yield group", "    yield group", "nothing"),
    (
        "grouped",
        "            group = []\n    if",
        "            group.clear()\n    if",
        "",
    ),
    ("grouped", "for item in items:", "for item in list(items):", "on and on"),
    ("grouped", "if size < 1:", "if size < 0:", "size 0"),
    ("grouped", "ValueError(", "TypeError(", "size 0"),
    ("grouped", "if size < 1:", "if not size:", "size -1"),
    ("grouped", "if size < 1:", "if items and size < 1:", "without items"),
    (
        "grouped",
        "yield group\n            group",
        "yield tuple(group)\n            group",
        "",
    ),
    ("grouped", "len(group) == size", "len(group) > size", "the example"),
    ("average", "[] if values is None else list(values)", "values or []", "stays"),
    ("average", "list(values)", "values", "stays as it was"),
    (
        "average",
        "return sum(self.values) / len(self.values)",
        "count = len(self.values)\n"
        "        return sum(self.values.pop() for _ in range(count)) / count",
        "asked again",
    ),
    ("average", "list(values)", "tuple(values)", "begun with values"),
    ("average", 'return float("nan")', "return 0.0", "no values"),
    ("average", "if not self.values:", "if not sum(self.values):", "a zero"),
    (
        "average",
        "    def __init__(self, values=None):\n"
        "        self.values = [] if values is None else list(values)",
        "    values = []\n\n    def __init__(self, values=None):\n"
        "        if values is not None:\n            self.values = list(values)",
        "two averages",
    ),
    (
        "average",
        "values=None):\n        self.values = [] if values is None else list(values)",
        "values=[]):\n        self.values = values",
        "two averages",
    ),
    ("chain", "in self.functions:", "in reversed(self.functions):", "first function"),
    ("chain", "        return x\n", "        return list(x)\n", "x itself"),
    ("chain", "Chain(*self.functions[index])", "self.functions[index]", "slice"),
    ("chain", "if not callable(function):", "if False:", "refused"),
    ("chain", "TypeError(", "ValueError(", "refused"),
    (
        "chain",
        "        self.functions = functions",
        "        self.functions = iter(functions)",
        "length",
    ),
    (
        "chain",
        "return self.functions[index]",
        "return self.functions[abs(index)]",
        "[-1]",
    ),
    ("chain", "len(self.functions)", "1 + len(self.functions)", "length"),
    ("chain", "x = function(x)", "x = function(x) or x", "a result of None"),
    ("chain", "x = function(x)", "x = function(x) if x else x", "a result of 0"),
    (
        "chain",
        "        self.functions = functions",
        "        self.functions = [part for function in functions for part in\n"
        "            (function if isinstance(function, Chain) else [function])]",
        "counts as one",
    ),
    ("all_eval", "part.training = mode", "part.train(mode)", None),
    (
        "all_eval",
        "for part, mode in modes:\n            part.training = mode",
        "for part, mode in reversed(modes):\n            part.train(mode)",
        "afterwards",
    ),
    ("all_eval", "for part in model.modules()]", "for part in [model]]", "afterwards"),
    (
        "all_eval",
        "for part in model.modules()]",
        "for part in model.children()]",
        "after",
    ),
    ("all_eval", "yield model.eval()", "model.eval()\n        yield", "hands out"),
    ("all_eval", "yield model.eval()", "yield model", "inside"),
    (
        "all_eval",
        "    try:\n        yield model.eval()\n    finally:\n        for part, mode",
        "    yield model.eval()\n    if True:\n        for part, mode",
        "after an error",
    ),
    (
        "all_eval",
        "    finally:\n",
        "    except Exception:\n        pass\n    if True:\n",
        "",
    ),
    ("all_eval", "part.training = mode", "part.training = True", "afterwards"),
    (
        "all_eval",
        "    finally:\n        for part, mode in modes:\n"
        "            part.training = mode",
        "    except Exception:\n        for part, mode in modes:\n"
        "            part.training = mode\n        raise\n"
        "    for part, mode in modes:\n        part.training = mode",
        "after an interruption",
    ),
    (
        "all_eval",
        "part.training = mode",
        "part.train(part.training or mode)",
        "afterwards",
    ),
    ("deep_copy", "thing.clone()", "thing", "tensor"),
    ("deep_copy", "thing.clone()", "thing.detach()", "tensor"),
    ("deep_copy", "{} if done is None else done", "done or {}", "twice in a tuple"),
    ("deep_copy", "{k: deep_copy", "{deep_copy(k): deep_copy", "keys stay"),
    (
        "deep_copy",
        "new = tuple(deep_copy(part, done) for part in thing)",
        "return tuple(deep_copy(part, done) for part in thing)",
        "two tuples",
    ),
    ("deep_copy", "        return done[id(thing)]\n", "        pass\n", ""),
    ("deep_copy", "new = done[id(thing)] = []  #", "new = []  #", "contains itself"),
    ("deep_copy", "new = done[id(thing)] = {}", "new = {}", "holds itself"),
    ("deep_copy", "tuple(deep_copy(part, done) for part in thing)", "thing", ""),
    (
        "deep_copy",
        "tuple(deep_copy(part, done) for part in thing)",
        "[deep_copy(part, done) for part in thing]",
        "",
    ),
    ("deep_copy", "{k: deep_copy(v, done) for k, v in thing.items()}", "thing", ""),
    (
        "deep_copy",
        "new = thing\n",
        "import copy\n        new = copy.deepcopy(thing)\n",
        "",
    ),
    (
        "deep_copy",
        "deep_copy(part, done) for part in thing)\n    elif",
        "deep_copy(part) for part in thing)\n    elif",
        "shared stays shared",
    ),
    (
        "deep_copy",
        "done=None):\n    done = {} if done is None else done",
        "done={}):\n    ",
        "",
    ),
]


@pytest.mark.parametrize(("name", "old", "new", "says"), CHANGES)
def test_changed_solutions(name, old, new, says):
    assert_changed(EXERCISES[f"02.{name}"], old, new, says)


PRINTED = """
class Average:
    values = []

    def __init__(self, values=None):
        if values is not None:
            self.values = values

    def add(self, value):
        self.values += [value]

    def mean(self):
        return sum(self.values) / len(self.values)
"""
NOT_COPIED = """
class Average:
    def __init__(self, values=None):
        self.values = values or []

    def add(self, value):
        self.values = self.values + [value]

    def mean(self):
        return sum(self.values) / len(self.values) if self.values else float("nan")
"""
AS_A_CLASS = """
class all_eval:
    def __init__(self, model):
        self.model = model

    def __enter__(self):
        self.modes = [(part, part.training) for part in self.model.modules()]
        return self.model.eval()

    def __exit__(self, *error):
        for part, mode in self.modes:
            part.training = mode
"""
NO_GENERATOR = """
def grouped(items, size):
    items = list(items)
    return [items[i : i + size] for i in range(0, len(items), size)]
"""
EAGER = """
def grouped(items, size):
    if size < 1:
        raise ValueError(size)
    iterator = iter(items)
    return iter(lambda: list(itertools.islice(iterator, size)), [])
"""
LIBRARY = """
def deep_copy(thing):
    import copy
    return copy.deepcopy(thing)
"""
WITH_ISLICE = """
def grouped(items, size):
    if size < 1:
        raise ValueError(size)
    iterator = iter(items)
    while group := list(itertools.islice(iterator, size)):
        yield group
"""


@pytest.mark.parametrize(
    ("name", "source", "says"),
    [
        ("average", PRINTED, "two averages"),
        ("average", NOT_COPIED, "its owner appended"),
        ("all_eval", AS_A_CLASS, None),
        ("grouped", NO_GENERATOR, "must return an iterator"),
        ("grouped", WITH_ISLICE, None),
        ("grouped", EAGER, "before the first next"),
        ("deep_copy", LIBRARY, "copy by hand"),
    ],
)
def test_other_answers(name, source, says):
    assert_verdict(EXERCISES[f"02.{name}"], source, says)

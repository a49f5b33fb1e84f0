"""checks.core: every kind of answer gets a friendly verdict, and the right one."""

import functools
import json
import re
import textwrap
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from booktools import notebook
from course_utils import checks
from course_utils.checks import Case, Wrong, core
from course_utils.checks.core import difference

ROOT = notebook.ROOT
NAN, INF = float("nan"), float("inf")


@pytest.fixture
def verdict(monkeypatch):
    """``verdict(answer, *cases)``: what an exercise with these cases says."""

    def judged(answer, *cases):
        monkeypatch.setattr(core, "_registry", {})
        monkeypatch.setattr(core, "exercises", lambda chapter: list(core._registry))
        core.exercise("99.it")(lambda: list(cases))
        return core.judge("99.it", answer)

    return judged


def double(x):
    return 2 * x


# The verdicts


def test_passed_by_hand(verdict):
    got = verdict(double, Case("one", (1,), expect=2), Case("two", (2,), expect=4))
    assert got.status == "passed" and got.passed == 2
    assert got.text == "Exercise 99.it: passed\n  ok: one\n  ok: two"


def test_failed_by_hand(verdict):
    cases = Case("zero", (0,), expect=0), Case("two", (2,), expect=5)
    got = verdict(double, *cases, Case("never reached", (3,), expect=0))
    assert got.status == "failed" and got.passed == 1
    assert got.text == (
        "Exercise 99.it: not yet\n  ok: zero\n  not yet: two\n"
        "    input:    2\n    expected: 5\n    got:      4"
    )


def test_unattempted_by_hand(verdict):
    def stub(x): ...

    got = verdict(stub, Case("one", (1,), expect=2))
    assert got.status == "unattempted" and got.passed == 0
    text = "Exercise 99.it: not attempted yet (replace the ... in the body)"
    assert got.text == text


def test_check_prints_the_verdict_and_returns_nothing(capsys):
    def stub(shape, dtype): ...

    assert checks.check("03.count_bytes", stub) is None
    assert capsys.readouterr().out == (
        "Exercise 03.count_bytes: not attempted yet (replace the ... in the body)\n"
    )


# Attempted or not


def exec_without_source(code, name="answer"):
    space = {"__name__": "__main__"}
    exec(textwrap.dedent(code), space)
    return space[name]


def stub(x): ...


def documented_stub(x):
    """Twice."""
    # your code here
    ...


def returning_stub(x):
    return ...


async def async_stub(x): ...


class StubClass: ...


class DocumentedStubClass:
    """A box."""

    ...


class StubFunction(torch.autograd.Function): ...


class StubModule(nn.Module): ...


class HalfDone:
    def __init__(self, value):
        self.value = value

    def area(self):
        """In pixels."""
        ...

    @staticmethod
    def make(): ...

    @classmethod
    def other(cls): ...

    @property
    def width(self): ...

    @functools.cached_property
    def height(self): ...


class OnlyMethodsDone:
    text = """a string
at the left edge"""

    def area(self): ...


STUBS = {
    "value": ...,
    "function": stub,
    "docstring": documented_stub,
    "return ...": returning_stub,
    "async": async_stub,
    "decorated": torch.no_grad()(stub),
    "twice decorated": torch.no_grad()(torch.enable_grad()(stub)),
    "cached": functools.lru_cache(stub),
    "partial": functools.partial(stub, 1),
    "lambda": lambda x: ...,
    "class": StubClass,
    "class with docstring": DocumentedStubClass,
    "class of a metaclass": StubFunction,
    "class of a library's class": StubModule,
    "half a class": HalfDone,
    "class whose source does not parse": OnlyMethodsDone,
    "bound method": OnlyMethodsDone().area,
    "function without source": exec_without_source("def answer(x): ..."),
    "docstring without source": exec_without_source("def answer(x):\n  'doc'\n  ..."),
    "class without source": exec_without_source("class answer: ..."),
    "method without source": exec_without_source("class answer:\n  def f(self): ..."),
    "object without source": exec_without_source(
        "class A:\n  def f(self): ...\nanswer = A()"
    ),
}


@pytest.mark.parametrize("name", STUBS)
def test_stubs_are_not_attempts(verdict, name):
    got = verdict(STUBS[name], Case("one", (1,), expect=2))
    assert got.status == "unattempted"
    assert "replace the ... " in got.text


def test_the_unwritten_methods_are_named(verdict):
    text = verdict(HalfDone, Case("one", (1,), expect=2)).text
    assert "(area, make, other, width, height: replace the ... in the body)" in text


def returns_none(x):
    return None


def passes(x):
    pass


def only_docstring(x):
    """Nothing but words."""


def nested_stub(x):
    def inner(): ...

    return inner


def ellipsis_inside(x):
    return x[..., 0]


class Done:
    def __init__(self):
        pass


class Annotated:
    width: int


class Empty:
    pass


ATTEMPTS = {
    "None": None,
    "value": 3,
    "tensor": torch.ones(2),
    "returns None": returns_none,
    "pass": passes,
    "docstring only": only_docstring,
    "nested": nested_stub,
    "uses an ellipsis": ellipsis_inside,
    "lambda": lambda x: None,
    "built-in": len,
    "class": Done,
    "annotations": Annotated,
    "empty class": Empty,
    "object": Done(),
    "module": nn.ReLU(),
    "library class": nn.Identity,
    "index": (..., 0),
    "lambda without source": exec_without_source("answer = lambda x: None"),
    "without source": exec_without_source("def answer(x): return 2"),
}


@pytest.mark.parametrize("name", ATTEMPTS)
def test_attempts_are_attempts(verdict, name):
    got = verdict(ATTEMPTS[name], Case("one", (torch.ones(2),), expect="unlikely"))
    assert got.status == "failed"


def test_none_is_an_attempt_and_told_so(verdict):
    for answer in (returns_none, passes, only_docstring):
        text = verdict(answer, Case("one", (1,), expect=2)).text
        assert "got:      None (does the function end with a return?)" in text


# Answers that go wrong


def test_a_raising_answer_gives_one_line_and_no_traceback(verdict):
    def answer(x):
        raise KeyError("first line\nsecond line")  # its text is quoted: one line

    text = verdict(answer, Case("one", (1,), expect=2)).text
    assert text.endswith(
        "expected: 2\n    got:      KeyError: 'first line\\nsecond line'"
    )
    assert "Traceback" not in text

    def silent(x):
        raise AssertionError

    text = verdict(silent, Case("one", (1,), expect=2)).text
    assert text.endswith("got:      AssertionError")

    def endless(x):
        return endless(x)

    text = verdict(endless, Case("one", (1,), expect=2)).text
    assert "got:      RecursionError: maximum recursion depth exceeded" in text


def test_an_exception_can_be_the_right_result(verdict):
    def answer(x):
        if x < 0:
            raise ValueError("negative")
        return x

    case = Case("minus one", (-1,), expect=ValueError)
    assert verdict(answer, case).status == "passed"
    text = verdict(double, case).text
    assert "expected: ValueError\n    got:      -2" in text
    text = verdict(answer, Case("minus one", (-1,), expect=TypeError)).text
    assert "expected: TypeError\n    got:      ValueError: negative" in text


@pytest.mark.parametrize("expect", [2, TypeError])
def test_the_wrong_number_of_parameters(verdict, expect):
    def answer(x, y):
        return x

    text = verdict(answer, Case("one", (1,), expect=expect)).text
    assert "answer(x, y) takes other arguments: missing a required argument" in text
    text = verdict(double, Case("one", (1, 2), expect=expect)).text
    assert "double(x) takes other arguments: too many positional" in text
    text = verdict(double, Case("one", (1,), {"scale": 2}, expect=expect)).text
    assert "input:    1, scale=2" in text and "unexpected keyword argument" in text


def test_a_result_instead_of_the_function(verdict):
    text = verdict(double(1), Case("one", (1,), expect=2)).text
    assert "a function was expected, not an int: 2" in text
    assert "without calling it" in text


def test_a_function_where_a_value_was_asked_for(verdict):
    text = verdict(double, Case("the number", expect=2)).text
    assert "input:    nothing" in text and "missing a required argument: 'x'" in text


def test_what_an_answer_prints_is_shown_as_it_is(verdict, capsys):
    def answer(x):
        print("debugging", x)
        return 2 * x

    assert verdict(answer, Case("one", (1,), expect=2)).status == "passed"
    assert capsys.readouterr().out == "debugging 1\n"


def test_an_answer_that_is_a_value(verdict):
    case = Case("the shape", expect=(2, 3))
    assert verdict(torch.zeros(2, 3).shape, case).status == "passed"
    text = verdict((3, 2), case).text
    assert text.endswith(
        "not yet: the shape\n    expected: (2, 3)\n    got:      (3, 2)\n"
        "    ([0]: got 3, expected 2)"
    )
    text = verdict(None, case).text
    assert "got:      None\n    (got None, expected a tuple)" in text


def test_an_expected_none(verdict):
    case = Case("nothing", (1,), expect=None)
    assert verdict(returns_none, case).status == "passed"
    assert "expected: None\n    got:      2" in verdict(double, case).text
    tensor = verdict(lambda x: torch.ones(1), case).text
    assert "(got a tensor, expected None)" in tensor


class Hostile:
    """Raises whatever one does with it."""

    def __repr__(self):
        raise RuntimeError("no text")

    def __eq__(self, other):
        raise RuntimeError("no comparing")

    __hash__ = None


@pytest.mark.parametrize(
    "expect", [1, 1.0, "a", None, [1], {"a": 1}, torch.ones(1), np.ones(1)]
)
def test_a_hostile_result_is_only_wrong(verdict, expect):
    text = verdict(lambda x: Hostile(), Case("one", (1,), expect=expect)).text
    assert "got:      a Hostile whose repr raises RuntimeError" in text
    assert verdict(Hostile(), Case("one", expect=expect)).status == "failed"


# Inputs


def test_a_changed_input_is_told(verdict):
    x = torch.tensor([1.0, 2.0])

    def answer(x):
        x *= 2
        return x

    case = Case("two", (x,), expect=torch.tensor([2.0, 4.0]))
    text = verdict(answer, case).text
    assert "input:    tensor([1., 2.])" in text
    assert "the result is right, but the input was changed on the way" in text
    assert x.tolist() == [1.0, 2.0]  # the case kept its own
    case.mutates = True
    assert verdict(answer, case).status == "passed"


def _set(x, value):
    x[0] = value


@pytest.mark.parametrize(
    ("value", "change"),
    [
        (torch.ones(2), lambda x: _set(x, NAN)),
        (torch.ones(2, 3), lambda x: x.t_()),
        (np.ones(2), lambda x: _set(x, 5)),
        ([1, 2], lambda x: x.append(3)),
        ([1, 2], lambda x: _set(x, 1.0)),
        ([[1], [2]], lambda x: _set(x[1], 3)),
        ({"a": 1}, lambda x: x.update(a=2)),
        ({"a": 1, "b": 2}, lambda x: x.pop("a")),
        ({1, 2}, lambda x: x.add(3)),
        ((torch.ones(1),), lambda x: x[0].zero_()),
        (nn.Linear(1, 1), lambda x: x.weight.data.add_(1)),
        (nn.BatchNorm1d(1), lambda x: x(torch.ones(2, 1))),
    ],
)
def test_every_kind_of_change_is_seen(verdict, value, change):
    def changes(x):
        change(x)
        return 1

    for case in (
        Case("it", (value,), expect=1),
        Case("it", (), {"x": value}, expect=1),
    ):
        assert "the input was changed" in verdict(changes, case).text
        assert verdict(lambda x: 1, case).status == "passed"


def test_a_view_of_the_input_is_no_change(verdict):
    x = torch.arange(6).reshape(2, 3)
    case = Case("a row", (x,), expect=torch.tensor([0, 1, 2]))
    assert verdict(lambda x: x[0], case).status == "passed"
    assert verdict(lambda x: x, Case("itself", (x,), expect=x)).status == "passed"


def test_arguments_keep_strides_and_shared_memory(verdict):
    base = torch.arange(12).reshape(3, 4)
    view = base.t()[1:]

    def answer(base, view):
        assert view.stride() == (1, 4) and view.storage_offset() == 1
        assert base.untyped_storage().data_ptr() == view.untyped_storage().data_ptr()
        return 1

    assert verdict(answer, Case("both", (base, view), expect=1)).status == "passed"


def test_arguments_that_need_a_gradient(verdict):
    leaf = torch.tensor([3.0], requires_grad=True)
    inner = leaf * 2  # copy.deepcopy refuses it

    def answer(leaf, rest):
        assert leaf.is_leaf and leaf.requires_grad
        assert not rest["inner"].is_leaf and rest["inner"].requires_grad
        (leaf**2).sum().backward()
        rest["inner"].sum().backward()
        return leaf.grad

    case = Case("both", (leaf, {"inner": inner}), expect=torch.tensor([6.0]))
    assert verdict(answer, case).status == "passed"
    assert verdict(answer, case).status == "passed"  # no gradient was left behind
    assert leaf.grad is None


def test_arguments_that_are_functions_modules_generators(verdict):
    generator = torch.Generator().manual_seed(0)
    expect = torch.rand(2, generator=torch.Generator().manual_seed(0))
    case = Case("all", (torch.relu, nn.ReLU(), generator, double), expect=expect)

    def answer(f, module, generator, function):
        return module(f(torch.rand(2, generator=generator)))

    assert verdict(answer, case).status == "passed"
    assert verdict(answer, case).status == "passed"  # a fresh generator each time
    text = verdict(double, Case("f", (double, torch.relu), expect=1)).text
    assert "input:    double, <built-in method relu" in text


# A case's own test


def test_a_case_with_its_own_test(verdict):
    def test(answer):
        if answer(1) != 2:
            raise Wrong("1 gives 2\nnot this")

    assert verdict(double, Case("own", test=test)).status == "passed"
    text = verdict(lambda x: x, Case("own", test=test)).text
    assert text.endswith("not yet: own\n    1 gives 2\n    not this")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Wrong(), "the result is not right"),
        (Wrong("  "), "the result is not right"),
        (AssertionError("x: got 1"), "it raised AssertionError: x: got 1"),
        (AssertionError(), "it raised AssertionError"),
        (RuntimeError("boom\nmore"), "it raised RuntimeError: boom"),
        (ZeroDivisionError(), "it raised ZeroDivisionError"),
    ],
)
def test_whatever_a_test_raises_is_a_failure(verdict, error, said):
    def test(answer):
        raise error

    got = verdict(double, Case("own", test=test))
    assert got.status == "failed" and got.text.endswith(f"not yet: own\n    {said}")


def test_an_assertion_of_the_reader_is_not_our_verdict(verdict):
    def test(answer):
        if answer(1) != 2:
            raise Wrong("1 gives 2")

    def answer(x):
        assert x.shape, "x has a shape"

    text = verdict(answer, Case("own", test=test)).text
    assert text.endswith(
        "not yet: own\n    it raised AttributeError: "
        "'int' object has no attribute 'shape'"
    )

    def asserting(x):
        assert isinstance(x, float), "x is a float"

    text = verdict(asserting, Case("own", test=test)).text
    assert text.endswith("not yet: own\n    it raised AssertionError: x is a float")


def test_a_neighbor_of_a_large_value_is_checked(verdict):
    case = Case("two", expect=torch.tensor([1e6, 2.0]))
    text = verdict(torch.tensor([1e6, 1.0]), case).text
    assert text.endswith("(got 1, expected 2 at [1] (1 of 2 differ))")
    case.absolute = 1.0
    assert verdict(torch.tensor([1e6, 1.0]), case).status == "passed"


def test_the_part_that_differs_is_named(verdict):
    expect = (torch.ones(2), [{"boxes": torch.ones(1, 4), "image_id": 3}])
    got = (torch.ones(2), [{"boxes": torch.ones(1, 4), "image_id": 4}])
    text = verdict(got, Case("both", expect=expect)).text
    assert text.endswith("([1][0]['image_id']: got 4, expected 3)")


# Differences


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (6.0, 6),
        (np.int64(6), 6),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (1e-9, 0.0),
        (1.0 + 1e-9, 1.0),
        (1 + 1e-9j, 1 + 0j),
        (NAN, NAN),
        (INF, INF),
        ([1, (2, 3)], (1, [2, 3])),
        (OrderedDict(b=1, a=2), {"a": 2, "b": 1}),
        (torch.float32, torch.float32),
        ({1, 2}, {2, 1}),
        (torch.tensor([NAN, INF, 1.0]), torch.tensor([NAN, INF, 1.0 + 1e-7])),
        (torch.tensor([1j, NAN]), torch.tensor([1j, NAN])),
        (torch.zeros(0, 4), torch.zeros(0, 4)),
        (nn.Parameter(torch.ones(2)), torch.ones(2)),
        (torch.eye(2).to_sparse(), torch.eye(2)),
        (np.array(["a"]), np.array(["a"])),
        (torch.tensor([0.0]), torch.tensor([-0.0])),
    ],
)
def test_no_difference(got, expected):
    assert difference(got, expected) == ""
    assert difference(got, got, within=0) == ""


@pytest.mark.parametrize(
    ("got", "expected", "said"),
    [
        (5, 6, "got 5, expected 6"),
        (6.5, 6, "got float 6.5, expected int 6"),
        (1, True, "got int 1, expected bool True"),
        (True, 1.0, "got bool True, expected float 1.0"),
        (0.1, 0.0, "got 0.1, expected 0"),
        (NAN, 1.0, "got nan, expected 1"),
        (INF, 1.0, "got inf, expected 1"),
        (-INF, INF, "got -inf, expected inf"),
        (1 + 1j, 1 + 0j, "got (1+1j), expected (1+0j)"),
        ("a", 1.0, "got str 'a', expected a number"),
        (torch.tensor(6), 6, "got a tensor, expected an int"),
        (np.ones(1), 6, "got ndarray array([1.]), expected an int"),
        (6, torch.tensor(6), "got int 6, expected a tensor"),
        ([6], np.ones(1), "got list [6], expected an ndarray"),
        (np.float64(6), np.ones(1), "got float64 np.float64(6.0), expected an ndarray"),
        (torch.ones(1), np.ones(1), "got a tensor, expected an ndarray"),
        (range(2), [0, 1], "got range range(0, 2), expected a list"),
        ([1], [1, 2], "length 1, expected 2"),
        ([1, [2, 3]], [1, [2, 4]], "[1][1]: got 3, expected 4"),
        (1, {"a": 1}, "got int 1, expected a dict"),
        ({"b": 1}, {"a": 1}, "keys missing ['a'], unexpected ['b']"),
        ({"a": [1, 2]}, {"a": [1, 3]}, "['a'][1]: got 2, expected 3"),
        (torch.ones(2), torch.ones(2, 1), "shape (2,), expected (2, 1)"),
        (np.ones(2), np.ones(3), "shape (2,), expected (3,)"),
        (torch.ones(2), torch.ones(2).long(), "dtype torch.float32, expected"),
        (np.ones(2), np.ones(2, "f4"), "dtype float64, expected float32"),
        (torch.tensor([1.0, NAN]), torch.tensor([1.0, 1.0]), "got nan, expected 1 at"),
        (torch.tensor([1 + 1j]), torch.tensor([1 + 2j]), "got (1+1j), expected (1+2j)"),
        (torch.tensor([2**63 - 1]), torch.tensor([2**63 - 2]), "got 92233720368547758"),
        (np.array(["a"]), np.array(["b"]), "got ndarray array(['a']"),
        (torch.ones(1, device="meta"), torch.ones(1), "a Tensor cannot be compared"),
        (10**400, 1.0, "an int cannot be compared with 1.0"),
    ],
)
def test_differences(got, expected, said):
    assert difference(got, expected).startswith(said)


def test_within():
    ours, library = torch.tensor([1.0, 100.5]), torch.tensor([1.0, 100.0])
    assert difference(ours, library, 0.006) == ""
    assert (
        difference(ours, library, 0.004)
        == "got 100.5, expected 100 at [1] (1 of 2 differ)"
    )
    assert difference(ours, library, 0, 0.5) == ""
    assert difference(ours, library, 0, 0.4) != ""
    assert difference(0.3, 0.1 + 0.2) == "" != difference(0.3, 0.1 + 0.2, 0)


# What is shown


def test_shown_on_one_short_line():
    assert core._show(torch.ones(2, 2)) == "tensor([[1., 1.], [1., 1.]])"
    assert core._show(double) == "double" and core._show(Done) == "Done"
    assert re.fullmatch(r"<.*\.Done object>", core._show(Done()))
    assert len(core._show(list(range(1000)))) == 200


# The registry


@pytest.mark.parametrize("name", ["3.x", "03.X", "03", "03.", "03.a-b", "", "ch03.a"])
def test_a_wrong_name_of_an_exercise(name):
    with pytest.raises(ValueError, match=re.escape(repr(name))):
        core.exercise(name)


def test_an_exercise_is_registered_once(monkeypatch):
    monkeypatch.setattr(core, "_registry", {})
    core.exercise("99.it")(lambda: [])
    with pytest.raises(ValueError, match="'99.it' is registered twice"):
        core.exercise("99.it")(lambda: [])


def test_an_exercise_without_cases_does_not_pass(verdict):
    with pytest.raises(ValueError, match="'99.it' has no cases"):
        verdict(double)


@pytest.mark.parametrize("name", ["", "count_bytes", "3.count_bytes", 3, None])
def test_a_wrong_name_in_a_check(name):
    with pytest.raises(ValueError, match=re.escape(f"got {name!r}")):
        checks.check(name, double)


def test_an_unknown_exercise_lists_the_known_ones():
    with pytest.raises(ValueError, match="no exercise '03.cuont_bytes'.*03.count_byte"):
        checks.check("03.cuont_bytes", double)


@pytest.mark.parametrize("chapter", ["3", 3, "3a", "", "003", None])
def test_a_wrong_chapter(chapter):
    with pytest.raises(ValueError, match=re.escape(repr(chapter))):
        checks.exercises(chapter)


def test_a_chapter_without_exercises():
    with pytest.raises(ValueError, match="chapter '98' has no exercises"):
        checks.exercises("98")


@pytest.mark.parametrize("args", [torch.ones(2, 2), 3, "ab"])
def test_a_forgotten_comma_in_a_case(args):
    with pytest.raises(TypeError, match="args must be a tuple, got"):
        Case("it", args, expect=1)
    with pytest.raises(TypeError, match="kwargs must be a dict, got"):
        Case("it", (1,), args, expect=1)


# The chapters

MODULES = sorted((ROOT / "course_utils" / "checks").glob("ch[0-9][0-9].py"))


def used_in(chapter: str) -> list[str] | None:
    """Names that a chapter (00: the template) checks; None where it is not written."""
    folder = ROOT / ("template" if chapter == "00" else "chapters")
    files = list(folder.glob("*.ipynb" if chapter == "00" else f"{chapter}_*.ipynb"))
    if not files:
        return None
    sources = [
        "".join(cell["source"])
        for cell in json.loads(files[0].read_text(encoding="utf-8"))["cells"]
        if cell["cell_type"] == "code"
    ]
    return re.findall(r"checks\.check\(\s*[\"']([^\"']+)", "\n".join(sources))


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_every_exercise_is_used_in_its_chapter_and_the_reverse(module):
    chapter = module.stem[2:]
    registered = checks.exercises(chapter)
    assert registered
    assert {core._registry[n].cases.__module__.split(".")[-1] for n in registered} == {
        module.stem
    }
    for name in registered:
        assert core._registry[name].cases(), f"{name} has no cases"
    used = used_in(chapter)
    if used is None:
        pytest.skip(f"chapter {chapter} is not written")
    assert set(used) == set(registered)
    # Once below the stub, once below the solution, in the book's order.
    assert used == [name for name in registered for _ in range(2)]


def test_no_chapter_checks_what_is_not_registered():
    for path in (ROOT / "chapters").glob("[0-9][0-9]_*.ipynb"):
        chapter = path.name[:2]
        if used_in(chapter):
            assert set(used_in(chapter)) <= set(checks.exercises(chapter))


def test_every_module_registers_its_own_chapter_only():
    for module in MODULES:
        checks.exercises(module.stem[2:])
    for name, exercise in core._registry.items():
        assert exercise.cases.__module__ == f"course_utils.checks.ch{name[:2]}"


def test_a_hint_is_printed_on_short_lines(monkeypatch, capsys):
    monkeypatch.setattr(core, "_registry", dict(core._registry))
    core.exercise("03.told", hint="Begin with the smallest input. " * 5)(lambda: [])
    assert core.hint("03.told") is None
    first, *rest = capsys.readouterr().out.splitlines()
    assert first == "Exercise 03.told, a first hint:"
    assert " ".join(line.strip() for line in rest).count("smallest input.") == 5
    assert len(rest) > 1 and all(len(line) <= 80 for line in rest)


def test_a_missing_hint_is_said(monkeypatch):
    monkeypatch.setattr(core, "_registry", dict(core._registry))
    core.exercise("03.untold")(lambda: [])
    with pytest.raises(ValueError, match="'03.untold' has no hint"):
        core.hint("03.untold")
    with pytest.raises(ValueError, match="no exercise '03.unknown'.*03.untold"):
        core.hint("03.unknown")

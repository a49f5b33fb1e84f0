"""How an exercise checks itself: a registry, the reader's answer, a friendly verdict.

A chapter's exercises are registered in the module ``chNN`` beside this one, with
:func:`exercise`. In the chapter, one call checks an answer::

    checks.check("03.count_bytes", count_bytes)

It prints one of three things, and never a traceback for a reader's bug: that the
exercise has not been attempted (the body is still ``...``), what passed, or the
smallest input that breaks the answer with what was expected and what came.
"""

import ast
import copy
import dis
import functools
import importlib
import inspect
import re
import textwrap
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from course_utils.compare import disagreement

__all__ = [
    "Case",
    "Exercise",
    "Verdict",
    "Wrong",
    "check",
    "difference",
    "exercise",
    "exercises",
    "hint",
    "judge",
    "three_numbers",
]

UNATTEMPTED, PASSED, FAILED = "unattempted", "passed", "failed"


class Wrong(AssertionError):
    """Raised by a case's own test to say, in a sentence, what is wrong."""


@dataclass
class Case:
    """One thing an answer is tried on.

    Attributes:
        says: what the case shows, in a few words, such as ``"an empty tensor"``.
        args: positional arguments handed to the answer (fresh copies each time).
        kwargs: keyword arguments.
        expect: the right result, or an exception type that must be raised.
        test: instead of ``expect``: called as ``test(answer)``; it raises
            :class:`Wrong` with a sentence, or returns normally.
        within: the largest difference allowed for floats, relative to the value
            expected at the same place; 0: equal.
        absolute: what is allowed besides; default: equal to ``within``. Both as in
            :func:`course_utils.compare.compare`.
        mutates: the arguments may be changed (in-place exercises). Otherwise a
            changed argument is a failure.

    Raises:
        TypeError: ``args`` is not a tuple or list, or ``kwargs`` not a dict.
    """

    says: str
    args: tuple = ()
    kwargs: dict = field(default_factory=dict)
    expect: object = None
    test: Callable | None = None
    within: float = 1e-6
    absolute: float | None = None
    mutates: bool = False

    def __post_init__(self) -> None:
        """Catch a forgotten comma: ``(tensor)`` would hand over its rows."""
        if not isinstance(self.args, (tuple, list)):
            raise TypeError(f"args must be a tuple, got {_a(self.args)}")
        if not isinstance(self.kwargs, dict):
            raise TypeError(f"kwargs must be a dict, got {_a(self.kwargs)}")


@dataclass
class Exercise:
    """An exercise: its name (``"03.count_bytes"``) and a function that makes its cases.

    The cases come smallest first, so that the first failure is the smallest input
    that breaks an answer. ``hint`` is how to begin, for who is stuck.
    """

    name: str
    cases: Callable[[], Sequence[Case]]
    hint: str = ""


@dataclass
class Verdict:
    """What came of a check: its ``status``, the printed ``text``, cases ``passed``."""

    status: str
    text: str
    passed: int = 0


_registry: dict[str, Exercise] = {}


def exercise(name: str, hint: str = "") -> Callable:
    """Register the decorated function, which returns the list of :class:`Case`.

    Args:
        name: such as ``"03.count_bytes"``.
        hint: how to begin, in one or two sentences that do not give the answer away.

    Raises:
        ValueError: the name is not ``NN.some_name``, or is taken.
    """
    if not re.fullmatch(r"\d\d\.[a-z][a-z0-9_]*", name):
        raise ValueError(f"an exercise is named like '03.count_bytes', got {name!r}")

    def register(make):
        if name in _registry:
            raise ValueError(f"exercise {name!r} is registered twice")
        _registry[name] = Exercise(name, make, hint)
        return make

    return register


def exercises(chapter: str) -> list[str]:
    """Names of a chapter's exercises, in order; ``chapter`` is its two digits.

    Raises:
        ValueError: no such chapter, or it has no exercises yet.
    """
    if not (isinstance(chapter, str) and re.fullmatch(r"\d\d", chapter)):
        raise ValueError(f"a chapter is two digits, such as '03', got {chapter!r}")
    module = f"{__package__}.ch{chapter}"
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise ValueError(f"chapter {chapter!r} has no exercises") from None
    return [name for name in _registry if name.startswith(f"{chapter}.")]


def check(name: str, answer) -> None:
    """Check a reader's answer to the exercise ``name`` and print the verdict.

    Args:
        name: such as ``"03.count_bytes"``.
        answer: the reader's function, class or value.

    Raises:
        ValueError: no exercise of that name (the ones of the chapter are listed).
    """
    print(judge(name, answer).text)


def hint(name: str) -> None:
    """Print a first hint for the exercise ``name``: how to begin.

    Raises:
        ValueError: no exercise of that name (the ones of the chapter are listed), or
            it has no hint.
    """
    text = _find(name).hint
    if not text:
        raise ValueError(f"exercise {name!r} has no hint")
    print(f"Exercise {name}, a first hint:")
    print(textwrap.fill(text, 80, initial_indent="  ", subsequent_indent="  "))


def judge(name: str, answer) -> Verdict:
    """Like :func:`check`, but return the :class:`Verdict` instead of printing it.

    Raises:
        ValueError: no exercise of that name (the ones of the chapter are listed).
    """
    found = _find(name)
    title = f"Exercise {name}"
    todo = _unattempted(answer)
    if todo:
        return Verdict(UNATTEMPTED, f"{title}: not attempted yet ({todo})")
    cases = found.cases()
    if not cases:
        raise ValueError(f"exercise {name!r} has no cases: it would pass anything")
    lines, passed = [], 0
    for case in cases:
        problem = _try(case, answer)
        if problem:
            lines.append(f"  not yet: {case.says}")
            lines += ["    " + line for line in problem]
            return Verdict(FAILED, "\n".join([f"{title}: not yet", *lines]), passed)
        lines.append(f"  ok: {case.says}")
        passed += 1
    return Verdict(PASSED, "\n".join([f"{title}: passed", *lines]), passed)


def _find(name: str) -> Exercise:
    """The exercise of that name; raises as :func:`check` says."""
    if not isinstance(name, str) or not re.fullmatch(r"\d\d\.\w+", name):
        raise ValueError(f"an exercise is named like '03.count_bytes', got {name!r}")
    known = exercises(name[:2])
    if name not in known:
        raise ValueError(f"no exercise {name!r}; the chapter has {', '.join(known)}")
    return _registry[name]


def _try(case: Case, answer) -> list[str]:
    """The lines that explain a failure; none where the case passes."""
    if case.test is not None:
        try:
            case.test(answer)
        except Wrong as wrong:
            return str(wrong).strip().splitlines() or ["the result is not right"]
        except Exception as error:  # the reader's bug, or assertion: no traceback
            return [f"it raised {_error(error)}"]
        return []
    if callable(answer):
        return _try_call(case, answer)
    if case.args or case.kwargs:
        return [
            f"a function was expected, not {_a(answer)}: {_show(answer)}",
            "(hand over the function itself, without calling it)",
        ]
    why = difference(answer, case.expect, case.within, case.absolute)
    return _explain(None, case.expect, _show(answer), why) if why else []


def _try_call(case: Case, answer: Callable) -> list[str]:
    args, kwargs = _fresh((case.args, case.kwargs))
    named = [f"{key}={_show(value)}" for key, value in kwargs.items()]
    call = ", ".join([*map(_show, args), *named])
    refused = _refused(answer, args, kwargs)
    if refused:
        return _explain(call, case.expect, refused)
    raises = isinstance(case.expect, type) and issubclass(case.expect, BaseException)
    try:
        value = answer(*args, **kwargs)
    except Exception as error:
        if raises and isinstance(error, case.expect):
            return []
        return _explain(call, case.expect, _error(error))
    if raises:
        return _explain(call, case.expect, _show(value))
    if value is None and case.expect is not None:
        got = "None (does the function end with a return?)"
        return _explain(call, case.expect, got)
    why = difference(value, case.expect, case.within, case.absolute)
    if why:
        return _explain(call, case.expect, _show(value), why)
    if not case.mutates and _changed((args, kwargs), (case.args, case.kwargs)):
        return [
            f"input:    {call}",
            "the result is right, but the input was changed on the way",
        ]
    return []


def _explain(call: str | None, expect, got: str, why: str = "") -> list[str]:
    # For a number or a word the two lines say it all, unless the kind is wrong.
    plain = isinstance(expect, (bool, int, float, complex, str))
    if plain and not why.startswith("got a tensor") and ", expected a" not in why:
        why = ""
    return [
        *([] if call is None else [f"input:    {call or 'nothing'}"]),
        f"expected: {_show(expect)}",
        f"got:      {got}",
        *([f"({why})"] if why else []),
    ]


def _refused(answer: Callable, args, kwargs) -> str:
    """Why a function cannot take these arguments; an empty string where it can.

    Found out without a call, so that it is not taken for a ``TypeError`` that the
    function should raise.
    """
    try:
        signature = inspect.signature(answer)
    except (TypeError, ValueError):  # some built-in functions have none
        return ""
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        name = getattr(answer, "__name__", type(answer).__name__)
        names = ", ".join(signature.parameters)
        return f"{name}({names}) takes other arguments: {_first_line(error)}"
    return ""


def _fresh(value):
    """A deep copy in which tensors that have a history keep their place in it.

    ``copy.deepcopy`` refuses a tensor with a ``grad_fn``; here its copy is the
    result of an operation too, on a leaf of its own.
    """
    memo = {}

    def visit(part):
        if isinstance(part, torch.Tensor):
            if not part.is_leaf:
                leaf = part.detach().clone().requires_grad_()
                memo[id(part)] = leaf.clone()
        elif isinstance(part, Mapping):
            visit(list(part.values()))
        elif isinstance(part, (list, tuple)):
            for inner in part:
                visit(inner)

    visit(value)
    return copy.deepcopy(value, memo)


def _changed(after, before) -> bool:
    """Whether values were changed in place; objects we cannot look into were not."""
    if after is before:
        return False
    if isinstance(before, torch.nn.Module):
        return _changed(after.state_dict(), before.state_dict())
    if isinstance(before, (torch.Tensor, np.ndarray)):
        return bool(difference(after, before, 0))
    if isinstance(before, Mapping):
        return list(after) != list(before) or any(
            _changed(after[key], before[key]) for key in before
        )
    if isinstance(before, (list, tuple)):
        return (
            not isinstance(after, type(before))
            or len(after) != len(before)
            or any(map(_changed, after, before))
        )
    if isinstance(before, (int, float, complex, str, bytes, bytearray, set)):
        return type(after) is not type(before) or after != before
    return type(after) is not type(before)


def three_numbers(answer) -> list[float]:
    """An answer that should be three plain numbers, for a case's own test.

    Raises:
        Wrong: it is anything else.
    """
    if not isinstance(answer, (tuple, list)) or len(answer) != 3:
        raise Wrong(f"three numbers are wanted, in order; got {answer!r}")
    try:
        if any(isinstance(value, (str, bytes)) for value in answer):
            raise TypeError
        return [float(value) for value in answer]
    except (TypeError, ValueError):
        raise Wrong(f"three plain numbers are wanted; got {answer!r}") from None


def difference(
    got, expected, within: float = 1e-6, absolute: float | None = None
) -> str:
    """Say in a few words how two results differ; an empty string where they agree.

    Args:
        got: the reader's result: anything at all.
        expected: a tensor, array, number, string or None, or nested lists, tuples
            and dicts of them (a list may stand for a tuple).
        within: as in :class:`Case`.
        absolute: as in :class:`Case`.

    Tensors and arrays must have the same shape and dtype. Python numbers are compared
    by value, and NumPy's scalars count as such: ``6`` and ``6.0`` agree, a tensor and
    a number do not. The comparison is that of
    :func:`course_utils.compare.disagreement`.
    """
    try:
        return disagreement(got, expected, within, absolute)
    except Exception:  # whatever a reader's object does when it is looked at
        return f"{_a(got)} cannot be compared with {_show(expected)}"


def _a(value) -> str:
    """The kind of a value, as a noun with its article."""
    if value is None:
        return "None"
    kind = type(value).__name__
    return f"an {kind}" if kind[0] in "aeioAEIO" or kind == "ndarray" else f"a {kind}"


def _show(value) -> str:
    """A value as the reader would type it, on one line, cut where it is long."""
    if inspect.isfunction(value) or inspect.isclass(value):
        return value.__name__
    try:
        text = repr(value)
    except Exception as error:
        return f"{_a(value)} whose repr raises {type(error).__name__}"
    text = re.sub(r" at 0x[0-9a-fA-F]+", "", re.sub(r"\s+", " ", text))
    return text if len(text) <= 200 else text[:197] + "..."


def _error(error: BaseException) -> str:
    return f"{type(error).__name__}: {_first_line(error)}".removesuffix(": ")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200]


def _unattempted(answer) -> str:
    """Why an answer counts as not attempted; an empty string where it was.

    The code is looked at, not the result: a function that returns None is an attempt.
    """
    if answer is ...:
        return "replace the ... with your answer"
    owner = answer if inspect.isclass(answer) else type(answer)
    if owner is answer or owner.__module__ == "__main__":  # or an object of theirs
        stubs = [
            name
            for name, member in vars(owner).items()
            if (function := _function(member)) and _is_stub(function)
        ]
        if stubs:
            return f"{', '.join(stubs)}: replace the ... in the body"
        if _is_empty(owner):
            return "replace the ... in the body"
        return ""
    function = _function(answer)
    return "replace the ... in the body" if function and _is_stub(function) else ""


def _function(member):
    """The function that was typed, below methods, properties, caches and decorators."""
    if isinstance(member, (staticmethod, classmethod, types.MethodType)):
        member = member.__func__
    elif isinstance(member, property):
        member = member.fget
    elif isinstance(member, (functools.partial, functools.cached_property)):
        member = member.func
    member = inspect.unwrap(member) if callable(member) else member
    return member if inspect.isfunction(member) else None


def _is_stub(function) -> bool:
    """Whether nothing but a docstring and ``...`` is in a function's body."""
    if function.__name__ == "<lambda>":
        return ... in function.__code__.co_consts and _does_nothing(function)
    node = _definition(function)
    return _does_nothing(function) if node is None else _is_ellipsis(node.body)


def _is_empty(owner: type) -> bool:
    """Whether a class's body is empty; told from ``pass`` where we have the source.

    Notebooks keep the source of functions, not of a class without any.
    """
    typed = [
        name
        for name, member in vars(owner).items()
        # Python and metaclasses add names with underscores of their own.
        if not name.startswith("_") or name == "__annotations__" or _function(member)
    ]
    if typed:
        return False
    node = _definition(owner)
    return node is None or _is_ellipsis(node.body)


def _definition(thing):
    """The syntax tree of a function or class; None where its source is out of reach."""
    try:
        node = ast.parse(textwrap.dedent(inspect.getsource(thing))).body[0]
    except (OSError, TypeError, SyntaxError, IndexError):
        return None
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return node if isinstance(node, kinds) and node.name == thing.__name__ else None


def _is_ellipsis(body: list[ast.stmt]) -> bool:
    """Whether a body holds ``...`` or ``return ...``, a docstring, and nothing else."""
    values = [
        node.value.value
        for node in body
        if isinstance(node, (ast.Expr, ast.Return))
        and isinstance(node.value, ast.Constant)
    ]
    rest = [value for value in values if not isinstance(value, str)]
    return len(values) == len(body) and bool(rest) and all(v is ... for v in rest)


def _does_nothing(function) -> bool:
    """The fallback without source, where ``...`` and ``pass`` look alike."""
    names = {i.opname for i in dis.get_instructions(function)}
    idle = {"RESUME", "NOP", "RETURN_CONST", "LOAD_CONST", "RETURN_VALUE"}
    return names <= idle and set(function.__code__.co_consts) <= {
        None,
        ...,
        function.__doc__,
    }

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
import importlib
import inspect
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

__all__ = ["Case", "Exercise", "Verdict", "check", "exercise", "exercises", "judge"]

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
        within: the largest relative difference allowed for floats (0: equal).
        mutates: the arguments may be changed (in-place exercises). Otherwise a
            changed argument is a failure.
    """

    says: str
    args: tuple = ()
    kwargs: dict = field(default_factory=dict)
    expect: object = None
    test: Callable | None = None
    within: float = 1e-6
    mutates: bool = False


@dataclass
class Exercise:
    """An exercise: its name (``"03.count_bytes"``) and a function that makes its cases.

    The cases come smallest first, so that the first failure is the smallest input
    that breaks an answer.
    """

    name: str
    cases: Callable[[], Sequence[Case]]


@dataclass
class Verdict:
    """What came of a check: ``status``, the printed ``text``, the number of ``passed``."""

    status: str
    text: str
    passed: int = 0


_registry: dict[str, Exercise] = {}


def exercise(name: str) -> Callable:
    """Register the decorated function, which returns the list of :class:`Case`.

    Raises:
        ValueError: the name is not ``NN.some_name``, or is taken.
    """
    if not re.fullmatch(r"\d\d\.[a-z][a-z0-9_]*", name):
        raise ValueError(f"an exercise is named like '03.count_bytes', got {name!r}")

    def register(make):
        if name in _registry:
            raise ValueError(f"exercise {name!r} is registered twice")
        _registry[name] = Exercise(name, make)
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


def judge(name: str, answer) -> Verdict:
    """Like :func:`check`, but return the :class:`Verdict` instead of printing it."""
    if not isinstance(name, str) or not re.fullmatch(r"\d\d\.\w+", name):
        raise ValueError(f"an exercise is named like '03.count_bytes', got {name!r}")
    known = exercises(name[:2])
    if name not in known:
        raise ValueError(f"no exercise {name!r}; the chapter has {', '.join(known)}")
    title = f"Exercise {name}"
    todo = _unattempted(answer)
    if todo:
        return Verdict(UNATTEMPTED, f"{title}: not attempted yet ({todo})")
    lines, passed = [], 0
    for case in _registry[name].cases():
        problem = _try(case, answer)
        if problem:
            lines.append(f"  not yet: {case.says}")
            lines += ["    " + line for line in problem]
            return Verdict(FAILED, "\n".join([f"{title}: not yet", *lines]), passed)
        lines.append(f"  ok: {case.says}")
        passed += 1
    return Verdict(PASSED, "\n".join([f"{title}: passed", *lines]), passed)


def _try(case: Case, answer) -> list[str]:
    """The lines that explain a failure; none where the case passes."""
    given = copy.deepcopy((case.args, case.kwargs))
    call = ", ".join(
        [_show(a) for a in given[0]] + [f"{k}={_show(v)}" for k, v in given[1].items()]
    )
    if case.test is not None:
        try:
            case.test(answer)
        except Wrong as wrong:
            return str(wrong).splitlines()
        except Exception as error:  # the reader's bug, not ours: no traceback
            return [f"it raised {type(error).__name__}: {_first_line(error)}"]
        return []
    raises = isinstance(case.expect, type) and issubclass(case.expect, BaseException)
    value = answer
    if callable(answer):
        try:
            value = answer(*given[0], **given[1])
        except Exception as error:
            if raises and isinstance(error, case.expect):
                return []
            wanted = case.expect.__name__ if raises else _show(case.expect)
            return [
                f"input:    {call}",
                f"expected: {wanted}",
                f"got:      {type(error).__name__}: {_first_line(error)}",
            ]
    before = [f"input:    {call}"] if callable(answer) else []
    if raises:
        return [
            *before,
            f"expected: {case.expect.__name__}",
            f"got:      {_show(value)}",
        ]
    if value is None and case.expect is not None:
        return [
            *before,
            f"expected: {_show(case.expect)}",
            "got:      None (does the function end with a return?)",
        ]
    why = difference(value, case.expect, case.within)
    if why:
        return [
            *before,
            f"expected: {_show(case.expect)}",
            f"got:      {_show(value)}",
            *([f"({why})"] if why != "value" else []),
        ]
    if not case.mutates and difference(list(given[0]), list(case.args), 0):
        return [*before, "the result is right, but the input was changed on the way"]
    return []


def difference(got, expected, within: float = 1e-6) -> str:
    """Say in a few words how two results differ; an empty string where they agree.

    Tensors and arrays must have the same shape and dtype. Python numbers are compared
    by value: an answer may return ``6`` or ``torch.tensor(6)`` only where asked to.
    """
    if isinstance(expected, torch.Tensor):
        if not isinstance(got, torch.Tensor):
            return f"a tensor was expected, not a {type(got).__name__}"
        if got.shape != expected.shape:
            return f"shape {tuple(got.shape)} instead of {tuple(expected.shape)}"
        if got.dtype != expected.dtype:
            return f"dtype {got.dtype} instead of {expected.dtype}"
        a, b = got.detach().cpu(), expected.detach().cpu()
        if not (b.is_floating_point() or b.is_complex()) or within == 0:
            nan = (
                a.isnan() & b.isnan() if b.is_floating_point() else torch.tensor(False)
            )
            return "" if bool(((a == b) | nan).all()) else "value"
        a, b = a.double(), b.double()
        finite = b[b.isfinite()]
        scale = finite.abs().max().item() if finite.numel() else 1.0
        close = torch.isclose(
            a, b, rtol=0, atol=within * (scale or 1.0), equal_nan=True
        )
        return "" if bool(close.all()) else "value"
    if isinstance(expected, np.ndarray):
        if not isinstance(got, np.ndarray):
            return f"an array was expected, not a {type(got).__name__}"
        if got.dtype != expected.dtype:
            return f"dtype {got.dtype} instead of {expected.dtype}"
        return difference(
            torch.from_numpy(got.copy()), torch.from_numpy(expected), within
        )
    if isinstance(expected, Mapping):
        if not isinstance(got, Mapping):
            return f"a dict was expected, not a {type(got).__name__}"
        if set(got) != set(expected):
            return f"keys {sorted(got, key=str)} instead of {sorted(expected, key=str)}"
        pairs = [(got[k], expected[k]) for k in expected]
    elif isinstance(expected, (list, tuple)):
        if not isinstance(got, (list, tuple)):
            return f"a {type(expected).__name__} was expected, not {_a(got)}"
        if len(got) != len(expected):
            return f"length {len(got)} instead of {len(expected)}"
        pairs = list(zip(got, expected, strict=True))
    else:
        return _plain_difference(got, expected, within)
    return next((why for a, b in pairs if (why := difference(a, b, within))), "")


def _plain_difference(got, expected, within: float) -> str:
    if isinstance(got, (torch.Tensor, np.ndarray)):
        return f"a plain {type(expected).__name__} was expected, not {_a(got)}"
    if isinstance(expected, bool) or isinstance(got, bool):
        return "" if got is expected else "value"
    if isinstance(expected, float):
        if not isinstance(got, (int, float)):
            return f"a number was expected, not {_a(got)}"
        if expected != expected:
            return "" if got != got else "value"
        room = within * max(abs(expected), 1e-12) if abs(expected) < float("inf") else 0
        return "" if got == expected or abs(got - expected) <= room else "value"
    try:
        return "" if bool(got == expected) else "value"
    except Exception:
        return f"it cannot be compared with {expected!r}"


def _a(value) -> str:
    return f"a {type(value).__name__}"


def _show(value) -> str:
    """A value as the reader would type it, on one line, cut where it is long."""
    if inspect.isfunction(value) or inspect.isclass(value):
        return value.__name__
    text = re.sub(r"\s+", " ", repr(value))
    text = re.sub(r" at 0x[0-9a-f]+", "", text)
    return text if len(text) <= 200 else text[:197] + "..."


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200]


def _unattempted(answer) -> str:
    """Why an answer counts as not attempted; an empty string where it was.

    The code is looked at, not the result: a function that returns None is an attempt.
    """
    if answer is ...:
        return "replace the ... with your answer"
    if inspect.isclass(answer):
        stubs = [
            name
            for name, member in vars(answer).items()
            if inspect.isfunction(_bare(member)) and _is_stub(_bare(member))
        ]
        if stubs:
            return f"{', '.join(stubs)}: replace the ... in the body"
        return ""
    if inspect.isfunction(answer) and _is_stub(answer):
        return "replace the ... in the body"
    return ""


def _bare(member):
    return getattr(member, "__func__", member)  # under staticmethod or classmethod


def _is_stub(function) -> bool:
    """Whether nothing but a docstring and ``...`` is in a function's body."""
    function = inspect.unwrap(function)
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        body = tree.body[0].body
    except (OSError, TypeError, SyntaxError, AttributeError, IndexError):
        return _compiles_to_nothing(function)
    if not isinstance(tree.body[0], (ast.FunctionDef, ast.AsyncFunctionDef)):
        return False
    rest = [node for node in body if not _is_constant(node, str)]
    return bool(rest) and all(_is_constant(node, type(...)) for node in rest)


def _is_constant(node, kind) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, kind)
    )


def _compiles_to_nothing(function) -> bool:
    """The fallback where the source is out of reach: the code only returns None."""
    names = {i.opname for i in dis.get_instructions(function)}
    return names <= {
        "RESUME",
        "NOP",
        "RETURN_CONST",
        "LOAD_CONST",
        "RETURN_VALUE",
    } and (
        function.__code__.co_consts[-1:] in ((None,), ())
        or set(function.__code__.co_consts) <= {None, function.__doc__}
    )

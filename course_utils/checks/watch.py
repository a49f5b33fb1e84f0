"""See what an answer calls: for rules such as "without autograd" or "no loop".

A case's own test runs the answer inside one of these contexts. What the text of an
exercise forbids is refused by name, however it was imported.
"""

import sys
from contextlib import contextmanager

import torch
from torch.overrides import TorchFunctionMode

from course_utils.checks.core import Wrong

__all__ = ["Watch", "by_hand", "called_by", "without"]

# Reading a property is ".grad", setting it ".grad="; functions bear their own names.
AUTOGRAD = ("backward", "grad", "requires_grad_", ".requires_grad=")


class Watch(TorchFunctionMode):
    """Notes which of torch's functions are called inside, and refuses some.

    Attributes:
        names: of the functions, one entry for each call; ``".data"`` is the reading
            of a property, ``".data="`` its setting.
        largest: number of elements of the largest tensor made.
    """

    def __init__(self, *refused: str, says: str = "") -> None:
        """``refused`` are names that raise :class:`Wrong`, whose sentence is ``says``.

        Without a sentence the name that was called is told.
        """
        super().__init__()
        self.refused, self.says = frozenset(refused), says
        self.names: list[str] = []
        self.largest = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Note the call, and make it."""
        kwargs = kwargs or {}
        name = _name(func)
        self.names.append(name)
        used = name in self.refused
        if name == ".requires_grad=":
            used &= bool(args[1])
        used |= "requires_grad_" in self.refused and bool(kwargs.get("requires_grad"))
        if used:
            raise Wrong(self.says or f"{name.strip('.=')} was called: do without it")
        result = func(*args, **kwargs)
        if isinstance(result, torch.Tensor):
            self.largest = max(self.largest, result.numel())
        return result


def _name(func) -> str:
    name = getattr(func, "__name__", type(func).__name__)
    if name in ("__get__", "__set__"):
        owner = getattr(getattr(func, "__self__", None), "__name__", "")
        return f".{owner}{'=' if name == '__set__' else ''}"
    return name


@contextmanager
def without(*names: str, says: str = ""):
    """Refuse calls of torch's functions of these names inside, as :class:`Watch`."""
    with Watch(*names, says=says) as watch:
        yield watch


@contextmanager
def by_hand(says: str = "autograd was used: write the slope by hand"):
    """Refuse autograd inside."""
    with torch.no_grad(), Watch(*AUTOGRAD, says=says) as watch:
        yield watch


def called_by(*modules: str) -> bool:
    """Whether a function of one of these modules is calling, at any distance."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__") or ""
        if any(name == m or name.startswith(f"{m}.") for m in modules):
            return True
        frame = frame.f_back
    return False

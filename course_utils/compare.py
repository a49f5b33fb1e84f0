"""Ours against the library's: one call that prints a stable line, or says where not.

The printed line names the bound that was asked for, never the difference that was
measured, so that it reads the same on every machine. :func:`disagreement` is the same
comparison for the exercises' checks; it says where two results differ first.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np
import torch

__all__ = ["Difference", "compare", "disagreement"]


class Difference(float):
    """How far apart two results are; a float that a notebook does not echo."""

    def _ipython_display_(self) -> None:
        """Show nothing: the value differs in its last digits between machines."""


def compare(
    name: str, ours, library, within: float = 1e-6, absolute: float | None = None
) -> Difference:
    """Check that two results agree, and print so; raise where they do not.

    Args:
        name: what is compared; it opens the printed line.
        ours: a tensor, array, number, or a (nested) mapping or sequence of them, such
            as a ``state_dict``.
        library: the trusted result, of the same structure.
        within: the largest difference allowed, relative to the library's value at the
            same place. ``0`` asks for equality to the bit, for where both sides do the
            same operations; ``-0.0`` is then not ``0.0``.
        absolute: what is allowed besides, whatever the value; it decides where the
            library's value is 0 or close to it. Default: equal to ``within``. Any
            other is printed.

    Returns:
        The largest ``|ours - library| / (|library| + 1)`` found (0 where all are
        equal): without ``absolute``, the smallest ``within`` that lets them pass.

    Raises:
        AssertionError: they differ in structure, kind, shape, dtype or value; the
            message says where and by how much.
        TypeError: something in them is not a number, tensor, array or collection, or
            ``name`` is not a string, or a bound not a number.
        ValueError: a bound is negative or not finite.

    Every element counts for itself, as in :func:`torch.testing.assert_close`:
    ``|ours - library| <= within * |library| + absolute``, computed in float64. Shape
    and dtype must be the same, and so must integers and booleans, whatever the bound.
    Two ``nan`` at one place are equal; infinities must match. Keys may come in any
    order, lists may meet tuples, and an array's scalar may meet a Python number of its
    dtype. The two sides may live on different devices. Nothing is modified.
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a string, got {_quote(name)}")
    rule = _Rule(within, within if absolute is None else absolute)
    worst = _compare(name, ours, library, rule)
    if rule.to_the_bit:
        bound = "to the bit"
    else:
        bound = f"within {rule.within:g}"
        if rule.absolute != rule.within:
            bound += f", absolute {rule.absolute:g}"
    print(f"{name}: equal {bound}")
    return Difference(worst)


def disagreement(
    ours, library, within: float = 1e-6, absolute: float | None = None
) -> str:
    """Where two results differ first, in a few words; an empty string where they agree.

    Args:
        ours: anything at all.
        library: a tensor, array, number, string or ``None``, or nested mappings, lists
            and tuples of them.
        within: as in :func:`compare`.
        absolute: as in :func:`compare`.

    Returns:
        Such as ``"[1]['boxes']: got 3, expected 4 at [0, 1] (1 of 8 differ)"``.

    Raises:
        TypeError: something in them cannot be compared; a bound is not a number.
        ValueError: a bound is negative or not finite.

    More lenient than :func:`compare`: Python numbers and NumPy's scalars are compared
    by value (``6`` and ``6.0`` agree; a tensor and a number do not), ``0.0`` equals
    ``-0.0``, and anything else that equals its counterpart agrees.
    """
    rule = _Rule(within, within if absolute is None else absolute, by_value=True)
    try:
        _compare("", ours, library, rule)
    except _Differ as found:
        return str(found).removeprefix(": ")
    return ""


class _Differ(AssertionError):
    """Two results differ; the message says where."""


@dataclass(frozen=True)
class _Rule:
    """What counts as equal: both bounds, and whether plain numbers go by value."""

    within: float
    absolute: float
    by_value: bool = False

    def __post_init__(self) -> None:
        for name in ("within", "absolute"):
            bound = getattr(self, name)
            if not isinstance(bound, Real) or isinstance(bound, bool):
                raise TypeError(f"{name} must be a number, got {_quote(bound)}")
            if not 0 <= bound < math.inf:
                raise ValueError(f"{name} must be a finite number >= 0, got {bound!r}")
            object.__setattr__(self, name, float(bound))

    @property
    def to_the_bit(self) -> bool:
        """Whether nothing at all may differ."""
        return self.within == self.absolute == 0

    def __str__(self) -> str:
        if self.within == self.absolute:
            return f"{self.within:g}"
        return f"{self.within:g} and {self.absolute:g} absolute"


def as_tensor(where: str, value) -> torch.Tensor:
    """A number, array or tensor as a plain dense tensor on the CPU, dtype kept.

    Raises:
        TypeError: the value is something else; the message opens with ``where``.
    """
    if isinstance(value, torch.Tensor) and not value.is_nested:
        if value.is_meta:
            raise TypeError(f"{where}: a tensor on the meta device has no values")
        value = value.detach().cpu()
        if value.layout is not torch.strided:
            value = value.to_dense()
        return value.as_subclass(torch.Tensor)
    if isinstance(value, (np.ndarray, np.generic)):
        if not isinstance(value, np.ma.MaskedArray):
            dtype = value.dtype.newbyteorder("=")  # torch knows no other byte order
            try:
                return torch.from_numpy(np.array(value, dtype=dtype))
            except TypeError:
                raise TypeError(f"{where}: cannot compare dtype {dtype}") from None
    for kind, dtype in _PLAIN.items():
        if isinstance(value, kind):
            try:
                return torch.tensor(value, dtype=dtype, device="cpu")
            except (OverflowError, RuntimeError, ValueError):
                raise TypeError(f"{where}: {value} does not fit {dtype}") from None
    raise TypeError(f"{where}: cannot compare {_quote(value)}")


# Python's numbers as dtypes; bool comes first, being an int too.
_PLAIN = {
    bool: torch.bool,
    int: torch.int64,
    float: torch.float64,
    complex: torch.complex128,
}


def _compare(where: str, ours, library, rule: _Rule) -> float:
    if isinstance(library, Mapping):
        if not isinstance(ours, Mapping):
            wanted = _kind(library) if rule.by_value else "a mapping"
            raise _Differ(f"{where}: got {_quote(ours)}, expected {wanted}")
        missing = [k for k in library if k not in ours]
        extra = [k for k in ours if k not in library]
        if missing or extra:
            raise _Differ(f"{where}: keys missing {missing}, unexpected {extra}")
        pairs = [(f"{where}[{k!r}]", ours[k], library[k]) for k in library]
        return max((_compare(*pair, rule) for pair in pairs), default=0.0)
    if _is_sequence(library, rule):
        if not _is_sequence(ours, rule):
            wanted = _kind(library) if rule.by_value else "a sequence"
            raise _Differ(f"{where}: got {_quote(ours)}, expected {wanted}")
        if len(ours) != len(library):
            raise _Differ(f"{where}: length {len(ours)}, expected {len(library)}")
        pairs = [
            (f"{where}[{i}]", a, b)
            for i, (a, b) in enumerate(zip(ours, library, strict=True))
        ]
        return max((_compare(*pair, rule) for pair in pairs), default=0.0)
    if rule.by_value and not isinstance(library, (torch.Tensor, np.ndarray)):
        return _compare_plain(where, ours, library, rule)
    if library is None or isinstance(library, (str, bytes)):
        if type(ours) is not type(library) or ours != library:
            raise _Differ(f"{where}: got {_quote(ours)}, expected {library!r}")
        return 0.0
    if type(ours) is type(library) is int:  # of any size
        if ours != library:
            raise _Differ(f"{where}: got {ours}, expected {library}")
        return 0.0
    return _compare_values(where, ours, library, rule)


def _compare_plain(where: str, ours, library, rule: _Rule) -> float:
    """Numbers by value, and whatever else knows what it equals."""
    a, b = (v.item() if isinstance(v, np.generic) else v for v in (ours, library))
    if isinstance(a, (torch.Tensor, np.ndarray)):
        raise _Differ(f"{where}: got {_quote(ours)}, expected {_kind(library)}")
    if isinstance(a, bool) or isinstance(b, bool):
        equal = a is b
    elif isinstance(b, (float, complex)) and isinstance(a, (int, float, complex)):
        kind = complex if isinstance(a, complex) or isinstance(b, complex) else float
        a, b = (as_tensor(where, kind(v)) for v in (a, b))
        return _compare_tensors(where, a, b, rule)
    elif isinstance(b, (float, complex)):
        raise _Differ(f"{where}: got {_quote(ours)}, expected a number")
    else:
        equal = bool(a == b)
    if not equal:
        texts = [_quote(v) for v in (a, b)]
        if type(a) is type(b):  # then its name says nothing
            texts = [text.removeprefix(f"{type(a).__name__} ") for text in texts]
        raise _Differ(f"{where}: got {texts[0]}, expected {texts[1]}")
    return 0.0


def _compare_values(where: str, ours, library, rule: _Rule) -> float:
    structure = isinstance(ours, (Mapping, Sequence))
    tensors = [isinstance(side, torch.Tensor) for side in (ours, library)]
    if rule.by_value and not any(tensors):  # an array is meant, and no number
        structure |= not isinstance(ours, np.ndarray)
    b = library
    if not rule.by_value or tensors[1] or library.dtype.kind in "biufc":
        b = as_tensor(where, library)
    if ours is None or structure or tensors[0] != tensors[1]:
        raise _Differ(f"{where}: got {_quote(ours)}, expected {_kind(library)}")
    if b is library and not tensors[1]:  # an array of words, by value
        if not np.array_equal(ours, library):
            raise _Differ(f"{where}: got {_quote(ours)}, expected {_quote(library)}")
        return 0.0
    a = as_tensor(where, ours)
    if a.shape != b.shape:
        raise _Differ(f"{where}: shape {tuple(a.shape)}, expected {tuple(b.shape)}")
    if a.dtype != b.dtype:
        kinds = [getattr(s, "dtype", type(s).__name__) for s in (ours, library)]
        raise _Differ(f"{where}: dtype {kinds[0]}, expected {kinds[1]}")
    try:
        return _compare_tensors(where, a, b, rule)
    except NotImplementedError:  # a dtype without arithmetic, such as bits8
        raise TypeError(f"{where}: cannot compare dtype {b.dtype}") from None


def _compare_tensors(
    where: str, a: torch.Tensor, b: torch.Tensor, rule: _Rule
) -> float:
    """Two tensors of one shape and dtype, element by element."""
    if not (b.is_floating_point() or b.is_complex()):
        wrong = a != b
        if wrong.any():
            raise _Differ(f"{where}: {_first(wrong, a, b)}")
        return 0.0
    wide = torch.complex128 if b.is_complex() else torch.float64
    x, y = a.to(wide).resolve_conj(), b.to(wide).resolve_conj()
    if b.is_complex() and (x.isnan() | y.isnan()).any():
        # A nan in one part says nothing about the other part.
        x, y = torch.view_as_real(x), torch.view_as_real(y)
    bounds = {"rtol": rule.within, "atol": rule.absolute, "equal_nan": True}
    same = (x == y) | (x.isnan() & y.isnan())
    gap = torch.where(same, 0.0, (x - y).abs() / (y.abs() + 1))
    worst = gap.nan_to_num(math.inf, math.inf).max().item() if gap.numel() else 0.0

    def where_not(_: str) -> str:
        wrong = ~torch.isclose(x, y, **bounds)
        if wrong.dim() > b.dim():
            wrong = wrong.any(dim=-1)
        size = ""
        if worst < math.inf and not rule.by_value:
            excess = torch.where(same, 0.0, (x - y).abs() - rule.within * y.abs())
            place = excess.argmax()
            size = f"; largest difference {(x - y).abs().flatten()[place]:.3g}"
            size += f" (from {y.abs().flatten()[place]:.6g}), allowed {rule}"
        return f"{where}: {_first(wrong, a, b)}{size}"

    try:
        torch.testing.assert_close(x, y, **bounds, msg=where_not)
    except AssertionError as error:
        raise _Differ(str(error)) from None
    if rule.to_the_bit and not rule.by_value:  # -0.0 == 0.0, but for a bit
        x, y = (torch.view_as_real(v) if v.is_complex() else v for v in (x, y))
        wrong = (x.signbit() != y.signbit()) & ~x.isnan()
        if wrong.dim() > b.dim():
            wrong = wrong.any(dim=-1)
        if wrong.any():
            raise _Differ(f"{where}: {_first(wrong, a, b)}")
    return worst


def _is_sequence(value, rule: _Rule) -> bool:
    if rule.by_value:
        return isinstance(value, (list, tuple))
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _kind(value) -> str:
    """What kind of thing is expected, as a noun with its article."""
    if isinstance(value, torch.Tensor):
        return "a tensor"
    if value is None:
        return "None"
    kind = type(value).__name__
    return f"an {kind}" if kind[0] in "aeioAEIO" or kind == "ndarray" else f"a {kind}"


def _quote(value) -> str:
    """A value's type, and its own text where that is short enough to help."""
    if isinstance(value, torch.Tensor):
        return "a tensor"
    if value is None:
        return "None"
    try:
        text = repr(value)
    except Exception:  # a broken __repr__ must not hide our message
        text = ""
    kind = type(value).__name__
    return f"{kind} {text}" if text and len(text) <= 80 else kind


def _first(wrong: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> str:
    """The first wrong place, both values there, and how many are wrong."""
    index = tuple(wrong.nonzero()[0].tolist())
    got, expected = a[index].item(), b[index].item()
    texts = [str(got), str(expected)]
    if isinstance(got, float) and f"{got:.6g}" != f"{expected:.6g}":
        texts = [f"{got:.6g}", f"{expected:.6g}"]
    place = f" at {list(index)}" if index else ""
    count = f" ({int(wrong.sum())} of {wrong.numel()} differ)" if index else ""
    return f"got {texts[0]}, expected {texts[1]}{place}{count}"

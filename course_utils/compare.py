"""Ours against the library's: one call that prints a stable line, or says where not.

The printed line names the bound that was asked for, never the difference that was
measured, so that it reads the same on every machine.
"""

import math
from collections.abc import Mapping, Sequence
from numbers import Real

import numpy as np
import torch

__all__ = ["Difference", "compare"]


class Difference(float):
    """The largest relative difference found; a float that a notebook does not echo."""

    def _ipython_display_(self) -> None:
        """Show nothing: the value differs in its last digits between machines."""


def compare(name: str, ours, library, within: float = 1e-6) -> Difference:
    """Check that two results agree, and print so; raise where they do not.

    Args:
        name: what is compared; it opens the printed line.
        ours: a tensor, array, number, or a (nested) mapping or sequence of them, such
            as a ``state_dict``.
        library: the trusted result, of the same structure.
        within: the largest difference allowed, relative to the largest finite
            absolute value in the library's result (each tensor on its own; where that
            is 0, the bound is absolute). ``0`` asks for equality to the bit, for
            where both sides do the same operations; ``-0.0`` is then not ``0.0``.

    Returns:
        The largest relative difference found (0 where all are equal).

    Raises:
        AssertionError: they differ in structure, kind, shape, dtype or value; the
            message says where and by how much.
        TypeError: something in them is not a number, tensor, array or collection, or
            ``name`` is not a string, or ``within`` not a number.
        ValueError: ``within`` is negative or not finite.

    Shape and dtype must be the same, and so must integers and booleans, whatever the
    bound. Two ``nan`` at one place are equal; infinities must match. Keys may come in
    any order, lists may meet tuples, and an array's scalar may meet a Python number of
    its dtype. The two sides may live on different devices. Nothing is modified.
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a string, got {_quote(name)}")
    if not isinstance(within, Real) or isinstance(within, bool):
        raise TypeError(f"within must be a number, got {_quote(within)}")
    if not 0 <= within < math.inf:
        raise ValueError(f"within must be a finite number >= 0, got {within!r}")
    worst = _compare(name, ours, library, float(within))
    bound = "to the bit" if within == 0 else f"within {within:g}"
    print(f"{name}: equal {bound}")
    return Difference(worst)


def disagreement(
    ours: torch.Tensor, library: torch.Tensor, within: float
) -> tuple[torch.Tensor, float]:
    """Where two tensors of one shape and dtype differ too much, and by how much.

    Args:
        ours: any dense tensor on the CPU.
        library: one of the same shape and dtype.
        within: as in :func:`compare`.

    Returns:
        Booleans of the tensors' shape, true where they differ too much, and the
        largest relative difference: infinite where integers differ or where one side
        is ``nan`` or infinite and the other is not.
    """
    if not (library.is_floating_point() or library.is_complex()):
        wrong = ours != library
        return wrong, math.inf if wrong.any() else 0.0
    # A last axis of parts: one for a real number, two for a complex one.
    a, b = _parts(ours), _parts(library)
    same = (a == b) | (a.isnan() & b.isnan())
    finite = a.isfinite() & b.isfinite()
    gap = torch.where(finite, (a - b).abs(), math.inf).masked_fill(same, 0.0)
    gap = torch.linalg.vector_norm(gap, ord=math.inf, dim=-1)
    size = b.abs()[b.isfinite()]
    gap = gap / ((size.max().item() if size.numel() else 0.0) or 1.0)
    worst = gap.max().item() if gap.numel() else 0.0
    if within > 0:
        return gap > within, worst
    same &= (a.signbit() == b.signbit()) | a.isnan()  # -0.0 == 0.0, but for a bit
    return ~same.all(dim=-1), worst


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


def _parts(values: torch.Tensor) -> torch.Tensor:
    if values.is_complex():
        return torch.view_as_real(values.to(torch.complex128).resolve_conj())
    return values.to(torch.float64)[..., None]


def _compare(where: str, ours, library, within: float) -> float:
    if isinstance(library, Mapping):
        if not isinstance(ours, Mapping):
            raise AssertionError(f"{where}: got {_quote(ours)}, expected a mapping")
        missing = [k for k in library if k not in ours]
        extra = [k for k in ours if k not in library]
        if missing or extra:
            raise AssertionError(f"{where}: keys missing {missing}, unexpected {extra}")
        pairs = [(f"{where}[{k!r}]", ours[k], library[k]) for k in library]
        return max((_compare(*pair, within) for pair in pairs), default=0.0)
    if _is_sequence(library):
        if not _is_sequence(ours):
            raise AssertionError(f"{where}: got {_quote(ours)}, expected a sequence")
        if len(ours) != len(library):
            raise AssertionError(
                f"{where}: length {len(ours)}, expected {len(library)}"
            )
        pairs = [
            (f"{where}[{i}]", a, b)
            for i, (a, b) in enumerate(zip(ours, library, strict=True))
        ]
        return max((_compare(*pair, within) for pair in pairs), default=0.0)
    if library is None or isinstance(library, (str, bytes)):
        if type(ours) is not type(library) or ours != library:
            raise AssertionError(f"{where}: got {_quote(ours)}, expected {library!r}")
        return 0.0
    if type(ours) is type(library) is int:  # of any size
        if ours != library:
            raise AssertionError(f"{where}: got {ours}, expected {library}")
        return 0.0
    return _compare_values(where, ours, library, within)


def _compare_values(where: str, ours, library, within: float) -> float:
    b = as_tensor(where, library)
    structure = isinstance(ours, (Mapping, str, bytes)) or _is_sequence(ours)
    tensors = [isinstance(side, torch.Tensor) for side in (ours, library)]
    if ours is None or structure or tensors[0] != tensors[1]:
        wanted = "a tensor" if tensors[1] else f"a {type(library).__name__}"
        raise AssertionError(f"{where}: got {_quote(ours)}, expected {wanted}")
    a = as_tensor(where, ours)
    if a.shape != b.shape:
        raise AssertionError(
            f"{where}: shape {tuple(a.shape)}, expected {tuple(b.shape)}"
        )
    if a.dtype != b.dtype:
        kinds = [getattr(s, "dtype", type(s).__name__) for s in (ours, library)]
        raise AssertionError(f"{where}: dtype {kinds[0]}, expected {kinds[1]}")
    try:
        wrong, worst = disagreement(a, b, within)
    except NotImplementedError:  # a dtype without arithmetic, such as bits8
        raise TypeError(f"{where}: cannot compare dtype {b.dtype}") from None
    if wrong.any():
        size = ""
        if 0 < worst < math.inf:
            size = f"; largest relative difference {worst:.3g}, allowed {within:g}"
        raise AssertionError(f"{where}: {_first(wrong, a, b)}{size}")
    return worst


def _is_sequence(value) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


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

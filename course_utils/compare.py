"""Ours against the library's: one call that prints a stable line, or says where not.

The printed line names the bound that was asked for, never the difference that was
measured, so that it reads the same on every machine.
"""

from collections.abc import Mapping, Sequence

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
        within: the largest difference allowed, relative to the largest absolute value
            in the library's result (each tensor on its own). ``0`` asks for equality
            to the bit, for where both sides do the same operations.

    Returns:
        The largest relative difference found (0 where all are equal).

    Raises:
        AssertionError: they differ in structure, kind, shape, dtype or value; the
            message says where and by how much.
        TypeError: something in them is not a number, tensor, array or collection.
        ValueError: ``within`` is negative or not finite.

    Both sides may live on different devices. Two ``nan`` at one place are equal;
    infinities must match exactly. Nothing is modified.
    """
    if not (isinstance(within, (int, float)) and 0 <= within < float("inf")):
        raise ValueError(f"within must be a finite number >= 0, got {within!r}")
    worst = _compare(name, ours, library, within)
    bound = "to the bit" if within == 0 else f"within {within:g}"
    print(f"{name}: equal {bound}")
    return Difference(worst)


def _compare(where: str, ours, library, within: float) -> float:
    if isinstance(library, Mapping):
        if not isinstance(ours, Mapping):
            raise AssertionError(f"{where}: got {_kind(ours)}, expected a mapping")
        missing = [k for k in library if k not in ours]
        extra = [k for k in ours if k not in library]
        if missing or extra:
            raise AssertionError(f"{where}: keys missing {missing}, unexpected {extra}")
        pairs = [(f"{where}[{k!r}]", ours[k], library[k]) for k in library]
        return max((_compare(*pair, within) for pair in pairs), default=0.0)
    if isinstance(library, Sequence) and not isinstance(library, (str, bytes)):
        if not isinstance(ours, Sequence) or isinstance(ours, (str, bytes)):
            raise AssertionError(f"{where}: got {_kind(ours)}, expected a sequence")
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
            raise AssertionError(f"{where}: got {ours!r}, expected {library!r}")
        return 0.0
    return _compare_values(where, ours, library, within)


def _compare_values(where: str, ours, library, within: float) -> float:
    a, b = _as_tensor(where, ours), _as_tensor(where, library)
    if _kind(ours) != _kind(library):
        raise AssertionError(f"{where}: got {_kind(ours)}, expected {_kind(library)}")
    if a.shape != b.shape:
        raise AssertionError(
            f"{where}: shape {tuple(a.shape)}, expected {tuple(b.shape)}"
        )
    if a.dtype != b.dtype:
        raise AssertionError(f"{where}: dtype {a.dtype}, expected {b.dtype}")
    if b.numel() == 0:
        return 0.0
    if not (b.is_floating_point() or b.is_complex()):
        wrong = a != b
        if wrong.any():
            raise AssertionError(_first(where, wrong, a, b))
        return 0.0
    wide = torch.complex128 if b.is_complex() else torch.float64
    a, b = a.to(wide), b.to(wide)
    same = (a == b) | (a.isnan() & b.isnan())
    # Where one side is inf or nan and the other is not, no bound helps.
    broken = ~same & ~(a.isfinite() & b.isfinite())
    if broken.any():
        raise AssertionError(_first(where, broken, a, b))
    gap = torch.where(same, 0.0, (a - b).abs())
    finite = b[b.isfinite()]
    scale = finite.abs().max().item() if finite.numel() else 0.0
    if scale == 0.0:
        scale = 1.0  # the library says 0 everywhere: the bound is absolute
    worst = gap.max().item() / scale
    if worst > within:
        raise AssertionError(
            f"{_first(where, gap / scale > within, a, b)}; "
            f"largest relative difference {worst:.3g}, allowed {within:g}"
        )
    return worst


def _kind(value) -> str:
    """The family of a value: tensors, arrays and plain numbers do not mix."""
    if isinstance(value, torch.Tensor):
        return "tensor"
    if isinstance(value, (np.ndarray, np.generic)):
        return "array"
    return type(value).__name__


def _as_tensor(where: str, value) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        if value.layout is not torch.strided:
            value = value.to_dense()
        return value.dequantize() if value.is_quantized else value
    if isinstance(value, (np.ndarray, np.generic)):
        try:
            return torch.from_numpy(np.array(value))
        except TypeError as error:
            raise TypeError(f"{where}: cannot compare dtype {value.dtype}") from error
    if isinstance(value, bool):
        return torch.tensor(value)
    if isinstance(value, int):
        return torch.tensor(value, dtype=torch.int64)
    if isinstance(value, float):
        return torch.tensor(value, dtype=torch.float64)
    if isinstance(value, complex):
        return torch.tensor(value, dtype=torch.complex128)
    raise TypeError(f"{where}: cannot compare a {type(value).__name__}: {value!r}")


def _first(where: str, wrong: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> str:
    index = tuple(wrong.nonzero()[0].tolist())
    count = int(wrong.sum())
    place = f" at {list(index)}" if index else ""
    some = f" ({count} of {wrong.numel()} differ)" if wrong.numel() > 1 else ""
    return (
        f"{where}: got {a[index].item()!r}, expected {b[index].item()!r}{place}{some}"
    )

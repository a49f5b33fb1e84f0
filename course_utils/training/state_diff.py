"""How two states differ: what is missing, unexpected, of another shape, dtype or value.

``load_state_dict`` stops at the first two kinds and at shapes, and with
``strict=False`` it says nothing that has to be read. This says all of it, before
anything is loaded (chapter 15).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["StateDiff", "diff_states"]


@dataclass(frozen=True)
class StateDiff:
    """The names that differ, each under the first kind that applies, in order.

    Attributes:
        missing: of the model only: name to shape.
        unexpected: of the file only: name to shape.
        shape: name to the model's shape and the file's.
        dtype: name to the model's dtype and the file's.
        value: name to how many elements differ; ``nan`` equals ``nan``, 0 equals -0.
        same: names that agree in all of it, in the model's order.
    """

    missing: dict[str, tuple[int, ...]] = field(default_factory=dict)
    unexpected: dict[str, tuple[int, ...]] = field(default_factory=dict)
    shape: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(
        default_factory=dict
    )
    dtype: dict[str, tuple[torch.dtype, torch.dtype]] = field(default_factory=dict)
    value: dict[str, int] = field(default_factory=dict)
    same: list[str] = field(default_factory=list)

    @property
    def fits(self) -> bool:
        """Whether each name is there, in its shape, and no other.

        A strict load takes it then. It is a little more generous: a shape (1,) passes
        for (), and batch normalization adds its counter to a state without versions.
        """
        return not (self.missing or self.unexpected or self.shape)

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return self.fits and not (self.dtype or self.value)

    @property
    def found(self) -> int:
        """How many names of the model the file fills: there, and of its shape."""
        return len(self.dtype) + len(self.value) + len(self.same)

    def __str__(self) -> str:
        """A line for each kind that occurs: how many, and the first of them."""
        lines = [f"{len(self.same)} same"]
        for kind in ("missing", "unexpected", "shape", "dtype", "value"):
            names = getattr(self, kind)
            if names:
                first, detail = next(iter(names.items()))
                lines.append(f"{len(names)} {kind}: {first} {_words(kind, detail)}")
        return "\n".join(lines)


def diff_states(
    mine: nn.Module | Mapping[str, Tensor],
    theirs: nn.Module | Mapping[str, Tensor],
    *,
    values: bool = True,
) -> StateDiff:
    """Compare the state of a model with one that it may get, such as a file's.

    Nothing is loaded or changed; tensors may lie on different devices.

    Args:
        mine: the model, or its ``state_dict()``.
        theirs: the other model, or its state.
        values: compare the elements, too. Without, names that agree in shape and
            dtype count as the same; only so can states on the meta device be compared.

    Returns:
        What differs. Names of the model come in its order, unexpected ones in the
        file's.

    Raises:
        TypeError: neither a module nor a dictionary, or an entry is no tensor.
        ValueError: an entry on the meta device, which has no values to compare.
    """
    mine, theirs = _state(mine), _state(theirs)
    found = StateDiff()
    for name, a in mine.items():
        if name not in theirs:
            found.missing[name] = tuple(a.shape)
            continue
        b = theirs[name]
        if a.shape != b.shape:
            found.shape[name] = tuple(a.shape), tuple(b.shape)
        elif a.dtype != b.dtype:
            found.dtype[name] = a.dtype, b.dtype
        elif values and (wrong := _differing(name, a, b)):
            found.value[name] = wrong
        else:
            found.same.append(name)
    for name, b in theirs.items():
        if name not in mine:
            found.unexpected[name] = tuple(b.shape)
    return found


def _state(side: Any) -> Mapping[str, Tensor]:
    if isinstance(side, nn.Module):
        side = side.state_dict()
    if not isinstance(side, Mapping):
        raise TypeError(
            f"a state is a dictionary from names to tensors, got {type(side).__name__}"
        )
    for name, value in side.items():
        if not isinstance(value, Tensor):
            raise TypeError(f"{name!r} is no tensor: {type(value).__name__}")
    return side


def _differing(name: str, a: Tensor, b: Tensor) -> int:
    if a.is_meta or b.is_meta:
        raise ValueError(
            f"{name!r} lies on the meta device and has no values; pass values=False"
        )
    a, b = a.detach().cpu(), b.detach().cpu()
    return int(((a != b) & ~((a != a) & (b != b))).sum())


def _words(kind: str, detail: Any) -> str:
    if kind in ("shape", "dtype"):
        ours, other = (str(part).removeprefix("torch.") for part in detail)
        return f"is {ours}, the other {other}"
    if kind == "value":
        return f"differs in {detail} places"
    return str(detail)

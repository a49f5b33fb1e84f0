"""Random numbers that are the same on every machine and in every version.

Python promises that ``random.Random(seed).random()`` keeps its sequence, and NumPy that
``PCG64(seed).random_raw()`` does. Nothing else is drawn here: the distributions of both
libraries may change from version to version, so the few we need are built from uniform
numbers with additions and multiplications only.
"""

import random
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

__all__ = ["Dice", "cosine", "sine"]

T = TypeVar("T")

_TURN = 6.283185307179586


def sine(angle: float) -> float:
    """Sine of an angle in radians, by a polynomial: equal on every machine.

    The C library's sine may differ in the last bit between systems; additions and
    multiplications do not. The error is below 1e-9.

    Args:
        angle: radians, of moderate size.

    Returns:
        The sine.
    """
    angle = angle - _TURN * int(angle / _TURN)
    if angle > _TURN / 2:
        angle -= _TURN
    elif angle < -_TURN / 2:
        angle += _TURN
    if angle > _TURN / 4:
        angle = _TURN / 2 - angle
    elif angle < -_TURN / 4:
        angle = -_TURN / 2 - angle
    square, term, total = angle * angle, angle, angle
    for k in (6.0, 20.0, 42.0, 72.0, 110.0, 156.0):
        term = -term * square / k
        total += term
    return total


def cosine(angle: float) -> float:
    """Cosine of an angle in radians; see :func:`sine`."""
    return sine(angle + _TURN / 4)


class Dice:
    """A stream of random choices, named by a few integers.

    Args:
        key: integers that name the stream, for example the seed, the scene and the
            person. Streams of different keys are unrelated.
    """

    def __init__(self, *key: int) -> None:
        self.key = tuple(int(k) for k in key)
        mixed = 0x9E3779B97F4A7C15
        for k in self.key:
            mixed = (mixed ^ (k & 0xFFFFFFFFFFFFFFFF)) * 0xBF58476D1CE4E5B9
            mixed = (mixed ^ (mixed >> 31)) & 0xFFFFFFFFFFFFFFFF
            mixed = (mixed * 0x94D049BB133111EB + 0x632BE59BD9B4E019) % 2**64
            mixed ^= mixed >> 29
        self._random = random.Random(mixed).random
        self._bits = np.random.PCG64(mixed)

    def child(self, *key: int) -> "Dice":
        """A stream of its own, named by this one's key and further integers."""
        return Dice(*self.key, *key)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """A number from ``low`` to ``high``, all equally likely."""
        return low + (high - low) * self._random()

    def bell(self, mean: float = 0.0, spread: float = 1.0) -> float:
        """A number near ``mean`` with standard deviation ``spread`` (a sum of four)."""
        total = self._random() + self._random() + self._random() + self._random()
        return mean + spread * (total - 2.0) * 1.7320508

    def integer(self, low: int, high: int) -> int:
        """An integer from ``low`` to ``high``, both included."""
        return low + int(self._random() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self._random() < probability

    def sign(self) -> int:
        """-1 or 1."""
        return 1 if self._random() < 0.5 else -1

    def choice(self, items: Sequence[T]) -> T:
        """One of the items, all equally likely."""
        return items[int(self._random() * len(items))]

    def weighted(self, items: dict[T, float]) -> T:
        """One of the keys, as likely as its value says."""
        total = 0.0  # not sum(): it rounds otherwise since Python 3.12
        for weight in items.values():
            total += weight
        left = self._random() * total
        for item, weight in items.items():
            left -= weight
            if left < 0:
                return item
        return item

    def shade(
        self, color: tuple[float, float, float], spread: float = 0.04
    ) -> tuple[float, float, float]:
        """A color near the one given: a little lighter or darker, a little off."""
        common = self.bell(0.0, spread)
        r, g, b = (
            min(1.0, max(0.0, c + common + self.bell(0.0, spread / 3))) for c in color
        )
        return r, g, b

    def noise(self, height: int, width: int) -> np.ndarray:
        """White noise of shape (height, width), float32, in [0, 1) by steps of 1/256.

        Args:
            height: rows.
            width: columns.

        Returns:
            The array.
        """
        words = (height * width + 7) // 8
        raw = self._bits.random_raw(words).astype("<u8").view(np.uint8)
        part = raw[: height * width].reshape(height, width)
        return part.astype(np.float32) / np.float32(256)

    def smooth(
        self, height: int, width: int, rows: float, columns: float
    ) -> np.ndarray:
        """Smooth noise of shape (height, width), float32, in [0, 1).

        Args:
            height: rows.
            width: columns.
            rows: how many rows a wave of the noise spans.
            columns: how many columns.

        Returns:
            White noise on a coarse grid, interpolated between its points.
        """
        rows, columns = max(1.0, rows), max(1.0, columns)
        grid = self.noise(int(height / rows) + 3, int(width / columns) + 3)
        y, x = np.arange(height) / rows, np.arange(width) / columns
        iy, ix = y.astype(np.int64), x.astype(np.int64)
        fy = (y - iy).astype(np.float32)[:, None]
        fx = (x - ix).astype(np.float32)[None, :]
        fy, fx = fy * fy * (3 - 2 * fy), fx * fx * (3 - 2 * fx)
        upper, lower = grid[iy], grid[iy + 1]
        rows_mixed = upper + (lower - upper) * fy
        left, right = rows_mixed[:, ix], rows_mixed[:, ix + 1]
        return left + (right - left) * fx

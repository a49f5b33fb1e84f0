"""Surfaces: what ground, walls and leaves look like, point by point.

Each function takes world coordinates in meters, arrays that broadcast to the picture's
shape, and ``grain``, the meters that one pixel spans there: detail finer than a pixel
fades out instead of flickering.
"""

import numpy as np

from experiments.scenes.dice import Dice
from experiments.scenes.raster import Color

__all__ = ["Field", "band", "blend", "bricks", "foliage", "lawn", "paving", "rough"]

_ONE = np.float32(1)
_HALF = np.float32(0.5)


class Field:
    """Smooth noise over an endless plane, 0 to 1, that repeats after 64 waves.

    Args:
        dice: stream of random numbers.
    """

    def __init__(self, dice: Dice) -> None:
        self.table = dice.noise(64, 64)
        self._flat = self.table.ravel()

    def __call__(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Values at (u, v), one wave per unit."""
        ku, kv = np.floor(u), np.floor(v)
        fu, fv = u - ku, v - kv
        iu, iv = ku.astype(np.int32) & 63, kv.astype(np.int32) & 63
        ju, jv = (iu + 1) & 63, (iv + 1) & 63
        fu, fv = fu * fu * (3 - 2 * fu), fv * fv * (3 - 2 * fv)
        upper, lower = self._rows(iv, iu, ju, fu), self._rows(jv, iu, ju, fu)
        return (upper + (lower - upper) * fv).astype(np.float32)

    def _rows(self, row, left, right, share) -> np.ndarray:
        start = row * 64
        a, b = self._flat.take(start + left), self._flat.take(start + right)
        return a + (b - a) * share

    def cell(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """One value per unit square, constant inside it."""
        iu, iv = np.floor(u).astype(np.int64), np.floor(v).astype(np.int64)
        return self.table[(iv * 7 + 3) & 63, (iu * 5 + iv * 3) & 63]


def band(
    x: np.ndarray, low: float | np.ndarray, high: float | np.ndarray, grain: np.ndarray
) -> np.ndarray:
    """1 where ``low < x < high``, 0 elsewhere, soft over one pixel."""
    soft = _ONE / np.maximum(grain, np.float32(1e-4))
    rise = np.clip((x - low) * soft + _HALF, 0, 1)
    fall = np.clip((high - x) * soft + _HALF, 0, 1)
    return (np.minimum(rise, fall)).astype(np.float32)


def blend(image: np.ndarray, color: Color | np.ndarray, share: np.ndarray) -> None:
    """Lay a color over an image, in place, with a share per pixel."""
    for k in range(3):
        channel = (
            color[..., k] if isinstance(color, np.ndarray) else np.float32(color[k])
        )
        image[..., k] += (channel - image[..., k]) * share


def tinted(light: np.ndarray, color: Color) -> np.ndarray:
    """A gray picture in a color: shape (height, width) to (height, width, 3)."""
    return light[..., None] * np.array(color, np.float32)


def _fade(grain: np.ndarray, size: float) -> np.ndarray:
    return np.clip(np.float32(size) / np.maximum(grain, np.float32(1e-4)) - _HALF, 0, 1)


def rough(u, v, grain, color: Color, field: Field, strength: float = 0.1) -> np.ndarray:
    """Asphalt, concrete or plaster: blotches large and small."""
    light = _ONE + (field(u * 0.2 + 5, v * 0.2) - _HALF) * np.float32(strength * 1.3)
    light = light + (field(u * 1.6, v * 1.6) - _HALF) * strength * 0.6 * _fade(
        grain, 0.4
    )
    light = light + (field(u * 9, v * 9) - _HALF) * strength * _fade(grain, 0.1)
    light = light + (field(u * 31, v * 31) - _HALF) * strength * 2 * _fade(grain, 0.02)
    return tinted(light.astype(np.float32), color)


def paving(
    u, v, grain, color: Color, field: Field, size: float, joint: float = 0.03
) -> np.ndarray:
    """Square slabs with joints, each a little different."""
    image = rough(u, v, grain, color, field, 0.08)
    a, b = u / np.float32(size), v / np.float32(size)
    tone = _ONE + (field.cell(a, b) - _HALF) * np.float32(0.16) * _fade(grain, size / 2)
    fa, fb = a - np.floor(a), b - np.floor(b)
    edge = np.minimum(np.minimum(fa, 1 - fa), np.minimum(fb, 1 - fb)) * np.float32(size)
    line = np.clip((np.float32(joint / 2) - edge) / np.maximum(grain, 1e-3) + 0.7, 0, 1)
    line = line * np.clip(np.float32(size * 0.35) / grain, 0, 1)
    return image * (tone * (1 - np.float32(0.3) * line))[..., None].astype(np.float32)


def bricks(
    u, v, grain, color: Color, mortar: Color, field: Field, long: float = 0.24
) -> np.ndarray:
    """Courses of bricks with mortar between."""
    tall = long * 0.36
    b = v / np.float32(tall)
    row = np.floor(b)
    a = u / np.float32(long) + (row - 2 * np.floor(row / 2)) * _HALF
    fa, fb = a - np.floor(a), b - row
    seen = _fade(grain, tall * 0.8)
    tone = _ONE + (field.cell(a, b) - _HALF) * np.float32(0.34) * seen
    tone = tone + (field(u * 0.5, v * 0.5) - _HALF) * np.float32(0.18)
    image = tinted(tone.astype(np.float32), color)
    edge = np.minimum(
        np.minimum(fa, 1 - fa) * np.float32(long),
        np.minimum(fb, 1 - fb) * np.float32(tall),
    )
    line = np.clip((np.float32(0.007) - edge) / np.maximum(grain, 1e-3) + 0.6, 0, 1)
    blend(image, mortar, (line * seen * np.float32(0.8)).astype(np.float32))
    return image


def lawn(u, v, grain, color: Color, field: Field) -> np.ndarray:
    """Grass: fine blades near by, patches far away."""
    light = _ONE + (field(u * 0.8, v * 0.8) - _HALF) * np.float32(0.24)
    light = light + (field(u * 5, v * 2.5) - _HALF) * 0.2 * _fade(grain, 0.2)
    light = light + (field(u * 23, v * 9) - _HALF) * 0.42 * _fade(grain, 0.05)
    light = light + (field(u * 60, v * 22) - _HALF) * 0.45 * _fade(grain, 0.02)
    return tinted(light.astype(np.float32), color)


def foliage(u, v, grain, color: Color, field: Field, leaf: float) -> np.ndarray:
    """Leaves: many small ones, a little darker between the clumps.

    Args:
        u: meters along.
        v: meters up.
        grain: meters per pixel.
        color: of a lit leaf.
        field: noise.
        leaf: size of a clump in meters.
    """
    s = np.float32(1 / leaf)
    # Turned axes: the squares of the noise would show.
    p, q = (u * 0.8 + v * 0.6) * s, (v * 0.8 - u * 0.6) * s
    light = np.float32(0.70) + (field(u * s * 0.23, v * s * 0.3) - _HALF) * 0.42
    light = light + (field(p * 0.7 + 9, q * 0.8) - _HALF) * 0.34
    light = light + (field(u * s * 2.3, v * s * 2.5) - _HALF) * 0.42 * _fade(
        grain, leaf * 0.3
    )
    light = light + (field(p * 5.7, q * 6.1) - _HALF) * 0.62 * _fade(grain, leaf * 0.12)
    fine = (field(u * s * 13, v * s * 14) - _HALF) * 0.5 * _fade(grain, leaf * 0.06)
    light = np.clip(light + fine, 0.16, 1.2)
    image = tinted(light.astype(np.float32), color)
    image[..., 0] += (light * light) * np.float32(0.10 * color[1])
    return image

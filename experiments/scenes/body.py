"""A body in space: its joints, how they are seen, and shaded volumes between them."""

from collections.abc import Sequence
from math import sqrt

import numpy as np

from experiments.scenes.camera import Camera, Light
from experiments.scenes.dice import Dice, cosine, sine
from experiments.scenes.figure import Cloth, Figure
from experiments.scenes.pose import Joint, settled, skeleton
from experiments.scenes.raster import (
    Color,
    Patch,
    Point,
    coverage,
    curve,
    ellipse,
    limb,
)

__all__ = ["Body"]

Level = tuple[float, float, float]  # height, half width to the right, half depth


class Body:
    """A figure that stands somewhere in the world and can be drawn.

    Args:
        figure: what the person is like.
        camera: the camera.
        light: sun and sky.
        x: where the person stands, meters to the right.
        z: meters from the camera.
        dice: stream for folds and other detail.
    """

    def __init__(
        self,
        figure: Figure,
        camera: Camera,
        light: Light,
        x: float,
        z: float,
        dice: Dice,
    ) -> None:
        figure = settled(figure)
        self.figure, self.camera, self.light = figure, camera, light
        self.x, self.z, self.dice = x, z, dice
        self.joints = skeleton(figure)
        self.facing = (sine(figure.turn), cosine(figure.turn))
        self.scale = camera.scale(z)
        self.unit = figure.height * self.scale
        self.dim = 1.0
        lift = sqrt(light.x * light.x + light.y * light.y + light.z * light.z)
        self.toward = (light.x / lift, -light.y / lift, light.z / lift)

    def restart(self) -> None:
        """Forget what was drawn: the next drawing uses the same random numbers."""
        self.dice = Dice(*self.dice.key)

    # --- from the body to the picture ------------------------------------------------

    def world(self, joint: Joint) -> Joint:
        """World coordinates of a point of the body."""
        right, up, forward = joint
        s, c = self.facing
        return self.x - c * right + s * forward, up, self.z - s * right - c * forward

    def point(self, joint: Joint) -> Point:
        """Pixel coordinates of a point of the body."""
        return self.camera.project(*self.world(joint))

    def depth(self, name: str) -> float:
        """How much farther than the body's middle a joint is, in meters."""
        return self.world(self.joints[name])[2] - self.z

    # --- shading ---------------------------------------------------------------------

    def shade(self, nx: np.ndarray, ny: np.ndarray | float) -> np.ndarray:
        """Light on a surface whose normal points to (nx, ny) in the picture."""
        nz = np.sqrt(np.maximum(np.float32(0), 1 - nx * nx - ny * ny))
        lx, ly, lz = self.toward
        direct = np.maximum(np.float32(0), nx * lx + ny * ly + nz * lz)
        sky = self.light.sky * (0.70 + 0.20 * nz - 0.16 * ny) + self.light.sun * 0.12
        return (self.light.sun * direct + sky) * np.float32(self.dim)

    def folds(self, patch: Patch) -> np.ndarray:
        """Factor that gives cloth its folds, of the patch's shape."""
        return self.crease[patch.window]

    def cloth(self, patch: Patch, cloth: Cloth, middle: float) -> Color | np.ndarray:
        """Color of a garment over a patch whose axis is the column ``middle``."""
        if cloth.pattern == "plain" or cloth.period * self.scale < 1.6:
            return cloth.color
        x, y = patch.grid()
        period = np.float32(1 / (cloth.period * self.scale))
        u = (x - np.float32(middle)) * period + 1000
        v = (y - np.float32(self.camera.horizon)) * period + 1000
        wave_u = np.abs(u - np.floor(u) - np.float32(0.5)) * 2
        wave_v = np.abs(v - np.floor(v) - np.float32(0.5)) * 2
        soft = np.float32(max(2.0, 0.5 * cloth.period * self.scale))
        bands_u = np.clip((wave_u - np.float32(0.5)) * soft + np.float32(0.5), 0, 1)
        bands_v = np.clip((wave_v - np.float32(0.5)) * soft + np.float32(0.5), 0, 1)
        if cloth.pattern == "stripes":
            share = bands_v + 0 * x
        elif cloth.pattern == "bars":
            share = bands_u + 0 * y
        elif cloth.pattern == "plaid":
            share = (bands_u + bands_v) * np.float32(0.42)
        elif cloth.pattern == "print":
            share = np.clip((self.crease[patch.window] - 1) * 9, 0, 1)
        else:
            low = self.camera.project(0, 0.66 * self.figure.height, self.z)[1]
            share = np.clip(y - np.float32(low) + np.float32(0.5), 0, 1) + 0 * x
        first = np.array(cloth.color, np.float32)
        second = np.array(cloth.second, np.float32)
        return first + (second - first) * share[..., None].astype(np.float32)

    # --- volumes ---------------------------------------------------------------------

    def rod(
        self,
        a: Point,
        b: Point,
        ra: float,
        rb: float,
        color: Color | Cloth,
        folds: float = 1.0,
        cut: bool = False,
    ) -> None:
        """A tapered limb between two points of the picture, radii in pixels.

        Its ends are round; with ``cut`` the second is flat, as a sleeve's.
        """
        outline = limb(a, b, ra, rb)
        if cut:
            outline = [outline[0], *outline[6:]]
        patch = coverage(outline, self.canvas.height, self.canvas.width)
        if patch is None:
            return
        dx, dy = b[0] - a[0], b[1] - a[1]
        length = max(0.5, sqrt(dx * dx + dy * dy))
        px, py = -dy / length, dx / length
        x, y = patch.grid()
        ox, oy = x - np.float32(a[0]), y - np.float32(a[1])
        along = ox * np.float32(dx / length) + oy * np.float32(dy / length)
        share = np.clip(along / np.float32(length), 0, 1)
        radius = np.float32(max(ra, 0.4)) + share * np.float32(rb - ra)
        across = (ox * np.float32(px) + oy * np.float32(py)) / np.maximum(
            radius, np.float32(0.4)
        )
        across = np.clip(across, -1, 1)
        across = across * np.float32(0.88)
        light = self.shade(across * np.float32(px), across * np.float32(py))
        if folds:
            light = light * (1 + (self.folds(patch) - 1) * np.float32(folds))
        if isinstance(color, Cloth):
            color = self.cloth(patch, color, (a[0] + b[0]) / 2)
        self.canvas.paint(patch, color, light)

    def occlude(self, outline: Sequence[Point], dark: float = 0.33) -> None:
        """Darken what is drawn of the person so far, where a limb keeps light away."""
        patch = coverage(outline, self.canvas.height, self.canvas.width)
        if patch is not None:
            self.canvas.darken(patch, dark)

    def bone(
        self, a: str, b: str, ra: float, rb: float, color: Color | Cloth, **options
    ) -> None:
        """A limb between two joints; radii as shares of the person's height."""
        self.rod(
            self.point(self.joints[a]),
            self.point(self.joints[b]),
            ra * self.unit,
            rb * self.unit,
            color,
            **options,
        )

    def between(self, a: str, b: str, share: float) -> Joint:
        """The point ``share`` of the way from one joint to another."""
        p, q = self.joints[a], self.joints[b]
        return tuple(m + (n - m) * share for m, n in zip(p, q, strict=True))

    def lathe(
        self,
        levels: Sequence[Level],
        color: Color | Cloth,
        center: float = 0.0,
        spread: Sequence[tuple[float, float]] | None = None,
    ) -> None:
        """A body given by its widths at several heights, all shares of the height.

        Args:
            levels: from top to bottom.
            color: color or cloth.
            center: how far forward the axis is.
            spread: for each level, pixels that the outline is moved outward on the
                left and on the right.
        """
        h = self.figure.height
        s, c = self.facing
        rows, lefts, rights = [], [], []
        lean, base = self.figure.lean, self.joints["pelvis"][1]
        for k, (up, wide, deep) in enumerate(levels):
            a, b = wide * c, deep * s
            half = sqrt(a * a + b * b) * self.unit
            y = base + (up - 0.52) * h
            x, row = self.point((0.0, y, center * h + max(0.0, y - base) * lean))
            left, right = spread[k] if spread else (0.0, 0.0)
            rows.append(row)
            lefts.append(x - half - left)
            rights.append(x + half + right)
        outline = list(zip(rights, rows, strict=True))
        outline += list(zip(lefts, rows, strict=True))[::-1]
        patch = coverage(curve(outline, 3), self.canvas.height, self.canvas.width)
        if patch is None:
            return
        x, y = patch.grid()
        left = profile(y[:, 0], rows, lefts)[:, None]
        right = profile(y[:, 0], rows, rights)[:, None]
        middle, half = (
            (left + right) * np.float32(0.5),
            (right - left) * np.float32(0.5),
        )
        across = np.clip((x - middle) / np.maximum(half, np.float32(0.5)), -1, 1)
        light = self.shade(across * np.float32(0.92), np.float32(-0.12))
        light = light * self.folds(patch)
        if isinstance(color, Cloth):
            color = self.cloth(patch, color, (lefts[1] + rights[1]) / 2)
        self.canvas.paint(patch, color, light)

    def ball(
        self, x: float, y: float, rx: float, ry: float, color: Color, tilt: float = 0.0
    ) -> None:
        """A shaded ellipsoid, in pixels."""
        outline = ellipse(x, y, rx, ry, tilt)
        patch = coverage(outline, self.canvas.height, self.canvas.width)
        if patch is None:
            return
        px, py = patch.grid()
        nx = np.clip((px - np.float32(x)) / np.float32(max(rx, 0.5)), -1, 1)
        ny = np.clip((py - np.float32(y)) / np.float32(max(ry, 0.5)), -1, 1)
        light = self.shade(nx * np.float32(0.9), ny * np.float32(0.9))
        self.canvas.paint(patch, color, light)

    def _crease(self) -> np.ndarray:
        height, width = self.canvas.height, self.canvas.width
        u = self.unit
        x, y = self.point((0.0, self.figure.height / 2, 0.0))
        top, bottom = int(max(0, y - 0.62 * u)), int(min(height, y + 0.62 * u))
        left, right = int(max(0, x - 0.6 * u)), int(min(width, x + 0.6 * u))
        full = np.ones((height, width), np.float32)
        if top < bottom and left < right:
            shape = (bottom - top, right - left)
            coarse = self.dice.smooth(*shape, max(2.0, 0.075 * u), max(1.5, 0.035 * u))
            fine = self.dice.smooth(*shape, max(1.2, 0.03 * u), max(1.0, 0.014 * u))
            full[top:bottom, left:right] += (coarse - np.float32(0.5)) * np.float32(
                0.27
            ) + (fine - np.float32(0.5)) * np.float32(0.2)
        return full


def profile(
    y: np.ndarray, rows: Sequence[float], values: Sequence[float]
) -> np.ndarray:
    """Values between those given at increasing rows, straight lines between them."""
    at = np.asarray(rows, np.float64)
    of = np.asarray(values, np.float64)
    k = np.clip(np.searchsorted(at, y, side="right") - 1, 0, len(at) - 2)
    share = np.clip((y - at[k]) / np.maximum(at[k + 1] - at[k], 1e-6), 0, 1)
    return (of[k] + (of[k + 1] - of[k]) * share).astype(np.float32)

"""A thing that stands somewhere, drawn flat in its own upright plane."""

from collections.abc import Callable, Sequence
from math import sqrt

import numpy as np

from experiments.scenes.camera import Camera, Light
from experiments.scenes.dice import Dice
from experiments.scenes.raster import (
    Canvas,
    Color,
    Patch,
    Point,
    coverage,
    ellipse,
    limb,
    spot,
)

__all__ = ["Stand"]

_F = np.float32


class Stand:
    """A thing and where it stands.

    The functions of ``furniture.py``, ``plants.py`` and ``vehicles.py`` draw things
    with the methods :meth:`flat`, :meth:`shaded` and :meth:`rod`, in meters from the
    foot of the thing: to the right, and up.

    Args:
        paint: the function that draws the thing, given this object.
        size: half its width at the ground, its height and half its width as far as
            its cast shadow is concerned.
        camera: the camera.
        light: sun and sky.
        x: meters to the right.
        z: meters from the camera.
        dice: stream of random numbers.
    """

    def __init__(
        self,
        paint: Callable[["Stand"], None],
        size: tuple[float, float, float],
        camera: Camera,
        light: Light,
        x: float,
        z: float,
        dice: Dice,
    ) -> None:
        self.paint, self.size = paint, size
        self.camera, self.light, self.x, self.z = camera, light, x, z
        self.scale = camera.scale(z)
        self.flip = dice.sign()
        self.dice = dice.child(1)

    def restart(self) -> None:
        """Forget what was drawn: the next drawing uses the same random numbers."""
        self.dice = Dice(*self.dice.key)

    def at(self, x: float, y: float) -> Point:
        """Pixel coordinates of a point, meters right of and above the foot."""
        return self.camera.project(self.x + self.flip * x, y, self.z)

    def shadow(self, canvas: Canvas) -> None:
        """Darken the ground round the foot, and where the sun is kept away."""
        foot, tall, half = self.size
        x, y = self.at(0, 0)
        shade = np.zeros((canvas.height, canvas.width), _F)
        light = self.light
        if light.sun > 0.15 and tall:
            dx, dz = -light.x / light.y * tall, light.z / light.y * tall
            end = self.camera.project(self.x + dx, 0.0, max(0.5, self.z + dz))
            radius = max(0.6, half * self.scale)
            seen = min(0.8, self.camera.eye / self.z)
            line = limb((x, y), (end[0] + 0.01, end[1]), radius, radius, 3, seen)
            patch = coverage(line, canvas.height, canvas.width)
            if patch is not None:
                dark = _F(0.75 * light.sun / (light.sun + light.sky))
                shade[patch.window] = patch.alpha * dark
        radius = 1.25 * foot * self.scale
        flat = min(0.3, 0.35 * self.camera.eye / self.z)
        spot(shade, x, y, radius, max(1.5, radius * flat), 0.75)
        canvas.image *= (1 - shade)[..., None]

    def draw(self, canvas: Canvas) -> None:
        """Draw the thing."""
        self.canvas = canvas
        canvas.begin(self.light.air(self.z))
        self.paint(self)
        canvas.end(0)

    def flat(
        self,
        points: Sequence[Point],
        color: Color,
        light: float = 1.0,
        opacity: float = 1.0,
    ) -> None:
        """A shape of one color."""
        outline = [self.at(*p) for p in points]
        level = (self.light.sky + 0.5 * self.light.sun) * light
        self.canvas.fill(outline, color, level, opacity)

    def patch(self, points: Sequence[Point]) -> Patch | None:
        """The pixels that a shape covers."""
        outline = [self.at(*p) for p in points]
        return coverage(outline, self.canvas.height, self.canvas.width)

    def rough(self, patch: Patch, amount: float, rows: float, columns: float):
        """A factor near 1 for each pixel of a patch."""
        noise = self.dice.smooth(*patch.alpha.shape, rows, columns)
        return 1 + (noise - _F(0.5)) * _F(amount)

    def shaded(self, points: Sequence[Point], color: Color, rough: float = 0.1) -> None:
        """A shape that is lighter above and toward the sun."""
        patch = self.patch(points)
        if patch is None:
            return
        x, y = patch.grid()
        xs, ys = zip(*(self.at(*p) for p in points), strict=True)
        middle, half = (min(xs) + max(xs)) / 2, max(0.5, (max(xs) - min(xs)) / 2)
        across = np.clip((x - _F(middle)) / _F(half), -1, 1)
        down = np.clip((y - _F(min(ys))) / _F(max(1.0, max(ys) - min(ys))), 0, 1)
        direct = _F(0.55) + across * _F(self.light.x * 0.4) - down * _F(0.25)
        level = _F(self.light.sun) * np.clip(direct, 0, 1)
        level = level + _F(self.light.sky) * (_F(1.02) - _F(0.3) * down)
        if rough:
            level = level * self.rough(patch, rough, 3, 3)
        self.canvas.paint(patch, color, level)

    def ring(self, x: float, y: float, r: float, wide: float, color: Color) -> None:
        """A ring round (x, y), as wide as given inside its radius."""
        outer = ellipse(x, y, r, r, 0.0, 24)
        inner = ellipse(x, y, r - wide, r - wide, 0.0, 24)
        self.flat([*outer, outer[0], inner[0], *inner[::-1]], color)

    def line(self, points: Sequence[Point], wide: float, color: Color) -> None:
        """A thin line of one color through the points."""
        radius = wide / 2 * self.scale
        level = self.light.sky + 0.5 * self.light.sun
        for a, b in zip(points, points[1:], strict=False):
            outline = limb(self.at(*a), self.at(*b), radius, radius, 2)
            self.canvas.fill(outline, color, level)

    def column(self, low: float, high: float, r: float, color: Color) -> None:
        """An upright pole of radius ``r`` that ends flat, below as on the ground."""
        bend = 0.3 * r * min(0.8, self.camera.eye / self.z)
        outline = [(-r, high), (r, high), (r, low), (0.5 * r, low - bend)]
        outline += [(-0.5 * r, low - bend), (-r, low)]
        self.pole(outline, color, r)

    def plate(self, r: float, color: Color) -> None:
        """A round base plate on the ground, a few centimeters high."""
        flat = min(0.5, self.camera.eye / self.z)
        self.flat(ellipse(0, 0.0, r, r * flat), color, 0.55)
        self.flat(ellipse(0, 0.03, r, r * flat), color)

    def pole(self, points: Sequence[Point], color: Color, r: float) -> None:
        """An upright shape that is round like a pole of radius ``r``."""
        patch = self.patch(points)
        if patch is None:
            return
        x, y = patch.grid()
        middle = self.at(0, 0)[0]
        across = np.clip((x - _F(middle)) / _F(max(0.4, r * self.scale)), -1, 1)
        direct = np.clip(_F(0.5) + across * _F(self.light.x * 0.45), 0, 1)
        depth = np.sqrt(1 - across * across)
        level = _F(self.light.sun) * direct
        level = level + _F(self.light.sky) * (_F(0.62) + _F(0.38) * depth)
        level = (level + 0 * y) * self.rough(patch, 0.05, 4, 2)
        self.canvas.paint(patch, color, level)

    def rod(
        self,
        a: Point,
        b: Point,
        ra: float,
        rb: float,
        color: Color,
        rough: float = 0.05,
    ) -> None:
        """A round rod from one point to another."""
        p, q = self.at(*a), self.at(*b)
        outline = limb(p, q, ra * self.scale, rb * self.scale, 5)
        patch = coverage(outline, self.canvas.height, self.canvas.width)
        if patch is None:
            return
        x, y = patch.grid()
        dx, dy = q[0] - p[0], q[1] - p[1]
        length = max(0.5, sqrt(dx * dx + dy * dy))
        nx, ny = _F(-dy / length), _F(dx / length)
        across = (x - _F(p[0])) * nx + (y - _F(p[1])) * ny
        across = np.clip(across / _F(max(0.4, max(ra, rb) * self.scale)), -1, 1)
        direct = np.clip(_F(0.5) + across * nx * _F(self.light.x * 0.55), 0, 1)
        depth = np.sqrt(1 - across * across)
        level = _F(self.light.sun) * direct
        level = level + _F(self.light.sky) * (_F(0.7) + _F(0.3) * depth)
        if rough:
            level = level * self.rough(patch, rough, 4, 2)
        self.canvas.paint(patch, color, level)

"""Heads: face, ears, hair and hats.

A head is nearly a ball. Points of it are given as the person sees them, right, up and
forward, 1 on the surface; so one hairline serves from every side.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np

from experiments.scenes.body import Body, profile
from experiments.scenes.dice import cosine, sine
from experiments.scenes.raster import (
    Color,
    Patch,
    Point,
    coverage,
    curve,
    ellipse,
    limb,
    mix,
)

__all__ = ["draw_head"]

_F = np.float32

# Outlines of a head that faces the viewer, and one that faces to the right.
_FRONT: tuple[Point, ...] = (
    (0.0, -1.0),
    (0.60, -0.83),
    (0.95, -0.36),
    (0.96, 0.10),
    (0.84, 0.52),
    (0.48, 0.90),
    (0.0, 1.0),
    (-0.48, 0.90),
    (-0.84, 0.52),
    (-0.96, 0.10),
    (-0.95, -0.36),
    (-0.60, -0.83),
)
_SIDE: tuple[Point, ...] = (
    (0.0, -1.0),
    (0.58, -0.84),
    (0.88, -0.42),
    (0.87, 0.02),
    (0.90, 0.45),
    (0.78, 0.93),
    (0.35, 0.88),
    (-0.15, 0.70),
    (-0.70, 0.58),
    (-0.97, 0.15),
    (-0.98, -0.35),
    (-0.64, -0.83),
)
# How far forward hair reaches at a height, from the crown (1) down.
_HAIRLINES: dict[str, tuple[tuple[float, float], ...]] = {
    "short": (
        (1.0, 1.5),
        (0.75, 1.2),
        (0.60, 0.72),
        (0.45, 0.46),
        (0.2, 0.30),
        (0.0, 0.14),
        (-0.12, -0.10),
        (-0.40, -0.38),
        (-0.62, -0.80),
        (-0.70, -1.5),
    ),
    "long": (
        (1.0, 1.5),
        (0.72, 1.2),
        (0.55, 0.74),
        (0.40, 0.50),
        (0.2, 0.34),
        (-0.1, 0.16),
        (-1.0, -0.15),
    ),
}


@dataclass(frozen=True)
class _Head:
    """Where a head is seen.

    Attributes:
        person: whose.
        x: its middle, in pixels.
        y: its middle.
        rx: half its width.
        ry: half its height.
        side: sine of where it looks, 1 to the right of the picture.
        front: cosine of where it looks, 1 at the viewer.
    """

    person: Body
    x: float
    y: float
    rx: float
    ry: float
    side: float
    front: float

    def at(self, right: float, up: float, forward: float) -> Point:
        """Pixel coordinates of a point of the head."""
        across = forward * self.side - right * self.front
        return self.x + self.rx * across, self.y - self.ry * up

    def near(self, right: float, forward: float) -> float:
        """How much nearer than the middle a point is."""
        return forward * self.front + right * self.side

    def patch(self, outline: list[Point]) -> Patch | None:
        """The pixels that an outline covers."""
        canvas = self.person.canvas
        return coverage(outline, canvas.height, canvas.width)

    def shell(self, size: float) -> tuple[Patch | None, np.ndarray, np.ndarray]:
        """A ball round the head: patch, normals to the right and downward."""
        rx, ry, y = self.rx * size, self.ry * size, self.y - 0.02 * self.ry
        patch = self.patch(ellipse(self.x, y, rx, ry, 0.0, 24))
        if patch is None:
            return None, np.zeros((1, 1), _F), np.zeros((1, 1), _F)
        px, py = patch.grid()
        nx = np.clip((px - _F(self.x)) / _F(max(rx, 0.5)), -1, 1)
        ny = np.clip((py - _F(y)) / _F(max(ry, 0.5)), -1, 1)
        return patch, nx, ny

    def forward(self, nx: np.ndarray, ny: np.ndarray) -> np.ndarray:
        """How far forward the surface is where its normal is (nx, ny)."""
        nz = np.sqrt(np.maximum(_F(0), 1 - nx * nx - ny * ny))
        return nx * _F(self.side) + nz * _F(self.front)


def draw_head(person: Body, behind: bool) -> None:
    """Draw neck, face, hair and hat.

    Args:
        person: whose.
        behind: the first of two calls draws what the torso may cover.
    """
    f, u = person.figure, person.unit
    x, y = person.point(person.joints["head"])
    side, front = sine(f.look), cosine(f.look)
    ry = 0.5 * f.head * f.height * person.scale
    head = _Head(person, x, y, ry * (0.74 + 0.13 * abs(side)), ry, side, front)
    long = f.style in ("long", "medium")
    if behind:
        if long and front > 0.3:
            _mane(head)
        person.dim = 0.84
        neck = person.point(person.joints["neck"])
        top = (x - 0.22 * side * head.rx, y + 0.3 * ry)
        person.rod(top, neck, 0.028 * u, 0.034 * u, f.skin, 0.0)
        person.dim = 1.0
        return
    if long and front <= 0.3:
        _mane(head)
    if front > 0:
        _knot(head)
    if f.hat == "cap" and front < 0:
        _visor(head)
    _skull(head)
    if front > -0.45:
        _face(head)
    _hair(head)
    if not long:
        _ears(head)
    if front <= 0:
        _knot(head)
    if f.hat != "none":
        _hat(head)


def _skull(h: _Head) -> None:
    """The head without hair."""
    t, sense = h.side * h.side, 1 if h.side > 0 else -1
    outline = []
    for k in range(12):
        a, b = _FRONT[k], _SIDE[k]
        px, py = a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t
        outline.append((h.x + sense * px * h.rx, h.y + py * h.ry))
    patch = h.patch(curve(outline, 3))
    if patch is None:
        return
    px, py = patch.grid()
    nx = np.clip((px - _F(h.x)) / _F(max(h.rx, 0.5)), -1, 1)
    ny = np.clip((py - _F(h.y)) / _F(max(h.ry, 0.5)), -1, 1)
    light = h.person.shade(nx * _F(0.88), ny * _F(0.7))
    h.person.canvas.paint(patch, h.person.figure.skin, light)


def _hair(h: _Head) -> None:
    """Hair that follows the skull behind its hairline."""
    f, person = h.person.figure, h.person
    line = _HAIRLINES["long" if f.style in ("long", "medium") else "short"]
    shaved = f.style == "bald"
    patch, nx, ny = h.shell(0.99 if shaved else 1.075)
    if patch is None:
        return
    limit = profile(ny[:, 0], [-p[0] for p in line], [p[1] for p in line])[:, None]
    sharp = _F(max(2.0, 0.8 * h.rx))
    share = np.clip((limit - h.forward(nx, ny)) * sharp + _F(0.5), 0, 1)
    light = person.shade(nx * _F(0.9), ny * _F(0.8))
    shine = np.clip(1 - np.abs(ny + _F(0.55)) * _F(4), 0, 1) * _F(0.25)
    light = light * (1 + (person.folds(patch) - 1) * _F(1.3) + shine)
    part = Patch(patch.top, patch.left, (patch.alpha * share).astype(_F))
    color = mix(f.skin, f.hair, 0.3) if shaved else f.hair
    person.canvas.paint(part, color, light)


def _mane(h: _Head) -> None:
    """Long hair below and behind the head."""
    f = h.person.figure
    drop = {"long": 2.5, "medium": 1.35}[f.style] * h.ry
    turn = abs(h.side)
    x = h.x - 0.52 * h.side * h.rx
    half = h.rx * (0.56 * turn + 1.1 * (1 - turn * turn * 0.95) * (1 - 0.3 * turn))
    top = h.y - 0.25 * h.ry
    outline = [
        (x - 0.9 * half, top),
        (x + 0.9 * half, top),
        (x + 1.02 * half, h.y + 0.4 * h.ry),
        (x + 1.04 * half, h.y + 0.8 * drop),
        (x + 0.72 * half, h.y + drop),
        (x, h.y + 1.04 * drop),
        (x - 0.72 * half, h.y + drop),
        (x - 1.04 * half, h.y + 0.8 * drop),
        (x - 1.02 * half, h.y + 0.4 * h.ry),
    ]
    patch = h.patch(curve(outline, 3))
    if patch is None:
        return
    px, _ = patch.grid()
    nx = np.clip((px - _F(x)) / _F(max(0.5, 1.25 * half)), -1, 1)
    light = h.person.shade(nx, nx * 0 - _F(0.1))
    light = light * (1 + (h.person.folds(patch) - 1) * _F(1.3))
    h.person.canvas.paint(patch, f.hair, light)


def _knot(h: _Head) -> None:
    """A bun or a pony tail."""
    f = h.person.figure
    if f.style == "bun":
        x, y = h.at(0.0, 0.55, -0.98)
        h.person.ball(x, y, 0.40 * h.rx, 0.36 * h.ry, f.hair)
    elif f.style == "tail":
        a, b = h.at(0.0, 0.30, -1.02), h.at(0.0, -0.35, -1.28)
        c = h.at(0.0, -1.05, -1.18)
        h.person.rod(a, b, 0.17 * h.rx, 0.25 * h.rx, f.hair, 1.2)
        h.person.rod(b, c, 0.25 * h.rx, 0.10 * h.rx, f.hair, 1.2)


def _ears(h: _Head) -> None:
    """Ears at both sides of the head, as far as they are seen."""
    skin = h.person.figure.skin
    for right in (-1.0, 1.0):
        near = h.near(right, -0.08)
        if near < -0.35:
            continue
        x, y = h.at(right * 0.99, -0.08, -0.08)
        wide = 0.10 + 0.08 * max(0.0, near)
        h.person.ball(x, y, wide * h.rx, 0.20 * h.ry, mix(skin, (0.6, 0.25, 0.2), 0.15))
        if h.ry > 6 and near > 0.3:
            h.person.canvas.fill(
                ellipse(x, y, 0.5 * wide * h.rx, 0.10 * h.ry, 0.0, 10),
                mix(skin, (0.15, 0.05, 0.03), 0.5),
                h.person.light.sky,
                0.6,
            )


def _face(h: _Head) -> None:
    """Nose, eyes, brows and mouth."""
    f, canvas = h.person.figure, h.person.canvas
    level = h.person.light.sky + 0.4 * h.person.light.sun
    dark = mix(f.skin, (0.04, 0.03, 0.03), 0.82)
    shadow = mix(f.skin, (0.2, 0.08, 0.05), 0.4)
    lips = mix(f.skin, (0.50, 0.12, 0.12), 0.5)
    if abs(h.side) > 0.4:  # the nose stands out
        a, b = h.at(0.0, 0.02, 0.84), h.at(0.0, -0.24, 1.02)
        h.person.rod(a, b, 0.06 * h.rx, 0.11 * h.rx, f.skin, 0.0)

    def mark(right: float, up: float, wide: float, tall: float, color: Color) -> None:
        forward = sqrt_of(1 - right * right - up * up)
        near = h.near(right, forward)
        if near > 0.12:
            x, y = h.at(right, up, forward * 0.97)
            rx = max(0.3, wide * h.rx * min(1.0, 0.25 + near))
            canvas.fill(ellipse(x, y, rx, max(0.3, tall * h.ry), 0.0, 12), color, level)

    for right in (-0.38, 0.38):
        if h.ry > 8:
            mark(right, 0.04, 0.19, 0.075, mix(f.skin, (0.95, 0.95, 0.95), 0.42))
            mark(right, 0.04, 0.085, 0.075, dark)
            mark(right, 0.12, 0.20, 0.025, dark)
        else:
            mark(right, 0.04, 0.14, 0.085, dark)
        brow = mix(f.hair, dark, 0.35)
        mark(right, 0.24, 0.22, 0.04, brow)
    mark(0.0, -0.32, 0.17, 0.05, shadow)
    if h.ry > 5:
        mark(-0.12 if h.person.toward[0] > 0 else 0.12, -0.12, 0.06, 0.17, shadow)
    mark(0.0, -0.56, 0.28, 0.06, lips)


def sqrt_of(x: float) -> float:
    """Square root, 0 for what is negative."""
    return sqrt(max(0.0, x))


def _hat_color(h: _Head) -> Color:
    f = h.person.figure
    color = f.bag_color if f.bag == "none" else f.top.second
    apart = 0.0
    for a, b in zip(color, f.hair, strict=True):
        apart += abs(a - b)
    return mix(color, (0.62, 0.24, 0.18), 0.8) if apart < 0.45 else color


def _visor(h: _Head) -> None:
    """The visor of a cap."""
    points = [
        h.at(-0.80, 0.34, 0.55),
        h.at(-0.55, 0.26, 1.35),
        h.at(0.0, 0.24, 1.62),
        h.at(0.55, 0.26, 1.35),
        h.at(0.80, 0.34, 0.55),
        h.at(0.0, 0.44, 0.85),
    ]
    level = 0.8 * h.person.light.sky + 0.4 * h.person.light.sun
    h.person.canvas.fill(curve(points, 3), mix(_hat_color(h), (0, 0, 0), 0.35), level)


def _hat(h: _Head) -> None:
    """A cap, a hat with a brim or a knitted one."""
    person, color = h.person, _hat_color(h)
    kind = person.figure.hat
    if kind == "brim":
        crown = [(-1.0, -0.35), (-0.92, -1.05), (-0.6, -1.25), (0.0, -1.18)]
        crown += [(0.6, -1.25), (0.92, -1.05), (1.0, -0.35)]
        outline = [(h.x + a * h.rx, h.y + b * h.ry) for a, b in crown]
        patch = h.patch(curve(outline, 3, closed=False))
        if patch is not None:
            px, _ = patch.grid()
            nx = np.clip((px - _F(h.x)) / _F(1.15 * h.rx), -1, 1)
            person.canvas.paint(patch, color, person.shade(nx, nx * 0 - _F(0.3)))
        for wide, tall, up, tone in (
            (1.0, 0.10, 0.50, mix(color, (0, 0, 0), 0.6)),
            (1.75, 0.15, 0.36, color),
        ):
            outline = ellipse(h.x, h.y - up * h.ry, wide * h.rx, tall * h.ry)
            level = 0.8 * person.light.sky + 0.5 * person.light.sun
            person.canvas.fill(outline, tone, level)
        return
    patch, nx, ny = h.shell(1.13)
    if patch is None:
        return
    # Lower at the back of the head than over the forehead.
    low = _F(0.24 if kind == "cap" else 0.2) + h.forward(nx, ny) * _F(0.14)
    share = np.clip((-ny - low) * _F(max(2.0, h.ry)) + _F(0.5), 0, 1)
    light = person.shade(nx * _F(0.92), ny * _F(0.85))
    tone: Color | np.ndarray = color
    if kind == "knit":
        rim = np.clip((low + _F(0.26) + ny) * _F(max(2.0, h.ry)) + _F(0.5), 0, 1)
        pale = np.array(mix(color, (1, 1, 1), 0.35), _F)
        tone = pale + (np.array(color, _F) - pale) * (1 - rim)[..., None]
        tone = (tone + 0 * share[..., None]).astype(_F)
        light = light * person.folds(patch)
    part = Patch(patch.top, patch.left, (patch.alpha * share).astype(_F))
    person.canvas.paint(part, tone, light)
    if kind == "knit":
        pale = mix(color, (1, 1, 1), 0.35)
        person.ball(h.x, h.y - 1.2 * h.ry, 0.3 * h.rx, 0.24 * h.ry, pale)
    elif h.front >= 0:
        _visor(h)
    if kind == "cap":
        x, y = h.at(0.0, 1.12, 0.0)
        line = limb((x - 0.1 * h.rx, y), (x + 0.1 * h.rx, y), 0.5, 0.5, 2)
        person.canvas.fill(line, mix(color, (0, 0, 0), 0.3), person.light.sky)

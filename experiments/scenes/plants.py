"""Single plants: trees, bushes, tubs."""

import numpy as np

from experiments.scenes.raster import Color, coverage, ellipse, mix, rectangle
from experiments.scenes.stand import Stand
from experiments.scenes.textures import Field, foliage

__all__ = ["bush", "planter", "tree"]

GREENS: tuple[Color, ...] = ((0.32, 0.46, 0.16), (0.26, 0.4, 0.18), (0.46, 0.55, 0.2))


def bush(t: Stand) -> None:
    """A bush."""
    w, h = t.dice.uniform(0.4, 1.0), t.dice.uniform(0.5, 1.3)
    leaves(t, 0, h * 0.5, w, h * 0.56)


def leaves(
    t: Stand, x: float, y: float, rx: float, ry: float, color: Color | None = None
) -> None:
    """A clump of leaves round a point, in meters."""
    corners = int(min(90, max(26, 14 * (rx + ry) / 0.5)))
    outline = [
        (px + t.dice.bell(0, 0.03 + 0.02 * rx), py + t.dice.bell(0, 0.03 + 0.02 * ry))
        for px, py in ellipse(x, y, rx, ry, 0, corners)
    ]
    patch = coverage([t.at(*p) for p in outline], t.canvas.height, t.canvas.width)
    if patch is None:
        return
    s = np.float32(t.scale)
    column, row = patch.grid()
    middle, top = t.at(x, y + ry)
    down = np.clip((row - np.float32(top)) / (np.float32(2 * ry) * s), 0, 1)
    across = np.clip((column - np.float32(middle)) / (np.float32(rx) * s), -1, 1)
    u, v = (column - np.float32(middle)) / s, (np.float32(top) - row) / s
    image = foliage(
        u + 20 + 0 * v,
        v + 20 + 0 * u,
        np.full_like(patch.alpha, 1 / s),
        color or t.dice.shade(t.dice.choice(GREENS)),
        Field(t.dice),
        0.3,
    )
    level = (
        (t.light.sky + np.float32(0.8 * t.light.sun))
        * (np.float32(1.25) - np.float32(0.6) * down)
        * (1 + across * np.float32(0.14 * t.light.x))
    )
    t.canvas.paint(patch, image.astype(np.float32), level)


def tree(t: Stand) -> None:
    """A tree."""
    bark = t.dice.shade(
        t.dice.choice(((0.3, 0.25, 0.2), (0.42, 0.38, 0.33), (0.22, 0.19, 0.17)))
    )
    r = t.dice.uniform(0.1, 0.24)
    lean = t.dice.bell(0, 0.12)
    t.rod((0, 0.2), (lean, 3.2), r * 1.1, r * 0.8, bark, 0.6)
    half = [(1.7 * r, -0.01), (1.3 * r, 0.06), (1.12 * r, 0.25), (1.05 * r, 0.5)]
    t.shaded(half + [(-x, y) for x, y in half[::-1]], bark, 0.5)
    for k in range(3):
        t.rod((lean, 2.9), (lean + (k - 1) * 1.2, 4.8), r * 0.6, r * 0.3, bark, 0.5)
    green = t.dice.choice(GREENS)
    leaves(t, lean, 4.5, 1.5, 1.05, t.dice.shade(green))
    for k in range(t.dice.integer(3, 5)):
        leaves(
            t,
            lean + (1.3 if k % 2 else -1.3) * t.dice.uniform(0.3, 1.0),
            t.dice.uniform(3.7, 5.3),
            t.dice.uniform(0.8, 1.4),
            t.dice.uniform(0.6, 1.0),
            t.dice.shade(green),
        )


def planter(t: Stand) -> None:
    """A stone tub with plants."""
    stone = t.dice.shade((0.6, 0.57, 0.52))
    w, h = t.dice.uniform(0.4, 1.1), t.dice.uniform(0.35, 0.65)
    leaves(t, 0, h + 0.15, w * 0.95, t.dice.uniform(0.25, 0.5))
    t.shaded([(-w, h), (w, h), (w * 0.9, 0), (-w * 0.9, 0)], stone, 0.2)
    t.flat(rectangle(-w * 1.04, h - 0.08, w * 1.04, h), mix(stone, (1, 1, 1), 0.2))

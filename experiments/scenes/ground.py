"""The ground: asphalt, slabs, grass, curbs, crosswalks and the shade of trees."""

import numpy as np

from experiments.scenes.camera import Light
from experiments.scenes.dice import Dice
from experiments.scenes.raster import Color
from experiments.scenes.textures import Field, band, blend, lawn, paving, rough
from experiments.scenes.view import Ground, View, hazed

__all__ = ["draw_ground", "ground_layers"]

_F = np.float32

ASPHALTS: tuple[Color, ...] = (
    (0.36, 0.36, 0.37),
    (0.46, 0.46, 0.46),
    (0.55, 0.54, 0.53),
)
SLABS: tuple[Color, ...] = (
    (0.62, 0.60, 0.57),
    (0.70, 0.67, 0.62),
    (0.56, 0.54, 0.53),
    (0.60, 0.50, 0.45),
)
LAWNS: tuple[Color, ...] = ((0.30, 0.42, 0.16), (0.36, 0.50, 0.18), (0.38, 0.40, 0.20))


def ground_layers(dice: Dice, place: str, near: float) -> list[tuple[float, str]]:
    """What the ground is made of, from near to far.

    Args:
        dice: stream of random numbers.
        place: "road", "sidewalk", "walk", "park" or "grass".
        near: the line that people stand at.

    Returns:
        Pairs of the line ``w`` where it begins and its kind: "asphalt", "slabs",
        "grass", "curb" or "edge".
    """
    curb = near + dice.uniform(0.5, 4.0)
    if place == "road":
        return [(-99.0, "asphalt"), (curb, "curb"), (curb + 0.3, "slabs")]
    if place == "walk":
        return [(-99.0, "slabs"), (curb, "curb"), (curb + 0.3, "asphalt")]
    if place == "park":
        kind = "asphalt" if dice.chance(0.4) else "slabs"
        return [(-99.0, kind), (curb, "edge"), (curb + 0.25, "grass")]
    if place == "grass":
        first = near - dice.uniform(0.5, 1.5)
        second = near + dice.uniform(0.7, 2.5)
        return [
            (-99.0, "grass"),
            (first, "edge"),
            (first + 0.2, "slabs"),
            (second, "edge"),
            (second + 0.2, "grass"),
        ]
    return [(-99.0, "slabs")]


def _material(ground: Ground, kind: str, dice: Dice) -> np.ndarray:
    field = Field(dice)
    grain = np.maximum(ground.grain_u, ground.grain_w * _F(0.8))
    at = (ground.u, ground.w, grain)
    if kind == "asphalt":
        return rough(*at, dice.shade(dice.choice(ASPHALTS)), field, 0.11)
    if kind == "slabs":
        tone = dice.shade(dice.choice(SLABS))
        return paving(*at, tone, field, dice.choice((0.3, 0.5, 0.9, 1.5)))
    if kind == "grass":
        return lawn(*at, dice.shade(dice.choice(LAWNS)), field)
    yellow = kind == "curb" and dice.chance(0.3)
    color = (0.80, 0.62, 0.16) if yellow else (0.68, 0.67, 0.64)
    return rough(*at, dice.shade(color, 0.05), field, 0.12)


def draw_ground(
    image: np.ndarray,
    view: View,
    light: Light,
    dice: Dice,
    slope: float,
    layers: list[tuple[float, str]],
    crosswalk: float | None,
) -> None:
    """Paint the ground over the lower part of a picture, in place.

    Args:
        image: the picture, float32, shape (height, width, 3).
        view: the camera's rays.
        light: sun and sky.
        dice: stream of random numbers.
        slope: how the street's lines run.
        layers: what :func:`ground_layers` gave.
        crosswalk: the line where a crosswalk begins, or None.
    """
    ground = view.ground(slope)
    if ground is None:
        return
    u, w, edge = ground.u, ground.w, ground.grain_w
    colors = np.zeros((*u.shape, 3), _F)
    for start, kind in layers:
        blend(colors, _material(ground, kind, dice), band(w, start, 9999.0, edge))
        if kind in ("curb", "edge"):
            gutter = band(w, start - 0.05, start + 0.09, edge) * _F(0.65)
            blend(colors, (0.12, 0.12, 0.12), gutter)
    if crosswalk is not None:
        a = u / _F(1.1) + _F(dice.uniform())
        stripe = band(np.abs(a - np.floor(a) - _F(0.5)), -1, 0.25, ground.grain_u)
        worn = np.clip(Field(dice)(u * 3, w * 3) * _F(0.5) + _F(0.45), 0, 1)
        zone = band(w, crosswalk, crosswalk + dice.uniform(2.2, 4.0), edge)
        blend(colors, (0.86, 0.86, 0.84), stripe * zone * worn)
    elif layers[0][1] == "asphalt" and dice.chance(0.35):
        line = layers[1][0] - dice.uniform(1.5, 4)
        color = dice.choice(((0.85, 0.85, 0.82), (0.82, 0.68, 0.22)))
        blend(colors, color, band(w, line, line + 0.14, edge) * _F(0.85))
    colors *= _F(light.sky + light.sun * 0.72)
    if light.sun > 0.25 and dice.chance(0.5):  # the shade of trees
        field, s = Field(dice), _F(dice.uniform(0.5, 1.0))
        spots = field(u * s, w * s * _F(0.8)) * _F(0.6)
        spots = spots + field(u * s * 3, w * s * _F(2.4)) * _F(0.4)
        shade = np.clip((spots - _F(dice.uniform(0.35, 0.6))) * 6, 0, 1)
        shade = shade * np.clip(_F(0.7) / edge - _F(0.5), 0, 1)
        strength = 0.45 * light.sun / (light.sun + light.sky) + 0.1
        colors *= (1 - shade * _F(strength))[..., None]
    drop = view.drop[ground.rows] + 0 * u
    below = band(drop, 0.004, 99.0, np.full_like(drop, 1 / view.camera.focal))
    blend(image[ground.rows], hazed(colors, ground.z, light), below)

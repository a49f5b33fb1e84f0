"""Streets without people: sky, buildings, greenery and ground in perspective.

The ground is a plane, and everything else in the background stands upright on lines
``Z + slope * X = w``: a hedge, a wall, a house. So a picture is painted from far to
near, one line after the other, and each joins the ground at the right row.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.scenes.camera import Camera, Light
from experiments.scenes.dice import Dice
from experiments.scenes.ground import draw_ground, ground_layers
from experiments.scenes.houses import draw_house
from experiments.scenes.raster import Color, mix
from experiments.scenes.textures import Field, band, blend, foliage
from experiments.scenes.view import View, hazed

__all__ = ["Background", "draw_background", "draw_light"]

_F = np.float32

GREENS: tuple[Color, ...] = (
    (0.30, 0.44, 0.16),
    (0.24, 0.38, 0.17),
    (0.42, 0.54, 0.18),
    (0.36, 0.46, 0.24),
    (0.48, 0.42, 0.18),
    (0.45, 0.22, 0.16),
)


@dataclass
class Background:
    """A street without people.

    Attributes:
        image: float32, shape (height, width, 3), 0 to 1.
        slope: the street's lines are ``Z + slope * X = w``.
        back: ``w`` of the nearest wall, hedge or row of trees.
        curb: ``w`` of the curb that cars park at, or None.
    """

    image: np.ndarray
    slope: float
    back: float
    curb: float | None


def draw_light(dice: Dice) -> Light:
    """Draw sun, sky and air at random.

    Args:
        dice: stream of random numbers.

    Returns:
        The light.
    """
    kind = dice.weighted(
        {
            "sun": 5.5,
            "bright": 2.2,
            "overcast": 2,
            "haze": 0.5,
            "dusk": 0.6,
            "rain": 0.5,
        }
    )
    sun, sky, air, color = {
        "sun": (0.78, 0.46, 0.003, (0.74, 0.81, 0.88)),
        "bright": (0.42, 0.72, 0.004, (0.82, 0.85, 0.88)),
        "overcast": (0.10, 0.88, 0.006, (0.78, 0.80, 0.82)),
        "haze": (0.12, 0.86, 0.030, (0.80, 0.82, 0.83)),
        "dusk": (0.20, 0.46, 0.006, (0.62, 0.52, 0.50)),
        "rain": (0.03, 0.66, 0.016, (0.60, 0.63, 0.66)),
    }[kind]
    aside = dice.uniform(-1.3, 1.3)
    return Light(
        # Never straight above or behind: shadows lie beside what casts them.
        x=0.8 * aside + (0.45 if aside > 0 else -0.45),
        y=1.0,
        z=dice.uniform(-0.5, 1.6),
        sun=sun * dice.uniform(0.8, 1.2),
        sky=sky * dice.uniform(0.85, 1.12),
        haze=dice.shade(color, 0.03),
        per_meter=air * dice.uniform(0.5, 1.5),
    )


def _sky(image: np.ndarray, view: View, light: Light, dice: Dice) -> None:
    """Paint the sky with its clouds, in place."""
    height, width = image.shape[:2]
    clear = light.sun > 0.4
    top = dice.shade((0.36, 0.56, 0.82) if clear else light.haze, 0.05)
    low = mix(light.haze, (0.95, 0.95, 0.95), 0.4)
    share = np.clip(-view.drop * _F(1.6), 0, 1) + 0 * view.ray
    for k in range(3):
        image[..., k] = _F(low[k]) + _F(top[k] - low[k]) * share
    clouds = dice.smooth(height, width, height * 0.16, width * 0.3) * _F(0.6)
    clouds = clouds + dice.smooth(height, width, height * 0.06, width * 0.1) * _F(0.4)
    amount = np.clip((clouds - _F(dice.uniform(0.4, 0.7))) * 4, 0, 1) * _F(0.7)
    cloud = (0.95, 0.95, 0.95) if clear else mix(low, (0.5, 0.5, 0.52), 0.4)
    blend(image, cloud, amount)
    if not clear:
        image *= _F(min(1.0, light.sky + 0.15))


def _greenery(
    image: np.ndarray,
    view: View,
    light: Light,
    dice: Dice,
    line: tuple[float, float],
    tall: float,
    bumps: float,
    leaf: float,
    color: Color,
) -> None:
    """Paint a hedge or a row of trees along a line, in place.

    Args:
        image: the picture.
        view: the camera's rays.
        light: sun and sky.
        dice: stream of random numbers.
        line: (w, slope) of the line it stands on.
        tall: its height.
        bumps: how uneven its top is, 0 to 1.
        leaf: size of a clump of leaves.
        color: of a lit leaf.
    """
    wall = view.wall(*line, tall * (1 + 0.8 * bumps) + leaf)
    if wall is None:
        return
    field = Field(dice)
    u, v = wall.u, wall.v
    leaves = foliage(u, v, wall.grain, color, field, leaf)
    lit = _F(0.55) + _F(0.5) * np.clip(v / _F(tall), 0, 1)
    leaves *= (lit * _F(light.sky * 0.8 + light.sun * 0.7))[..., None]
    row = u[:1]
    edge = field(row * _F(1.3 / tall), row * 0 + 7) - _F(0.7)
    edge = edge + field(row * _F(4 / tall), row * 0 + 3) * _F(0.4)
    top = _F(tall) * (1 + edge * _F(bumps))
    tufts = field(u / _F(leaf * 0.4), v / _F(leaf * 0.4)) - _F(0.5)
    top = top + tufts * _F(leaf * 1.2)
    on = band(v, -0.02, top, wall.grain)
    blend(image[wall.rows], hazed(leaves, wall.z, light), on)


def _scenery(image, view, light, dice: Dice, kind: str, back: float, slope) -> None:
    """Paint what stands behind the street, from far to near, in place."""
    for k in range(dice.integer(1, 2)):
        line = (back + dice.uniform(12, 45), slope * 0.4)
        tall, color = dice.uniform(5, 14), dice.choice(GREENS[:4])
        _greenery(image, view, light, dice.child(1, k), line, tall, 0.8, 1.2, color)
    if kind == "open" or dice.chance(0.2):
        line = (back + dice.uniform(12, 40), slope)
        roof, left = dice.uniform(6, 14), dice.uniform(-20, 6)
        side = (-999.0, left) if dice.chance(0.5) else (left, 999.0)
        draw_house(image, view, light, dice.child(2), line, roof, side)


def draw_background(
    dice: Dice,
    camera: Camera,
    light: Light,
    free: Sequence[tuple[float, float]],
    slope: float = 0.0,
) -> Background:
    """Draw a street without people.

    Args:
        dice: stream of random numbers.
        camera: the camera.
        light: sun and sky.
        free: places (X, Z) that stay clear: walls and hedges are behind them.
        slope: how the street's lines run; 0 for straight across the picture.

    Returns:
        The background.
    """
    view = View(camera)
    image = np.zeros((camera.height, camera.width, 3), _F)
    near = max(z + slope * x for x, z in free)
    place = dice.weighted(
        {"road": 3.2, "sidewalk": 2.4, "walk": 1.4, "park": 3, "grass": 1}
    )
    green = place in ("park", "grass")
    layers = ground_layers(dice, place, near)
    back = max(near + 0.8, layers[-1][0] + dice.uniform(0.6, 6.0))
    kind = dice.weighted(
        {"house": 3 if green else 5, "trees": 4 if green else 1.5, "open": 0.7}
    )
    _sky(image, view, light, dice)
    _scenery(image, view, light, dice, kind, back, slope)
    crosswalk = None
    if layers[0][1] == "asphalt" and dice.chance(0.3):
        crosswalk = near - dice.uniform(0.5, 2.5)
    draw_ground(image, view, light, dice.child(5), slope, layers, crosswalk)
    wall = back + (dice.uniform(0.5, 8) if green else 0.0)
    if kind == "house":
        left = dice.uniform(-6, 6)
        gap = (left, left + dice.uniform(2, 8)) if dice.chance(0.35) else None
        roof = dice.uniform(7, 20)
        draw_house(image, view, light, dice.child(3), (wall, slope), roof, gap)
    elif kind == "trees":
        tall, leaf = dice.uniform(3, 10), dice.uniform(0.4, 0.8)
        line, color = (wall, slope), dice.choice(GREENS[:4])
        _greenery(image, view, light, dice.child(4), line, tall, 0.5, leaf, color)
    if dice.chance(0.75 if green else 0.3):  # hedges and flower beds
        at, tall = back - dice.uniform(0.0, 0.4), dice.uniform(0.4, 1.3)
        for k in range(dice.integer(1, 2)):
            leaf, color = dice.uniform(0.12, 0.25), dice.choice(GREENS)
            own = dice.child(6, k)
            _greenery(image, view, light, own, (at, slope), tall, 0.25, leaf, color)
            at, tall = at - dice.uniform(0.3, 0.6), tall * dice.uniform(0.4, 0.7)
    if dice.chance(0.25):  # a house along one side, past the camera and everyone
        steep = dice.sign() * dice.uniform(4.0, 9.0)
        at = max(z + steep * x for x, z in [*free, (0.0, 0.5)])
        line = (at + abs(steep) * dice.uniform(0.9, 3.0), steep)
        roof = dice.uniform(5, 15)
        draw_house(image, view, light, dice.child(7), line, roof, until=back)
    curb = {"road": 0.0, "walk": 0.5}.get(place)
    if curb is not None:
        curb += layers[1][0]
    return Background(image, slope, back, curb)

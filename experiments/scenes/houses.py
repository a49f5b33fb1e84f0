"""House fronts: walls of brick, stone, plaster or glass, windows, shops, columns."""

from dataclasses import dataclass

import numpy as np

from experiments.scenes.camera import Light
from experiments.scenes.dice import Dice
from experiments.scenes.raster import Color, mix
from experiments.scenes.textures import Field, band, blend, bricks, rough
from experiments.scenes.view import View, hazed

__all__ = ["draw_house"]

_F = np.float32

BRICKS: tuple[Color, ...] = (
    (0.50, 0.24, 0.18),
    (0.58, 0.34, 0.26),
    (0.42, 0.26, 0.22),
    (0.62, 0.50, 0.40),
)
STONES: tuple[Color, ...] = ((0.68, 0.65, 0.58), (0.58, 0.57, 0.55), (0.75, 0.70, 0.62))
PLASTERS: tuple[Color, ...] = (
    (0.80, 0.76, 0.68),
    (0.72, 0.70, 0.68),
    (0.82, 0.72, 0.55),
    (0.66, 0.60, 0.58),
    (0.85, 0.84, 0.82),
)
FRAMES: tuple[Color, ...] = ((0.85, 0.85, 0.83), (0.25, 0.24, 0.23), (0.5, 0.42, 0.35))
SHOPS: tuple[Color, ...] = (
    (0.12, 0.12, 0.13),
    (0.55, 0.53, 0.50),
    (0.30, 0.20, 0.14),
    (0.12, 0.25, 0.20),
)
BOARDS: tuple[Color, ...] = (
    (0.60, 0.10, 0.10),
    (0.10, 0.20, 0.45),
    (0.10, 0.35, 0.20),
    (0.80, 0.70, 0.30),
    (0.15, 0.15, 0.15),
    (0.85, 0.84, 0.80),
)
# The strokes of E, H, O, L, U, F, A and C: left, right, upper, middle, lower.
_LETTERS = np.array(
    (
        (1, 1, 1, 1, 1, 1, 1, 1),
        (0, 1, 1, 0, 1, 0, 1, 0),
        (1, 0, 1, 0, 0, 1, 1, 1),
        (1, 1, 0, 0, 0, 1, 1, 0),
        (1, 0, 1, 1, 1, 0, 0, 1),
    ),
    _F,
)


@dataclass
class _Front:
    """A wall while it is painted: colors, coordinates, noise, light."""

    image: np.ndarray
    u: np.ndarray
    v: np.ndarray
    grain: np.ndarray
    field: Field
    dice: Dice
    light: Light

    def lay(self, color: Color | np.ndarray, share: np.ndarray) -> None:
        """Paint a color with a share per pixel."""
        blend(self.image, color, share.astype(_F))

    def between(self, x: np.ndarray, low, high) -> np.ndarray:
        """1 where x lies between, soft over a pixel."""
        return band(x, low, high, self.grain)


def _windows(f: _Front, wide: float, tall: float, floor: float) -> None:
    """Rows of windows with frames, sills and reflections."""
    dice = f.dice
    ww, wh = dice.uniform(0.22, 0.4) * wide, dice.uniform(0.24, 0.38) * tall
    frame = dice.shade(dice.choice(FRAMES))
    a, b = f.u / _F(wide) + 100, (f.v - _F(floor)) / _F(tall)
    du = np.abs(a - np.floor(a) - _F(0.5)) * _F(wide)
    dv = (b - np.floor(b) - _F(0.48)) * _F(tall)
    on = (b > 0).astype(_F)
    sill = f.between(du, -1, ww + 0.12) * f.between(dv, -wh - 0.2, -wh)
    f.lay(mix(frame, (0.8, 0.79, 0.76), 0.5), sill * on * _F(0.8))
    outer = f.between(du, -1, ww + 0.07) * f.between(np.abs(dv), -1, wh + 0.07)
    f.lay(frame, outer * on)
    inner = f.between(du, -1, ww) * f.between(np.abs(dv), -1, wh) * on
    glass = f.field.cell(a, b) * _F(0.3) + (f.field(f.u * 0.7, f.v * 0.4) - 0.3) * 0.25
    glass = np.clip(glass + (dv / _F(wh)) * _F(0.08) + _F(0.06), 0.03, 1)
    color = np.array(mix(f.light.haze, (0.6, 0.7, 0.8), 0.5), _F)
    f.lay(glass[..., None].astype(_F) * color, inner)
    if dice.chance(0.7):
        bars = f.between(du, -1, 0.035)
        bars = bars + f.between(np.abs(dv - _F(wh * 0.2)), -1, 0.03)
        f.lay(frame, np.clip(bars, 0, 1) * inner)
    f.lay((0.03, 0.03, 0.04), f.between(dv, wh * 0.75, wh) * inner * _F(0.5))


def _shop(f: _Front) -> None:
    """A shop front: panes, a door, a sign, sometimes posters and an awning."""
    dice, u, v, cell = f.dice, f.u, f.v, f.field.cell
    pane, sign = dice.uniform(1.3, 2.8), dice.uniform(2.6, 3.1)
    f.lay(dice.shade(dice.choice(SHOPS)), f.between(v, -1, sign + 0.8))
    a = u / _F(pane) + 100
    du = np.abs(a - np.floor(a) - _F(0.5)) * _F(pane)
    door = (cell(a, 0 * v) > 0.72).astype(_F)
    low = _F(0.45) * (1 - door) + _F(0.05)
    inner = f.between(du, -1, pane * 0.5 - 0.06) * f.between(v, low, sign - 0.1)
    # Behind the glass: a calm dark room, warmer above, with goods on two shelves.
    glow = np.clip(v * _F(0.05), 0, _F(0.13)) + f.field(u * 0.35, v * 0.25) * _F(0.06)
    inside = (_F(0.045) + glow)[..., None] * np.array((1.0, 0.92, 0.80), _F)
    inside = inside.astype(_F)
    for k, shelf in enumerate((0.62, 1.25)):
        size = dice.uniform(0.3, 0.5)
        p = u / _F(size) + 40 + 7 * k
        dp = np.abs(p - np.floor(p) - _F(0.5)) * _F(size)
        row = 0 * v + 11 * k
        tall = _F(0.14) + cell(p, row) * _F(0.28)
        wide = _F(size) * (_F(0.2) + cell(p, row + 2) * _F(0.22))
        goods = f.between(dp, -1, wide) * f.between(v, shelf, shelf + tall)
        goods = goods * (cell(p, row + 4) > 0.3) * (1 - door)
        tone = cell(p, row + 17) * _F(0.3) + _F(0.1)
        hues = [tone + cell(p, row + 20 + 3 * c) * _F(0.16) for c in range(3)]
        blend(inside, np.stack(hues, axis=-1), goods.astype(_F))
        board = f.between(v, shelf - 0.05, shelf) * (1 - door)
        blend(inside, (0.30, 0.26, 0.21), board.astype(_F))
    # The sky in the glass, in one slanting streak a pane.
    slant = a - np.floor(a) + v * _F(0.16) - _F(0.55) - cell(a, 0 * v + 9) * _F(0.3)
    streak = np.clip(1 - np.abs(slant) * _F(5.0), 0, 1) * _F(0.16)
    shine = np.clip(v * _F(0.03), 0, 1) + streak
    f.lay((inside + shine[..., None] * np.array(f.light.haze, _F)).astype(_F), inner)
    handle = f.between(np.abs(du - _F(0.4 * pane - 0.1)), -1, 0.025) * door
    f.lay((0.7, 0.68, 0.6), handle * f.between(v, 0.9, 1.3) * inner)
    if dice.chance(0.5):  # posters and notices on the glass
        p, q = u * _F(dice.uniform(1.1, 1.6)), v * _F(1.3)
        paper = np.stack([cell(p + 3 * k, q + k) for k in range(3)], axis=-1)
        dp, dq = np.abs(p - np.floor(p) - _F(0.5)), np.abs(q - np.floor(q) - _F(0.5))
        shown = f.between(np.maximum(dp, dq), -1, 0.36) * (cell(p, q) > 0.82)
        f.lay(paper * _F(0.2) + _F(0.6), shown * f.between(v, 0.8, 2.4) * inner)
    board = dice.shade(dice.choice(BOARDS))
    f.lay(board, f.between(v, sign, sign + 0.7))
    words = (cell(u * _F(0.33), 0 * v + 5) > 0.4) & (cell(u * _F(4.2), 0 * v) > 0.12)
    letter = (cell(u * _F(4.2), 0 * v + 31) * _F(8)).astype(np.int64)
    x = (u * _F(4.2) - np.floor(u * _F(4.2))) / _F(4.2)
    y = v - _F(sign + 0.2)
    body = f.between(x, 0.02, 0.19) * f.between(y, 0, 0.32)
    strokes = np.zeros_like(body)
    for part, share in zip(
        _LETTERS,
        (
            f.between(x, 0.02, 0.07),
            f.between(x, 0.14, 0.19),
            f.between(y, 0.27, 0.32),
            f.between(y, 0.135, 0.185),
            f.between(y, 0, 0.05),
        ),
        strict=True,
    ):
        strokes = np.maximum(strokes, share * part[letter])
    ink = (0.95, 0.94, 0.9) if board[1] < 0.5 else (0.15, 0.1, 0.1)
    f.lay(ink, body * strokes * words)
    if dice.chance(0.4):
        bright = (np.floor(u * _F(2.5)).astype(np.int64) & 1)[..., None] == 1
        cloth = np.where(bright, np.array((0.77, 0.75, 0.71), _F), np.array(board, _F))
        f.lay(cloth * _F(0.9), f.between(v, sign - 0.75, sign - 0.05))


def _columns(f: _Front) -> None:
    """A row of round columns in front of the wall."""
    gap = f.dice.uniform(2.2, 4.0)
    a = f.u / _F(gap)
    across = (a - np.floor(a) - _F(0.5)) * _F(gap / 0.33)
    depth = np.sqrt(np.maximum(0, 1 - across * across))
    tone = np.array(f.dice.shade((0.78, 0.76, 0.72)), _F)
    column = (_F(0.45) + depth * _F(0.55))[..., None] * tone
    f.lay(column.astype(_F), band(np.abs(across), -1, 1, f.grain * 3))


def _surface(wall, dice: Dice, field: Field) -> np.ndarray:
    kind = dice.weighted(
        {"brick": 3, "plaster": 2.2, "stone": 2, "glass": 0.8, "dark": 0.8}
    )
    at = (wall.u, wall.v, wall.grain)
    if kind == "brick":
        color = dice.shade(dice.choice(BRICKS))
        long = dice.uniform(0.22, 0.3)
        return bricks(*at, color, (0.66, 0.62, 0.57), field, long)
    if kind == "stone":
        color = dice.shade(dice.choice(STONES))
        mortar = mix(color, (0.2, 0.2, 0.2), 0.6)
        return bricks(*at, color, mortar, field, dice.uniform(0.7, 1.4))
    if kind == "glass":
        return rough(*at, dice.shade((0.35, 0.42, 0.47)), field, 0.25)
    if kind == "dark":
        return rough(*at, dice.shade((0.22, 0.21, 0.21)), field, 0.2)
    return rough(*at, dice.shade(dice.choice(PLASTERS)), field, 0.12)


def draw_house(
    image: np.ndarray,
    view: View,
    light: Light,
    dice: Dice,
    line: tuple[float, float],
    roof: float,
    gap: tuple[float, float] | None = None,
    until: float = 1e9,
) -> None:
    """Paint a house front over a picture, in place.

    Args:
        image: the picture, float32, shape (height, width, 3).
        view: the camera's rays.
        light: sun and sky.
        dice: stream of random numbers.
        line: (w, slope) of the line it stands on.
        roof: its height.
        gap: from where to where along the wall nothing stands.
        until: the wall is painted where it is nearer than this.
    """
    w, slope = line
    wall = view.wall(w, slope, roof)
    if wall is None:
        return
    field = Field(dice)
    front = _Front(
        _surface(wall, dice, field), wall.u, wall.v, wall.grain, field, dice, light
    )
    shop = dice.chance(0.4)
    if dice.chance(0.9):
        floor = 3.7 if shop else dice.uniform(0.2, 1.2)
        _windows(front, dice.uniform(1.6, 3.6), dice.uniform(2.7, 3.6), floor)
    if shop:
        _shop(front)
    elif dice.chance(0.6):
        base = mix(light.haze, (0.4, 0.38, 0.36), 0.8)
        front.lay(base, front.between(wall.v, -1, dice.uniform(0.3, 0.9)) * _F(0.7))
    if dice.chance(0.25):
        _columns(front)
    glow = light.sky + light.sun * (0.75 if light.z > 0 else 0.15)
    # Less light reaches the foot of a wall.
    foot = _F(0.72) + _F(0.28) * np.clip(wall.v * _F(1.6), 0, 1)
    front.image *= (foot * _F(glow * dice.uniform(0.7, 1.0)))[..., None]
    on = band(wall.v, -0.01, roof, wall.grain)
    if gap is not None:
        on = on * (1 - band(wall.u, gap[0], gap[1], wall.grain))
    on = on * ((1 + _F(slope) * view.ray > 0.08) & (wall.z < until))
    blend(image[wall.rows], hazed(front.image, wall.z, light), on.astype(_F))

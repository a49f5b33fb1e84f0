"""Drawing filled shapes, antialiased, to the same pixels on every machine.

Corners are rounded to 1/256 of a pixel. Each row of pixels is cut by four lines; on
them the share of every pixel inside the shape is counted in integers. What follows,
color and blending, uses additions, multiplications, divisions and square roots of one
array element at a time, which IEEE 754 defines to the last bit. There is no sum over
floats, no matrix product and no sine of an array: their results may differ between
machines.

Coordinates are (x, y) in pixels; the centre of the upper left pixel is (0.5, 0.5).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from experiments.scenes.dice import cosine, sine

__all__ = [
    "Canvas",
    "Color",
    "Patch",
    "Point",
    "blur",
    "coverage",
    "curve",
    "ellipse",
    "limb",
    "mix",
    "rectangle",
    "spot",
]

Point = tuple[float, float]
Color = tuple[float, float, float]

_GRID = 256  # steps of a coordinate per pixel
_LINES = 4  # lines that cut each row of pixels


@dataclass(frozen=True)
class Patch:
    """The part of a picture that a shape touches.

    Attributes:
        top: first row.
        left: first column.
        alpha: share of each pixel inside the shape, float32, shape (rows, columns).
    """

    top: int
    left: int
    alpha: np.ndarray

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the patch, as an index into the picture."""
        rows, columns = self.alpha.shape
        return slice(self.top, self.top + rows), slice(self.left, self.left + columns)

    def grid(self) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates of the pixel centres: x of shape (1, columns), y (rows, 1)."""
        rows, columns = self.alpha.shape
        x = np.arange(self.left, self.left + columns, dtype=np.float32) + np.float32(
            0.5
        )
        y = np.arange(self.top, self.top + rows, dtype=np.float32) + np.float32(0.5)
        return x[None, :], y[:, None]


def coverage(points: Sequence[Point], height: int, width: int) -> Patch | None:
    """How much of each pixel a polygon covers.

    Args:
        points: corners, at least three; the outline is closed. Where the outline runs
            round a place twice in one direction it is inside.
        height: rows of the picture.
        width: columns of the picture.

    Returns:
        The patch that the polygon touches, or None where it touches none.
    """
    corners = np.floor(np.asarray(points, dtype=np.float64) * _GRID + 0.5)
    corners = corners.astype(np.int64)
    (x_low, y_low), (x_high, y_high) = corners.min(axis=0), corners.max(axis=0)
    top, bottom = max(0, int(y_low) // _GRID), min(height, int(y_high) // _GRID + 1)
    left, right = max(0, int(x_low) // _GRID), min(width, int(x_high) // _GRID + 1)
    if top >= bottom or left >= right:
        return None
    rows, columns = bottom - top, right - left
    x0, y0 = corners[:, 0] - left * _GRID, corners[:, 1] - top * _GRID
    x1, y1 = np.roll(x0, -1), np.roll(y0, -1)
    down = np.where(y1 > y0, 1, -1)
    upper, lower = np.minimum(y0, y1), np.maximum(y0, y1)
    # Line k lies at (2 k + 1) * step / 2; an edge meets those in [upper, lower).
    step = _GRID // _LINES
    first = np.clip(-((step // 2 - upper) // step), 0, rows * _LINES)
    last = np.clip(-((step // 2 - lower) // step), 0, rows * _LINES)
    counts = last - first
    edge = np.repeat(np.arange(len(counts)), counts)
    if len(edge) == 0:
        return None
    line = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts)
    line = line + first[edge]
    y = line * step + step // 2
    x = x0[edge] + (y - y0[edge]) * (x1 - x0)[edge] // (y1 - y0)[edge]
    x = np.clip(x, 0, columns * _GRID)
    cell, part = x // _GRID, x % _GRID
    slot = (line // _LINES) * (columns + 2) + cell
    turn = down[edge]
    size = rows * (columns + 2)
    # bincount adds integers held in float64: exact.
    change = np.bincount(slot, turn * (_GRID - part), size)
    change += np.bincount(slot + 1, turn * part, size + 1)[:size]
    covered = np.cumsum(change.reshape(rows, columns + 2), axis=1)[:, :columns]
    alpha = np.minimum(np.abs(covered), _GRID * _LINES) / (_GRID * _LINES)
    return Patch(top, left, alpha.astype(np.float32))


def curve(points: Sequence[Point], steps: int = 4, closed: bool = True) -> list[Point]:
    """A smooth line through the given points (Catmull-Rom).

    Args:
        points: points the line runs through.
        steps: pieces between two points.
        closed: whether the last point is joined to the first.

    Returns:
        The points of the finer line.
    """
    count = len(points)
    fine = []
    for i in range(count if closed else count - 1):
        if closed:
            a, b, c, d = (points[(i + k) % count] for k in (-1, 0, 1, 2))
        else:
            a, b, c, d = (points[min(count - 1, max(0, i + k))] for k in (-1, 0, 1, 2))
        for k in range(steps):
            t = k / steps
            wa, wb = ((2 - t) * t - 1) * t / 2, ((3 * t - 5) * t * t + 2) / 2
            wc, wd = ((4 - 3 * t) * t + 1) * t / 2, (t - 1) * t * t / 2
            fine.append(
                (
                    wa * a[0] + wb * b[0] + wc * c[0] + wd * d[0],
                    wa * a[1] + wb * b[1] + wc * c[1] + wd * d[1],
                )
            )
    if not closed:
        fine.append(points[-1])
    return fine


def ellipse(
    x: float, y: float, rx: float, ry: float, tilt: float = 0.0, corners: int = 20
) -> list[Point]:
    """The outline of an ellipse.

    Args:
        x: centre.
        y: centre.
        rx: half its width.
        ry: half its height.
        tilt: radians by which it is turned.
        corners: corners of the polygon.

    Returns:
        Its points.
    """
    c, s = cosine(tilt), sine(tilt)
    points = []
    for k in range(corners):
        angle = 6.283185307179586 * k / corners
        px, py = rx * cosine(angle), ry * sine(angle)
        points.append((x + c * px - s * py, y + s * px + c * py))
    return points


def rectangle(x0: float, y0: float, x1: float, y1: float) -> list[Point]:
    """The outline of an upright rectangle."""
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def limb(
    a: Point, b: Point, ra: float, rb: float, corners: int = 6, flat: float = 1.0
) -> list[Point]:
    """The outline of a tapered rod with round ends.

    Args:
        a: one end.
        b: the other.
        ra: radius at ``a``.
        rb: radius at ``b``.
        corners: corners of each round end.
        flat: height of a circle of width 1; less than 1 for a rod on the ground.

    Returns:
        Its points.
    """
    if flat != 1.0:
        low = limb((a[0], a[1] / flat), (b[0], b[1] / flat), ra, rb, corners)
        return [(x, y * flat) for x, y in low]
    dx, dy = b[0] - a[0], b[1] - a[1]
    length = sqrt(dx * dx + dy * dy)
    ux, uy = (dx / length, dy / length) if length > 1e-6 else (0.0, 1.0)
    points = []
    for end, radius, sense in ((b, rb, 1), (a, ra, -1)):
        for k in range(corners + 1):
            angle = 3.141592653589793 * (k / corners - 0.5)
            along, across = cosine(angle) * sense, sine(angle) * sense
            points.append(
                (
                    end[0] + radius * (along * ux - across * uy),
                    end[1] + radius * (along * uy + across * ux),
                )
            )
    return points


def mix(a: Color, b: Color, share: float) -> Color:
    """The color ``share`` of the way from ``a`` to ``b``."""
    return tuple(p + (q - p) * share for p, q in zip(a, b, strict=True))


def blur(image: np.ndarray, rounds: int = 1) -> np.ndarray:
    """Average each pixel with its neighbours, weights 1, 2, 1 in both directions.

    Args:
        image: float32, shape (height, width) or (height, width, channels).
        rounds: how often.

    Returns:
        The blurred array; the border pixels are repeated outward.
    """
    for _ in range(rounds):
        for axis in (0, 1):
            pad = [(0, 0)] * image.ndim
            pad[axis] = (1, 1)
            wide = np.pad(image, pad, mode="edge")
            n = image.shape[axis]
            at = [slice(None)] * image.ndim
            parts = []
            for k in range(3):
                at[axis] = slice(k, k + n)
                parts.append(wide[tuple(at)])
            image = (parts[0] + 2 * parts[1] + parts[2]) * np.float32(0.25)
    return image


def spot(
    shade: np.ndarray, x: float, y: float, rx: float, ry: float, dark: float
) -> None:
    """Add a soft elliptical shadow to a map of shadows, in place.

    Args:
        shade: float32, shape (height, width), 0 for light and 1 for black.
        x: centre.
        y: centre.
        rx: half its width.
        ry: half its height.
        dark: how dark its middle is, 0 to 1.
    """
    height, width = shade.shape
    rx, ry = max(rx, 1.0), max(ry, 0.8)
    top, bottom = max(0, int(y - ry)), min(height, int(y + ry) + 2)
    left, right = max(0, int(x - rx)), min(width, int(x + rx) + 2)
    if top >= bottom or left >= right:
        return
    px = (np.arange(left, right, dtype=np.float32) + np.float32(0.5 - x)) / np.float32(
        rx
    )
    py = (np.arange(top, bottom, dtype=np.float32) + np.float32(0.5 - y)) / np.float32(
        ry
    )
    inside = np.maximum(0, 1 - (px * px)[None, :] - (py * py)[:, None])
    part = shade[top:bottom, left:right]
    part += (1 - part) * inside * np.float32(dark)


class Canvas:
    """A picture, and for each pixel the number of the person seen there.

    Objects are drawn from far to near, each between :meth:`begin` and :meth:`end`. A
    pixel belongs to an object that covers at least half of it, unless a nearer object
    does so too.

    Args:
        image: float32, shape (height, width, 3), 0 to 1.

    Attributes:
        image: the picture so far.
        mask: uint8, shape (height, width); 0 where no person is.
    """

    def __init__(self, image: np.ndarray) -> None:
        self.image = image.astype(np.float32)
        self.height, self.width = image.shape[:2]
        self.mask = np.zeros((self.height, self.width), np.uint8)
        self._alpha = np.zeros((self.height, self.width), np.float32)
        self._haze: tuple[Color, float] = ((0.0, 0.0, 0.0), 0.0)

    def begin(self, haze: tuple[Color, float] = ((0.0, 0.0, 0.0), 0.0)) -> None:
        """Start an object, seen through a share of haze of the given color."""
        self._alpha[:] = 0
        self._haze = haze

    def end(self, number: int = 0) -> np.ndarray:
        """Finish an object.

        Args:
            number: the person's number in the mask, or 0 for anything else.

        Returns:
            The pixels that the object covers, a boolean array (height, width).
        """
        covered = self._alpha >= 0.5
        self.mask[covered] = number
        return covered

    def paint(
        self,
        patch: Patch | None,
        color: Color | np.ndarray,
        light: np.ndarray | float = 1.0,
        opacity: float = 1.0,
    ) -> None:
        """Lay a color over a patch.

        Args:
            patch: where; None paints nothing.
            color: (r, g, b), or an array of shape (rows, columns, 3).
            light: factor, a number or an array of shape (rows, columns).
            opacity: 1 covers, 0 leaves.
        """
        if patch is None:
            return
        window = patch.window
        alpha = patch.alpha if opacity == 1.0 else patch.alpha * np.float32(opacity)
        light = np.asarray(light, np.float32)
        tint, share = self._haze
        below = self.image[window]
        for k in range(3):
            channel = color[..., k] if isinstance(color, np.ndarray) else color[k]
            value = np.minimum(channel * light, np.float32(1.3)).astype(np.float32)
            if share:
                value = value + (np.float32(tint[k]) - value) * np.float32(share)
            below[..., k] += (value - below[..., k]) * alpha
        cover = self._alpha[window]
        cover += (1 - cover) * alpha

    def darken(self, patch: Patch, dark: float) -> None:
        """Take a share of the light from what the object drawn now covers already."""
        window = patch.window
        share = patch.alpha * self._alpha[window] * np.float32(dark)
        self.image[window] *= (1 - share)[..., None]

    def fill(
        self,
        points: Sequence[Point],
        color: Color | np.ndarray,
        light: np.ndarray | float = 1.0,
        opacity: float = 1.0,
    ) -> None:
        """Paint a polygon; see :meth:`paint`."""
        patch = coverage(points, self.height, self.width)
        self.paint(patch, color, light, opacity)

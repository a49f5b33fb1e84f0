"""The ground and upright planes as a camera sees them, pixel by pixel.

An upright plane stands on the line ``Z + slope * X = w`` of the ground.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np

from experiments.scenes.camera import Camera, Light

__all__ = ["Ground", "View", "Wall", "hazed"]

_F = np.float32


@dataclass(frozen=True)
class Wall:
    """An upright plane, in the rows of the picture that it can reach.

    Attributes:
        rows: those rows.
        u: meters along it, shape (rows, width).
        v: meters up, shape (rows, width); negative where the ground is in front.
        grain: meters that a pixel spans, shape (rows, width).
        z: distance, shape (1, width).
    """

    rows: slice
    u: np.ndarray
    v: np.ndarray
    grain: np.ndarray
    z: np.ndarray


@dataclass(frozen=True)
class Ground:
    """The ground, in the rows below the horizon.

    Attributes:
        rows: those rows.
        u: meters across the street's lines, shape (rows, width).
        w: meters along them, shape (rows, width); see the module.
        grain_u: meters that a pixel spans along ``u``, shape (rows, width).
        grain_w: the same along ``w``.
        z: distance, shape (rows, 1).
    """

    rows: slice
    u: np.ndarray
    w: np.ndarray
    grain_u: np.ndarray
    grain_w: np.ndarray
    z: np.ndarray


class View:
    """Rays through the pixel centres of a picture.

    Args:
        camera: the camera.

    Attributes:
        camera: the camera.
        ray: X per Z of each column, shape (1, width).
        drop: -Y per Z of each row, shape (height, 1).
    """

    def __init__(self, camera: Camera) -> None:
        self.camera = camera
        columns = np.arange(camera.width, dtype=_F) + _F(0.5)
        rows = np.arange(camera.height, dtype=_F) + _F(0.5)
        self.ray = ((columns - _F(camera.width / 2)) / _F(camera.focal))[None, :]
        self.drop = ((rows - _F(camera.horizon)) / _F(camera.focal))[:, None]

    def ground(self, slope: float) -> Ground | None:
        """The ground with lines of the given slope; None if none is in view."""
        top = max(0, int(self.camera.horizon) - 1)
        if top >= self.camera.height:
            return None
        z = _F(self.camera.eye) / np.maximum(self.drop[top:], _F(0.004))
        x = self.ray * z
        focal = self.camera.focal
        grain_u = z / _F(focal) + 0 * x
        grain_w = z * z / _F(focal * self.camera.eye) + grain_u * _F(abs(slope))
        rows = slice(top, self.camera.height)
        return Ground(rows, x - _F(slope) * z, z + _F(slope) * x, grain_u, grain_w, z)

    def wall(self, w: float, slope: float, tall: float) -> Wall | None:
        """The plane over ``Z + slope * X = w``, up to a height; None if not in view."""
        camera = self.camera
        z = _F(w) / np.maximum(1 + _F(slope) * self.ray, _F(0.05))
        nearest, farthest = float(z.min()), float(z.max())
        foot = camera.project(0.0, -0.1, nearest)[1]
        head = min(camera.project(0.0, tall, d)[1] for d in (nearest, farthest))
        top, bottom = max(0, int(head) - 1), min(camera.height, int(foot) + 2)
        if top >= bottom:
            return None
        stretch = _F(sqrt(1 + slope * slope))
        v = _F(camera.eye) - self.drop[top:bottom] * z
        u = (self.ray - _F(slope)) * z / stretch
        grain = (z + z * z * stretch / _F(w)) / _F(2 * camera.focal)
        return Wall(slice(top, bottom), u + 0 * v, v, grain + 0 * v, z)


def hazed(image: np.ndarray, z: np.ndarray, light: Light) -> np.ndarray:
    """A picture seen through the air.

    Args:
        image: shape (height, width, 3).
        z: distance, shape (height, width), (height, 1) or (1, width).
        light: says what the air is like.

    Returns:
        The picture with haze.
    """
    thick = z * _F(light.per_meter)
    share = (thick / (1 + thick))[..., None]
    return image + (np.array(light.haze, _F) - image) * share

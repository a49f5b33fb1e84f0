"""Where the camera stands and where the light comes from.

World coordinates are meters: X to the right, Y up from the ground, Z away from the
camera. The camera looks along Z, level, from a height ``eye``.
"""

from dataclasses import dataclass

from experiments.scenes.raster import Color, Point

__all__ = ["Camera", "Light"]


@dataclass(frozen=True)
class Camera:
    """A pinhole camera.

    Attributes:
        width: columns of the picture.
        height: rows.
        focal: focal length in pixels.
        horizon: row of the horizon, may lie outside the picture.
        eye: height of the camera above the ground, in meters.
    """

    width: int
    height: int
    focal: float
    horizon: float
    eye: float

    def scale(self, z: float) -> float:
        """Pixels per meter at distance ``z``."""
        return self.focal / z

    def project(self, x: float, y: float, z: float) -> Point:
        """The pixel coordinates of a point of the world."""
        scale = self.focal / z
        return self.width / 2 + x * scale, self.horizon + (self.eye - y) * scale

    def distance(self, row: float) -> float:
        """How far the ground is that is seen at a row below the horizon."""
        return self.focal * self.eye / (row - self.horizon)

    def lateral(self, column: float, z: float) -> float:
        """X of what is seen in a column at distance ``z``."""
        return (column - self.width / 2) * z / self.focal


@dataclass(frozen=True)
class Light:
    """Sun, sky and air.

    Attributes:
        x: direction to the sun, to the right.
        y: direction to the sun, up.
        z: direction to the sun, toward the camera (negative: against the light).
        sun: strength of direct light, 0 under clouds.
        sky: strength of light from everywhere.
        haze: color of distant air.
        per_meter: share of haze that one meter of air adds.
    """

    x: float
    y: float
    z: float
    sun: float
    sky: float
    haze: Color
    per_meter: float

    def air(self, z: float) -> tuple[Color, float]:
        """Color and share of the haze in front of something at distance ``z``."""
        thickness = self.per_meter * max(0.0, z)
        return self.haze, thickness / (1.0 + thickness)

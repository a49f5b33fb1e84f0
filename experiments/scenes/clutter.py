"""What else stands in a street: cars, trees, posts, bins, hydrants, bicycles, signs."""

from experiments.scenes import furniture, objects, plants, signs, vehicles
from experiments.scenes.camera import Camera, Light
from experiments.scenes.dice import Dice
from experiments.scenes.stand import Stand

__all__ = ["KINDS", "thing"]

# For each kind: how it is drawn; half its width at the ground; height and half width
# of what casts its shadow, in meters.
_THINGS = {
    "bench": (furniture.bench, (1.0, 0.5, 0.5)),
    "bicycle": (objects.bicycle, (0.8, 0.7, 0.05)),
    "bin": (furniture.bin, (0.35, 1.0, 0.25)),
    "box": (objects.box, (0.6, 0.9, 0.4)),
    "bush": (plants.bush, (0.8, 0.6, 0.5)),
    "car": (vehicles.car, (2.3, 0.0, 0.0)),
    "fence": (furniture.fence, (1.5, 0.0, 0.0)),
    "front": (vehicles.front, (1.0, 1.0, 0.7)),
    "hydrant": (furniture.hydrant, (0.3, 0.7, 0.1)),
    "lamp": (furniture.lamp, (0.3, 4.6, 0.06)),
    "planter": (plants.planter, (0.9, 0.5, 0.6)),
    "post": (furniture.post, (0.2, 1.5, 0.06)),
    "sign": (signs.sign, (0.2, 2.5, 0.06)),
    "statue": (objects.statue, (0.6, 1.8, 0.3)),
    "tree": (plants.tree, (0.5, 4.0, 0.2)),
    "van": (vehicles.van, (3.0, 0.0, 0.0)),
}

KINDS = tuple(_THINGS)


def thing(
    kind: str, camera: Camera, light: Light, x: float, z: float, dice: Dice
) -> Stand:
    """Put a thing somewhere.

    Args:
        kind: one of :data:`KINDS`.
        camera: the camera.
        light: sun and sky.
        x: meters to the right.
        z: meters from the camera.
        dice: stream of random numbers.

    Returns:
        The thing, ready to be drawn.

    Raises:
        ValueError: there is no such kind.
    """
    if kind not in _THINGS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {kind!r}")
    paint, size = _THINGS[kind]
    return Stand(paint, size, camera, light, x, z, dice)

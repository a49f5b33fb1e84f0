"""A whole scene: camera, light, street, things and people, and the finished picture."""

from dataclasses import dataclass, replace

import numpy as np

from experiments.scenes.background import Background, draw_background, draw_light
from experiments.scenes.camera import Camera, Light
from experiments.scenes.clutter import thing
from experiments.scenes.dice import Dice
from experiments.scenes.figure import draw_figure
from experiments.scenes.people import Person
from experiments.scenes.raster import Canvas, blur
from experiments.scenes.stand import Stand

__all__ = ["LEAST_PIXELS", "LEAST_SHARE", "Scene", "scene"]

LEAST_PIXELS = 60
LEAST_SHARE = 0.25

SLIM = ("post", "sign", "bin", "hydrant", "bicycle", "lamp")  # may stand in front


@dataclass(frozen=True)
class Scene:
    """A picture and its people.

    Attributes:
        image: uint8, shape (height, width, 3), red, green, blue.
        mask: uint8, shape (height, width): 0 for background, 1 to N for the people,
            from near to far.
    """

    image: np.ndarray
    mask: np.ndarray


def scene(seed: int, index: int) -> Scene:
    """Draw a street scene with 1 to 8 people.

    A pixel belongs to the nearest object that covers at least half of it. People of
    whom fewer than :data:`LEAST_PIXELS` pixels or less than :data:`LEAST_SHARE` of
    what lies inside the picture could be seen are left out of the picture.

    Args:
        seed: which collection of scenes, 0 or more.
        index: which scene of it, 0 or more.

    Returns:
        The scene; the same for the same arguments on every machine.

    Raises:
        TypeError: an argument is not an integer.
        ValueError: an argument is negative.
    """
    for name, value in (("seed", seed), ("index", index)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} must be an int, got {value!r}")
        if value < 0:
            raise ValueError(f"{name} must be 0 or more, got {value}")
    for attempt in range(100):
        drawn = _attempt(Dice(7, seed, index, attempt))
        if drawn is not None:
            return drawn
    raise AssertionError(f"no scene for seed {seed}, index {index}")  # never seen


def _camera(dice: Dice) -> tuple[Camera, float]:
    """A camera, and the distance of the main person."""
    longest = dice.integer(208, 320)
    aspect = dice.weighted(
        {
            dice.uniform(0.70, 0.98): 3.0,
            dice.uniform(0.98, 1.4): 4.5,
            dice.uniform(1.4, 2.1): 2.5,
        }
    )
    if aspect >= 1:
        width, height = longest, int(longest / aspect)
    else:
        width, height = int(longest * aspect), longest
    share = dice.weighted(
        {min(0.9, max(0.3, dice.bell(0.73, 0.12))): 8.4, dice.uniform(0.13, 0.45): 1.6}
    )
    eye = dice.uniform(1.25, 1.9)
    low = 1.04 if share > 0.6 else 0.95
    feet = height * dice.uniform(max(0.6, share + 0.05), low)
    horizon = feet - eye * share * height / 1.7
    focal = dice.uniform(1.1, 2.2) * longest
    camera = Camera(width, height, focal, horizon, eye)
    return camera, camera.distance(feet)


def _people(
    dice: Dice, camera: Camera, light: Light, main: float, slope: float
) -> list[Person]:
    count = dice.weighted({1: 30, 2: 26, 3: 20, 4: 11, 5: 6, 6: 4, 7: 2, 8: 1})
    cold = dice.uniform(0, 0.9) if light.sun < 0.3 else dice.uniform(0, 0.45)
    limit = camera.focal * 1.6 / (0.115 * camera.height)
    people: list[Person] = []
    for k in range(count):
        own = dice.child(11, k)
        figure = draw_figure(own, cold)
        before = people[-1] if people else None
        if before is not None and own.chance(0.45):
            z = max(main * 0.85, before.z + own.uniform(-0.45, 0.6))
            x = before.x + own.sign() * own.uniform(0.3, 0.85)
            turn = before.figure.turn + own.bell(0, 0.15)
            figure = replace(figure, turn=turn, look=turn + own.bell(0, 0.4))
        else:
            z = main
            if k:
                z = main * own.weighted(
                    {own.uniform(0.92, 1.3): 6, own.uniform(1.3, 3.5): 4}
                )
            edge = 0.0 if own.chance(0.2) else 0.1
            x = camera.lateral(camera.width * own.uniform(edge, 1 - edge), z)
        z = min(z, max(limit, main))
        people.append(Person(figure, camera, light, x, z, own.child(1)))
    return people


def _things(
    dice: Dice, camera: Camera, light: Light, street: Background, main: float
) -> list[Stand]:
    things = []
    if street.curb is not None and dice.chance(0.6):
        ahead = dice.chance(0.25)
        start = dice.uniform(-9, 0)
        for k in range(8 if ahead else 5):
            own = dice.child(21, k)
            x = start + k * (2.6 if ahead else 5.2)
            z = street.curb - street.slope * x - (2.4 if ahead else 1.0)
            kind = "front" if ahead else own.weighted({"car": 9, "van": 1})
            clear = z > main * 0.95 + 0.5 and (ahead or abs(street.slope) < 0.5)
            if own.chance(0.75) and clear:
                things.append(thing(kind, camera, light, x, z, own.child(1)))
    if dice.chance(0.2):  # cars far away
        z = main + dice.uniform(8, 30)
        for k in range(dice.integer(1, 5)):
            own = dice.child(23, k)
            x = camera.lateral(camera.width * own.uniform(-0.1, 1.1), z)
            kind = own.weighted({"car": 3, "front": 3, "van": 1})
            if z + street.slope * x < street.back:
                things.append(thing(kind, camera, light, x, z, own.child(1)))
    for k in range(dice.integer(1, 8)):
        own = dice.child(22, k)
        kind = own.weighted(
            {
                "tree": 2.2,
                "post": 1.6,
                "lamp": 1,
                "bin": 1.2,
                "hydrant": 0.8,
                "bicycle": 1.2,
                "sign": 1,
                "bush": 1.3,
                "box": 0.9,
                "statue": 0.25,
                "bench": 0.6,
                "fence": 0.9,
                "planter": 0.8,
            }
        )
        far = max(main * 1.05, street.back - 0.5)
        z = own.uniform(main * 1.05, far) if own.chance(0.6) else far
        if kind in SLIM and own.chance(0.2):
            z = main * own.uniform(0.75, 1.0)
        x = camera.lateral(camera.width * own.uniform(0, 1), z)
        things.append(thing(kind, camera, light, x, z, own.child(1)))
    return things


def _attempt(dice: Dice) -> Scene | None:
    camera, main = _camera(dice)
    light = draw_light(dice)
    slope = dice.weighted(
        {
            0.0: 2,
            dice.uniform(-0.45, 0.45): 5,
            dice.sign() * dice.uniform(0.45, 1.0): 1.5,
        }
    )
    people = _people(dice, camera, light, main, slope)
    free = [(p.x, p.z) for p in people]
    street = draw_background(dice.child(1), camera, light, free, slope)
    things = _things(dice.child(2), camera, light, street, main)
    while people:
        canvas, hidden = _compose(street, people, things)
        if not hidden:
            break
        people = [p for p in people if p not in hidden]
    else:
        return None
    return Scene(_develop(canvas.image, light, dice.child(3)), canvas.mask)


def _compose(
    street: Background, people: list[Person], things: list[Stand]
) -> tuple[Canvas, list[Person]]:
    """Draw everything from far to near; also the people too little of whom is seen."""
    canvas = Canvas(street.image.copy())
    for item in [*people, *things]:
        item.restart()
        item.shadow(canvas)
    people = sorted(people, key=lambda p: p.z)
    numbers = {id(p): k + 1 for k, p in enumerate(people)}
    covered = {}
    for item in sorted([*people, *things], key=lambda p: -p.z):
        if isinstance(item, Person):
            covered[id(item)] = item.draw(canvas, numbers[id(item)])
        else:
            item.draw(canvas)
    hidden = []
    for person in people:
        seen = int((canvas.mask == numbers[id(person)]).sum())
        rows = np.nonzero((canvas.mask == numbers[id(person)]).any(axis=1))[0]
        whole = int(covered[id(person)].sum())
        if (
            seen < LEAST_PIXELS
            or seen < LEAST_SHARE * whole
            or rows[-1] - rows[0] + 1 < 0.1 * canvas.height
        ):
            hidden.append(person)
    return canvas, hidden


def _develop(image: np.ndarray, light: Light, dice: Dice) -> np.ndarray:
    """What lens, sensor and developing do: exposure, softness, noise, 8 bits."""
    height, width = image.shape[:2]
    if dice.chance(0.6):
        soft = blur(image)
        image = image + (soft - image) * np.float32(dice.uniform(0.2, 0.9))
    # The camera sets the mean brightness; integers, because they add up exactly.
    total = int((np.clip(image, 0, 1) * 255).astype(np.int64).sum())
    mean = max(0.08, total / (255 * image.size))
    bright = light.sun + light.sky > 0.7
    wanted = dice.bell(0.44, 0.05) if bright else dice.bell(0.34, 0.06)
    exposure = min(1.9, max(0.75, wanted / mean))
    contrast = dice.uniform(1.0, 1.45) if light.sun > 0.15 else dice.uniform(0.8, 1.3)
    warm = dice.bell(0.015, 0.03)
    gray = (image[..., :1] + image[..., 1:2] * 2 + image[..., 2:]) * np.float32(0.25)
    image = gray + (image - gray) * np.float32(dice.uniform(0.65, 1.0))
    image = np.clip(image * np.float32(exposure), 0, 1)
    # A curve through (0, 0), (0.5, 0.5) and (1, 1), steep in the middle.
    bend = (image - np.float32(0.5)) * image * (1 - image) * np.float32(4)
    image = image + bend * np.float32(contrast - 1)
    image = image * np.array((1 + warm, 1, 1 - warm), np.float32)
    noise = dice.noise(height, width) + dice.noise(height, width) - 1
    grain = dice.uniform()
    image = image + (noise * np.float32(0.035 * grain * grain))[..., None]
    # 86 levels a channel: finer ones would only make the files larger.
    steps = np.float32(85)
    levels = np.floor(np.clip(image, 0, 1) * steps + np.float32(0.5)) * 3
    return levels.astype(np.uint8)

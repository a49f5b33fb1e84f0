"""Scenes of drawn objects, no people: what the small detector is pretrained on.

Twenty-one classes, from a bottle to a kangaroo, stand on the streets of
:mod:`experiments.scenes.background` or on plain textures. They stand in for COCO,
whose pictures cannot be bundled: a detector that has seen them knows what an object
and its outline are before it sees a pedestrian. Only the backgrounds are shared with
the pedestrian scenes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch.utils.data import Dataset
from torchvision import tv_tensors

from course_utils.detection.box_ops import masks_to_boxes
from experiments.scenes.background import draw_background, draw_light
from experiments.scenes.camera import Camera
from experiments.scenes.dice import Dice

__all__ = ["CLASSES", "Shapes", "cut_out", "draw", "post", "put", "street", "texture"]

FINE = 3  # an object is drawn this many times finer, then averaged
SMALLEST = 60  # visible pixels that an object must have to count

# A part of an object: corners (N, 2) in its own frame, x to the right, y down, the
# height 0 to 1; and which of the object's colors fills it.
Part = tuple[np.ndarray, int]


def turned(rng, profile: list[tuple[float, float]], color: int = 0) -> Part:
    """A body of revolution: (y, half width) from top to bottom, smoothed."""
    y, half = np.array(profile, float).T
    half = half * rng.uniform(0.85, 1.15, len(half))
    fine = np.linspace(y[0], y[-1], 40)
    half = np.interp(fine, y, half)
    half[1:-1] = (half[:-2] + 2 * half[1:-1] + half[2:]) / 4
    right = np.stack([half, fine], axis=1)
    return np.concatenate([right, (right * [-1, 1])[::-1]]), color


def oval(x, y, rx, ry, color: int = 0) -> Part:
    angle = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=1), color


def bar(x1, y1, x2, y2, r1, r2=None, color: int = 0) -> Part:
    """A rod from one point to another, r1 and r2 thick (half) at its ends."""
    r2 = r1 if r2 is None else r2
    along = np.array([x2 - x1, y2 - y1], float)
    across = np.array([-along[1], along[0]]) / max(np.hypot(*along), 1e-6)
    a, b = np.array([x1, y1]), np.array([x2, y2])
    corners = [a + across * r1, b + across * r2, b - across * r2, a - across * r1]
    return np.array(corners), color


def block(x1, y1, x2, y2, color: int = 0) -> Part:
    return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], float), color


def bottle(rng):
    neck = rng.uniform(0.04, 0.07)
    shoulder = rng.uniform(0.3, 0.45)
    body = rng.uniform(0.12, 0.18)
    profile = [(0, neck), (0.2, neck), (shoulder, body), (0.97, body), (1, body * 0.9)]
    label = block(-body * 0.98, 0.55, body * 0.98, 0.8, 1)
    return [turned(rng, profile), label, block(-neck, 0, neck, 0.06, 2)]


def vase(rng):
    lip, belly = rng.uniform(0.1, 0.25), rng.uniform(0.2, 0.35)
    profile = [(0, lip), (0.12, lip * 0.6), (0.5, belly), (0.9, 0.12), (1, 0.16)]
    return [turned(rng, profile), block(-belly * 0.9, 0.45, belly * 0.9, 0.53, 1)]


def pawn(rng):
    profile = [(0.22, 0.09), (0.3, 0.17), (0.34, 0.08), (0.75, 0.14), (0.85, 0.25)]
    return [turned(rng, [*profile, (1, 0.25)]), oval(0, 0.14, 0.14, 0.14)]


def glass(rng):
    cup = rng.uniform(0.15, 0.24)
    profile = [(0, cup), (0.3, cup * 1.05), (0.5, 0.03), (0.92, 0.025), (0.95, 0.2)]
    return [turned(rng, [*profile, (1, 0.2)])]


def lamp(rng):
    shade = rng.uniform(0.14, 0.24)
    parts = [block(-0.018, 0.2, 0.018, 0.96, 1), block(-0.15, 0.95, 0.15, 1, 1)]
    return [*parts, turned(rng, [(0, shade * 0.55), (0.27, shade)])]


def fir(rng):
    parts = [block(-0.035, 0.85, 0.035, 1, 1)]
    for k in range(4):
        top, wide = 0.2 * k * 0.9, 0.1 + 0.07 * k
        corners = [[0, top], [wide, top + 0.32], [-wide, top + 0.32]]
        parts.insert(1, (np.array(corners), 0))
    return parts


def cactus(rng):
    parts = [bar(0, 0.12, 0, 1, 0.1, 0.11), oval(0, 0.12, 0.1, 0.1)]
    for side in (-1, 1):
        low, top = rng.uniform(0.45, 0.65), rng.uniform(0.15, 0.4)
        x = side * rng.uniform(0.2, 0.28)
        parts += [bar(0, low, x, low, 0.06), bar(x, low, x, top, 0.06)]
        parts += [oval(x, low, 0.06, 0.06), oval(x, top, 0.06, 0.06)]
    return parts


def mushroom(rng):
    wide = rng.uniform(0.3, 0.5)
    cap = turned(rng, [(0, 0.05), (0.15, wide * 0.8), (0.42, wide), (0.46, wide * 0.8)])
    spots = [oval(x * wide, 0.28, 0.05, 0.045, 2) for x in (-0.5, 0.05, 0.55)]
    return [turned(rng, [(0.4, 0.1), (0.8, 0.11), (1, 0.14)], 1), cap, *spots]


def chair(rng):
    seat, deep = rng.uniform(0.48, 0.6), rng.uniform(0.25, 0.38)
    legs = [block(x - 0.025, seat, x + 0.025, 1, 1) for x in (-deep, deep)]
    inner = [
        block(x - 0.02, seat, x + 0.02, 0.93, 1) for x in (-deep * 0.6, deep * 0.6)
    ]
    back = block(-deep - 0.03, 0, -deep + 0.05, seat)
    return [*inner, *legs, back, block(-deep - 0.03, seat, deep + 0.04, seat + 0.08)]


def dog(rng):
    legs = []
    for x in (-0.5, -0.36, 0.28, 0.42):
        step = rng.uniform(-0.12, 0.12)
        legs.append(bar(x, 0.6, x + step, 1, 0.075, 0.05))
    head = [oval(0.68, 0.2, 0.19, 0.15), bar(0.7, 0.22, 0.95, 0.28, 0.09, 0.06)]
    ear = bar(0.6, 0.12, 0.52, 0.36, 0.05, 0.07, 1)
    tail = bar(-0.58, 0.42, -0.82, rng.uniform(0.05, 0.5), 0.05, 0.025)
    body = [oval(-0.05, 0.52, 0.6, 0.2), bar(0.4, 0.45, 0.62, 0.22, 0.15, 0.11)]
    return [tail, *legs, *body, *head, ear, oval(0.93, 0.25, 0.035, 0.03, 2)]


def giraffe(rng):
    legs = []
    for x in (-0.24, -0.17, 0.1, 0.18):
        legs.append(bar(x, 0.6, x + rng.uniform(-0.06, 0.06), 1, 0.035, 0.022))
    lean = rng.uniform(0.2, 0.36)
    neck = bar(0.14, 0.5, lean, 0.1, 0.085, 0.045)
    head = [
        oval(lean + 0.03, 0.07, 0.06, 0.045),
        bar(lean, 0.07, lean + 0.15, 0.11, 0.04, 0.03),
    ]
    spots = [
        oval(x, y, 0.035, 0.03, 1) for x in (-0.15, -0.04, 0.07) for y in (0.5, 0.58)
    ]
    return [
        bar(-0.27, 0.5, -0.33, 0.75, 0.015),
        *legs,
        oval(-0.03, 0.54, 0.26, 0.12),
        neck,
        *head,
        *spots,
    ]


def flamingo(rng):
    bend = rng.uniform(-0.1, 0.1)
    legs = [
        bar(-0.02, 0.55, bend, 0.78, 0.015),
        bar(bend, 0.78, 0, 1, 0.013),
        bar(0.04, 0.55, 0.05, 1, 0.014),
    ]
    neck = [
        bar(0.12, 0.42, 0.26, 0.28, 0.045, 0.035),
        bar(0.26, 0.28, 0.17, 0.1, 0.035, 0.03),
    ]
    return [
        *legs,
        oval(0, 0.46, 0.22, 0.13),
        *neck,
        oval(0.19, 0.07, 0.06, 0.05),
        bar(0.22, 0.07, 0.33, 0.14, 0.03, 0.015, 1),
    ]


def ladder(rng):
    wide = rng.uniform(0.1, 0.16)
    sides = [bar(x * 0.85, 0, x * 1.1, 1, 0.022) for x in (-wide, wide)]
    return [
        *sides,
        *[bar(-wide, y, wide, y, 0.018, color=1) for y in np.linspace(0.1, 0.9, 7)],
    ]


def umbrella(rng):
    wide = rng.uniform(0.4, 0.6)
    angle = np.linspace(np.pi, 2 * np.pi, 25)
    canopy = np.stack([wide * np.cos(angle), 0.36 + 0.34 * np.sin(angle)], axis=1)
    stripe = np.array([[0, 0.02], [wide * 0.35, 0.36], [-wide * 0.35, 0.36]])
    return [
        bar(0, 0.0, 0, 0.95, 0.014, color=2),
        bar(0, 0.95, 0.08, 1, 0.014, color=2),
        (canopy, 0),
        (stripe, 1),
    ]


def balloon(rng):
    parts = [bar(0, 0.6, rng.uniform(-0.1, 0.1), 1, 0.008, color=1)]
    return [
        *parts,
        oval(0, 0.3, rng.uniform(0.22, 0.32), 0.3),
        bar(0, 0.58, 0, 0.64, 0.02, 0.05),
    ]


def guitar(rng):
    body = [
        oval(0, 0.82, 0.19, 0.17),
        oval(0, 0.6, 0.14, 0.13),
        block(-0.1, 0.6, 0.1, 0.8),
    ]
    neck = [block(-0.025, 0.1, 0.025, 0.65, 1), block(-0.045, 0, 0.045, 0.12, 1)]
    return [*body, *neck, oval(0, 0.68, 0.06, 0.055, 2)]


def cone(rng):
    wide = rng.uniform(0.25, 0.38)
    body = turned(rng, [(0, 0.03), (0.92, wide * 0.8)])
    bands = [
        block(-wide * y, y * 0.9, wide * y, y * 0.9 + 0.13, 1) for y in (0.35, 0.65)
    ]
    return [
        body,
        *[(np.clip(b, -1, 1) * [0.75, 1], c) for b, c in bands],
        block(-wide, 0.9, wide, 1, 2),
    ]


def limb(x, y, length, thick, angle, bend, color: int = 0) -> list[Part]:
    """An arm or a leg of two rods; angles in degrees, 0 hangs straight down."""
    parts, way = [], np.deg2rad(angle)
    for _ in range(2):
        x2, y2 = x + length / 2 * np.sin(way), y + length / 2 * np.cos(way)
        parts += [oval(x, y, thick, thick, color)]
        parts += [bar(x, y, x2, y2, thick, thick * 0.8, color)]
        x, y, thick, way = x2, y2, thick * 0.8, way + np.deg2rad(bend)
    return [*parts, oval(x, y, thick * 1.2, thick, color)]


def bear(rng):
    """A toy bear, standing."""
    legs_color, arms_color = rng.integers(0, 3, 2)
    fat, belly = rng.uniform(0.14, 0.2), rng.uniform(0.06, 0.12)
    legs = [
        limb(
            side * fat * 0.6, 0.68, 0.3, 0.08, side * rng.uniform(-5, 25), 0, legs_color
        )
        for side in (-1, 1)
    ]
    arms = [
        limb(side * fat, 0.38, 0.28, 0.06, side * rng.uniform(-10, 130), 0, arms_color)
        for side in (-1, 1)
    ]
    ears = [oval(side * 0.11, 0.05, 0.05, 0.05, 1) for side in (-1, 1)]
    body = [oval(0, 0.52, fat, 0.24), oval(0, 0.54, belly, 0.15, 1)]
    head = [oval(0, 0.15, 0.14, 0.135), oval(0, 0.19, 0.055, 0.04, 1)]
    return [*sum(legs, []), *body, *sum(arms, []), *ears, *head]


def monkey(rng):
    legs_color, arms_color = rng.integers(0, 3, 2)
    tail = limb(0.05, 0.6, 0.5, 0.025, rng.uniform(60, 140), rng.uniform(30, 100))
    limbs = []
    for side in (-1, 1):
        stride, swing = rng.uniform(-15, 40), rng.uniform(-20, 150)
        legs = limb(
            side * 0.06, 0.6, 0.4, 0.05, side * stride, -side * stride, legs_color
        )
        arms = limb(side * 0.11, 0.3, 0.44, 0.04, side * swing, side * 20, arms_color)
        limbs += [*legs, *arms]
    body = turned(rng, [(0.22, 0.06), (0.32, 0.12), (0.5, 0.1), (0.64, 0.11)])
    face = [oval(0, 0.15, 0.1, 0.1), oval(0, 0.17, 0.07, 0.065, 1)]
    ears = [oval(side * 0.11, 0.15, 0.035, 0.04, 1) for side in (-1, 1)]
    return [*tail, *limbs, body, *ears, *face]


def penguin(rng):
    wide = rng.uniform(0.16, 0.24)
    body = turned(
        rng, [(0.02, 0.05), (0.12, 0.11), (0.24, 0.09), (0.6, wide), (0.95, wide * 0.7)]
    )
    front = oval(0.02, 0.6, wide * 0.65, 0.3, 1)
    wings = [
        part
        for side in (-1, 1)
        for part in limb(
            side * wide * 0.8, 0.34, 0.36, 0.045, side * rng.uniform(0, 60), 0
        )
    ]
    feet = [oval(side * wide * 0.5, 0.97, 0.09, 0.03, 2) for side in (-1, 1)]
    return [*feet, body, front, *wings, bar(0.08, 0.1, 0.2, 0.13, 0.03, 0.01, 2)]


def kangaroo(rng):
    tail = limb(-0.12, 0.72, 0.6, 0.05, rng.uniform(-75, -45), rng.uniform(-35, 0))
    legs = []
    for x in (-0.04, 0.06):
        knee = x + rng.uniform(0.1, 0.2)
        legs += [
            bar(x, 0.68, knee, 0.8, 0.09, 0.05),
            bar(knee, 0.8, x, 0.96, 0.045, 0.03),
        ]
        legs += [bar(x - 0.03, 0.97, x + 0.22, 0.97, 0.03, 0.02)]
    body = [oval(0, 0.62, 0.16, 0.18), bar(0, 0.55, 0.1, 0.25, 0.14, 0.06)]
    arms = limb(0.13, 0.36, 0.24, 0.03, rng.uniform(20, 90), rng.uniform(0, 60))
    head = [oval(0.13, 0.17, 0.075, 0.07), bar(0.15, 0.17, 0.27, 0.2, 0.05, 0.03)]
    ears = [bar(0.09, 0.12, x, 0.0, 0.03, 0.015, 1) for x in (0.03, 0.1)]
    return [*tail, *ears, *legs, *body, *arms, *head]


_DRAWN: tuple[Callable, ...] = (
    *(bottle, vase, pawn, glass, lamp, fir, cactus, mushroom, chair),
    *(dog, giraffe, flamingo, ladder, umbrella, balloon, guitar, cone),
    *(bear, monkey, penguin, kangaroo),
)
CLASSES = {drawing.__name__: drawing for drawing in _DRAWN}


@dataclass
class Drawing:
    """One object, cut out.

    Attributes:
        color: float (H, W, 3), 0 to 1.
        cover: float (H, W), the share of each pixel that the object covers.
    """

    color: np.ndarray
    cover: np.ndarray


def cut_out(rng: np.random.Generator, name: str, tall: float) -> Drawing:
    """Draw one object, about ``tall`` pixels high, in colors of its own."""
    parts = CLASSES[name](rng)
    flip = rng.choice([-1, 1])
    lean = np.deg2rad(rng.normal(0, 6) if rng.random() < 0.85 else rng.uniform(-50, 50))
    turn = np.array([[np.cos(lean), -np.sin(lean)], [np.sin(lean), np.cos(lean)]])
    scale = tall * FINE * np.array([flip * rng.uniform(0.8, 1.25), 1.0])
    placed = [((points * scale) @ turn.T, color) for points, color in parts]
    everything = np.concatenate([points for points, _ in placed])
    low = everything.min(axis=0) - FINE
    width, height = np.ceil((everything.max(axis=0) - low) / FINE + 1).astype(int)
    size = (width * FINE, height * FINE)
    image, cover = np.zeros((size[1], size[0], 3)), np.zeros((size[1], size[0]))
    paints = [Paint(rng) for _ in range(3)]
    for points, color in placed:
        stencil = Image.new("L", size)
        corners = [tuple(point) for point in points - low]
        ImageDraw.Draw(stencil).polygon(corners, fill=1)
        inside = np.asarray(stencil, bool)
        image[inside] = paints[color].shade(inside, tall * FINE)[inside]
        cover[inside] = 1
    cells = cover.reshape(height, FINE, width, FINE).mean(axis=(1, 3))
    total = (image * cover[..., None]).reshape(height, FINE, width, FINE, 3)
    color = total.mean(axis=(1, 3)) / np.maximum(cells, 1e-6)[..., None]
    return Drawing(color, cells)


class Paint:
    """A color, a pattern and a light for one part of an object."""

    def __init__(self, rng: np.random.Generator) -> None:
        gray = rng.random()
        vivid = rng.uniform(0.1, 0.5) if rng.random() < 0.6 else 1.0
        self.color = gray + vivid * (rng.random(3) - gray)
        self.second = rng.random(3)
        self.pattern = rng.choice(["plain", "plain", "stripes", "checks", "noise"])
        self.period = rng.uniform(0.02, 0.12)
        self.angle = rng.uniform(0, np.pi)
        self.round, self.side = rng.uniform(0.1, 0.7), rng.uniform(-0.6, 0.6)
        self.grain = rng.random((64, 64))

    def shade(self, inside: np.ndarray, unit: float) -> np.ndarray:
        """Colors (H, W, 3) of the part; dark toward its left and right edges."""
        y, x = np.mgrid[: inside.shape[0], : inside.shape[1]] / unit
        color = np.broadcast_to(self.color, (*inside.shape, 3)).copy()
        along = x * np.cos(self.angle) + y * np.sin(self.angle)
        if self.pattern == "stripes":
            color[(along / self.period) % 1 < 0.5] = self.second
        elif self.pattern == "checks":
            steps = np.floor(x / self.period) + np.floor(y / self.period)
            color[steps % 2 == 0] = self.second
        elif self.pattern == "noise":
            i = (x * 90).astype(int) % 64
            j = (y * 90).astype(int) % 64
            color *= 0.7 + 0.6 * self.grain[j, i][..., None]
        left = np.where(inside.any(axis=1), inside.argmax(axis=1), 0)[:, None]
        right = inside.shape[1] - inside[:, ::-1].argmax(axis=1)[:, None]
        across = (
            2 * (np.arange(inside.shape[1]) - left) / np.maximum(right - left, 1) - 1
        )
        across = np.clip(across - self.side, -1, 1)
        return color * (1 - self.round * across**2)[..., None]


def draw(seed: int, index: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Draw one scene; it depends on the two numbers only.

    Returns:
        The image, uint8 (H, W, 3), longest side 220 to 320; the masks, uint8
        (H, W), 0 for the background and k for the k-th object; and the objects'
        names, from ``CLASSES``.
    """
    rng = np.random.default_rng([seed, index])
    image = street(seed, index, rng) if rng.random() < 0.85 else texture(rng)
    height, width = image.shape[:2]
    owner, names = np.zeros((height, width), np.int64), []
    ground, last = rng.uniform(0.6, 0.95), None
    for tall, name in _cast(rng, height):
        piece = cut_out(rng, name, tall)
        h, w = piece.cover.shape
        if w > 1.5 * width:  # a wall, not an object
            continue
        if last is None or rng.random() < 0.5:
            middle = rng.uniform(0, width)
        else:  # beside the last, or half before it
            middle = last + rng.choice([-1, 1]) * rng.uniform(0.3, 1.2) * w
        foot = ground + (1.04 - ground) * tall / height * rng.uniform(0.6, 1.3)
        corner = int(middle - w / 2), int(min(1.1, foot) * height - h)
        cover = put(image, piece, corner, rng.uniform(0.6, 1.1))
        if cover.any():
            last = middle
            names.append(name)
            owner[cover] = len(names)
        if rng.random() < 0.12:
            owner[post(rng, image)] = 0
    gain, offset = rng.uniform(0.8, 1.2), rng.uniform(-0.08, 0.08)
    image = image * gain + offset + rng.normal(0, rng.uniform(0, 0.03), image.shape)
    if rng.random() < 0.5:
        image = (np.roll(image, 1, 0) + image + np.roll(image, 1, 1)) / 3
    pixels = np.bincount(owner.ravel(), minlength=len(names) + 1)[1:]
    kept = [k for k, count in enumerate(pixels, 1) if count >= SMALLEST]
    masks = np.zeros((height, width), np.uint8)
    for new, old in enumerate(kept, 1):
        masks[owner == old] = new
    image = (np.clip(image, 0, 1) * 255).round().astype(np.uint8)
    return image, masks, [names[k - 1] for k in kept]


def _cast(rng: np.random.Generator, height: int) -> list[tuple[float, str]]:
    """Heights and names of the objects of a scene, the farthest first.

    In half of the scenes all are of one or two kinds and of about one height: a herd,
    in which they hide one another.
    """
    kinds = list(CLASSES)
    count, spread, typical = rng.integers(1, 7), 0.55, height * 0.42
    if rng.random() < 0.5:
        kinds = list(rng.choice(kinds, rng.integers(1, 3)))
        spread, typical = 0.15, typical * rng.lognormal(0, 0.5)
        count += 1
    objects = []
    for _ in range(count):
        tall = min(0.95 * height, typical * rng.lognormal(0, spread))
        objects.append((max(tall, 0.08 * height), str(rng.choice(kinds))))
    return sorted(objects)


def put(
    image: np.ndarray, piece: Drawing, corner: tuple[int, int], light: float
) -> np.ndarray:
    """Paint an object into the image, in place; return what it covers, (H, W)."""
    (height, width), (x, y) = image.shape[:2], corner
    h, w = piece.cover.shape
    covered = np.zeros((height, width), bool)
    x1, y1, x2, y2 = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
    if x1 < x2 and y1 < y2:
        inner = np.s_[y1 - y : y2 - y, x1 - x : x2 - x]
        area = image[y1:y2, x1:x2]
        area += (piece.color[inner] * light - area) * piece.cover[inner][..., None]
        covered[y1:y2, x1:x2] = piece.cover[inner] >= 0.5
    return covered


def post(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Paint a post or a rail, in place; return what it hides, (H, W)."""
    height, width = image.shape[:2]
    hidden = np.zeros((height, width), bool)
    if rng.random() < 0.7:
        x, top = rng.integers(0, width), rng.uniform(-0.2, 0.6) * height
        hidden[int(max(top, 0)) :, x : x + rng.integers(2, 12)] = True
    else:
        y = rng.integers(height // 3, height)
        hidden[y : y + rng.integers(2, 10), :] = True
    image[hidden] = rng.random() * 0.7 + 0.3 * rng.random(3)
    return hidden


def _size(rng: np.random.Generator) -> tuple[int, int]:
    longest, share = rng.integers(220, 321), rng.uniform(0.6, 1)
    sides = (int(longest), int(longest * share))
    return sides if rng.random() < 0.4 else sides[::-1]


def street(seed: int, index: int, rng: np.random.Generator) -> np.ndarray:
    """A street without people, float (H, W, 3)."""
    height, width = _size(rng)
    dice = Dice(seed, index)
    horizon = height * rng.uniform(0.25, 0.55)
    camera = Camera(width, height, rng.uniform(1.1, 2.2) * width, horizon, 1.5)
    far = camera.distance(height * 0.9)
    street = draw_background(dice, camera, draw_light(dice), [(0.0, far)])
    return np.clip(street.image.astype(float), 0, 1)


def texture(rng: np.random.Generator) -> np.ndarray:
    """Soft random clouds of color, float (H, W, 3)."""
    height, width = _size(rng)
    image = np.zeros((height, width, 3))
    for cells, strength in ((3, 0.5), (9, 0.3), (40, 0.2)):
        grid = (rng.random((cells, cells, 3)) * 255).astype(np.uint8)
        wide = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
        image += strength * np.asarray(wide, float) / 255
    return image


class Shapes(Dataset):
    """Drawn scenes as a detector takes them: ``(image, target)``.

    Args:
        count: number of scenes.
        seed: which ones; scene ``i`` is ``draw(seed, i)``.
        transforms: called with ``(image, target)``, as those of
            ``torchvision.transforms.v2``.

    Item ``i`` has the form of :class:`course_utils.datasets.PennFudan`'s; a label is
    the class's place in ``CLASSES``, from 1.
    """

    def __init__(self, count: int, seed: int, transforms=None) -> None:
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count}")
        self.count, self.seed, self.transforms = count, seed, transforms

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int):
        if not 0 <= i < self.count:
            raise IndexError(f"item {i} of {self.count}")
        image, owner, names = draw(self.seed, i)
        masks = np.arange(1, len(names) + 1)[:, None, None] == owner
        masks = torch.from_numpy(masks.astype(np.uint8))
        places = {name: place for place, name in enumerate(CLASSES, 1)}
        image = tv_tensors.Image(torch.from_numpy(image).permute(2, 0, 1))
        target = {
            "boxes": tv_tensors.BoundingBoxes(
                masks_to_boxes(masks), format="XYXY", canvas_size=owner.shape
            ),
            "labels": torch.tensor([places[n] for n in names], dtype=torch.int64),
            "masks": tv_tensors.Mask(masks),
            "image_id": i,
        }
        return self.transforms(image, target) if self.transforms else (image, target)

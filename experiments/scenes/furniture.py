"""Street furniture: posts, lamps, bins, hydrants, benches, fences.

Lengths are meters, from the foot of the thing: to the right, and up.
"""

from experiments.scenes.raster import curve, ellipse, mix, rectangle
from experiments.scenes.stand import Stand

__all__ = [
    "bench",
    "bin",
    "fence",
    "hydrant",
    "lamp",
    "post",
]


def post(t: Stand) -> None:
    """A bollard, or a lamp if it is a tall one."""
    tall = t.dice.uniform(0.8, 3.2)
    if tall > 1.7:
        lamp(t)
        return
    color = t.dice.shade(
        t.dice.choice(((0.25, 0.25, 0.26), (0.5, 0.5, 0.5), (0.15, 0.22, 0.18)))
    )
    tall, r = 0.75 + 0.2 * tall, t.dice.uniform(0.05, 0.08)
    t.plate(1.9 * r, mix(color, (0.3, 0.3, 0.3), 0.4))
    t.column(0.02, tall, r, color)
    t.shaded(ellipse(0, tall, r, 0.6 * r), mix(color, (0.6, 0.6, 0.6), 0.2), 0.0)
    if t.dice.chance(0.6):  # bands that shine at night
        white = (0.88, 0.87, 0.82)
        t.pole(rectangle(-r, 0.78 * tall, r, 0.90 * tall), white, r)
        t.pole(rectangle(-r, 0.58 * tall, r, 0.66 * tall), white, r)


def lamp(t: Stand) -> None:
    """A street lamp: an arm with a flat head, or a lantern on top."""
    color = t.dice.shade(
        t.dice.choice(((0.2, 0.2, 0.21), (0.45, 0.46, 0.46), (0.12, 0.2, 0.16)))
    )
    glass = (0.93, 0.90, 0.80)
    t.plate(0.2, mix(color, (0.3, 0.3, 0.3), 0.3))
    t.column(0.02, 0.75, 0.10, color)
    t.column(0.72, 0.82, 0.075, mix(color, (1, 1, 1), 0.15))
    if t.dice.chance(0.5):
        t.column(0.8, 4.6, 0.05, color)
        t.rod((0, 4.6), (0.9, 4.8), 0.04, 0.04, color)
        t.shaded(ellipse(1.1, 4.80, 0.38, 0.09), color, 0.0)
        t.flat(ellipse(1.1, 4.75, 0.30, 0.05), glass, 1.2)
        return
    tall = t.dice.uniform(2.5, 3.3)
    t.column(0.8, tall, 0.05, color)
    t.shaded(rectangle(-0.14, tall, 0.14, tall + 0.05), color, 0.0)
    body = [
        (-0.13, tall + 0.05),
        (0.13, tall + 0.05),
        (0.21, tall + 0.5),
        (-0.21, tall + 0.5),
    ]
    t.flat(body, glass, 1.15)
    t.line([body[0], body[3]], 0.03, color)
    t.line([body[1], body[2]], 0.03, color)
    t.line([(0, tall + 0.05), (0, tall + 0.5)], 0.025, color)
    roof = [(-0.27, tall + 0.5), (0.27, tall + 0.5), (0.08, tall + 0.68)]
    t.shaded([*roof, (-0.08, tall + 0.68)], color, 0.0)
    t.rod((0, tall + 0.68), (0, tall + 0.76), 0.03, 0.02, color)


def bin(t: Stand) -> None:
    """A trash bin."""
    color = t.dice.shade(
        t.dice.choice(
            (
                (0.15, 0.15, 0.16),
                (0.12, 0.3, 0.2),
                (0.4, 0.4, 0.4),
                (0.15, 0.25, 0.45),
            )
        )
    )
    w, h = t.dice.uniform(0.24, 0.34), t.dice.uniform(0.75, 1.1)
    t.shaded([(-w, h), (w, h), (w * 0.9, 0), (-w * 0.9, 0)], color, 0.2)
    t.shaded(
        curve(
            [
                (-w * 1.1, h),
                (-w * 0.8, h + 0.14),
                (w * 0.8, h + 0.14),
                (w * 1.1, h),
            ],
            3,
            False,
        ),
        mix(color, (0.5, 0.5, 0.5), 0.25),
    )
    for k in range(-2, 3):
        x = k * w * 0.36
        t.flat(
            rectangle(x - 0.008, 0.08, x + 0.008, h - 0.06),
            mix(color, (0, 0, 0), 0.5),
            0.8,
            0.7,
        )


def hydrant(t: Stand) -> None:
    """A fire hydrant."""
    color = t.dice.shade(
        t.dice.choice(((0.7, 0.12, 0.1), (0.85, 0.7, 0.15), (0.55, 0.55, 0.56)))
    )
    t.plate(0.18, color)
    t.column(0.03, 0.10, 0.16, color)
    t.column(0.08, 0.58, 0.115, color)
    t.column(0.30, 0.34, 0.135, color)
    t.shaded(ellipse(0, 0.62, 0.14, 0.13), color)
    t.rod((-0.13, 0.45), (0.13, 0.45), 0.06, 0.06, color)
    t.rod((0, 0.7), (0, 0.8), 0.04, 0.03, color)


def bench(t: Stand) -> None:
    """A bench."""
    wood = t.dice.shade(
        t.dice.choice(((0.45, 0.3, 0.18), (0.2, 0.28, 0.22), (0.6, 0.58, 0.54)))
    )
    for x in (-0.75, 0.75):
        t.flat(rectangle(x - 0.04, 0, x + 0.04, 0.85), (0.12, 0.12, 0.12))
    for low in (0.4, 0.55, 0.7):
        t.shaded(rectangle(-0.9, low, 0.9, low + 0.1), wood, 0.2)
    t.flat(rectangle(-0.9, 0.36, 0.9, 0.41), mix(wood, (0, 0, 0), 0.3))


def fence(t: Stand) -> None:
    """A piece of fence."""
    color = t.dice.shade(
        t.dice.choice(
            (
                (0.12, 0.12, 0.12),
                (0.2, 0.3, 0.24),
                (0.85, 0.85, 0.83),
                (0.55, 0.55, 0.56),
            )
        )
    )
    tall, half = t.dice.uniform(0.7, 1.3), t.dice.uniform(1.2, 3.0)
    for up in (0.15, tall - 0.06):
        t.rod((-half, up), (half, up), 0.025, 0.025, color)
    gap = t.dice.uniform(0.12, 0.3)
    for k in range(int(2 * half / gap) + 1):
        x = -half + k * gap
        wide = 0.035 if k % 8 == 0 else 0.012
        t.flat(rectangle(x - wide, 0, x + wide, tall), color)

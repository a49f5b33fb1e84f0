"""Things with many parts: bicycles, boxes of all kinds, statues.

Lengths are meters, from the foot of the thing: to the right, and up.
"""

from experiments.scenes.dice import cosine, sine
from experiments.scenes.raster import Color, curve, ellipse, mix, rectangle
from experiments.scenes.stand import Stand

__all__ = ["bicycle", "box", "statue"]

BLACK: Color = (0.07, 0.07, 0.07)
STEEL: Color = (0.58, 0.58, 0.60)


def bicycle(t: Stand) -> None:
    """A parked bicycle."""
    frame = t.dice.shade(
        t.dice.choice(
            ((0.6, 0.1, 0.1), (0.1, 0.2, 0.5), (0.1, 0.1, 0.1), (0.6, 0.6, 0.62))
        )
    )
    rear, ahead, crank = (-0.52, 0.34), (0.54, 0.34), (-0.08, 0.30)
    start = t.dice.uniform(0.0, 0.6)
    for x, y in (rear, ahead):
        for k in range(10):
            angle = start + 0.6283185 * k
            rim = (x + 0.31 * cosine(angle), y + 0.31 * sine(angle))
            t.line([(x, y), rim], 0.007, STEEL)
        t.ring(x, y, 0.315, 0.02, STEEL)
        t.ring(x, y, 0.345, 0.038, BLACK)
    seat, head, fork = (-0.24, 0.80), (0.34, 0.84), (0.40, 0.66)
    t.line([(crank[0], 0.38), (rear[0], 0.375)], 0.014, BLACK)
    t.line([(crank[0], 0.22), (rear[0], 0.305)], 0.014, BLACK)
    for a, b, r in (
        (rear, crank, 0.013),
        (rear, (-0.21, 0.72), 0.012),
        (crank, seat, 0.018),
        ((-0.215, 0.74), (0.355, 0.80), 0.018),
        (crank, (0.385, 0.69), 0.021),
        (head, fork, 0.024),
        (fork, (0.45, 0.52), 0.017),
        ((0.45, 0.52), ahead, 0.015),
    ):
        t.rod(a, b, r, r, frame)
    for x, y in (rear, ahead):
        t.flat(ellipse(x, y, 0.035, 0.035, 0.0, 12), STEEL, 0.8)
    t.ring(*crank, 0.10, 0.022, STEEL)
    t.line([(crank[0], crank[1]), (0.01, 0.15)], 0.025, BLACK)
    t.line([(crank[0], crank[1]), (-0.17, 0.45)], 0.025, BLACK)
    t.flat(rectangle(-0.045, 0.125, 0.075, 0.16), BLACK)
    t.flat(rectangle(-0.23, 0.44, -0.11, 0.475), BLACK)
    t.rod(seat, (-0.255, 0.90), 0.013, 0.013, STEEL)
    saddle = [(-0.42, 0.95), (-0.40, 0.90), (-0.22, 0.89), (-0.10, 0.91), (-0.12, 0.94)]
    t.flat(curve(saddle, 3), BLACK)
    t.rod(head, (0.32, 0.97), 0.016, 0.016, STEEL)
    t.line([(0.20, 1.00), (0.34, 0.99), (0.42, 1.0)], 0.03, BLACK)
    t.line([(0.16, 1.00), (0.24, 1.00)], 0.045, BLACK)
    if t.dice.chance(0.4):  # mudguards
        for x in (rear[0], ahead[0]):
            arc = [
                (x + 0.375 * cosine(a / 10), 0.34 + 0.375 * sine(a / 10))
                for a in range(6, 30, 3)
            ]
            t.line(arc, 0.022, frame)


def box(t: Stand) -> None:
    """A mailbox, a newspaper box or a cabinet."""
    kind = t.dice.weighted({"mail": 1.0, "news": 1.2, "cabinet": 1.0})
    {"mail": _mailbox, "news": _newspaper, "cabinet": _cabinet}[kind](t)


def _mailbox(t: Stand) -> None:
    color = t.dice.shade(
        t.dice.choice(((0.15, 0.24, 0.52), (0.70, 0.12, 0.10), (0.85, 0.66, 0.10)))
    )
    dark = mix(color, (0, 0, 0), 0.45)
    for x in (-0.2, 0.2):
        t.flat(rectangle(x - 0.04, 0, x + 0.04, 0.2), mix(color, (0, 0, 0), 0.6))
    arch = [
        (0.28 * cosine(k * 0.31416), 1.05 + 0.2 * sine(k * 0.31416)) for k in range(11)
    ]
    t.shaded([(-0.28, 0.16), (0.28, 0.16), *arch], color, 0.05)
    t.flat(rectangle(-0.20, 1.0, 0.20, 1.09), dark)
    t.flat(rectangle(-0.18, 1.02, 0.18, 1.05), BLACK)
    t.line([(-0.28, 0.93), (0.28, 0.93)], 0.02, dark)
    t.flat(rectangle(-0.14, 0.62, 0.14, 0.80), (0.9, 0.9, 0.88))  # an envelope
    t.line([(-0.14, 0.80), (0, 0.70), (0.14, 0.80)], 0.02, dark)
    t.line([(-0.14, 0.80), (0.14, 0.80)], 0.015, dark)


def _newspaper(t: Stand) -> None:
    color = t.dice.shade(
        t.dice.choice(
            ((0.75, 0.15, 0.12), (0.9, 0.45, 0.1), (0.2, 0.3, 0.6), (0.1, 0.4, 0.25))
        )
    )
    dark = mix(color, (0, 0, 0), 0.5)
    for x in (-0.2, 0.2):
        t.flat(rectangle(x - 0.025, 0, x + 0.025, 0.35), (0.15, 0.15, 0.15))
    t.flat(rectangle(-0.24, 0.02, 0.24, 0.05), (0.15, 0.15, 0.15))
    t.shaded(rectangle(-0.27, 0.3, 0.27, 1.1), color, 0.05)
    t.shaded([(-0.27, 1.1), (0.27, 1.1), (0.23, 1.22), (-0.23, 1.22)], color, 0.0)
    t.flat(rectangle(-0.22, 0.62, 0.22, 1.05), dark)
    t.flat(rectangle(-0.19, 0.65, 0.19, 1.02), (0.88, 0.87, 0.83))  # the paper
    t.flat(rectangle(-0.15, 0.94, 0.15, 0.99), BLACK)
    t.flat(rectangle(-0.15, 0.74, 0.02, 0.90), (0.45, 0.45, 0.46))
    for k in range(4):
        y = 0.88 - 0.045 * k
        t.line([(0.05, y), (0.15, y)], 0.014, (0.4, 0.4, 0.4))
    t.line([(-0.12, 0.55), (0.12, 0.55)], 0.03, dark)
    t.flat(rectangle(0.1, 1.12, 0.17, 1.18), BLACK)


def _cabinet(t: Stand) -> None:
    color = t.dice.shade(
        t.dice.choice(((0.62, 0.62, 0.58), (0.42, 0.46, 0.42), (0.50, 0.50, 0.50)))
    )
    dark = mix(color, (0, 0, 0), 0.5)
    w, h = t.dice.uniform(0.4, 0.7), t.dice.uniform(0.95, 1.35)
    t.shaded(rectangle(-w * 1.04, 0, w * 1.04, 0.12), (0.5, 0.49, 0.47), 0.1)
    t.shaded(rectangle(-w, 0.12, w, h), color, 0.05)
    t.shaded(rectangle(-w * 1.05, h - 0.06, w * 1.05, h), mix(color, (1, 1, 1), 0.2))
    t.line([(0, 0.14), (0, h - 0.08)], 0.016, dark)
    for x in (-0.5 * w, 0.5 * w):
        for k in range(4):
            y = h - 0.18 - 0.05 * k
            t.line([(x - 0.28 * w, y), (x + 0.28 * w, y)], 0.016, dark)
    for x in (-0.09, 0.09):
        t.flat(rectangle(x - 0.02, 0.52 * h, x + 0.02, 0.52 * h + 0.12), BLACK)
    warn = [(-0.5 * w - 0.09, 0.36), (-0.5 * w + 0.09, 0.36), (-0.5 * w, 0.52)]
    t.flat(warn, (0.88, 0.72, 0.12))


def statue(t: Stand) -> None:
    """A bust on a plinth."""
    stone = t.dice.shade(
        t.dice.choice(((0.66, 0.65, 0.62), (0.35, 0.42, 0.38), (0.45, 0.4, 0.33)))
    )
    dark, pale = mix(stone, (0, 0, 0), 0.5), mix(stone, (0.7, 0.7, 0.68), 0.6)
    t.shaded(rectangle(-0.44, 0, 0.44, 0.12), pale, 0.1)
    t.shaded(rectangle(-0.36, 0.1, 0.36, 1.12), pale, 0.1)
    t.shaded(rectangle(-0.43, 1.08, 0.43, 1.2), pale, 0.1)
    t.flat(rectangle(-0.22, 0.6, 0.22, 0.82), mix(pale, (0, 0, 0), 0.4))  # its name
    for y in (0.67, 0.75):
        t.line([(-0.15, y), (0.15, y)], 0.02, pale)
    t.shaded(rectangle(-0.14, 1.2, 0.14, 1.32), stone, 0.1)
    half = [
        (0.12, 1.30),
        (0.30, 1.38),
        (0.40, 1.52),
        (0.42, 1.66),
        (0.34, 1.76),
        (0.18, 1.81),
        (0.09, 1.86),
    ]
    t.shaded(curve(half + [(-x, y) for x, y in half[::-1]], 3), stone, 0.2)
    t.line([(-0.16, 1.80), (0, 1.60), (0.16, 1.80)], 0.025, dark)  # the coat's collar
    t.line([(0, 1.60), (0, 1.40)], 0.018, dark)
    t.rod((0, 1.78), (0, 1.95), 0.085, 0.08, mix(stone, (0, 0, 0), 0.2), 0.1)
    for x in (-0.145, 0.145):
        t.flat(ellipse(x, 2.06, 0.03, 0.055), stone, 0.75)
    face = [(0.0, 1.86), (0.09, 1.90), (0.135, 2.02), (0.145, 2.16), (0.1, 2.27)]
    face += [(0.0, 2.31)]
    t.shaded(curve(face + [(-x, y) for x, y in face[-2:0:-1]], 3), stone, 0.1)
    hair = [(-0.15, 2.08), (-0.16, 2.22), (-0.09, 2.33), (0.09, 2.33), (0.16, 2.22)]
    hair += [(0.15, 2.08), (0.11, 2.2), (0.0, 2.24), (-0.11, 2.2)]
    t.shaded(curve(hair, 3), mix(stone, (0, 0, 0), 0.28), 0.5)
    for x in (-0.055, 0.055):
        t.flat(ellipse(x, 2.10, 0.035, 0.02, 0.0, 10), dark, 0.8)
        t.line([(x - 0.04, 2.14), (x + 0.04, 2.14)], 0.018, dark)
    t.line([(0.0, 2.11), (0.025, 2.02), (0.0, 2.01)], 0.016, dark)
    t.line([(-0.045, 1.955), (0.045, 1.955)], 0.02, dark)

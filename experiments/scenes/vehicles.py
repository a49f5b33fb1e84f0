"""Cars and vans."""

from experiments.scenes.raster import Color, curve, ellipse, mix, rectangle
from experiments.scenes.stand import Stand

__all__ = ["car", "front", "van"]

PAINTS: tuple[Color, ...] = (
    (0.75, 0.75, 0.76),
    (0.10, 0.10, 0.11),
    (0.50, 0.08, 0.08),
    (0.15, 0.20, 0.35),
    (0.40, 0.41, 0.42),
    (0.88, 0.88, 0.87),
    (0.20, 0.30, 0.25),
    (0.55, 0.50, 0.42),
)


def car(t: Stand) -> None:
    """A car, side view."""
    paint = t.dice.shade(t.dice.choice(PAINTS))
    tall = t.dice.uniform(1.36, 1.85)
    t.flat(ellipse(0, 0.06, 2.25, 0.1), (0.03, 0.03, 0.03), 0.6, 0.8)
    waist = 0.62 * tall
    body = [
        (-2.15, 0.35),
        (-2.18, 0.7),
        (-2.05, waist),
        (-1.5, waist + 0.05),
        (1.0, waist + 0.02),
        (1.75, waist - 0.1),
        (2.1, 0.72),
        (2.15, 0.35),
        (1.7, 0.24),
        (-1.7, 0.24),
    ]
    back = -2.0 if tall > 1.6 else -1.75
    cabin = [
        (back, waist),
        (back + 0.25, tall - 0.08),
        (back + 0.7, tall),
        (0.15, tall),
        (0.45, tall - 0.06),
        (1.15, waist),
    ]
    t.shaded(curve(cabin, 3), paint, 0.0)
    glass = [
        (back + 0.22, waist + 0.04),
        (back + 0.42, tall - 0.12),
        (-0.02, tall - 0.09),
        (0.34, tall - 0.12),
        (0.92, waist + 0.04),
    ]
    t.shaded(curve(glass, 2), (0.13, 0.16, 0.18), 0.25)
    t.flat(rectangle(-0.55, waist, -0.45, tall - 0.08), paint, 0.8)
    t.shaded(curve(body, 3), paint, 0.06)
    t.flat(
        [(-2.1, 0.5), (2.12, 0.5), (2.12, 0.44), (-2.1, 0.44)],
        mix(paint, (0, 0, 0), 0.5),
    )
    for x in (-0.5, 0.62):
        t.flat(rectangle(x, 0.45, x + 0.015, waist), mix(paint, (0, 0, 0), 0.6))
    t.flat(ellipse(2.02, 0.68, 0.12, 0.09), (0.9, 0.88, 0.8))
    t.flat(ellipse(-2.1, 0.72, 0.07, 0.12), (0.6, 0.08, 0.06))
    for x in (-1.35, 1.35):
        t.flat(ellipse(x, 0.34, 0.39, 0.38), (0.03, 0.03, 0.03), 0.6)
        t.flat(ellipse(x, 0.33, 0.32, 0.32), (0.09, 0.09, 0.09))
        t.flat(ellipse(x, 0.33, 0.19, 0.19), (0.55, 0.55, 0.56))
        t.flat(ellipse(x, 0.33, 0.06, 0.06), (0.2, 0.2, 0.2))


def front(t: Stand) -> None:
    """A car seen from its front or its back."""
    paint = t.dice.shade(t.dice.choice(PAINTS))
    tall, half = t.dice.uniform(1.4, 1.85), t.dice.uniform(0.82, 0.95)
    for x in (-half * 0.8, half * 0.8):
        t.shaded(rectangle(x - 0.12, 0, x + 0.12, 0.5), (0.06, 0.06, 0.06))
    cabin = [
        (-half * 0.9, 0.85),
        (-half * 0.72, tall - 0.06),
        (-half * 0.5, tall),
        (half * 0.5, tall),
        (half * 0.72, tall - 0.06),
        (half * 0.9, 0.85),
    ]
    t.shaded(curve(cabin, 2), paint, 0.0)
    glass = [
        (-half * 0.78, 0.9),
        (-half * 0.62, tall - 0.14),
        (half * 0.62, tall - 0.14),
        (half * 0.78, 0.9),
    ]
    t.shaded(glass, (0.14, 0.17, 0.19), 0.25)
    body = [
        (-half, 0.28),
        (-half * 1.02, 0.7),
        (-half * 0.92, 0.92),
        (half * 0.92, 0.92),
        (half * 1.02, 0.7),
        (half, 0.28),
    ]
    t.shaded(curve(body, 3), paint, 0.05)
    lamp = (0.92, 0.9, 0.84) if t.dice.chance(0.6) else (0.62, 0.08, 0.06)
    for x in (-half * 0.74, half * 0.74):
        t.flat(ellipse(x, 0.7, 0.15, 0.08), lamp)
    t.flat(rectangle(-half * 0.4, 0.6, half * 0.4, 0.74), (0.1, 0.1, 0.11))
    t.flat(rectangle(-0.22, 0.42, 0.22, 0.53), (0.88, 0.88, 0.85))
    t.flat(rectangle(-half * 0.98, 0.3, half * 0.98, 0.36), mix(paint, (0, 0, 0), 0.6))


def van(t: Stand) -> None:
    """A van or a bus, side view."""
    paint = t.dice.shade(t.dice.choice((*PAINTS, (0.85, 0.6, 0.1), (0.15, 0.35, 0.65))))
    tall, half = t.dice.uniform(2.1, 3.0), t.dice.uniform(2.4, 4.5)
    body = [
        (-half, 0.35),
        (-half, tall - 0.2),
        (-half + 0.2, tall),
        (half - 0.7, tall),
        (half - 0.15, tall * 0.55),
        (half, 0.9),
        (half, 0.35),
    ]
    t.shaded(body, paint, 0.05)
    count = int(half)
    for k in range(count):
        x = -half + 0.3 + k * (2 * half - 1.2) / count
        t.shaded(
            rectangle(x, tall * 0.52, x + (2 * half - 1.2) / count - 0.12, tall * 0.85),
            (0.14, 0.17, 0.2),
            0.25,
        )
    t.shaded(
        [
            (half - 0.75, tall * 0.9),
            (half - 0.62, tall * 0.9),
            (half - 0.2, tall * 0.55),
            (half - 0.75, tall * 0.55),
        ],
        (0.14, 0.17, 0.2),
        0.5,
    )
    t.flat(rectangle(-half, 0.75, half, 0.85), mix(paint, (0.9, 0.9, 0.9), 0.6))
    for x in (-half * 0.62, half * 0.6):
        t.flat(ellipse(x, 0.42, 0.46, 0.45), (0.03, 0.03, 0.03), 0.6)
        t.flat(ellipse(x, 0.4, 0.38, 0.38), (0.09, 0.09, 0.09))
        t.flat(ellipse(x, 0.4, 0.2, 0.2), (0.5, 0.5, 0.5))

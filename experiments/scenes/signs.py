"""Traffic signs and boards that say something."""

from experiments.scenes.raster import Color, Point, ellipse, rectangle
from experiments.scenes.stand import Stand

__all__ = ["sign"]

WHITE: Color = (0.92, 0.92, 0.90)
BLACK: Color = (0.08, 0.08, 0.08)
RED: Color = (0.72, 0.08, 0.10)
BLUE: Color = (0.08, 0.22, 0.58)

# Letters as strokes in a box 1 wide and 2 high.
_LETTERS: dict[str, tuple[tuple[Point, ...], ...]] = {
    "A": (((0, 0), (0.5, 2), (1, 0)), ((0.2, 0.7), (0.8, 0.7))),
    "B": (
        ((0, 0), (0, 2), (0.8, 1.9), (0.8, 1.1), (0, 1)),
        ((0.1, 1), (1, 0.8), (1, 0.1), (0, 0)),
    ),
    "E": (((1, 2), (0, 2), (0, 0), (1, 0)), ((0, 1), (0.8, 1))),
    "F": (((1, 2), (0, 2), (0, 0)), ((0, 1), (0.8, 1))),
    "I": (((0.5, 0), (0.5, 2)),),
    "O": (((0, 0.3), (0, 1.7), (0.5, 2), (1, 1.7), (1, 0.3), (0.5, 0), (0, 0.3)),),
    "P": (((0, 0), (0, 2), (0.8, 2), (1, 1.75), (1, 1.2), (0.8, 0.95), (0, 0.95)),),
    "S": (
        ((1, 1.8), (0.5, 2), (0, 1.7), (0, 1.3), (1, 0.75), (1, 0.3)),
        ((1, 0.3), (0.5, 0), (0, 0.2)),
    ),
    "T": (((0, 2), (1, 2)), ((0.5, 2), (0.5, 0))),
    "U": (((0, 2), (0, 0.3), (0.5, 0), (1, 0.3), (1, 2)),),
    "X": (((0, 0), (1, 2)), ((0, 2), (1, 0))),
    "3": (((0, 2), (1, 2), (0.4, 1.15), (1, 0.8), (1, 0.3), (0.5, 0), (0, 0.2)),),
    "0": (((0, 0.3), (0, 1.7), (0.5, 2), (1, 1.7), (1, 0.3), (0.5, 0), (0, 0.3)),),
}


def _word(t: Stand, word: str, y: float, tall: float, color: Color) -> None:
    """Letters in a row round (0, y); read from left to right on either side."""
    wide, gap = 0.5 * tall, 0.28 * tall
    start = -(len(word) * wide + (len(word) - 1) * gap) / 2
    for k, letter in enumerate(word):
        for stroke in _LETTERS[letter]:
            points = [
                (
                    t.flip * (start + k * (wide + gap) + px * wide),
                    y + (py / 2 - 0.5) * tall,
                )
                for px, py in stroke
            ]
            t.line(points, 0.17 * tall, color)


def sign(t: Stand) -> None:
    """A traffic sign or a board on a pole."""
    pole = (0.5, 0.5, 0.5)
    t.plate(0.12, (0.42, 0.42, 0.42))
    t.column(0.02, 2.75, 0.035, pole)
    kind = t.dice.choice(
        ("no entry", "parking", "arrow", "speed", "yield", "stop", "bus", "taxi")
    )
    y = 2.5
    if kind == "no entry":
        t.flat(ellipse(0, y, 0.34, 0.34, 0.0, 28), WHITE)
        t.flat(ellipse(0, y, 0.32, 0.32, 0.0, 28), RED)
        t.flat(rectangle(-0.22, y - 0.06, 0.22, y + 0.06), WHITE)
    elif kind == "speed":
        t.flat(ellipse(0, y, 0.34, 0.34, 0.0, 28), RED)
        t.flat(ellipse(0, y, 0.25, 0.25, 0.0, 28), WHITE)
        _word(t, "30", y, 0.26, BLACK)
    elif kind == "yield":
        t.flat([(-0.42, y + 0.3), (0.42, y + 0.3), (0, y - 0.42)], RED)
        t.flat([(-0.27, y + 0.21), (0.27, y + 0.21), (0, y - 0.24)], WHITE)
    elif kind == "stop":
        t.flat(ellipse(0, y, 0.40, 0.40, 0.3927, 8), WHITE)
        t.flat(ellipse(0, y, 0.37, 0.37, 0.3927, 8), RED)
        _word(t, "STOP", y, 0.22, WHITE)
    elif kind == "arrow":
        t.flat(ellipse(0, y, 0.34, 0.34, 0.0, 28), WHITE)
        t.flat(ellipse(0, y, 0.32, 0.32, 0.0, 28), BLUE)
        t.flat(rectangle(-0.22, y - 0.045, 0.05, y + 0.045), WHITE)
        t.flat([(0.03, y - 0.14), (0.24, y), (0.03, y + 0.14)], WHITE)
    elif kind == "parking":
        t.flat(rectangle(-0.31, y - 0.36, 0.31, y + 0.36), WHITE)
        t.flat(rectangle(-0.29, y - 0.34, 0.29, y + 0.34), BLUE)
        _word(t, "P", y, 0.46, WHITE)
    else:
        back, ink = {
            "bus": (t.dice.choice(((0.88, 0.72, 0.12), (0.08, 0.40, 0.20))), BLACK),
            "taxi": ((0.15, 0.15, 0.16), (0.92, 0.76, 0.15)),
        }[kind]
        ink = WHITE if kind == "bus" and back[0] < 0.5 else ink
        t.shaded(rectangle(-0.48, y - 0.22, 0.48, y + 0.22), back, 0.0)
        _word(t, kind.upper(), y, 0.26, ink)

"""Compare two printed texts: words exactly, floats as the numbers they stand for.

The rules (CONTRIBUTING rule 25). A *float* is a number printed with a point or an
exponent; its *decimals* are the digits after the point, before any exponent.

1. Words, integers, shapes, booleans, ``inf`` and ``nan`` match exactly.
2. A float with fewer than four decimals matches exactly.
3. A float with four or more matches when the two differ by at most 1e-5 of the stored
   value, or by at most one unit in its last printed place. Both must be printed in the
   same form (as many decimals, an exponent on both or on neither).
4. A cell's own tolerance replaces 1e-5, holds for floats of any length and form, and
   means an exact match where it is 0.
5. The number of blanks beside a number does not matter (columns shift with a sign or a
   digit), nor do line breaks inside brackets beside a number, a comma or a bracket.
6. The device in a tensor's text does not matter: ``device='cuda:0'`` is the CPU's text.
   So is that of the stand-in accelerator (:mod:`booktools.standin`).

By rule 3 a change in the second-to-last digit would pass for a float with four or more
decimals and seven or more significant digits, such as 123.4567. :func:`too_fine` finds
those; the book does not print them in a cell without a tolerance of its own.
"""

import re
from dataclasses import dataclass
from decimal import Decimal

__all__ = ["EXACT", "Tolerance", "close", "same_text", "tokens", "too_fine"]

RTOL = Decimal("1e-5")
ENOUGH_DECIMALS = 4


@dataclass(frozen=True)
class Tolerance:
    """A cell's own bounds: differences up to ``atol + rtol * |stored|`` match."""

    rtol: float
    atol: float = 0.0


EXACT = Tolerance(0.0)

# Not inside a word, a version (2.15.0) or an address; the sign belongs to the number
# unless it follows a digit (1-3), except before the imaginary part of 1.5-2.5j.
NUMBER = re.compile(
    r"""
    (?: (?<![\w.]) [-+]? | (?<=[\d.]) [-+] (?=[\d.]+(?:[eE][-+]?\d+)?j\b) )
    (?: (?: \d+\.\d* | \.\d+ | \d+ ) (?: [eE][-+]?\d+ )? | inf\b | nan\b )
    (?! \.?\d )
    """,
    re.VERBOSE,
)
FLOAT = re.compile(
    r"[-+]?(?P<whole>\d*)(?:\.(?P<decimals>\d*))?(?:[eE](?P<exp>[-+]?\d+))?"
)
PIECE = re.compile(rf"(?P<number>{NUMBER.pattern})|\w+|\n|[^\S\n]+|.", re.VERBOSE)

OPENING, CLOSING = "([{", ")]}"
DEVICE_OBJECT = r"\bdevice\(type='(?:cuda|cpu|mps|standin)'(?:, index=\d+)?\)"
DEVICE = rf"\bdevice=(?:'(?:cuda|cpu|mps|standin)(?::\d+)?'|{DEVICE_OBJECT})"


def same_text(stored: str, new: str, tolerance: Tolerance | None = None) -> bool:
    """Whether ``new`` may stand for ``stored`` on the page."""
    if stored == new:
        return True
    left, right = tokens(stored), tokens(new)
    return len(left) == len(right) and all(
        a == b or close(a, b, tolerance) for a, b in zip(left, right, strict=True)
    )


def close(stored: str, new: str, tolerance: Tolerance | None = None) -> bool:
    """Whether two differing tokens are floats that count as equal."""
    a, b = _Float.parse(stored), _Float.parse(new)
    if a is None or b is None:
        return False
    gap = abs(a.value - b.value)
    if tolerance is None:
        if a.form != b.form or a.decimals < ENOUGH_DECIMALS:
            return False
        return gap <= RTOL * abs(a.value) or gap <= a.unit
    if tolerance.rtol == tolerance.atol == 0:
        return False
    room = Decimal(tolerance.atol) + Decimal(tolerance.rtol) * abs(a.value)
    return gap <= room or (a.decimals >= ENOUGH_DECIMALS and gap <= a.unit)


def too_fine(text: str) -> list[str]:
    """The floats of ``text`` whose second-to-last digit rule 3 would let change."""
    floats = [(token, _Float.parse(token)) for token in tokens(text)]
    return [
        token
        for token, number in floats
        if number is not None
        and number.decimals >= ENOUGH_DECIMALS
        and 10 * number.unit <= RTOL * abs(number.value)
    ]


@dataclass(frozen=True)
class _Float:
    value: Decimal
    decimals: int
    form: tuple[int, bool]  # decimals, with an exponent or not
    unit: Decimal  # one in the last printed place

    @classmethod
    def parse(cls, token: str) -> "_Float | None":
        match = FLOAT.fullmatch(token)
        if match is None or not re.search(r"\d", token) or token.lstrip("+-").isdigit():
            return None
        decimals, exponent = len(match["decimals"] or ""), match["exp"]
        unit = Decimal(1).scaleb(int(exponent or 0) - decimals)
        return cls(Decimal(token), decimals, (decimals, exponent is not None), unit)


def tokens(text: str) -> list[str]:
    """Cut a text into numbers, words, signs and the white space that matters."""
    text = re.sub(rf",\s*{DEVICE}", "", text)
    text = re.sub(DEVICE, "device", text)
    text = re.sub(DEVICE_OBJECT, "device", text)
    pieces = [(m[0], m["number"] is not None) for m in PIECE.finditer(text.rstrip())]
    kept, depth = [], 0
    for i, (piece, _) in enumerate(pieces):
        if piece in OPENING:
            depth += 1
        elif piece in CLOSING:
            depth = max(0, depth - 1)
        kept.append(_white(pieces, i, depth) if piece.isspace() else piece)
    return [piece for piece in kept if piece]


def _white(pieces: list[tuple[str, bool]], i: int, depth: int) -> str:
    """The part of the white space at ``i`` that matters (rule 5); empty if none."""
    beside = [_neighbor(pieces, i, step, depth) for step in (-1, +1)]
    if any(number for _, number in beside):
        if pieces[i][0] == "\n" and depth == 0:
            return "\n"
        word = any(not number and piece[-1].isalnum() for piece, number in beside)
        return " " if word and depth == 0 else ""
    if depth > 0 and any(piece in OPENING + CLOSING + "," for piece, _ in beside):
        return ""
    return pieces[i][0]


def _neighbor(pieces, i: int, step: int, depth: int) -> tuple[str, bool]:
    """The next piece that is not white space (inside brackets also over line ends)."""
    i += step
    while 0 <= i < len(pieces):
        piece, number = pieces[i]
        if not piece.isspace() or (piece == "\n" and depth == 0):
            return piece, number
        i += step
    return "\n", False

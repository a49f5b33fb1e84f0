"""Compare what a cell printed and drew with what the chapter has stored.

Used by the tests and by ``make run``, so that both mean the same by "equal".
"""

import base64
import binascii
import functools
import importlib.metadata
import re
from collections import defaultdict
from dataclasses import dataclass, field

from booktools import figure_compare
from booktools.notebook import ROOT
from booktools.text_compare import Tolerance, same_text

__all__ = [
    "Difference",
    "Outputs",
    "compare",
    "figures_enforced",
    "outputs_of",
    "tolerance_of",
]

PICTURES = ("image/png", "image/jpeg")
NOT_COMPARED = ("application/vnd.jupyter.widget-view+json",)  # ids drawn at random


@dataclass
class Difference:
    """One thing that is not as stored: what, and the two sides."""

    what: str
    stored: str = ""
    new: str = ""
    pictures: tuple | None = None  # the two decoded pictures, where both exist


@dataclass
class Outputs:
    """A cell's outputs: texts by kind (order matters within a kind), and pictures."""

    texts: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    pictures: list[bytes] = field(default_factory=list)


def outputs_of(outputs: list) -> Outputs:
    """Sort a cell's outputs by kind; the pieces of a stream are joined."""
    found = Outputs()
    streams: dict[str, str] = {}
    for output in outputs:
        if output.output_type == "stream":
            streams[output.name] = streams.get(output.name, "") + output.text
        elif output.output_type == "error":
            found.texts["error"].append(f"{output.ename}: {output.evalue}")
        else:
            for mime, value in output.data.items():
                if mime in PICTURES:
                    found.pictures.append(_bytes(value))
                elif mime not in NOT_COMPARED:
                    found.texts[mime].append(str(value))
    for name, text in streams.items():
        if text.strip() or (text and name != "stderr"):
            found.texts[name].append(text)
    return found


def _bytes(value: str) -> bytes:
    try:
        return base64.b64decode(value)
    except (binascii.Error, ValueError):
        return b""


def tolerance_of(metadata) -> Tolerance | None:
    """The tolerance a cell states for itself, if any."""
    stated = metadata.get("tolerance")
    return Tolerance(stated["rtol"], stated.get("atol", 0.0)) if stated else None


@functools.cache
def figures_enforced() -> bool:
    """Whether pictures are compared here: only the pinned matplotlib draws alike."""
    pins = (ROOT / "requirements.txt").read_text()
    pin = re.search(r"(?m)^matplotlib==(\S+)", pins)
    return pin is not None and importlib.metadata.version("matplotlib") == pin[1]


def compare(stored: list, new: list, metadata) -> list[Difference]:
    """All differences between stored and new outputs of a cell with this metadata."""
    a, b = outputs_of(stored), outputs_of(new)
    found = []
    if "stderr" in b.texts:
        found.append(Difference("a warning or error text", "", b.texts["stderr"][0]))
    tolerance = tolerance_of(metadata)
    for kind in [*a.texts, *(k for k in b.texts if k not in a.texts)]:
        if kind == "stderr":
            continue
        left, right = a.texts.get(kind, []), b.texts.get(kind, [])
        if len(left) != len(right):
            what = f"{kind}: {len(left)} stored, {len(right)} new"
            found.append(Difference(what, "\n".join(left), "\n".join(right)))
            continue
        found += [
            Difference(kind, one, other)
            for one, other in zip(left, right, strict=True)
            if not same_text(one, other, tolerance)
        ]
    return found + _compare_pictures(a.pictures, b.pictures, metadata)


def _compare_pictures(stored, new, metadata) -> list[Difference]:
    if len(stored) != len(new):
        return [Difference(f"figures: {len(stored)} stored, {len(new)} new")]
    factor = metadata.get("figure_tolerance", {}).get("factor", 1.0)
    found = []
    for number, (one, other) in enumerate(zip(stored, new, strict=True), 1):
        if one == other:
            continue
        try:
            left, right = figure_compare.decode(one), figure_compare.decode(other)
        except ValueError as error:
            found.append(Difference(f"figure {number}: {error}"))
            continue
        if figure_compare.is_blank(right):
            reason = "the new one is blank"
        elif figures_enforced():
            reason = figure_compare.compare(left, right, factor).reason
        else:
            reason = ""
        if reason:
            what = f"figure {number}: {reason}"
            found.append(Difference(what, pictures=(left, right)))
    return found

"""How long a chapter takes to read and to work through, counted, not guessed.

``python -m booktools.reading 03 18`` prints a line a chapter: its words, its code
cells, the minutes of the core, of its *Deeper* sections and of its exercises, and what
is beyond the limits. ``booktools.run_chapter`` writes the minutes into the opening
(``**Takes** ...``) whenever it stores a chapter.

The rule: 200 words of text a minute (fenced code left out), 40 lines of code that the
page shows (neither folded nor blank, without the set-up), 15 seconds a figure. *Core*
is everything before the exercises that is not in a *Deeper* section. The exercises take
the minutes that stand under their headings. All three are rounded to five minutes.
"""

import re
import sys
from dataclasses import dataclass

from booktools import notebook
from booktools.parts import (
    code_cells,
    is_deeper,
    pictures,
    sections,
    tags_of,
    without_blocks,
    without_links,
)

__all__ = ["CORE", "EXERCISE", "RUNS_IN", "Times", "renew", "takes", "times"]

WORDS_A_MINUTE = 200
LINES_A_MINUTE = 40
SECONDS_A_FIGURE = 15
STEP = 5  # minutes
CORE = (15, 30)  # what the core may take
GOALS = {"words": 4000, "code cells": 50}

FOLDED = {"hide-input", "hide-cell", "remove-input", "remove-cell"}
ASIDE = {"setup", "exercise", "solution"}
EXERCISE = re.compile(r"(?m)^(●○○|●●○|●●●) · (\d+) minutes[ \t]*$")
RUNS_IN = re.compile(r"\*\*Runs in\*\* about (\d+) CPU-seconds\.")


def words(text: str) -> int:
    """Words of a text as a reader meets them: no fenced code, no addresses."""
    text = without_links(without_blocks(text))
    return sum(bool(re.search(r"\w", word)) for word in text.split())


def rounded(minutes: float) -> int:
    """To five minutes; what takes any time at all takes five."""
    return max(STEP, int(minutes / STEP + 0.5) * STEP) if minutes > 0 else 0


@dataclass
class Times:
    """What a chapter holds, and the minutes that it takes (before rounding)."""

    words: int = 0
    code_cells: int = 0
    core: float = 0.0
    deeper: float = 0.0
    exercises: float = 0.0

    @property
    def sentence(self) -> str:
        """The opening's line, without its bold first word."""
        line = f"about {rounded(self.core)} minutes to read"
        if self.deeper:
            line += f", {rounded(self.deeper)} more for *Deeper*"
        return f"{line}, and {rounded(self.exercises)} for the exercises."

    @property
    def beyond(self) -> list[str]:
        """What is outside the limits, in words."""
        low, high = CORE
        core, found = rounded(self.core), []
        if not low <= core <= high:
            found.append(f"the core must take {low} to {high} minutes")
        for name, have in (("words", self.words), ("code cells", self.code_cells)):
            if have > GOALS[name]:
                found.append(f"{have - GOALS[name]} {name} beyond {GOALS[name]}")
        return found


def times(book) -> Times:
    """Count a notebook."""
    found = Times(code_cells=len(code_cells(book)))
    outer = ""
    for section in sections(book, depth=3):
        if section.level == 2:
            outer = section.title
        text = section.text
        found.words += words(text)
        if outer == "Exercises":
            found.exercises += sum(int(m) for _, m in EXERCISE.findall(text))
            continue
        if outer == "References":
            continue
        minutes = words(text) / WORDS_A_MINUTE
        for cell in section.cells:
            if cell.cell_type == "code":
                minutes += len(pictures(cell)) * SECONDS_A_FIGURE / 60
                if not {*tags_of(cell)} & (FOLDED | ASIDE):
                    lines = [line for line in cell.source.splitlines() if line.strip()]
                    minutes += len(lines) / LINES_A_MINUTE
        if is_deeper(outer) or is_deeper(section.title):
            found.deeper += minutes
        else:
            found.core += minutes
    return found


def takes(book) -> str:
    """The line that has to stand in the opening."""
    return f"**Takes** {times(book).sentence}"


def renew(book, seconds: float | None = None) -> None:
    """Write what was counted into a notebook's opening, in place.

    A notebook without a ``**Takes**`` line is left alone.

    Args:
        book: the notebook.
        seconds: what it was measured to cost, if it was; this renews ``**Runs in**``.
    """
    first = next((c for c in book.cells if c.cell_type == "markdown"), None)
    if first is None or not re.search(r"(?m)^\*\*Takes\*\*", first.source):
        return
    lines = {"Takes": takes(book)}
    if seconds is not None:
        shown = max(1, round(seconds))
        lines["Runs in"] = f"**Runs in** about {shown} CPU-seconds."
    for name, line in lines.items():
        paragraph = re.compile(rf"(?m)^\*\*{name}\*\*.*(?:\n(?!\s*\n|\*\*).+)*")
        old = paragraph.search(first.source)
        if old and " ".join(old[0].split()) != line:
            first.source = first.source.replace(old[0], line, 1)


def main(arguments: list[str]) -> int:
    try:
        paths = notebook.chosen(arguments)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    for path in paths:
        have = times(notebook.read(path))
        line = f"{path.stem:<27}{have.words:>6} words {have.code_cells:>3} code cells;"
        line += f" core {rounded(have.core):>3} ({have.core:.1f}),"
        line += f" Deeper {rounded(have.deeper):>3}, exercises {have.exercises:>3.0f}"
        print("; ".join([line, *have.beyond]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The form that lets a chapter be read at two speeds: its core, or all of it.

:func:`problems` says what is not so, one line each; it is a part of
:func:`booktools.structure.anatomy`. CONTRIBUTING.md says what a writer does.
"""

import ast
import contextlib
import io
import re
from itertools import pairwise
from pathlib import Path

from booktools import notebook as notebooks
from booktools import prose, reading
from booktools.parts import (
    CODE_SPAN,
    ENDING,
    MATH,
    Section,
    anchor,
    code_cells,
    headings,
    is_deeper,
    links,
    opening_list,
    opening_text,
    paragraphs,
    plain,
    promises,
    same_title,
    sections,
    tags_of,
    without_links,
)

__all__ = ["CARD", "problems"]

NEW_TERMS = 8
ANSWER_WORDS = 30
GUESSES = 2
CARD = "What to keep"
CARD_LINES = 20


def problems(notebook, path: Path, core: tuple[int, int] = reading.CORE) -> list[str]:
    """What is not in the form, in the order of the page.

    Args:
        notebook: the chapter.
        path: its file.
        core: the least and the most minutes that its core may take.
    """
    found = _opening(notebook) + _promises(notebook)
    low, high = core
    minutes = reading.rounded(reading.times(notebook).core)
    if not low <= minutes <= high:
        found.append(f"the core takes {minutes} minutes, not {low} to {high}")
    for rule in (_answers, _deeper, _guesses, _notes, _card, _exercises, _planned):
        found += rule(notebook)
    return found + prose.problems(notebook)


# --- the opening -----------------------------------------------------------------


def _opening(notebook) -> list[str]:
    found = []
    blocks = paragraphs(opening_text(notebook))
    named = {m[1]: b for b in blocks if (m := re.match(r"\*\*(.+?)\*\*", b))}
    line = reading.takes(notebook)
    if "Takes" in named and " ".join(named["Takes"].split()) != line:
        found.append(
            f"opening: {line!r} is expected (booktools.run_chapter --tidy writes it)"
        )
    if "Runs in" in named and not reading.RUNS_IN.fullmatch(named["Runs in"].strip()):
        found.append("opening: '**Runs in** about 6 CPU-seconds.' is the form")
    if "New here" in named:
        terms = opening_list(notebook, "New here")
        if not 1 <= len(terms) <= NEW_TERMS:
            count = len(terms)
            found.append(f"opening: {count} items under New here; 1 to {NEW_TERMS}")
        for term in terms:
            if not re.match(r"(?:\*[^*]+\*|`[^`]+`)[^:]*: \S", term):
                found.append(f"opening: New here: '- *term*: words', got {term[:40]!r}")
    return found


def _promises(notebook) -> list[str]:
    found = []
    places = {anchor(title) for level, title in headings(notebook) if level in (2, 3)}
    for promise in promises(notebook):
        here = [target for target in links(promise) if target.startswith("#")]
        start = promise[:40]
        if not here:
            found.append(f"opening: the promise {start!r} needs a link to its section")
        for target in here:
            if target[1:] not in places:
                found.append(f"opening: no section {target}, as promised in {start!r}")
    return found


# --- sections --------------------------------------------------------------------


def _body(notebook, depth: int = 2) -> list[Section]:
    """The sections before the fixed last ones."""
    found = []
    for section in sections(notebook, depth):
        if section.level == 2 and same_title(section.title) in ENDING:
            break
        if section.title:
            found.append(section)
    return found


def _sentence(paragraph: str) -> str:
    """A paragraph in which only its own signs end a sentence."""
    text = without_links(MATH.sub("math", CODE_SPAN.sub("code", paragraph)))
    text = re.sub(r"\b(e\.g|i\.e|et al|vs|etc|cf|Fig|Eq)\.", r"\1", text)
    return " ".join(re.sub(r"[*_\"'“”‘’)\]]+(?=\s|$)", "", text).split())


def _answers(notebook) -> list[str]:
    """Under each heading, the answer to its question."""
    found = []
    for section in _body(notebook):
        where = f"section {section.title!r}:"
        blocks = paragraphs("\n".join(section.cells[0].source.splitlines()[1:]))
        if not blocks:
            found.append(f"{where} no answer under the heading")
            continue
        if re.match(r"[-*+] |\d+\. |[>|#]|```|~~~|\$\$", blocks[0].lstrip()):
            found.append(
                f"{where} a plain sentence must follow, not {blocks[0][:30]!r}"
            )
            continue
        answer = _sentence(blocks[0])
        ends = re.findall(r"[.?!…](?=\s|$)", answer)
        if "?" in answer:
            found.append(f"{where} the answer asks: {answer[:50]!r}")
        elif ends != ["."] or not answer.endswith("."):
            found.append(
                f"{where} the answer must be one sentence, in a paragraph of its own: "
                f"{answer[:50]!r}"
            )
        elif len(answer.split()) > ANSWER_WORDS:
            count = len(answer.split())
            found.append(f"{where} the answer has {count} words, not {ANSWER_WORDS}")
    return found


def _deeper(notebook) -> list[str]:
    found, outer = [], ""
    for level, title in headings(notebook):
        outer = title if level == 2 else outer
        wrong = re.match(r"(?i)\W*deeper\b", title) and not is_deeper(title)
        if wrong or re.search(r"(?i)[(,:–—-]\s*deeper\W*$", title):
            found.append(f"heading {title!r}: 'Deeper: ' opens it, with the colon")
        elif is_deeper(title) and level not in (2, 3):
            found.append(f"heading {title!r}: Deeper is for ## and ###")
        elif is_deeper(title) and level == 3 and is_deeper(outer):
            found.append(f"heading {title!r}: its section is Deeper already")
        elif is_deeper(title) and same_title(outer) in ENDING[1:]:
            found.append(f"heading {title!r}: {outer} has no Deeper part")
    return found


# --- what is shown ---------------------------------------------------------------


def _guesses(notebook) -> list[str]:
    found, count = [], 0
    for cell, after in pairwise([*notebook.cells, None]):
        if cell.cell_type != "markdown":
            continue
        blocks = paragraphs(cell.source)
        for i, block in enumerate(blocks):
            if not re.search(r"(?i)\*guess first", block):
                continue
            where = f"guess {block[:50]!r}:"
            if not re.match(r"\*Guess first\*: \S", block) or block.count("*Guess") > 1:
                found.append(f"{where} '*Guess first*: ...?' is a paragraph of its own")
            elif not block.rstrip().endswith("?"):
                found.append(f"{where} must end with a question mark")
            elif i + 1 < len(blocks):
                found.append(f"{where} must be the last line of its text cell")
            elif after is None or not after.get("outputs"):
                found.append(f"{where} a code cell with an output must follow")
            else:
                count += 1
    if count < GUESSES:
        found.append(f"{count} lines '*Guess first*: ...?'; at least {GUESSES}")
    return found


def _notes(notebook) -> list[str]:
    found = []
    for section in sections(notebook, depth=3):
        shown = False
        for cell in section.cells:
            shown = shown or cell.cell_type == "code"
            if cell.cell_type != "markdown" or shown:
                continue
            for line in re.findall(r"(?m)^> \*Often written, not so\*.*", cell.source):
                title = section.title or "the opening"
                found.append(
                    f"section {title!r}: the cell that shows the truth must stand "
                    f"before the note {line[2:50]!r}"
                )
    return found


def _card(notebook) -> list[str]:
    summaries = [s for s in sections(notebook) if s.title == "Summary"]
    if len(summaries) != 1:
        return []  # the order of the last sections is another rule's
    head, *cards = re.split(r"(?m)^### ", summaries[0].text)
    if len(cards) != 1 or cards[0].splitlines()[0].strip() != CARD:
        return [f"Summary: after the list, '### {CARD}' and nothing else is expected"]
    lines = [
        line
        for line in cards[0].splitlines()[1:]
        if line.strip() and not re.fullmatch(r"[\s|:-]+|\s*(```+|~~~+|\$\$)\w*", line)
    ]
    if not lines:
        return [f"Summary: {CARD!r} is empty"]
    if len(lines) > CARD_LINES:
        return [f"Summary: {CARD!r} has {len(lines)} lines; {CARD_LINES} at most"]
    return []


# --- exercises -------------------------------------------------------------------


def _exercises(notebook) -> list[str]:
    found, hardest, outer = [], 0, ""
    for section in sections(notebook, depth=3):
        outer = section.title if section.level == 2 else outer
        if section.level != 3 or outer != "Exercises":
            continue
        where = f"exercise {section.title!r}:"
        below = paragraphs("\n".join(section.cells[0].source.splitlines()[1:]))
        match = reading.EXERCISE.fullmatch(below[0].strip()) if below else None
        if match is None:
            found.append(f"{where} '●○○ · 5 minutes' must stand under the heading")
        else:
            filled = match[1].count("●")
            if filled < hardest:
                found.append(f"{where} is easier than the one before it")
            hardest = max(hardest, filled)
    solutions = {
        name: cell.source
        for cell in code_cells(notebook)
        if "solution" in tags_of(cell) and (name := _checked(cell.source))
    }
    for number, cell in enumerate(code_cells(notebook), 1):
        name = _checked(cell.source)
        if "exercise" in tags_of(cell) and name:
            where = f"cell {number}:"
            found += [f"{where} {p}" for p in _stub(cell.source, name)]
            found += [
                f"{where} {p}" for p in _classes(cell.source, solutions.get(name, ""))
            ]
    return found


def _checked(source: str) -> str:
    """The exercise that a cell checks."""
    names = re.findall(r'(?m)^checks\.check\(\s*"(\w\w\.\w+)"', source)
    return names[-1] if names else ""


def _stub(source: str, name: str) -> list[str]:
    from course_utils import checks  # brings torch, which no other rule needs

    found = []
    above = source.rstrip().rsplit("checks.check(", 1)[0].rstrip("\n").splitlines()
    comment = f'# Stuck? A first hint: checks.hint("{name}")'
    if not above or above[-1] != comment or "\n\nchecks.check(" in source:
        found.append(f"the line before the check must be: {comment}")
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            checks.hint(name)
    except ValueError as error:
        found.append(f"{error}: write @exercise({name!r}, hint=...)")
    return found


def _classes(stub: str, solution: str) -> list[str]:
    """A class to write comes with the signatures of its methods."""
    try:
        wanted, given = ast.parse(solution), ast.parse(stub)
    except SyntaxError:
        return []
    answer = re.findall(r"(?s)checks\.check\([^,]+,\s*(\w+)\s*,?\s*\)", stub)[-1:]
    named = {node.name: node for node in given.body if isinstance(node, ast.ClassDef)}
    found = []
    for node in named.values():
        methods = [n for n in node.body if isinstance(n, ast.FunctionDef)]
        if not methods:
            found.append(f"the class {node.name} needs method stubs")
    for node in wanted.body:
        if isinstance(node, ast.ClassDef) and [node.name] == answer:
            if node.name not in named:
                found.append(f"the stub must define the class {node.name}, too")
    return found


# --- other chapters --------------------------------------------------------------


def _planned(notebook) -> list[str]:
    """A chapter that exists is linked, and not called planned."""
    there = {int(p.name[:2]) for p in notebooks.CHAPTERS.glob("[0-9][0-9]_*.ipynb")}
    found = []
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            continue
        for block in paragraphs(plain(cell.source, code="code", math="math")):
            text = " ".join(without_links(block).split())
            for sentence in re.split(r"(?<=[.?!])\s+| [-*] ", text):
                if not re.search(r"(?i)\bplanned\b|\bto come\b(?! back)", sentence):
                    continue
                for number in sorted(prose.chapters_named(sentence) & there):
                    found.append(
                        f"chapter {number} exists, but is called planned: "
                        f"{sentence[:60]!r}"
                    )
    return found

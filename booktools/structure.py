"""What a chapter must look like, checked without running it.

:func:`comparable` holds what an honest comparison needs; a notebook that fails it is
refused at collection by every pytest run. :func:`anatomy` holds the rules for writers
(CONTRIBUTING.md); :func:`book` what only all chapters together show. Each returns the
problems as one line each; an empty list is a pass.
"""

import ast
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from booktools import figure_compare, two_speeds
from booktools.parts import (
    CODE_SPAN,
    ENDING,
    IGNORE,
    OPENING,
    anchor,
    anchors,
    code_cells,
    compared,
    fences,
    headings,
    items,
    links,
    opening_text,
    paragraphs,
    pictures,
    plain,
    printed,
    promises,
    same_title,
    sections,
    tags_of,
)
from booktools.reading import CORE
from booktools.setup_cell import setup_cell
from booktools.text_compare import too_fine

__all__ = ["Limits", "anatomy", "bold_terms", "book", "comparable", "glossary_terms"]

PATH = re.compile(
    r"(?<![\w.:/])/(?:home|root|tmp|work|usr|opt|var|Users|private|mnt)/\w"
    r"|\b[A-Z]:\\\w|site-packages|ipykernel_\d+"
)
MARKER = re.compile(r"(?m)^\s*#+\s*((?:NBVAL|PYTEST_VALIDATE)_\w+)")
ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}")


@dataclass(frozen=True)
class Limits:
    """The counts a chapter must keep to; the template is smaller."""

    figures: int = 4
    exercises: int = 5
    megabytes: float = 1.5
    lines: int = 25
    long_lines: int = 65
    columns: int = 80
    notes: int = 6
    core: tuple[int, int] = CORE  # minutes
    ignored_percent: float = 3.0
    loosened_percent: float = 5.0


# --- what an honest comparison needs ---------------------------------------------


def comparable(notebook) -> list[str]:
    """Why this notebook's outputs cannot be compared honestly, if so."""
    problems = []
    name = notebook.metadata.get("kernelspec", {}).get("name")
    if name != "python3":
        problems.append(f"the kernel is {name!r}, not 'python3'")
    cells = code_cells(notebook)
    if not cells:
        problems.append("there is no code cell")
    for number, cell in enumerate(cells, 1):
        problems += [f"cell {number}: {p}" for p in _cell_problems(cell, number)]
    return problems


def _cell_problems(cell, number: int) -> list[str]:
    tags, found = tags_of(cell), []
    if cell.execution_count is None:
        found.append("was never run (no execution count)")
    elif cell.execution_count != number:
        found.append(f"execution count {cell.execution_count} instead of {number}")
    for marker in MARKER.findall(cell.source):
        found.append(f"the comment {marker} steers the comparison: use a tag")
    odd = [t for t in tags if t.startswith("nbval") and t != IGNORE]
    found += [f"the tag {tag} is not used in this book" for tag in odd]
    found += _reasons(cell, tags)
    raised = [o for o in cell.outputs if o.output_type == "error"]
    if raised and "raises-exception" not in tags:
        found.append(f"stores the error {raised[0].ename}, but has no raises-exception")
    if "raises-exception" in tags and not raised:
        found.append("is tagged raises-exception, but stores no error")
    for output in cell.outputs:
        if output.output_type == "stream" and output.name == "stderr":
            first = output.text.strip().splitlines() or [""]
            found.append(f"stores a warning or error text: {first[0][:80]}")
    for text in printed(cell):
        for pattern, what in ((PATH, "a machine path"), (ADDRESS, "an object address")):
            if match := pattern.search(text):
                found.append(f"stores {what}: {match[0]}")
    if IGNORE not in tags and "tolerance" not in cell.metadata:
        fine = [t for text in compared(cell) for t in too_fine(text)]
        if fine:
            found.append(
                f"prints {fine[0]}: with so many digits the comparison would let the "
                "second-to-last one change; print fewer, or state a tolerance"
            )
    return found


def _reasons(cell, tags: list[str]) -> list[str]:
    """What is wrong with the cell's own tolerance, figure tolerance or ignoring."""
    found = []
    for key, required, optional in (
        ("tolerance", {"rtol"}, {"atol"}),
        ("figure_tolerance", {"factor"}, set()),
    ):
        if key not in cell.metadata:
            continue
        stated = cell.metadata[key]
        if not isinstance(stated, dict):
            found.append(f"{key} must be a mapping, got {stated!r}")
            continue
        unknown = sorted(set(stated) - required - optional - {"reason"})
        if unknown:
            found.append(f"{key} has unknown keys: {', '.join(unknown)}")
        if not _text(stated.get("reason")):
            found.append(f"{key} has no reason")
        low = 1 if key == "figure_tolerance" else 0
        for name in sorted(required | (optional & set(stated))):
            value = stated.get(name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not low <= value < float("inf"):
                found.append(f"{key}: {name} must be a number >= {low}, got {value!r}")
    if "figure_tolerance" in cell.metadata and not pictures(cell):
        found.append("has a figure_tolerance, but no figure")
    if IGNORE in tags and not _text(cell.metadata.get("ignore_reason")):
        found.append(f"is tagged {IGNORE}, but its metadata has no ignore_reason")
    if IGNORE not in tags and "ignore_reason" in cell.metadata:
        found.append(f"has an ignore_reason, but not the tag {IGNORE}")
    return found


def _text(value) -> bool:
    return isinstance(value, str) and bool(value.strip())


# --- the chapter -----------------------------------------------------------------


def anatomy(notebook, path: Path, url: str, limits: Limits | None = None) -> list[str]:
    """What in a chapter is not as CONTRIBUTING.md asks.

    Args:
        notebook: the chapter, as read by :func:`booktools.notebook.read`.
        path: its file; links are followed from there.
        url: the course's address, which stands in the set-up cell.
        limits: counts, for a chapter by default.
    """
    limits = limits or Limits()
    problems = []
    for rule in (_opening, _setup, _ending, _counts, _cells, _texts, _figures):
        problems += rule(notebook, path, url, limits)
    for rule in (_links, _exercises, _notes, _filters):
        problems += rule(notebook, path, url, limits)
    return problems + two_speeds.problems(notebook, path, limits.core)


def _opening(notebook, path, url, limits) -> list[str]:
    text = opening_text(notebook)
    blocks = paragraphs(text)
    if not blocks or not re.match(r"# \S", blocks[0]):
        return ["opening: the first text does not start with a level-1 heading"]
    found = []
    promise = blocks[1] if "\n" not in blocks[0] else blocks[0].split("\n", 1)[1]
    if len(blocks) < 2 or promise.startswith(("**", "#", "-")):
        found.append("opening: after the heading a one-sentence promise is expected")
    elif len(re.findall(r"[.?!](?=\s|$)", CODE_SPAN.sub("code", promise))) != 1:
        found.append("opening: the promise must be one sentence")
    starts = [re.match(r"\*\*(.+?)[.:]?\*\*", block) for block in blocks]
    order = [match[1] for match in starts if match]
    expected = list(OPENING)
    if "New here" not in order:
        expected.remove("New here")
    if order != expected:
        found.append(f"opening: paragraphs must open with {expected}, got {order}")
    elif not 3 <= len(promises(notebook)) <= 6:
        count = len(promises(notebook))
        found.append(f"opening: 3 to 6 promises are expected, got {count}")
    return found


def _setup(notebook, path, url, limits) -> list[str]:
    cells = code_cells(notebook)
    if len(cells) < 2:
        return ["there is no set-up cell and imports cell"]
    setup, imports = cells[:2]
    found = []
    if setup.source.rstrip() != setup_cell(url, path.stem).rstrip():
        found.append("cell 1: is not the set-up cell that booktools.setup_cell writes")
    if not {"setup", "hide-input"} <= set(tags_of(setup)):
        found.append("cell 1: the set-up cell needs the tags setup and hide-input")
    if setup.outputs:
        found.append("cell 1: the set-up cell must be silent")
    if not imports.source.rstrip().endswith("runtime.setup()"):
        found.append("cell 2: the imports cell must end with runtime.setup()")
    return found


def _ending(notebook, path, url, limits) -> list[str]:
    titles = [same_title(s.title) for s in sections(notebook)]
    if titles[-4:] != ENDING:
        return [f"the last sections must be {ENDING}, got {titles[-4:]}"]
    ours, summary, _, references = sections(notebook)[-4:]
    found = []
    sources = [c.source for c in ours.cells if c.cell_type == "code"]
    if not any(re.search(r"\bcompare\(", s) for s in sources):
        found.append("Ours against the library's: nothing calls compare(...)")
    mirror = summary.text.split("\n### ")[0]  # the list; a card may follow
    kept, given = len(items(mirror)), len(promises(notebook))
    if kept != given:
        found.append(f"Summary: {kept} points for {given} promises")
    works = items(references.text)
    if not works or not all(re.search(r"\]\(|https?://", work) for work in works):
        found.append("References: a list is expected, each point with a link")
    return found


def _counts(notebook, path, url, limits) -> list[str]:
    found = []
    cells = code_cells(notebook)
    figures = sum(len(pictures(cell)) for cell in cells)
    if figures < limits.figures:
        found.append(f"{figures} figures; at least {limits.figures} are expected")
    long = [i for i, c in enumerate(cells, 1) if "long" in tags_of(c)]
    if len(long) > 1:
        found.append(f"more than one cell is tagged long: {long}")
    if path.is_file() and path.stat().st_size > limits.megabytes * 1e6:
        size = path.stat().st_size / 1e6
        found.append(f"the file has {size:.2f} MB; {limits.megabytes} is the limit")
    return found


def _cells(notebook, path, url, limits) -> list[str]:
    """Length and width of code cells; text between any two of them."""
    found = []
    for number, cell in enumerate(code_cells(notebook), 1):
        if number == 1:
            continue  # the set-up cell is the same everywhere
        lines = cell.source.splitlines()
        allowed = limits.long_lines if "long" in tags_of(cell) else limits.lines
        if not lines:
            found.append(f"cell {number}: is empty")
        if len(lines) > allowed:
            found.append(f"cell {number}: {len(lines)} lines; {allowed} is the limit")
        wide = [line for line in lines if len(line) > limits.columns]
        if wide:
            found.append(f"cell {number}: {len(wide[0])} columns: {wide[0][:50]}...")
        if PATH.search(cell.source):
            found.append(f"cell {number}: names a machine path")
    number = 0
    for before, cell in zip([None, *notebook.cells], notebook.cells, strict=False):
        number += cell.cell_type == "code"
        if before is None or {before.cell_type, cell.cell_type} != {"code"}:
            continue
        exercise = [{"exercise", "solution"} & {*tags_of(c)} for c in (before, cell)]
        if number != 2 and not all(exercise):
            found.append(f"cell {number}: follows another code cell without a sentence")
    return found


def _texts(notebook, path, url, limits) -> list[str]:
    """Plain Markdown; headings that a link can tell apart."""
    found = []
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            continue
        start = (cell.source.strip().splitlines() or ["(empty)"])[0][:40]
        text = plain(cell.source)
        if any(re.match(r"\s*\{", info) for info in fences(cell)) or ":::" in text:
            found.append(f"text {start!r}: a MyST directive")
        if re.search(r"\{[\w:-]+\}`", text):
            found.append(f"text {start!r}: a MyST role")
        if tag := re.search(r"</?[a-zA-Z][\w-]*(?:\s[^<>]*)?/?>|<!--", text):
            found.append(f"text {start!r}: the HTML tag {tag[0]}")
    levels = headings(notebook)
    if [level for level, _ in levels].count(1) != 1:
        found.append("there must be exactly one level-1 heading")
    for (one, _), (two, title) in zip(levels, levels[1:], strict=False):
        if two > one + 1:
            found.append(f"heading {title!r} skips a level")
    doubled = [a for a, n in Counter(anchor(t) for _, t in levels).items() if n > 1]
    found += [f"two headings are called {name!r}" for name in doubled]
    return found


def _figures(notebook, path, url, limits) -> list[str]:
    found = []
    prefix = f"fig-{path.name[:2]}-"
    names = Counter(figure_names(notebook))
    found += [f"two figures are called {name}" for name, n in names.items() if n > 1]
    for number, cell in enumerate(code_cells(notebook), 1):
        where = f"cell {number}:"
        images = pictures(cell)
        stated = cell.metadata.get("mystnb", {})
        figure, image = stated.get("figure", {}), stated.get("image", {})
        if not images:
            if figure:
                found.append(f"{where} has a figure's metadata, but no figure")
            continue
        if len(images) > 1:
            found.append(f"{where} draws {len(images)} figures; one a cell")
        if not _text(figure.get("caption")):
            found.append(f"{where} the figure has no caption")
        if not re.fullmatch(rf"{prefix}[a-z0-9-]+", figure.get("name", "")):
            found.append(f"{where} the figure's name must be {prefix}...")
        if not _text(image.get("alt")):
            found.append(f"{where} the figure has no alt text")
        if not re.search(r"(?m)^\s*plt\.show\(\)", cell.source):
            found.append(f"{where} the figure does not end in plt.show()")
        try:
            blank = [figure_compare.is_blank(figure_compare.decode(i)) for i in images]
        except ValueError as error:
            found.append(f"{where} {error}")
        else:
            found += [f"{where} the figure is blank"] * any(blank)
    return found


def figure_names(notebook) -> list[str]:
    named = [c.metadata.get("mystnb", {}).get("figure", {}) for c in notebook.cells]
    return [figure["name"] for figure in named if figure.get("name")]


def _links(notebook, path, url, limits) -> list[str]:
    found = []
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            continue
        for target in links(cell.source):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, place = target.partition("#")
            file = path.parent / name if name else path
            if not file.is_file():
                found.append(f"the link to {target} leads nowhere")
            elif place and place not in anchors(notebook if file == path else file):
                found.append(f"the link to {target}: there is no such heading")
    return found


FORM = '#@title Solution { display-mode: "form" }'
CHECK = re.compile(r'checks\.check\(\s*"((\w\w)\.\w+)",.*\)\s*$', re.S)


def _exercises(notebook, path, url, limits) -> list[str]:
    """Numbered exercises, each with a stub, a solution, and the same check in both."""
    parts = [s for s in sections(notebook) if s.title == "Exercises"]
    if len(parts) != 1:
        return ["there must be one section Exercises"]
    titles = re.findall(r"(?m)^### (.+?)\s*$", parts[0].text)
    found = []
    if len(titles) < limits.exercises:
        least = limits.exercises
        found.append(f"{len(titles)} exercises; at least {least} are expected")
    if any(not t.startswith(f"{i}. ") for i, t in enumerate(titles, 1)):
        found.append("exercises must be numbered, as in '### 1. Title'")
    stubs: dict[str, int] = {}
    solved = []
    for number, cell in enumerate(code_cells(notebook), 1):
        where, tags = f"cell {number}:", tags_of(cell)
        if not {"exercise", "solution"} & set(tags):
            continue
        check = CHECK.search(cell.source.rstrip())
        last = cell.source.rstrip().rsplit("checks.check(", 1)
        if check is None or "\n\n" in last[-1]:
            found.append(f'{where} must end with checks.check("NN.name", answer)')
            continue
        name, chapter = check[1], check[2]
        if path.name[:2].isdigit() and chapter != path.name[:2]:
            found.append(f"{where} checks {name}, an exercise of another chapter")
        text = "\n".join(compared(cell))
        if "exercise" in tags:
            stubs[name] = number
            if not re.search(r"(?m)(^|[=:])\s*\.\.\.", cell.source):
                found.append(f"{where} the stub {name} has no ... to replace")
            if "not attempted" not in text:
                found.append(f"{where} the stub {name} does not print 'not attempted'")
        else:
            solved.append(name)
            if cell.source.splitlines()[0] != FORM:
                found.append(f"{where} the first line must be {FORM}")
            if "hide-cell" not in tags:
                found.append(f"{where} the solution needs the tag hide-cell")
            if f"Exercise {name}: passed" not in text:
                found.append(f"{where} the solution of {name} does not pass")
    if len(stubs) < len(titles):
        found.append(f"{len(titles)} exercises, but {len(stubs)} stubs with a check")
    for name in {*stubs} ^ {*solved}:
        lacks = "solution" if name in stubs else "stub"
        found.append(f"exercise {name} has no {lacks}")
    return found


NOTE = re.compile(r"(?m)^> \*Often written, not so\*")
NOTE_OPENING = re.compile(r"^> \*Often written, not so\* \(E-\d{3}(?:, E-\d{3})*\)\.")


def _notes(notebook, path, url, limits) -> list[str]:
    found, count = [], 0
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            continue
        for match in NOTE.finditer(cell.source):
            count += 1
            if not NOTE_OPENING.match(cell.source[match.start() :]):
                line = cell.source[match.start() :].splitlines()[0]
                found.append(f"a note must open with its errata's numbers: {line[:60]}")
    if count > limits.notes:
        found.append(f"{count} notes 'Often written, not so'; {limits.notes} at most")
    return found


def _filters(notebook, path, url, limits) -> list[str]:
    """Warnings may be silenced only inside ``warnings.catch_warnings``."""
    found = []
    for number, cell in enumerate(code_cells(notebook), 1):
        if silences_warnings(cell.source):
            found.append(f"cell {number}: silences warnings outside catch_warnings")
    return found


def silences_warnings(source: str) -> bool:
    source = re.sub(r"(?m)^\s*[%!].*$", "", source)
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return bool(re.search(r"(filterwarnings|simplefilter)\(\s*[\"']ignore", source))
    caught = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.With) and "catch_warnings" in "".join(
            ast.unparse(item.context_expr) for item in node.items
        ):
            caught |= set(ast.walk(node))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node not in caught:
            name = ast.unparse(node.func).split(".")[-1]
            given = [ast.unparse(a) for a in [*node.args, *node.keywords]]
            ignore = any(re.fullmatch("(action=)?'ignore'", a) for a in given)
            if name in ("filterwarnings", "simplefilter") and ignore:
                return True
    return False


# --- all chapters together -------------------------------------------------------


def bold_terms(notebook) -> set[str]:
    """The terms a chapter defines, outside its opening paragraphs."""
    terms = set()
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            text = plain(cell.source, code=lambda span: span[2].replace("*", ""))
            terms |= {
                re.sub(r"\s+", " ", term).strip(" .:,").casefold()
                for term in re.findall(r"(?s)\*\*(?!\s)(.+?)(?<!\s)\*\*", text)
            }
    return terms - {name.casefold() for name in OPENING}


def glossary_terms(text: str) -> set[str]:
    """The terms of a MyST glossary: the lines of its block that are not indented."""
    blocks = re.findall(r"(?ms)^```+\{glossary\}\s*?\n(.*?)^```+\s*$", text)
    lines = [line for block in blocks for line in block.splitlines()]
    return {
        line.strip().replace("`", "").casefold()
        for line in lines
        if line.strip() and not line[0].isspace() and not line.startswith(":")
    }


def book(chapters: dict, listed: list[str], glossary: str, limits=None) -> list[str]:
    """What is wrong with all chapters together.

    Args:
        chapters: the notebooks by their names without ``.ipynb``.
        listed: the chapters' names in ``_toc.yml``.
        glossary: the text of ``glossary.md``.
        limits: shares that may be ignored or loosened.
    """
    limits = limits or Limits()
    found = []
    for name in sorted(set(chapters) - set(listed)):
        found.append(f"{name}: not in _toc.yml")
    for name in sorted(set(listed) - set(chapters)):
        found.append(f"{name}: in _toc.yml, but not in chapters/")
    for name in sorted(chapters):
        if not re.fullmatch(r"\d\d_[a-z0-9_]+", name):
            found.append(f"{name}: a chapter is named like 03_tensors")
    numbers = Counter(name[:2] for name in chapters)
    found += [f"two chapters have the number {n}" for n, c in numbers.items() if c > 1]
    names = Counter(f for n in chapters.values() for f in set(figure_names(n)))
    found += [f"two chapters name a figure {n}" for n, c in names.items() if c > 1]
    cells = [cell for n in chapters.values() for cell in code_cells(n)]
    ignored = sum(IGNORE in tags_of(cell) for cell in cells)
    if ignored > limits.ignored_percent / 100 * len(cells):
        found.append(f"{ignored} of {len(cells)} cells are ignored: more than 3 %")
    figures = sum(len(pictures(cell)) for cell in cells)
    loosened = sum(len(pictures(c)) for c in cells if "figure_tolerance" in c.metadata)
    if loosened > limits.loosened_percent / 100 * figures:
        found.append(f"{loosened} of {figures} figures are loosened: more than 5 %")
    defined, terms = {}, glossary_terms(glossary)
    for name, notebook in chapters.items():
        for term in bold_terms(notebook):
            defined.setdefault(term, name)
    for term in sorted(set(defined) - terms):
        found.append(f"{defined[term]}: the bold term {term!r} is not in glossary.md")
    for term in sorted(terms - set(defined)):
        found.append(f"glossary.md: {term!r} is not a bold term of any chapter")
    return found

"""Read and write chapter notebooks: checked when read, diff-friendly when written."""

import hashlib
import json
import re
from pathlib import Path

import nbformat

from course_utils import files

__all__ = [
    "BadNotebook",
    "CHAPTERS",
    "ROOT",
    "chosen",
    "read",
    "text",
    "tidy",
    "write",
]

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = ROOT / "chapters"

# What the page writes on a folded cell, by tag.
PROMPTS = {
    "setup": ("Set-up for Google Colab", "Hide the set-up"),
    "solution": ("Show the solution", "Hide the solution"),
    "drawing": ("Show how it is drawn", "Hide how it is drawn"),
}

ANSI = re.compile(r"\x1b\[[0-9;]*m")


class BadNotebook(ValueError):
    """A file that is not a notebook this project can use; the message is one line."""


def chosen(numbers: list[str]) -> list[Path]:
    """The chapters of these numbers, in the book's order; all, where none is given.

    Raises:
        ValueError: no chapter has such a number.
    """
    paths = sorted(CHAPTERS.glob("*.ipynb"))
    wanted = {number[:2] for number in numbers}
    unknown = sorted(wanted - {path.name[:2] for path in paths})
    if unknown:
        raise ValueError(f"no chapter {unknown[0]!r}")
    return [path for path in paths if not wanted or path.name[:2] in wanted]


def read(path: Path) -> nbformat.NotebookNode:
    """Return the notebook at ``path``.

    Raises:
        BadNotebook: no such file, not a notebook, or a format newer than 4.5.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text)
    except FileNotFoundError:
        raise BadNotebook(f"{path.name}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadNotebook(f"{path.name}: not a notebook ({error})") from None
    if not isinstance(data, dict) or "cells" not in data or "nbformat" not in data:
        raise BadNotebook(f"{path.name}: not a notebook (no cells or no format number)")
    version = (data["nbformat"], data.get("nbformat_minor", 0))
    if not all(isinstance(part, int) for part in version):
        raise BadNotebook(f"{path.name}: not a notebook (format number {version[0]!r})")
    if version > (4, 5):
        raise BadNotebook(
            f"{path.name}: notebook format {version[0]}.{version[1]} is newer than "
            "4.5, the newest this project reads"
        )
    try:
        notebook = nbformat.reads(text, as_version=4)
        nbformat.validate(notebook)
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise BadNotebook(f"{path.name}: not a valid notebook ({reason})") from None
    return notebook


def tidy(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Bring a notebook to the one form in which it is stored, in place.

    Stable cell ids (from the content), no timings, no editor metadata, tracebacks cut
    to the cell's own frame and the message, outputs merged as a notebook shows them.
    """
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {
                "display_name": "Python 3",
                "language": "python",
                "name": "python3",
            },
            "language_info": {"name": "python", "pygments_lexer": "ipython3"},
        }
    )
    seen: dict[str, int] = {}
    for cell in notebook.cells:
        cell.source = cell.source.rstrip()
        content = f"{cell.cell_type}:{cell.source}"
        digest = hashlib.sha1(content.encode()).hexdigest()[:8]
        seen[digest] = seen.get(digest, 0) + 1
        cell.id = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
        for key in ("execution", "collapsed", "scrolled", "ExecuteTime", "jupyter"):
            cell.metadata.pop(key, None)
        cell.pop("attachments", None) if not cell.get("attachments") else None
        for tag in set(cell.metadata.get("tags", [])) & set(PROMPTS):
            shown, hidden = PROMPTS[tag]
            page = cell.metadata.setdefault("mystnb", nbformat.from_dict({}))
            page.update(code_prompt_show=shown, code_prompt_hide=hidden)
        if cell.cell_type == "code":
            cell.outputs = _merge_streams(cell.outputs)
            for output in cell.outputs:
                if output.output_type == "error":
                    output.traceback = trimmed(output)
                if "execution_count" in output:
                    output.execution_count = cell.execution_count
    return notebook


def _merge_streams(outputs: list) -> list:
    """Join neighboring pieces of one stream, however the kernel cut them."""
    merged = []
    for output in outputs:
        last = merged[-1] if merged else None
        if (
            last is not None
            and output.output_type == last.output_type == "stream"
            and output.name == last.name
        ):
            last.text += output.text
        else:
            merged.append(output)
    return merged


def trimmed(output) -> list[str]:
    """A stored error without foreign frames: heading, the cell's own frame, message.

    Other frames hold paths and line numbers of one machine and one torch version.
    """
    frames = [ANSI.sub("", frame).rstrip() for frame in output.traceback]
    own = [frame for frame in frames if frame.startswith("Cell In[")]
    heading = f"{output.ename}: Traceback (most recent call last)"
    return [heading, *own[:1], f"{output.ename}: {output.evalue}"]


def text(notebook: nbformat.NotebookNode) -> str:
    """The notebook as its file holds it."""
    written = nbformat.writes(notebook, version=nbformat.NO_CONVERT)
    return written.rstrip("\n") + "\n"


def write(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Store a notebook so that a crash midway leaves the old file whole."""
    files.write_file(Path(path), text(notebook))

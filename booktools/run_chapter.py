"""Execute a chapter in place, store clean outputs: ``make run CHAPTER=03_tensors``.

After an edit by hand, ``python -m booktools.run_chapter --tidy 03_tensors`` writes the
file in its stored form without running it: cell ids follow the cells' text, and outputs
stay. Whether they still hold is for the tests to say. Both write into the opening how
long the chapter takes to read (:mod:`booktools.reading`) and, where that was measured,
to run.
"""

import copy
import subprocess
import sys
import time
from pathlib import Path

from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from booktools import (
    cell_compare,
    instruments,
    kernel,
    notebook,
    reading,
    structure,
)
from booktools.costs import measured

USAGE = (
    "usage: python -m booktools.run_chapter [--tidy] CHAPTER, for example 03_tensors"
)


class Client(NotebookClient):
    """nbclient, which notes what a cell sends that could not be compared later.

    nbval knows neither messages that change an earlier output nor widgets: what a
    reader's notebook shows after them is not what the tests would see.
    """

    NOT_COMPARED = {
        "clear_output": "clears its output",
        "update_display_data": "changes what it has displayed",
        "comm_open": "opens a widget",
    }

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.refused: list[str] = []

    def process_message(self, msg, cell, cell_index):
        if what := self.NOT_COMPARED.get(msg["header"]["msg_type"]):
            number = sum(c.cell_type == "code" for c in self.nb.cells[: cell_index + 1])
            self.refused.append(f"code cell {number} {what}")
        return super().process_message(msg, cell, cell_index)


def target(profile: str, source: Path) -> Path:
    """Where outputs go: over the chapter in ``mini``, beside the book in ``full``."""
    if profile == "full":
        return notebook.ROOT / "_build" / "full" / source.name
    return source


def run(source: Path, destination: Path) -> float:
    """Execute the notebook ``source``, store it at ``destination``, return the seconds.

    Nothing is written unless every cell ran, apart from cells that are tagged
    ``raises-exception``. Where a cell's new outputs count as equal to the stored ones,
    the stored ones stay, so that a second run changes nothing.

    Raises:
        notebook.BadNotebook: unreadable, or a cell failed or sent what the tests cannot
            compare; the message is one line.
    """
    if asked := instruments.requested():
        raise notebook.BadNotebook(
            f"{source.name}: not run: outputs are stored without {' and '.join(asked)}"
        )
    book = notebook.read(source)
    stored = copy.deepcopy(book)
    client = Client(
        book,
        timeout=kernel.CELL_TIMEOUT,
        kernel_name="python3",
        resources={"metadata": {"path": str(source.parent)}},
    )
    reached = {"cell": 0, "process": None}

    def remember(cell, cell_index):
        reached["cell"] += cell.cell_type == "code"
        reached["process"] = client.km.provisioner.process

    client.on_cell_execute = remember
    start = time.perf_counter()
    try:
        with kernel.applied():
            # The kernel's own log lines are not part of a chapter.
            client.execute(stderr=subprocess.DEVNULL)
    except CellExecutionError as error:
        cells = [c for c in book.cells if c.cell_type == "code"]
        failed = [
            i
            for i, c in enumerate(cells, 1)
            if any(o.output_type == "error" for o in c.outputs)
            and "raises-exception" not in c.metadata.get("tags", [])
        ]
        number = failed[-1] if failed else "?"
        first = (str(error.evalue).splitlines() or [""])[0]
        raise notebook.BadNotebook(
            f"{source.name}: code cell {number} raised {error.ename}: {first}"
        ) from error
    except (CellTimeoutError, DeadKernelError) as error:
        first = (str(error).splitlines() or [""])[0]
        if isinstance(error, DeadKernelError):
            first = kernel.death(reached["process"]) or first
        raise notebook.BadNotebook(
            f"{source.name}: code cell {reached['cell']}: {first}"
        ) from error
    seconds = time.perf_counter() - start
    if client.refused:
        raise notebook.BadNotebook(
            f"{source.name}: {client.refused[0]}, which the tests could not compare: "
            "print or draw what is to stay, once"
        )
    notebook.tidy(book)
    keep_equal(stored, book)
    store(book, destination)
    return seconds


def store(book, destination: Path) -> None:
    """Write a notebook in its stored form, with the times that were counted."""
    cost = measured(notebook.ROOT).get(f"chapters/{destination.name}")
    reading.renew(book, cost)
    notebook.write(notebook.tidy(book), destination)


def keep_equal(stored, book) -> None:
    """Put the stored outputs back into ``book`` where the new ones count as equal.

    Cells are matched by their code; one that is there twice, in order.
    """
    known: dict[str, list] = {}
    for cell in structure.code_cells(stored):
        if cell.execution_count is not None:
            known.setdefault(cell.source.rstrip(), []).append(cell)
    for cell in structure.code_cells(book):
        if not known.get(cell.source):
            continue
        old = known[cell.source].pop(0)
        ignored = structure.IGNORE in structure.tags_of(cell)
        same_kind = bool(old.outputs) == bool(cell.outputs)
        try:
            equal = not cell_compare.compare(old.outputs, cell.outputs, cell.metadata)
        except (KeyError, TypeError, AttributeError):  # a tolerance not well stated
            equal = False
        if equal or (ignored and same_kind):
            cell.outputs = old.outputs
    notebook.tidy(book)


def main(arguments: list[str]) -> int:
    only_tidy = arguments[:1] == ["--tidy"]
    arguments = arguments[only_tidy:]
    if len(arguments) != 1 or not arguments[0]:
        print(USAGE, file=sys.stderr)
        return 2
    name = arguments[0].removesuffix(".ipynb").removeprefix("chapters/")
    source = notebook.CHAPTERS / f"{name}.ipynb"
    if "/" in name or not source.is_file():
        known = ", ".join(sorted(p.stem for p in notebook.CHAPTERS.glob("*.ipynb")))
        print(f"no chapter {arguments[0]!r}; there are: {known}", file=sys.stderr)
        return 2
    try:
        if only_tidy:
            store(notebook.read(source), source)
            print(f"{source.relative_to(notebook.ROOT)}: stored, not run")
            return 0
        from course_utils.runtime import profile

        destination = target(profile(), source)
        seconds = run(source, destination)
    except ValueError as error:  # BadNotebook, or a misspelled COURSE_PROFILE
        print(error, file=sys.stderr)
        return 1
    shown = destination.relative_to(notebook.ROOT)
    print(f"{shown}: ran in {seconds:.0f} s and stored")
    for problem in structure.comparable(notebook.read(destination)):
        print(f"the tests will refuse it: {problem}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Run the chapters under pytest and compare every output with the stored one.

nbval executes a notebook's code cells one by one and compares texts letter by letter.
This plugin keeps the first half and replaces the second:

- texts are compared by :mod:`booktools.text_compare` (floats as numbers), pictures by
  :mod:`booktools.figure_compare`; any stderr is a failure, also in an ignored cell;
- a notebook that could not be compared honestly (never run, a tolerance or an ignored
  cell without a reason, ...) fails as a whole: :func:`booktools.structure.comparable`;
- options and selections that would compare nothing, or cells out of their context, are
  refused;
- the kernel gets the settings of :mod:`booktools.kernel`;
- the last but one line says how much was compared. A *cell compared* is a code cell
  that ran and whose outputs were held against the stored ones, whether they agreed or
  not; one that stores nothing was checked to print nothing. A *figure compared* is a
  stored picture of such a cell. Ignored cells count as neither.
"""

import os
import textwrap
import time
from queue import Empty

import pytest
from nbval.plugin import IPyNbCell, IPyNbFile, NbCellError

from booktools import (
    cell_compare,
    figure_compare,
    instruments,
    kernel,
    notebook,
    structure,
)

OUTPUT_TIMEOUT = 60  # seconds; nbval gives up after 5, too few on a loaded machine
POLL = 2  # seconds between two looks at whether the kernel is alive
COUNTS = ("cells", "figures", "ignored", "loosened")

REFUSED = {
    "nbval_lax": "--nbval-lax compares nothing",
    "nbval_kernel_name": "--nbval-kernel-name runs another environment than this one",
    "nbval_sanitize_with": "--nbval-sanitize-with hides differences",
    "sanitize_with": "--sanitize-with hides differences",
    "nbdime": "--nbdime compares differently",
    "current_env": "--current-env is always on",
}


def pytest_addoption(parser, pluginmanager):
    if pluginmanager.is_blocked("nbval"):
        raise pytest.UsageError("refused: without nbval no notebook would be compared")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    for option, reason in REFUSED.items():
        if getattr(config.option, option, None):
            raise pytest.UsageError(f"refused: {reason}; type plain pytest")
    if not config.option.nbval:
        raise pytest.UsageError("refused: --nbval is missing from pyproject.toml")
    if os.environ.get("COURSE_PROFILE", "mini") not in ("", "mini"):
        raise pytest.UsageError(
            "refused: the stored outputs are those of the mini profile; unset "
            "COURSE_PROFILE (make run in full writes to _build/full)"
        )
    if reason := instruments.problem():
        raise pytest.UsageError(f"refused: {reason}")
    config.option.nbval_cell_timeout = kernel.CELL_TIMEOUT
    if workers := len(getattr(config.option, "tx", None) or []):  # pytest -n
        kernel.prepare()  # once, not in each worker
        # More threads than cores only wait for each other, here as in the kernels.
        threads = str(kernel.threads_per_worker(workers))
        os.environ.setdefault("OMP_NUM_THREADS", threads)
    config.pluginmanager.register(Totals(), "book-totals")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Under ``-n`` keep the cells of a notebook on one worker, in their order.

    The files start in the order in which they were collected (:mod:`booktools.costs`),
    not in xdist's own, which puts those with the most tests first.
    """
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False
    return LoadFileScheduling(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path, parent):
    found = yield
    return [
        Notebook.from_parent(parent, path=file_path) if type(c) is IPyNbFile else c
        for c in found
    ]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items):
    """A cell without the cells before it means nothing: select whole notebooks."""
    yield
    chosen: dict[Notebook, int] = {}
    for item in items:
        if isinstance(item, Cell):
            chosen[item.parent] = chosen.get(item.parent, 0) + 1
    for book, count in chosen.items():
        book.cells_missing = book.cells_collected - count


class Notebook(IPyNbFile):
    """A chapter: collected only if it can be compared, run in one kernel."""

    cells_collected = cells_missing = 0
    death = ""  # how and where the kernel died, if it did

    def collect(self):
        try:
            problems = structure.comparable(notebook.read(self.path))
        except notebook.BadNotebook as error:
            raise self.CollectError(str(error)) from None
        if problems:
            lines = [f"{self.path.name} cannot be compared:", *problems]
            raise self.CollectError("\n  ".join(lines))
        cells = [
            Cell.from_parent(
                self,
                name=f"Cell {item.cell_num + 1}",  # the n of In [n]
                cell_num=item.cell_num + 1,
                cell=item.cell,
                options=item.options,
            )
            for item in super().collect()
        ]
        self.cells_collected = len(cells)
        return cells

    def setup(self):
        workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
        with kernel.applied(kernel.threads_per_worker(workers)):
            super().setup()
        if instruments.requested():
            self._check_instruments()
        # nbval runs cells without history, where "x = 1;" would print: run as Jupyter.
        self.kernel.execute_cell_input = self._execute
        self.kernel.get_message = self._get_message

    def _check_instruments(self):
        """Fail the whole notebook where the instruments asked for are not on."""
        reply = self.kernel.kc.execute_interactive(
            instruments.PROBE, silent=True, store_history=False, timeout=300
        )
        if reply["content"]["status"] != "ok":
            raise RuntimeError(reply["content"].get("evalue", "the kernel died"))

    def _execute(self, source, allow_stdin=None):
        return self.kernel.kc.execute(
            source, store_history=True, allow_stdin=allow_stdin, stop_on_error=False
        )

    def _get_message(self, stream, timeout=None):
        """As nbval's, which would wait for a dead kernel until the time is over."""
        client = self.kernel.kc
        get = client.get_iopub_msg if stream == "iopub" else client.get_shell_msg
        end = float("inf") if timeout is None else time.monotonic() + timeout
        while True:
            try:
                return get(timeout=max(0.0, min(POLL, end - time.monotonic())))
            except Empty:
                if death := kernel.death(self.kernel.km.provisioner.process):
                    raise KernelDied(death) from None
                if time.monotonic() >= end:
                    raise


class Cell(IPyNbCell):
    """A code cell: run, compare, keep count."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.output_timeout = OUTPUT_TIMEOUT
        self.ignored = not self.options["check"]
        self.options["check"] = True  # compare_outputs below sees ignored cells, too

    def runtest(self):
        if self.parent.cells_missing:
            raise Refused(
                f"{self.parent.path.name}: {self.parent.cells_missing} of "
                f"{self.parent.cells_collected} cells are not selected; a cell runs "
                "only after all before it, so select whole notebooks"
            )
        if self.parent.death:
            raise Refused(f"{self.parent.path.name}: {self.parent.death}")
        try:
            super().runtest()
        except KernelDied as error:
            self.parent.death = f"{error} in cell {self.cell_num}"
            raise Refused(f"{self.parent.path.name}: {self.parent.death}") from None

    def compare_outputs(self, test, ref, skip_compare=None) -> bool:
        figures = len(cell_compare.outputs_of(ref).pictures)
        if self.ignored:
            counts = {"ignored": 1}
            new = cell_compare.outputs_of(test).texts.get("stderr")
            found = [cell_compare.Difference("a warning", new=new[0])] if new else []
        else:
            loosened = figures if "figure_tolerance" in self.cell.metadata else 0
            counts = {"cells": 1, "figures": figures, "loosened": loosened}
            found = cell_compare.compare(ref, test, self.cell.metadata)
        self.user_properties.append(("book", counts))
        self.comparison_traceback = [self._show(difference) for difference in found]
        return not found

    def _show(self, difference: cell_compare.Difference) -> str:
        lines = [difference.what]
        if difference.pictures:
            lines += ["  " + path for path in self._save(difference)]
        elif difference.stored or difference.new:
            lines += ["  stored:", _quote(difference.stored, difference.new)]
            lines += ["  new:", _quote(difference.new, difference.stored)]
        return "\n".join(lines)

    def _save(self, difference) -> list[str]:
        """Leave stored, new and difference pictures; return where."""
        folder = self.config.rootpath / "_build" / "figure_diffs"
        folder.mkdir(parents=True, exist_ok=True)
        number = difference.what.split(":")[0].replace(" ", "")
        stem = f"{self.parent.path.stem}-cell{self.cell_num}-{number}"
        stored, new = difference.pictures
        pictures = {
            "stored": figure_compare.to_image(stored),
            "new": figure_compare.to_image(new),
            "difference": figure_compare.difference_picture(stored, new),
        }
        paths = []
        for name, picture in pictures.items():
            path = folder / f"{stem}-{name}.png"
            picture.save(path)
            paths.append(str(path))
        return paths

    def repr_failure(self, excinfo):
        error = excinfo.value
        if isinstance(error, Refused):
            return str(error)
        if not isinstance(error, NbCellError):
            return f"{self.parent.path.name}, cell {self.cell_num}: {error!r}"
        parts = [f"{self.parent.path.name}, cell {self.cell_num}: {error}"]
        parts.append(textwrap.indent(error.source, "    "))
        if error.inner_traceback:
            parts.append(notebook.ANSI.sub("", error.inner_traceback).strip())
        return "\n\n".join(parts)

    def reportinfo(self):
        return self.path, None, f"{self.parent.path.name}: cell {self.cell_num}"


class Refused(Exception):
    """A cell that cannot run in its context; the message says all there is to say."""


class KernelDied(Exception):
    """The kernel's process has ended; the message says how."""


def _quote(text: str, other: str, most: int = 30) -> str:
    """A text, marked where its lines differ from the other's, cut where it is long."""
    theirs = set(other.splitlines())
    lines = [
        f"  {' ' if line in theirs else '>'} | {line}" for line in text.splitlines()
    ]
    if len(lines) > most:
        first = next((i for i, line in enumerate(lines) if line[2] == ">"), 0)
        start = max(0, min(first - 3, len(lines) - most))
        left = [f"    ... {start} lines"] if start else []
        rest = len(lines) - start - most
        lines = left + lines[start : start + most]
        lines += [f"    ... {rest} lines"] if rest else []
    return "\n".join(lines) or "    (nothing)"


class Totals:
    """Adds up what the cells counted, over all workers, and prints it."""

    def __init__(self):
        self.counts = dict.fromkeys(COUNTS, 0)

    def pytest_runtest_logreport(self, report):
        if report.when == "call":
            for name, counts in report.user_properties:
                if name == "book":
                    for key, count in counts.items():
                        self.counts[key] += count

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter):
        yield
        terminalreporter.write_line(summary(**self.counts))


def summary(cells: int, figures: int, ignored: int, loosened: int) -> str:
    """The line above pytest's last one."""
    share = 100 * ignored / max(1, cells + ignored)
    loose = 100 * loosened / max(1, figures)
    return (
        f"book: {cells} cells compared, {figures} figures compared, "
        f"{ignored} ignored ({share:.1f} %), "
        f"{loosened} figures loosened ({loose:.1f} %)"
    )

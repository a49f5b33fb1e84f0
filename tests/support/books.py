"""Small books for the tests of the tests: a folder that pytest runs as it runs ours."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

from nbformat.v4 import (
    new_code_cell,
    new_markdown_cell,
    new_notebook,
    new_output,
)

from booktools import notebook


def code(source: str, printed: str = "", count: int | None = None, **metadata):
    """A code cell that has stored this text."""
    outputs = [new_output("stream", name="stdout", text=printed)] if printed else []
    return new_code_cell(
        source, outputs=outputs, execution_count=count, metadata=metadata
    )


def build(cells: list, run: bool = False):
    """A notebook in the stored form; with ``run`` its cells count as run, in order."""
    book = new_notebook(cells=cells)
    if run:
        number = 0
        for cell in book.cells:
            if cell.cell_type == "code":
                number += 1
                cell.execution_count = number
    return notebook.tidy(book)


def project(folder: Path) -> Path:
    """A folder with our pytest configuration and nothing else."""
    (folder / "chapters").mkdir()
    (folder / "tests").mkdir()
    (folder / "tests" / "test_one.py").write_text("def test_one():\n    pass\n")
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(notebook.ROOT / name, folder / name)
    return folder


def clean_environment(**extra: str) -> dict[str, str]:
    """This environment without what an outer pytest, make or reader has set."""
    drop = re.compile(r"PYTEST_|COURSE_|OMP_|MKL_|ATEN_|ONEDNN_|TQDM_|PYTHONWARNINGS")
    kept = {k: v for k, v in os.environ.items() if not drop.match(k)}
    return {**kept, "PYTHONPATH": str(notebook.ROOT), **extra}


# Half of a small run's time would go into importing hypothesis.
LIGHT = ("-p", "no:hypothesispytest")


class Run:
    """What a pytest run in a project said: exit code, text, outcome of each test."""

    def __init__(self, folder: Path, *arguments: str, cwd: str = ".", **extra: str):
        report = folder / "report.xml"
        report.unlink(missing_ok=True)
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *LIGHT]
            + [f"--junitxml={report}", *arguments],
            cwd=folder / cwd,
            env=clean_environment(**extra),
            capture_output=True,
            text=True,
            timeout=600,  # far more than ten times what a run takes
        )
        self.code, self.text = done.returncode, done.stdout + done.stderr
        self.outcomes: dict[tuple[str, str], str] = {}
        self.messages: dict[tuple[str, str], str] = {}
        if report.is_file():
            self._read(report)

    def _read(self, report: Path) -> None:
        for case in ElementTree.parse(report).iter("testcase"):
            book = case.get("classname", "").split(".")[-1]
            book = book if book != "ipynb" else case.get("classname").split(".")[-2]
            name = case.get("name", "")
            bad = [c for c in case if c.tag in ("failure", "error")]
            key = (book, name)
            self.outcomes[key] = "red" if bad else "green"
            self.messages[key] = "".join(c.text or "" for c in bad)

    @property
    def summary(self) -> str:
        """The line above pytest's last one."""
        lines = [line for line in self.text.splitlines() if line.strip()]
        found = [i for i, line in enumerate(lines) if line.startswith("book: ")]
        assert len(found) == 1, self.text
        return lines[found[0]]

    @property
    def verdict(self) -> dict:
        return {k: v for k, v in self.outcomes.items() if k[1].startswith("Cell")}


markdown = new_markdown_cell

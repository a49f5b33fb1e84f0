"""Google Colab, simulated: a fresh kernel with a stand-in ``google.colab`` module.

The kernel starts in an empty folder, does not find ``course_utils``, and gets the
course by cloning a local repository, as it would clone the public one. One kernel runs
the set-up cell, which is the same in every chapter, and then the imports cell of every
chapter, each in names of its own; a second one runs the lightest chapter whole. With
``COURSE_COLAB=all`` (part of ``make test-slow``) every chapter runs whole.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import torch
from nbclient import NotebookClient

from booktools import kernel, notebook
from booktools.repository import address
from booktools.setup_cell import setup_cell

CHAPTERS = sorted(p.stem for p in notebook.CHAPTERS.glob("*.ipynb"))
LIGHTEST = "03_tensors"
WHOLE = CHAPTERS if os.environ.get("COURSE_COLAB") == "all" else [LIGHTEST]

# On Colab the course is not installed: take the editable install out of the process.
SITE = """
import sys
root = {root!r}
sys.path[:] = [p for p in sys.path if not p.startswith(root) or ".venv" in p]
sys.meta_path[:] = [f for f in sys.meta_path if "__editable__" not in str(f)]
sys.path_hooks[:] = [h for h in sys.path_hooks if "__editable__" not in str(h)]
"""


@pytest.fixture(scope="module")
def remote(tmp_path_factory):
    """A local git repository with the course's files as they are now."""
    folder = tmp_path_factory.mktemp("remote") / "course"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=notebook.ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("not a git checkout: nothing to clone from")
    for name in filter(None, listed.stdout.splitlines()):
        if (notebook.ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(notebook.ROOT / name, folder / name)
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "course"]):
        subprocess.run(["git", *identity, *command], cwd=folder, check=True)
    return folder.as_uri()


def execute(sources, folder):
    """Run code cells in a kernel that starts as on Colab; the notebook with outputs.

    An empty home, an empty working folder, a stand-in for ``google.colab``. A cell that
    fails does not stop the next.
    """
    stub, work, home = folder / "stub", folder / "content", folder / "home"
    (stub / "google" / "colab").mkdir(parents=True)
    (stub / "google" / "__init__.py").write_text(
        "from pkgutil import extend_path\n__path__ = extend_path(__path__, __name__)\n"
    )
    (stub / "google" / "colab" / "__init__.py").write_text("")
    (stub / "sitecustomize.py").write_text(SITE.format(root=str(notebook.ROOT)))
    work.mkdir()
    home.mkdir()
    kernel.prepare()
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    book = nbformat.v4.new_notebook(cells=cells)
    client = NotebookClient(
        book,
        timeout=kernel.CELL_TIMEOUT,
        kernel_name="python3",
        allow_errors=True,
        resources={"metadata": {"path": str(work)}},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(stub))
        # Colab has these two: the ImageNet weights, and matplotlib's list of fonts.
        patch.setenv("TORCH_HOME", str(Path(torch.hub.get_dir()).parent))
        patch.setenv("MPLCONFIGDIR", str(kernel.MATPLOTLIB))
        patch.setenv("HOME", str(home))
        client.execute()
    return book


def errors(cell) -> list[str]:
    """What a cell raised, or wrote to stderr."""
    raised = [f"{o.ename}: {o.evalue}" for o in cell.outputs if "ename" in o]
    return raised + [o.text for o in cell.outputs if o.get("name") == "stderr"]


ABSENT = "import importlib.util as u\nassert u.find_spec('course_utils') is None"
CLONED = """
import course_utils, os, pathlib
home = pathlib.Path('~/tensors-to-detectors').expanduser()
assert pathlib.Path(course_utils.__file__).is_relative_to(home)
assert pathlib.Path.cwd() == home / 'chapters'
""".strip()
WHERE = "import os\nprint(os.getcwd())"


def sources_of(name):
    """A chapter's code cells after the set-up cell."""
    book = notebook.read(notebook.CHAPTERS / f"{name}.ipynb")
    setup, *others = [c.source for c in book.cells if c.cell_type == "code"]
    assert setup == setup_cell(address(), name), "the set-up cell comes first"
    return others


@pytest.fixture(scope="module")
def opened(remote, tmp_path_factory):
    """The cells of one session, by what they are."""
    url = setup_cell(remote)
    sources = {"no address": setup_cell(""), "absent": ABSENT, "set-up": url}
    sources |= {"cloned": CLONED, "before": WHERE, "again": url, "after": WHERE}
    for name in CHAPTERS:
        imports = sources_of(name)[0]
        sources[name] = f"exec({imports!r}, {{'__name__': '__main__'}})"
    book = execute(sources.values(), tmp_path_factory.mktemp("colab"))
    return dict(zip(sources, book.cells, strict=True))


def test_without_an_address_the_cell_says_what_to_do(opened):
    [error] = errors(opened["no address"])
    assert error.startswith("RuntimeError") and "make repository URL=" in error


@pytest.mark.parametrize("step", ["absent", "set-up", "cloned"])
def test_the_set_up_cell_fetches_the_course(opened, step):
    assert errors(opened[step]) == []


def test_setup_cell_twice(opened):
    """Running the cell again, as readers do, changes nothing."""
    assert errors(opened["again"]) == []
    assert opened["before"].outputs == opened["after"].outputs
    assert opened["before"].outputs[0].text.strip()


@pytest.mark.parametrize("name", CHAPTERS)
def test_imports(name, opened):
    assert errors(opened[name]) == []


@pytest.mark.parametrize("name", WHOLE)
def test_whole_chapter(name, remote, tmp_path):
    sources = [ABSENT, setup_cell(remote, name), CLONED, *sources_of(name)]
    cells = execute(sources, tmp_path).cells
    assert all(c.execution_count for c in cells)
    book = notebook.read(notebook.CHAPTERS / f"{name}.ipynb")
    stored = [c for c in book.cells if c.cell_type == "code"][1:]
    for cell, old in zip(cells[3:], stored, strict=True):
        raises = "raises-exception" in old.metadata.get("tags", [])
        assert bool(errors(cell)) == raises, (cell.source, errors(cell))
    assert [errors(cell) for cell in cells[:3]] == [[], [], []]


def test_elsewhere_the_cell_is_silent(tmp_path):
    """Without google.colab nothing happens: no output, no clone, the same folder."""
    script = setup_cell("https://example.org/x/y") + "\nassert not os.listdir('.')"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

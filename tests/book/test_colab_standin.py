"""Google Colab, simulated: a fresh kernel with a stand-in ``google.colab`` module.

The kernel starts in an empty folder, does not find ``course_utils``, and gets the
course by cloning a local repository, as it would clone the public one. The first two
cells of every chapter run, and one chapter whole; with ``COURSE_COLAB=all`` (part of
``make test-slow``) every chapter runs whole.
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
from nbclient.exceptions import CellExecutionError

from booktools import notebook
from booktools.setup_cell import setup_cell

CHAPTERS = sorted(p.stem for p in notebook.CHAPTERS.glob("*.ipynb"))
WHOLE = CHAPTERS if os.environ.get("COURSE_COLAB") == "all" else CHAPTERS[-1:]

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


@pytest.fixture
def colab(tmp_path, monkeypatch):
    """An empty home, and an environment that looks like Colab's to a new kernel."""
    stub = tmp_path / "stub"
    (stub / "google" / "colab").mkdir(parents=True)
    (stub / "google" / "__init__.py").write_text(
        "from pkgutil import extend_path\n__path__ = extend_path(__path__, __name__)\n"
    )
    (stub / "google" / "colab" / "__init__.py").write_text("")
    (stub / "sitecustomize.py").write_text(SITE.format(root=str(notebook.ROOT)))
    work = tmp_path / "content"
    work.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(stub))
    # Colab fetches the ImageNet weights from torchvision; here they are in the cache.
    monkeypatch.setenv("TORCH_HOME", str(Path(torch.hub.get_dir()).parent))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return work


def execute(cells, work):
    book = nbformat.v4.new_notebook(cells=cells)
    client = NotebookClient(
        book,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(work)}},
    )
    client.execute()
    return book


def code(source):
    return nbformat.v4.new_code_cell(source)


def chapter_cells(name, url):
    """A chapter's code cells with the address set, and two probes around the set-up."""
    cells = [c for c in notebook.read(notebook.CHAPTERS / f"{name}.ipynb").cells]
    cells = [c for c in cells if c.cell_type == "code"]
    assert cells[0].source == setup_cell(""), "the first code cell is the set-up cell"
    absent = code(
        "import importlib.util as u\nassert u.find_spec('course_utils') is None"
    )
    cloned = code(
        "import course_utils, os, pathlib\n"
        "home = pathlib.Path('~/tensors-to-detectors').expanduser()\n"
        "assert pathlib.Path(course_utils.__file__).is_relative_to(home)\n"
        "assert pathlib.Path.cwd() == home / 'chapters'"
    )
    return [absent, code(setup_cell(url)), cloned, *cells[1:]]


@pytest.mark.parametrize("name", [c for c in CHAPTERS if c not in WHOLE])
def test_first_two_cells(name, remote, colab):
    execute(chapter_cells(name, remote)[:4], colab)


@pytest.mark.parametrize("name", WHOLE)
def test_whole_chapter(name, remote, colab):
    book = execute(chapter_cells(name, remote), colab)
    assert all(c.execution_count for c in book.cells)


def test_setup_cell_twice(remote, colab):
    """Running the cell again, as readers do, changes nothing."""
    cell = setup_cell(remote)
    where = "import os\nprint(os.getcwd())"
    book = execute([code(cell), code(where), code(cell), code(where)], colab)
    assert book.cells[1].outputs == book.cells[3].outputs


def test_without_an_address_the_cell_says_what_to_do(colab):
    with pytest.raises(CellExecutionError, match="make repository URL="):
        execute([code(setup_cell(""))], colab)


def test_elsewhere_the_cell_is_silent(tmp_path):
    """Without google.colab nothing happens: no output, no clone, the same folder."""
    script = setup_cell("https://example.org/x/y") + "\nassert not os.listdir('.')"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

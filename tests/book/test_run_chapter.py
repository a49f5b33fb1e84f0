"""``make run``: clean outputs in place; bad input: one clear line, no file changed."""

import json
import os
import subprocess
import sys

import pytest
from books import build, clean_environment, code, markdown

from booktools import kernel, notebook, run_chapter


@pytest.fixture
def chapters(tmp_path, monkeypatch):
    """An empty folder in place of the book's."""
    folder = tmp_path / "chapters"
    folder.mkdir()
    monkeypatch.setattr(notebook, "ROOT", tmp_path)
    monkeypatch.setattr(notebook, "CHAPTERS", folder)
    monkeypatch.delenv("COURSE_PROFILE", raising=False)
    return folder


def make(folder, *sources, **metadata):
    path = folder / "01_small.ipynb"
    cells = [markdown("# Title"), *(code(s, **metadata) for s in sources)]
    notebook.write(build(cells), path)
    return path


def main(capfd, *arguments) -> tuple[int, str, str]:
    returned = run_chapter.main(list(arguments))
    captured = capfd.readouterr()
    return returned, captured.out, captured.err


def test_stores_clean_outputs(chapters, capfd):
    path = make(chapters, "import sys\nprint(1)\nprint(2)", "3")
    status, out, err = main(capfd, "01_small")
    assert (status, err) == (0, "")  # no log lines of the kernel either
    assert out.startswith("chapters/01_small.ipynb: ran in ")
    book = notebook.read(path)
    first, second = book.cells[1:]
    assert first.execution_count == 1 and second.execution_count == 2
    assert first.outputs[0].text == "1\n2\n"
    assert second.outputs[0].data == {"text/plain": "3"}
    assert "execution" not in first.metadata
    assert set(book.metadata) == {"kernelspec", "language_info"}


def test_second_run_changes_nothing(chapters, capfd):
    """Where the new output counts as equal, the stored one stays."""
    source = (
        "import time\nprint(f'{0.1 + time.time() % 1e-7:.6f}')\nprint('%.4f' % 0.25)"
    )
    path = make(
        chapters, source, "# a figure\nimport matplotlib.pyplot as plt\nplt.plot()"
    )
    assert main(capfd, "01_small")[0] == 0
    before = path.read_bytes()
    assert main(capfd, "chapters/01_small.ipynb")[0] == 0
    assert path.read_bytes() == before


def test_stored_output_stays_where_equal_only(chapters, capfd):
    path = make(chapters, "print('0.1235')", "print('0.1235')\nprint('b')")
    book = notebook.read(path)
    book.cells[1].outputs = code("", "0.1234\n").outputs  # equal under the rules
    book.cells[2].outputs = code("", "0.1234\na\n").outputs  # not equal
    book.cells[1].execution_count = book.cells[2].execution_count = 9
    notebook.write(book, path)
    assert main(capfd, "01_small")[0] == 0
    cells = notebook.read(path).cells
    assert cells[1].outputs[0].text == "0.1234\n"
    assert cells[2].outputs[0].text == "0.1235\nb\n"
    assert [c.execution_count for c in cells[1:]] == [1, 2]


def test_stored_error_is_trimmed(chapters, capfd):
    source = "import json\njson.loads('{')"
    path = make(chapters, source, tags=["raises-exception"])
    assert main(capfd, "01_small")[0] == 0
    error = notebook.read(path).cells[1].outputs[0]
    assert error.ename == "JSONDecodeError"
    text = "\n".join(error.traceback)
    assert "json.loads" in text and "decoder.py" not in text and "\x1b" not in text


def test_warns_of_what_the_tests_will_refuse(chapters, capfd):
    make(chapters, "import warnings\nwarnings.warn('old')")
    status, _, err = main(capfd, "01_small")
    assert status == 0
    assert "the tests will refuse it: cell 1: stores a warning" in err


def test_tidy_stores_without_running(chapters, capfd):
    """After an edit by hand: new cell ids, the outputs as they were."""
    path = make(chapters, "print(1)", "2")
    assert main(capfd, "01_small")[0] == 0
    before = notebook.read(path)
    path.write_text(path.read_text().replace("print(1)", "print(9)"))
    assert main(capfd, "--tidy", "01_small")[:2] == (
        0,
        "chapters/01_small.ipynb: stored, not run\n",
    )
    after = notebook.read(path)
    assert path.read_text() == notebook.text(notebook.tidy(after))
    assert [c.get("outputs") for c in after.cells] == [
        c.get("outputs") for c in before.cells
    ]
    same = [a.id == b.id for a, b in zip(after.cells, before.cells, strict=True)]
    assert same == [True, False, True]


def test_times_are_counted_wherever_a_chapter_is_stored(chapters, capfd):
    path = make(chapters, "1")
    opening = "# T\n\n**Takes** about an hour.\n\n**Runs in** about 9 CPU-seconds."
    book = notebook.read(path)
    book.cells[0].source = opening
    notebook.write(book, path)
    assert main(capfd, "01_small")[0] == 0
    times = "# T\n\n**Takes** about 5 minutes to read, and 0 for the exercises.\n\n"
    text = f"{times}**Runs in** about 9 CPU-seconds."
    assert notebook.read(path).cells[0].source == text
    table = notebook.ROOT / "tests" / "costs.json"
    table.parent.mkdir()
    table.write_text('{"measured": {"chapters/01_small.ipynb": 3.6}}')
    assert main(capfd, "--tidy", "01_small")[0] == 0
    book = notebook.read(path)
    assert book.cells[0].source == text.replace("9 CPU", "4 CPU")
    assert path.read_text() == notebook.text(notebook.tidy(book))


@pytest.mark.parametrize(
    "arguments", [["--tidy"], ["--tidy", "a", "b"], ["--tidy", "x"]]
)
def test_tidy_of_nothing(chapters, capfd, arguments):
    make(chapters, "1")
    status, out, err = main(capfd, *arguments)
    assert (status, out) == (2, "") and len(err.splitlines()) == 1


def test_failing_cell(chapters, capfd):
    path = make(chapters, "x = 1", "1 / 0", "print(3)")
    before = path.read_bytes()
    status, out, err = main(capfd, "01_small")
    assert (status, out) == (1, "")
    expected = (
        "01_small.ipynb: code cell 2 raised ZeroDivisionError: division by zero\n"
    )
    assert err == expected
    assert path.read_bytes() == before


def test_a_dead_kernel_is_one_clear_line(chapters, capfd):
    path = make(chapters, "x = 1", "import os\nos._exit(3)", "print(3)")
    before = path.read_bytes()
    status, out, err = main(capfd, "01_small")
    assert (status, out) == (1, "")
    assert err == "01_small.ipynb: code cell 2: the kernel died (exit code 3)\n"
    assert path.read_bytes() == before


def test_the_kernel_imports_from_this_checkout(
    chapters, capfd, monkeypatch, tmp_path_factory
):
    """Also where another checkout's package is found first."""
    other = tmp_path_factory.mktemp("other") / "course_utils"
    other.mkdir()
    (other / "__init__.py").write_text("print('the other one')\n")
    monkeypatch.setenv("PYTHONPATH", str(other.parent))
    here = notebook.__file__.rsplit("/", 2)[0]
    source = "import course_utils, sys\n"
    source += f"print(course_utils.__file__.startswith({here!r}))\n"
    source += f"print({str(other.parent)!r} in sys.path)"
    path = make(chapters, source)
    assert main(capfd, "01_small")[0] == 0
    assert notebook.read(path).cells[1].outputs[0].text == "True\nTrue\n"


DISPLAY = "from IPython.display import clear_output, display\n"
NOT_COMPARED = {
    "clears its output": "print(1)\nclear_output()",
    "changes what it has displayed": "h = display(1, display_id='a')\nh.update(2)",
    "opens a widget": "from comm import create_comm\ncreate_comm(target_name='w')",
}


@pytest.mark.parametrize("what", NOT_COMPARED)
def test_what_cannot_be_compared_is_not_stored(chapters, capfd, what):
    path = make(chapters, "x = 1", DISPLAY + NOT_COMPARED[what], "print(3)")
    before = path.read_bytes()
    status, out, err = main(capfd, "01_small")
    assert (status, out) == (1, "")
    said = f"01_small.ipynb: code cell 2 {what}, which the tests could not compare"
    assert err.startswith(said)
    assert path.read_bytes() == before


def test_a_display_that_stays_as_it_is_is_stored(chapters, capfd):
    path = make(chapters, DISPLAY + "display(1, display_id='a');")
    assert main(capfd, "01_small")[0] == 0
    assert notebook.read(path).cells[1].outputs[0].data == {"text/plain": "1"}


def test_another_python3_on_the_readers_jupyter_path(
    chapters, capfd, monkeypatch, tmp_path_factory
):
    """A kernel of that name in JUPYTER_PATH belongs to another environment."""
    foreign = tmp_path_factory.mktemp("foreign")
    spec = foreign / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    argv = ["false", "{connection_file}"]
    spec.write_text(json.dumps({"argv": argv, "display_name": "P", "language": "x"}))
    monkeypatch.setenv("JUPYTER_PATH", str(foreign))
    path = make(chapters, "print(1)")
    assert main(capfd, "01_small")[0] == 0
    assert notebook.read(path).cells[1].outputs[0].text == "1\n"
    assert os.environ["JUPYTER_PATH"] == str(foreign)


def test_fonts_are_listed_once(monkeypatch, tmp_path):
    calls = []

    def listing(command, env, **options):
        calls.append(command)
        (tmp_path / "fonts" / "fontlist-v1.json").write_text("{}")
        assert env["MPLCONFIGDIR"] == str(tmp_path / "fonts")

    monkeypatch.setattr(kernel, "MATPLOTLIB", tmp_path / "fonts")
    monkeypatch.setattr(subprocess, "run", listing)
    with kernel.applied():
        assert os.environ["MPLCONFIGDIR"] == str(tmp_path / "fonts")
    with kernel.applied():
        pass
    assert len(calls) == 1


def test_full_profile_goes_elsewhere(chapters, capfd, monkeypatch, tmp_path):
    path = make(chapters, "import os\nprint(os.environ['COURSE_PROFILE'])")
    before = path.read_bytes()
    monkeypatch.setenv("COURSE_PROFILE", "full")
    status, out, _ = main(capfd, "01_small")
    assert status == 0 and out.startswith("_build/full/01_small.ipynb")
    assert path.read_bytes() == before
    stored = notebook.read(tmp_path / "_build" / "full" / "01_small.ipynb")
    assert stored.cells[1].outputs[0].text == "full\n"


def test_misspelled_profile(chapters, capfd, monkeypatch):
    path = make(chapters, "1")
    before = path.read_bytes()
    monkeypatch.setenv("COURSE_PROFILE", "large")
    status, _, err = main(capfd, "01_small")
    assert status == 1 and len(err.splitlines()) == 1 and "'large'" in err
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["99_nothing", "../01_small", "", "01_small.py"])
def test_unknown_chapter(chapters, capfd, name):
    make(chapters, "1")
    status, out, err = main(capfd, name)
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert name == "" or "there are: 01_small" in err


BROKEN = {
    "corrupt": ('{"cells": [', "not a notebook"),
    "not a notebook": ("[1, 2]", "not a notebook"),
    "empty": ("", "not a notebook"),
    "newer": (
        json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 9}),
        "notebook format 4.9 is newer than 4.5",
    ),
    "next": (
        json.dumps({"cells": [], "metadata": {}, "nbformat": 5, "nbformat_minor": 0}),
        "notebook format 5.0 is newer than 4.5",
    ),
    "wrong cells": (
        json.dumps({"cells": [1], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}),
        "not a valid notebook",
    ),
    "version of words": (
        json.dumps({"cells": [], "metadata": {}, "nbformat": "four"}),
        "not a notebook",
    ),
    "cells of words": (
        json.dumps({"cells": "a", "metadata": {}, "nbformat": 4, "nbformat_minor": 5}),
        "not a valid notebook",
    ),
}


@pytest.mark.parametrize(("text", "says"), BROKEN.values(), ids=BROKEN)
def test_unreadable_notebook(chapters, capfd, text, says):
    path = chapters / "01_small.ipynb"
    path.write_text(text)
    status, out, err = main(capfd, "01_small")
    assert (status, out) == (1, "")
    assert len(err.splitlines()) == 1 and says in err
    assert path.read_text() == text
    assert [p.name for p in chapters.iterdir()] == ["01_small.ipynb"]


def test_as_a_command():
    """What `make run CHAPTER=nothing` calls."""
    done = subprocess.run(
        [sys.executable, "-m", "booktools.run_chapter", "nothing"],
        cwd=notebook.ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("no chapter 'nothing'; there are: ")
    assert len(done.stderr.splitlines()) == 1

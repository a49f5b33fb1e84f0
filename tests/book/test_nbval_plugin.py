"""Proof that a green run means something: every kind of change turns it red.

Small notebooks are stored in one state and run in another, by pytest in a process of
its own with this project's configuration. A case is ``(what was run when the output was
stored, what is run now)``; one notebook holds many, because a cell that fails does not
stop the next.
"""

import json
import subprocess
import sys

import pytest
from books import Run, build, clean_environment, code, markdown, project

from booktools import cell_compare, notebook, run_chapter

RED = {
    "a digit of a float with three decimals": ("print(0.123)", "print(0.124)"),
    "the third of four decimals": ("print('0.1234')", "print('0.1244')"),
    "a digit before the point": ("print('3.1234')", "print('4.1234')"),
    "two units in the last place": ("print('0.1234')", "print('0.1236')"),
    "an exponent": ("print('1.2346e-05')", "print('1.2346e-06')"),
    "an integer": ("print(12)", "print(13)"),
    "an integer result": ("12", "13"),
    "a word": ("print('a cat')", "print('a cot')"),
    "a shape": ("(2, 3)", "(3, 2)"),
    "a boolean": ("2 > 1", "2 < 1"),
    "nan": ("float('nan')", "float('inf')"),
    "an element more": ("[1, 2]", "[1, 2, 3]"),
    "a missing output": ("print(1)", "pass"),
    "a missing result": ("1", "1;"),
    "an extra output": ("pass", "print(1)"),
    "one of two outputs missing": ("print(1)\n2", "2"),
    "an extra warning": ("print(1)", "import warnings\nwarnings.warn('x')\nprint(1)"),
    "a deprecation": (
        "print(2)",
        "import warnings\nwarnings.warn('x', DeprecationWarning)\nprint(2)",
    ),
    "a line on stderr": (
        "print(3)",
        "import sys\nprint('x', file=sys.stderr)\nprint(3)",
    ),
    "a crash": ("print(1)", "print(1)\n1 / 0"),
    "another error": ("# raises\nint('a')", "# raises\n{}['a']"),
    "another message": ("# raises\nint('a')", "# raises\nint('b')"),
    "no error": ("# raises\nint('a')", "# raises\nint('1')"),
    "HTML": (
        "from IPython.display import HTML\nHTML('<b>1</b>')",
        "from IPython.display import HTML\nHTML('<b>2</b>')",
    ),
    "a warning in an ignored cell": (
        "# ignored\nprint(1)",
        "# ignored\nimport warnings\nwarnings.warn('y')\nprint(1)",
    ),
    "a crash in an ignored cell": ("# ignored\nprint(1)", "# ignored\n1 / 0"),
    "beyond its own tolerance": ("# loose\nprint(0.50)", "# loose\nprint(0.56)"),
    "an integer in a loose cell": ("# loose\nprint(3)", "# loose\nprint(4)"),
    "the last digit of an exact cell": (
        "# exact\nprint('0.12345678')",
        "# exact\nprint('0.12345679')",
    ),
}
GREEN = {
    "the same": ("print('a', 1, 0.5)", "print('a', 1, 0.5)"),
    "the last of four decimals": ("print('0.1234')", "print('0.1235')"),
    "noise of 1e-6": (
        "x = 0.87654321\nprint(f'{x:.6f} [{-x:.4f}] {x:.3e}'.replace('e', 'e'))",
        "x = 0.87654321 * (1 + 1e-6)\nprint(f'{x:.6f} [{-x:.4f}] {x:.3e}')",
    ),
    "another device": (
        "print(\"tensor([1., 2.], device='cuda:0')\")",
        "print('tensor([1., 2.])')",
    ),
    "columns that shift": ("print('[-0.0000,  1.0000]')", "print('[0.0000, 1.0000]')"),
    "no output": ("x = 1", "x = 1;"),
    "the same error": ("# raises\nint('a')", "# raises\nint('a')"),
    "another output in an ignored cell": ("# ignored\nprint(1)", "# ignored\nprint(2)"),
    "within its own tolerance": ("# loose\nprint(0.50)", "# loose\nprint(0.52)"),
    "equal in an exact cell": (
        "# exact\nprint(0.1 + 0.2)",
        "# exact\nprint(0.1 + 0.2)",
    ),
    "output in another order of kinds": ("print(1)\n2", "print(1)\n2"),
    "a caught warning": (
        "import warnings\nwith warnings.catch_warnings(record=True):\n"
        "    warnings.warn('z')\nprint(1)",
        "import warnings\nwith warnings.catch_warnings(record=True):\n"
        "    warnings.warn('z')\nprint(1)",
    ),
}
FIGURE_SETUP = """
import matplotlib.pyplot as plt
from matplotlib_inline.backend_inline import set_matplotlib_formats
set_matplotlib_formats("png", bbox_inches=None)
plt.rcParams["figure.dpi"] = 144
def draw(y=0.5, tick="0.25", colors=("#0072B2", "#D55E00"), box=True, k=1.0, h=3.2):
    fig, ax = plt.subplots(figsize=(6.4, h), layout="constrained")
    ax.plot([0, 2, 4], [0.2 * k, 0.9 * k, y * k], color=colors[0])
    ax.plot([0, 2, 4], [0.8 * k, 0.1 * k, 0.3 * k], "--", color=colors[1])
    ax.axhline(y, color="black")
    ax.set(ylim=(0, 1), xlim=(0, 4))
    ax.set_xticks([1, 2], [tick, "b"])
    if box:
        ax.add_patch(plt.Rectangle((3, 0.6), 0.5, 0.2, fill=False))
    plt.show()
""".strip()
# The axes above are 404 pixels high.
RED_FIGURES = {
    "a line moved by 3 pixels": ("draw()", "draw(y=0.5 + 3 / 404)"),
    "a changed tick label": ("draw()", "draw(tick='0.26')"),
    "swapped colors": ("draw()", "draw(colors=('#D55E00', '#0072B2'))"),
    "a missing box": ("draw()", "draw(box=False)"),
    "beyond a small factor": ("# factor\ndraw()", "# factor\ndraw(box=False)"),
}
# These are red under any version of matplotlib.
RED_EVERYWHERE = {
    "another size": ("draw()", "draw(h=3.3)"),
    "no figure": ("draw()", "pass"),
    "an extra figure": ("pass", "draw()"),
    "two figures for one": ("draw()", "draw(); draw()"),
    "a blank figure": (
        "draw()",
        "plt.figure(figsize=(6.4, 3.2))\nplt.plot()\nplt.axis('off')\nplt.show()",
    ),
}
GREEN_FIGURES = {
    "the same figure": ("draw()", "draw()"),
    "data times (1 + 1e-6)": ("draw()", "draw(k=1 + 1e-6)"),
    "within a factor": ("# factor\ndraw()", "# factor\ndraw(y=0.5 + 0.6 / 404)"),
}
METADATA = {
    "# raises": {"tags": ["raises-exception"]},
    "# ignored": {"tags": ["nbval-ignore-output"], "ignore_reason": "for this test"},
    "# loose": {"tolerance": {"rtol": 0.1, "reason": "for this test"}},
    "# exact": {"tolerance": {"rtol": 0, "reason": "exact in IEEE arithmetic"}},
    "# factor": {"figure_tolerance": {"factor": 2, "reason": "for this test"}},
}


def metadata(source: str) -> dict:
    return METADATA.get(source.splitlines()[0], {})


def store(path, cases: dict, first: str = "import sys") -> None:
    """Run the cells as they were; store what they gave beside the cells as they are."""
    pairs = [(first, first), *cases.values()]
    book = build([code(old, **metadata(old)) for old, _ in pairs])
    notebook.write(book, path)
    run_chapter.run(path, path)
    book = notebook.read(path)
    for cell, (_, new) in zip(book.cells, pairs, strict=True):
        cell.source = new
    notebook.write(notebook.tidy(book), path)


@pytest.fixture(scope="module")
def proof(tmp_path_factory):
    """One run over all cases: the outcome of each, by its name."""
    folder = project(tmp_path_factory.mktemp("proof"))
    texts = {**RED, **GREEN}
    figures = {**RED_FIGURES, **RED_EVERYWHERE, **GREEN_FIGURES}
    store(folder / "chapters" / "texts.ipynb", texts)
    store(folder / "chapters" / "figures.ipynb", figures, FIGURE_SETUP)
    run = Run(folder, "--nbval", "chapters")
    assert run.outcomes, run.text
    run.folder, run.by_name = folder, {}
    for book, cases in (("texts", texts), ("figures", figures)):
        for number, name in enumerate(cases, 2):
            key = (book, f"Cell {number}")
            run.by_name[name] = (run.outcomes[key], run.messages[key])
    return run


@pytest.mark.parametrize("name", [*RED, *RED_FIGURES, *RED_EVERYWHERE])
def test_turns_red(proof, name):
    if name in RED_FIGURES and not cell_compare.figures_enforced():
        pytest.skip("pictures are compared under the pinned matplotlib only")
    outcome, message = proof.by_name[name]
    assert outcome == "red"
    why = "caused an exception" if "a crash" in name else "Cell outputs differ"
    assert why in message  # and not for another reason


@pytest.mark.parametrize("name", [*GREEN, *GREEN_FIGURES])
def test_stays_green(proof, name):
    outcome, message = proof.by_name[name]
    assert outcome == "green", message


def test_failure_shows_cell_stored_and_new(proof):
    message = proof.by_name["a word"][1]
    assert "texts.ipynb, cell " in message
    assert "print('a cot')" in message
    assert "stored:" in message and "> | a cat" in message
    assert "new:" in message and "> | a cot" in message
    assert len(message.splitlines()) < 15


def test_failing_figure_leaves_three_pictures(proof):
    if not cell_compare.figures_enforced():
        pytest.skip("pictures are compared under the pinned matplotlib only")
    message = proof.by_name["a missing box"][1]
    number = 2 + list(RED_FIGURES).index("a missing box")
    for kind in ("stored", "new", "difference"):
        picture = f"figures-cell{number}-figure1-{kind}.png"
        path = proof.folder / "_build" / "figure_diffs" / picture
        assert path.is_file()
        assert str(path) in message


def test_summary_counts(proof):
    """Cells that crash are not compared; all others are, silent ones included."""
    ignored = len([n for n in (RED | GREEN) if "ignored cell" in n]) - 1
    cells = len(RED) - 1 + len(GREEN) - ignored - 1
    cells += len(RED_FIGURES | RED_EVERYWHERE | GREEN_FIGURES)
    cells += 2  # the first cell of each notebook
    assert proof.summary == (
        f"book: {cells} cells compared, 12 figures compared, "
        f"{ignored} ignored ({100 * ignored / (cells + ignored):.1f} %), "
        "2 figures loosened (16.7 %)"
    )


def test_no_kernel_log_lines(proof):
    assert "IPKernelApp" not in proof.text


# --- notebooks that cannot be compared honestly are refused whole -------------------

WITHOUT_REASON = {
    "tolerance without reason": {"tolerance": {"rtol": 0.1}},
    "tolerance with empty reason": {"tolerance": {"rtol": 0.1, "reason": " "}},
    "tolerance with unknown key": {"tolerance": {"rtol": 1, "reason": "x", "tol": 1}},
    "tolerance without rtol": {"tolerance": {"reason": "x"}},
    "negative tolerance": {"tolerance": {"rtol": -1, "reason": "x"}},
    "tolerance that is a number": {"tolerance": 0.1},
    "figure tolerance without reason": {"figure_tolerance": {"factor": 2}},
    "ignored without reason": {"tags": ["nbval-ignore-output"]},
    "skipped": {"tags": ["nbval-skip"]},
}


def refused_books() -> dict:
    def one():
        return code("print(1)", "1\n")

    books = {
        name: build([code("print(1)", "1\n", **data)], run=True)
        for name, data in WITHOUT_REASON.items()
    }
    books["stripped"] = build([code("print(1)"), code("print(2)")])
    books["never run"] = build([one()])
    books["run out of order"] = build([one(), one()], run=True)
    books["run out of order"].cells[1].execution_count = 5
    books["no code"] = build([markdown("# Title")])
    marked = "## NBVAL_IGNORE_OUTPUT\nprint(1)"
    books["comment marker"] = build([code(marked, "1\n")], run=True)
    books["machine path"] = build([code("x", "in /home/me/x.py\n")], run=True)
    books["object address"] = build([code("x", "<A at 0x7f3a2b1c>\n")], run=True)
    books["too many digits"] = build([code("x", "123.4567\n")], run=True)
    warning = build([one()], run=True)
    warning.cells[0].outputs[0]["name"] = "stderr"
    books["stored warning"] = warning
    kernel = build([one()], run=True)
    kernel.metadata.kernelspec.name = "conda-env"
    books["another kernel"] = kernel
    return books


@pytest.fixture(scope="module")
def refusal(tmp_path_factory):
    folder = project(tmp_path_factory.mktemp("refusal"))
    for name, book in refused_books().items():
        notebook.write(book, folder / "chapters" / f"{name.replace(' ', '_')}.ipynb")
    (folder / "chapters" / "corrupt.ipynb").write_text('{"cells": [')
    newer = {"cells": [], "metadata": {}, "nbformat": 5, "nbformat_minor": 0}
    (folder / "chapters" / "newer.ipynb").write_text(json.dumps(newer))
    run = Run(folder, "--nbval", "chapters")
    assert run.code == 1, run.text
    return run


@pytest.mark.parametrize("name", [*refused_books(), "corrupt", "newer"])
def test_refused_at_collection(refusal, name):
    stem = f"{name.replace(' ', '_')}.ipynb"
    assert f"ERROR chapters/{stem}" in refusal.text
    if name in ("corrupt", "newer"):
        says = {"corrupt": "not a notebook", "newer": "notebook format 5.0 is newer"}
        assert f"{stem}: {says[name]}" in refusal.text
    else:
        assert f"{stem} cannot be compared:" in refusal.text


def test_nothing_ran_of_the_refused(refusal):
    assert refusal.summary.startswith("book: 0 cells compared")
    assert "Traceback" not in refusal.text


# --- one verdict, whatever is typed --------------------------------------------------


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two notebooks, one of them with a wrong word in its second cell."""
    folder = project(tmp_path_factory.mktemp("two"))
    for name, printed in (("good", "2\n"), ("wrong", "3\n")):
        book = build([code("x = 1"), code("print(x + 1)", printed)], run=True)
        notebook.write(book, folder / "chapters" / f"{name}.ipynb")
    return folder


COMMANDS = {
    "pytest": [],
    "pytest --nbval chapters/": ["--nbval", "chapters/"],
    "pytest chapters": ["chapters"],
    "pytest -n 2": ["-n", "2"],
    "pytest -n 2 --dist=load": ["-n", "2", "--dist=load", "chapters"],
    "pytest -W error": ["-W", "error", "chapters"],
}


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_one_verdict(two, arguments):
    run = Run(two, *arguments)
    assert run.verdict == {
        ("good", "Cell 1"): "green",
        ("good", "Cell 2"): "green",
        ("wrong", "Cell 1"): "green",
        ("wrong", "Cell 2"): "red",
    }, run.text
    assert run.code == 1
    assert run.summary.startswith("book: 4 cells compared, 0 figures compared, 0 ig")
    last = [line for line in run.text.splitlines() if line.strip()][-2:]
    assert last[0] == run.summary


def test_one_verdict_from_inside_the_folder(two):
    run = Run(two, "--nbval", ".", cwd="chapters")
    assert list(run.verdict.values()).count("red") == 1
    assert run.code == 1


def test_green_run(two):
    run = Run(two, "chapters/good.ipynb")
    assert run.code == 0, run.text


OPTIONS = ["--nbval-lax", "--nbval-kernel-name=x", "--nbval-sanitize-with=x"]
OPTIONS += ["--nbdime", "--current-env", "-pno:nbval", "-oaddopts="]


@pytest.mark.parametrize("option", OPTIONS)
def test_options_that_compare_nothing_are_refused(two, option):
    run = Run(two, option, "chapters")
    assert run.code == 4
    assert [line[:15] for line in run.text.splitlines() if line] == ["ERROR: refused:"]


def test_full_profile_is_refused(two):
    run = Run(two, "chapters", "-n", "2", COURSE_PROFILE="full")
    assert run.code == 4
    assert run.text.strip().startswith("ERROR: refused: the stored outputs are")
    assert len(run.text.strip().splitlines()) == 1


def test_single_cell_is_refused(two):
    run = Run(two, "chapters/good.ipynb::Cell 2")
    assert run.code == 1
    assert "1 of 2 cells are not selected" in run.text


DEATHS = {
    "os._exit(3)": "the kernel died (exit code 3)",
    "os.kill(os.getpid(), 9)": "the kernel died (exit code -9, killed by signal 9)",
}


@pytest.fixture(scope="module")
def deaths(tmp_path_factory):
    """A run over notebooks whose kernels die; it ends long before a cell's time."""
    folder = project(tmp_path_factory.mktemp("deaths"))
    for name, source in zip("ab", DEATHS, strict=True):
        sources = ["import os", source, "print(2)", "print(3)"]
        book = build([code(source) for source in sources], run=True)
        notebook.write(book, folder / "chapters" / f"{name}.ipynb")
    return Run(folder, "chapters")


@pytest.mark.parametrize(
    ("name", "says"), list(zip("ab", DEATHS.values(), strict=True))
)
def test_a_dead_kernel_is_said_at_once(deaths, name, says):
    assert deaths.outcomes[name, "Cell 1"] == "green"
    for cell in ("Cell 2", "Cell 3", "Cell 4"):
        message = deaths.messages[name, cell]
        assert message == f"{name}.ipynb: {says} in cell 2"
    assert deaths.code == 1 and deaths.summary.startswith("book: 2 cells compared")


# --- the kernel's environment --------------------------------------------------------

SHOW = "import os\nprint(*[os.environ.get(n) for n in {names}])"
PERTURBED = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}


@pytest.mark.parametrize("workers", ["0", "2"])
def test_environment_of_the_kernel(tmp_path, workers):
    """The variables of test-perturbed reach the kernel, and so do our own."""
    folder = project(tmp_path)
    perturbed = {**PERTURBED, "OMP_NUM_THREADS": "1"}
    ours = ["PYTHONWARNINGS", "TQDM_DISABLE", "PYTEST_CURRENT_TEST"]
    names = [*perturbed, *ours]
    expected = " ".join([*perturbed.values(), "default", "1", "None"])
    book = build([code(SHOW.format(names=names), expected + "\n")], run=True)
    notebook.write(book, folder / "chapters" / "environment.ipynb")
    run = Run(folder, "-n", workers, "chapters", **perturbed)
    assert run.code == 0, run.text


def test_threads_are_shared_between_workers(tmp_path):
    """cores / workers each, unless the user has set a number."""
    folder = project(tmp_path)
    source = (
        "import os\nfrom booktools.kernel import threads_per_worker\n"
        'print(os.environ["OMP_NUM_THREADS"] == str(threads_per_worker(2)))'
    )
    book = build([code(source, "True\n")], run=True)
    notebook.write(book, folder / "chapters" / "threads.ipynb")
    run = Run(folder, "-n", "2", "chapters")
    assert run.code == 0, run.text


def test_plain_nbval_command_line(two):
    """The command as the issue has it, in the activated environment."""
    pytest_script = f"{sys.exec_prefix}/bin/pytest"
    done = subprocess.run(
        [pytest_script, "--nbval", "chapters/", "-q"],
        cwd=two,
        env={**clean_environment(), "PYTHONPATH": str(notebook.ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "FAILED chapters/wrong.ipynb::Cell 2" in done.stdout

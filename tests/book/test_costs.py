"""booktools.costs and benchmarks.yardstick: what is measured, printed and recorded."""

import json
import subprocess
import sys

import pytest
import torch
from books import Run, build, code, markdown, project

from benchmarks import yardstick
from booktools import costs, notebook, reading

BURN = """
import time
end = time.process_time() + {seconds}
while time.process_time() < end:
    pass
"""


def test_factor_by_hand():
    assert yardstick.factor(yardstick.REFERENCE) == 1.0
    twice = {part: 2 * seconds for part, seconds in yardstick.REFERENCE.items()}
    assert yardstick.factor(twice) == 0.5
    assert yardstick.describe(twice).startswith("yardstick: 0.50 of the reference's")


@pytest.mark.parametrize("change", [{"decoding": 0.0}, {"sleeping": 1.0}])
def test_factor_of_wrong_parts(change):
    with pytest.raises(ValueError, match="positive seconds"):
        yardstick.factor(yardstick.REFERENCE | change)
    with pytest.raises(ValueError, match="'convolution', 'interpreter'"):
        yardstick.factor({"convolution": 1.0})


def test_measure_leaves_the_threads_as_they_were():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        seconds = yardstick.measure(tries=1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seconds.keys() == yardstick.REFERENCE.keys()
    assert min(seconds.values()) > 0


def test_children_count_and_waiting_does_not():
    before = costs.cpu_seconds()
    script = BURN.format(seconds=0.5) + "time.sleep(1)"
    subprocess.run([sys.executable, "-c", script], check=True)
    assert 0.5 <= costs.cpu_seconds() - before


def test_the_dearest_first_and_unknown_ones_before():
    files = ["a", "a", "b", "new", "c", "newer"]
    table = {"a": 1, "b": 3.5, "c": 2, "gone": 9}
    assert costs.by_cost(files, table) == ["new", "newer", "b", "c", "a"]


def test_table(tmp_path):
    assert costs.read_table(tmp_path) == {}
    (tmp_path / "tests").mkdir()
    (tmp_path / costs.TABLE).write_text('["a"]')
    with pytest.raises(ValueError, match="must map paths to numbers"):
        costs.read_table(tmp_path)
    for wrong in ('{"measured": {"a": "b"}}', '{"guessed": {"a": 1}}', '{"a": "b"}'):
        (tmp_path / costs.TABLE).write_text(wrong)
        with pytest.raises(ValueError, match="must map paths to numbers"):
            costs.read_table(tmp_path)


def test_what_was_measured(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / costs.TABLE).write_text('{"a": 1, "b": 2}')
    assert costs.read_table(tmp_path) == {"a": 1, "b": 2}
    assert costs.measured(tmp_path) == {}
    for name in "abc":
        (tmp_path / name).touch()
    costs.update(tmp_path, {"b::test": 1.0, "c::test": 2.0, "gone::test": 3.0}, 2.0)
    assert costs.measured(tmp_path) == {"b": 2.0, "c": 4.0}
    assert costs.read_table(tmp_path) == {"a": 1, "b": 2.0, "c": 4.0}


def test_contradicted():
    same = (5, 5.1, 9.9, 10, 20)
    assert [costs.contradicted(10, cost) for cost in same] == [False] * 5
    assert [costs.contradicted(10, cost) for cost in (4.9, 20.1, 0)] == [True] * 3


def broken_promise(path, table) -> str:
    """What is wrong with a chapter's ``Runs in``; an empty string where it holds."""
    stated = reading.RUNS_IN.search(notebook.read(path).cells[0].source)
    cost = table.get(f"chapters/{path.name}")
    if stated is None or cost is None or not costs.contradicted(int(stated[1]), cost):
        return ""
    return f"Runs in says {stated[1]}, measured were {cost}: run_chapter --tidy {path}"


def test_a_planted_promise_is_broken(tmp_path):
    path = tmp_path / "03_a.ipynb"
    notebook.write(build([markdown("# A\n\n**Runs in** about 6 CPU-seconds.")]), path)
    assert broken_promise(path, {"chapters/03_a.ipynb": 12.5}).startswith(
        "Runs in says"
    )
    assert broken_promise(path, {"chapters/03_a.ipynb": 11.5}) == ""
    assert broken_promise(path, {}) == ""


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(notebook.CHAPTERS.glob("*.ipynb")))
def test_a_chapter_costs_what_it_says(path):
    assert broken_promise(path, costs.measured(notebook.ROOT)) == ""


def test_every_recorded_file_is_there():
    table = costs.read_table(notebook.ROOT)
    assert table
    assert not [file for file in table if not (notebook.ROOT / file).is_file()]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small project with a table of costs, under two workers."""
    folder = project(tmp_path_factory.mktemp("costs"))
    (folder / "tests" / "test_one.py").unlink()
    for name in ("cheap", "dear", "new"):
        line = f"open({str(folder / 'order')!r}, 'a').write('{name} ')"
        script = f"def test_{name}():\n    {line}\n"
        if name == "dear":
            script = BURN.format(seconds=0.3) + script  # at collection: not its own
        (folder / "tests" / f"test_{name}.py").write_text(script)
    book = build([code(BURN.format(seconds=1.0).strip())], run=True)
    notebook.write(book, folder / "chapters" / "burns.ipynb")
    table = {"tests/test_cheap.py": 1, "tests/test_dear.py": 9, "tests/test_gone.py": 4}
    (folder / costs.TABLE).write_text(json.dumps(table))
    run = Run(folder, "-n", "1", "--update-costs")
    assert run.code == 0, run.text
    run.folder = folder
    return run


def test_order_under_workers(run):
    assert (run.folder / "order").read_text().split() == ["new", "dear", "cheap"]


def test_report(run):
    text = run.text
    assert "of the reference's speed (convolution " in text
    for line in ("the 10 dearest tests:", "chapters:", "parts:", "CPU-minutes of"):
        assert line in text, text
    assert run.summary.startswith("book: 1 cells compared")


def test_a_kernel_s_time_is_its_chapter_s(run):
    factor = float(run.text.split("yardstick: ")[1].split(" of ")[0])
    table = costs.measured(run.folder)
    assert table == costs.read_table(run.folder)  # the estimates are gone
    assert set(table) == {
        "chapters/burns.ipynb",
        *(f"tests/test_{name}.py" for name in ("cheap", "dear", "new")),
    }
    assert table["chapters/burns.ipynb"] >= 0.9 * factor
    assert table["tests/test_cheap.py"] <= 0.5 * factor

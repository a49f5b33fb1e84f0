"""The helper that leaves a quick share of a sweep in every run."""

import pytest
from books import Run, project
from sweeps import quick_share


def test_spread_evenly():
    shared = quick_share(range(10), 3)
    assert [i for i, case in enumerate(shared) if case == i] == [0, 3, 6]
    assert [case.values for case in shared if case not in (0, 3, 6)] == [
        (i,) for i in (1, 2, 4, 5, 7, 8, 9)
    ]
    assert quick_share("ab", 2) == ["a", "b"]


@pytest.mark.parametrize("count", [0, 3])
def test_a_wrong_share(count):
    with pytest.raises(ValueError, match=f"quick share of {count} out of 2 cases"):
        quick_share("ab", count)


@pytest.mark.parametrize(("options", "ran"), [([], 2), (["-m", "slow"], 4)])
def test_slow_ones_run_when_asked_for(tmp_path, options, ran):
    folder = project(tmp_path)
    (folder / "tests" / "test_one.py").write_text(
        "import pytest\n"
        "slow = [pytest.param(i, marks=pytest.mark.slow) for i in range(4)]\n"
        "@pytest.mark.parametrize('i', [8, 9, *slow])\n"
        "def test_one(i):\n    pass\n"
    )
    run = Run(folder, *options, "tests")
    assert run.code == 0, run.text
    assert f"{ran} passed, {6 - ran} deselected" in run.text

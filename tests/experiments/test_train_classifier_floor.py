"""What the example reaches: the stored figure keeps its bounds; so does a new run."""

import pytest

from course_utils.datasets import results
from experiments import train_classifier


def test_the_stored_figures():
    stored = results.load("train_classifier")
    assert stored["command"] == "python -m experiments.train_classifier"
    assert [run["seed"] for run in stored["runs"]] == list(train_classifier.SEEDS)
    for run in stored["runs"]:
        log = run["log"]
        assert run["best"] == pytest.approx(max(log["val_right"]), abs=1e-5)
        assert run["best"] >= train_classifier.FLOOR
        assert run["seconds"] <= train_classifier.LIMIT
        assert log["epoch"] == list(range(1, 25))
        assert log["train_right"][-1] > 0.9 > log["train_right"][0]


def test_a_failing_script_says_why():
    with pytest.raises(RuntimeError, match="--epochs must be at least 1"):
        train_classifier.run(0, "--epochs", "0")


@pytest.mark.slow
def test_the_floor():
    """Three seeds, each within 60 reference CPU-seconds."""
    assert train_classifier.main(["--check"]) == 0

"""Chapter 28's sorting models: the stored figures keep their bounds, and they learn."""

import pytest
import torch

from course_utils.datasets import results
from experiments import sorting

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_stored_figures():
    stored = results.load("sorting")
    assert stored["steps"] == list(range(50, 1001, 50))
    for places in (True, False):
        runs = [r for r in stored["runs"] if r["places"] == places]
        assert [r["seed"] for r in runs] == list(sorting.SEEDS)
        for run in runs:
            assert len(run["curve"]) == len(stored["steps"])
            assert ("heads" in run) == places and run["seconds"] <= 60
            if places:
                assert run["exact"]["6"] >= sorting.FLOOR and len(run["heads"]) == 8
            else:
                assert list(run["exact"]) == [str(n) for n in sorting.LENGTHS]
    shares = [v for r in stored["runs"] for v in (*r["curve"], *r["exact"].values())]
    assert all(0 <= share <= 1 for share in shares)


def test_the_stored_tables():
    example = results.load("sorting")["example"]
    tables = torch.tensor(example["tables"])
    assert tables.shape == (8, 6, 12) and len(example["names"]) == 8
    assert torch.allclose(tables.sum(-1), torch.ones(8, 6), atol=0.01)
    for step in range(6):  # the mark is token 6: nothing behind the step is read
        assert not tables[:, step, 7 + step :].any()
    assert example["right"] and example["says"] == sorted(example["reads"][:6])


@pytest.mark.parametrize("places", [True, False])
def test_a_short_training(places):
    """Sixty steps: the loss has fallen, the figures are there."""
    model, run = sorting.train(3, places, steps=60, count=20)
    assert run["seed"] == 3 and len(run["curve"]) == 1 and run["seconds"] > 0
    assert ("heads" in run) == places
    assert list(run["exact"]) == (["6"] if places else ["6", "7", "8", "10"])
    assert (model.place is None) != places
    if places:
        shown = sorting.example(model, (1, 0, 2, 2, 4, 5))
        assert shown["reads"] == [1, 0, 2, 2, 4, 5, 10, 0, 1, 2, 2, 4]


@pytest.mark.slow
def test_the_floor():
    assert sorting.main(["--check"]) == 0

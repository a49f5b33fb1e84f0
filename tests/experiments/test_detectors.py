"""Chapter 22's two detectors: the stored figures keep their bounds."""

import pytest

from course_utils.datasets import results
from experiments import detectors

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_stored_figures():
    stored = results.load("detectors")
    assert stored["command"] == "python -m experiments.detectors"
    for name, floor in detectors.FLOORS.items():
        runs = [r for r in stored["runs"] if r["detector"] == name]
        assert [r["seed"] for r in runs] == list(detectors.SEEDS)
        assert all(floor <= r["AP50"] <= 1 and 0 < r["AP"] < r["AP50"] for r in runs)
        assert all(0 < r["seconds"] <= 60 for r in runs)
    assert set(stored["cost"]) == {"center", "grid", "Mask R-CNN"}
    assert all(c["seconds"] > 0 for c in stored["cost"].values())


def test_the_stored_pictures():
    shown = results.load("detectors")["shown"]
    assert [s["picture"] for s in shown] == list(detectors.PICTURES)
    for picture in shown:
        assert len(picture["heat"]) == 32 and len(picture["heat"][0]) == 32
        for name in detectors.FLOORS:
            scores = [row[4] for row in picture[name]]
            assert all(detectors.LEAST <= s <= 1 for s in scores)


@pytest.mark.slow
def test_the_floors():
    assert detectors.main(["--check"]) == 0

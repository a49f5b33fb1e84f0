"""Chapter 31's measurement: the fit finds what it should, the stored numbers hold."""

import math

import pytest

from course_utils.datasets import results
from experiments import scaling


def test_the_fit_finds_latency_and_bandwidth():
    sizes = scaling.SIZES
    for latency, bandwidth in ((1e-5, 1e9), (3e-4, 2e8)):
        seconds = [2 * latency + size / bandwidth for size in sizes]
        found = scaling.fit(sizes, seconds)
        assert found[0] == pytest.approx(latency, rel=0.15)
        assert found[1] == pytest.approx(bandwidth, rel=0.15)
    with pytest.raises(ValueError, match="two or more pairs"):
        scaling.fit([4], [1.0])
    with pytest.raises(ValueError, match="two or more pairs"):
        scaling.fit([4, 8], [1.0])


def test_the_stored_numbers():
    stored = results.load("scaling")
    assert stored["command"] == "python -m experiments.scaling"
    assert [run["bytes"] for run in stored["runs"]] == scaling.SIZES
    for run in stored["runs"]:
        model = 2 * stored["latency"] + run["bytes"] / stored["bandwidth"]
        assert run["model"] == pytest.approx(model, rel=1e-3)
        assert abs(math.log(run["seconds"] / model)) < math.log(scaling.BOUND)
    assert len(stored["steps"]) == len(scaling.WIDTHS)
    for step in stored["steps"]:
        added = 2 * stored["latency"] + step["bytes"] / stored["bandwidth"]
        assert step["model"] == pytest.approx(step["alone"] + added, rel=1e-3)
        assert 0 < step["alone"] and 1 / 2 < step["together"] / step["model"] < 2


@pytest.mark.slow
def test_a_short_measurement():
    found = scaling.measure(2)
    assert list(found["all_reduce"]) == scaling.SIZES
    assert all(seconds > 0 for seconds in found["all_reduce"].values())

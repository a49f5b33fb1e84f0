"""The stored runs of chapter 21, and short ones of the same functions."""

import os

import pytest
import torch
from torch import nn

from course_utils.datasets import results
from experiments import transfer, transfer_photos

pytestmark = pytest.mark.usefixtures("one_thread")
REAL = os.environ.get("COURSE_REAL_DATA")


def test_the_stored_runs():
    stored = results.load("transfer")
    assert stored["command"] == "python -m experiments.transfer"
    assert stored["steps"] == {str(n): steps for n, steps in transfer.STEPS.items()}
    assert stored["batch"] == transfer.BATCH and stored["first"] == transfer.FIRST
    seeds = stored["seeds"]
    wanted = {
        (method, each, seed)
        for method in transfer.METHODS
        for each in transfer.EACH
        for seed in seeds
    }
    found = {(r["method"], r["each"], r["seed"]) for r in stored["runs"]}
    assert found == wanted and len(stored["runs"]) == len(wanted)
    assert set(seeds) <= set(transfer.SEEDS) and len(seeds) >= 2
    assert all(0 <= r["val"] <= 1 for r in stored["runs"])
    right = {(r["method"], r["each"], r["seed"]): r["val"] for r in stored["runs"]}
    for seed in seeds:
        gap = right["probe", 20, seed] - right["scratch", 20, seed]
        assert gap >= transfer.GAP
    assert sum(r["seconds"] for r in stored["runs"]) < 12 * 60


def test_the_stored_photographs():
    stored = results.load("transfer_photos")
    assert stored["command"] == "python -m experiments.transfer_photos"
    assert set(stored["counts"]) == {"train", "val"} and stored["counts"]["val"] == 153
    right = {(r["method"], r["seed"]): r["val"] for r in stored["runs"]}
    assert len(right) == len(stored["runs"]) == 12
    assert stored["seconds"] <= transfer_photos.LIMIT
    for method in ("probe", "last"):
        for seed in transfer_photos.SEEDS:
            floor = right["scratch", seed] + transfer_photos.GAP
            assert right[method, seed] >= max(transfer_photos.FLOOR, floor)


def test_pictures_are_chosen_by_class():
    rows = transfer.pick(3, 2, 10, 4)
    assert (rows // 10).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert len(set(rows.tolist())) == 8
    assert torch.equal(rows, transfer.pick(3, 2, 10, 4))
    assert not torch.equal(rows, transfer.pick(4, 2, 10, 4))
    assert sorted(transfer.pick(1, 10, 10, 2).tolist()) == list(range(20))


def test_a_training_follows_its_seed_and_its_rates():
    x = torch.randn(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    y = torch.arange(6) % 2

    def trained(seed, rates):
        torch.manual_seed(0)
        parts = [nn.Conv2d(3, 2, 4), nn.Linear(2, 2)]
        before = [p.detach().clone() for part in parts for p in part.parameters()]
        net = nn.Sequential(parts[0], nn.Flatten(), parts[1])
        transfer.train(parts, rates, net, [x, x.flip(3)], y, 3, seed)
        after = [p.detach() for part in parts for p in part.parameters()]
        return after, [
            (a - b).norm().item() for a, b in zip(after, before, strict=True)
        ]

    one, moved = trained(1, (0.001, 0.1))
    same, _ = trained(1, (0.001, 0.1))
    other, _ = trained(2, (0.001, 0.1))
    assert all(map(torch.equal, one, same)) and not torch.equal(one[0], other[0])
    assert moved[0] < 0.1 * moved[2]  # the small rate moves less


def test_what_does_not_exist_is_quoted(monkeypatch, tmp_path, capsys):
    with pytest.raises(ValueError, match="'nearest'.*got 'magic'"):
        transfer.run("magic", 2, 1, {}, {})
    with pytest.raises(ValueError, match="'scratch'.*got 'magic'"):
        transfer_photos.run("magic", 1, {})
    (tmp_path / "val" / "ants").mkdir(parents=True)
    with pytest.raises(ValueError, match="no photographs in"):
        transfer_photos.read(tmp_path, "val")
    for value in (None, str(tmp_path / "nowhere")):
        if value is None:
            monkeypatch.delenv("COURSE_REAL_DATA", raising=False)
        else:
            monkeypatch.setenv("COURSE_REAL_DATA", value)
        assert transfer_photos.main(["--check"]) == 0
        assert capsys.readouterr().out.startswith("SKIPPED transfer on real photo")


@pytest.mark.slow
def test_the_gap():
    assert transfer.main(["--check"]) == 0


@pytest.mark.slow
@pytest.mark.skipif(not REAL, reason="COURSE_REAL_DATA is not set")
def test_the_real_photographs():
    """Three seeds, at most 300 reference seconds; floors hold in each."""
    assert transfer_photos.main(["--check"]) == 0

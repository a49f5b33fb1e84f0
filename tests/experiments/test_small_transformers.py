"""Chapter 29's small models: the stored runs, and that a training runs."""

import pytest
import torch
from safetensors.torch import load_file

from course_utils.datasets import results
from experiments import small_transformers as small
from experiments import stored

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_stored_runs():
    found = results.load("small_transformers")
    assert found["command"] == "python -m experiments.small_transformers"
    assert found["passes"] == small.PASSES
    wanted = {
        (name, seed, each, augment, False)
        for name in small.MODELS
        for seed in small.SEEDS
        for each in small.EACH
        for augment in (False, True)
    }
    wanted |= {(m, s, 100, True, True) for m in ("ViT", "convnet") for s in small.SEEDS}
    keys = ("model", "seed", "each", "augment", "scramble")
    runs = found["runs"]
    assert {tuple(r[key] for key in keys) for r in runs} == wanted
    assert len(runs) == len(wanted)
    assert all(0 <= r["val"] <= 1 and 0 < r["train"] <= 1 for r in runs)
    assert sum(r["seconds"] for r in runs) < 15 * 60
    most = max(r["weights"] for r in runs)
    assert most < 1.05 * min(r["weights"] for r in runs)
    for seed in small.SEEDS:
        case = {"seed": seed, "each": 100, "augment": True, "scramble": False}
        val = {
            r["model"]: r["val"]
            for r in runs
            if all(r[key] == value for key, value in case.items())
        }
        assert val["convnet"] >= val["ViT"] + small.AHEAD


def test_the_stored_vit_is_the_first_run():
    own = small.chapter()
    model = own.SMALL["ViT"][0]()
    model.load_state_dict(load_file(small.FILE))
    run = next(
        r
        for r in results.load("small_transformers")["runs"]
        if (r["model"], r["seed"], r["each"], r["augment"]) == ("ViT", 0, 100, True)
        and not r["scramble"]
    )
    assert stored.accuracy(model, *own.pictures("val")) == pytest.approx(
        run["val"], abs=0.01
    )


@pytest.mark.parametrize("scramble", [False, True])
def test_a_seed_decides_everything(scramble):
    cases = [small.train("ViT", 3, 5, True, scramble, passes=50) for _ in range(2)]
    one, other = (run | {"seconds": 0} for _, run in cases)
    assert one == other and one["scramble"] == scramble
    states = [model.state_dict() for model, _ in cases]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_bound_missed_is_said():
    run = {"seed": 1, "each": 100, "augment": True, "scramble": False}
    runs = [{**run, "model": "ViT", "val": 0.5}, {**run, "model": "convnet"}]
    assert small._missed([runs[0], runs[1] | {"val": 0.55}]) == [1]
    assert small._missed([runs[0], runs[1] | {"val": 0.65}]) == []


@pytest.mark.slow
def test_the_order():
    assert small.main(["--check"]) == 0

"""One fine-tuning run as a function, and the experiments that repeat it."""

import json
from dataclasses import asdict
from itertools import product

import pytest
import small_training as small
import torch

from course_utils import experiments, finetune
from course_utils.boxes import masks_to_boxes
from course_utils.datasets import PennFudan, pedestrians
from course_utils.finetune import InMemory, Recipe, augmentation, fine_tune, resized
from course_utils.targets import check_target


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tiny(monkeypatch):
    """A model of 64 pixels instead of the real one."""

    def model(num_classes, weights, min_size, max_size):
        assert (num_classes, weights) == (2, None) and min_size == max_size
        return small.models.mask_rcnn_mobilenet(
            2, None, min_size=64, max_size=64, channels=16, mask_layers=1
        )

    monkeypatch.setattr(
        finetune,
        "models",
        type("models", (), {"mask_rcnn_mobilenet": staticmethod(model)}),
    )


def test_resized_and_augmented_items_are_good_targets():
    data = PennFudan(pedestrians(), "train", resized(100))
    torch.manual_seed(0)
    change = augmentation()
    flipped = 0
    for i in range(12):
        image, target = data[i]
        assert max(image.shape) == 100
        other, moved = change(image, target)
        for picture, item in ((image, target), (other, moved)):
            check_target(picture, item, 2)
            masks = item["masks"].as_subclass(torch.Tensor)
            assert torch.equal(masks_to_boxes(masks), item["boxes"].float())
            assert torch.equal(item["area"], masks.sum((1, 2)).float())
        flipped += not torch.equal(target["boxes"], moved["boxes"])
    assert 0 < flipped < 12


def test_resizing_leaves_out_a_person_without_a_pixel():
    image, target = PennFudan(pedestrians(), "train")[0]
    masks = torch.zeros(2, *image.shape[-2:], dtype=torch.uint8)
    masks[0, 10:100, 20:60] = 1  # the second has no pixel at all
    kept = {"masks": type(target["masks"])(masks), "image_id": 7}
    kept["labels"] = torch.tensor([1, 1])
    _, small_target = resized(64)(image, kept)
    assert len(small_target["labels"]) == len(small_target["boxes"]) == 1
    assert small_target["image_id"] == 7


def test_in_memory():
    data = InMemory(iter([(1, 2), (3, 4)]), lambda image, target: (image * 10, target))
    assert len(data) == 2 and data[1] == (30, 4) and InMemory([(1, 2)])[0] == (1, 2)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"steps": 0}, "steps .* got 0"),
        ({"images": 1.5}, "images .* got 1.5"),
        ({"rate": 0.0}, "rate .* got 0.0"),
        ({"rate": float("nan")}, "rate .* got nan"),
    ],
)
def test_bad_recipe(change, words):
    with pytest.raises(ValueError, match=words):
        Recipe(**({"weights": None, "rate": 1e-3, "steps": 2} | change))


def test_fine_tune(tiny, monkeypatch):
    seen = []
    train = finetune.engine.train_one_epoch

    def watched(model, optimizer, loader, *rest, **options):
        batches = list(loader)
        seen.extend(int(t["image_id"]) for _, targets in batches for t in targets)
        return train(model, optimizer, batches, *rest, **options)

    monkeypatch.setattr(finetune.engine, "train_one_epoch", watched)
    recipe = Recipe(None, 1e-3, 4, images=3, size=64)
    runs = [
        fine_tune(recipe, pedestrians(), seed, evaluations=2, held_out=5,
                  progress=False)
        for seed in (0, 0, 1)
    ]  # fmt: skip
    assert len(seen) == 3 * 4 * 4 and set(seen) == {0, 1, 2}
    states = [torch.cat([p.flatten() for p in m.parameters()]) for m, _ in runs]
    assert torch.equal(states[0], states[1]) and not torch.equal(states[0], states[2])
    records = runs[0][1]
    assert [record["step"] for record in records] == [2, 4]
    assert records[1]["seconds"] > records[0]["seconds"] > 0
    assert {"loss", "cpu_seconds", "bbox/AP", "segm/AP50"} <= records[0].keys()
    with pytest.raises(ValueError, match="3 evaluations do not divide 4"):
        fine_tune(recipe, pedestrians(), 0, evaluations=3)
    with pytest.raises(ValueError, match="3 images and 118 held out, of 120"):
        fine_tune(recipe, pedestrians(), 0, held_out=118)


def test_experiments_go_on_where_they_stopped(tmp_path, monkeypatch):
    calls = []

    def stand_in(recipe, root, seed, evaluations=1, held_out=0):
        calls.append((recipe.weights, recipe.images, recipe.rate, seed, held_out))
        score = 0.5 if recipe.rate == 3e-3 else 0.4
        record = {"step": recipe.steps, "seconds": 1.23456, "bbox/AP": score}
        return None, [record | {"segm/AP": 0.123456}] * evaluations

    monkeypatch.setattr(experiments, "fine_tune", stand_in)
    runs, out = tmp_path / "runs", tmp_path / "out.json"
    common = [str(runs), "--steps", "16", "--out", str(out)]
    experiments.main([*common, "--start", "scratch"])
    assert not out.exists() and len(calls) == 3 + 3
    experiments.main(common)
    assert len(calls) == 24 == len(set(calls))
    result = json.loads(out.read_text())
    assert result["rates"] == dict.fromkeys(experiments.STARTS, 3e-3)
    assert len(result["search"]) == 9 and len(result["runs"]) == 15
    assert {run["steps"] for run in result["search"]} == {8}
    points = {run["images"]: len(run["curve"]) for run in result["runs"]}
    assert points == {120: 8, 30: 1, 8: 1}
    assert result["runs"][0]["curve"][0] == {
        "step": 16, "seconds": 1.2, "bbox/AP": 0.5, "segm/AP": 0.1235,
    }  # fmt: skip
    searched = {call[-1] for call in calls if call[1] == 100}
    assert searched == {20} and all(c[-1] == 0 for c in calls if c[1] != 100)
    before = out.read_bytes()
    experiments.main(common)
    assert len(calls) == 24 and out.read_bytes() == before


def test_stored_experiments_are_whole():
    result = json.loads(experiments.FILE.read_text())
    runs = {(r["start"], r["images"], r["seed"]) for r in result["runs"]}
    starts = list(experiments.STARTS)
    numbers = [(start, n) for start in starts for n in experiments.IMAGES[start]]
    assert runs == {(*pair, s) for pair, s in product(numbers, experiments.SEEDS)}
    assert len(result["runs"]) == len(runs)
    for run in result["runs"]:
        assert run["steps"] == experiments.STEPS == run["curve"][-1]["step"]
        assert run["rate"] == result["rates"][run["start"]]
        assert run["weights"] == experiments.STARTS[run["start"]]
    for start in starts:
        tried = [run for run in result["search"] if run["start"] == start]
        assert [run["rate"] for run in tried] == list(experiments.RATES)
        assert result["rates"][start] == experiments.best_rate(tried)


def test_stored_figures_of_the_photographs_are_their_means():
    from booktools import training_floors as floors

    result = json.loads(floors.REAL_FILE.read_text())
    assert [run["seed"] for run in result["runs"]] == list(range(floors.SEEDS))
    assert result["mean"] == floors.means(result["runs"])
    assert not floors.problems(result["mean"], floors.FLOORS["real"], None)
    assert result["recipe"] == asdict(floors.REAL)

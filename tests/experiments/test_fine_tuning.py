"""One fine-tuning run as a function, and the experiments that repeat it."""

import json
from dataclasses import asdict, replace
from itertools import product

import pytest
import small_training as small
import torch
from torchvision import tv_tensors

from course_utils.datasets import PennFudan, pedestrians
from course_utils.detection.augment import CopyPaste, InMemory, augmentation, resized
from course_utils.detection.box_ops import masks_to_boxes
from course_utils.detection.targets import check_target
from experiments import fine_tuning, starts
from experiments.fine_tuning import Recipe, fine_tune


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tiny(monkeypatch):
    """A model of 64 pixels instead of the real one."""

    def model(num_classes, weights, min_size, max_size, **options):
        assert (num_classes, weights) == (2, None) and min_size == max_size
        assert options == fine_tuning.DETECTING
        return small.models.mask_rcnn_mobilenet(
            2, None, min_size=64, max_size=64, channels=16, mask_layers=1, **options
        )

    monkeypatch.setattr(
        fine_tuning,
        "models",
        type("models", (), {"mask_rcnn_mobilenet": staticmethod(model)}),
    )


def test_resized_and_augmented_items_are_good_targets():
    data = PennFudan(pedestrians(), "train", resized(100))
    torch.manual_seed(0)
    change = augmentation()
    both = augmentation(paste_from=data)
    flipped = more = 0
    for i in range(12):
        image, target = data[i]
        assert max(image.shape) == 100
        other, moved = change(image, target)
        crowd = both(image, target)
        more += len(crowd[1]["boxes"]) > len(target["boxes"])
        for picture, item in ((image, target), (other, moved), crowd):
            check_target(picture, item, 2)
            masks = item["masks"].as_subclass(torch.Tensor)
            assert torch.equal(masks_to_boxes(masks), item["boxes"].float())
            assert torch.equal(item["area"], masks.sum((1, 2)).float())
        flipped += not torch.equal(target["boxes"], moved["boxes"])
    assert 0 < flipped < 12 and more > 3


def test_resizing_leaves_out_a_person_without_a_pixel():
    image, target = PennFudan(pedestrians(), "train")[0]
    masks = torch.zeros(2, *image.shape[-2:], dtype=torch.uint8)
    masks[0, 10:100, 20:60] = 1  # the second has no pixel at all
    kept = {"masks": type(target["masks"])(masks), "image_id": 7}
    kept["labels"] = torch.tensor([1, 1])
    _, small_target = resized(64)(image, kept)
    assert len(small_target["labels"]) == len(small_target["boxes"]) == 1
    assert small_target["image_id"] == 7


@pytest.mark.parametrize("size", [64, 100, 150])
def test_resized_masks_stay_with_the_picture(size):
    """On the mean over many rectangles; with v2's nearest it is 0.4 pixels and more."""
    off = []
    for x1, y1 in product(range(31, 91, 5), range(10, 60, 7)):
        masks = torch.zeros(1, 180, 240, dtype=torch.uint8)
        masks[0, y1 : y1 + 87, x1 : x1 + 61] = 1
        picture = tv_tensors.Image(masks.expand(3, -1, -1) * 255)
        target = {"masks": tv_tensors.Mask(masks), "labels": torch.tensor([1])}
        image, target = resized(size)(picture, target)
        scale = torch.tensor([image.shape[2] / 240, image.shape[1] / 180])
        center = (target["boxes"][0, :2] + target["boxes"][0, 2:]) / 2
        off.append(center - torch.tensor([x1 + 30.5, y1 + 43.5]) * scale)
    assert torch.stack(off).mean(0).abs().max() < 0.12


def flat_scene(value, boxes, size=(80, 120)):
    """A picture of one value, and rectangular people: sample k has the value k."""
    image = tv_tensors.Image(torch.full((3, *size), value, dtype=torch.uint8))
    masks = torch.zeros(len(boxes), *size, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = 1
    target = {
        "boxes": masks_to_boxes(masks),
        "labels": torch.ones(len(boxes), dtype=torch.int64),
        "masks": tv_tensors.Mask(masks),
        "area": masks.sum((1, 2)).float(),
        "iscrowd": torch.zeros(len(boxes), dtype=torch.int64),
        "image_id": value,
    }
    return image, target


def test_copy_paste_pixel_by_pixel():
    here = flat_scene(10, [(5, 20, 25, 70), (60, 20, 90, 70)])
    donors = [flat_scene(200, [(30, 10, 50, 60)])]
    paste = CopyPaste(donors, most=1, scale=(1.0, 1.0))
    torch.manual_seed(0)
    pasted = covered = cut = 0
    for _ in range(60):
        image, target = paste(*here)
        check_target(image, target, 2)
        values = image.as_subclass(torch.Tensor)
        masks = target["masks"].as_subclass(torch.Tensor)
        assert set(values.unique().tolist()) <= {10, 200}
        assert target["image_id"] == 10 and values.shape == (3, 80, 120)
        new = values[0] == 200
        if not new.any():
            assert len(masks) == 2 and torch.equal(image, here[0])
            continue
        pasted += 1
        assert torch.equal(masks[-1].bool(), new)
        x1, y1, x2, y2 = target["boxes"][-1].tolist()
        assert (y1, y2) == (10, 60), "the feet stay at their height"
        assert 15 <= x2 - x1 <= 20
        cut += x2 - x1 < 20
        before = here[1]["masks"].as_subclass(torch.Tensor)
        visible = before * ~new
        assert torch.equal(masks[:-1], visible[visible.sum((1, 2)) >= 40])
        covered += not torch.equal(visible, before)
    assert 15 < pasted < 45 and covered > 5 and cut > 0


def test_copy_paste_scales_mirrors_and_keeps_the_feet():
    image, target = flat_scene(200, [(30, 20, 50, 70)])
    image[:, :, :40] = 100  # the left half of the person
    paste = CopyPaste([(image, target)], scale=(0.5, 2.0), most=1)
    torch.manual_seed(0)
    heights, left_sides = set(), set()
    for _ in range(80):
        result, found = paste(*flat_scene(10, []))
        if len(found["boxes"]) and found["boxes"][0, 0] > 0:
            x1, y1, _, y2 = found["boxes"][0].int().tolist()
            assert y2 == 70
            heights.add(y2 - y1)
            left_sides.add(result[0, (y1 + y2) // 2, x1].item())
    assert left_sides == {100, 200} and min(heights) < 35 and max(heights) == 70


def test_copy_paste_moves_person_and_mask_alike():
    """An L: without its corner the bounding box also holds the donor's background."""
    image, target = flat_scene(50, [(30, 20, 50, 70)])
    target["masks"][0, 20:50, 30:42] = 0
    image[:, target["masks"][0].bool()] = 200
    target["area"] = target["masks"].sum((1, 2)).float()
    paste, corners = CopyPaste([(image, target)], scale=(1.0, 1.0)), set()
    torch.manual_seed(0)
    for _ in range(30):
        result, found = paste(*flat_scene(10, []))
        assert set(result.unique().tolist()) <= {10, 200}
        if len(found["masks"]) == 1:
            x1, y1, x2, _ = found["boxes"][0].int().tolist()
            corners.add(found["masks"][0, y1, [x1, x2 - 1]].tolist().index(1))
    assert corners == {0, 1}, "mirrored or not"


def test_copy_paste_leaves_out_whoever_hardly_shows():
    tiny = flat_scene(200, [(30, 20, 36, 26)])  # 36 pixels
    torch.manual_seed(0)
    for _ in range(10):
        image, target = CopyPaste([tiny], scale=(1.0, 1.0))(*flat_scene(10, []))
        assert image.unique().tolist() == [10] and len(target["boxes"]) == 0
    lenient = CopyPaste([tiny], least=9, scale=(1.0, 1.0))
    assert any(len(lenient(*flat_scene(10, []))[1]["boxes"]) for _ in range(10))


def test_copy_paste_without_anybody():
    nobody = flat_scene(10, [])
    torch.manual_seed(0)
    for _ in range(8):
        image, target = CopyPaste([nobody])(*flat_scene(20, [(5, 5, 30, 60)]))
        assert len(target["boxes"]) == 1 and torch.equal(image, flat_scene(20, [])[0])
    image, target = flat_scene(20, [(5, 5, 30, 60)])
    same = CopyPaste([(image, target)], most=0)(image, target)
    assert same[0] is image and same[1] is target
    lower = flat_scene(30, [(5, 5, 30, 60)], size=(40, 50))  # feet below its border
    added = [CopyPaste([(image, target)])(*lower)[1] for _ in range(8)]
    assert all(check_target(lower[0], t, 2) is None for t in added)
    assert max(len(t["boxes"]) for t in added) > 1


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"samples": []}, "no samples"),
        ({"most": -1}, "got -1"),
        ({"least": -2}, "-2"),
        ({"scale": (1.3, 0.7)}, r"got .*\(1.3, 0.7\)"),
        ({"scale": (0.0, 0.7)}, r"got .*\(0.0, 0.7\)"),
    ],
)
def test_copy_paste_refuses(arguments, words):
    with pytest.raises(ValueError, match=words):
        CopyPaste(**{"samples": [flat_scene(1, [])], **arguments})


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
    train = fine_tuning.engine.train_one_epoch

    def watched(model, optimizer, loader, *rest, **options):
        batches = list(loader)
        seen.extend(int(t["image_id"]) for _, targets in batches for t in targets)
        return train(model, optimizer, batches, *rest, **options)

    monkeypatch.setattr(fine_tuning.engine, "train_one_epoch", watched)
    recipe = Recipe(None, 1e-3, 4, images=3, size=64)
    runs = [
        fine_tune(recipe, pedestrians(), seed, evaluations=2, held_out=5,
                  progress=False)
        for seed in (0, 0, 1)
    ]  # fmt: skip
    assert len(seen) == 3 * 4 * 4 and set(seen) == {0, 1, 2}
    states = [torch.cat([p.flatten() for p in m.parameters()]) for m, _ in runs]
    assert torch.equal(states[0], states[1]) and not torch.equal(states[0], states[2])
    alone, _ = fine_tune(
        replace(recipe, paste=False), pedestrians(), 0, evaluations=2, held_out=5,
        progress=False,
    )  # fmt: skip
    state = torch.cat([p.flatten() for p in alone.parameters()])
    assert not torch.equal(states[0], state), "nobody was pasted"
    records = runs[0][1]
    assert [record["step"] for record in records] == [2, 4]
    assert records[1]["seconds"] > records[0]["seconds"] > 0
    assert {"loss", "cpu_seconds", "bbox/AP", "segm/AP50"} <= records[0].keys()
    with pytest.raises(ValueError, match="3 evaluations do not divide 4"):
        fine_tune(recipe, pedestrians(), 0, evaluations=3)
    with pytest.raises(ValueError, match="0 evaluations do not divide 4"):
        fine_tune(recipe, pedestrians(), 0, evaluations=0)
    with pytest.raises(ValueError, match="3 images and 118 held out, of 120"):
        fine_tune(recipe, pedestrians(), 0, held_out=118)
    with pytest.raises(ValueError, match="held_out must not be negative, got -1"):
        fine_tune(recipe, pedestrians(), 0, held_out=-1)


def test_experiments_go_on_where_they_stopped(tmp_path, monkeypatch):
    calls = []

    def stand_in(recipe, root, seed, evaluations=1, held_out=0):
        calls.append((recipe.weights, recipe.images, recipe.rate, seed, held_out))
        score = 0.5 if recipe.rate == 3e-3 else 0.4
        record = {"seconds": 1.23456, "bbox/AP": score, "segm/AP": 0.123456}
        apart = recipe.steps // evaluations
        steps = range(apart, recipe.steps + 1, apart)
        return None, [{"step": step, **record} for step in steps]

    monkeypatch.setattr(starts, "fine_tune", stand_in)
    runs, out = tmp_path / "runs", tmp_path / "out.json"
    common = [str(runs), "--steps", "16", "--out", str(out)]
    starts.main([*common, "--start", "scratch"])
    assert not out.exists() and len(calls) == 3 + 3
    starts.main(common)
    assert len(calls) == 24 == len(set(calls))
    result = json.loads(out.read_text())
    assert result["rates"] == dict.fromkeys(starts.STARTS, 3e-3)
    assert len(result["search"]) == 9 and len(result["runs"]) == 15
    assert {run["steps"] for run in result["search"]} == {8}
    points = {run["images"]: len(run["curve"]) for run in result["runs"]}
    assert points == {120: 8, 30: 1, 8: 1}
    assert result["runs"][0]["curve"][0] == {
        "step": 2, "seconds": 1.2, "bbox/AP": 0.5, "segm/AP": 0.1235,
    }  # fmt: skip
    searched = {call[-1] for call in calls if call[1] == 100}
    assert searched == {20} and all(c[-1] == 0 for c in calls if c[1] != 100)
    before = out.read_bytes()
    starts.main(common)
    assert len(calls) == 24 and out.read_bytes() == before
    # The same folder, other steps: other runs, beside those.
    starts.main([str(runs), "--steps", "8", "--out", str(tmp_path / "8.json")])
    assert len(calls) == 48 and len(list(runs.glob("*.json"))) == 48
    shorter = json.loads((tmp_path / "8.json").read_text())
    assert {run["curve"][-1]["step"] for run in shorter["runs"]} == {8}
    starts.main(common)
    assert len(calls) == 48 and out.read_bytes() == before


@pytest.mark.parametrize("steps", ["100", "4", "0", "-8"])
def test_steps_are_checked_before_anything_runs(steps, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(starts, "fine_tune", None)
    with pytest.raises(SystemExit):
        starts.main([str(tmp_path / "runs"), "--steps", steps])
    said = capsys.readouterr().err
    assert (
        f"--steps must be a multiple of 8, the number of evaluations, got {steps}"
        in (said)
    )
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"rate": 1.0},
        {"size": 9},
        {"seed": 5},
        {"curve": [{"step": 4}]},
        {"paste": None},
    ],
)
def test_a_file_of_another_run_is_not_taken(change, tmp_path, monkeypatch):
    recipe, file = Recipe(None, 1e-3, 8), tmp_path / "run.json"
    stored = {"seed": 0, **asdict(recipe), "curve": [{"step": 8}]}
    file.write_text(json.dumps(stored))
    monkeypatch.setattr(starts, "fine_tune", None)
    assert starts._run(file, recipe, 0, 1) == stored
    file.write_text(json.dumps(stored | change))
    with pytest.raises(ValueError, match=r"run\.json holds another run"):
        starts._run(file, recipe, 0, 1)


def test_one_optimizer_and_schedule_for_all():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    model[0].requires_grad_(False)
    for steps in (1, 2, 10, 11, 200):
        optimizer, schedule = fine_tuning.one_cycle(model, 0.01, steps)
        (group,) = optimizer.param_groups
        assert [id(p) for p in group["params"]] == [
            id(p) for p in model[1].parameters()
        ]
        assert type(optimizer) is torch.optim.AdamW and group["weight_decay"] == 0.01
        rates = []
        for _ in range(steps):
            rates.append(group["lr"])
            optimizer.step()
            schedule.step()
        assert max(rates) <= 0.01
        assert steps < 10 or rates[-1] < 1e-3 < max(rates)
    assert rates.index(max(rates)) == 19  # of 200, after a tenth


def test_stored_experiments_are_whole():
    result = json.loads(starts.FILE.read_text())
    runs = {(r["start"], r["images"], r["seed"]) for r in result["runs"]}
    names = list(starts.STARTS)
    numbers = [(start, n) for start in names for n in starts.IMAGES[start]]
    assert runs == {(*pair, s) for pair, s in product(numbers, starts.SEEDS)}
    assert len(result["runs"]) == len(runs)
    for run in result["runs"]:
        assert run["steps"] == starts.STEPS == run["curve"][-1]["step"]
        assert run["rate"] == result["rates"][run["start"]]
        assert run["weights"] == starts.STARTS[run["start"]]
    for start in names:
        tried = [run for run in result["search"] if run["start"] == start]
        assert [run["rate"] for run in tried] == list(starts.RATES)
        assert result["rates"][start] == starts.best_rate(tried)


def test_stored_figures_of_the_photographs_are_their_means():
    from experiments import floors

    result = json.loads(floors.REAL_FILE.read_text())
    assert [run["seed"] for run in result["runs"]] == list(range(floors.SEEDS))
    assert result["mean"] == floors.means(result["runs"])
    assert not floors.problems(result["mean"], floors.FLOORS["real"], None)
    assert result["recipe"] == asdict(floors.REAL)

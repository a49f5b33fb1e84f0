"""The stored run of chapter 27: the file says what it holds, and can be made again."""

import json
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from scenes_folder import copy_scenes
from small_training import small_model

from course_utils.datasets import results
from course_utils.datasets.penn_fudan import BUNDLED
from experiments import fine_tuning, stored_run
from experiments.fine_tuning import Recipe


@pytest.fixture(scope="module")
def stored():
    return results.load_detections()


def test_one_prediction_for_each_test_image(stored):
    names = (BUNDLED / "test.txt").read_text().split()
    assert [image["name"] for image in stored["images"]] == names
    assert len(stored["predictions"]) == len(names) == 50


def test_predictions_have_their_shapes(stored):
    for image, found in zip(stored["images"], stored["predictions"], strict=True):
        count = len(found["scores"])
        assert found["boxes"].shape == (count, 4)
        assert found["boxes"].dtype == torch.float32
        assert found["labels"].tolist() == [1] * count
        assert found["masks"].shape == (count, *image["size"])
        assert found["masks"].dtype == torch.bool
        assert max(image["size"]) == stored["recipe"]["size"]
        assert (found["scores"].diff() <= 0).all()
        assert (found["scores"] >= stored_run.LEAST - 1e-4).all()


def test_losses_are_of_each_step(stored):
    steps = stored["recipe"]["steps"]
    assert {len(values) for values in stored["losses"].values()} == {steps}
    parts = [v for name, v in stored["losses"].items() if name != "loss"]
    assert len(parts) == 5
    total = torch.tensor(parts).sum(0)
    torch.testing.assert_close(
        total, torch.tensor(stored["losses"]["loss"]), atol=1e-3, rtol=0
    )


def test_the_stored_score_is_that_of_the_stored_detections(stored):
    """Boxes are stored in tenths of a pixel and masks to the pixel."""
    from course_utils.datasets import PennFudan
    from course_utils.detection.metrics import DetectionEvaluator
    from experiments.fine_tuning import resized

    data = PennFudan(BUNDLED, "test", resized(stored["recipe"]["size"]))
    targets = [target for _, target in data]
    for kind in ("bbox", "segm"):
        evaluator = DetectionEvaluator(kind)
        evaluator.update(stored["predictions"], targets)
        # Here one image at a time, there four in a padded batch.
        assert evaluator.compute()["AP"] == pytest.approx(
            stored["result"][f"{kind}/AP"], abs=0.03
        )


def test_rate_is_the_searched_one(stored):
    study = json.loads(stored_run.STARTS_FILE.read_text())
    assert stored["recipe"]["rate"] == study["rates"]["shapes"]


def test_low_scores_are_not_stored():
    masks = torch.zeros(3, 1, 4, 5)
    masks[:, :, 1] = 0.9
    found = {
        "boxes": torch.tensor([[0.0, 1, 5, 2]] * 3),
        "labels": torch.ones(3, dtype=torch.int64),
        "scores": torch.tensor([0.9, stored_run.LEAST, 0.04]),
        "masks": masks,
    }
    image = stored_run._encoded("a", found)
    assert image["scores"] == [0.9, 0.05]
    assert len(image["boxes"]) == len(image["labels"]) == len(image["masks"]) == 2


def test_no_detection_is_read(tmp_path):
    file = tmp_path / "run.json"
    image = {"name": "a", "size": [4, 5], "boxes": [], "labels": []}
    image |= {"scores": [], "masks": []}
    file.write_text(json.dumps({"images": [image]}))
    (found,) = results.load_detections(file)["predictions"]
    assert found["boxes"].shape == (0, 4) and found["masks"].shape == (0, 4, 5)


def small_detector(num_classes, weights, min_size, max_size, **options):
    assert (num_classes, weights, min_size, max_size) == (2, "shapes", 64, 64)
    assert options == fine_tuning.DETECTING
    # 0.3: a model that has not learned is sure of nothing.
    return small_model(**options | {"box_score_thresh": 0.3})


def test_the_command_writes_what_load_reads(tmp_path, monkeypatch, capsys):
    file = tmp_path / "run.json"
    root = copy_scenes(tmp_path / "scenes", train=4, test=2)
    monkeypatch.setattr(stored_run, "BUNDLED", root)
    # Small images and few channels: a step takes a second less.
    monkeypatch.setattr(stored_run, "Recipe", partial(Recipe, size=64))
    small = SimpleNamespace(mask_rcnn_mobilenet=small_detector)
    monkeypatch.setattr(fine_tuning, "models", small)
    stored_run.main(["--out", str(file), "--steps", "1", "--images", "4"])
    assert "wrote" in capsys.readouterr().out
    again = results.load_detections(file)
    assert again["recipe"]["steps"] == 1 and len(again["losses"]["loss_mask"]) == 1
    assert len(again["predictions"]) == 2
    assert not list(tmp_path.glob("*.part"))

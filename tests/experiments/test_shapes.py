"""The scenes of drawn objects, and pretraining on them."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch.utils.data import DataLoader

from course_utils import weights
from course_utils.detection import models
from course_utils.detection.targets import check_target
from course_utils.training import engine
from experiments import pretrain, shapes
from experiments.fine_tuning import collate

# What the two generators may share: the streets, and what streets are made of.
STREETS = {"background", "camera", "dice", "ground", "houses", "plants"}
STREETS |= {"raster", "textures", "view"}


def test_same_numbers_same_scene():
    image, masks, names = shapes.draw(5, 0)
    again = shapes.draw(5, 0)
    assert np.array_equal(image, again[0]) and np.array_equal(masks, again[1])
    assert names == again[2]
    other = shapes.draw(6, 0)[0]
    assert image.shape != other.shape or not np.array_equal(image, other)


def test_masks_and_names_belong_together():
    seen = set()
    for index in range(12):
        image, masks, names = shapes.draw(7, index)
        assert image.dtype == masks.dtype == np.uint8
        assert image.shape == (*masks.shape, 3) and max(masks.shape) in range(220, 321)
        pixels = np.bincount(masks.ravel(), minlength=1)[1:]
        assert len(pixels) == len(names) and (pixels >= shapes.SMALLEST).all()
        seen |= set(names)
    assert seen <= set(shapes.CLASSES) and len(seen) >= 8
    assert len(shapes.CLASSES) >= 10


@pytest.fixture(scope="module")
def scenes():
    return [shapes.draw(10, index) for index in range(40)]


def test_half_of_the_scenes_are_herds(scenes):
    """Of the scenes with four objects or more, about half hold one kind or two."""
    herds = [len(set(names)) <= 2 for _, _, names in scenes if len(names) > 3]
    assert len({name for _, _, names in scenes for name in names}) >= 12
    assert len(herds) >= 8 and 0.3 <= sum(herds) / len(herds) <= 0.85


def test_objects_are_of_many_sizes_and_reach_over_the_edges(scenes):
    """Left, right and lower sides of the picture cut some; the upper one cuts few."""
    heights, cut = [], np.zeros(4, int)
    for _, masks, names in scenes:
        for k in range(1, len(names) + 1):
            rows = (masks == k).any(axis=1).nonzero()[0]
            heights.append((rows[-1] - rows[0] + 1) / len(masks))
        edges = masks[:, 0], masks[0], masks[:, -1], masks[-1]
        cut += [bool(edge.any()) for edge in edges]
    assert min(heights) < 0.15 and max(heights) > 0.6
    assert cut[1] < min(cut[0], cut[2]) and min(cut[0], cut[2], cut[3]) >= 2


def test_what_a_post_hides_belongs_to_no_object(scenes):
    """Behind posts and rails objects lie in two parts, with nothing between them."""
    parted = 0
    for _, masks, names in scenes:
        for k in range(1, len(names) + 1):
            rows, columns = ((masks == k).any(axis=axis) for axis in (1, 0))
            frame = tuple(
                slice(hit.argmax(), len(hit) - hit[::-1].argmax())
                for hit in (rows, columns)
            )
            inside = masks[frame]  # a column or row of zeros is no other object's
            parted += any((~inside.any(axis=axis)).any() for axis in (0, 1))
    assert parted >= 5


def test_no_drawing_code_of_people_or_street_furniture_is_run():
    """Of the package that draws pedestrians, only what draws streets takes part."""
    used = set()

    def watch(frame, event, argument):
        path = Path(frame.f_code.co_filename)
        if path.parent.name == "scenes" and path.parent.parent.name == "experiments":
            used.add(path.stem)

    sys.setprofile(watch)
    try:
        for index in range(4):
            shapes.draw(8, index)
    finally:
        sys.setprofile(None)
    assert "background" in used
    assert used <= STREETS, used - STREETS


def test_data_set():
    data = shapes.Shapes(4, 9)
    assert len(data) == 4 and len(list(data)) == 4
    for i in range(4):
        image, target = data[i]
        check_target(image, target, len(shapes.CLASSES) + 1)
        assert target["image_id"] == i
    flipped = shapes.Shapes(4, 9, transforms=lambda image, target: (image + 1, 3))
    assert flipped[0][1] == 3
    with pytest.raises(ValueError, match="at least 1, got 0"):
        shapes.Shapes(0, 9)
    with pytest.raises(IndexError, match="item 4 of 4"):
        data[4]


def test_pretraining_stores_what_the_model_loads(tmp_path, monkeypatch):
    if not weights.place().is_file():
        pytest.skip("the weights are not in torch's cache: run make book")
    model, history = pretrain.pretrain(tmp_path / "run", 4, 1, progress=False)
    assert len(history) == 1 and "segm/AP" in history[0]
    file = tmp_path / "weights" / "detector.safetensors"
    pretrain.store(model, file)
    assert file.stat().st_size < 8e6
    with safe_open(file, "pt") as stored:
        names = list(stored.keys())
        assert json.loads(stored.metadata()["classes"]) == list(shapes.CLASSES)
        assert stored.get_tensor(names[0]).dtype == torch.float16
    monkeypatch.setattr(models, "SHAPES_FILE", file)
    own = models.mask_rcnn_mobilenet(len(shapes.CLASSES) + 1, "shapes").state_dict()
    other = models.mask_rcnn_mobilenet(3, "shapes").state_dict()
    new = {name for name in own if own[name].shape != other[name].shape}
    assert new and all(name.startswith(models.CLASS_LAYERS) for name in new)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(own[name], value, rtol=1e-3, atol=1e-4)
        if name not in new:
            assert torch.equal(other[name], own[name])
    name = "roi_heads.box_predictor.bbox_pred.bias"  # dx, dy, dw, dh of each class
    assert torch.equal(other[name][:4], own[name][:4])
    for number in (1, 2):
        mean = own[name].reshape(-1, 4)[1:].mean(dim=0)
        torch.testing.assert_close(other[name].reshape(3, 4)[number], mean)
    with pytest.raises(ValueError, match="does not fit"):
        models.mask_rcnn_mobilenet(2, "shapes", mask_layers=2)


def test_an_object_wider_than_the_picture_is_left_out(monkeypatch):
    """Seed 1 has one among its first 2000 scenes; drawing it used to fail."""
    wide = shapes.Drawing(np.zeros((30, 2000, 3)), np.ones((30, 2000)))
    monkeypatch.setattr(shapes, "cut_out", lambda rng, name, tall: wide)
    _, masks, names = shapes.draw(1, 0)
    assert names == [] and not masks.any()


def test_the_bundled_detector_knows_its_objects():
    """On scenes that it was not trained on, by the file that the chapters load."""
    model = models.mask_rcnn_mobilenet(
        len(shapes.CLASSES) + 1,
        "shapes",
        min_size=pretrain.SIZE,
        max_size=pretrain.SIZE,
    )
    assert models.SHAPES_FILE.stat().st_size <= 8e6
    loader = DataLoader(shapes.Shapes(16, 77), 4, collate_fn=collate)
    results = engine.evaluate(model, loader, "cpu", progress=False)
    assert results["bbox"]["AP50"] > 0.5 and results["segm"]["AP50"] > 0.4

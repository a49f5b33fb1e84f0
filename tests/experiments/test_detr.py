"""The stored DETR: its file, its weights, and the transform of its training."""

import pytest
import torch
from safetensors.torch import load_file

from course_utils.datasets import results
from course_utils.datasets.penn_fudan import BUNDLED, PennFudan
from course_utils.detection import augment
from course_utils.detection.box_ops import masks_to_boxes
from experiments import detr

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_stored_run():
    stored = results.load("detr")
    assert stored["command"] == "python -m experiments.detr"
    (run,) = stored["runs"]
    curve = run["curve"]
    assert [r["step"] for r in curve] == list(
        range(detr.EACH, detr.STEPS + 1, detr.EACH)
    )
    assert curve[-1]["AP50"] >= detr.FLOOR and curve[-1]["AP50"] > curve[0]["AP50"]
    assert [curve[-1]["AP"], curve[-1]["AP50"]] == run["ways"]["layer 3"][:2]
    assert set(run["ways"]) == {"layer 1", "layer 2", "layer 3", "apart", "with NMS"}
    assert 0 < run["seconds"] + run["seconds_maps"] < 3600


def test_the_stored_weights():
    state = load_file(detr.WEIGHTS)
    model = detr.chapter().Detr()
    model.load_state_dict(state)
    assert detr.WEIGHTS.stat().st_size < 8e6
    assert all(torch.isfinite(value).all() for value in state.values())


def test_shift_moves_boxes_with_their_masks():
    torch.manual_seed(1)
    image, target = augment.resized(96)(*PennFudan(BUNDLED, "train")[0])
    moved, after = detr.Shift()(image, target)
    assert moved.shape == image.shape
    assert not torch.equal(moved, image)
    assert torch.equal(after["boxes"], masks_to_boxes(after["masks"]))
    assert len(after["labels"]) == len(after["boxes"]) <= len(target["boxes"])


def test_shift_leaves_out_whom_it_cuts_off():
    image, target = augment.resized(96)(*PennFudan(BUNDLED, "train")[0])
    _, after = detr.Shift(least=10**6)(image, target)
    assert after["boxes"].shape == (0, 4) and after["masks"].shape[0] == 0

"""Chapter 27 with COURSE_PROFILE=full: the same cells, the large model, other data.

The real photographs and COCO's weights are out of reach of a test. A folder of a few
bundled scenes stands in for the photographs, random weights for COCO's, and training
takes two steps on small pictures. What is shown: the cells run in this profile, too.
"""

import copy
import tempfile

import pytest
import torch
from scenes_folder import copy_scenes
from torchvision.models import detection

from booktools import notebook
from booktools.structure import code_cells, tags_of
from course_utils.datasets import penn_fudan, results
from course_utils.detection import models

CHAPTER = notebook.CHAPTERS / "27_mask_rcnn.ipynb"


@pytest.fixture
def photographs(tmp_path, monkeypatch):
    """A folder in the layout of Penn-Fudan: four and two pictures."""
    root = copy_scenes(tmp_path / "PennFudanPed", train=4, test=2)
    monkeypatch.setenv("COURSE_PROFILE", "full")
    monkeypatch.setenv("COURSE_PENN_FUDAN", str(root))
    monkeypatch.setenv("COURSE_DEVICE", "cpu")
    monkeypatch.setenv("TQDM_DISABLE", "1")
    return root


@pytest.fixture
def random_weights(monkeypatch):
    """The large models without COCO's weights, for pictures of 64 to 96 pixels."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = detection.maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None)
    model.transform.min_size, model.transform.max_size = (64,), 96
    few = {"training": 12, "testing": 8}  # proposals: each passes four convolutions
    model.rpn._pre_nms_top_n = model.rpn._post_nms_top_n = few
    model.roi_heads.fg_bg_sampler.batch_size_per_image = 8
    model.roi_heads.detections_per_img = 3
    model.backbone.requires_grad_(False)  # a checkpoint of 200 MB instead of 550
    model.roi_heads.box_head.requires_grad_(False)

    def small(weights=None, **options):
        return copy.deepcopy(model)  # as with COCO's weights, every call gives the same

    monkeypatch.setattr(detection, "maskrcnn_resnet50_fpn_v2", small)
    monkeypatch.setattr(models, "maskrcnn_resnet50_fpn_v2", small)


@pytest.fixture
def few_stored(photographs, monkeypatch):
    """Of the stored detections, those of the two pictures that the folder has."""
    load = results.load_detections
    monkeypatch.setattr(penn_fudan, "BUNDLED", photographs)
    monkeypatch.setattr(
        results,
        "load_detections",
        lambda: load() | {"predictions": load()["predictions"][:2]},
    )


def test_the_cells_run(few_stored, photographs, random_weights, monkeypatch, tmp_path):
    monkeypatch.chdir(notebook.CHAPTERS)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    matplotlib = pytest.importorskip("matplotlib")
    backend = matplotlib.get_backend()
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    monkeypatch.setattr(plt, "show", lambda: None)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    space = {"__name__": "chapter_27"}
    try:
        for number, cell in enumerate(code_cells(notebook.read(CHAPTER)), 1):
            if {"setup", "exercise", "solution"} & set(tags_of(cell)):
                continue
            exec(compile(cell.source, f"<cell {number}>", "exec"), space)
            if "epochs" in space and space["epochs"] == 10:
                space["epochs"] = 2  # of one step each
            plt.close("all")
    finally:
        torch.set_num_threads(before)
        matplotlib.use(backend)
    assert space["full"] is True and space["root"] == photographs
    assert type(space["model"].backbone.body).__name__ == "IntermediateLayerGetter"
    assert [record["epoch"] for record in space["history"]] == [1, 2]
    assert len(space["train"]) == 4

"""Chapter 27 with COURSE_PROFILE=full: the same cells, the large model, other data.

The real photographs and COCO's weights are out of reach of a test. A folder of a few
bundled scenes stands in for the photographs, a thin Mask R-CNN of the same parts with
random weights for the ResNet-50, and training takes two steps on small pictures. What
is shown: the cells run in this profile, too.
"""

import copy
import tempfile

import pytest
import torch
from scenes_folder import copy_scenes
from torchvision.models import detection
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import (
    FastRCNNConvFCHead,
    FastRCNNPredictor,
)
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.models.resnet import BasicBlock, ResNet

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


def thin_model():
    """Mask R-CNN with COCO's 91 classes and the parts of the ResNet-50, all narrow."""
    backbone = BackboneWithFPN(
        ResNet(BasicBlock, [1, 1, 1, 1]),
        {f"layer{k + 1}": str(k) for k in range(4)},
        [64, 128, 256, 512],
        out_channels=16,
    )
    return detection.MaskRCNN(
        backbone,
        num_classes=None,  # the predictors know
        min_size=64,
        max_size=96,
        rpn_head=RPNHead(16, 3, conv_depth=2),
        box_head=FastRCNNConvFCHead((16, 7, 7), [16], [16]),
        mask_head=MaskRCNNHeads(16, [16], 1, norm_layer=torch.nn.BatchNorm2d),
        mask_predictor=MaskRCNNPredictor(16, 16, 91),
        box_predictor=FastRCNNPredictor(16, 91),
        # Few proposals: each passes the heads.
        rpn_pre_nms_top_n_train=12,
        rpn_pre_nms_top_n_test=8,
        rpn_post_nms_top_n_train=12,
        rpn_post_nms_top_n_test=8,
        box_batch_size_per_image=8,
        box_detections_per_img=3,
    )


@pytest.fixture
def thin_models(monkeypatch):
    """In place of the ResNet-50; as with COCO's weights, every call gives the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = thin_model()

    def copied(weights=None, **options):
        return copy.deepcopy(model)

    monkeypatch.setattr(detection, "maskrcnn_resnet50_fpn_v2", copied)
    monkeypatch.setattr(models, "maskrcnn_resnet50_fpn_v2", copied)


def parts(model):
    """Names and types of the parts that a chapter can reach for."""
    found = {
        name: type(part).__name__
        for name, part in model.named_modules()
        if name.count(".") <= 1
    }
    predictors = model.roi_heads.box_predictor, model.roi_heads.mask_predictor
    shapes = [len(list(part.parameters())) for part in predictors]
    return found, shapes


def test_the_stand_in_has_the_parts_of_the_large_model():
    with torch.device("meta"):
        large = detection.maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None)
    assert parts(thin_model()) == parts(large)


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


def test_the_cells_run(few_stored, photographs, thin_models, monkeypatch, tmp_path):
    monkeypatch.chdir(notebook.CHAPTERS)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    matplotlib = pytest.importorskip("matplotlib")
    backend = matplotlib.get_backend()
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    monkeypatch.setattr(plt, "show", lambda: None)
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # tiny layers: more threads only wait for each other
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

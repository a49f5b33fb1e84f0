"""A box format that a tensor carries is refused where it is not XYXY, nowhere dropped.

Every public name of ``course_utils.detection`` and ``course_utils.viz`` stands below:
a new function that takes boxes cannot forget the rule.
"""

import contextlib
import functools
import importlib
import pkgutil

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch
from torch import nn
from torchvision import ops, tv_tensors
from torchvision.transforms import v2

import course_utils.detection
from course_utils import viz
from course_utils.detection import (
    augment,
    box_ops,
    errors,
    instances,
    metrics,
    models,
    targets,
)

matplotlib.use("Agg")

SIZE = (48, 64)
IMAGE = torch.zeros(3, *SIZE, dtype=torch.uint8)
CORNERS = torch.tensor([[10.0, 12, 30, 40]])
ONE, SCORE = torch.tensor([1]), torch.tensor([0.9])
MASK = torch.zeros(1, *SIZE, dtype=torch.uint8)
MASK[0, 12:40, 10:30] = 1


def typed(form):
    """The same box in another format; as corners its numbers would pass, too."""
    values = ops.box_convert(CORNERS, "xyxy", form.lower())
    return tv_tensors.BoundingBoxes(values, format=form, canvas_size=SIZE)


def target(boxes):
    return {"boxes": boxes, "labels": ONE, "masks": tv_tensors.Mask(MASK)} | {
        "iscrowd": ONE * 0,
        "area": torch.tensor([560.0]),
    }


def found(boxes):
    return {"boxes": boxes, "labels": ONE, "scores": SCORE}


GOOD = target(CORNERS)


def pasted(samples, onto):
    paste = augment.CopyPaste(samples, most=1, scale=(1.0, 1.0))
    torch.manual_seed(1)  # with which somebody is pasted
    image = tv_tensors.Image(IMAGE)
    assert len(paste(image, GOOD)[1]["boxes"]) > 1
    torch.manual_seed(1)
    return paste(image, onto)


class Reached(nn.Module):
    """The first part of a model: what comes here was let in, and that is enough."""

    def forward(self, images, targets):
        raise StopIteration


small = functools.cache(lambda: models.mask_rcnn_mobilenet(2))
large = functools.cache(lambda: models.mask_rcnn_resnet50(2, None))
other = functools.cache(lambda: models.replace_heads(models.mask_rcnn_mobilenet(3), 2))


def trains(model, boxes):
    model.transform = Reached()
    with contextlib.suppress(StopIteration):
        model([IMAGE / 255], targets=[target(boxes)])
        raise AssertionError("the model was not entered")


def drawn(function, *arguments):
    try:
        function(*arguments)
    finally:
        plt.close("all")


PAIRS = "box_intersection box_iou generalized_box_iou distance_box_iou"
PAIRS = [*PAIRS.split(), "complete_box_iou"]
LOSSES = ["iou_loss", *[f"{name}_loss" for name in PAIRS[2:]]]

TAKES_BOXES = {
    "augment.CopyPaste (donors)": lambda b: pasted([(IMAGE, target(b))], GOOD),
    "augment.CopyPaste (target)": lambda b: pasted([(IMAGE, GOOD)], target(b)),
    "augment.augmentation (donors)": lambda b: augment.augmentation(
        paste_from=[(IMAGE, target(b))]
    ).transforms[0](IMAGE, GOOD),
    "augment.resized": lambda b: augment.resized(32)(IMAGE, target(b)),
    "box_ops.batched_nms": lambda b: box_ops.batched_nms(b, SCORE, ONE, 0.5),
    "box_ops.box_area": box_ops.box_area,
    "box_ops.check_boxes": box_ops.check_boxes,
    "box_ops.check_format": box_ops.check_format,
    "box_ops.nms": lambda b: box_ops.nms(b, SCORE, 0.5),
    "box_ops.soft_nms": lambda b: box_ops.soft_nms(b, SCORE),
    "errors.count_kinds": lambda b: errors.count_kinds([found(CORNERS)], [target(b)]),
    "errors.detection_kinds": lambda b: errors.detection_kinds(found(b), GOOD),
    "instances.read_images": lambda b: list(
        instances.read_images([found(b)], [GOOD], "bbox")
    ),
    "metrics.DetectionEvaluator": lambda b: metrics.DetectionEvaluator().update(
        [found(CORNERS)], [target(b)]
    ),
    "metrics.evaluate_detections": lambda b: metrics.evaluate_detections(
        [found(b)], [GOOD]
    ),
    "models.mask_rcnn_mobilenet": lambda b: trains(small(), b),
    "models.mask_rcnn_resnet50": lambda b: trains(large(), b),
    "models.replace_heads": lambda b: trains(other(), b),
    "models.paste_masks": lambda b: models.paste_masks(torch.ones(1, 1, 4, 4), b, SIZE),
    "targets.check_target": lambda b: targets.check_target(IMAGE, target(b)),
    "targets.check_targets": lambda b: targets.check_targets([IMAGE], [target(b)]),
    "targets.check_labels": lambda b: targets.check_labels([target(b)], 2),
    "viz.draw_boxes": lambda b: drawn(viz.draw_boxes, plt.subplots()[1], b),
    "viz.show_detections": lambda b: drawn(
        viz.show_detections, [IMAGE], [found(b)], [GOOD]
    ),
    "viz.show_detections (verdicts)": lambda b: drawn(
        viz.show_detections,
        [IMAGE],
        [found(CORNERS)],
        [target(b)],
        [(["right"], ["found"])],
    ),
}
for _name in PAIRS + LOSSES:
    _call = getattr(box_ops, _name)
    TAKES_BOXES |= {
        f"box_ops.{_name} (first)": lambda b, call=_call: call(b, CORNERS),
        f"box_ops.{_name} (second)": lambda b, call=_call: call(CORNERS, b),
    }

# They take no boxes, or hand on what they are given as it is.
TAKES_NONE = set(
    """
    augment.InMemory augment.collate
    box_ops.mask_iou box_ops.masks_to_boxes
    errors.KINDS errors.Verdict
    instances.Entries instances.Objects instances.pair_ious
    metrics.average_precision metrics.precision_envelope
    models.shapes_classes portable.Portable portable.export
    viz.BLUE viz.GREEN viz.GREY viz.GROUND_TRUTH viz.INK viz.ORANGE viz.PALE
    viz.PREDICTION viz.PURPLE viz.SKY viz.VERMILION
    viz.blank viz.draw_arrow viz.draw_graph viz.draw_storage viz.draw_tensor
    viz.plot_precision_recall viz.show_images viz.use_style
    """.split()
)


def test_every_public_name_is_here():
    public = {f"viz.{name}" for name in viz.__all__}
    for module in pkgutil.iter_modules(course_utils.detection.__path__):
        made = importlib.import_module(f"course_utils.detection.{module.name}")
        public |= {f"{module.name}.{name}" for name in made.__all__}
    tested = {name.split(" ")[0] for name in TAKES_BOXES}
    assert not tested & TAKES_NONE
    assert tested | TAKES_NONE == public


@pytest.mark.parametrize("name", TAKES_BOXES)
def test_other_formats_are_refused_by_name(name):
    call = TAKES_BOXES[name]
    call(CORNERS)  # no type, no format: taken as corners
    call(typed("XYXY"))
    for form in ("XYWH", "CXCYWH"):
        with pytest.raises(ValueError, match=f"must be XYXY, got {form}.*new_format"):
            call(typed(form))


def test_the_advice_works():
    boxes = typed("XYWH")
    with pytest.raises(ValueError) as caught:
        box_ops.box_area(boxes)
    advice = str(caught.value).split("convert them with ")[1]
    converted = eval(advice, {"v2": v2, "boxes": boxes})
    assert box_ops.box_area(converted).tolist() == [560]


def test_rotated_boxes_are_refused_as_such():
    rotated = tv_tensors.BoundingBoxes(
        [[20.0, 26, 20, 28, 45]], format="CXCYWHR", canvas_size=SIZE
    )
    with pytest.raises(ValueError, match="must be XYXY, got CXCYWHR$"):
        box_ops.box_iou(CORNERS, rotated)


def test_a_transform_of_torchvision_honors_the_format():
    """Mirroring alone is v2's own, which reads the format; ours hands it on."""
    torch.manual_seed(0)
    mirror = augment.augmentation(color=False)
    seen = set()
    for _ in range(20):
        box = mirror(tv_tensors.Image(IMAGE), target(typed("XYWH")))[1]["boxes"]
        assert box.format is tv_tensors.BoundingBoxFormat.XYWH
        seen.add(tuple(box[0].tolist()))
    assert seen == {(10, 12, 20, 28), (34, 12, 20, 28)}

"""Targets for training: what passes, and what each mistake is answered."""

import pytest
import torch
from torchvision.transforms import v2

from course_utils.datasets import PennFudan, pedestrians
from course_utils.detection.targets import check_labels, check_target, check_targets

IMAGE = torch.zeros(3, 20, 30)


def filled(*boxes):
    """Masks that fill boxes of whole pixels."""
    masks = torch.zeros(len(boxes), 20, 30, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = 1
    return masks


def good(**changes):
    target = {
        "boxes": torch.tensor([[1.0, 2.0, 30.0, 20.0], [0.0, 0.0, 1.0, 1.0]]),
        "labels": torch.tensor([1, 2]),
        "masks": filled((1, 2, 30, 20), (0, 0, 1, 1)),
        "image_id": 7,
    }
    return target | changes


def test_good_ones_pass():
    check_target(IMAGE, good(), num_classes=3)
    check_target(IMAGE.to(torch.uint8), good(masks=good()["masks"].bool()))
    without = good()
    del without["masks"], without["image_id"]
    check_target(IMAGE, without)
    check_target(IMAGE, good(image_id=torch.tensor(7)))
    check_target(IMAGE, good(image_id="img_7"))
    check_targets([IMAGE] * 2, [good(), without], num_classes=3)
    check_labels([good(), without], 3)
    check_labels([], 3)


def test_no_object_passes():
    nothing = {
        "boxes": torch.empty(0, 4),
        "labels": torch.empty(0, dtype=torch.int64),
        "masks": torch.empty(0, 20, 30, dtype=torch.uint8),
    }
    check_target(IMAGE, nothing, num_classes=2)
    check_labels([nothing, nothing], 2)


BOX = torch.tensor([[1.0, 2.0, 30.0, 20.0]])
ONE = {"labels": torch.tensor([1]), "masks": torch.ones(1, 20, 30, dtype=torch.uint8)}


def box(*numbers):
    return {**ONE, "boxes": torch.tensor([numbers], dtype=torch.float32)}


@pytest.mark.parametrize(
    "changes, error, words",
    [
        (box(5, 2, 5, 9), ValueError, "box 0, .*has no width or height"),
        (box(5, 9, 8, 9), ValueError, "has no width or height"),
        (box(8, 2, 5, 9), ValueError, r"x1 <= x2 .*got \[8.0, 2.0, 5.0, 9.0\] at \[0"),
        (box(0, 0, 30.5, 20), ValueError, "leaves the image of 30 x 20"),
        (box(-1, 0, 30, 20), ValueError, "leaves the image"),
        (box(0, 0, float("nan"), 20), ValueError, "must be finite.*nan"),
        ({**ONE, "boxes": BOX.half()}, TypeError, "float32 or float64.*float16"),
        ({**ONE, "boxes": BOX[0]}, ValueError, r"shape \(N, 4\), got \(4,\)"),
        ({**ONE, "boxes": [[1, 2, 3, 4]]}, TypeError, "tensor, got list"),
        ({"labels": torch.tensor([0, 1])}, ValueError, r"start at 1.*\[0, 1\]"),
        ({"labels": torch.tensor([1, 3])}, ValueError, r"labels 1 to 2, got \[1, 3\]"),
        ({"labels": torch.tensor([1.0, 2.0])}, TypeError, "int64, got torch.float32"),
        ({"labels": torch.tensor([1])}, ValueError, r"2 boxes, but labels are \(1,\)"),
        ({"masks": torch.ones(2, 30, 20).byte()}, ValueError, r"got \(2, 30, 20\)"),
        ({"masks": torch.ones(1, 20, 30).byte()}, ValueError, r"got \(1, 20, 30\)"),
        ({"masks": torch.ones(2, 20, 30)}, TypeError, "uint8 or bool"),
        ({"masks": 255 * torch.ones(2, 20, 30).byte()}, ValueError, "0 and 1, got 255"),
        (
            {"masks": filled((1, 2, 30, 20), (3, 3, 3, 3))},
            ValueError,
            "mask 1 is empty",
        ),
        (
            {"masks": filled((0, 0, 1, 1), (1, 2, 30, 20))},  # the other way round
            ValueError,
            r"mask 0, which fills \[0.0, .*its box, \[1.0, 2.0, 30.0, 20.0\], by more",
        ),
    ],
)
def test_bad_targets_are_named(changes, error, words):
    with pytest.raises(error, match=words) as caught:
        check_target(IMAGE, good(**changes), num_classes=3)
    assert "image_id 7" in str(caught.value)


@pytest.mark.parametrize("side", range(4))
def test_a_mask_may_leave_its_box_by_a_pixel(side):
    """Edges that are rounded apart differ by up to one; boxes may be larger."""
    whole, sign = [8.0, 5.0, 20.0, 15.0], 1 if side < 2 else -1
    masks = filled((8, 5, 20, 15))
    for into, passes in ((1.0, True), (0.5, True), (-4.5, True), (1.1, False)):
        moved = whole.copy()
        moved[side] += sign * into
        target = {"boxes": torch.tensor([moved]).clamp(min=0), "masks": masks}
        target |= {"labels": torch.tensor([1])}
        if passes:
            check_target(IMAGE, target)
        else:
            with pytest.raises(ValueError, match="mask 0, .* by more than a pixel"):
                check_target(IMAGE, target)


@pytest.mark.parametrize("size", [67, 100, 150, 331])
def test_boxes_and_masks_that_v2_resizes_still_belong_together(size):
    data = PennFudan(pedestrians(), "train", v2.Resize(size))
    for i in range(20):
        check_target(*data[i], num_classes=2)


def test_labels_beyond_the_model_are_named_with_their_image():
    ninth = good(labels=torch.tensor([1, 9]))
    unnamed = good(labels=torch.tensor([0, 1]))
    del unnamed["image_id"]
    for check in (
        lambda targets, classes: check_labels(targets, classes),
        lambda targets, classes: check_targets([IMAGE] * 2, targets, classes),
    ):
        with pytest.raises(ValueError, match=r"^image_id 7: .*1 to 8, got \[1, 9\]"):
            check([good(), ninth], 9)
        with pytest.raises(ValueError, match=r"^image 1 of the batch: labels start"):
            check([good(), unnamed], 9)
        check([good(), ninth], 10)
    with pytest.raises(ValueError, match="^image_id 'img_7': .*1 to 8"):
        check_target(IMAGE, ninth | {"image_id": "img_7"}, 9)
    with pytest.raises(ValueError, match="image 0 of the batch: there is no 'labels'"):
        check_labels([{"boxes": BOX}], 2)


def test_missing_fields_and_bad_images():
    with pytest.raises(ValueError, match="there is no 'labels', only"):
        check_target(IMAGE, {"boxes": BOX})
    with pytest.raises(TypeError, match="a target: must be a dictionary, got list"):
        check_target(IMAGE, [BOX])
    with pytest.raises(ValueError, match=r"\(3, height, width\), got \(20, 30, 3\)"):
        check_target(IMAGE.permute(1, 2, 0), good())
    with pytest.raises(ValueError, match="0 to 1, got 0 to 255"):
        check_target(torch.tensor([0.0, 255]).repeat(3, 20, 15), good())
    with pytest.raises(ValueError, match="0 to 1, got nan"):
        check_target(IMAGE * float("nan"), good())
    with pytest.raises(TypeError, match="uint8 or float, got torch.int64"):
        check_target(IMAGE.long(), good())
    with pytest.raises(ValueError, match=r"no pixel, \(3, 0, 5\)"):
        check_target(torch.zeros(3, 0, 5), good())
    with pytest.raises(ValueError, match="got 1 images and 2 targets"):
        check_targets([IMAGE], [good(), good()])

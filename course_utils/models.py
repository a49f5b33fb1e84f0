"""The detectors of the course: Mask R-CNN, small enough for two CPU cores, and full.

Both are :class:`torchvision.models.detection.MaskRCNN`; only the parts differ.
"""

from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torchvision.models import mobilenet_v2
from torchvision.models.detection import MaskRCNN, maskrcnn_resnet50_fpn_v2
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign

__all__ = ["mask_rcnn_mobilenet", "mask_rcnn_resnet50", "replace_heads"]

SHAPES_FILE = Path(__file__).parents[1] / "data" / "weights/shapes_detector.safetensors"

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
    **options,
) -> MaskRCNN:
    """A Mask R-CNN of about 3 million parameters for images of about 300 pixels.

    Args:
        num_classes: classes with the background, which is class 0; at least 2.
        weights: what training starts from.
            ``None``: nothing. Normalization is GroupNorm, because a few images a
            step are too few for BatchNorm, and every layer trains.
            ``"imagenet"``: torchvision's MobileNetV2 (see
            :mod:`course_utils.weights`) with its BatchNorm statistics frozen.
            ``"shapes"``: the detector that ``python -m course_utils.pretrain`` made of
            drawn objects. The layers that know its classes are kept if ``num_classes``
            is its own number, 18; for any other number they start fresh.
        trainable_from: the first of the body's 18 blocks that trains. Default: 0
            without weights, 7 with weights.
        channels: channels of the feature pyramid and of the mask head.
        mask_layers: convolutions of the mask head.
        min_size, max_size: images are resized so that the shorter side has
            ``min_size`` pixels, or the longer one ``max_size``, if that is smaller.
        options: passed on to :class:`MaskRCNN`, such as ``box_score_thresh``.

    Returns:
        The model, in training mode.

    Raises:
        ValueError: an argument out of range.
        FileNotFoundError: the weights asked for are not there; names the command
            that makes or fetches them.
    """
    _check_classes(num_classes)
    if weights not in (None, "imagenet", "shapes"):
        raise ValueError(
            f"weights must be None, 'imagenet' or 'shapes', got {weights!r}"
        )
    first = (7 if weights else 0) if trainable_from is None else trainable_from
    if not 0 <= first <= 18:
        raise ValueError(f"trainable_from must lie in 0 .. 18, got {trainable_from}")

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
    if weights == "shapes":
        _load_shapes(model)
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

    Args:
        num_classes: classes with the background, which is class 0; at least 2.
        weights: ``"coco"`` (177 MB, downloaded by torchvision) or ``None``.

    Returns:
        The model, in training mode.

    Raises:
        ValueError: ``num_classes`` below 2, or unknown weights.
    """
    _check_classes(num_classes)
    if weights not in (None, "coco"):
        raise ValueError(f"weights must be None or 'coco', got {weights!r}")
    model = maskrcnn_resnet50_fpn_v2(
        weights="COCO_V1" if weights else None, weights_backbone=None
    )
    return replace_heads(model, num_classes)


def replace_heads(model: MaskRCNN, num_classes: int) -> MaskRCNN:
    """Give a Mask R-CNN fresh predictors for ``num_classes`` classes, in place.

    All else keeps its weights: the two last layers are all that knows the classes.

    Args:
        model: a :class:`MaskRCNN` whose predictors are torchvision's.
        num_classes: classes with the background; at least 2.

    Returns:
        The same model.
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


def _check_classes(num_classes: int) -> None:
    if isinstance(num_classes, bool) or not isinstance(num_classes, int):
        raise TypeError(f"num_classes must be an integer, got {num_classes!r}")
    if num_classes < 2:
        raise ValueError(
            f"num_classes must be at least 2 (background and one), got {num_classes}"
        )


def _imagenet_body() -> dict[str, torch.Tensor]:
    """The body's part of torchvision's ImageNet weights."""
    prefix = "features."
    state = mobilenet_v2(weights="IMAGENET1K_V1").state_dict()
    return {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}


def _load_shapes(model: MaskRCNN) -> None:
    """Load the pretrained detector; layers made for other classes stay fresh."""
    if not SHAPES_FILE.is_file():
        raise FileNotFoundError(
            f"the weights {SHAPES_FILE.name} are not there; make them with "
            "`python -m course_utils.pretrain`"
        )
    own = model.state_dict()
    loaded = {
        name: value.float()
        for name, value in load_file(SHAPES_FILE).items()
        if own[name].shape == value.shape
    }
    missing = model.load_state_dict(loaded, strict=False).missing_keys
    odd = [n for n in missing if not n.startswith(CLASS_LAYERS)]
    if odd:
        raise ValueError(f"{SHAPES_FILE.name} lacks {odd[0]} and {len(odd) - 1} more")

"""Write the small Mask R-CNN as an ONNX file that needs neither PyTorch nor this book.

The file takes a picture as its bytes and gives boxes, labels, scores and whole masks:
resizing, normalization, suppression and pasting are inside. ``examples/serve.py``
serves it; chapter 32 builds it step by step. ``python -m
course_utils.detection.portable detector.onnx`` writes the one with the weights
``"shapes"``.

Needs the extra: ``pip install ".[shipping]"``.
"""

import json
import sys
import warnings
from collections.abc import Sequence
from os import PathLike

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.image_list import ImageList

from course_utils.detection.models import mask_rcnn_mobilenet, shapes_classes

__all__ = ["Portable", "export"]

OUTPUTS = ("boxes", "labels", "scores", "masks")


class Portable(nn.Module):
    """A detector that tracing can follow: no Python number depends on the picture.

    Its sizes are computed with whole numbers. torchvision computes them as floats,
    32 bits in a traced graph and 64 outside; where these round apart, the picture is
    resized by one pixel less, and other objects are found.

    Args:
        detector: one of :func:`course_utils.detection.models.mask_rcnn_mobilenet`.

    Raises:
        TypeError: it is no :class:`MaskRCNN`.
    """

    def __init__(self, detector: MaskRCNN):
        super().__init__()
        if not isinstance(detector, MaskRCNN):
            raise TypeError(f"detector must be a MaskRCNN, got {type(detector)}")
        self.detector = detector
        self.eval()

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What is in one picture.

        Args:
            picture: (H, W, 3), uint8, RGB, at least 1 x 1.

        Returns:
            Boxes (N, 4), xyxy in pixels; labels (N,), from 1 on; scores (N,),
            falling; masks (N, H, W), bool.
        """
        transform, heads = self.detector.transform, self.detector.roi_heads
        shape = [torch.as_tensor(side) for side in picture.shape[:2]]
        size = torch.stack(shape).to(picture.device)
        most = size * transform.max_size // size.max()
        seen = torch.minimum(size * transform.min_size[0] // size.min(), most)
        seen = seen.clamp(min=1)
        image = picture.permute(2, 0, 1)[None] / 255
        image = F.interpolate(
            image, tuple(seen.unbind()), mode="bilinear", align_corners=False
        )
        constants = transform.image_mean, transform.image_std
        mean, std = (image.new_tensor(c)[:, None, None] for c in constants)
        h, w = image.shape[2:]
        whole = transform.size_divisible
        image = F.pad((image - mean) / std, (0, -w % whole, 0, -h % whole))
        images = ImageList(image, [(h, w)])
        features = self.detector.backbone(image)
        proposals, _ = self.detector.rpn(images, features)
        [found], _ = heads(features, proposals, images.image_sizes)
        pixel = (size / seen).flip(0).repeat(2)
        boxes = found["boxes"] * pixel
        masks = _paste(found["masks"], boxes + 0.5 * pixel, picture)
        return boxes, found["labels"], found["scores"], masks


def _paste(masks: Tensor, boxes: Tensor, picture: Tensor) -> Tensor:
    """:func:`course_utils.detection.models.paste_masks`, in operations alone."""
    x1, y1, x2, y2 = boxes.T[:, :, None]  # (N, 1) each
    x = torch.arange(picture.shape[1], device=boxes.device) + 0.5
    y = torch.arange(picture.shape[0], device=boxes.device) + 0.5
    inside = ((y >= y1) & (y < y2))[:, :, None] & ((x >= x1) & (x < x2))[:, None]
    x, y = (x - x1) / (x2 - x1), (y - y1) / (y2 - y1)
    across = x[:, None].expand(-1, y.shape[1], -1)
    down = y[:, :, None].expand(-1, -1, x.shape[1])
    places = torch.stack([across, down], dim=-1) * 2 - 1
    pasted = F.grid_sample(masks, places, padding_mode="border", align_corners=False)
    return (pasted[:, 0] > 0.5) & inside


def export(
    detector: MaskRCNN, file: str | PathLike, classes: Sequence[str], side: int = 256
) -> None:
    """Write a detector as one ONNX file, with the names of its classes inside.

    Args:
        detector: one of :func:`course_utils.detection.models.mask_rcnn_mobilenet`; it
            is set to evaluation mode.
        file: where to; replaced if it is there.
        classes: the names of the labels 1, 2, ...; the background's is added. They go
            into the file's metadata, as ``classes``.
        side: of the picture that is traced; nothing should hang on it.

    Raises:
        TypeError: the detector is no :class:`MaskRCNN`.
        ValueError: the number of names does not fit the detector.
        ModuleNotFoundError: the extra is not installed.
    """
    import onnx

    model = Portable(detector)
    outputs = detector.roi_heads.box_predictor.cls_score.out_features
    if len(classes) + 1 != outputs:
        raise ValueError(f"{len(classes)} names for {outputs - 1} classes")
    example = torch.zeros(side, side + 32, 3, dtype=torch.uint8)
    example[side // 4 : side // 2, side // 4 : side // 2] = 255
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of tracing: the tests prove what it warns of
        torch.onnx.export(
            model,
            (example.to(next(model.parameters()).device),),
            file,
            dynamo=False,
            opset_version=17,
            input_names=["picture"],
            output_names=list(OUTPUTS),
            dynamic_axes={"picture": {0: "height", 1: "width"}},
        )
    written = onnx.load(file)
    names = json.dumps(["background", *classes])
    onnx.helper.set_model_props(written, {"classes": names})
    onnx.save(written, file)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m course_utils.detection.portable detector.onnx")
    names = shapes_classes()
    export(mask_rcnn_mobilenet(len(names) + 1, "shapes"), sys.argv[1], names)

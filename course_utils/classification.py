"""The small classifier of the book, trained on ``data/objects``.

Images are (N, 3, H, W), floats from 0 to 1; what a network answers is (N, classes),
one score for each class of :data:`course_utils.datasets.objects.CLASSES`.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from course_utils.datasets import objects

__all__ = ["OBJECTS_FILE", "convnet", "normalize"]

OBJECTS_FILE = (
    Path(__file__).resolve().parents[1] / "data/weights/objects_convnet.safetensors"
)
LAYERS = ((32, 2), (64, 2), (64, 1), (128, 2), (128, 1), (256, 2))  # channels, stride


def convnet(
    classes: int = len(objects.CLASSES), weights: str | None = None
) -> nn.Sequential:
    """Six 3 x 3 convolutions, each with batch normalization and ReLU; 0.6 M weights.

    Then the mean over the map, and one linear layer. Built with torch's own
    initialization, in training mode, on the CPU.

    Args:
        classes: scores that it gives; at least 1.
        weights: ``None``, or ``"objects"``: as ``python -m experiments.classify``
            trained it. If ``classes`` is not 12, the last layer is a new one.

    Returns:
        The network. It takes what :func:`normalize` gives, (N, 3, H, W), of any size,
        and gives (N, classes).

    Raises:
        ValueError: ``classes`` below 1, or unknown ``weights``.
        TypeError: ``classes`` is not an integer.
    """
    if isinstance(classes, bool) or not isinstance(classes, int):
        raise TypeError(f"classes must be an integer, got {classes!r}")
    if classes < 1:
        raise ValueError(f"classes must be at least 1, got {classes}")
    if weights not in (None, "objects"):
        raise ValueError(f"weights must be None or 'objects', got {weights!r}")
    layers: list[nn.Module] = []
    before = 3
    for width, stride in LAYERS:
        layers += [
            nn.Conv2d(before, width, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
        before = width
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes)]
    model = nn.Sequential(*layers, *head)
    if weights == "objects":
        own, stored = model.state_dict(), load_file(OBJECTS_FILE)
        if classes != len(objects.CLASSES):
            stored = {
                name: value if value.shape == own[name].shape else own[name]
                for name, value in stored.items()
            }
        model.load_state_dict(stored)
    return model


def normalize(images: Tensor) -> Tensor:
    """What :func:`convnet` takes: from 0 .. 1, or bytes, to -0.5 .. 0.5.

    Args:
        images: (..., 3, H, W): uint8 from 0 to 255, or floats from 0 to 1.

    Returns:
        Floats of the same shape, on the same device; uint8 becomes float32.

    Raises:
        TypeError: neither uint8 nor a float.
    """
    if images.dtype == torch.uint8:
        images = images / 255
    elif not images.is_floating_point():
        raise TypeError(f"images must be uint8 or floats, got {images.dtype}")
    return images - 0.5

"""Errata of chapter 7's topics that a test settles; the others have a note there."""

import importlib
import inspect

import pytest
import torch
import torchvision
from torch.utils.data import DataLoader
from torchvision import transforms as v1
from torchvision import tv_tensors
from torchvision.transforms import v2


def test_E_001():
    """torchvision holds more than data sets, models, transforms and utils."""
    for part in ("io", "ops", "tv_tensors", "transforms.v2", "models.detection"):
        assert importlib.import_module(f"torchvision.{part}")


def test_E_002():
    """v2 still has ToTensor, which warns; two other transforms do its work."""
    with pytest.warns(UserWarning, match="deprecated"):
        old = v2.ToTensor()
    new = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    array = torch.randint(256, (4, 5, 3), dtype=torch.uint8).numpy()
    assert torch.allclose(old(array), new(array), atol=1e-6)


def test_E_003():
    """`self` means nothing outside a method."""
    with pytest.raises(NameError):
        exec("transforms = []\nself.transforms = transforms", {})


def test_E_076():
    """An iterator of a loader has no method next; the function does it."""
    iterator = iter(DataLoader([1, 2, 3]))
    assert not hasattr(iterator, "next")
    assert next(iterator).tolist() == [1]


def test_E_087():
    """Misspelled modules, classes and arguments do not exist."""
    for name in ("transformees", "transform"):
        assert not hasattr(torchvision, name)
    assert hasattr(v1, "InterpolationMode") and not hasattr(v1, "InterpoLationMode")
    assert "saturation" in inspect.signature(v2.ColorJitter).parameters
    with pytest.raises(TypeError):
        v2.ColorJitter(satauration=0.5)


def test_E_088():
    """What speaks for v2 is what v1 cannot do: boxes and masks."""
    boxes = tv_tensors.BoundingBoxes(
        [[1.0, 2, 3, 4]], format="XYXY", canvas_size=(8, 8)
    )
    assert v2.RandomHorizontalFlip(1.0)(boxes).tolist() == [[5, 2, 7, 4]]
    assert v1.RandomHorizontalFlip(1.0)(boxes).tolist() == [[4, 3, 2, 1]]


@pytest.mark.parametrize("module", [v1, v2])
@pytest.mark.parametrize("name", ["Resize", "RandomResizedCrop"])
def test_E_089(module, name):
    """antialias is a parameter, and True unless we say otherwise."""
    parameters = inspect.signature(getattr(module, name)).parameters
    assert parameters["antialias"].default is True


def test_E_093():
    """ratio is width over height, drawn level in its logarithm."""
    crop = v2.RandomResizedCrop(8, scale=(0.2, 0.2), ratio=(3.0, 3.0))
    found = crop.make_params([torch.zeros(1, 300, 300)])
    assert found["width"] > 2 * found["height"]
    torch.manual_seed(0)
    crop = v2.RandomResizedCrop(8, scale=(0.1, 0.1), ratio=(0.25, 4.0))
    picture = [torch.zeros(1, 1000, 1000)]
    drawn = [crop.make_params(picture) for _ in range(400)]
    upright = sum(d["width"] < d["height"] for d in drawn) / len(drawn)
    assert 0.42 < upright < 0.58  # level in the ratio itself it would be 0.2


def test_E_096():
    """RandomErasing may come after Normalize: 0 is the mean color there."""
    steps = [
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize([0.5] * 3, [0.25] * 3),
        v2.RandomErasing(p=1.0, value=0),
    ]
    image = torch.full((3, 16, 16), 255, dtype=torch.uint8)
    assert v2.Compose(steps)(image).min() == 0


def test_E_098():
    """A name is bound under one spelling."""
    with pytest.raises(NameError):
        exec("my_transform = abs\nmy_transforms(-1)", {})

"""The small classifier: its shape, its trained weights, and what it refuses."""

import pytest
import torch
from torch import nn

from course_utils import classification
from course_utils.classification import convnet, normalize
from course_utils.datasets import objects


def test_the_shape_of_the_network():
    model = convnet()
    assert sum(p.numel() for p in model.parameters()) == 576_684
    assert model.training and [type(m) for m in model[:3]] == [
        nn.Conv2d,
        nn.BatchNorm2d,
        nn.ReLU,
    ]
    model.eval()
    for side in (1, 31, 64, 100):
        assert model(torch.zeros(2, 3, side, side)).shape == (2, 12)
    assert model(torch.zeros(0, 3, 64, 64)).shape == (0, 12)
    assert convnet(5)[-1].out_features == 5


def test_the_trained_weights_know_the_pictures():
    model = convnet(weights="objects").eval()
    images, labels = objects.load("val")
    with torch.no_grad():
        right = (model(normalize(images)).argmax(1) == labels).sum().item()
    assert right >= 0.85 * len(labels)


def test_other_classes_get_a_new_last_layer():
    trained, other = convnet(weights="objects"), convnet(3, weights="objects")
    assert other[-1].weight.shape == (3, 256)
    assert torch.equal(trained[0].weight, other[0].weight)
    assert torch.equal(trained[1].running_var, other[1].running_var)


def test_building_draws_from_torchs_generator():
    models = []
    for _ in range(2):
        torch.manual_seed(3)
        models.append(convnet())
    assert torch.equal(models[0][0].weight, models[1][0].weight)


def test_the_file_is_small():
    assert classification.OBJECTS_FILE.stat().st_size < 2.5e6


def test_pictures_are_normalized():
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(3, 1, 1)
    before = images.clone()
    assert normalize(images).flatten().tolist() == pytest.approx([-0.5, -0.3, 0.5])
    assert torch.equal(images, before)
    whole = torch.rand(2, 3, 4, 4, dtype=torch.float64)
    assert torch.equal(normalize(whole), whole - 0.5)
    assert normalize(torch.zeros(0, 3, 4, 4, dtype=torch.uint8)).shape == (0, 3, 4, 4)


@pytest.mark.parametrize(
    "arguments, error, words",
    [
        ({"classes": 0}, ValueError, "at least 1, got 0"),
        ({"classes": True}, TypeError, "integer, got True"),
        ({"classes": 2.0}, TypeError, "integer, got 2.0"),
        ({"weights": "imagenet"}, ValueError, "None or 'objects', got 'imagenet'"),
    ],
)
def test_what_it_refuses(arguments, error, words):
    with pytest.raises(error, match=words):
        convnet(**arguments)


def test_integers_are_no_pictures():
    with pytest.raises(TypeError, match=r"uint8 or floats, got torch\.int64"):
        normalize(torch.zeros(3, 1, 1, dtype=torch.int64))

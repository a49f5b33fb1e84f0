"""What the notes say of pretrained weights, and what happens: errata of chapter 21."""

import re

import pytest
import torch
import torchvision
from torch import nn
from torchvision import models


def test_E_112():
    """The argument is weights, and the enumerations are in torchvision.models."""
    with torch.device("meta"), pytest.raises(TypeError, match="'weight'"):
        models.resnet50(weight=None)
    assert hasattr(models, "ResNet50_Weights")


def test_E_134():
    with pytest.raises(TypeError, match="not callable"):
        torchvision.models()


def test_E_136():
    """A second set of weights is another set: its name belongs to another variable."""
    first, second = models.ResNet50_Weights
    assert (first.name, second.name) == ("IMAGENET1K_V1", "IMAGENET1K_V2")
    right = [w.meta["_metrics"]["ImageNet-1K"]["acc@1"] for w in (first, second)]
    assert right == [76.13, 80.858]


def test_E_238():
    """The seventh entry, not the first; and names, not places, tell what it is."""
    with torch.device("meta"):
        names = list(models.resnet34().state_dict())
    assert names[0] == "conv1.weight" and names[6] == "layer1.0.conv1.weight"


def test_E_239():
    """36 counters came later: places have moved, names load as ever."""
    with torch.device("meta"):
        net = models.resnet34()
    state = net.state_dict()
    old = {n: v for n, v in state.items() if "num_batches_tracked" not in n}
    assert (len(state), len(old)) == (218, 182)
    assert list(state)[6] == "layer1.0.conv1.weight"
    assert list(old)[6] == "layer1.0.bn1.weight"
    small = nn.BatchNorm1d(2)
    legacy = {n: v + 1 for n, v in small.state_dict().items() if v.dim()}
    small.load_state_dict(legacy)
    assert small.running_mean.tolist() == [1, 1]


def test_E_245():
    """As printed, filter gets three arguments; with the bracket moved it runs."""
    net, lr = nn.Linear(1, 1), 0.1
    net.bias.requires_grad_(False)
    printed = "Adam(filter(lambda p: p.requires_grad, net.parameters(),lr))"
    names = {"Adam": torch.optim.Adam, "net": net, "lr": lr}
    with pytest.raises(TypeError, match="expected 2 arguments, got 3"):
        eval(printed, names)
    mended = re.sub(r",lr\)\)$", "), lr)", printed)
    optimizer = eval(mended, names)
    assert optimizer.param_groups[0]["params"] == [net.weight]

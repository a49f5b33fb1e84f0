"""Errata of chapter 20 that a test settles."""

import torch
from torch import nn
from torchvision import models


def test_E_071():
    """``optimizer.zero_grad()`` resets the optimizer's parameters, and to None."""
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD([model.weight], lr=0.1)
    model(torch.ones(1, 1)).sum().backward()
    optimizer.zero_grad()
    assert model.weight.grad is None
    assert model.bias.grad.tolist() == [1.0]  # it was not handed over
    model.zero_grad()
    assert model.bias.grad is None


def test_E_081():
    """A new head replaces the old one; stacked on it, it is larger and reads scores."""
    with torch.device("meta"):
        replaced, whole = models.resnet50(), models.resnet50()
        replaced.fc = nn.Linear(replaced.fc.in_features, 5)
        stacked = nn.Sequential(whole, nn.ReLU(), nn.Dropout(), nn.Linear(1000, 5))
        x = torch.zeros(2, 3, 64, 64)
        assert replaced(x).shape == stacked(x).shape == (2, 5)
    counts = [sum(p.numel() for p in m.parameters()) for m in (replaced, stacked)]
    assert counts == [23_518_277, 25_562_037]
    assert replaced.fc.in_features == 2048

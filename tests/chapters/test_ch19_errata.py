"""Errata of chapter 19 that a test settles: a misprint, and a word too many."""

import pytest
import torch
from torch import nn


def test_E_166():
    """The heading means different rates for *different* layers, not blocked ones."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
    groups = [
        {"params": [model[0].weight], "lr": 0.1},
        {"params": [model[1].weight], "lr": 0.2},
    ]
    optimizer = torch.optim.SGD(groups)
    before = [w.item() for w in model.parameters()]
    for weight in model.parameters():
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    moved = [b - w.item() for b, w in zip(before, model.parameters(), strict=True)]
    assert moved == pytest.approx([0.1, 0.2], abs=1e-6)


def test_E_168():
    """Not any iterable is a group: sets are refused, generators are used up."""
    model = nn.Linear(1, 1)
    with pytest.raises(TypeError, match="ordered collections"):
        torch.optim.SGD([{"params": set(model.parameters())}], lr=0.1)
    stream = model.parameters()
    assert len(torch.optim.SGD(stream, lr=0.1).param_groups[0]["params"]) == 2
    with pytest.raises(ValueError, match="empty parameter list"):
        torch.optim.SGD(stream, lr=0.1)

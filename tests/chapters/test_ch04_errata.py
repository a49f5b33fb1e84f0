"""Errata of chapter 4 that a test settles: misprints, and one loose word."""

import pytest
import torch


def test_E_040():
    """Of where and clamp, only the one-argument where selects places."""
    x = torch.tensor([-1.0, 0.5, 3.0])
    assert x.clamp(0, 1).tolist() == [0.0, 0.5, 1.0]
    assert torch.where(x > 0, x, torch.zeros(3)).tolist() == [0.0, 0.5, 3.0]
    (places,) = torch.where(x > 0)
    assert places.tolist() == [1, 2]


def test_E_210():
    """The comparison "at least" is called ge; te does not exist."""
    x = torch.tensor([1, 2, 3])
    assert x.ge(2).tolist() == (x >= 2).tolist() == [False, True, True]
    assert not hasattr(x, "te") and not hasattr(torch, "te")


def test_E_212():
    """t takes its tensor, and only matrices (or less)."""
    x = torch.arange(6).reshape(2, 3)
    assert torch.t(x).equal(x.t()) and x.t().equal(x.transpose(0, 1))
    with pytest.raises(TypeError):
        torch.t()
    with pytest.raises(RuntimeError, match="2 dimensions"):
        torch.zeros(2, 2, 2).t()

"""Errata of chapter 5 that a test settles: misprints, and what is said too strictly."""

import warnings

import pytest
import torch
from torch import nn


def test_E_169():
    """Results keep their gradient too, when asked to beforehand."""
    x = torch.ones(1, requires_grad=True)
    kept = x * 2
    kept.retain_grad()
    (kept * 3).backward()
    assert kept.grad.item() == 3.0
    dropped = x * 2
    (dropped * 3).backward()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert dropped.grad is None
    assert "not a leaf" in str(caught[0].message)


def test_E_171():
    """A loss takes two arguments; in doubled parentheses they are one tuple."""
    logits, labels = torch.zeros(4, 3), torch.tensor([0, 1, 2, 0])
    with pytest.raises(TypeError, match="target"):
        nn.CrossEntropyLoss()((logits, labels))
    loss = nn.CrossEntropyLoss()(logits, labels)
    assert torch.isclose(loss, torch.tensor(3.0).log())


def test_E_214():
    """zero_grad() leaves None behind, on which zero_() cannot be called."""
    model = nn.Linear(1, 1)
    model(torch.ones(1, 1)).backward()
    model.zero_grad()
    assert model.weight.grad is None
    with pytest.raises(AttributeError, match="zero_"):
        model.weight.grad.zero_()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("complex_dtype", [torch.complex64])
def test_E_215(dtype, complex_dtype):
    """Any floating-point or complex dtype may require a gradient, integers not."""
    assert torch.ones(1, dtype=dtype, requires_grad=True).requires_grad
    assert torch.ones(1, dtype=complex_dtype, requires_grad=True).requires_grad
    with pytest.raises(RuntimeError, match="floating point"):
        torch.tensor([2, 2], requires_grad=True)


def test_E_218():
    """ctx has saved_tensors; as printed, save_tensors, every backward fails."""

    class Printed(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            result = x.exp()
            ctx.save_for_backward(result)
            return result

        @staticmethod
        def backward(ctx, grad_output):
            (result,) = ctx.save_tensors
            return grad_output * result

    class Repaired(Printed):
        @staticmethod
        def backward(ctx, grad_output):
            (result,) = ctx.saved_tensors
            return grad_output * result

    x = torch.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(AttributeError, match="save_tensors"):
        Printed.apply(x).sum().backward()
    Repaired.apply(x).sum().backward()
    assert torch.equal(x.grad, x.detach().exp())

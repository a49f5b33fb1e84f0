"""Errata of chapter 11 that no cell shows."""

import pytest
import torch
from torch import nn


def test_E_221():
    """One learns the slope of negative inputs, the other has a fixed one."""
    prelu, leaky = nn.PReLU(), nn.LeakyReLU()
    assert sum(p.numel() for p in prelu.parameters()) == 1
    assert not list(leaky.parameters()) and leaky.negative_slope == 0.01
    x = torch.tensor([-2.0, 3.0])
    torch.testing.assert_close(prelu(x).detach(), torch.tensor([-0.5, 3.0]))
    torch.testing.assert_close(leaky(x), torch.tensor([-0.02, 3.0]))
    prelu(x).sum().backward()
    assert prelu.weight.grad.item() == -2


def test_E_223():
    broken = "nn.Sequential(\n nn.Flatten()\n nn.Linear(49, 8), module.parameters())"
    with pytest.raises(SyntaxError):
        compile(broken, "<note>", "exec")
    joined = broken.replace("nn.Flatten()", "nn.Flatten(),")
    with pytest.raises(NameError, match="module"):
        eval(compile(joined, "<note>", "eval"), {"nn": nn})
    mended = joined.replace(", module.parameters()", "")
    net = eval(compile(mended, "<note>", "eval"), {"nn": nn})
    assert net(torch.zeros(2, 7, 7)).shape == (2, 8)

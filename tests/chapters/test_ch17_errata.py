"""Errata of chapter 17 that a test settles: a loop that is offered as an example."""

import pytest
import torch

LOOP = """
for j in range(len(input)):
    h = sum(x * w for x, w in zip(input[j], weights))
    d_weights = [d + (label[j] - h) * x for d, x in zip(d_weights, input[j])]
d_weights = [d / len(input) for d in d_weights]
weights = [w + alpha * d for w, d in zip(weights, d_weights)]
"""
ROWS, WANTED = [[1.0, 2.0], [3.0, 4.0]], [1.0, 2.0]


def run():
    names = {
        "input": ROWS,
        "label": WANTED,
        "weights": [0.0, 0.0],
        "d_weights": [0.0, 0.0],
        "alpha": 0.01,
    }
    exec(LOOP, names)
    return names


def torch_gradient():
    weight = torch.zeros(2, requires_grad=True)
    error = torch.tensor(ROWS) @ weight - torch.tensor(WANTED)
    (error.square().mean() / 2).backward()
    return weight.grad


def test_E_009():
    """As printed its names are undefined; once they are defined, it learns."""
    with pytest.raises(TypeError, match="builtin_function_or_method"):
        exec(LOOP, {})  # `input` is Python's own function
    with pytest.raises(NameError, match="weights"):
        exec(LOOP, {"input": ROWS})
    before = sum(y * y for y in WANTED)
    learned = run()["weights"]
    after = sum(
        (y - sum(x * w for x, w in zip(row, learned, strict=True))) ** 2
        for row, y in zip(ROWS, WANTED, strict=True)
    )
    assert after < before


def test_E_012():
    """The loop's sum is minus the gradient; adding it is the step of descent."""
    names, gradient = run(), torch_gradient()
    assert torch.allclose(torch.tensor(names["d_weights"]), -gradient)
    undivided = torch.tensor(names["d_weights"]) * len(ROWS)
    assert not torch.allclose(undivided, -gradient)
    assert torch.allclose(torch.tensor(names["weights"]), -0.01 * gradient)

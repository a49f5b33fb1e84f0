"""Errata of chapter 3's topics that a test settles; the others have a note there."""

import pytest
import torch


def test_E_046():
    """max without dim gives one value and no index; with dim, the first of equals."""
    x = torch.tensor([[1, 5], [7, 2]])
    assert type(x.max()) is torch.Tensor and x.max().shape == ()
    assert type(x.max(dim=1)) is not torch.Tensor
    values, indices = x.max(dim=1)
    assert values.tolist() == [5, 7] and indices.tolist() == [1, 0]
    assert torch.tensor([3, 7, 7, 1]).max(dim=0).indices == 1


def test_E_203():
    """Of the two alternatives, only that with `data` works where a slope is wanted."""
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(RuntimeError, match="requires grad"):
        x.numpy()
    assert x.data.numpy().tolist() == x.detach().numpy().tolist() == [1, 2]
    assert torch.tensor([1, 2]).numpy().tolist() == [1, 2]


def test_E_205():
    """pin_memory asks for page-locked memory; an ordinary tensor is not in it."""
    assert not torch.ones(2).is_pinned()
    if torch.cuda.is_available():
        assert torch.ones(2).pin_memory().is_pinned()


def test_E_207():
    """A size is a tuple: it can be read, unpacked and compared, not assigned to."""
    size = torch.ones(3, 2).size()
    rows, columns = size
    assert isinstance(size, tuple) and size == (3, 2) and (rows, columns) == (3, 2)
    assert size.numel() == 6
    with pytest.raises(TypeError):
        size[0] = 1

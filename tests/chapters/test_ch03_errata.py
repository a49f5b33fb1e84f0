"""Errata of chapter 3's topics that a test settles; the others have a note there."""

import pytest
import torch


def test_E_037():
    """Type and device are separate, and half precision computes on a CPU, too."""
    half = torch.ones(3, dtype=torch.float16, device="cpu")
    assert half.dtype == torch.float16 and half.device.type == "cpu"
    assert (half @ half).item() == 3 and (half @ half).dtype == torch.float16
    assert torch.empty(3, dtype=torch.float16, device="meta").dtype == half.dtype


def test_E_038():
    """set_default_tensor_type is deprecated; set_default_dtype is not."""
    before = torch.get_default_dtype()
    try:
        with pytest.warns(UserWarning, match="deprecated as of PyTorch 2.1"):
            torch.set_default_tensor_type("torch.DoubleTensor")
        torch.set_default_dtype(torch.float32)
        assert torch.tensor(1.0).dtype == torch.float32
    finally:
        torch.set_default_dtype(before)


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


def test_E_206():
    """torch.normal takes numbers, too, and tensors of different shapes broadcast."""
    generator = torch.Generator().manual_seed(0)
    mean, std = torch.zeros(3, 1), torch.ones(4)
    assert torch.normal(mean, std, generator=generator).shape == (3, 4)
    assert torch.normal(0.0, std, generator=generator).shape == (4,)
    assert torch.normal(mean, 1.0, generator=generator).shape == (3, 1)
    assert torch.normal(0.0, 1.0, size=(1, 4), generator=generator).shape == (1, 4)


def test_E_209():
    """torch.long and its like are dtypes or do not exist; the methods convert."""
    x = torch.tensor([1.5, 2.5])
    for name, dtype in {
        "long": torch.int64,
        "half": torch.float16,
        "int": torch.int32,
        "double": torch.float64,
        "float": torch.float32,
        "short": torch.int16,
    }.items():
        assert getattr(torch, name) == dtype
        with pytest.raises(TypeError, match="not callable"):
            getattr(torch, name)(x)
        assert getattr(x, name)().dtype == dtype
    for name, dtype in {"char": torch.int8, "byte": torch.uint8}.items():
        assert not hasattr(torch, name)
        assert getattr(x, name)().dtype == dtype

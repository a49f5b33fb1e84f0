"""What the notes say of saving and loading, and what happens: errata of chapter 15."""

import pytest
import torch
from torch import nn
from torchvision import models


def test_E_057():
    """The name is wrong; and a filtered dictionary lacks names."""
    vgg = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 3))
    state_dict = {"0.weight": torch.ones(2, 2), "other": torch.ones(1)}
    line = (
        "vgg.load_state_dict({k: v for k, v in state_dict_items() "
        "if k in vgg.state_dict()})"
    )
    space = {"vgg": vgg, "state_dict": state_dict}
    with pytest.raises(NameError, match="state_dict_items"):
        exec(line, space)
    mended = line.replace("state_dict_items", "state_dict.items")
    with pytest.raises(RuntimeError, match=r'Missing key\(s\).*"0.bias", "1.weight"'):
        exec(mended, space)
    exec(mended.replace("()})", "()}, strict=False)"), space)
    assert vgg[0].weight.tolist() == [[1, 1], [1, 1]]


def test_E_121():
    url = models.ResNet34_Weights.DEFAULT.url
    assert "333f7ec4" not in url and url.endswith("resnet34-b627a593.pth")
    with torch.device("meta"):
        assert models.resnet34(num_classes=5).fc.weight.shape == (5, 512)


def test_E_122():
    """Equal numel and another shape; then a name that the net does not have."""
    net = nn.Linear(3, 2)
    rule = "{k: v for k, v in pre.items() if net.state_dict()[k].numel() == v.numel()}"
    pre = {"weight": torch.ones(3, 2), "bias": torch.ones(2)}
    kept = eval(rule, {"net": net, "pre": pre})
    assert list(kept) == ["weight", "bias"]
    with pytest.raises(RuntimeError, match="size mismatch for weight"):
        net.load_state_dict(kept, strict=False)
    pre = {"scale": torch.ones(1)}
    with pytest.raises(KeyError, match="scale"):
        eval(rule, {"net": net, "pre": pre})


def test_E_237():
    """Four entries are two layers, or not even one block."""
    plain = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3), nn.Linear(2, 2))
    first = list(plain.state_dict())[:4]
    assert first == ["0.weight", "0.bias", "1.weight", "1.bias"]
    block = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2))
    first = list(block.state_dict())
    assert first[:4] == ["0.weight", "1.weight", "1.bias", "1.running_mean"]
    assert first[4:] == ["1.running_var", "1.num_batches_tracked"]


def test_E_243():
    """Keys are unpacked letter by letter."""
    model = nn.Linear(1, 1)
    line = "{k: loaded[k] for k, _ in model.state_dict()}"
    space = {"model": model, "loaded": model.state_dict()}
    with pytest.raises(ValueError, match="too many values to unpack"):
        eval(line, space)
    mended = line.replace("state_dict()", "state_dict().items()")
    assert list(eval(mended, space)) == ["weight", "bias"]
    space["model"] = nn.Sequential(nn.Linear(1, 1))
    with pytest.raises(KeyError, match=r"0\.weight"):
        eval(mended, space)

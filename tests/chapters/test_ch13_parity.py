"""Chapter 13's networks against torchvision's: names, outputs, gradients, state, cost.

The classes come out of the notebook. The operations are the same on both sides, so
scores in evaluation mode are equal to the bit; gradients agree within 1e-6 of the
largest one of each tensor.
"""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models

from booktools import chapter_code
from course_utils.datasets import results
from experiments import residual

CHAPTER = "13_backbones"
OURS = chapter_code.definitions(
    CHAPTER,
    *("conv_cost", "reach", "VGG_STAGES", "VGG", "layout", "fill", "layer_costs"),
    *("Block", "Net", "gradient_norms", "BasicBlock", "Bottleneck", "ResNet"),
    *("RESNETS", "as_in_the_paper", "conv_bn", "InvertedResidual", "MobileNetV2"),
    *("MOBILE_PLAN", "chain_maps"),
)

pytestmark = pytest.mark.usefixtures("one_thread")


def pair(name: str) -> tuple[nn.Module, nn.Module]:
    """Ours and the library's; VGGs have a small head instead of 120 million weights."""
    if name.startswith("vgg"):
        depth, normalize = int(name[3:5]), name.endswith("_bn")
        with torch.device("meta"):
            nets = OURS.VGG(depth, normalize), models.get_model(name)
        for net in nets:
            net.to_empty(device="meta").classifier = nn.Linear(
                512 * 7 * 7, 5, device="meta"
            )
            net.to_empty(device="cpu")
        return nets
    if name == "mobilenet_v2":
        return OURS.MobileNetV2(), models.mobilenet_v2()
    return OURS.ResNet(*OURS.RESNETS[name]), models.get_model(name)


def draw(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def step(net, images):
    """Scores, gradients and statistics of one step in training mode."""
    torch.manual_seed(0)
    x = images.clone().requires_grad_()
    scores = net.train()(x)
    F.cross_entropy(scores, torch.arange(len(x))).backward()
    found = {"scores": scores.detach(), "images": x.grad}
    found |= {name: p.grad for name, p in net.named_parameters()}
    return found | dict(net.named_buffers())


def assert_close(ours, theirs, within):
    assert list(ours) == list(theirs)
    for name, value in theirs.items():
        bound = within * value.abs().max().item()
        worst = (ours[name] - value).abs().max().item()
        assert worst <= bound, (name, worst, bound)


# --- names ---------------------------------------------------------------------------

NAMES = [
    *(f"vgg{depth}{end}" for depth in OURS.VGG_STAGES for end in ("", "_bn")),
    *OURS.RESNETS,
    "mobilenet_v2",
]


def on_meta(name):
    with torch.device("meta"):
        if name.startswith("vgg"):
            ours = OURS.VGG(int(name[3:5]), name.endswith("_bn"))
        elif name == "mobilenet_v2":
            ours = OURS.MobileNetV2()
        else:
            ours = OURS.ResNet(*OURS.RESNETS[name])
        return ours, models.get_model(name)


@pytest.mark.parametrize("name", NAMES)
def test_names_shapes_and_cost(name):
    ours, theirs = on_meta(name)
    assert OURS.layout(ours) == OURS.layout(theirs)
    rows = OURS.layer_costs(ours)
    assert sorted(map(str, rows)) == sorted(map(str, OURS.layer_costs(theirs)))
    with FlopCounterMode(display=False) as counter:
        theirs.eval()(torch.zeros(1, 3, 224, 224, device="meta"))
    operations = sum(row[2] for row in rows)
    assert 2 * operations == counter.get_total_flops()
    meta = models.get_model_weights(name).IMAGENET1K_V1.meta
    assert meta["num_params"] == sum(p.numel() for p in ours.parameters())
    assert abs(meta["_ops"] - operations / 1e9) < 0.001
    assert all(not part._forward_hooks for part in ours.modules())


def test_a_deeper_resnet_still():
    with torch.device("meta"):
        ours = OURS.ResNet(OURS.Bottleneck, (3, 8, 36, 3))
        assert OURS.layout(ours) == OURS.layout(models.resnet152())


# --- values --------------------------------------------------------------------------

SLOW = [
    pytest.param(name, marks=pytest.mark.slow)
    for name in ("vgg11", "vgg16_bn", "resnet34", "resnet50")
]
TRIED = ["vgg11_bn", "resnet18", "mobilenet_v2", *SLOW]


@pytest.fixture(scope="module", params=TRIED)
def loaded(request):
    """A pair with one state, theirs, loaded by name."""
    ours, theirs = pair(request.param)
    result = ours.load_state_dict(OURS.fill(theirs).state_dict())
    assert not result.missing_keys and not result.unexpected_keys
    return ours, theirs


INPUTS = {
    "plain": lambda x: x,
    "one picture": lambda x: x[:1],
    "no picture": lambda x: x[:0],
    "odd and not square": lambda x: x[:, :, :33, :45],
    "not contiguous": lambda x: x.transpose(2, 3),
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "huge": lambda x: x * 1e15,
    "tiny": lambda x: x * 1e-30,
    "nan": lambda x: x.clone().index_fill_(0, torch.tensor(1), float("nan")),
}


@pytest.mark.parametrize("kind", INPUTS)
@torch.no_grad()
def test_evaluation_to_the_bit(loaded, kind):
    ours, theirs = (net.eval() for net in loaded)
    x = INPUTS[kind](draw(2, 3, 48, 48))
    scores, wanted = ours(x), theirs(x)
    assert scores.shape == wanted.shape
    assert torch.equal(scores.nan_to_num(7), wanted.nan_to_num(7))
    if kind not in ("no picture", "nan"):
        assert scores.isfinite().all() and scores.std() > 0
    if kind == "nan":
        assert scores[0].isfinite().all() and scores[1].isnan().all()


def test_a_step_and_the_way_back(loaded):
    ours, theirs = (copy.deepcopy(net) for net in loaded)
    x = draw(2, 3, 40, 40, seed=1)
    assert_close(step(ours, x), step(theirs, x), 1e-6)
    theirs.load_state_dict(OURS.fill(ours, seed=1).state_dict())
    with torch.no_grad():
        assert torch.equal(theirs.eval()(x), ours.eval()(x))


def test_float64():
    ours, theirs = pair("resnet18")
    ours.double().load_state_dict(OURS.fill(theirs.double()).state_dict())
    x = draw(2, 3, 32, 32, dtype=torch.float64)
    assert_close(step(ours, x), step(theirs, x), 1e-12)


@pytest.mark.slow
@torch.no_grad()
def test_vgg16_whole():
    """With all its linear layers, on shared memory; dropout in training mode, too."""
    with torch.device("meta"):
        ours, theirs = OURS.VGG(16), models.vgg16()
    OURS.fill(theirs.to_empty(device="cpu"))
    ours.load_state_dict(theirs.state_dict(), assign=True)
    x = draw(1, 3, 32, 32)
    for mode in (False, True):
        found = []
        for net in (ours, theirs):
            torch.manual_seed(0)
            found.append(net.train(mode)(x))
        assert torch.equal(*found)
    wanted = torch.autograd.functional.vjp  # gradients of the picture
    vector = draw(1, 1000)
    one, two = (wanted(net.eval(), x, vector)[1] for net in (ours, theirs))
    assert torch.equal(one, two) and one.any()


# --- it bites ------------------------------------------------------------------------


@pytest.mark.slow
@torch.no_grad()
def test_the_papers_stride_is_another_network():
    ours, theirs = pair("resnet50")
    OURS.as_in_the_paper(ours).load_state_dict(OURS.fill(theirs).state_dict())
    x = draw(1, 3, 64, 64)
    one, two = ours.eval()(x), theirs.eval()(x)
    assert (one - two).abs().max() > 0.1 * two.abs().max()
    assert OURS.layout(ours) == OURS.layout(theirs)


def test_fill_leaves_nothing_special():
    net = OURS.fill(models.resnet18())
    for name, value in net.state_dict().items():
        if value.dim():
            assert value.std() > 0.003 and not (value == 0).all(), name
    again = OURS.fill(models.resnet18()).state_dict()
    assert all(torch.equal(v, again[k]) for k, v in net.state_dict().items())


# --- costs, windows, blocks ----------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "outputs", "size", "height", "width", "groups"),
    [(1, 1, 1, 1, 1, 1), (3, 8, 3, 5, 7, 1), (8, 8, 3, 4, 4, 8), (6, 4, 5, 9, 2, 2)],
)
def test_conv_cost(inputs, outputs, size, height, width, groups):
    conv = nn.Conv2d(
        inputs, outputs, size, padding=size // 2, groups=groups, bias=False
    )
    with FlopCounterMode(display=False) as counter:
        conv(torch.zeros(1, inputs, height, width))
    weights, operations = OURS.conv_cost(inputs, outputs, size, height, width, groups)
    assert weights == conv.weight.numel()
    assert 2 * operations == counter.get_total_flops()


@pytest.mark.parametrize("sizes", [(1,), (3,), (3, 1, 3), (5, 5), (7, 3, 3)])
def test_reach(sizes):
    assert OURS.reach(*sizes) == 1 + sum(size - 1 for size in sizes)


@pytest.mark.parametrize("channels", [1, 5])
def test_a_depthwise_convolution_is_a_loop_over_channels(channels):
    conv = nn.Conv2d(channels, channels, 3, 2, 1, groups=channels)
    x = draw(2, channels, 7, 6)
    by_hand = torch.cat(
        [
            F.conv2d(
                x[:, c : c + 1], conv.weight[c : c + 1], conv.bias[c : c + 1], 2, 1
            )
            for c in range(channels)
        ],
        dim=1,
    )
    torch.testing.assert_close(conv(x), by_hand)


def test_maps_of_a_resnet_are_its_stages():
    ours, theirs = pair("resnet18")
    ours.load_state_dict(OURS.fill(theirs).state_dict())
    x = draw(1, 3, 64, 64)
    theirs.eval(), ours.eval()
    with torch.no_grad():
        wanted = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
        for found, stride, name in zip(
            ours.maps(x),
            (4, 8, 16, 32),
            ("layer1", "layer2", "layer3", "layer4"),
            strict=True,
        ):
            wanted = getattr(theirs, name)(wanted)
            assert torch.equal(found, wanted)
            assert found.shape[3] == 64 // stride


# --- the experiment ------------------------------------------------------------------


@pytest.mark.parametrize("kind", residual.KINDS)
@pytest.mark.parametrize("depth", [8, 20])
def test_the_page_shows_the_experiments_net(kind, depth):
    torch.manual_seed(0)
    ours, theirs = OURS.Net(kind, depth), residual.Net(kind, depth)
    ours.load_state_dict(theirs.state_dict())
    images, labels = residual.pictures("train", 1)
    for mode in (True, False):
        one, two = (net.train(mode)(images) for net in (ours, theirs))
        assert torch.equal(one, two)
    norms = residual.gradients(theirs, images, labels)
    wanted = OURS.gradient_norms(ours.train(), images, labels)
    assert norms == pytest.approx(wanted, rel=1e-5)


def test_a_plain_and_a_residual_net_have_one_state():
    plain, around = (OURS.Net(kind, 44) for kind in residual.KINDS)
    assert OURS.layout(plain) == OURS.layout(around)
    count = sum(isinstance(p, (nn.Conv2d, nn.Linear)) for p in plain.modules())
    assert count == 44


def test_the_text_reads_the_stored_runs_as_they_are():
    """What chapter 13 says of them in words."""
    runs = results.load("residual")["runs"]

    def right(split, **wanted):
        return [r[split] for r in runs if all(r[k] == v for k, v in wanted.items())]

    def known(kind, depth, optimizer="Adam"):
        found = right("train", kind=kind, depth=depth, optimizer=optimizer)
        assert len(found) == len(residual.SEEDS)
        return found

    for depth in residual.DEPTHS:
        assert min(known("residual", depth)) == 1
    assert min(known("residual", 20, "SGD")) == 1
    assert min(known("plain", 8)) == 1
    assert 0.6 < min(known("plain", 20)) <= max(known("plain", 20)) < 0.95
    assert max(known("plain", 44)) < 0.25
    by_sgd, by_adam = sum(known("plain", 20, "SGD")), sum(known("plain", 20))
    assert 0.35 < by_sgd / by_adam < 0.65

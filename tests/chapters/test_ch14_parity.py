"""Chapter 14's instruments against the library's, on more than the page shows."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models

from booktools import chapter_code

CHAPTER = "14_looking_inside"
OURS = chapter_code.definitions(
    CHAPTER,
    *("layer_table", "reach", "zeros_and_dead", "step_and_read", "class_map"),
    *("cams_and_logits", "grad_cam", "occlusion", "integrated_gradients"),
    *("masked_crc", "records", "verdict"),
)

pytestmark = pytest.mark.usefixtures("one_thread")


def draw(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


# --- the table of layers -------------------------------------------------------------

LAYERS = {
    "plain": (nn.Conv2d(3, 5, 3), (2, 3, 9, 8)),
    "strided": (nn.Conv2d(3, 4, 3, stride=2, padding=1), (1, 3, 9, 8)),
    "oblong": (nn.Conv2d(2, 4, (1, 5), stride=(2, 1)), (3, 2, 9, 8)),
    "dilated": (nn.Conv2d(2, 4, 3, dilation=2), (1, 2, 9, 8)),
    "grouped": (nn.Conv2d(6, 12, 3, groups=3), (1, 6, 7, 7)),
    "depthwise": (nn.Conv2d(6, 6, 3, groups=6, bias=False), (1, 6, 7, 7)),
    "one by one": (nn.Conv2d(6, 2, 1), (1, 6, 1, 1)),
    "linear": (nn.Linear(5, 7), (4, 5)),
    "linear on tokens": (nn.Linear(5, 7, bias=False), (2, 3, 5)),
    "empty batch": (nn.Conv2d(3, 5, 3), (0, 3, 9, 8)),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_one_layer(name, dtype):
    layer, shape = copy.deepcopy(LAYERS[name][0]).to(dtype), LAYERS[name][1]
    x = draw(*shape, dtype=dtype)
    net = nn.Sequential(layer)
    ((found, part, size, own, work, memory),) = OURS.layer_table(net, x)
    with FlopCounterMode(display=False) as counter:
        out = layer(x)
    assert (found, part, size) == ("0", layer, tuple(out.shape))
    assert own == sum(p.numel() for p in layer.parameters())
    assert 2 * work == counter.get_total_flops()
    assert memory == out.numel() * out.element_size()


def test_networks_of_torchvision():
    for name in ("squeezenet1_1", "resnet18", "mobilenet_v3_small", "densenet121"):
        stated = models.get_model_weights(name).DEFAULT.meta
        with torch.device("meta"):
            network = models.get_model(name, weights=None).eval()
            rows = OURS.layer_table(network, torch.zeros(1, 3, 224, 224))
        assert sum(row[3] for row in rows) == stated["num_params"]
        assert sum(row[4] for row in rows) / 1e9 == pytest.approx(
            stated["_ops"], abs=1e-3
        )


def test_a_layer_used_twice_has_two_rows():
    net = nn.Sequential(*2 * [nn.Linear(8, 8)])
    rows = OURS.layer_table(net, torch.zeros(3, 8))
    assert [row[3] for row in rows] == [72, 72]
    assert sum(p.numel() for p in net.parameters()) == 72


def test_the_hooks_are_removed_even_after_an_error():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(3, 3))
    with pytest.raises(RuntimeError):
        OURS.layer_table(net, torch.zeros(1, 2))
    assert not any(part._forward_hooks for part in net.modules())


CHAINS = [
    [(3, 1, 1)],
    [(3, 2, 1), (3, 2, 1), (3, 1, 1)],
    [(5, 1, 1), (1, 2, 1), (3, 1, 2)],
    [(3, 1, 2), (3, 2, 2), (7, 1, 1)],
    [(1, 1, 1), (2, 2, 1), (2, 2, 1)],
]


@pytest.mark.parametrize("chain", CHAINS)
def test_the_receptive_field_is_where_the_gradient_is(chain):
    parts = [nn.Conv2d(1, 1, k, stride=s, dilation=d) for k, s, d in chain]
    net = nn.Sequential(*parts).double()
    for part in parts:
        nn.init.ones_(part.weight)
    x = draw(1, 1, 64, 64).requires_grad_()
    fields = OURS.reach(OURS.layer_table(net, x.detach()))
    for number, field in enumerate(fields, 1):
        out = net[:number](x)
        (slope,) = torch.autograd.grad(out[0, 0, 2, 3], x)
        rows = (slope[0, 0] != 0).any(1).nonzero().flatten()
        assert (rows.max() - rows.min()).item() + 1 == field


# --- the instruments -----------------------------------------------------------------


def net_and_data(dtype=torch.float64):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)
    ).to(dtype)
    return net, draw(7, 6, dtype=dtype), torch.arange(7) % 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_measured_step_is_an_ordinary_step(dtype):
    net, x, y = net_and_data(dtype)
    plain = copy.deepcopy(net)
    ours = torch.optim.SGD(net.parameters(), lr=0.3, momentum=0.9)
    theirs = torch.optim.SGD(plain.parameters(), lr=0.3, momentum=0.9)
    for _ in range(5):
        loss, _ = OURS.step_and_read(net, ours, x, y)
        wanted = F.cross_entropy(plain(x), y)
        theirs.zero_grad()
        wanted.backward()
        theirs.step()
        assert loss == wanted.item()
    for p, q in zip(net.parameters(), plain.parameters(), strict=True):
        assert torch.equal(p, q)
    assert not any(part._forward_hooks for part in net.modules())


def test_the_readings():
    net, x, y = net_and_data()
    with torch.no_grad():
        net[2].bias[:2] = -100.0  # two of four units are dead
        net[0].weight *= 1000  # and nearly all are saturated
    before = copy.deepcopy(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.3)
    _, read = OURS.step_and_read(net, optimizer, x, y)
    with torch.no_grad():
        bent = before[:2](x)
        dead = (before[:4](x) <= 0).all(0).double().mean().item()
    saturated = (bent.abs() > 0.99).double().mean().item()
    assert read["saturated", "1"] == pytest.approx(saturated)
    assert read["dead", "3"] == pytest.approx(dead) and dead >= 0.5
    for name in ("0", "2", "4"):
        part, old = net[int(name)], before[int(name)]
        norm = part.weight.grad.norm().item()
        assert read["gradient", name] == pytest.approx(norm)
        ratio = 0.3 * norm / old.weight.norm().item()
        assert read["update", name] == pytest.approx(ratio, rel=1e-6, abs=1e-12)


def test_verdicts():
    assert OURS.verdict({("update", "0"): 0.01, ("gradient", "0"): 1.0}) == "healthy"
    nan = float("nan")
    assert OURS.verdict({("update", "0"): nan, ("gradient", "0"): nan}) == "0 jumps"
    stands = {("update", "0"): 0.0, ("gradient", "0"): 1e-9}
    assert OURS.verdict(stands) == "0 has a gradient and stands still"
    assert OURS.verdict({("update", "0"): 0.0, ("gradient", "0"): 0.0}) == "healthy"


def test_zeros_and_dead():
    net = nn.Sequential(nn.Conv2d(2, 3, 1), nn.ReLU())
    with torch.no_grad():
        net[0].weight.zero_()
        net[0].bias.copy_(torch.tensor([1.0, -1.0, 0.0]))
        assert OURS.zeros_and_dead(net, torch.zeros(2, 2, 4, 4)) == {
            1: (pytest.approx(2 / 3), 2)
        }


# --- where it looks ------------------------------------------------------------------


def body_and_head(dtype, channels=6, classes=4):
    torch.manual_seed(1)
    body = nn.Sequential(
        nn.Conv2d(3, 5, 3, stride=2), nn.Tanh(), nn.Conv2d(5, channels, 2), nn.ReLU()
    )
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]
    return body.to(dtype), nn.Sequential(*head).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(3, 3, 16, 11), (1, 3, 5, 5), (0, 3, 9, 9)])
def test_mean_plus_bias_is_the_logit(dtype, shape):
    body, head = body_and_head(dtype)
    x = draw(*shape, dtype=dtype).transpose(-1, -2).contiguous().transpose(-1, -2)
    cams, logits = OURS.cams_and_logits(body, head, x)
    within = 1e-12 if dtype == torch.float64 else 1e-5
    rebuilt = cams.mean((2, 3)) + head[-1].bias
    torch.testing.assert_close(rebuilt, logits, rtol=within, atol=within)
    torch.testing.assert_close(logits, head(body(x)))
    for n in range(len(x)):
        for k in range(4):
            one = OURS.class_map(body(x)[n], head[-1], k)
            torch.testing.assert_close(one, cams[n, k], rtol=within, atol=within)
            cut = one.relu() / one.numel()
            got = OURS.grad_cam(body, head, x[n : n + 1], k)
            torch.testing.assert_close(got, cut, rtol=within, atol=within)


def test_grad_cam_leaves_no_gradient():
    body, head = body_and_head(torch.float64)
    OURS.grad_cam(body, head, draw(1, 3, 9, 9), 0)
    assert all(p.grad is None for part in (body, head) for p in part.parameters())


@pytest.mark.parametrize(("side", "size", "step"), [(8, 3, 1), (9, 4, 2), (7, 7, 3)])
def test_occlusion(side, size, step):
    body, head = body_and_head(torch.float64)
    net, x = nn.Sequential(*body, *head), draw(1, 3, side, side)
    got = OURS.occlusion(net, x, 2, size, step, fill=0.25)
    count = (side - size) // step + 1
    assert got.shape == (count, count)
    for row in range(count):
        for column in range(count):
            y = x.clone()
            top, left = row * step, column * step
            y[0, :, top : top + size, left : left + size] = 0.25
            fall = (net(x) - net(y))[0, 2].item()
            assert got[row, column].item() == pytest.approx(fall, abs=1e-12)
    same = OURS.occlusion(net, torch.full_like(x, 0.25), 2, size, step, fill=0.25)
    assert same.abs().max() < 1e-12


def test_integrated_gradients_are_complete():
    net, x, _ = net_and_data()
    baseline = draw(7, 6, seed=5)

    def score(x):
        return net(x)[:, 1].sum()

    wanted = (score(x) - score(baseline)).item()
    errors = []
    for steps in (8, 64, 512):
        shares = OURS.integrated_gradients(score, x, baseline, steps)
        assert shares.shape == x.shape and not shares.requires_grad
        errors.append(abs(shares.sum().item() - wanted))
    assert errors[2] < 1e-2 and errors[2] < errors[0]


def test_integrated_gradients_of_a_line_and_of_the_baseline():
    x, weight = draw(3, 4), draw(3, 4, seed=2)
    shares = OURS.integrated_gradients(
        lambda x: (weight * x).sum(), x, torch.zeros_like(x), 1
    )
    torch.testing.assert_close(shares, weight * x)
    start = draw(3, 4, seed=3)
    shares = OURS.integrated_gradients(lambda x: (x**2).sum(), x, start, 1)
    torch.testing.assert_close(shares, x**2 - start**2)  # the middle of the way
    baseline = x.clone()
    baseline[0] = 0
    shares = OURS.integrated_gradients(lambda x: (x**3).sum(), x, baseline, 4)
    assert (shares[1:] == 0).all() and (shares[0] != 0).all()


# --- event files ---------------------------------------------------------------------


def test_checksums():
    from tensorboardX.record_writer import masked_crc32c

    generator = torch.Generator().manual_seed(0)
    for count in (0, 1, 2, 7, 8, 255, 256, 257, 5000):
        text = bytes(torch.randint(256, (count,), generator=generator).tolist())
        assert OURS.masked_crc(text) == masked_crc32c(text)
    for text in (bytes(40), b"\xff" * 40):
        assert OURS.masked_crc(text) == masked_crc32c(text)


def records_of(*messages) -> bytes:
    from tensorboardX.record_writer import masked_crc32c

    found = io.BytesIO()
    for message in messages:
        size = len(message).to_bytes(8, "little")
        found.write(size + masked_crc32c(size).to_bytes(4, "little"))
        found.write(message + masked_crc32c(message).to_bytes(4, "little"))
    return found.getvalue()


def test_records_and_every_changed_bit():
    messages = [b"", b"abc", bytes(20)]
    data = records_of(*messages)
    assert list(OURS.records(data)) == messages
    assert list(OURS.records(b"")) == []
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError, match="damaged"):
            list(OURS.records(bytes(changed)))


def test_a_file_that_was_cut():
    data = records_of(b"abc", b"defg")
    for count in range(1, 20):
        with pytest.raises(ValueError, match="damaged"):
            list(OURS.records(data[:-count]))

"""Chapter 29's ViT and Swin against torchvision's: the parity contract, and its bite.

The functions and classes come out of the notebook. In float64 outputs and slopes agree
within 1e-10, in float32 within 1e-4 of the largest value of the library's.
"""

import copy

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torchvision.models import swin_transformer as tv_swin
from torchvision.models import vision_transformer as tv_vit

from booktools import chapter_code

OURS = chapter_code.definitions(
    "29_vision_transformers",
    *("ViT", "Swin", "WindowAttention", "PatchMerging", "windows", "joined"),
    *("may_meet", "bias_index", "resized", "scrambled", "shifted", "late", "reads"),
    *("SMALL", "moved", "attention_distance", "multiplications", "count"),
)
WITHIN = {torch.float64: 1e-10, torch.float32: 1e-4}

pytestmark = pytest.mark.usefixtures("one_thread")


def draw(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def redrawn(module, dtype=torch.float64):
    with torch.no_grad():
        for seed, p in enumerate(module.parameters()):
            p.copy_(0.3 * draw(*p.shape, seed=seed))
    return module.to(dtype).eval()


def assert_near(ours, library, within):
    for a, b in zip(ours, library, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        scale = (b.abs().max().item() if b.numel() else 0.0) or 1.0
        assert torch.allclose(a / scale, b / scale, rtol=0, atol=within)


def slopes(model, x):
    x = x.clone().requires_grad_()
    out = model(x)
    leaves = [x, *(p for _, p in sorted(model.named_parameters()))]
    return [out, *torch.autograd.grad((out * draw(*out.shape)).sum(), leaves)]


def assert_equal(ours, library, x):
    library = redrawn(library, x.dtype)
    ours = ours.to(x.dtype).eval()
    buffers = dict(ours.named_buffers())  # computed by us, and equal before loading
    assert buffers.keys() == dict(library.named_buffers()).keys()
    assert all(torch.equal(buffers[k], b) for k, b in library.named_buffers())
    assert not any(ours.load_state_dict(library.state_dict()))
    assert_near(slopes(ours, x), slopes(library, x), WITHIN[x.dtype])
    for name, value in library.state_dict().items():  # nothing moved
        assert torch.equal(ours.state_dict()[name], value)


VITS = {
    "one patch": (4, 4, 1, 1, 4, 8, 1),
    "two layers": (24, 8, 2, 2, 8, 16, 5),
    "patches of one": (3, 1, 1, 2, 4, 8, 3),
    "an uneven MLP": (32, 16, 3, 4, 8, 5, 2),
}


@pytest.mark.parametrize("dtype", WITHIN)
@pytest.mark.parametrize("sizes", VITS)
def test_vit(sizes, dtype):
    *sizes, classes = VITS[sizes]
    library = tv_vit.VisionTransformer(*sizes, num_classes=classes)
    x = draw(2, 3, sizes[0], sizes[0], seed=9, dtype=dtype)
    assert_equal(OURS.ViT(*sizes, classes), library, x)


@pytest.mark.parametrize("change", ["huge", "tiny", "strided", "empty", "one"])
def test_vit_on_odd_inputs(change):
    library = redrawn(tv_vit.VisionTransformer(16, 8, 2, 2, 8, 16, num_classes=3))
    ours = OURS.ViT(16, 8, 2, 2, 8, 16, 3).double().eval()
    ours.load_state_dict(library.state_dict())
    x = draw(2, 3, 16, 16)
    x = {
        "huge": x * 1e6,
        "tiny": x * 1e-12,
        "strided": x.mT.contiguous().mT,
        "empty": x[:0],
        "one": x[:1],
    }[change]
    assert_near([ours(x)], [library(x)], 1e-10)


def test_training_mode_and_the_tables():
    ours = OURS.ViT(16, 8, 2, 2, 8, 16, 3)
    x = draw(2, 3, 16, 16, dtype=torch.float32)
    plain = ours.train()(x)
    for layer in ours.encoder.layers:
        layer.look = True
    assert torch.allclose(ours(x), plain, atol=1e-6)
    for layer in ours.encoder.layers:
        assert layer.table.shape == (2, 2, 5, 5)
        assert torch.allclose(layer.table.sum(-1), torch.ones(2, 2, 5))


ATTENTIONS = {  # side, side, features, heads, window, shift
    "one window": (4, 4, 8, 2, 4, 0),
    "one window, no room to shift": (4, 4, 8, 2, 4, 2),
    "four windows": (8, 8, 8, 2, 4, 0),
    "shifted": (8, 8, 8, 2, 4, 2),
    "wide, one row of windows": (4, 12, 8, 2, 4, 2),
    "windows of 7": (14, 14, 6, 3, 7, 3),
    "filled up": (10, 13, 8, 4, 4, 2),
    "filled up to one window": (3, 2, 8, 2, 4, 2),
    "filled up, one axis": (3, 9, 8, 2, 4, 2),
    "windows of 2": (4, 6, 4, 1, 2, 1),
}


@pytest.mark.parametrize("dtype", WITHIN)
@pytest.mark.parametrize("case", ATTENTIONS)
def test_window_attention(case, dtype):
    height, width, d, heads, w, shift = ATTENTIONS[case]
    library = tv_swin.ShiftedWindowAttention(d, [w, w], [shift, shift], heads)
    ours = OURS.WindowAttention(d, heads, w, shift)
    assert_equal(ours, library, draw(2, height, width, d, dtype=dtype))


def test_window_attention_on_odd_inputs():
    library = redrawn(tv_swin.ShiftedWindowAttention(8, [4, 4], [2, 2], 2))
    ours = OURS.WindowAttention(8, 2, 4, 2).double()
    ours.load_state_dict(library.state_dict())
    x = draw(2, 8, 8, 8)
    for given in (x * 1e-12, x[:1], x.transpose(1, 2), x.flip(-1)):
        assert_near([ours(given)], [library(given)], 1e-10)


def test_the_library_leaks_where_scores_are_large():
    """It adds -100 where ours forbids: the reason for one gap, and its size."""
    library = redrawn(tv_swin.ShiftedWindowAttention(8, [4, 4], [2, 2], 2))
    ours = OURS.WindowAttention(8, 2, 4, 2).double()
    ours.load_state_dict(library.state_dict())
    for size, leaks in ((1, False), (100, True)):
        found = []
        for layer in (ours, library):
            x = (size * draw(1, 8, 8, 8)).requires_grad_()
            layer(x)[0, 7, 7].sum().backward()
            found.append(x.grad[0, :6].abs().sum().item())
        assert found[0] == 0 and (found[1] > 1e-6) == leaks


@pytest.mark.parametrize("dtype", WITHIN)
@pytest.mark.parametrize("side", [32, 36, 12, 64])
def test_swin(side, dtype):
    library = tv_swin.SwinTransformer([4, 4], 8, [2, 2], [2, 4], [4, 4], num_classes=5)
    ours = OURS.Swin(4, 8, (2, 2), (2, 4), 4, 5)
    assert_equal(ours, library, draw(2, 3, side, side + 4, dtype=dtype))


@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (1, 1), (6, 7)])
def test_merging(shape):
    x = draw(2, *shape, 3)
    assert_equal(OURS.PatchMerging(3), tv_swin.PatchMerging(3), x)


def test_a_wrong_order_of_merging_is_noticed():
    library = redrawn(tv_swin.PatchMerging(3))
    ours = OURS.PatchMerging(3).double()
    ours.load_state_dict(library.state_dict())
    x = draw(2, 4, 4, 3)
    with pytest.raises(AssertionError):
        assert_near([ours(x.transpose(1, 2)).transpose(1, 2)], [library(x)], 1e-3)


@pytest.mark.parametrize("name", ["vit_b_16", "swin_t"])
def test_the_names_and_the_count(name):
    with torch.device("meta"):
        ours = OURS.ViT() if name == "vit_b_16" else OURS.Swin()
        library = getattr(torchvision.models, name)()
    assert {k: v.shape for k, v in ours.state_dict().items()} == {
        k: v.shape for k, v in library.state_dict().items()
    }
    wanted = {"vit_b_16": 86_567_656, "swin_t": 28_288_354}[name]
    assert OURS.count(ours) == wanted
    side = {"vit_b_16": 17.564, "swin_t": 4.491}[name]
    assert round(OURS.multiplications(ours, 224) / 1e9, 3) == side


@pytest.mark.parametrize("w", [1, 2, 3, 4, 7])
def test_bias_index(w):
    library = tv_swin.ShiftedWindowAttention(4, [w, w], [0, 0], 2)
    index = OURS.bias_index(w)
    assert torch.equal(index.flatten(), library.relative_position_index)


@pytest.mark.parametrize("dtype", [torch.int64, torch.float16, torch.bool])
@pytest.mark.parametrize("shape", [(0, 4, 4, 1), (1, 4, 8, 2), (3, 6, 2, 1)])
def test_windows_and_back(shape, dtype):
    x = draw(*shape).to(dtype)
    cut = OURS.windows(x, 2)
    assert cut.shape == (shape[0], shape[1] * shape[2] // 4, 4, shape[3])
    assert torch.equal(OURS.joined(cut, 2, shape[1]), x)


@pytest.mark.parametrize("size", [(8, 8), (8, 12), (12, 8)])
@pytest.mark.parametrize("shift", [0, 1, 2, 3])
def test_who_may_meet(size, shift):
    """Neighbors before the shift may meet, and nobody else."""
    place = torch.cartesian_prod(*(torch.arange(s) for s in size)).view(1, *size, 2)
    tokens = OURS.windows(place.roll((-shift, -shift), (1, 2)), 4)[0]
    apart = (tokens[:, :, None] - tokens[:, None]).abs().amax(-1)
    allowed = OURS.may_meet(*size, 4, shift, shift)
    assert torch.equal(allowed, apart < 4)


@pytest.mark.parametrize("grid", [1, 2, 3, 4, 5, 8, 12])
def test_resized(grid):
    table = draw(1, 17, 6, dtype=torch.float32)
    state = {"encoder.pos_embedding": table.clone()}
    library = tv_vit.interpolate_embeddings(4 * grid, 4, state)
    assert torch.allclose(OURS.resized(table, grid), library["encoder.pos_embedding"])


def test_scrambled_is_a_permutation():
    images, order = draw(2, 3, 8, 8), torch.arange(4).flip(0)
    out = OURS.scrambled(images, order)
    assert torch.equal(out[..., :4, :4], images[..., 4:, 4:])
    assert torch.equal(OURS.scrambled(out, order), images)


def test_what_is_read():
    full = OURS.reads(
        lambda t: F.scaled_dot_product_attention(*(t.flatten(1, 2),) * 3).view_as(t),
        0,
        0,
    )
    assert full.all()
    twice = OURS.reads(lambda t: OURS.shifted(OURS.shifted(t, 4, 0), 4, 2), 3, 3)
    assert twice.all()
    x = draw(1, 8, 8, 4)
    assert torch.allclose(OURS.late(x, 4, 2), OURS.shifted(x, 4, 0))


def test_the_small_models():
    counts = [OURS.count(make()) for make, _ in OURS.SMALL.values()]
    assert max(counts) < 1.05 * min(counts)
    for make, _ in OURS.SMALL.values():
        assert make().eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 4)


def test_moved_keeps_the_pixels():
    images = draw(6, 3, 32, 32)
    before = images.clone()
    out = OURS.moved(images, torch.Generator().manual_seed(1))
    assert torch.equal(images, before) and not torch.equal(out, images)
    assert torch.equal(out.flatten(1).sort().values, images.flatten(1).sort().values)


def test_attention_distance():
    near = torch.eye(5).expand(1, 1, 1, 5, 5)
    assert OURS.attention_distance(near, 2, 4).item() == 0
    even = torch.full((1, 2, 1, 5, 5), 0.2)
    wanted = (4 + 4 + 32**0.5) / 4
    assert OURS.attention_distance(even, 2, 4).tolist() == [[pytest.approx(wanted)]]


def test_a_copy_keeps_its_class():
    model = OURS.Swin(4, 8, (2, 2), (2, 4), 4, 5)
    twin = copy.deepcopy(model)
    x = torch.zeros(1, 3, 16, 16)
    assert torch.equal(model(x), twin(x)) and isinstance(twin.head, nn.Linear)

"""Chapter 21's functions against the library's, on more than the page shows."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.ops import FrozenBatchNorm2d
from torchvision.transforms import v2

from booktools import chapter_code

NAMES = ("prepare_photo", "prepare", "extract", "nearest", "probe", "freeze", "stages")
OURS = chapter_code.definitions("21_transfer_learning", *NAMES)
CENTER, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

pytestmark = pytest.mark.usefixtures("one_thread")


def bytes_(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, shape, generator=generator, dtype=torch.uint8)


def small_body(seed=0):
    """Three parts with batch normalization, whose statistics are no longer 0 and 1."""
    torch.manual_seed(seed)
    body = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1),
        nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()),
        nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU6()),
    )
    body.train()(torch.randn(8, 3, 8, 8))
    return body.eval()


@pytest.mark.parametrize("name", ["IMAGENET1K_V1", "IMAGENET1K_V2"])
@pytest.mark.parametrize(
    "shape",
    [
        (3, 256, 256),
        (3, 300, 451),
        (3, 451, 300),
        (3, 90, 61),
        (3, 225, 224),
        (3, 98, 130),  # 256 / 98 * 98 is a little less than 256
        (3, 256, 259),  # an odd number of columns to cut away
        (3, 259, 256),
        (3, 500, 374),
    ],
)
def test_photographs_are_prepared_as_the_weights_say(name, shape):
    library = models.MobileNet_V2_Weights[name].transforms()
    (shorter,) = library.resize_size
    image = bytes_(*shape)
    ours, theirs = OURS.prepare_photo(image, shorter), library(image)
    assert ours.shape == theirs.shape == (3, 224, 224)
    # One gray level, where the two round a half in different ways.
    assert ((ours - theirs).abs() < 0.02).all()
    assert ((ours - theirs).abs() < 1e-5).double().mean() > 0.95


@pytest.mark.parametrize("shape", [(0, 3, 64, 64), (1, 3, 64, 64), (5, 3, 64, 64)])
def test_small_pictures_are_prepared_like_the_library(shape):
    image = bytes_(*shape)
    library = v2.Compose(
        [v2.ToDtype(torch.float32, scale=True), v2.Normalize(CENTER, SPREAD)]
    )
    assert torch.allclose(OURS.prepare(image), library(image), atol=1e-6)
    across = image.transpose(2, 3)  # not contiguous
    assert torch.allclose(OURS.prepare(across), library(across), atol=1e-6)


@pytest.mark.parametrize("side", [1, 32, 64, 128])
def test_other_sizes_are_those_of_the_library(side):
    image = bytes_(2, 3, 64, 64)
    resized = v2.functional.resize(image / 255, [side, side], antialias=True)
    wanted = v2.functional.normalize(resized, CENTER, SPREAD)
    got = OURS.prepare(image, side)
    assert got.shape == (2, 3, side, side) and torch.allclose(got, wanted, atol=1e-5)


def test_stages_are_what_the_library_taps():
    body, image = small_body(), bytes_(130, 3, 64, 64)  # more than one batch
    names = {"0": "a", "1": "b", "2": "c"}
    tapped = create_feature_extractor(body, names)(OURS.prepare(image))
    for ours, name in zip(OURS.stages(body, image), "abc", strict=True):
        assert torch.allclose(ours, tapped[name].mean((2, 3)), atol=1e-5)
    last = OURS.extract(body, OURS.prepare(image))
    assert torch.equal(last, OURS.stages(body, image)[-1]) and not last.requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sizes", [(1, 1), (7, 5), (40, 200), (3, 0)])
def test_the_nearest_is_that_of_cosine_similarity(sizes, dtype):
    generator = torch.Generator().manual_seed(3)
    known, new = (torch.randn(n, 6, generator=generator, dtype=dtype) for n in sizes)
    labels = torch.randint(9, sizes[:1], generator=generator)
    got = OURS.nearest(known, labels, new)
    table = F.cosine_similarity(new[:, None], known[None], dim=2)
    assert torch.equal(got, labels[table.argmax(1)]) and got.shape == sizes[1:]


def test_a_probe_separates_what_a_line_separates():
    features = torch.cat([torch.eye(4), 2 * torch.eye(4)]).double()
    labels = torch.arange(4).repeat(2)
    before = features.clone()
    head = OURS.probe(features, labels, classes=4, steps=300)
    assert torch.equal(head(features).argmax(1), labels)
    assert torch.equal(features, before) and head.weight.dtype == torch.float64
    again = OURS.probe(features, labels, classes=4, steps=300)
    assert torch.equal(head.weight, again.weight)


def test_stored_features_train_the_same_head():
    body, image = small_body(), bytes_(12, 3, 64, 64)
    x, y = OURS.prepare(image), torch.arange(12) % 3
    stored = OURS.extract(body, x)
    quick = OURS.probe(stored, y, classes=3, steps=10)
    torch.manual_seed(1)
    slow = nn.Linear(6, 3)
    optimizer = torch.optim.AdamW(slow.parameters(), lr=0.003)
    for _ in range(10):
        optimizer.zero_grad()
        F.cross_entropy(slow(body(x).mean((2, 3))), y).backward()
        optimizer.step()
    assert torch.allclose(quick.weight, slow.weight, atol=1e-4)


def test_frozen_stays_frozen():
    body = OURS.freeze(small_body())
    model = nn.Sequential(body, nn.Dropout(), nn.Flatten(), nn.LazyLinear(2))
    state = {n: v.clone() for n, v in body.state_dict().items()}
    x = torch.randn(4, 3, 8, 8)
    for _ in range(2):
        model.train()(x).sum().backward()
    assert not any(part.training for part in body.modules()) and model[1].training
    assert all(torch.equal(v, state[n]) for n, v in body.state_dict().items())
    assert all(p.grad is None for p in body.parameters())
    assert model[3].weight.grad is not None


def test_a_copy_of_a_frozen_part_is_frozen_and_another():
    body = OURS.freeze(small_body())
    again = copy.deepcopy(body)
    assert again.train() is again and not any(p.training for p in again.modules())
    again[0].weight.data.zero_()
    assert body[0].weight.any()


@pytest.mark.parametrize("shape", [(1, 4, 1, 1), (3, 4, 5, 6), (0, 4, 2, 2)])
def test_a_frozen_normalization_is_the_library_s(shape):
    norm = OURS.freeze(copy.deepcopy(small_body()[1][0]))
    frozen = FrozenBatchNorm2d(4, norm.eps)
    frozen.load_state_dict(norm.state_dict())
    x = torch.randn(shape, requires_grad=True)
    one, other = norm.train()(x), frozen.train()(x)
    assert torch.allclose(one, other, atol=1e-5)
    slopes = [torch.autograd.grad(y.square().sum(), x)[0] for y in (one, other)]
    assert torch.allclose(*slopes, atol=1e-4)


def test_torchvision_s_pretrained_is_the_first_set():
    """What the word stands for, read from the function itself, without weights."""
    with torch.device("meta"), pytest.warns(UserWarning) as caught:
        models.mobilenet_v2(pretrained=False)
    said = [str(w.message) for w in caught]
    assert len(said) == 2 and "'pretrained' is deprecated since 0.13" in said[0]
    assert "`weights=None`" in said[1]

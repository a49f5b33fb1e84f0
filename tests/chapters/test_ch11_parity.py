"""Chapter 11's layers against the library's, on wider grids than the page shows."""

import inspect
import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from booktools import chapter_code
from course_utils import classification

NAMES = [
    *("slide", "conv_loops", "im2col", "conv_matrix", "col2im", "conv_backward"),
    *("output_size", "paths", "pool", "bounds", "adaptive_average", "lenet"),
    *("alexnet", "convnet", "first_weights", "STRIDES"),
]
OURS = chapter_code.definitions("11_convnets", *NAMES)

pytestmark = pytest.mark.usefixtures("one_thread")


def draw(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def close(got, wanted, within=1e-12):
    torch.testing.assert_close(got, wanted, rtol=within, atol=within)


MOVES = list(itertools.product((1, 2, 3), (0, 1, 3), (1, 2), (1, 2, 4), (1, 2, 3)))


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_convolution(groups):
    """Outputs and gradients, over strides, paddings, dilations and kernels."""
    for stride, padding, dilation, g, k in MOVES:
        if g != groups:
            continue
        move = (stride, padding, dilation, groups)
        x, weight = draw(2, 4, 9, 7), draw(8, 4 // groups, k, k, seed=1)
        parts = [t.requires_grad_() for t in (x, weight, draw(8, seed=2))]
        wanted = F.conv2d(*parts, *move)
        grad = draw(*wanted.shape, seed=3)
        grads = torch.autograd.grad(wanted, parts, grad)
        with torch.no_grad():
            close(OURS.conv_loops(*parts, *move), wanted)
            for ours, theirs in zip(
                OURS.conv_backward(grad, x, weight, *move), grads, strict=True
            ):
                close(ours, theirs, 1e-11)
        matrix = OURS.conv_matrix(*parts, *move)
        close(matrix, wanted)
        for ours, theirs in zip(
            torch.autograd.grad(matrix, parts, grad), grads, strict=True
        ):
            close(ours, theirs, 1e-11)


def test_gradients_through_the_loops():
    x, weight = draw(1, 2, 5, 4).requires_grad_(), draw(3, 2, 2, 3).requires_grad_()
    wanted = torch.autograd.grad(F.conv2d(x, weight, None, 2).sum(), (x, weight))
    ours = torch.autograd.grad(OURS.conv_loops(x, weight, None, 2).sum(), (x, weight))
    for a, b in zip(ours, wanted, strict=True):
        close(a, b)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_tiny_and_huge_values(size):
    x, weight = size * draw(2, 3, 6, 6), draw(4, 3, 3, 3, seed=1)
    wanted = F.conv2d(x, weight, None, 1, 1) / size
    for function in (OURS.conv_loops, OURS.conv_matrix):
        close(function(x, weight, None, 1, 1) / size, wanted)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_other_types_keep_theirs(dtype):
    x, weight = draw(1, 2, 5, 5, dtype=dtype), draw(2, 2, 3, 3, seed=1, dtype=dtype)
    wanted = F.conv2d(x.double(), weight.double())
    room = 20 * torch.finfo(dtype).eps * wanted.abs().max().item()
    for function in (OURS.conv_loops, OURS.conv_matrix):
        got = function(x, weight)
        assert got.dtype == dtype
        torch.testing.assert_close(got.double(), wanted, rtol=0, atol=room)


def test_nan_stays_in_its_windows():
    x, weight = draw(1, 1, 6, 6), draw(1, 1, 3, 3, seed=1)
    x[0, 0, 0, 0] = math.nan
    for function in (OURS.conv_loops, OURS.conv_matrix):
        assert function(x, weight).isnan().sum() == 1
    assert OURS.pool(x, 2, 2).isnan().sum() == F.max_pool2d(x, 2, 2).isnan().sum() == 1


def test_empty_and_strided_inputs():
    weight, bias = draw(4, 3, 3, 3), draw(4, seed=1)
    odd = draw(2, 6, 5, 3).permute(0, 3, 2, 1)
    last = draw(2, 3, 6, 5).to(memory_format=torch.channels_last)
    for function in (OURS.conv_loops, OURS.conv_matrix):
        assert function(draw(0, 3, 6, 5), weight, bias).shape == (0, 4, 4, 3)
        for x in (
            odd,
            last,
            draw(2, 3, 6, 10)[..., ::2],
            draw(1, 1, 1, 1).expand(2, 3, 6, 5),
        ):
            close(function(x, weight, bias), F.conv2d(x, weight, bias))
    grads = OURS.conv_backward(draw(0, 4, 4, 3), draw(0, 3, 6, 5), weight)
    assert [tuple(g.shape) for g in grads] == [(0, 3, 6, 5), (4, 3, 3, 3), (4,)]
    assert not grads[1].any() and not grads[2].any()


def test_columns_are_the_librarys():
    for stride, padding, dilation, _, k in MOVES:
        x = draw(2, 3, 9, 8)
        ours, places = OURS.im2col(x, k, stride, padding, dilation)
        wanted = F.unfold(x, k, dilation, padding, stride)
        assert torch.equal(ours, wanted) and math.prod(places) == wanted.shape[2]
        back = OURS.col2im(ours, x.shape, places, k, stride, padding, dilation)
        close(back, F.fold(wanted, (9, 8), k, dilation, padding, stride))


def test_one_window_on_a_page():
    picture, kernel = draw(7, 5), draw(3, 3, seed=1)
    wanted = F.conv2d(picture[None, None], kernel[None, None])[0, 0]
    torch.testing.assert_close(
        OURS.slide(picture, kernel), wanted.float(), rtol=1e-5, atol=1e-5
    )


def test_output_size_is_refused_where_torch_refuses():
    for n in range(1, 9):
        for k, (stride, padding, dilation) in itertools.product(
            range(1, 6), itertools.product((1, 2, 3), (0, 1, 2), (1, 2))
        ):
            size = OURS.output_size(n, k, stride, padding, dilation)
            x, weight = torch.zeros(1, 1, n, n), torch.zeros(1, 1, k, k)
            if size < 1:
                with pytest.raises(RuntimeError):
                    F.conv2d(x, weight, None, stride, padding, dilation)
            else:
                y = F.conv2d(x, weight, None, stride, padding, dilation)
                assert y.shape[2] == size


@pytest.mark.parametrize("strides", [(1, 1, 1), (2, 1, 3), (1, 2, 2), (3,)])
def test_receptive_field_of_other_layers(strides):
    width, distance = 1, 1
    for stride in strides:
        width, distance = width + 2 * distance, distance * stride
    assert (OURS.paths(strides, 61).sum(0) > 0).sum() == width


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pooling(dtype):
    x = draw(2, 3, 11, 8, dtype=dtype)
    for size, stride, padding in itertools.product((2, 3), (1, 2, 3), (0, 1)):
        y = OURS.pool(x, size, stride, padding)
        assert torch.equal(y, F.max_pool2d(x, size, stride, padding))
        close(
            OURS.pool(x, size, stride, padding, "average"),
            F.avg_pool2d(x, size, stride, padding),
            1e-6 if dtype == torch.float32 else 1e-12,
        )
    low = x - 100  # a padding of 0 would win
    assert torch.equal(OURS.pool(low, 3, 2, 1), F.max_pool2d(low, 3, 2, 1))
    assert OURS.pool(x[:0], 2, 2).shape == (0, 3, 5, 4)


def test_gradients_of_pooling():
    x = draw(2, 2, 7, 6).requires_grad_()
    for ours, theirs in (
        (OURS.pool(x, 3, 2, 1), F.max_pool2d(x, 3, 2, 1)),
        (OURS.adaptive_average(x, 3, 4), F.adaptive_avg_pool2d(x, (3, 4))),
    ):
        grad = draw(*ours.shape, seed=1)
        close(
            torch.autograd.grad(ours, x, grad)[0],
            torch.autograd.grad(theirs, x, grad)[0],
        )


def test_adaptive_pooling_of_all_sizes():
    for height, width in itertools.product(range(1, 8), range(1, 6)):
        x = draw(1, 2, 7, 5)
        wanted = F.adaptive_avg_pool2d(x, (height, width))
        close(OURS.adaptive_average(x, height, width), wanted)
    x = draw(1, 2, 2, 3)  # more windows than pixels
    close(OURS.adaptive_average(x, 5, 4), F.adaptive_avg_pool2d(x, (5, 4)))


@pytest.mark.parametrize("shape", [(7, 5), (5, 7), (6, 6), (1, 9)])
@pytest.mark.parametrize(
    ("kind", "library"),
    [
        ("He", nn.init.kaiming_normal_),
        ("Xavier", nn.init.xavier_uniform_),
        ("orthogonal", nn.init.orthogonal_),
    ],
)
def test_first_weights(kind, library, shape):
    one, two = (torch.Generator().manual_seed(3) for _ in range(2))
    ours = OURS.first_weights(kind, *shape, one)
    torch.testing.assert_close(
        ours, library(torch.empty(shape), generator=two), rtol=1e-5, atol=1e-6
    )


def test_torchs_own_first_weights():
    """Even to one over the root of the fan-in, as the table's row draws them."""
    for layer in (nn.Linear(400, 300), nn.Conv2d(40, 30, 3)):
        fan_in = layer.weight[0].numel()
        ours = OURS.first_weights(
            "torch's default", 300, fan_in, torch.Generator().manual_seed(0)
        )
        for weight in (layer.weight.detach(), ours):
            assert weight.abs().max() <= fan_in**-0.5 * (1 + 1e-6)
            assert abs(weight.var().item() * 3 * fan_in - 1) < 0.05


def test_the_call_that_the_page_quotes():
    for layer in (nn.Linear, nn.modules.conv._ConvNd):
        source = inspect.getsource(layer.reset_parameters)
        assert "init.kaiming_uniform_(self.weight, a=math.sqrt(5))" in source


def test_an_initialization_that_finds_lazy_layers_stops():
    assert issubclass(nn.LazyConv2d, nn.Conv2d)
    with pytest.raises(ValueError, match="uninitialized"):
        nn.init.xavier_uniform_(nn.LazyConv2d(8, 3).weight)


def test_a_kernel_of_one_is_a_linear_layer_on_channels():
    x, weight, bias = draw(2, 3, 4, 5), draw(6, 3, 1, 1, seed=1), draw(6, seed=2)
    wanted = F.linear(x.movedim(1, -1), weight[:, :, 0, 0], bias).movedim(-1, 1)
    close(OURS.conv_matrix(x, weight, bias), wanted)


def test_networks():
    ours, theirs = OURS.convnet(), classification.convnet(weights="objects")
    ours.load_state_dict(theirs.state_dict())
    x = draw(3, 3, 40, 33, dtype=torch.float32)
    for training in (True, False):
        ours.train(training), theirs.train(training)
        torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.state_dict(), dict(theirs.state_dict()))
    assert ours.eval()(x[:0]).shape == (0, 12)
    assert OURS.lenet()(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    with pytest.raises(RuntimeError):
        OURS.lenet()(torch.zeros(2, 1, 32, 32))
    with torch.device("meta"):
        assert OURS.alexnet()(torch.zeros(1, 3, 224, 224)).shape == (1, 1000)


@pytest.mark.parametrize("padding_mode", ["circular"])
def test_shifts_by_the_total_stride(padding_mode):
    torch.manual_seed(1)
    net = OURS.convnet(5, padding_mode).eval()
    x = draw(1, 3, 64, 64, dtype=torch.float32)
    with torch.no_grad():
        scores = net(x)
        for by in ((16, 0), (0, 32), (-16, 48)):
            torch.testing.assert_close(net(x.roll(by, (2, 3))), scores)
        near = (net(x.roll(8, 3)) - scores).abs().max()
    assert near > 1e-4

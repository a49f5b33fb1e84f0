"""The exercises of chapter 11: mistakes are refused, each for its own reason."""

import pytest
from answers import assert_changed, assert_verdict

from booktools import chapter_code

EXERCISES = chapter_code.exercises("11_convnets")

pytestmark = pytest.mark.usefixtures("one_thread")

# The exercise, a change of the solution's source, and words of the verdict.
CHANGES = [
    ("same_padding", "dilation * (kernel - 1)", "kernel - 1", "dilated by 2"),
    ("same_padding", "missing // 2", "missing / 2", "must be a whole number"),
    ("same_padding", "missing // 2", "missing", "a kernel of 3"),
    ("same_padding", "missing % 2", "kernel % 2 == 0", "reaches over 3"),
    ("same_padding", "missing % 2", "False", "a kernel of 2"),
    ("same_padding", "ValueError(", "TypeError(", "a kernel of 2"),
    (
        "same_padding",
        "dilation * (kernel - 1)",
        "dilation * kernel - 1",
        "dilated by 2",
    ),
    (
        "same_padding",
        "dilation * (kernel - 1)",
        "(dilation * (kernel - 1) + 1) - 1",
        None,
    ),
    ("seen", "reversed(layers)", "layers", "two different layers"),
    ("seen", "first * stride - padding", "first * stride", "padding"),
    ("seen", " + kernel - 1", " + kernel", "one window"),
    ("seen", "return first, last", "return last, first", "one window"),
    (
        "seen",
        "return first, last",
        "return max(first, 0), last",
        "padding",
    ),
    (
        "seen",
        "return first, last",
        "return first, last - first + 1",
        "no layers",
    ),
    (
        "seen",
        "last = last * stride - padding + kernel - 1",
        "last = last * stride + padding + kernel - 1",
        "padding",
    ),
    (
        "seen",
        "last = last * stride - padding + kernel - 1",
        "last = (last + 1) * stride - padding + kernel - 1 - stride",
        None,
    ),
    ("fixed_conv", "[padding] * 4", "[padding, padding]", "padding"),
    ("fixed_conv", "[padding] * 4", "[padding] * 4, 'replicate'", "padding"),
    (
        "fixed_conv",
        "weight.flatten(1)",
        "weight.permute(0, 2, 3, 1).flatten(1)",
        "two channels",
    ),
    (
        "fixed_conv",
        "len(weight), rows, columns",
        "len(weight), columns, rows",
        "higher than wide",
    ),
    ("fixed_conv", "bias[:, None]", "bias", "two outputs"),
    ("fixed_conv", "+ bias[:, None]", "", "one pixel"),
    (
        "fixed_conv",
        "weight.flatten(1)",
        "weight.flip(2, 3).flatten(1)",
        "a gray square",
    ),
    ("fixed_conv", "len(x), len(weight)", "-1, len(weight)", None),
    ("fixed_conv", "stride=stride)", "stride=1)", "stride 2"),
    (
        "fixed_conv",
        "weight.flatten(1)",
        "weight.reshape(len(weight), weight[0].numel())",
        None,
    ),
    (
        "as_convolution",
        "weight.reshape(conv.weight.shape)",
        "weight.reshape(-1, channels, width, height).mT",
        "a square map",
    ),
    (
        "as_convolution",
        "weight.reshape(conv.weight.shape)",
        "weight.reshape(-1, height, width, channels).permute(0, 3, 1, 2)",
        "two channels",
    ),
    ("as_convolution", "conv.bias.copy_(bias)", "pass", "one pixel"),
    ("as_convolution", "bias=bias is not None, ", "", "without a bias"),
    ("as_convolution", "(height, width)", "(width, height)", "wider than high"),
    ("as_convolution", "(height, width)", "height", "wider than high"),
    ("as_convolution", "dtype=weight.dtype", "dtype=torch.float32", "float64"),
    (
        "as_convolution",
        "linear.in_features != channels * height * width",
        "False",
        "it raised RuntimeError",
    ),
    ("as_convolution", "ValueError(", "TypeError(", "it raised TypeError"),
    (
        "as_convolution",
        "conv.weight.copy_(weight.reshape(conv.weight.shape))",
        "conv.weight.data = weight.reshape(conv.weight.shape)",
        "shares its memory",
    ),
    (
        "as_convolution",
        "weight.reshape(conv.weight.shape)",
        "weight.unflatten(1, (channels, height, width))",
        None,
    ),
    (
        "as_convolution",
        "linear.in_features != channels",
        "linear.in_features < channels",
        "it raised RuntimeError",
    ),
    ("as_convolution", "device=weight.device,", "", "it raised NotImplementedError"),
    (
        "as_convolution",
        "weight, bias = linear.weight.detach(), linear.bias",
        "weight, bias = linear.requires_grad_(False).weight, linear.bias",
        "the parameters of the linear layer were changed",
    ),
    (
        "as_convolution",
        "bias=bias is not None, ",
        "stride=(height, width), bias=bias is not None, ",
        "a larger map",
    ),
    ("unit_variance", "layer.bias.zero_()", "pass", "one linear layer"),
    (
        "unit_variance",
        "layer.bias.zero_()",
        "layer.bias = None",
        "the parameters must stay",
    ),
    ("unit_variance", "/= spread", "/= layer(x).std(1).mean()", "one linear layer"),
    (
        "unit_variance",
        "            if layer.bias is not None:\n                layer.bias.zero_()\n"
        "            spread = layer(x).std(correction=0)\n",
        "            spread = layer(x).std(correction=0)\n"
        "            if layer.bias is not None:\n                layer.bias.zero_()\n",
        "one linear layer",
    ),
    ("unit_variance", "@torch.no_grad()\n", "", "RuntimeError"),
    ("unit_variance", "correction=0", "correction=1", "one linear layer"),
    (
        "unit_variance",
        "layer(x).std(correction=0)",
        "layer(x).square().mean().sqrt()",
        "one linear layer",
    ),
    ("unit_variance", "if spread > 0:", "if True:", "constant outputs"),
    ("unit_variance", "/= spread", "/= spread**2", "one linear layer"),
    ("unit_variance", "(nn.Linear, nn.Conv2d)", "nn.Linear", "one convolution"),
    ("unit_variance", "    return model", "    return None", "returned"),
    ("unit_variance", "x = batch", "x = batch\n    model.train()", "the mode stays"),
    ("unit_variance", "x = batch", "x = batch\n    model.eval()", "the mode stays"),
    (
        "unit_variance",
        "layer(x).std(correction=0)",
        "layer(x).std(0, correction=0).mean()",
        "one linear layer",
    ),
    ("unit_variance", "        x = layer(x)\n", "", "two layers"),
    (
        "unit_variance",
        "layer.weight /= spread",
        "layer.weight = nn.Parameter(layer.weight / spread)",
        "the same objects",
    ),
    (
        "unit_variance",
        "layer.weight /= spread",
        "layer.weight.copy_(layer.weight / spread)",
        None,
    ),
    (
        "unit_variance",
        "isinstance(layer, (nn.Linear, nn.Conv2d))",
        "hasattr(layer, 'weight')",
        "of a BatchNorm2d was changed",
    ),
]

WITH_CONV2D = """
def fixed_conv(x, weight, bias, stride, padding):
    return F.conv2d(x, weight, bias, stride, padding)
"""
ALL_AT_ONCE = """
@torch.no_grad()
def unit_variance(model, batch):
    x = batch
    spreads = []
    for layer in model:
        x = layer(x)
        spreads.append(x.std(correction=0))
    for layer, spread in zip(model, spreads):
        if isinstance(layer, (nn.Linear, nn.Conv2d)) and spread > 0:
            layer.weight /= spread
            if layer.bias is not None:
                layer.bias.zero_()
    return model
"""
IN_EVALUATION = """
@torch.no_grad()
def unit_variance(model, batch):
    x, training = batch, model.training
    model.eval()
    for layer in model:
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            if layer.bias is not None:
                layer.bias.zero_()
            spread = layer(x).std(correction=0)
            if spread > 0:
                layer.weight /= spread
        x = layer(x)
    return model.train(training)
"""
OLD_OUTPUT = """
@torch.no_grad()
def unit_variance(model, batch):
    x = batch
    for layer in model:
        y = layer(x)
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            if layer.bias is not None:
                layer.bias.zero_()
                y = layer(x)
            if y.std(correction=0) > 0:
                layer.weight /= y.std(correction=0)
        x = y
    return model
"""
IN_LOOPS = """
def fixed_conv(x, weight, bias, stride, padding):
    x = F.pad(x, [padding] * 4)
    k = weight.shape[-1]
    tops = range(0, x.shape[2] - k + 1, stride)
    lefts = range(0, x.shape[3] - k + 1, stride)
    result = x.new_zeros(len(x), len(weight), len(tops), len(lefts))
    for i, top in enumerate(tops):
        for j, left in enumerate(lefts):
            window = x[:, None, :, top:top + k, left:left + k]
            result[:, :, i, j] = (window * weight).sum((2, 3, 4)) + bias
    return result
"""
AS_LAYER = """
def fixed_conv(x, weight, bias, stride, padding):
    layer = nn.Conv2d(weight.shape[1], len(weight), weight.shape[-1], stride, padding)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer(x)
"""
EVEN_KERNELS = """
def same_padding(kernel, dilation=1):
    if kernel % 2 == 0:
        raise ValueError("even")
    return (kernel - 1) // 2 * dilation
"""
TOO_FEW = """
def same_padding(kernel, dilation=1):
    return kernel // 2 * dilation
"""
BY_CENTER = """
def seen(layers, index):
    width, distance = 1, 1
    for kernel, stride, padding in layers:
        width += (kernel - 1) * distance
        distance *= stride
    return index * distance - width // 2, index * distance + width // 2
"""
FORWARD = """
def seen(layers, index):
    width, distance, start = 1, 1, 0
    for kernel, stride, padding in layers:
        start -= padding * distance
        width += (kernel - 1) * distance
        distance *= stride
    return start + index * distance, start + index * distance + width - 1
"""
BY_SIZES = """
def same_padding(kernel, dilation=1):
    for padding in range(kernel * dilation):
        if 2 * padding == dilation * (kernel - 1):
            return padding
    raise ValueError("none")
"""
OUTPUT_ONLY = """
class Head(nn.Module):
    def __init__(self, linear):
        super().__init__()
        self.linear = linear
    def forward(self, x):
        return self.linear(x.flatten(1))[..., None, None]

def as_convolution(linear, channels, height, width):
    return Head(linear)
"""


@pytest.mark.parametrize(("name", "old", "new", "says"), CHANGES)
def test_changed_solutions(name, old, new, says):
    assert_changed(EXERCISES[f"11.{name}"], old, new, says)


@pytest.mark.parametrize(
    ("name", "source", "says"),
    [
        ("fixed_conv", WITH_CONV2D, "a ready-made convolution was called"),
        ("unit_variance", ALL_AT_ONCE, "one linear layer"),
        ("unit_variance", IN_EVALUATION, "training mode is respected"),
        ("unit_variance", OLD_OUTPUT, "two layers"),
        ("fixed_conv", IN_LOOPS, None),
        ("fixed_conv", AS_LAYER, "a ready-made convolution was called"),
        ("same_padding", EVEN_KERNELS, "a kernel of 2 that reaches over 3"),
        ("same_padding", TOO_FEW, "a kernel of 2"),
        ("seen", BY_CENTER, "one window"),
        ("seen", FORWARD, None),
        ("same_padding", BY_SIZES, None),
        ("as_convolution", OUTPUT_ONLY, "an nn.Conv2d was expected"),
    ],
)
def test_other_answers(name, source, says):
    assert_verdict(EXERCISES[f"11.{name}"], source, says)


def test_the_convolution_that_the_text_prints_is_refused():
    """All three faults at once; test_changed_solutions has them one by one."""
    faults = {
        "[padding] * 4": "[padding, padding]",
        "weight.flatten(1)": "weight.permute(0, 2, 3, 1).flatten(1)",
        "rows, columns)": "columns, rows)",
    }
    exercise = EXERCISES["11.fixed_conv"]
    broken = exercise.solution
    for right, wrong in faults.items():
        assert broken.count(right) == 1
        broken = broken.replace(right, wrong)
    assert_verdict(exercise, broken, "not yet: padding")

"""Chapter 32's own runtime, folding, rounding and detector against the libraries'.

The functions come out of the notebook; the networks are others than the page's.
"""

import io
import os
import warnings

import numpy as np
import pytest
import torch
from torch import nn

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnx
import onnxruntime
from onnx.reference import ReferenceEvaluator

from booktools import chapter_code
from course_utils.classification import convnet, normalize
from course_utils.datasets import objects
from course_utils.detection import models, portable

OURS = chapter_code.definitions(
    "32_shipping",
    *("fold", "run_graph", "OPERATORS", "rounded", "shapes_of", "latencies"),
    *("Portable", "agree", "shelf"),
)

pytestmark = pytest.mark.usefixtures("one_thread")


def exported(model, example, opset=17):
    """The file of the older exporter, which takes a moment; its batch may vary."""
    written = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model.eval(),
            (example,),
            written,
            dynamo=False,
            opset_version=opset,
            input_names=["images"],
            output_names=["scores"],
            dynamic_axes={"images": {0: "batch"}},
        )
    return written.getvalue()


def session(data: bytes):
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    settings.log_severity_level = 3
    return onnxruntime.InferenceSession(
        data, settings, providers=["CPUExecutionProvider"]
    )


def network(kind: str) -> nn.Module:
    torch.manual_seed(0)
    layers = {
        "linear": [nn.Flatten(), nn.Linear(3 * 64 * 64, 5)],
        "without bias in the head": [
            nn.Conv2d(3, 4, 3),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, 5),
        ],
        "stride and padding": [
            nn.Conv2d(3, 8, 5, stride=3, padding=2),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 6, 1, bias=False),
            nn.BatchNorm2d(6),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(6, 3),
        ],
    }
    return nn.Sequential(*layers[kind])


KINDS = ("linear", "without bias in the head", "stride and padding")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [0, 1, 5])
def test_the_runtime(kind, count):
    """Ours, ONNX Runtime, onnx's own, and PyTorch."""
    model = network(kind)
    for norm in model:
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.uniform_(-1, 1)
            norm.running_var.uniform_(0.5, 2)
            norm.weight.data.uniform_(-1, 1)
    data = exported(model, torch.zeros(2, 3, 64, 64))
    x = torch.rand(count, 3, 64, 64)
    with torch.no_grad():
        wanted = model(x).numpy()
    graph = onnx.load_from_string(data).graph
    [ours] = OURS.run_graph(graph, images=x)
    assert ours.shape == wanted.shape and ours.dtype == torch.float32
    near = {"rtol": 1e-4, "atol": 1e-5}
    assert np.allclose(ours.detach().numpy(), wanted, **near)
    theirs = session(data).run(None, {"images": x.numpy()})[0]
    assert np.allclose(theirs, wanted, **near)
    if count:
        [slow] = ReferenceEvaluator(onnx.load_from_string(data)).run(
            None, {"images": x.numpy()}
        )
        assert np.allclose(slow, wanted, **near)


def test_pictures_of_another_size_are_refused():
    data = exported(network("stride and padding"), torch.zeros(2, 3, 64, 64))
    x = np.zeros((1, 3, 48, 48), dtype=np.float32)
    with pytest.raises(Exception, match="Got: 48 Expected: 64"):
        session(data).run(None, {"images": x})


@pytest.mark.parametrize("training", [True, False])
def test_dropout_stays_as_it_is(training):
    """The newer exporter takes the mode that it finds (E-125)."""
    model = nn.Sequential(nn.Dropout(0.5)).train(training)
    written = io.BytesIO()
    torch.onnx.export(
        model, (torch.ones(1, 400),), written, external_data=False, verbose=False
    )
    made = session(written.getvalue())
    [given] = made.run(None, {made.get_inputs()[0].name: np.ones((1, 400), "float32")})
    assert (given == 0).any() == training


@pytest.mark.filterwarnings("ignore")
def test_training_mode_is_recorded():
    """torch.export: batch statistics, and dropout that is on."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
    for training in (True, False):
        program = torch.export.export(model.train(training), (torch.rand(2, 3, 8, 8),))
        calls = [node for node in program.graph.nodes if node.op == "call_function"]
        given = {str(n.target): n.args for n in calls}
        assert given["aten.batch_norm.default"][5] == training
        switch = given.get("aten.dropout.default", (None, None, False))[2]
        assert switch == training


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 3, 3), (7, 2, 5)])
def test_folding(dtype, shape):
    """The folded convolution is the two layers in one."""
    out, inside, side = shape
    torch.manual_seed(1)
    conv = nn.Conv2d(inside, out, side, bias=False, dtype=dtype)
    norm = nn.BatchNorm2d(out, eps=1e-2, dtype=dtype).eval()
    norm.running_mean.uniform_(-3, 3)
    norm.running_var.uniform_(0, 4)
    norm.weight.data.uniform_(-2, 2)
    norm.bias.data.uniform_(-2, 2)
    weight, bias = OURS.fold(conv.weight, norm)
    x = torch.rand(2, inside, 9, 9, dtype=dtype)
    got = nn.functional.conv2d(x, weight, bias)
    assert got.dtype == dtype
    torch.testing.assert_close(got, norm(conv(x)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(4, 9), (5, 3, 3, 3), (1, 1)])
@pytest.mark.parametrize("factor", [1e-20, 1.0, 1e20])
def test_rounding(shape, factor):
    torch.manual_seed(2)
    w = factor * torch.randn(shape)
    s = w.abs().max().item() / 127
    whole = torch.fake_quantize_per_tensor_affine(w, s, 0, -127, 127)
    torch.testing.assert_close(OURS.rounded(w, False), whole, rtol=1e-5, atol=0)
    own = w.abs().flatten(1).amax(1) / 127
    zeros = torch.zeros(len(w), dtype=torch.int32)
    rows = torch.fake_quantize_per_channel_affine(w, own, zeros, 0, -127, 127)
    torch.testing.assert_close(OURS.rounded(w, True), rows, rtol=1e-5, atol=0)


def test_the_error_of_a_channel_is_at_most_half_a_step():
    w = torch.randn(6, 40, generator=torch.Generator().manual_seed(3))
    step = w.abs().amax(1, keepdim=True) / 127
    assert ((OURS.rounded(w, True) - w).abs() <= 0.5001 * step).all()


def test_latencies():
    calls = []
    taken = OURS.latencies(lambda: calls.append(1), warm=3, calls=7)
    assert len(calls) == 10 and len(taken) == 7 and min(taken) >= 0


def test_the_classifier_by_the_older_exporter():
    """All pictures of the validation set; the page takes the newer exporter."""
    model = convnet(weights="objects").eval()
    x = normalize(objects.load("val")[0])
    data = exported(model, torch.zeros(2, 3, 64, 64))
    theirs = session(data).run(None, {"images": x.numpy()})[0]
    with torch.no_grad():
        wanted = model(x).numpy()
    assert np.allclose(theirs, wanted, rtol=1e-4, atol=1e-4)
    assert (theirs.argmax(1) == wanted.argmax(1)).sum() >= 359


# --- the detector ---------------------------------------------------------------


@pytest.fixture(scope="module")
def detector():
    return models.mask_rcnn_mobilenet(22, "shapes", box_score_thresh=0.5).eval()


@pytest.fixture(scope="module")
def file(detector, tmp_path_factory):
    path = tmp_path_factory.mktemp("portable") / "detector.onnx"
    portable.export(detector, path, models.shapes_classes())
    return session(path.read_bytes())


def tiles(rows: int, columns: int, side: int) -> torch.Tensor:
    space = OURS.shelf.__globals__
    space["images"] = objects.load("val")[0]
    return OURS.shelf(rows, columns, side)


SIZES = [(2, 2, 128), (2, 2, 98), (1, 2, 150), (2, 1, 107), (2, 2, 220), (1, 1, 41)]


@pytest.mark.parametrize("size", SIZES)
def test_the_chapters_detector_is_the_packages(detector, size):
    """Equal to the bit: they are the same operations."""
    OURS.Portable.__init__.__globals__["detector"] = detector
    picture = tiles(*size)
    with torch.no_grad():
        ours, theirs = (
            OURS.Portable().eval()(picture),
            portable.Portable(detector)(picture),
        )
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype and torch.equal(a, b)


@pytest.mark.parametrize("size", SIZES)
def test_the_file_is_the_detector(detector, file, size):
    picture = tiles(*size)
    _, near, masks = OURS.agree(portable.Portable(detector), file, picture)
    assert near and masks


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (33, 64), (500, 20)])
def test_nothing_to_find(detector, file, shape):
    picture = torch.full((*shape, 3), 128, dtype=torch.uint8)
    boxes, labels, scores, masks = file.run(None, {"picture": picture.numpy()})
    assert boxes.shape == (0, 4) and masks.shape == (0, *shape)
    assert labels.shape == scores.shape == (0,) and masks.dtype == bool
    with torch.no_grad():
        assert len(portable.Portable(detector)(picture)[0]) == 0


def test_torchvisions_size_where_floats_are_right(detector):
    """At 256 x 256 nothing is resized: the model's own path gives the same."""
    picture = tiles(2, 2, 128)
    with torch.no_grad():
        boxes, labels, scores, masks = portable.Portable(detector)(picture)
        [found] = detector([picture.permute(2, 0, 1) / 255])
    order, other = labels.argsort(stable=True), found["labels"].argsort(stable=True)
    torch.testing.assert_close(boxes[order], found["boxes"][other], rtol=0, atol=1e-2)
    torch.testing.assert_close(scores[order], found["scores"][other], rtol=0, atol=1e-3)
    differ = masks[order] != (found["masks"][other, 0] > 0.5)
    assert differ.sum() <= 0.001 * masks.sum()


def test_whole_numbers_give_the_size_that_is_meant():
    """Of each side from 1 to 4000: 256, where floats of either kind fall short."""
    side = torch.arange(1, 4001)
    assert (side * 256 // side == 256).all()
    assert ((side.double() * (256 / side.double())).floor() == 255).any()
    assert ((side.float() * (256 / side.float())).floor() == 255).any()

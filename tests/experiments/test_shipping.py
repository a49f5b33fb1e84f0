"""Chapter 32's stored times: what the page says of them, and that the clock works."""

import pytest

from course_utils.datasets import results
from experiments import shipping

pytestmark = pytest.mark.usefixtures("one_thread")
ENGINES = ("PyTorch", "torch.compile", "ONNX Runtime", "ONNX Runtime, bytes")


def test_the_stored_figures():
    stored = results.load("shipping")
    assert stored["threads"] == 1 and stored["calls"] == shipping.CALLS
    each = {(r["engine"], r["batch"]): r for r in stored["runs"]}
    assert list(each) == [(e, n) for e in ENGINES for n in shipping.BATCHES]
    for (engine, batch), run in each.items():
        assert 0 < run["least"] <= run["p50"]
        assert ("calls" in run) == (engine == "ONNX Runtime" and batch == 1)
    assert len(each["ONNX Runtime", 1]["calls"]) == shipping.CALLS + shipping.WARM
    # What the text of the page says.
    least = {key: run["least"] for key, run in each.items()}
    assert least["ONNX Runtime", 1] < 0.6 * least["PyTorch", 1]
    assert least["ONNX Runtime, bytes", 1] < 0.5 * least["ONNX Runtime", 1]
    for engine in ENGINES:
        assert least[engine, 32] / 32 < least[engine, 1]
    assert least["torch.compile", 32] > 0.95 * least["PyTorch", 32]


def test_timed():
    took = shipping.timed(lambda: sum(range(1000)), 4)
    assert took["first"] >= 0 and len(took["cpu"]) == 3 and len(took["clock"]) == 4
    assert min(took["clock"]) > 0


def test_the_engines_agree(tmp_path):
    """But for torch.compile, which would take a while here."""
    import torch

    from course_utils.classification import normalize
    from course_utils.datasets import objects

    made = shipping.engines(tmp_path)
    assert tuple(made) == ENGINES
    x = normalize(objects.load("val", 2)[0])
    wanted = made["PyTorch"](x)
    [floats], [bytes_] = made["ONNX Runtime"](x), made["ONNX Runtime, bytes"](x)
    assert torch.allclose(torch.from_numpy(floats), wanted, rtol=1e-4, atol=1e-4)
    assert (torch.from_numpy(bytes_).argmax(1) == wanted.argmax(1)).sum() >= 22

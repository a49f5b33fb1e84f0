"""Real digits: the stored figures keep their bounds, and the files are read right."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from course_utils.datasets import results
from experiments import digits

REAL = os.environ.get("COURSE_REAL_DATA")
pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_stored_figures():
    stored = results.load("digits")
    assert stored["command"] == "python -m experiments.digits"
    wanted = {
        (name, each, seed)
        for name in digits.MODELS
        for each in digits.NUMBERS
        for seed in digits.SEEDS
    }
    runs = {(r["model"], r["each"], r["seed"]): r for r in stored["runs"]}
    assert set(runs) == wanted and len(stored["runs"]) == len(wanted)
    for (name, each, seed), run in runs.items():
        assert run["held"] >= digits.FLOORS.get((name, each), 0)
        if name == "convnet":
            assert runs["linear", each, seed]["held"] < run["held"]
            # What was learned on drawn objects helps where there are few digits.
            gain = runs["objects", each, seed]["held"] - run["held"]
            assert gain > 0.03 if each == 20 else abs(gain) < 0.02
    assert sum(run["seconds"] for run in stored["runs"]) < 300


@pytest.fixture
def folder(tmp_path):
    """Files like MNIST's: picture number k is filled with k % 251, labels go round."""
    place = tmp_path / "mnist_t10k"
    place.mkdir()
    numbers = np.arange(10_000)
    pixels = np.repeat((numbers % 251).astype(np.uint8), 28 * 28).tobytes()
    labels = (numbers % 10).astype(np.uint8).tobytes()
    for name, header, content in (
        ("images-idx3", 16, pixels),
        ("labels-idx1", 8, labels),
    ):
        file = place / f"t10k-{name}-ubyte.gz"
        file.write_bytes(gzip.compress(bytes(header) + content, 1))
    return tmp_path


def test_reading(folder):
    (images, labels), (others, known) = digits.read(folder, 2)
    assert images.shape == (20, 3, 28, 28) and others.shape == (5000, 3, 28, 28)
    assert labels.tolist() == [d for d in range(10) for _ in range(2)]
    numbers = torch.tensor([d + 10 * k for d in range(10) for k in range(2)])
    assert torch.allclose(images[:, 0, 0, 0], numbers / 255 - 0.5)
    assert others[0, 0, 0, 0] == pytest.approx(5000 % 251 / 255 - 0.5)
    assert known.bincount().tolist() == [500] * 10


def test_what_cannot_be_is_said(folder, monkeypatch, capsys):
    for each in (0, 393):
        with pytest.raises(ValueError, match=f"from 1 to 392, got {each}"):
            digits.read(folder, each)
    with pytest.raises(ValueError, match="got 'vit'"):
        digits.train(folder, "vit", 20, 0)
    file = folder / "mnist_t10k/t10k-labels-idx1-ubyte.gz"
    file.write_bytes(gzip.compress(bytes(9)))
    with pytest.raises(ValueError, match=r"got \[7840000, 1\]"):
        digits.read(folder, 2)
    monkeypatch.setenv("COURSE_REAL_DATA", str(folder / "none"))
    assert (
        digits.main([]) == 0 and "SKIPPED: no mnist_t10k in" in capsys.readouterr().out
    )
    monkeypatch.delenv("COURSE_REAL_DATA")
    assert digits.main([]) == 0 and "is not set" in capsys.readouterr().out


@pytest.mark.skipif(
    not REAL or not (Path(REAL) / "mnist_t10k").is_dir(),
    reason="COURSE_REAL_DATA holds no mnist_t10k",
)
def test_a_short_training_on_the_real_ones():
    run = digits.train(Path(REAL), "linear", 20, 5, steps=100)
    assert run["train"] > 0.9 > run["held"] > 0.6
    again = digits.train(Path(REAL), "linear", 20, 5, steps=100)
    assert {**run, "seconds": 0} == {**again, "seconds": 0}

"""runtime: devices, seeds, profile, set-up."""

import os
import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from course_utils import runtime


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch):
    monkeypatch.delenv("COURSE_DEVICE", raising=False)
    monkeypatch.delenv("COURSE_PROFILE", raising=False)


def test_device_by_default_is_cuda_or_the_cpu(monkeypatch):
    for available, kind in ((False, "cpu"), (True, "cuda")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda a=available: a)
        assert runtime.device() == torch.device(kind)
        assert runtime.device().index is None


def test_mps_is_used_on_request_only(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert runtime.device().type == "cpu"
    assert runtime.device("mps").type == "mps"


def test_device_from_the_environment(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("COURSE_DEVICE", "cpu")
    assert runtime.device() == torch.device("cpu")
    assert runtime.device("cuda:1") == torch.device("cuda", 1)  # asked for: it wins
    monkeypatch.setenv("COURSE_DEVICE", "")
    assert runtime.device() == torch.device("cuda")


@pytest.mark.parametrize(
    "name", ["gpu", "CUDA", "", "cuda:", "cuda:x", "cuda:²", "cpu "]
)
def test_an_unknown_device(name):
    with pytest.raises(ValueError) as caught:
        runtime.device(name)
    assert str(caught.value) == (f"device must be 'cpu', 'cuda' or 'mps', got {name!r}")


def test_a_wrong_environment_is_named(monkeypatch):
    monkeypatch.setenv("COURSE_DEVICE", "tpu")
    with pytest.raises(ValueError, match="COURSE_DEVICE must be .* got 'tpu'"):
        runtime.device()


def test_a_device_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert runtime.device("cuda:0") == torch.device("cuda", 0)
    with pytest.raises(ValueError, match="'cuda:1', but cuda devices here: 1"):
        runtime.device("cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="'cuda', but cuda devices here: 0"):
        runtime.device("cuda")


@pytest.mark.parametrize("name", [0, torch.device("cpu"), ["cpu"]])
def test_a_device_that_is_no_string(name):
    with pytest.raises(TypeError) as caught:
        runtime.device(name)
    assert repr(name) in str(caught.value)


def test_profile(monkeypatch):
    assert runtime.profile() == "mini"
    for value, profile in (("", "mini"), ("mini", "mini"), ("full", "full")):
        monkeypatch.setenv("COURSE_PROFILE", value)
        assert runtime.profile() == profile


@pytest.mark.parametrize("value", ["Full", "large", " full"])
def test_a_wrong_profile_is_reported_at_set_up(monkeypatch, value):
    monkeypatch.setenv("COURSE_PROFILE", value)
    for function in (runtime.profile, runtime.setup):
        with pytest.raises(ValueError, match=f"'mini' or 'full', got {value!r}"):
            function()


def test_seeds_repeat_and_differ():
    def draw(seed):
        generator = runtime.seed_everything(seed)
        return (
            random.random(),
            np.random.rand(),
            torch.rand(3).tolist(),
            torch.rand(3, generator=generator).tolist(),
        )

    first, other, again = draw(7), draw(8), draw(7)
    assert first == again
    assert all(a != b for a, b in zip(first, other, strict=True))
    # The libraries' own seeding is the oracle.
    assert first[0] == random.Random(7).random()
    assert first[1] == np.random.RandomState(7).rand()
    own = torch.rand(3, generator=torch.Generator().manual_seed(7)).tolist()
    assert first[2] == first[3] == own


def test_the_generator_is_its_own_and_on_the_cpu():
    with torch.device("meta"):
        generator = runtime.seed_everything(0)
    assert generator.device == torch.device("cpu")
    assert generator is not torch.default_generator
    before = torch.get_rng_state()
    torch.rand(3, generator=generator)
    torch.testing.assert_close(torch.get_rng_state(), before, rtol=0, atol=0)


@pytest.mark.parametrize("seed", [0, 2**32 - 1, np.int64(3)])
def test_seeds_at_the_edge(seed):
    assert runtime.seed_everything(seed).initial_seed() == int(seed)


@pytest.mark.parametrize(
    ("seed", "error"),
    [
        (-1, ValueError),
        (2**32, ValueError),
        (1.0, TypeError),
        ("0", TypeError),
        (True, TypeError),
        (None, TypeError),
    ],
)
def test_a_wrong_seed_changes_nothing(seed, error):
    state = torch.get_rng_state(), random.getstate()
    with pytest.raises(error) as caught:
        runtime.seed_everything(seed)
    assert str(seed) in str(caught.value)
    torch.testing.assert_close(torch.get_rng_state(), state[0], rtol=0, atol=0)
    assert random.getstate() == state[1]


SETUP = """
import os, random, torch
import numpy as np
from matplotlib import rcParams
torch.set_float32_matmul_precision("high")
torch.backends.cudnn.allow_tf32 = True
torch.backends.cudnn.benchmark = True
state = torch.get_rng_state(), random.getstate(), str(np.random.get_state())
from course_utils import runtime
for attempt in range(2):
    assert runtime.setup() is None
    assert torch.get_float32_matmul_precision() == "highest"
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.deterministic and not torch.backends.cudnn.benchmark
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"  # a reader's own stays
    assert rcParams["figure.dpi"] == 144
    rcParams["figure.dpi"] = 10
assert torch.equal(torch.get_rng_state(), state[0])
assert (random.getstate(), str(np.random.get_state())) == state[1:]
a = torch.arange(6.0).reshape(2, 3)
assert (a @ a.T).tolist() == [[5.0, 14.0], [14.0, 50.0]]
print("done")
"""


def test_setup_twice_without_a_warning():
    # pyparsing warns under the oldest matplotlib: not ours to mend.
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning"]
    done = subprocess.run(
        [*command, "-c", SETUP],
        capture_output=True,
        text=True,
        env={**os.environ, "CUBLAS_WORKSPACE_CONFIG": ":16:8"},
    )
    assert (done.stdout, done.stderr, done.returncode) == ("done\n", "", 0)


ONE_CORE = """
import os
from torch.utils import data
from course_utils import runtime
runtime.setup()
os.sched_getaffinity = lambda process: {0}  # where torch counts the cores
os.cpu_count = lambda: 1
data.DataLoader([1, 2], num_workers=2)
try:
    data.DataLoader([1, 2], num_workers=3)
except UserWarning:
    print("three are too many")
"""


def test_two_workers_on_one_core_are_no_warning():
    command = [sys.executable, "-W", "error::UserWarning", "-c", ONE_CORE]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("three are too many\n", 0), done.stderr


QUIET = """
import warnings
from course_utils import runtime
runtime.setup()
warnings.warn("IProgress not found. Please update jupyter and ipywidgets.")
for words in ("IProgress", "No IProgress not found"):
    try:
        warnings.warn(words)
    except UserWarning as warning:
        print(warning)
"""


def test_setup_silences_one_warning_only():
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning"]
    done = subprocess.run([*command, "-c", QUIET], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("IProgress\nNo IProgress not found\n", "")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_products_on_cuda_are_as_exact_as_on_the_cpu():
    runtime.setup()
    a = torch.randn(256, 256, generator=runtime.seed_everything(0))
    exact = a.double() @ a.double()
    error = (a.cuda() @ a.cuda()).cpu().double() - exact
    assert error.abs().max() / exact.abs().max() < 1e-6  # TF32: about 3e-4

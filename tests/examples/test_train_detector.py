"""``examples/train_detector.py``: alone, in two processes, resumed, refused.

Killed and started again it is in chapter 31 itself, and here, under torchrun, among the
slow tests.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import detector_process
import pytest
import torch

from course_utils import workers
from course_utils.training import distributed

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = detector_process.SCRIPT
DYING = ROOT / "tests" / "support" / "dying_detector.py"
SMALL = (
    *("--epochs", "2", "--images", "8", "--tests", "2", "--size", "64"),
    *("--device", "cpu"),
)
NEW_STORE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"
LIMIT = 600  # seconds; a run takes some 20

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def module():
    spec = importlib.util.spec_from_file_location("train_detector", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def torchrun(script, out, *options):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launch += ["--nproc-per-node=2", *options, str(script), "--out", str(out), *SMALL]
    return subprocess.run(
        launch,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        env={**os.environ, "OMP_NUM_THREADS": "1", NEW_STORE: "1"},
    )


def checkpoint(out):
    return torch.load(out / "last.pt", weights_only=True)


def weights_equal(one, other):
    a, b = one["model"], other["model"]
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def complaints(done) -> str:
    """What the processes said, without torchrun's own report."""
    lines = done.stderr.splitlines()
    return "\n".join(line for line in lines if "error" in line.lower())[:4000]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """By two processes, undisturbed: the run's folder, and what each one printed."""
    folder = tmp_path_factory.mktemp("runs")
    context = workers.context()
    context.set_forkserver_preload(  # imported once, for both
        ["torch._dynamo", "torch.distributed.rpc", "course_utils.training.engine"]
        + ["course_utils.detection.models", "course_utils.datasets"]
    )
    given = ["--out", str(folder / "two"), *SMALL]
    started = [
        context.Process(target=detector_process.enter, args=(r, 2, str(folder), given))
        for r in (0, 1)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(LIMIT)
    codes = [process.exitcode for process in started]
    for process in started:
        process.kill()
        process.join()
    assert codes == [0, 0]
    return folder / "two", [(folder / str(r)).read_text() for r in (0, 1)]


def test_two_processes(two):
    """Only the first one speaks, at the end; the checkpoint is of both."""
    out, printed = two
    assert [line.split(":")[0] for line in printed[0].splitlines()] == [
        "epoch 1",
        "epoch 2",
    ]
    assert printed[1] == ""
    saved = checkpoint(out)
    assert saved["epoch"] == 2 and len(saved["generators"]) == 2


@pytest.mark.slow
def test_killed_and_restarted_by_torchrun_equals_undisturbed(two, tmp_path):
    out, printed = two
    done = torchrun(DYING, tmp_path / "killed", "--max-restarts=3")
    assert done.returncode == 0, complaints(done)
    assert (tmp_path / "killed" / "killed").exists(), "nobody was killed"
    whole, killed = checkpoint(out), checkpoint(tmp_path / "killed")
    assert weights_equal(whole, killed) and whole["history"] == killed["history"]
    assert killed["epoch"] == 2
    assert set(done.stdout.splitlines()) == set(printed[0].splitlines())


def test_alone_and_resumed(module, capsys, tmp_path):
    given = ["--out", str(tmp_path / "whole"), *SMALL]
    model = module.main(given)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["epoch 1", "epoch 2"]
    again = module.main(given)  # it is finished: nothing is trained
    assert capsys.readouterr().out.splitlines() == lines
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def said(module, capsys, *arguments):
    with pytest.raises(SystemExit):
        module.main([str(a) for a in arguments])
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_other_settings_and_other_processes_are_refused(module, two, tmp_path):
    out, _ = two
    given = ["--out", str(out), *SMALL]
    with pytest.raises(ValueError, match="the run has processes 2, not 1"):
        module.main(given)
    settings = json.loads((out / "settings.json").read_text())
    assert settings["processes"] == 2 and settings["images"] == 8
    with pytest.raises(ValueError, match="the run has epochs 2, not 3"):
        module.main(["--out", str(out), *SMALL, "--epochs", "3"])
    with pytest.raises(ValueError, match="test has 50 pictures, not 99"):
        module.main(["--out", str(tmp_path / "new"), *SMALL, "--tests", "99"])
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--epochs", "0"), "--epochs must be at least 1"),
        (("--size", "8"), "--size must be at least 32"),
        (("--rate", "0"), "--rate must be above 0"),
        (("--seed", "-1"), "--seed and --workers not below it"),
        (("--images", "many"), "invalid int value: 'many'"),
        ((), "the following arguments are required: --out"),
    ],
)
def test_bad_options(module, capsys, tmp_path, options, words):
    given = ("--out", tmp_path / "new", *options) if options else ()
    assert words in said(module, capsys, *given)
    assert not (tmp_path / "new").exists()


def test_a_batch_that_cannot_be_shared(module, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(distributed, "world_size", lambda: 3)
    words = said(module, capsys, "--out", tmp_path / "new", *SMALL)
    assert "--batch-size 4 cannot be shared equally by 3 processes" in words


def test_the_shares_of_two_make_the_batch_of_one(module, monkeypatch):
    """The k-th batches of both processes are together the k-th of one."""
    chosen = module.options(["--out", "x", *SMALL])
    found = {}
    for world in (1, 2):
        monkeypatch.setattr(distributed, "world_size", lambda world=world: world)
        for rank in range(world):
            monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
            loader = module.share([(k, {}) for k in range(8)], chosen, True)
            loader.sampler.set_epoch(1)
            found[world, rank] = [list(images) for images, _ in loader]
    halves = [a + b for a, b in zip(found[2, 0], found[2, 1], strict=True)]
    assert [sorted(h) for h in halves] == [sorted(b) for b in found[1, 0]]
    assert sorted(sum(halves, [])) == list(range(8))


def test_they_are_short_and_the_job_file_is_sound():
    assert len(SCRIPT.read_text(encoding="utf-8").splitlines()) <= 200
    job = SCRIPT.with_suffix(".slurm")
    checked = subprocess.run(["bash", "-n", str(job)], capture_output=True, text=True)
    assert checked.returncode == 0 and not checked.stderr
    text = job.read_text(encoding="utf-8")
    assert text.startswith("#!/bin/bash\n") and "#SBATCH --requeue" in text
    assert "examples/train_detector.py" in text and "--max-restarts=" in text

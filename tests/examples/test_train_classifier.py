"""``examples/train_classifier.py`` as its users run it: a process of its own."""

import csv
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from course_utils.classification import convnet, normalize
from course_utils.datasets import objects

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "examples" / "train_classifier.py"
KINDS = ("balloon", "giraffe", "ladder")
SMALL = ("--side", "16", "--batch-size", "8", "--device", "cpu")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for part, count in (("train", 9), ("val", 4)):
        for kind in KINDS:
            (folder / part / kind).mkdir(parents=True)
            for k in range(count):
                name = f"{part}/{kind}/{k:03d}.png"
                shutil.copy(objects.FOLDER / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def module():
    """The script as a module, for what needs no process of its own."""
    spec = importlib.util.spec_from_file_location("train_classifier", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def command(data, out, *options):
    small = [*SMALL, "--epochs", "6"]
    return [
        sys.executable,
        str(SCRIPT),
        "--data",
        str(data),
        "--out",
        str(out),
        *small,
        *options,
    ]


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def process(data, out, *options):
    return subprocess.run(
        command(data, out, *options), capture_output=True, text=True, env=environment()
    )


def log(out):
    with open(out / "log.csv", newline="") as file:
        return list(csv.DictReader(file))


def equal(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        pairs = zip(one, other, strict=True)
        return len(one) == len(other) and all(equal(a, b) for a, b in pairs)
    return one == other


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "whole"
    done = process(data, out)
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_killed_and_resumed_equals_uninterrupted(data, whole, tmp_path):
    out, _ = whole
    running = subprocess.Popen(
        command(data, tmp_path / "killed"),
        stdout=subprocess.DEVNULL,
        env=environment(),
    )
    lines = tmp_path / "killed" / "log.csv"
    while running.poll() is None and not lines.exists():
        time.sleep(0.005)
    running.kill()
    assert running.wait() != 0, "it was done before it could be killed"
    before = len(log(tmp_path / "killed"))
    assert 0 < before < 6
    done = process(data, tmp_path / "killed", "--resume")
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.count("train_loss") == 6 - before
    for name in ("best.pt", "last.pt"):
        a, b = (
            torch.load(folder / name, weights_only=True)
            for folder in (out, tmp_path / "killed")
        )
        for generators in (a.pop("generators", None), b.pop("generators", None)):
            assert generators is None or len(generators) == 1
        assert equal(a, b), name
    assert log(out) == log(tmp_path / "killed")


def test_the_log_and_the_files_say_the_same(data, whole, module):
    out, said = whole
    lines = log(out)
    assert [int(line["epoch"]) for line in lines] == list(range(1, 7))
    assert list(lines[0]) == [
        *("epoch", "rate", "train_loss", "train_right", "val_loss", "val_right"),
    ]
    best = max(lines, key=lambda line: float(line["val_right"]))
    stored = torch.load(out / "best.pt", weights_only=True)
    assert stored["classes"] == list(KINDS)
    model = convnet(3)
    model.load_state_dict(stored["model"])
    (images, labels), _ = module.load(data / "val", 16)
    with torch.no_grad():
        scores = model.eval()(normalize(images))
    loss = F.cross_entropy(scores, labels).item()
    assert loss == pytest.approx(float(best["val_loss"]), rel=1e-5)
    hits = (scores.argmax(1) == labels).sum().item()
    assert hits / 12 == pytest.approx(float(best["val_right"]))
    counts = [int(line.split()[1]) for line in said.splitlines()[-3:]]
    assert sum(counts) == hits and f"names {hits / 12:.3f} of val right" in said
    settings = json.loads((out / "settings.json").read_text())
    assert settings["classes"] == list(KINDS) and settings["pictures"] == 27


def refused(data, out, words, *options):
    done = process(data, out, *options)
    lines = done.stderr.strip().splitlines()
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert words in lines[-1] and len(lines) <= 8, done.stderr
    return lines


def test_an_existing_run_is_kept(data, whole):
    out, _ = whole
    before = (out / "last.pt").read_bytes()
    [line] = refused(data, out, "last.pt is there: --resume goes on")
    assert line.startswith("error: ")
    assert (out / "last.pt").read_bytes() == before


# What needs no process of its own: main() ends in the same lines.


def said(module, capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        module.main([str(a) for a in arguments])
    if isinstance(end.value.code, str):
        return end.value.code
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--rate", "0.1"), "the run has rate 0.004, not 0.1"),
        (("--side", "24"), "the run has side 16, not 24"),
        (("--seed", "3"), "the run has seed 0, not 3"),
        (("--epochs", "7"), "the run has epochs 6, not 7"),
        (("--bfloat16",), "the run has bfloat16 False, not True"),
    ],
)
def test_other_settings_are_refused(module, capsys, data, whole, options, words):
    out, _ = whole
    given = ("--data", data, "--out", out, *SMALL, "--epochs", 6, "--resume", *options)
    assert words in said(module, capsys, *given)


def test_other_classes_are_refused(module, capsys, data, whole, tmp_path):
    out, _ = whole
    other = shutil.copytree(data, tmp_path / "other")
    shutil.move(other / "train/ladder", other / "train/tower")
    given = ("--data", other, *SMALL, "--epochs", 6)
    words = said(module, capsys, *given, "--out", tmp_path / "new")
    assert "train has the classes ['balloon', 'giraffe', 'tower'], val has" in words
    shutil.move(other / "val/ladder", other / "val/tower")
    words = said(module, capsys, *given, "--out", out, "--resume")
    assert "the run has classes ['balloon', 'giraffe', 'ladder'], not" in words


def test_other_pictures_are_refused(module, capsys, data, whole, tmp_path):
    out, _ = whole
    other = shutil.copytree(data, tmp_path / "other")
    (other / "train/ladder/000.png").unlink()
    given = ("--data", other, "--out", out, *SMALL, "--epochs", 6, "--resume")
    assert "the run has pictures 27, not 26" in said(module, capsys, *given)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--epochs", "0"), "--epochs must be at least 1"),
        (("--batch-size", "1"), "--batch-size must be at least 2"),
        (("--side", "7"), "--side must be at least 8"),
        (("--rate", "-1"), "--rate must be at least 0"),
        (("--epochs", "many"), "invalid int value: 'many'"),
        ((), "the following arguments are required: --out"),
    ],
)
def test_bad_options(module, capsys, tmp_path, options, words):
    given = ("--out", tmp_path / "new", *options) if options else ()
    assert words in said(module, capsys, *given)
    assert not (tmp_path / "new").exists()


def failing(module, *arguments):
    """The error that the script's last lines turn into one line."""
    errors = ArithmeticError, OSError, RuntimeError, ValueError
    with pytest.raises(errors) as found:
        module.main([str(a) for a in arguments])
    return str(found.value)


def test_bad_folders(module, data, tmp_path):
    given = ("--out", tmp_path / "new", *SMALL)
    assert "nowhere" in failing(module, "--data", tmp_path / "nowhere", *given)
    (tmp_path / "empty/train").mkdir(parents=True)
    found = failing(module, "--data", tmp_path / "empty", *given)
    assert "find any class folder" in found
    other = shutil.copytree(data, tmp_path / "other")
    (other / "val/ladder/000.png").write_text("no picture")
    found = failing(module, "--data", other, *given)
    assert "cannot identify image file" in found
    assert "got 'gpu'" in failing(module, *given, "--device", "gpu")
    assert not (tmp_path / "new").exists()


def test_nothing_to_resume_and_a_damaged_file(module, data, whole, tmp_path):
    given = ("--data", data, *SMALL, "--epochs", 6, "--resume")
    assert "settings.json" in failing(module, *given, "--out", tmp_path / "new")
    broken = shutil.copytree(whole[0], tmp_path / "broken")
    file = broken / "last.pt"
    file.write_bytes(file.read_bytes()[:1000])
    assert "is no checkpoint, or damaged" in failing(module, *given, "--out", broken)
    file.unlink()
    assert "there is no checkpoint" in failing(module, *given, "--out", broken)


def test_a_bad_folder_is_one_line(tmp_path):
    lines = refused(tmp_path / "nowhere", tmp_path / "new", "No such file or directory")
    assert len(lines) == 1 and lines[0].startswith("error: ")


def test_a_loss_that_explodes(module, data, tmp_path):
    given = ("--data", data, "--out", tmp_path / "new", *SMALL, "--epochs", 1)
    assert "lower --rate" in failing(module, *given, "--rate", "inf")


def test_patience_and_a_second_resume(module, capsys, data, tmp_path):
    given = ["--data", data, "--out", tmp_path / "new", *SMALL, "--epochs", 30]
    given = [str(a) for a in (*given, "--patience", 1)]
    module.main(given)
    first = log(tmp_path / "new")
    assert 2 <= len(first) < 30
    rights = [float(line["val_right"]) for line in first]
    assert rights.index(max(rights)) == len(rights) - 2
    assert "1 epochs old" in capsys.readouterr().out
    module.main([*given, "--resume"])  # it stops again, at once
    assert log(tmp_path / "new") == first
    assert "1 epochs old" in capsys.readouterr().out


def test_moved_pictures(module):
    images = torch.arange(4 * 3 * 20 * 20).reshape(4, 3, 20, 20).to(torch.uint8)
    before = images.clone()
    draws = [module.moved(images, torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    assert torch.equal(images, before) and draws[0].shape == images.shape
    assert draws[0].dtype == torch.uint8 and torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    # The middle of a picture that is constant along its rows stays what it was.
    rows = torch.arange(20.0).reshape(1, 1, 20, 1).expand(4, 3, 20, 20)
    found = module.moved(rows, torch.Generator().manual_seed(0))
    assert ((found[:, :, 9] - rows[:, :, 9]).abs() <= 2).all()
    assert (found == found[..., :1]).all()


def test_means_do_not_depend_on_the_batches(module):
    right = torch.arange(75) % 3 == 0
    losses = torch.linspace(0, 2, 75)
    for size in (1, 32, 75):
        means = module.Means()
        for part, hits in zip(losses.split(size), right.split(size), strict=True):
            means.add(part.mean(), hits)
        found = means.named("val")
        assert found["val_loss"] == pytest.approx(1.0)
        assert found["val_right"] == pytest.approx(25 / 75)


def test_one_picture_left_over_is_left_out(module):
    chosen = module.options(["--out", "x", "--batch-size", "4", "--device", "cpu"])
    for count, sizes in ((9, [4, 4]), (10, [4, 4, 2]), (3, [3]), (1, [])):
        rows = module.batches(count, chosen)
        assert [len(some) for some in rows] == sizes
        assert len(set(torch.cat(rows).tolist())) == sum(sizes) if rows else True


def test_it_is_short():
    assert len(SCRIPT.read_text(encoding="utf-8").splitlines()) <= 200

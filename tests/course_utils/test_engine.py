"""The training engine: what it computes, and what it survives."""

import math
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import small_training as small
import torch
from torch.utils.data import DataLoader

from course_utils.training import checkpoints, engine

SCRIPT = Path(small.__file__)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run of three epochs."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("whole")
    model, history = small.run(folder, 3)
    return folder, small.fingerprint(model), history


def test_history_and_files(whole):
    folder, _, history = whole
    assert [record["epoch"] for record in history] == [1, 2, 3]
    names = {"loss", "loss_mask", "loss_objectness", "bbox/AP", "segm/AP50"}
    assert names <= history[0].keys()
    parts = sum(v for k, v in history[0].items() if k.startswith("loss_"))
    assert math.isclose(parts, history[0]["loss"], rel_tol=1e-6)
    assert (folder / "last.pt").is_file()
    assert len(list(folder.glob("events*"))) == 1
    assert not list(folder.glob("*.part"))


def test_training_learns(tmp_path):
    model, history = small.run(tmp_path, 8, test_loader=None)
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]


def test_resumed_bit_for_bit(whole, tmp_path):
    _, expected, history = whole
    for epochs in (1, 2, 3):
        torch.manual_seed(epochs)  # what happened in between does not matter
        random.seed(epochs)
        model, resumed = small.run(tmp_path, epochs)
    assert small.fingerprint(model) == expected
    assert resumed == history


def test_a_finished_run_is_returned(whole):
    folder, expected, history = whole
    model, again = small.run(folder, 3)
    assert small.fingerprint(model) == expected and again == history


def test_resume_false_starts_anew(whole, tmp_path):
    _, expected, history = whole
    small.run(tmp_path, 1)
    model, again = small.run(tmp_path, 3, resume=False)
    assert small.fingerprint(model) == expected and again == history


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_at_random_points(whole, tmp_path):
    """Killed by SIGKILL, again and again, the run ends with the same weights."""
    _, expected, history = whole
    command = [sys.executable, str(SCRIPT), str(tmp_path), "3"]
    generator, killed = random.Random(time.time_ns()), 0
    delays = []
    for _ in range(int(os.environ.get("COURSE_KILLS", 2))):
        process = subprocess.Popen(command)
        while process.poll() is None and not (tmp_path / "last.pt").exists():
            time.sleep(0.01)
        delays.append(generator.uniform(0, 1.5))
        time.sleep(delays[-1])
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    assert killed, "every run was over before it could be killed"
    subprocess.run(command, check=True)
    result = torch.load(tmp_path / "result_0.pt", weights_only=True)
    assert result["weights"] == expected, delays
    assert result["history"] == history


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The same training by two processes."""
    folder = tmp_path_factory.mktemp("two")
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    command = [*launch, "--standalone", str(SCRIPT), str(folder), "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    results = [torch.load(folder / f"result_{r}.pt", weights_only=True) for r in (0, 1)]
    return folder, results


def test_two_processes_agree_after_each_step(two):
    _, (first, second) = two
    assert len(first["steps"]) == 2 * 2  # 8 images, 2 processes, 2 a batch; 2 epochs
    assert first["steps"] == second["steps"]
    assert first["weights"] == second["weights"]


def test_two_processes_evaluate_as_one(two):
    """5 images, 2 processes: the sampler sends one image twice; it counts once."""
    folder, (first, second) = two
    model, _, _, _, test_loader = small.make()
    checkpoints.load_model(model, folder / "last.pt")
    alone = engine.evaluate(model, test_loader, "cpu", progress=False)
    assert first["evaluated"] == second["evaluated"]
    assert abs(first["evaluated"] - alone["bbox"]["AP"]) <= 1e-9
    assert abs(first["history"][-1]["segm/AP"] - alone["segm"]["AP"]) <= 1e-9


def test_only_the_first_process_writes(two):
    folder, _ = two
    assert len(list(folder.glob("events*"))) == 1
    assert len(list(folder.glob("last.pt*"))) == 1


def test_a_checkpoint_of_two_processes_is_not_resumed_by_one(two):
    folder, _ = two
    with pytest.raises(checkpoints.CheckpointError, match="2 processes, here are 1"):
        small.run(folder, 3)


def test_evaluate_restores_the_mode_and_needs_different_ids():
    model, _, _, _, loader = small.make()
    model.train()
    results = engine.evaluate(model, loader, "cpu", progress=False)
    assert model.training
    assert set(results) == {"bbox", "segm"} and "AP75" in results["segm"]
    data = small.Rectangles(3)
    same = [(data[i][0], {**data[i][1], "image_id": 0}) for i in range(3)]
    with pytest.raises(ValueError, match="two images have the image_id 0"):
        engine.evaluate(
            model,
            DataLoader(same, collate_fn=small.collate),
            "cpu",
            progress=False,
        )


def test_evaluate_notices_missing_images():
    model, *_ = small.make()
    part = DataLoader(small.Rectangles(4), sampler=[0, 1], collate_fn=small.collate)
    with pytest.raises(ValueError, match="has 4 images, but 2 different"):
        engine.evaluate(model, part, "cpu", progress=False)


def test_uint8_images_and_empty_targets_train():
    model, optimizer, *_ = small.make()
    image, target = small.Rectangles(1)[0]
    assert len(target["boxes"]) == 0
    batch = [([(image * 255).to(torch.uint8)], [target])]
    means = engine.train_one_epoch(model, optimizer, batch, "cpu", progress=False)
    assert math.isfinite(means["loss"])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite(value):
    class Broken(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(()))

        def forward(self, images, targets):
            bad = any(t["image_id"] == 2 for t in targets)
            return {"loss_a": self.weight * (value if bad else 1.0)}

    model = Broken()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    loader = DataLoader(small.Rectangles(4), 1, collate_fn=small.collate)
    with pytest.raises(engine.NonFiniteLoss, match=r"step 12, images .*\[2\].*loss_a"):
        engine.train_one_epoch(
            model, optimizer, loader, "cpu", first_step=10, progress=False
        )
    assert math.isclose(model.weight.item(), 0.8, rel_tol=1e-6)  # two good steps


def test_an_unreadable_image_in_mid_epoch(whole, tmp_path):
    """The error of the data set comes through; what was saved stays, and goes on."""
    small.run(tmp_path, 1)
    model, optimizer, schedule, loader, _ = small.make()
    good = loader.dataset.__class__.__getitem__

    def bad(self, i):
        if i == 5:
            raise OSError("Scene00005.png: image file is truncated")
        return good(self, i)

    loader.dataset.__class__.__getitem__ = bad
    try:
        with pytest.raises(OSError, match="Scene00005.png"):
            small.run(tmp_path, 3)
    finally:
        loader.dataset.__class__.__getitem__ = good
    model, history = small.run(tmp_path, 3)
    assert small.fingerprint(model) == whole[1] and history == whole[2]


def test_log_and_clipping():
    model, optimizer, schedule, loader, _ = small.make()
    told = []
    engine.train_one_epoch(
        model,
        optimizer,
        loader,
        "cpu",
        schedule=schedule,
        clip_norm=1e-3,
        first_step=7,
        log=lambda *entry: told.append(entry),
        progress=False,
    )
    assert {step for _, _, step in told} == {7, 8, 9, 10}
    rates = [value for name, value, _ in told if name == "train/learning_rate"]
    assert rates == sorted(rates) and len(set(rates)) == 4
    norms = [p.grad.norm() for p in model.parameters() if p.grad is not None]
    assert torch.stack(norms).norm() <= 1.001e-3


def test_empty_loader_and_mixed_precision_on_a_cpu(tmp_path):
    model, optimizer, *_ = small.make()
    with pytest.raises(ValueError, match="no batch"):
        engine.train_one_epoch(model, optimizer, [], "cpu", progress=False)
    with pytest.raises(ValueError, match="accelerator"):
        small.run(tmp_path, 1, mixed_precision=True)


def test_pictures_are_logged(tmp_path):
    from tensorboardX.proto.event_pb2 import Event

    small.run(tmp_path, 1, pictures=2)
    (file,) = tmp_path.glob("events*")
    content, tags = file.read_bytes(), set()
    while content:
        length = int.from_bytes(content[:8], "little")
        event = Event.FromString(content[12 : 12 + length])
        tags |= {value.tag for value in event.summary.value}
        content = content[16 + length :]
    assert {"test/0", "test/1", "train/loss", "bbox/AP", "train/loss_mask"} <= tags


# --- checkpoints ------------------------------------------------------------------


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_a_damaged_checkpoint(whole, tmp_path, keep):
    content = (whole[0] / "last.pt").read_bytes()
    length = keep if isinstance(keep, int) else int(keep * len(content))
    (tmp_path / "last.pt").write_bytes(content[:length])
    with pytest.raises(checkpoints.CheckpointError, match="last.pt is no checkpoint"):
        small.run(tmp_path, 3)
    assert len((tmp_path / "last.pt").read_bytes()) == length


def test_a_checkpoint_of_another_model(whole):
    model = small.small_model(seed=9, channels=24)
    before = small.fingerprint(model)
    with pytest.raises(checkpoints.CheckpointError, match="of another model: .* not"):
        checkpoints.load_model(model, whole[0] / "last.pt")
    assert small.fingerprint(model) == before
    with pytest.raises(checkpoints.CheckpointError, match="is missing, and"):
        checkpoints.load_model(small.small_model(mask_layers=2), whole[0] / "last.pt")
    with pytest.raises(checkpoints.CheckpointError, match="there is no checkpoint"):
        checkpoints.load_model(model, whole[0] / "none.pt")


def test_a_checkpoint_with_other_parts(whole, tmp_path):
    model, optimizer, schedule, loader, _ = small.make()
    before = small.fingerprint(model)
    state = checkpoints.State(model, optimizer, None, None, loader)
    with pytest.raises(checkpoints.CheckpointError, match="only the checkpoint has a"):
        state.load(whole[0] / "last.pt")
    other = torch.optim.AdamW(list(model.parameters())[:3])
    state = checkpoints.State(model, other, schedule, None, loader)
    with pytest.raises(checkpoints.CheckpointError, match="groups of"):
        state.load(whole[0] / "last.pt")
    assert small.fingerprint(model) == before


def test_a_pickle_with_code_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "evil"),)

    torch.save({"format": 1, "model": Evil()}, tmp_path / "last.pt")
    with pytest.raises(checkpoints.CheckpointError):
        checkpoints.load_model(small.small_model(), tmp_path / "last.pt")
    assert not (tmp_path / "evil").exists()


def test_a_full_disk(whole, tmp_path):
    """The file may not grow beyond 1 MB: saving fails as it does on a full disk."""
    small.run(tmp_path, 1)
    before = (tmp_path / "last.pt").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(checkpoints.CheckpointError, match="earlier one is as it"):
            small.run(tmp_path, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "last.pt").read_bytes() == before
    assert not list(tmp_path.glob("*.part"))
    model, history = small.run(tmp_path, 3)
    assert small.fingerprint(model) == whole[1] and history == whole[2]

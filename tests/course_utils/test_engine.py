"""The training engine: what it computes, and what it survives."""

import contextlib
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
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader, IterableDataset
from torchvision import tv_tensors
from torchvision.models import detection
from torchvision.transforms import v2

from course_utils.training import checkpoints, engine

SCRIPT = Path(small.__file__)
EPOCHS = 24  # of the run that is killed, about 2 s


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
    names = {"loss", "loss_mask", "loss_box", "bbox/AP", "segm/AP50"}
    assert names <= history[0].keys()
    parts = sum(v for k, v in history[0].items() if k.startswith("loss_"))
    assert math.isclose(parts, history[0]["loss"], rel_tol=1e-6)
    assert (folder / "last.pt").is_file()
    assert len(list(folder.glob("events*"))) == 1
    assert not list(folder.glob("*.part"))


def test_training_learns(tmp_path):
    model, history = small.run(tmp_path, 8, test_loader=None)
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]


@pytest.mark.slow
def test_a_real_detector_learns_and_resumes_bit_for_bit(tmp_path):
    model, history = small.run(tmp_path / "whole", 8, real=True)
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]
    assert {"loss_objectness", "loss_mask", "segm/AP50"} <= history[0].keys()
    for epochs in (3, 8):
        torch.manual_seed(epochs)
        again, resumed = small.run(tmp_path / "parts", epochs, real=True)
    assert small.fingerprint(again) == small.fingerprint(model)
    assert resumed == history


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
@pytest.mark.parametrize(
    "kills", [1, pytest.param(6, marks=pytest.mark.slow)], ids=["once", "often"]
)
def test_killed_at_random_points(tmp_path, kills):
    """Killed by SIGKILL, again and again, the run ends with the same weights."""
    model, history = small.run(tmp_path / "whole", EPOCHS)
    folder = tmp_path / "killed"
    command = [sys.executable, str(SCRIPT), str(folder), str(EPOCHS)]
    generator, killed, delays = random.Random(5), 0, []
    for _ in range(kills):
        process = subprocess.Popen(command)
        while process.poll() is None and not (folder / "last.pt").exists():
            time.sleep(0.005)
        delays.append(generator.uniform(0, 0.3))
        time.sleep(delays[-1])
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    assert killed, "every run was over before it could be killed"
    again, resumed = small.run(folder, EPOCHS)
    assert small.fingerprint(again) == small.fingerprint(model), delays
    assert resumed == history


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
    assert 0.1 < alone["bbox"]["AP"] < 0.9
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
    model, optimizer, *_ = small.make(real=True)
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


class Scaler(torch.amp.GradScaler):
    """A real scaler for the CPU; finds what is not finite in the steps it is told."""

    def __init__(self, bad):
        super().__init__("cpu", init_scale=8.0, growth_interval=1000)
        self.bad, self.steps = bad, 0

    def scale(self, loss):
        self.steps += 1
        return super().scale(loss * (math.inf if self.steps in self.bad else 1.0))


@pytest.mark.parametrize("clip_norm", [None, 5.0])
def test_a_step_that_the_scaler_skips_is_skipped_by_the_schedule(clip_norm):
    model, _, _, loader, _ = small.make()
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    scaler, rates, weights = Scaler({2, 3}), [], []

    def log(name, value, step):
        if name == "train/learning_rate":
            rates.append(value)
            weights.append(small.fingerprint(model))

    engine.train_one_epoch(
        model, optimizer, loader, "cpu", schedule=schedule, scaler=scaler,
        clip_norm=clip_norm, log=log, progress=False,
    )  # fmt: skip
    assert rates == [0.01, 0.005, 0.005, 0.005] and schedule.last_epoch == 2
    assert weights[0] == weights[1] == weights[2] != weights[3]
    assert scaler.get_scale() == 2.0


def test_scaled_steps_are_the_unscaled_ones():
    """By a power of two, without autocast's rounding, and clipped after unscaling."""
    ends = []
    for scaler in (None, Scaler(set()), torch.amp.GradScaler("cpu", enabled=False)):
        model, optimizer, schedule, loader, _ = small.make()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
            engine.train_one_epoch(
                model, optimizer, loader, "cpu", schedule=schedule, scaler=scaler,
                clip_norm=0.1, progress=False,
            )  # fmt: skip
        assert schedule.last_epoch == 4
        ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-5, atol=1e-6)
    assert torch.equal(ends[0], ends[2])


class Stream(IterableDataset):
    """The rectangles, one after the other: no length, no index."""

    def __init__(self, count, first_seed=0):
        self.data = small.Rectangles(count, first_seed)

    def __iter__(self):
        return iter([self.data[i] for i in range(len(self.data))])


def stream(*arguments):
    return DataLoader(Stream(*arguments), 2, collate_fn=small.collate)


def streamed(folder, epochs, **options):
    model, optimizer, schedule, *_ = small.make()
    history = engine.fit(
        model, stream(7), optimizer=optimizer, schedule=schedule, epochs=epochs,
        device="cpu", folder=folder, test_loader=stream(5, 100), pictures=2,
        progress=False, **options,
    )  # fmt: skip
    return model, history


def test_an_iterable_data_set(whole, tmp_path):
    model, history = streamed(tmp_path / "whole", 2)
    log = read_log(tmp_path / "whole")
    assert list(log["train/loss"]) == list(range(8)) and len(log["test/0"]) == 2
    assert list(log["bbox/AP"]) == list(log["test/1"]) == [3, 7]
    streamed(tmp_path / "parts", 1)
    again, resumed = streamed(tmp_path / "parts", 2)
    assert small.fingerprint(again) == small.fingerprint(model) and resumed == history
    model, *_, loader = small.make()
    alike = [engine.evaluate(model, source, "cpu", progress=False)["bbox"]["AP"]
             for source in (loader, stream(5, 100))]  # fmt: skip
    assert alike[0] == alike[1] > 0.1


def plateau(folder, mode, epochs=3, **options):
    """What the schedule is told after each epoch, and the rate that it then sets."""
    model, _, _, loader, test_loader = small.make()
    optimizer, told = torch.optim.AdamW(model.parameters(), 0.01), []

    class Watched(ReduceLROnPlateau):
        def step(self, metrics):
            super().step(metrics)
            told.append((metrics, optimizer.param_groups[0]["lr"]))

    schedule = Watched(optimizer, mode, 0.5, patience=0, threshold=1e9)
    history = engine.fit(
        model, loader, optimizer=optimizer, schedule=schedule, epochs=epochs,
        device="cpu", folder=folder, progress=False,
        **{"test_loader": test_loader, "pictures": 0} | options,
    )  # fmt: skip
    return told, history


def test_plateau_steps_after_each_epoch(tmp_path):
    """Nothing is better by a factor of a billion: the rate is halved."""
    rates, history = plateau(tmp_path / "min", "min", test_loader=None)
    assert [m for m, _ in rates] == [record["loss"] for record in history]
    assert [rate for _, rate in rates] == [0.005, 0.0025, 0.00125]
    rates, history = plateau(tmp_path / "max", "max")
    assert [m for m, _ in rates] == [record["bbox/AP"] for record in history]
    assert [rate for _, rate in rates] == [0.01, 0.005, 0.0025]  # the first is best
    resumed, _ = plateau(tmp_path / "max", "max", 4)
    assert [rate for _, rate in resumed] == [0.00125]
    with pytest.raises(ValueError, match="'max' goes by AP: it needs a test_loader"):
        plateau(tmp_path / "none", "max", test_loader=None)
    assert not (tmp_path / "none").exists()


def test_plateau_is_refused_where_there_is_no_epoch_to_measure():
    model, optimizer, _, loader, _ = small.make()
    before = small.fingerprint(model)
    with pytest.raises(TypeError, match="ReduceLROnPlateau steps after an epoch"):
        engine.train_one_epoch(
            model, optimizer, loader, "cpu", schedule=ReduceLROnPlateau(optimizer),
            progress=False,
        )  # fmt: skip
    assert small.fingerprint(model) == before


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("no folder")
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        model, optimizer, schedule, loader, _ = small.make()
        before = small.fingerprint(model)
        with pytest.raises(checkpoints.CheckpointError, match="cannot write into .*fi"):
            engine.fit(
                model, loader, optimizer=optimizer, epochs=1, device="cpu",
                folder=folder, progress=False,
            )  # fmt: skip
        assert small.fingerprint(model) == before


def test_a_folder_on_a_full_disk(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with pytest.raises(checkpoints.CheckpointError, match="cannot write into the"):
            small.run(tmp_path / "run", 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list((tmp_path / "run").iterdir())


def with_targets(count=4, **change):
    """A loader whose targets are changed."""
    data = small.Rectangles(count)
    items = [(image, target | {k: f(i, target) for k, f in change.items()})
             for i, (image, target) in enumerate(data)]  # fmt: skip
    return DataLoader(items, 2, collate_fn=small.collate)


@pytest.mark.parametrize(
    "convert", [lambda i: f"img_{i}.jpg", torch.tensor, lambda i: torch.tensor([i])]
)
def test_image_ids_of_other_kinds(convert):
    model, *_ = small.make()
    scores = [
        engine.evaluate(model, loader, "cpu", progress=False)["segm"]["AP"]
        for loader in (with_targets(), with_targets(image_id=lambda i, _: convert(i)))
    ]
    assert scores[0] == scores[1] > 0.1


def test_image_ids_that_are_wrong():
    model, *_ = small.make()
    cases = {
        "two images have the image_id a": (ValueError, lambda i, _: "a"),
        "an integer or a string, got 0.5": (TypeError, lambda i, _: i + 0.5),
        "an integer or a string, got tensor": (TypeError, lambda i, _: torch.ones(2)),
    }
    for words, (kind, change) in cases.items():
        with pytest.raises(kind, match=words):
            engine.evaluate(model, with_targets(image_id=change), "cpu", progress=False)
    image, target = small.Rectangles(2)[1]
    del target["image_id"]
    with pytest.raises(ValueError, match="has no 'image_id', only .*boxes"):
        engine.evaluate(model, [([image], [target])], "cpu", progress=False)


def test_a_loss_that_is_not_finite_names_words(monkeypatch):
    monkeypatch.setattr(engine, "check_targets", lambda *arguments: None)
    model, optimizer, *_ = small.make()
    torch.nn.init.constant_(model.head.bias, math.nan)
    with pytest.raises(engine.NonFiniteLoss, match=r"image_id \['img_0', 'img_1'\]"):
        engine.train_one_epoch(
            model, optimizer, with_targets(image_id=lambda i, _: f"img_{i}"), "cpu",
            progress=False,
        )  # fmt: skip


def xywh(_, target):
    """The boxes as they are, in another convention, which they say."""
    boxes = tv_tensors.BoundingBoxes(
        target["boxes"], format="XYXY", canvas_size=(64, 64)
    )
    return v2.functional.convert_bounding_box_format(boxes, new_format="XYWH")


def test_boxes_that_say_that_they_are_xywh_are_refused():
    model, optimizer, *_ = small.make()
    before = small.fingerprint(model)
    loader = with_targets(boxes=xywh)
    with pytest.raises(ValueError, match="image_id 0: boxes must be XYXY, got XYWH"):
        engine.train_one_epoch(model, optimizer, loader, "cpu", progress=False)
    with pytest.raises(ValueError, match="image_id 0: boxes must be XYXY, got XYWH"):
        engine.evaluate(model, loader, "cpu", progress=False)
    assert small.fingerprint(model) == before


def test_predictions_that_say_that_they_are_xywh_are_refused():
    class Other(small.Tiny):
        def forward(self, images, targets=None):
            found = super().forward(images, targets)
            return [output | {"boxes": xywh(0, output)} for output in found]

    loader = with_targets()
    with pytest.raises(ValueError, match="image_id 0: .* must be XYXY, got XYWH"):
        engine.evaluate(Other(), loader, "cpu", iou_types=["bbox"], progress=False)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_label_beyond_the_models_classes(wrapped):
    model, optimizer, *_ = small.make(real=True)
    before = small.fingerprint(model)
    loader = with_targets(labels=lambda i, t: t["labels"] + (i == 3))
    trained = model
    if wrapped:  # as DistributedDataParallel does
        trained = torch.nn.ModuleDict({"module": model})
    with pytest.raises(ValueError, match=r"image_id 3: a model of 2 classes .*\[2, 2"):
        engine.train_one_epoch(
            trained, optimizer, list(loader)[1:], "cpu", progress=False
        )
    assert small.fingerprint(model) == before


@pytest.mark.parametrize(
    "make",
    [
        lambda: detection.fasterrcnn_mobilenet_v3_large_320_fpn(
            weights=None, weights_backbone=None, num_classes=5
        ),
        lambda: detection.retinanet_resnet50_fpn(
            weights=None, weights_backbone=None, num_classes=5
        ),
        lambda: detection.fcos_resnet50_fpn(
            weights=None, weights_backbone=None, num_classes=5
        ),
        lambda: detection.ssdlite320_mobilenet_v3_large(
            weights=None, weights_backbone=None, num_classes=5
        ),
    ],
    ids=["faster", "retina", "fcos", "ssd"],
)
def test_the_classes_of_torchvisions_detectors(make):
    with torch.device("meta"):
        assert engine._num_classes(make()) == 5
    assert engine._num_classes(torch.nn.Linear(1, 1)) is None


def test_empty_loader_and_mixed_precision_on_a_cpu(tmp_path):
    model, optimizer, *_ = small.make()
    with pytest.raises(ValueError, match="no batch"):
        engine.train_one_epoch(model, optimizer, [], "cpu", progress=False)
    with pytest.raises(ValueError, match="accelerator"):
        small.run(tmp_path, 1, mixed_precision=True)


def events(file):
    """The events of one file of the log."""
    from tensorboardX.proto.event_pb2 import Event

    content = file.read_bytes()
    while content:
        length = int.from_bytes(content[:8], "little")
        yield Event.FromString(content[12 : 12 + length])
        content = content[16 + length :]


def read_log(folder):
    """What TensorBoard shows: ``{tag: {step: value}}``, after a START only older steps.

    As its event accumulator does: files by name; an event that says START, in a file
    of version 2, drops all that was read before from its step on.
    """
    shown = []
    for file in sorted(folder.glob("events*")):
        for event in events(file):
            if event.HasField("session_log") and event.session_log.status == 1:
                shown = [entry for entry in shown if entry[1] < event.step]
            for value in event.summary.value:
                shown.append((value.tag, event.step, value.simple_value))
    log = {}
    for tag, step, value in shown:
        assert step not in log.setdefault(tag, {}), f"{tag} at step {step} twice"
        log[tag][step] = value
    return log


def test_pictures_are_logged(tmp_path):
    small.run(tmp_path, 1, pictures=2)
    tags = set(read_log(tmp_path))
    assert {"test/0", "test/1", "train/loss", "bbox/AP", "train/loss_mask"} <= tags


def test_events_of_an_abandoned_run_do_not_come_back(whole, tmp_path):
    small.run(tmp_path, 3)
    before = sorted(tmp_path.glob("events*"))
    small.run(tmp_path, 1, resume=False)
    assert set(before) < set(tmp_path.glob("events*")), "a file of the log is lost"
    log = read_log(tmp_path)
    assert list(log["train/loss"]) == [0, 1, 2, 3] and list(log["bbox/AP"]) == [3]
    small.run(tmp_path, 3)
    assert read_log(tmp_path) == read_log(whole[0])


def test_events_before_the_first_checkpoint_do_not_come_back(whole, tmp_path):
    class Died(Exception):
        pass

    model, optimizer, schedule, loader, test_loader = small.make()
    batches = list(loader)[:3]

    def dies():
        yield from batches
        raise Died

    broken = DataLoader(small.Rectangles(8), 2, collate_fn=small.collate)
    broken.__class__ = type("Broken", (DataLoader,), {"__iter__": lambda self: dies()})
    with pytest.raises(Died):
        engine.fit(
            model, broken, optimizer=optimizer, schedule=schedule, epochs=3,
            device="cpu", folder=tmp_path, progress=False,
        )  # fmt: skip
    assert list(read_log(tmp_path)["train/loss"]) == [0, 1, 2]
    small.run(tmp_path, 3)
    assert read_log(tmp_path) == read_log(whole[0])


def test_a_log_that_is_alone_has_no_start(whole):
    """A fresh folder's log holds values only: simple readers need not know more."""
    (file,) = whole[0].glob("events*")
    assert not any(event.HasField("session_log") for event in events(file))


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
    model = small.Tiny(seed=9, width=24)
    before = small.fingerprint(model)
    with pytest.raises(checkpoints.CheckpointError, match="of another model: .* not"):
        checkpoints.load_model(model, whole[0] / "last.pt")
    assert small.fingerprint(model) == before
    with pytest.raises(checkpoints.CheckpointError, match="is missing, and"):
        checkpoints.load_model(small.Tiny(norm=True), whole[0] / "last.pt")
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
    with pytest.raises(checkpoints.CheckpointError, match=r"group_sizes\[0\] is 4"):
        state.load(whole[0] / "last.pt")
    assert small.fingerprint(model) == before


def test_a_pickle_with_code_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "evil"),)

    torch.save({"format": 1, "model": Evil()}, tmp_path / "last.pt")
    with pytest.raises(checkpoints.CheckpointError):
        checkpoints.load_model(small.Tiny(), tmp_path / "last.pt")
    assert not (tmp_path / "evil").exists()


def test_a_full_disk(whole, tmp_path):
    """A file may not grow beyond 100 kB: saving fails as it does on a full disk."""
    small.run(tmp_path, 1)
    before = (tmp_path / "last.pt").read_bytes()
    assert len(before) > 200_000
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(checkpoints.CheckpointError, match="earlier one is as it"):
            small.run(tmp_path, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "last.pt").read_bytes() == before
    assert not list(tmp_path.glob("*.part"))
    model, history = small.run(tmp_path, 3)
    assert small.fingerprint(model) == whole[1] and history == whole[2]

"""What a checkpoint is resumed by: a training built as it was, or nothing changes."""

import copy
import math
import random
from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn, optim
from torch.optim import lr_scheduler as S
from torch.utils.data import DataLoader

from course_utils.training import checkpoints

SGD = {"lr": 0.1, "momentum": 0.9}
ADAM = {"lr": 0.1}

# By name: for each of torch's schedules one, and others that differ in one number.
SCHEDULES = {
    "constant": lambda o: S.ConstantLR(o, 0.5, 3),
    "constant of 4": lambda o: S.ConstantLR(o, 0.5, 4),
    "linear": lambda o: S.LinearLR(o, 0.5, 1.0, 3),
    "linear from 0.4": lambda o: S.LinearLR(o, 0.4, 1.0, 3),
    "step": lambda o: S.StepLR(o, 2),
    "step of 3": lambda o: S.StepLR(o, 3),
    "steps": lambda o: S.MultiStepLR(o, [2, 4]),
    "other steps": lambda o: S.MultiStepLR(o, [2, 5]),
    "exponential": lambda o: S.ExponentialLR(o, 0.9),
    "exponential of 0.8": lambda o: S.ExponentialLR(o, 0.8),
    "polynomial": lambda o: S.PolynomialLR(o, 5, 1.0),
    "polynomial of power 2": lambda o: S.PolynomialLR(o, 5, 2.0),
    "cosine": lambda o: S.CosineAnnealingLR(o, 3),
    "cosine of 6": lambda o: S.CosineAnnealingLR(o, 6),
    "restarts": lambda o: S.CosineAnnealingWarmRestarts(o, 2, 2),
    "restarts tripled": lambda o: S.CosineAnnealingWarmRestarts(o, 2, 3),
    "cyclic": lambda o: S.CyclicLR(o, 0.01, 0.1, 3),
    "cyclic to 0.2": lambda o: S.CyclicLR(o, 0.01, 0.2, 3),
    "one cycle": lambda o: S.OneCycleLR(o, 0.1, total_steps=10),
    "one cycle of 20": lambda o: S.OneCycleLR(o, 0.1, total_steps=20),
    "one cycle, half up": lambda o: S.OneCycleLR(o, 0.1, total_steps=10, pct_start=0.5),
    "one cycle to 0": lambda o: S.OneCycleLR(
        o, 0.1, total_steps=10, final_div_factor=1e9
    ),
    "plateau": lambda o: S.ReduceLROnPlateau(o, patience=0),
    "plateau of 1": lambda o: S.ReduceLROnPlateau(o, patience=1),
    "averaged": lambda o: optim.swa_utils.SWALR(o, 0.05, anneal_epochs=4),
    "averaged to 0.06": lambda o: optim.swa_utils.SWALR(o, 0.06, anneal_epochs=4),
    "functions": lambda o: S.LambdaLR(o, lambda e: 1 / (1 + e)),
    "factors": lambda o: S.MultiplicativeLR(o, lambda e: 0.9),
    "sequence": lambda o: S.SequentialLR(
        o, [S.ConstantLR(o, 0.5, 2), S.ExponentialLR(o, 0.9)], [2]
    ),
    "sequence, inner 0.8": lambda o: S.SequentialLR(
        o, [S.ConstantLR(o, 0.5, 2), S.ExponentialLR(o, 0.8)], [2]
    ),
    "sequence at 3": lambda o: S.SequentialLR(
        o, [S.ConstantLR(o, 0.5, 2), S.ExponentialLR(o, 0.9)], [3]
    ),
    "sequence, inner class": lambda o: S.SequentialLR(
        o, [S.ConstantLR(o, 0.5, 2), S.StepLR(o, 2)], [2]
    ),
    "chain": lambda o: S.ChainedScheduler(
        [S.ConstantLR(o, 0.5, 3), S.ExponentialLR(o, 0.9)], o
    ),
    "chain, inner 4": lambda o: S.ChainedScheduler(
        [S.ConstantLR(o, 0.5, 4), S.ExponentialLR(o, 0.9)], o
    ),
    "chain in a chain": lambda o: S.ChainedScheduler(
        [S.ConstantLR(o, 0.5, 3), S.ChainedScheduler([S.ExponentialLR(o, 0.9)], o)], o
    ),
    "chain in a chain, 0.8": lambda o: S.ChainedScheduler(
        [S.ConstantLR(o, 0.5, 3), S.ChainedScheduler([S.ExponentialLR(o, 0.8)], o)], o
    ),
}


class Own(S.LRScheduler):
    """A schedule that is not torch's: its decay changes, and it counts."""

    def __init__(self, optimizer, total):
        self.total, self.calls = total, 0
        super().__init__(optimizer)

    def get_lr(self):
        self.calls += 1
        for group in self.optimizer.param_groups:
            group["weight_decay"] = 0.1 * self.last_epoch
        return [rate / (1 + self.last_epoch / self.total) for rate in self.base_lrs]


class Training:
    """A small model and its parts, some steps on."""

    def __init__(
        self,
        schedule="cosine",
        kind=optim.SGD,
        steps=0,
        scaler=None,
        generator=True,
        order=None,
        bias=True,
        **options,
    ):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(3, 3, bias=bias), nn.Linear(3, 3))
        parameters = list(self.model.parameters())
        parameters = [parameters[i] for i in order] if order else parameters
        self.optimizer = kind(parameters, **(options or SGD))
        make = SCHEDULES.get(schedule, schedule)
        self.schedule = make(self.optimizer) if make else None
        self.scaler = scaler
        own = torch.Generator().manual_seed(7) if generator else None
        self.loader = DataLoader(range(4), shuffle=True, generator=own)
        self.state = checkpoints.State(
            self.model, self.optimizer, self.schedule, scaler, self.loader
        )
        for _ in range(steps):
            self.step()

    def step(self):
        self.optimizer.zero_grad()
        self.model(torch.rand(2, 3)).pow(2).sum().backward()
        self.optimizer.step()
        if isinstance(self.schedule, S.ReduceLROnPlateau):
            self.schedule.step(1.0)
        elif self.schedule is not None:
            self.schedule.step()

    def everything(self):
        """All that loading may change."""
        parts = [self.model, self.optimizer, self.schedule, self.scaler]
        own = self.loader.generator
        return listed(
            {
                "parts": [
                    None if part is None else part.state_dict() for part in parts
                ],
                "torch": torch.get_rng_state(),
                "own": None if own is None else own.get_state(),
                "numpy": np.random.get_state()[1].tolist(),
                "python": random.getstate(),
                "counts": [self.state.epoch, self.state.step, self.state.history],
            }
        )


def listed(value):
    """The same with tensors as lists, which can be compared."""
    if isinstance(value, torch.Tensor):
        return [str(value.dtype), value.tolist()]
    if isinstance(value, dict):
        return {k: listed(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [listed(v) for v in value]
    return value


@pytest.fixture(autouse=True)
def warnings_of_torch(recwarn):
    """A nested schedule of torch warns about its own order of steps."""


def refused(file, training, *words):
    before = training.everything()
    with pytest.raises(checkpoints.CheckpointError) as caught:
        training.state.load(file)
    assert training.everything() == before
    for word in (str(file), *words):
        assert word in str(caught.value), str(caught.value)


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_of_torch_is_resumed(name, tmp_path):
    """Also by an optimizer that has moved on, and with the rates that follow."""
    file, one = tmp_path / "last.pt", Training(name, steps=3)
    one.state.epoch, one.state.history = 3, [{"loss": 0.5}]
    one.state.save(file)
    weights, rates = [], []
    for training in (one, Training(name), Training(name, steps=2)):
        training.state.load(file)
        assert training.state.epoch == 3 and training.state.history == [{"loss": 0.5}]
        for _ in range(3):
            training.step()
        weights.append(training.model[0].weight.detach().clone())
        rates.append(training.optimizer.param_groups[0]["lr"])
    assert torch.equal(weights[0], weights[1]) and torch.equal(weights[0], weights[2])
    assert rates[0] == rates[1] == rates[2]


def test_no_schedule_of_torch_is_forgotten():
    made = {type(m(optim.SGD([nn.Parameter(torch.ones(1))], **SGD))).__name__
            for m in SCHEDULES.values()}  # fmt: skip
    assert set(S.__all__) - {"LRScheduler"} <= made


@pytest.mark.parametrize(
    "first, second, words",
    [
        ("cosine", "cosine of 6", "schedule.T_max is 3 in the checkpoint, 6 here"),
        ("cosine", "step", "schedule.class is 'CosineAnnealingLR' in the checkpoint"),
        ("cosine", "exponential", "'ExponentialLR' here"),
        ("constant", "constant of 4", "schedule.total_iters is 3"),
        ("linear", "linear from 0.4", "schedule.start_factor is 0.5"),
        ("step", "step of 3", "schedule.step_size is 2"),
        ("steps", "other steps", "schedule.milestones[1] is 4 in the checkpoint, 5"),
        ("exponential", "exponential of 0.8", "schedule.gamma is 0.9"),
        ("polynomial", "polynomial of power 2", "schedule.power is 1.0"),
        ("restarts", "restarts tripled", "schedule.T_mult is 2"),
        ("cyclic", "cyclic to 0.2", "max_lr"),
        ("one cycle", "one cycle of 20", "schedule.total_steps is 10"),
        ("one cycle", "one cycle, half up", "schedule._schedule_phases[0].end_step"),
        ("one cycle", "one cycle to 0", "optimizer.groups[0].min_lr"),
        ("plateau", "plateau of 1", "schedule.patience is 0"),
        ("averaged", "averaged to 0.06", "optimizer.groups[0].swa_lr is 0.05"),
        ("sequence", "sequence, inner 0.8", "schedule._schedulers[1].gamma is 0.9"),
        ("sequence", "sequence at 3", "schedule._milestones[0] is 2"),
        ("sequence", "sequence, inner class", "_schedulers[1].class is 'Exponential"),
        ("chain", "chain, inner 4", "schedule._schedulers[0].total_iters is 3"),
        ("chain", "chain in a chain", "_schedulers[1].class is 'ExponentialLR'"),
        ("chain in a chain", "chain in a chain, 0.8", "[1]._schedulers[0].gamma is"),
        ("functions", "factors", "'MultiplicativeLR' here"),
        ("cosine", None, "only the checkpoint has a schedule"),
        (None, "cosine", "only this training has a schedule"),
    ],
)
def test_another_schedule_is_refused(first, second, words, tmp_path):
    file = tmp_path / "last.pt"
    Training(first, steps=2).state.save(file)
    for steps in (0, 2):
        refused(file, Training(second, steps=steps), words)


def test_functions_cannot_be_compared(tmp_path):
    """As the documentation says; their number can."""
    file = tmp_path / "last.pt"
    Training("functions", steps=2).state.save(file)
    Training(lambda o: S.LambdaLR(o, lambda e: 0.5)).state.load(file)


def test_a_schedule_that_is_not_torchs(tmp_path):
    """What has the name of an argument is compared; what it changes is not."""
    file = tmp_path / "last.pt"
    Training(lambda o: Own(o, 5), steps=3).state.save(file)
    for steps in (0, 4):
        fresh = Training(lambda o: Own(o, 5), steps=steps)
        fresh.state.load(file)
        assert fresh.schedule.calls == 4 and fresh.schedule.last_epoch == 3
    refused(file, Training(lambda o: Own(o, 6)), "schedule.total is 5")
    refused(file, Training("step"), "'Own' in the checkpoint")


@pytest.mark.parametrize(
    "change, words",
    [
        ({"kind": optim.AdamW, **ADAM}, "'SGD' in the checkpoint, 'AdamW' here"),
        ({"lr": 0.1}, "optimizer.defaults.momentum is 0.9"),
        ({**SGD, "weight_decay": 0.1}, "weight_decay is 0 in the checkpoint, 0.1 here"),
        ({**SGD, "lr": 0.2}, "optimizer.groups[0].initial_lr is 0.1"),
        (
            {"order": (1, 0, 2, 3)},
            "parameters[0] is '0.weight' in the checkpoint, '0.b",
        ),
        ({"order": (0, 1, 2)}, "optimizer.group_sizes[0] is 4 in the checkpoint, 3"),
        ({"bias": False}, "of another model: 0.bias"),
    ],
)
def test_another_optimizer_is_refused(change, words, tmp_path):
    file = tmp_path / "last.pt"
    Training(steps=2).state.save(file)
    refused(file, Training(**change), words)
    refused(file, Training(**change, steps=2), words)


def test_adam_and_adamw_are_told_apart(tmp_path):
    """Their states have the same names."""
    file = tmp_path / "last.pt"
    Training(kind=optim.Adam, lr=0.1, weight_decay=0.01, steps=1).state.save(file)
    other = Training(kind=optim.AdamW, lr=0.1, weight_decay=0.01)
    refused(file, other, "'Adam' in the checkpoint, 'AdamW' here")


def test_how_a_step_is_computed_may_change(tmp_path):
    file = tmp_path / "last.pt"
    Training(steps=2).state.save(file)
    Training(**SGD, foreach=True).state.load(file)


def test_a_rate_set_by_hand_is_compared(tmp_path):
    file, one = tmp_path / "last.pt", Training(None, steps=2)
    one.state.save(file)
    one.optimizer.param_groups[0]["lr"] = 0.01
    refused(file, one, "optimizer.groups[0].lr is 0.1 in the checkpoint, 0.01 here")


@pytest.mark.parametrize(
    "scaler, words",
    [
        (torch.amp.GradScaler("cpu", growth_interval=7), "scaler.growth_interval is"),
        (torch.amp.GradScaler("cpu", backoff_factor=0.25), "scaler.backoff_factor is"),
        (torch.amp.GradScaler("cpu", enabled=False), "scaler.enabled is True"),
        (None, "only the checkpoint has a scaler"),
    ],
)
def test_another_scaler_is_refused(scaler, words, tmp_path):
    file, one = tmp_path / "last.pt", torch.amp.GradScaler("cpu")
    one.scale(torch.ones(()))
    one.update(64.0)
    Training(scaler=one).state.save(file)
    same = torch.amp.GradScaler("cpu")
    Training(scaler=same).state.load(file)
    assert same.get_scale() == 64.0
    refused(file, Training(scaler=scaler), words)


def test_other_generators_are_refused(tmp_path):
    file = tmp_path / "last.pt"
    Training(steps=1).state.save(file)
    refused(file, Training(generator=False), "generators", "'loader'", "[] here")
    Training(generator=False).state.save(file)
    refused(file, Training(), "generators is [] in the checkpoint")


def test_a_part_that_cannot_load_changes_nothing(tmp_path):
    """The last part fails, when all others have taken their state."""
    file = tmp_path / "last.pt"
    one = Training("cosine", scaler=torch.amp.GradScaler("cpu"), steps=2)
    one.state.save(file)

    class Broken(torch.amp.GradScaler):
        broken = False

        def load_state_dict(self, state):
            if self.broken:
                self.broken = False
                raise RuntimeError("out of luck")
            super().load_state_dict(state)

    Broken.__qualname__ = "GradScaler"
    other = Training("cosine", scaler=Broken("cpu"), steps=1)
    other.scaler.broken = True
    torch.manual_seed(5)
    refused(file, other, "does not fit: RuntimeError: out of luck")
    other.state.load(file)
    assert torch.equal(other.model[0].weight, one.model[0].weight)


@pytest.mark.parametrize("name", ["model", "generators", "history", "step", "built"])
def test_a_file_that_lacks_something(name, tmp_path):
    file, one = tmp_path / "last.pt", Training(steps=1)
    one.state.save(file)
    content = torch.load(file, weights_only=True)
    del content[name]
    torch.save(content, file)
    words = "an earlier version" if name == "built" else f"is damaged: it has no {name}"
    refused(file, Training(), words)
    if name == "built":  # its weights can still be read
        fresh = Training()
        checkpoints.load_model(fresh.model, file)
        assert torch.equal(fresh.model[0].weight, one.model[0].weight)


def test_what_is_compared_is_plain():
    values = {"a": Counter({2: 1}), "b": (1, np.float64(0.5)), "c": torch.ones(2)}
    values |= {"d": math.sqrt, "e": None, "f": "word", "g": pytest}
    plain = checkpoints._plain(values)
    assert plain == {
        "a": [2],
        "b": [1, 0.5],
        "c": [1.0, 1.0],
        "d": "builtin_function_or_method",
        "e": None,
        "f": "word",
        "g": "module",
    }
    assert type(plain["b"][1]) is float
    assert checkpoints._difference(plain, copy.deepcopy(plain)) is None
    nan = {"a": [math.nan]}
    assert checkpoints._difference(nan, {"a": [float("nan")], "b": 1}) is None
    found = checkpoints._difference({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]})
    assert found == "a[1].b is 2 in the checkpoint, 3 here"

"""Chapter 19's formulas and classes against torch's schedulers: the parity contract.

300 steps, three groups, every value within 1e-12 of torch's, relative to itself; a
restart at every step gives the same tail. Each planted mistake is caught.
"""

import functools
import io
import math
import warnings

import pytest
import torch
from torch.optim import lr_scheduler as sched

from booktools.chapter_code import definitions

partial = functools.partial
code = definitions(
    "19_schedules",
    "step_decay", "multi_step", "exponential", "constant", "linear", "polynomial",
    "cosine", "restarts", "one_cycle", "join", "product", "trapezoid",
    "inverse_root",
    "Schedule", "Plateau", "TrapezoidLR", "catalog", "fresh", "rates_of", "record",
)  # fmt: skip

STEPS = 300
BASES = [(1.0, 0.1, 3e-4), (0.8,), (2e-3, 50.0)]


def _peaks(o):
    return [group["lr"] for group in o.param_groups]


# The chapter's nine, and the same ones at their edges: our formula, torch's scheduler.
PAIRS = {
    **{name.replace("\n", ""): pair for name, pair in code.catalog.items()},
    "StepLR, every step": (
        partial(code.step_decay, size=1, gamma=0.98),
        lambda o: sched.StepLR(o, 1, 0.98),
    ),
    "StepLR, odd period": (
        partial(code.step_decay, size=7, gamma=0.5),
        lambda o: sched.StepLR(o, 7, 0.5),
    ),
    "MultiStepLR, a milestone twice, one at the end": (
        partial(code.multi_step, milestones=[1, 30, 30, 299], gamma=0.3),
        lambda o: sched.MultiStepLR(o, [1, 30, 30, 299], 0.3),
    ),
    "ExponentialLR, growing": (
        partial(code.exponential, gamma=1.05),
        lambda o: sched.ExponentialLR(o, 1.05),
    ),
    "ConstantLR, defaults": (code.constant, lambda o: sched.ConstantLR(o)),
    "LinearLR, defaults": (code.linear, lambda o: sched.LinearLR(o)),
    "LinearLR, down to 0": (
        partial(code.linear, start=1.0, end=0.0, until=250),
        lambda o: sched.LinearLR(o, 1.0, 0.0, 250),
    ),
    "PolynomialLR, linear": (
        partial(code.polynomial, until=290),
        lambda o: sched.PolynomialLR(o, 290),
    ),
    "PolynomialLR, power 0.9": (
        partial(code.polynomial, until=100, power=0.9),
        lambda o: sched.PolynomialLR(o, 100, 0.9),
    ),
    "CosineAnnealingLR, whole run": (
        partial(code.cosine, period=300),
        lambda o: sched.CosineAnnealingLR(o, 300),
    ),
    "CosineAnnealingLR, many short waves": (
        partial(code.cosine, period=7, low=1e-9),
        lambda o: sched.CosineAnnealingLR(o, 7, 1e-9),
    ),
    "CosineAnnealingWarmRestarts, equal lengths": (
        partial(code.restarts, first=11),
        lambda o: sched.CosineAnnealingWarmRestarts(o, 11),
    ),
    "CosineAnnealingWarmRestarts, tripled": (
        partial(code.restarts, first=5, growth=3, low=1e-9),
        lambda o: sched.CosineAnnealingWarmRestarts(o, 5, 3, 1e-9),
    ),
    "OneCycleLR, other settings": (
        partial(code.one_cycle, total=301, rise=0.25, divide=10.0, divide_last=1e3),
        lambda o: sched.OneCycleLR(
            o, _peaks(o), 301, pct_start=0.25, div_factor=10.0, final_div_factor=1e3
        ),
    ),
    "LambdaLR": (
        lambda t, base: base / math.sqrt(1 + t),
        lambda o: sched.LambdaLR(o, lambda t: 1 / math.sqrt(1 + t)),
    ),
    "our own, as a LambdaLR": (
        partial(code.trapezoid, rise=20, fall=90, total=300),
        lambda o: sched.LambdaLR(
            o, partial(code.trapezoid, base=1.0, rise=20, fall=90, total=300)
        ),
    ),
    "our own, as a subclass": (
        partial(code.trapezoid, rise=20, fall=90, total=300),
        lambda o: code.TrapezoidLR(o, 20, 90, 300),
    ),
    "our inverse root": (
        partial(code.inverse_root, rise=20),
        lambda o: sched.LambdaLR(o, partial(code.inverse_root, base=1.0, rise=20)),
    ),
    "SequentialLR, warm-up and cosine": (
        partial(
            code.join,
            before=partial(code.linear, start=0.01, until=20),
            after=partial(code.cosine, period=280),
            at=20,
        ),
        lambda o: sched.SequentialLR(
            o,
            [sched.LinearLR(o, 0.01, 1.0, 20), sched.CosineAnnealingLR(o, 280)],
            [20],
        ),
    ),
    "SequentialLR, three": (
        partial(
            code.join,
            before=partial(code.constant, factor=0.1, until=400),
            after=partial(
                code.join,
                before=partial(code.step_decay, size=10, gamma=0.5),
                after=partial(code.exponential, gamma=0.99),
                at=50,
            ),
            at=50,
        ),
        lambda o: sched.SequentialLR(
            o,
            [
                sched.ConstantLR(o, 0.1, 400),
                sched.StepLR(o, 10, 0.5),
                sched.ExponentialLR(o, 0.99),
            ],
            [50, 100],
        ),
    ),
    "ChainedScheduler": (
        partial(
            code.product,
            formulas=[
                partial(code.constant, factor=0.1, until=20),
                partial(code.exponential, gamma=0.99),
            ],
        ),
        lambda o: sched.ChainedScheduler(
            [sched.ConstantLR(o, 0.1, 20), sched.ExponentialLR(o, 0.99)], o
        ),
    ),
}


def used(make, bases, steps=STEPS):
    optimizer = code.fresh(*bases)
    return code.record(optimizer, make(optimizer), steps)


def gap(ours: list, library: list) -> float:
    """The largest difference of two lists of rates, each relative to the library's."""
    assert len(ours) == len(library)
    worst = 0.0
    for mine, theirs in zip(ours, library, strict=True):
        for a, b in zip(mine, theirs, strict=True):
            if a != b:
                worst = max(worst, abs(a - b) / abs(b) if b else math.inf)
    return worst


def contract(formula, make, bases=BASES[0], record=None):
    """Every value of 300 steps agrees to 1e-12, relative to itself."""
    optimizer = code.fresh(*bases)
    schedule = code.Schedule(optimizer, formula)
    ours = (record or code.record)(optimizer, schedule, STEPS)
    worst = gap(ours, used(make, bases))
    assert worst <= 1e-12, f"largest relative difference {worst:.3g}"
    return worst


@pytest.mark.parametrize("bases", BASES, ids=str)
@pytest.mark.parametrize("name", PAIRS)
def test_every_value_agrees(name, bases):
    contract(*PAIRS[name], bases=bases)


def metric(t):
    return 1 / (1 + t % 90) + 0.01 * (t * 7919 % 13)


PLATEAUS = [
    {},
    {"factor": 0.6, "patience": 3, "threshold": 0.02, "cooldown": 5, "low": 1e-4},
    {"factor": 0.9, "patience": 0},
    {"factor": 0.5, "patience": 1, "cooldown": 1},
]


def plateau_contract(kind, settings, bases=BASES[0], values=metric):
    """Ours and ReduceLROnPlateau, side by side, over 300 metrics."""
    other = {"min_lr" if k == "low" else k: v for k, v in settings.items()}
    one, two = code.fresh(*bases), code.fresh(*bases)
    ours, library = kind(one, **settings), sched.ReduceLROnPlateau(two, **other)
    mine, theirs = [], []
    for t in range(STEPS):
        mine.append(code.rates_of(one))
        theirs.append(code.rates_of(two))
        ours.step(values(t))
        library.step(values(t))
    assert len({rates[0] for rates in theirs}) > 1, "nothing was ever reduced"
    assert gap(mine, theirs) <= 1e-12


@pytest.mark.parametrize("bases", BASES, ids=str)
@pytest.mark.parametrize("settings", PLATEAUS, ids=str)
def test_plateau_agrees(settings, bases):
    if max(bases) * 0.1 <= 1e-8:
        pytest.skip("too small to be reduced")
    plateau_contract(code.Plateau, settings, bases)


def test_plateau_agrees_on_odd_metrics():
    odd = [math.nan, math.inf, 3.0, math.nan, 2.0, 2.0, 2.0, 2.0, 0.0, -1.0, -1.0]
    plateau_contract(
        code.Plateau, {"patience": 1}, values=lambda t: odd[t] if t < len(odd) else 5.0
    )


# --- restart at every step ------------------------------------------------------


def restart_contract(make, load, steps=STEPS, bases=(0.1, 3e-4)):
    """Saved at every step k and loaded into fresh objects: the same tail.

    ``make`` builds a scheduler on an optimizer; ``load`` puts the saved states in.
    The whole tail is run for every tenth k, four steps of it for the others.
    """
    optimizer = code.fresh(*bases)
    scheduler = make(optimizer)
    whole, saved = [], []
    for _ in range(steps):
        file = io.BytesIO()
        torch.save((optimizer.state_dict(), scheduler.state_dict()), file)
        saved.append(file.getvalue())
        whole += code.record(optimizer, scheduler, 1)
    for k, packed in enumerate(saved):
        states = torch.load(io.BytesIO(packed))
        optimizer = code.fresh(*bases)
        scheduler = make(optimizer)
        load(optimizer, scheduler, *states)
        length = steps - k if k % 10 == 0 else min(4, steps - k)
        tail = code.record(optimizer, scheduler, length)
        assert tail == whole[k : k + length], f"another tail after a restart at {k}"


def load_both(optimizer, scheduler, optimizer_state, scheduler_state):
    optimizer.load_state_dict(optimizer_state)
    scheduler.load_state_dict(scheduler_state)


RESTARTED = ["StepLR", "CosineAnnealingLR", "CosineAnnealingWarmRestarts", "OneCycleLR",
             "LinearLR", "SequentialLR, warm-up and cosine", "ChainedScheduler",
             "our own, as a subclass"]  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_our_counter_restarts(name):
    formula, _ = PAIRS[name]
    restart_contract(lambda o: code.Schedule(o, formula), load_both, steps=60)


@pytest.mark.parametrize("name", RESTARTED)
def test_torchs_restart(name):
    restart_contract(PAIRS[name][1], load_both)


def test_our_restart_equals_torchs_run():
    """The tail that ours gives after a restart is torch's, too, for every k."""
    formula, make = PAIRS["SequentialLR, warm-up and cosine"]
    whole = used(make, BASES[0])
    optimizer = code.fresh(*BASES[0])
    schedule = code.Schedule(optimizer, formula)
    for k in range(STEPS):
        again = code.fresh(*BASES[0])
        after = code.Schedule(again, formula)
        load_both(again, after, optimizer.state_dict(), schedule.state_dict())
        length = STEPS - k if k % 10 == 0 else min(4, STEPS - k)
        tail = code.record(again, after, length)
        assert gap(tail, whole[k : k + length]) <= 1e-12
        code.record(optimizer, schedule, 1)


def test_lambda_saves_no_function():
    """What the chapter says of LambdaLR: None stands in a function's place."""
    scheduler = sched.LambdaLR(code.fresh(0.1, 0.2), lambda t: 0.5**t)
    assert scheduler.state_dict()["lr_lambdas"] == [None, None]


def only_scheduler(optimizer, scheduler, optimizer_state, scheduler_state):
    scheduler.load_state_dict(scheduler_state)


def only_optimizer(optimizer, scheduler, optimizer_state, scheduler_state):
    optimizer.load_state_dict(optimizer_state)


@pytest.mark.parametrize("load", [only_scheduler, only_optimizer])
@pytest.mark.parametrize("name", ["StepLR", "SequentialLR, warm-up and cosine"])
def test_a_forgotten_state_is_caught(name, load):
    with pytest.raises(AssertionError, match="another tail"):
        restart_contract(PAIRS[name][1], load, steps=80)


# --- planted mistakes -----------------------------------------------------------


def scheduler_first(optimizer, scheduler, steps):
    noted = []
    for _ in range(steps):
        scheduler.step()
        noted.append(code.rates_of(optimizer))
        optimizer.step()
    return noted


def test_scheduler_first_is_caught():
    for name in code.catalog:
        with pytest.raises(AssertionError, match="relative difference"):
            contract(*PAIRS[name.replace("\n", "")], record=scheduler_first)


def test_torch_warns_when_the_scheduler_is_first():
    optimizer = code.fresh(1.0)
    scheduler = sched.StepLR(optimizer, 4)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scheduler_first(optimizer, scheduler, 5)
    assert len(caught) == 1
    assert "before `optimizer.step()`" in str(caught[0].message)


def from_one(formula):
    """Epochs counted from 1."""
    return lambda t, base: formula(t + 1, base)


MISTAKES = {
    "cosine: period one too short": (
        partial(code.cosine, period=299),
        "CosineAnnealingLR, whole run",
    ),
    "cosine: period one too long": (
        partial(code.cosine, period=301),
        "CosineAnnealingLR, whole run",
    ),
    "cosine: the floor scaled by the base": (
        lambda t, base: code.cosine(t, base, 100, 1e-5 * base),
        "CosineAnnealingLR",
    ),
    "cosine: holds at the end of its period": (
        lambda t, base: code.cosine(min(t, 100), base, 100, 1e-5),
        "CosineAnnealingLR",
    ),
    "stairs: counted from 1": (from_one(PAIRS["StepLR"][0]), "StepLR"),
    "milestones: counted from 1": (from_one(PAIRS["MultiStepLR"][0]), "MultiStepLR"),
    "milestones: a repeated one counted once": (
        partial(code.multi_step, milestones=[1, 30, 299], gamma=0.3),
        "MultiStepLR, a milestone twice, one at the end",
    ),
    "milestones: strictly after": (
        lambda t, base: base * 0.3 ** sum(t > m for m in [100, 200]),
        "MultiStepLR",
    ),
    "warm-up: ends one step late": (
        partial(code.linear, start=0.1, until=151),
        "LinearLR",
    ),
    "warm-up: starts at 0": (partial(code.linear, start=0.0, until=150), "LinearLR"),
    "constant: lifted one step late": (
        partial(code.constant, factor=0.2, until=76),
        "ConstantLR",
    ),
    "one-cycle: peak one step late": (
        lambda t, base: code.one_cycle(max(t - 1, 0), base, 300),
        "OneCycleLR",
    ),
    "one-cycle: total one too large": (
        partial(code.one_cycle, total=301),
        "OneCycleLR",
    ),
    "restarts: the wave includes its end": (
        lambda t, base: code.cosine(t % 12, base, 11),
        "CosineAnnealingWarmRestarts, equal lengths",
    ),
    "joined: the second part counts on": (
        lambda t, base: (
            code.linear(t, base, 0.01, 1.0, 20) if t < 20 else code.cosine(t, base, 280)
        ),
        "SequentialLR, warm-up and cosine",
    ),
    "product: applied twice": (
        lambda t, base: code.product(
            t,
            code.product(t, base, PAIRS["ChainedScheduler"][0].keywords["formulas"]),
            PAIRS["ChainedScheduler"][0].keywords["formulas"],
        ),
        "ChainedScheduler",
    ),
    "one base rate for all groups": (
        lambda t, base: code.exponential(t, 1.0, 0.99),
        "ExponentialLR",
    ),
    "off by a hundred-billionth": (
        lambda t, base: code.exponential(t, base, 0.99) * (1 + 1e-11),
        "ExponentialLR",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_is_caught(mistake):
    formula, name = MISTAKES[mistake]
    with pytest.raises(AssertionError, match="relative difference"):
        contract(formula, PAIRS[name][1])


class Impatient(code.Plateau):
    """Reduces with the last tolerated epoch, not with the one after it."""

    def __init__(self, *args, patience=10, **kwargs):
        super().__init__(*args, patience=patience - 1, **kwargs)


class NoThreshold(code.Plateau):
    """Takes any smaller value for an improvement."""

    def __init__(self, *args, threshold=0.0, **kwargs):
        super().__init__(*args, threshold=0.0, **kwargs)


class NoCooldown(code.Plateau):
    def __init__(self, *args, cooldown=0, **kwargs):
        super().__init__(*args, cooldown=0, **kwargs)


class NoFloor(code.Plateau):
    def __init__(self, *args, low=0.0, **kwargs):
        super().__init__(*args, low=0.0, **kwargs)


class ForgetsTheBest(code.Plateau):
    """Compares with the last value instead of the best one."""

    def step(self, metric):
        super().step(metric)
        self.best = metric


@pytest.mark.parametrize(
    "kind", [Impatient, NoThreshold, NoCooldown, NoFloor, ForgetsTheBest]
)
def test_plateau_mistake_is_caught(kind):
    creeping = {
        NoThreshold: lambda t: 2.0 - 0.005 * t,  # improves, but too little
    }
    with pytest.raises(AssertionError):
        plateau_contract(kind, PLATEAUS[1], values=creeping.get(kind, metric))


def test_the_right_plateau_passes_where_the_mistakes_fail():
    plateau_contract(code.Plateau, PLATEAUS[1])
    plateau_contract(code.Plateau, PLATEAUS[1], values=lambda t: 2.0 - 0.005 * t)

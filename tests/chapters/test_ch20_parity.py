"""Chapter 20's loop, judge and checks, beyond what the page shows.

The functions are the chapter's own; the cells run with their text at hand, because the
chapter plants its mistakes by changing the text.
"""

import copy
import importlib.util
import linecache
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from booktools import chapter_code

CHAPTER = "20_training_loop"
WANTED = (
    "import csv",
    "KINDS =",
    "def split",
    "def mean_of",
    "@torch.no_grad()\ndef evaluate",
    "def fit",
    "few, few_labels",
    "def frozen",
    "def one_batch",
    "def shuffled",
    "SOURCE =",
    "MISTAKES =",
)
FOUND = {
    "pixels not normalized": "start",
    "forgotten zero_grad": "gradients",
    "loss kept with graph": "gradients",
    "forgotten eval": "frozen",
    "forgotten no_grad": "frozen",
    "mean of batch means": "frozen",
    "softmax before the loss": "one_batch",
    "schedule once an epoch": "one_batch",
    "labels in another order": "input_matters",
    "validation trained on": "shuffled",
}

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def page():
    """What the cells define, without the trainings that they start."""
    space = {"__name__": "chapter"}
    for number, cell in enumerate(chapter_code._cells(CHAPTER)):
        if cell.source.startswith(WANTED):
            # Definitions only: the cells go on to train and print.
            source = cell.source.split("FUNCTIONS = ")
            if len(source) == 2:
                source[0] += "FUNCTIONS = " + source[1].partition("data, held")[0]
            source = source[0].partition('found = {"the right')[0]
            name = f"<{CHAPTER} {number}>"
            linecache.cache[name] = (len(source), None, source.splitlines(True), name)
            exec(compile(source, name, "exec"), space)
    return space


def measured(page, program, check, *seed):
    value, bound = page[check](program, *seed)
    return value / bound if bound else value


def test_all_cells_are_there(page):
    assert [check.__name__ for check in page["CHECKS"]] == [
        *("start", "gradients", "frozen", "one_batch", "input_matters", "shuffled"),
    ]
    assert list(page["MISTAKES"]) == list(FOUND)


@pytest.mark.parametrize(
    ("name", "check", "least"),
    [
        ("pixels not normalized", "start", 5),
        ("forgotten zero_grad", "gradients", 2),
        ("loss kept with graph", "gradients", 1),
        ("forgotten eval", "frozen", 5),
        ("forgotten no_grad", "frozen", 5),
        ("mean of batch means", "frozen", 5),
    ],
)
def test_the_first_three_checks_have_room(page, name, check, least):
    """Where a bound is 0, the count itself is compared."""
    program = page["plant"](*page["MISTAKES"][name])
    assert measured(page, program, check) >= least
    assert measured(page, page["ours"], check) <= 0.5


def test_one_batch_has_room(page):
    assert measured(page, page["ours"], "one_batch") <= 0.5
    for name in ("softmax before the loss", "schedule once an epoch"):
        program = page["plant"](*page["MISTAKES"][name])
        assert measured(page, program, "one_batch") >= 2, name


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_the_last_two_checks_have_room(page, seed):
    plant, mistakes = page["plant"], page["MISTAKES"]
    right = measured(page, page["ours"], "input_matters", seed)
    wrong = plant(*mistakes["labels in another order"])
    assert right <= 0.9 and measured(page, wrong, "input_matters", seed) >= 1.05
    right = measured(page, page["ours"], "shuffled", seed)
    wrong = plant(*mistakes["validation trained on"])
    assert right <= 0.85 and measured(page, wrong, "shuffled", seed) >= 1.15


@pytest.mark.slow
def test_the_whole_table(page):
    assert page["first_found"](page["ours"]) is None
    for name, check in FOUND.items():
        number = page["first_found"](page["plant"](*page["MISTAKES"][name]))
        assert number is not None and page["CHECKS"][number].__name__ == check, name


def test_a_loss_of_nan_fails_a_check(page):
    class Broken:
        build = staticmethod(page["build"])

        @staticmethod
        def evaluate(*_):
            return math.nan, 0.25

    assert page["first_found"](Broken) == 0


# --- means ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 7, 32, 75, 100])
def test_the_mean_does_not_depend_on_the_batches(page, size):
    values = torch.linspace(-1, 3, 75, dtype=torch.float64).square()
    parts = values.split(size)
    means, counts = [p.mean().item() for p in parts], [len(p) for p in parts]
    assert page["mean_of"](means, counts) == pytest.approx(values.mean().item())


@pytest.mark.parametrize("count", [1, 31, 32, 33, 75])
def test_the_judge_against_one_pass(page, count):
    images, labels = page["images"][::5][:count], page["labels"][::5][:count]
    model = page["build"](4, 10).model
    with torch.no_grad():
        model[-1].weight *= 30
    for training in (True, False):
        loss, right = page["evaluate"](model.train(training), images, labels)
        given = page["scores"](model.eval(), images).detach()
        assert loss == pytest.approx(F.cross_entropy(given, labels).item(), rel=1e-5)
        hits = (given.argmax(1) == labels).double().mean().item()
        assert right == pytest.approx(hits, abs=1e-6)


def test_the_judge_leaves_the_model_as_it_was(page):
    model = page["build"](4, 10).model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    page["evaluate"](model, page["few"], page["few_labels"])
    assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters()) and torch.is_grad_enabled()


# --- the loop ------------------------------------------------------------------------


def test_an_epoch_is_the_same_after_a_restart(page):
    """Epochs 0, 1, 2 in one go, and 2 with the states loaded into fresh parts."""
    data = page["few"], page["few_labels"]

    def parts(run):
        return run.model, run.optimizer, run.schedule

    whole, again = (page["build"](4, 9, seed) for seed in (0, 1))
    for epoch in range(3):
        if epoch == 2:
            for new, old in zip(parts(again), parts(whole), strict=True):
                new.load_state_dict(copy.deepcopy(old.state_dict()))
            state = torch.get_rng_state()  # of the dropout
        page["train_epoch"](whole, *data, epoch)
    torch.set_rng_state(state)
    page["train_epoch"](again, *data, 2)
    for a, b in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.skipif(
    importlib.util.find_spec("ignite") is None, reason="pytorch-ignite is not installed"
)
def test_against_ignites_engine(page):
    """The same weights to the bit, and the same means."""
    from ignite.engine import Engine, Events
    from ignite.metrics import Accuracy, Loss

    images, labels = page["few"], page["few_labels"]
    ours, theirs = (page["build"](4, 9) for _ in range(2))
    torch.manual_seed(5)
    losses = [page["train_epoch"](ours, images, labels, epoch) for epoch in range(3)]

    def step(engine, rows):
        theirs.model.train()
        loss = F.cross_entropy(page["scores"](theirs.model, images[rows]), labels[rows])
        theirs.optimizer.zero_grad()
        loss.backward()
        theirs.optimizer.step()
        return loss.item(), len(rows)

    trainer, sums = Engine(step), []

    @trainer.on(Events.ITERATION_COMPLETED)
    def note(engine):
        theirs.schedule.step()
        sums[-1].append(engine.state.output)

    torch.manual_seed(5)
    for epoch in range(3):
        sums.append([])
        generator = torch.Generator().manual_seed(epoch)
        trainer.run(torch.randperm(75, generator=generator).split(32), max_epochs=1)
    for a, b in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
        assert torch.equal(a, b)
    for ours_loss, parts in zip(losses, sums, strict=True):
        mean = sum(loss * count for loss, count in parts) / 75
        assert ours_loss == pytest.approx(mean, rel=1e-12)

    judge = Engine(
        lambda engine, rows: (page["scores"](theirs.model, images[rows]), labels[rows])
    )
    metrics = {"loss": Loss(nn.CrossEntropyLoss()), "right": Accuracy()}
    for name, metric in metrics.items():
        metric.attach(judge, name)
    theirs.model.eval()
    with torch.no_grad():
        found = judge.run(torch.arange(75).split(32)).metrics
    loss, right = page["evaluate"](ours.model, images, labels)
    assert found["loss"] == pytest.approx(loss, rel=1e-6)
    assert found["right"] == pytest.approx(right, abs=1e-6)


# --- what a kept loss keeps ----------------------------------------------------------


def test_the_count_of_operations(page):
    graph_size = chapter_code.definitions(CHAPTER, "graph_size").graph_size
    x = torch.ones(3, requires_grad=True)
    assert graph_size(torch.zeros(())) == 0
    assert graph_size(2 * x) == 2  # the product, and the leaf
    assert graph_size((2 * x).sum() + (3 * x).sum()) == 6  # the leaf counts once


# --- averaged weights, mixed precision -----------------------------------------------


def test_stop_at():
    stop_at = chapter_code.definitions(CHAPTER, "stop_at").stop_at
    values = [0.1, 0.3, 0.2, 0.3, 0.5, 0.4]
    assert [stop_at(values, p) for p in (1, 2, 3, 9)] == [3, 4, 6, 6]
    assert stop_at([0.5], 1) == 1 and stop_at([], 1) == 0

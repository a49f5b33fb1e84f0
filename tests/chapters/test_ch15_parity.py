"""Chapter 15's tools against the library's, on more than the page shows."""

import builtins
import copy
import functools
import io
import os
import pickle
import random
import struct
import zipfile

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision import models

from booktools import chapter_code, notebook
from course_utils.training import checkpoints, state_diff

CHAPTER = "15_saving_and_surgery"
NAMES = (
    "KINDS",
    "diff_states",
    "save_whole",
    "start",
    "train",
    "our_name",
    "MobileNet",
)
OURS = chapter_code.definitions(CHAPTER, *NAMES)

pytestmark = pytest.mark.usefixtures("one_thread")


def draw(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1).to(
        dtype
    )


# --- the diff ------------------------------------------------------------------------


def both(mine, theirs):
    """What the chapter finds, after the package was seen to find the same."""
    ours, library = OURS.diff_states(mine, theirs), state_diff.diff_states(mine, theirs)
    for kind in OURS.KINDS:
        assert ours[kind] == getattr(library, kind)
        assert list(ours[kind]) == list(getattr(library, kind))
    return ours


CHANGES = {
    "nothing": lambda t: t.clone(),
    "one element": lambda t: t.clone().flatten().index_fill(0, torch.tensor([0]), 7),
    "half": lambda t: t.half(),
    "a row more": lambda t: torch.cat([t, t[:1]]),
    "nan": lambda t: torch.full_like(t, torch.nan),
    "turned view": lambda t: t.mT,
}


@pytest.mark.parametrize("seed", range(25))
def test_diff_on_states_changed_at_random(seed):
    chance = random.Random(seed)
    mine = {f"{k}.weight": draw(3, 3, seed=k) for k in range(8)}
    theirs = {}
    for name in chance.sample(list(mine), len(mine)):
        change = chance.choice([*CHANGES, "gone", "renamed"])
        if change == "renamed":
            theirs[f"module.{name}"] = mine[name]
        elif change != "gone":
            theirs[name] = CHANGES[change](mine[name])
    found = both(mine, theirs)
    assert both(theirs, mine)["missing"] == found["unexpected"]
    assert not any(both(theirs, theirs).values())


@pytest.mark.parametrize(
    "dtype",
    [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool],
)
def test_diff_of_dtypes_and_odd_tensors(dtype):
    for value in (
        torch.zeros((), dtype=dtype),
        torch.zeros(0, 3, dtype=dtype),
        torch.ones(2, 3, dtype=dtype).mT,
        torch.ones(1, dtype=dtype).expand(4),
    ):
        assert not any(both({"a": value}, {"a": value.clone()}).values())
    tiny = {"a": torch.tensor([1e-45, 3e38])}
    assert both(tiny, {"a": torch.tensor([0.0, 3e38])})["value"] == {"a": 1}


def test_diff_says_what_torch_reports():
    with torch.device("meta"):
        other = models.resnet34().state_dict()
    other = {n: torch.zeros(v.shape, dtype=v.dtype) for n, v in other.items()}
    mine = models.resnet18(num_classes=5)
    found = state_diff.diff_states(mine, other, values=False)
    assert found.shape.keys() == {"fc.weight", "fc.bias"}
    with pytest.raises(RuntimeError, match=r"size mismatch for fc\.weight"):
        mine.load_state_dict(other, strict=False)
    body = {n: v for n, v in other.items() if not n.startswith("fc.")}
    said = mine.load_state_dict(body, strict=False)
    assert said.missing_keys == ["fc.weight", "fc.bias"]
    assert sorted(said.unexpected_keys) == sorted(found.unexpected)


# --- files ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype, letter", [(torch.float32, "f"), (torch.int64, "q")])
def test_the_raw_numbers_of_a_file(dtype, letter):
    """Also of a view: its whole storage is there, in the storage's order."""
    whole = torch.arange(12).reshape(3, 4).to(dtype)
    for tensor in (whole, whole.mT, whole[1:, 2]):
        stream = io.BytesIO()
        torch.save({"a": tensor}, stream)
        archive = zipfile.ZipFile(stream)
        (name,) = [n for n in archive.namelist() if n.endswith("/data/0")]
        assert struct.unpack(f"<12{letter}", archive.read(name)) == tuple(range(12))


class Call:
    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


@pytest.mark.parametrize(
    "call",
    [
        Call(print, "carried out"),
        Call(eval, "1"),
        Call(os.system, "true"),
        Call(os.getcwd),
        Call(getattr, 1, "real"),
        Call(builtins.__import__, "os"),
        Call(functools.partial, print),
        nn.Linear(1, 1),
    ],
)
def test_weights_only_refuses(call, capsys):
    stream = io.BytesIO()
    torch.save({"weight": torch.ones(1), "note": call}, stream)
    stream.seek(0)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(stream)
    assert capsys.readouterr().out == ""


class Cut:
    def __init__(self, error):
        self.error = error

    def __reduce__(self):
        raise self.error


@pytest.mark.parametrize("save", [OURS.save_whole, checkpoints.write])
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, SystemExit])
def test_a_cut_leaves_the_old_file(tmp_path, save, error):
    file = tmp_path / "run.pt"
    save({"epoch": 1, "weight": torch.arange(3.0)}, file)
    before = file.read_bytes()
    for content in ({"a": Cut(error)}, {"w": torch.ones(1000), "b": [Cut(error)]}):
        with pytest.raises(error):
            save(content, file)
        assert file.read_bytes() == before
    save({"epoch": 2}, file)
    assert torch.load(file) == {"epoch": 2}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.pt"]


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        OURS.save_whole({}, tmp_path / "none" / "run.pt")
    with pytest.raises(checkpoints.CheckpointError):
        checkpoints.write({}, tmp_path / "none" / "run.pt")


# --- names ---------------------------------------------------------------------------


def test_parallel_names_entries_as_the_chapter_says():
    """The real one; the solution of exercise 1 takes its beginning off."""
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    names = list(net.state_dict())
    parallel = nn.DataParallel(net)
    assert list(parallel.state_dict()) == [f"module.{n}" for n in names]
    assert list(cleaned()(parallel.state_dict())) == names


@pytest.mark.slow  # it imports the compiler
def test_compiled_names_entries_as_the_chapter_says():
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    names, compiled = list(net.state_dict()), torch.compile(net)
    assert list(compiled.state_dict()) == [f"_orig_mod.{n}" for n in names]
    for wrapped in (compiled, torch.compile(nn.DataParallel(net))):
        assert list(cleaned()(wrapped.state_dict())) == names
    assert list(cleaned()(nn.DataParallel(compiled).state_dict())) == names


def cleaned():
    exercise = chapter_code.exercises(CHAPTER)["15.clean_names"]
    return exercise.answer(exercise.solution)


def test_a_states_order_is_that_of_assignment():
    one, two = nn.Module(), nn.Module()
    one.key, one.query = nn.Linear(1, 1), nn.Linear(1, 1)
    two.query, two.key = nn.Linear(1, 1), nn.Linear(1, 1)
    assert list(one.state_dict()) != list(two.state_dict())
    assert one.state_dict().keys() == two.state_dict().keys()


# --- MobileNetV2 ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair():
    """Ours and torchvision's with the same weights, and statistics off 0 and 1."""
    torch.manual_seed(0)
    theirs = models.mobilenet_v2()
    theirs.classifier[0].p = 0.0  # ours has no dropout
    with torch.no_grad():
        for name, buffer in theirs.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(0.1 * draw(*buffer.shape))
            elif name.endswith("running_var"):
                buffer.copy_(0.02 + 0.01 * draw(*buffer.shape))
        theirs.classifier[1].weight.mul_(20)
    ours = OURS.MobileNet()
    ours.load_state_dict({OURS.our_name(n): v for n, v in theirs.state_dict().items()})
    return ours.double(), theirs.double()


@pytest.mark.parametrize("shape", [(2, 3, 64, 64), (1, 3, 75, 33), (0, 3, 64, 64)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_mobilenet_evaluates_alike(pair, shape, channels_last):
    x = draw(*shape)
    if channels_last:
        x = x.to(memory_format=torch.channels_last)
    ours, theirs = (net.eval() for net in pair)
    with torch.no_grad():
        one, two = ours(x), theirs(x)
    assert one.shape == two.shape == (shape[0], 1000)
    assert not one.numel() or two.abs().max() > 1e-3
    torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)


def test_mobilenet_trains_alike(pair):
    """Outputs, gradients and buffers of a step in training mode."""
    ours, theirs = (copy.deepcopy(net).train() for net in pair)
    x, labels = draw(2, 3, 40, 40), torch.tensor([1, 2])
    for net in (ours, theirs):
        F.cross_entropy(net(x), labels).backward()
    theirs_grad = {OURS.our_name(n): p.grad for n, p in theirs.named_parameters()}
    for name, p in ours.named_parameters():
        torch.testing.assert_close(p.grad, theirs_grad[name], rtol=1e-9, atol=1e-12)
    entries = {OURS.our_name(n): v for n, v in theirs.state_dict().items()}
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(value, entries[name], rtol=1e-12, atol=1e-12)


@pytest.mark.skipif(
    not (notebook.CHAPTERS / "13_backbones.ipynb").exists(), reason="not written yet"
)
def test_chapter_13s_class_has_the_names_that_the_rule_reads(pair):
    """Its state, renamed, gives the same answers in this chapter's class."""
    other = chapter_code.definitions("13_backbones", "MobileNetV2").MobileNetV2()
    other = other.double().eval()
    renamed = {OURS.our_name(n): v for n, v in other.state_dict().items()}
    ours = copy.deepcopy(pair[0]).eval()
    assert state_diff.diff_states(ours, renamed).fits
    ours.load_state_dict(renamed)
    x = draw(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), other(x), rtol=1e-12, atol=1e-15)


# --- the first layer -----------------------------------------------------------------


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("mode", ["zeros", "reflect"])
@pytest.mark.parametrize("bias", [False, True])
def test_summed_kernels_and_zero_kernels(stride, mode, bias):
    conv = nn.Conv2d(3, 4, 3, stride, 1, bias=bias, padding_mode=mode).double()
    gray, depth = draw(2, 1, 9, 8), 1e30 * draw(2, 1, 9, 8, seed=1)
    one, four = (
        nn.Conv2d(n, 4, 3, stride, 1, bias=bias, padding_mode=mode).double()
        for n in (1, 4)
    )
    with torch.no_grad():
        one.weight.copy_(conv.weight.sum(1, keepdim=True))
        four.weight.zero_()[:, :3].copy_(conv.weight)
        if bias:
            one.bias.copy_(conv.bias), four.bias.copy_(conv.bias)
        three = gray.expand(-1, 3, -1, -1)
        torch.testing.assert_close(one(gray), conv(three), rtol=1e-12, atol=1e-12)
        x = draw(2, 3, 9, 8, seed=2)
        torch.testing.assert_close(four(torch.cat([x, depth], 1)), conv(x))


# --- resuming ------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_resumed_at_any_epoch(tmp_path, stop):
    """The chapter's training, kept by the book's State and by hand."""

    class Loader:
        def __init__(self, generator):
            self.generator = generator

    def state_of(run):
        loader = Loader(run.order)
        return checkpoints.State(run.model, run.optimizer, run.schedule, loader=loader)

    whole = OURS.start(0)
    OURS.train(whole, 6)
    first = OURS.start(0)
    OURS.train(first, stop)
    state_of(first).save(tmp_path / "book.pt")
    by_hand = {
        "model": first.model.state_dict(),
        "optimizer": first.optimizer.state_dict(),
        "schedule": first.schedule.state_dict(),
        "order": first.order.get_state(),
        "dropout": torch.get_rng_state(),
    }
    OURS.save_whole(by_hand, tmp_path / "hand.pt")
    ends = []
    for way in ("book", "hand"):
        run, file = OURS.start(9), tmp_path / f"{way}.pt"
        if way == "book":
            state_of(run).load(file)
        else:
            content = torch.load(file)
            run.model.load_state_dict(content["model"])
            run.optimizer.load_state_dict(content["optimizer"])
            run.schedule.load_state_dict(content["schedule"])
            run.order.set_state(content["order"])
            torch.set_rng_state(content["dropout"])
        OURS.train(run, 6 - stop)
        ends.append(run.model.state_dict())
    for end in ends:
        assert state_diff.diff_states(end, whole.model).equal

"""What the commands that store a result share."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from course_utils.datasets import results
from experiments import stored


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    return tmp_path


def test_a_result_is_written_one_run_a_line(folder):
    runs = [{"seed": 0, "right": 0.5}, {"seed": 1, "right": 0.75}]
    assert stored.store("some", runs, [], rates={"a": 0.1}, module="other") == 0
    text = (folder / "some.json").read_text()
    read = json.loads(text)
    assert read == results.load("some")
    assert list(read) == ["command", "date", "rates", "runs"]
    assert read["command"] == "python -m experiments.other" and read["runs"] == runs
    assert '{"seed": 1, "right": 0.75}' in text.splitlines()


def test_no_runs_is_valid_json(folder):
    assert stored.store("none", [], []) == 0
    assert results.load("none")["runs"] == []


def test_what_is_missed_is_said_and_not_written(folder, capsys):
    assert stored.store("some", [{"seed": 3}], (s for s in [3])) == 1
    assert "[3]" in capsys.readouterr().err and not list(folder.iterdir())
    assert stored.store("some", [{"seed": 3}], [], write=False) == 0
    assert not list(folder.iterdir())


def test_options():
    read = stored.options("some", "Does.", "less", ["--fast"], fast="faster")
    assert (read.check, read.fast) == (False, True)
    with pytest.raises(SystemExit):
        stored.options("some", "Does.", "less", ["--fast"])


def test_significant():
    nested = {"a": [1.23456, 7, True, "x", None], "b": {"c": (2e-9 / 3,)}}
    assert stored.significant(nested) == {
        "a": [1.235, 7, True, "x", None],
        "b": {"c": [6.667e-10]},
    }
    assert stored.significant(1.23456, 2) == 1.2


def test_accuracy_puts_the_mode_back():
    model = nn.Sequential(nn.Dropout(0.5), nn.Identity()).train()
    model[1].eval()
    labels = torch.tensor([0, 1, 1])
    scores = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 1.0]])
    assert stored.accuracy(model, scores, labels) == pytest.approx(2 / 3)
    assert [m.training for m in model.modules()] == [True, True, False]
    with pytest.raises(ValueError, match=r"got a batch of \(0, 2\)"):
        stored.accuracy(model, scores[:0], torch.tensor([]))


def test_weights_are_replaced_whole(tmp_path, monkeypatch):
    file, model = tmp_path / "w.safetensors", nn.Linear(3, 2)
    model.weight.data = torch.arange(6.0).reshape(3, 2).T  # not contiguous
    stored.save_weights(file, model)
    read = load_file(file)
    assert read.keys() == model.state_dict().keys()
    assert all(torch.equal(v, read[k]) for k, v in model.state_dict().items())
    before = file.read_bytes()

    def half(state, new):
        Path(new).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(stored, "save_file", half)
    with pytest.raises(OSError, match="disk full"):
        stored.save_weights(file, model)
    assert file.read_bytes() == before and list(tmp_path.iterdir()) == [file]


def test_one_cycle_takes_a_rate_for_each_group():
    groups = [{"params": [torch.zeros(1, requires_grad=True)]} for _ in range(2)]
    optimizer = torch.optim.SGD(groups, 1.0)
    stored.one_cycle(optimizer, [0.5, 0.25], 10)
    one, other = (group["lr"] for group in optimizer.param_groups)
    assert one == pytest.approx(2 * other) and one > 0


def test_one_cycle_rises_and_falls_to_zero():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 1.0, momentum=0.9)
    schedule = stored.one_cycle(optimizer, 0.5, 10)
    rates = []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert max(rates) == pytest.approx(0.5) and rates.index(max(rates)) == 2
    assert rates[-1] < 1e-5
    assert optimizer.param_groups[0]["momentum"] == 0.9

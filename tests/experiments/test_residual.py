"""Plain and residual nets: the stored runs, what they share and where they differ."""

import pytest
import torch

from course_utils.datasets import results
from experiments import residual

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_stored_runs():
    stored = results.load("residual")
    assert stored["command"] == "python -m experiments.residual"
    assert stored["rates"] == residual.RATES and stored["epochs"] == residual.EPOCHS
    nets = [(depth, "Adam") for depth in residual.DEPTHS] + [(20, "SGD")]
    wanted = {
        (kind, *net, seed)
        for kind in residual.KINDS
        for net in nets
        for seed in residual.SEEDS
    }
    found = {(r["kind"], r["depth"], r["optimizer"], r["seed"]) for r in stored["runs"]}
    assert found == wanted and len(stored["runs"]) == len(wanted)
    for run in stored["runs"]:
        assert len(run["losses"]) == residual.EPOCHS
        blocks = 3 * (run["depth"] // 6)
        assert len(run["before"]) == len(run["after"]) == blocks
        assert 0 <= run["val"] <= 1 and 0 <= run["train"] <= 1 and run["seconds"] > 0
    assert sum(run["seconds"] for run in stored["runs"]) < 15 * 60


def test_a_pair_has_equal_weights():
    runs = results.load("residual")["runs"]
    for depth in residual.DEPTHS:
        counts = {run["weights"] for run in runs if run["depth"] == depth}
        nets = [residual.Net(kind, depth) for kind in residual.KINDS]
        assert counts == {sum(p.numel() for p in net.parameters()) for net in nets}


def test_a_seed_decides_everything():
    one, other = (residual.train("residual", 8, 3, epochs=1, each=4) for _ in range(2))
    assert {**one, "seconds": 0} == {**other, "seconds": 0}
    again = residual.train("plain", 8, 3, "SGD", epochs=1, each=4)
    assert again["weights"] == one["weights"] and again["losses"] != one["losses"]


def test_gradients_leave_the_net_alone():
    torch.manual_seed(0)
    net = residual.Net("residual", 8).eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    norms = residual.gradients(net, *residual.pictures("train", 1))
    assert len(norms) == 3 and min(norms) > 0 and not net.training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
    assert not any(part._forward_hooks for part in net.modules())


def test_without_a_change_a_residual_block_is_its_input():
    block = residual.Block(2, 4, 2, around=True).eval()
    torch.nn.init.zeros_(block.conv2.weight)
    x = torch.rand(1, 2, 5, 6)
    out = block(x)
    assert out.shape == (1, 4, 3, 3)
    assert torch.equal(out[:, :2], x[:, :, ::2, ::2]) and not out[:, 2:].any()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: residual.Net("dense", 8), "'plain', 'residual'.*got 'dense'"),
        (lambda: residual.Net("plain", 10), "8, 14, 20 and so on, got 10"),
        (lambda: residual.Net("plain", 2), "got 2"),
        (lambda: residual.train("plain", 8, 0, "Lion"), "'Adam', 'SGD'.*got 'Lion'"),
    ],
)
def test_what_does_not_exist_is_quoted(make, says):
    with pytest.raises(ValueError, match=says):
        make()


@pytest.mark.slow
def test_the_gap():
    assert residual.main(["--check"]) == 0

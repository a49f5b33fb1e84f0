"""What a state needs to fit a model, held against torch's own loading."""

import copy

import pytest
import torch
from torch import nn

from course_utils.training.state_diff import StateDiff, diff_states


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))


def test_one_of_each_kind_by_hand():
    mine = {
        "gone": torch.zeros(2),
        "wide": torch.zeros(2, 3),
        "half": torch.zeros(4),
        "moved": torch.tensor([1.0, 2.0, 3.0]),
        "kept": torch.ones(()),
    }
    theirs = {
        "new": torch.zeros(5, 1),
        "kept": torch.ones(()),
        "moved": torch.tensor([1.0, 2.5, 4.0]),
        "half": torch.zeros(4, dtype=torch.float16),
        "wide": torch.zeros(3, 2),
    }
    found = diff_states(mine, theirs)
    assert found == StateDiff(
        missing={"gone": (2,)},
        unexpected={"new": (5, 1)},
        shape={"wide": ((2, 3), (3, 2))},
        dtype={"half": (torch.float32, torch.float16)},
        value={"moved": 2},
        same=["kept"],
    )
    assert not found.fits and not found.equal and found.found == 3
    assert str(found) == (
        "1 same\n"
        "1 missing: gone (2,)\n"
        "1 unexpected: new (5, 1)\n"
        "1 shape: wide is (2, 3), the other (3, 2)\n"
        "1 dtype: half is float32, the other float16\n"
        "1 value: moved differs in 2 places"
    )


def test_a_state_is_equal_to_its_copy_and_nothing_moves():
    model = network()
    state = model.state_dict()
    before = copy.deepcopy(state)
    found = diff_states(model, copy.deepcopy(model))
    assert found.equal and found.fits and found.same == list(state)
    assert all(torch.equal(state[name], before[name]) for name in state)


@pytest.mark.parametrize("drop", [[], ["0.bias"], ["1.running_mean", "2.weight"]])
@pytest.mark.parametrize("add", [[], ["3.weight"], ["x", "y"]])
def test_names_are_those_of_torch(drop, add):
    """Missing and unexpected names are what load_state_dict reports."""
    model, state = network(), network().state_dict()
    for name in drop:
        del state[name]
    for name in add:
        state[name] = torch.zeros(1)
    found = diff_states(model, state)
    said = network().load_state_dict(state, strict=False)
    assert list(found.missing) == said.missing_keys == drop
    assert sorted(found.unexpected) == sorted(said.unexpected_keys) == sorted(add)
    assert found.fits == (not drop and not add)
    mirrored = diff_states(state, model)
    assert mirrored.missing == found.unexpected
    assert mirrored.unexpected == found.missing


def test_a_state_that_fits_is_taken_and_another_shape_is_not():
    model, state = network(), network().state_dict()
    state["2.weight"] = state["2.weight"].double()
    assert diff_states(model, state).fits
    model.load_state_dict(state)
    state["2.weight"] = torch.zeros(2, 3)
    assert not diff_states(model, state).fits
    with pytest.raises(RuntimeError, match=r"size mismatch for 2\.weight"):
        model.load_state_dict(state, strict=False)


def test_torch_is_a_little_more_generous():
    """One number for none, and batch normalization's counter."""
    model, state = network(), dict(network().state_dict())
    state["1.num_batches_tracked"] = torch.tensor([5])
    assert not diff_states(model, state).fits
    model.load_state_dict(state)
    assert model[1].num_batches_tracked == 5
    del state["1.num_batches_tracked"]
    assert list(diff_states(model, state).missing) == ["1.num_batches_tracked"]
    model.load_state_dict(state)


def test_no_names_no_elements_no_dimensions():
    assert diff_states({}, {}) == StateDiff() and diff_states({}, {}).equal
    assert str(diff_states(nn.ReLU(), nn.ReLU())) == "0 same"
    hollow = {"a": torch.zeros(0, 3)}
    assert diff_states(hollow, {"a": torch.zeros(0, 3)}).equal
    assert diff_states(hollow, {"a": torch.zeros(0, 2)}).shape


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.complex64]
)
def test_any_dtype(dtype):
    a = torch.tensor([0, 1, 0, 1]).to(dtype)
    b = torch.tensor([0, 0, 0, 1]).to(dtype)
    assert diff_states({"a": a}, {"a": b}).value == {"a": 1}
    assert diff_states({"a": a}, {"a": a.clone()}).equal


def test_nan_equals_nan_and_zero_minus_zero():
    nan = float("nan")
    a, b = torch.tensor([nan, nan, 0.0]), torch.tensor([nan, 1.0, -0.0])
    assert diff_states({"a": a}, {"a": b}).value == {"a": 1}


def test_meta_device():
    with torch.device("meta"):
        shapes = network()
    assert diff_states(shapes, network(), values=False).equal
    with pytest.raises(ValueError, match="'0.weight' lies on the meta device"):
        diff_states(shapes, network())


def test_views_and_parameters_with_gradients():
    weight = torch.arange(6.0).reshape(2, 3)
    layer = nn.Linear(2, 3, bias=False)
    with torch.no_grad():
        layer.weight.copy_(weight.T)
    assert diff_states(dict(layer.named_parameters()), {"weight": weight.T}).equal


def test_errors_quote_what_came():
    with pytest.raises(TypeError, match="got list"):
        diff_states(network(), [1])
    with pytest.raises(TypeError, match="'epoch' is no tensor: int"):
        diff_states({}, {"epoch": 3})

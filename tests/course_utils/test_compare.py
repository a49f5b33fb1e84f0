"""compare: what it accepts, what it refuses, and what it says."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import tv_tensors

from course_utils.compare import Difference, compare, disagreement

NAN, INF = float("nan"), float("inf")


def refusal(ours, library, within=1e-6, absolute=None) -> str:
    """What compare says where it refuses; a pass is a failure of the test."""
    with pytest.raises(AssertionError) as caught:
        compare("x", ours, library, within, absolute)
    return str(caught.value)


def test_by_hand(capsys):
    # 1.5 is at most w * 2 + w from w = 0.5 on: relative to 2, not to 4.
    value = compare("x", torch.tensor([0.5, 4.0]), torch.tensor([2.0, 4.0]), 0.5)
    assert value == 0.5
    assert capsys.readouterr().out == "x: equal within 0.5\n"
    said = refusal(torch.tensor([0.5, 4.0]), torch.tensor([2.0, 4.0]), 0.499)
    assert said == (
        "x: got 0.5, expected 2 at [0] (1 of 2 differ); "
        "largest difference 1.5 (from 2), allowed 0.499"
    )


def test_a_large_neighbor_does_not_widen_the_bound():
    said = refusal(torch.tensor([1e6, 1]), torch.tensor([1e6, 2]))
    assert "got 1, expected 2 at [1] (1 of 2 differ)" in said
    # The place that exceeds its own bound most is the one whose size is quoted.
    said = refusal(torch.tensor([1e6 + 1, 1]), torch.tensor([1e6, 1.5]), 1e-5)
    assert "got 1, expected 1.5 at [1]" in said
    assert said.endswith("largest difference 0.5 (from 1.5), allowed 1e-05")


def test_absolute_by_hand(capsys):
    ours, library = torch.tensor([0.25, 100.0]), torch.tensor([0.0, 101.0])
    compare("x", ours, library, 0.0, absolute=1.0)
    assert capsys.readouterr().out == "x: equal within 0, absolute 1\n"
    compare("x", ours, library, 0.01, absolute=0.25)
    assert capsys.readouterr().out == "x: equal within 0.01, absolute 0.25\n"
    compare("x", ours, library, 0.25, absolute=0.25)
    assert capsys.readouterr().out == "x: equal within 0.25\n"
    said = refusal(ours, library, 0.01, absolute=0.2)
    assert "got 0.25, expected 0 at [0]" in said
    assert said.endswith("(from 0), allowed 0.01 and 0.2 absolute")
    said = refusal(torch.tensor([1e-9]), torch.tensor([2e-9]), 1e-6, absolute=0)
    assert "got 1e-09, expected 2e-09 at [0]" in said
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("within", "line"),
    [
        (1e-6, "mean: equal within 1e-06\n"),
        (np.float32(0.5), "mean: equal within 0.5\n"),
        (0, "mean: equal to the bit\n"),
        (0.0, "mean: equal to the bit\n"),
    ],
)
def test_printed_line(capsys, within, line):
    result = compare("mean", torch.ones(2), torch.ones(2), within=within)
    assert capsys.readouterr().out == line
    assert result == 0.0 and isinstance(result, float)


def test_nothing_is_printed_where_they_differ(capsys):
    refusal(torch.ones(2), torch.zeros(2))
    assert capsys.readouterr().out == ""


def test_assert_close_is_the_oracle():
    generator = torch.Generator().manual_seed(0)
    library = 10 ** (8 * torch.rand(50, generator=generator) - 4)
    passed = 0
    for exponent in range(-9, 0):
        noise = 10.0**exponent * torch.rand(50, generator=generator)
        for ours in (library + noise, library * (1 + noise)):
            for rtol, atol in ((1e-5, 1e-5), (1e-3, 1e-6), (0.0, 1e-2), (1e-4, 0.0)):
                bounds = {"rtol": rtol, "atol": atol}
                try:
                    torch.testing.assert_close(
                        ours.double(), library.double(), **bounds
                    )
                except AssertionError:
                    refusal(ours, library, rtol, atol)
                else:
                    compare("x", ours, library, rtol, atol)
                    passed += 1
    assert 10 < passed < 62  # of 72


def test_the_returned_difference_is_the_smallest_bound_that_passes():
    generator = torch.Generator().manual_seed(1)
    ours = torch.randn(20, generator=generator)
    library = torch.randn(20, generator=generator)
    value = compare("x", ours, library, within=100)
    compare("x", ours, library, within=float(value) * (1 + 1e-12))
    refusal(ours, library, float(value) * (1 - 1e-12))


def test_a_notebook_shows_nothing():
    from IPython.core.formatters import DisplayFormatter

    assert DisplayFormatter().format(Difference(0.25)) == ({}, {})
    assert DisplayFormatter().format(0.25)[0] == {"text/plain": "0.25"}


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.zeros(0, 3),
        lambda: torch.zeros(0, 3, dtype=torch.complex64),
        lambda: torch.zeros(0, dtype=torch.int64),
        lambda: np.zeros((2, 0)),
        dict,
        list,
        lambda: torch.tensor([1.0, NAN, INF, -INF]),
        lambda: torch.tensor(complex(NAN, 1)),
        lambda: torch.tensor([True, False]),
        lambda: torch.tensor([2**63 - 1, -(2**63)]),
        lambda: torch.tensor([2**64 - 1], dtype=torch.uint64),
        lambda: torch.tensor([1.0, -0.0]).to(torch.float8_e4m3fn),
        lambda: torch.ones(2, dtype=torch.bfloat16),
        lambda: torch.eye(2).to_sparse(),
        lambda: torch.ones(2, dtype=torch.complex64).conj(),
        lambda: nn.Parameter(torch.ones(2)),
        lambda: torch.ones(2, requires_grad=True) * 2,
        lambda: tv_tensors.Mask(torch.ones(2, 2)),
        lambda: torch.max(torch.eye(2), dim=0),
        lambda: nn.Linear(2, 3).state_dict(),
        lambda: np.ones(2, dtype=">f4"),
        lambda: np.float32(3),
        lambda: {"a": [1, (2.0, None)], "b": "text", "c": True, "d": 1j, "e": 2**70},
    ],
)
def test_everything_equals_itself(make):
    value = make()
    assert compare("x", value, value) == 0.0
    assert compare("x", value, value, within=0) == 0.0


@pytest.mark.parametrize(
    ("ours", "library"),
    [
        (nn.Parameter(torch.ones(2)), torch.ones(2)),
        (torch.eye(2), torch.eye(2).to_sparse()),
        (tv_tensors.Mask(torch.ones(2, 2)), torch.ones(2, 2)),
        ((2, 3), torch.zeros(2, 3).shape),
        ([torch.tensor([1.0, 1]), torch.tensor([0, 1])], torch.max(torch.eye(2), 0)),
        (OrderedDict(b=1, a={"d": 2, "c": 3}), {"a": {"c": 3, "d": 2}, "b": 1}),
        (2.5, np.float64(2.5)),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.array(2.5), 2.5),
    ],
)
def test_pairs_that_are_equal(ours, library):
    compare("x", ours, library, within=0)
    compare("x", library, ours, within=0)


@pytest.mark.parametrize(
    ("ours", "library", "said"),
    [
        (torch.ones(2), torch.ones(2, 1), "shape (2,), expected (2, 1)"),
        (torch.ones(2), torch.ones(2).double(), "dtype torch.float32, expected torch"),
        (torch.ones(2), torch.ones(2).bfloat16(), "expected torch.bfloat16"),
        (np.ones(2), torch.ones(2).double(), "got ndarray array([1., 1.]), expected a"),
        (torch.tensor(1.0), 1.0, "got a tensor, expected a float"),
        ([1.0], torch.ones(1), "got list [1.0], expected a tensor"),
        (torch.ones(1), [1.0], "got a tensor, expected a sequence"),
        (torch.ones(1), {"a": 1}, "got a tensor, expected a mapping"),
        (None, torch.ones(1), "got None, expected a tensor"),
        (None, 1.5, "got None, expected a float"),
        (torch.ones(1), None, "got a tensor, expected None"),
        (6, 6.0, "dtype int, expected float"),
        (True, 1, "dtype bool, expected int"),
        (np.float32(1), 1.0, "dtype float32, expected float"),
        ("a", "b", "got str 'a', expected 'b'"),
        ([1, 2], [1], "length 2, expected 1"),
        ([1, [2, 3]], [1, [2, 4]], "x[1][1]: got 3, expected 4"),
        (2**70, 2**70 + 1, f"got {2**70}, expected {2**70 + 1}"),
        ({"a": {"b": torch.ones(1)}}, {"a": {"b": torch.zeros(1)}}, "x['a']['b']: got"),
        ({"a": 1, "c": 1}, {"a": 1, "b": 1}, "keys missing ['b'], unexpected ['c']"),
        ({"a": 1, "c": 1}, {"a": 1}, "keys missing [], unexpected ['c']"),
        ({"a": 1}, {"a": 1, "b": 1}, "keys missing ['b'], unexpected []"),
    ],
)
def test_what_differs_is_said(ours, library, said):
    assert said in refusal(ours, library, within=0.5)


@pytest.mark.parametrize(
    ("ours", "library", "said"),
    [
        ([1.0, NAN], [1.0, 1.0], "got nan, expected 1 at [1] (1 of 2 differ)"),
        ([1.0], [NAN], "got 1, expected nan at [0]"),
        ([INF], [-INF], "got inf, expected -inf at [0]"),
        ([1e30], [INF], "got 1e+30, expected inf at [0]"),
        ([complex(NAN, 1)], [complex(NAN, 20)], "got (nan+1j), expected (nan+20j)"),
        ([1 + 9j], [1 + 0j], "got (1+9j), expected (1+0j)"),
        ([True], [False], "got True, expected False at [0]"),
        ([2**63 - 1], [2**63 - 2], "got 9223372036854775807, expected 922337203685477"),
    ],
)
def test_values_no_bound_lets_through(ours, library, said):
    assert said in refusal(torch.tensor(ours), torch.tensor(library), within=0.5)


def test_uint64_is_exact():
    large = torch.tensor([2**64 - 1], dtype=torch.uint64)
    other = torch.tensor([2**64 - 2], dtype=torch.uint64)
    assert "got 18446744073709551615" in refusal(large, other, within=1)


def test_neighbors_are_told_apart_in_the_message():
    one = torch.tensor([1.0], dtype=torch.float64)
    said = refusal(torch.nextafter(one, 2 * one), one, within=0)
    assert "got 1.0000000000000002, expected 1.0 at" in said
    assert "difference 2.22e-16 (from 1), allowed 0" in said


def test_to_the_bit():
    assert "got 0, expected -0" in refusal(
        torch.tensor([0.0]), torch.tensor([-0.0]), within=0
    )
    compare("x", torch.tensor([0.0]), torch.tensor([-0.0]))
    nan = torch.tensor([NAN])
    compare("x", nan, -nan, within=0)  # the sign of a nan says nothing


def test_zero_has_the_absolute_bound_alone():
    zeros = torch.zeros(2)
    assert compare("x", torch.tensor([0.0, 0.25]), zeros, within=0.25) == 0.25
    assert "got 0.25, expected 0 at [1]" in refusal(
        torch.tensor([0.0, 0.25]), zeros, within=0.2
    )


def test_infinities_do_not_widen_the_bound():
    library = torch.tensor([INF, 1.0])
    assert "at [1]" in refusal(torch.tensor([INF, 1.1]), library, within=0.01)


def test_nothing_is_modified():
    ours, library = torch.tensor([NAN, 1.0]), torch.tensor([NAN, 1.0])
    compare("x", {"a": ours}, {"a": library})
    expected = torch.tensor([NAN, 1.0])
    for tensor in (ours, library):
        torch.testing.assert_close(tensor, expected, rtol=0, atol=0, equal_nan=True)


def test_the_default_device_does_not_matter():
    with torch.device("meta"):
        compare("x", 2.5, np.float64(2.5))


@pytest.mark.parametrize("name", ["within", "absolute"])
@pytest.mark.parametrize(
    ("bound", "error", "said"),
    [
        (-1e-9, ValueError, "-1e-09"),
        (NAN, ValueError, "nan"),
        (INF, ValueError, "inf"),
        ("1e-6", TypeError, "str '1e-6'"),
        (True, TypeError, "bool True"),
    ],
)
def test_a_wrong_bound(name, bound, error, said):
    with pytest.raises(error, match=f"{name} must be") as caught:
        compare("x", 1.0, 1.0, **{"absolute": 0, name: bound})
    assert str(caught.value).endswith(said)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({1}, r"x: cannot compare set \{1\}"),
        (object, "x: cannot compare type"),
        (np.array(["a"]), "x: cannot compare dtype <U1"),
        (np.ma.array([1, 2], mask=[0, 1]), "x: cannot compare MaskedArray"),
        (torch.zeros(2, device="meta"), "x: a tensor on the meta device has no values"),
        ([1.0, {1}], r"x\[1\]: cannot compare set"),
        (torch.zeros(2, dtype=torch.uint8).view(torch.bits8), "dtype torch.bits8"),
    ],
)
def test_what_cannot_be_compared(value, said):
    with pytest.raises(TypeError, match=said):
        compare("x", value, value)


def test_a_number_too_large_for_the_other_side():
    with pytest.raises(TypeError, match=f"{2**70} does not fit torch.int64"):
        compare("x", 2**70, np.int64(3))


def test_a_forgotten_name():
    with pytest.raises(TypeError, match="name must be a string, got a tensor"):
        compare(torch.ones(1), torch.ones(1), 1e-6)


def test_a_broken_repr_does_not_hide_the_message():
    class Broken:
        def __repr__(self):
            raise RuntimeError("no")

    with pytest.raises(TypeError, match="x: cannot compare Broken"):
        compare("x", Broken(), Broken())


def test_no_bound_is_no_bound():
    with pytest.raises(TypeError, match="within must be a number, got None"):
        compare("x", 1.0, 1.0, within=None)


def test_disagreement_by_hand():
    ours, library = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, 3.0, 4.0])
    said = "got 2, expected 3 at [1] (1 of 3 differ)"
    assert disagreement(ours, library, 0.1) == said
    assert disagreement({"a": (1, ours)}, {"a": [1, library]}) == f"['a'][1]: {said}"
    assert disagreement(ours, library, 0.25) == ""
    assert disagreement(ours, library, 0.1, absolute=1) == ""
    assert disagreement(torch.zeros(0, 2), torch.zeros(0, 2)) == ""
    assert disagreement(torch.tensor([1]), torch.tensor([2]), 9) != ""


def test_disagreement_takes_numbers_by_value():
    pairs = [(6.0, 6), (np.int64(6), 6), (0.0, -0.0), ([1, 2], (1, 2)), ({1}, {1})]
    for ours, library in pairs:
        assert disagreement(ours, library, 0) == ""
        if not isinstance(ours, (list, np.generic)):
            with pytest.raises((AssertionError, TypeError)):
                compare("x", ours, library, 0)
    assert disagreement(1j, 2.0) == "got 1j, expected (2+0j)"
    with pytest.raises(ValueError, match="within must be"):
        disagreement(1, 1, -1)

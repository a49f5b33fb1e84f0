"""Floats match as numbers, everything else to the letter."""

import pytest

from booktools.text_compare import EXACT, Tolerance, same_text, tokens, too_fine

EQUAL = [
    ("0.1234", "0.1235"),  # one unit in the last of four decimals
    ("0.1999", "0.2000"),  # the same with a carry
    ("9.9999", "10.0000"),
    ("99.1234", "99.1243"),  # 9.1e-6 relative
    ("-0.0000", "0.0000"),  # rounding noise around zero
    ("0.0000", "0.0001"),
    ("1.2346e-05", "1.2347e-05"),
    ("9.9999e-06", "1.0000e-05"),
    ("tensor(1.2346e+10)", "tensor(1.2347e+10)"),
    ("(1.0000-0.0000j)", "(1.0000+0.0000j)"),
    ("tensor([1.5000-2.1234j])", "tensor([1.5000-2.1235j])"),
    ("nan", "nan"),
    ("tensor([    nan, 1.0000])", "tensor([nan, 1.0001])"),
    ("[-inf  0.1234]", "[  -inf 0.1235]"),
    ("tensor([-0.0000,  1.0000])", "tensor([0.0000, 1.0000])"),
    ("[[ 0.1234 -0.0000]\n [ 1.0000  2.0000]]", "[[0.1234 0.0000]\n [1.0000 2.0000]]"),
    ("[0.1234\n 0.5678]", "[0.1234 0.5678]"),  # wrapped elsewhere
    ("loss |  9.9999 | a", "loss | 10.0000 | a"),
    ("loss  9.9999  per step", "loss 10.0000 per step"),
    (" 9.9999 a\n10.1234 b", "10.0000 a\n10.1234 b"),
    ("{'a': 0.1234, 'b': [0.5678]}", "{'a': 0.1235, 'b': [0.5679]}"),
    ("rate 12.3456%", "rate 12.3457%"),
    ("tensor([1., 2.], device='cuda:0')", "tensor([1., 2.])"),
    ("tensor([1], device='cuda:0', dtype=torch.int8)", "tensor([1], dtype=torch.int8)"),
    (
        "tensor([0.1234, 0.5678],\n       device='cuda:0', grad_fn=<MulBackward0>)",
        "tensor([0.1234, 0.5678], grad_fn=<MulBackward0>)",
    ),
    ("device(type='cuda', index=0)", "device(type='cpu')"),
    ("Linear(2, 2, device='cuda:1')", "Linear(2, 2, device='cpu')"),
]

DIFFERENT = [
    ("12", "13"),
    ("12", "12.0"),
    ("-5", "5"),
    ("12%", "13%"),
    ("0.5", "0.6"),
    ("0.123", "0.124"),  # three decimals match exactly
    ("12.3%", "12.4%"),
    ("-0.", "0."),
    ("1.", "2."),
    ("1e-05", "2e-05"),
    ("0.1234", "0.1236"),
    ("0.1234", "-0.1234"),
    ("0.1234", "0.12340"),  # printed in another form
    ("0.0000", "1.0000e-07"),
    ("1.2346e-05", "1.2346e-06"),
    ("nan", "0.1234"),
    ("nan", "inf"),
    ("inf", "-inf"),
    ("True", "False"),
    ("a cat", "a cot"),
    ("a  b", "a b"),
    ("torch.Size([2, 3])", "torch.Size([3, 2])"),
    ("torch.Size([2, 3])", "torch.Size([2, 3, 1])"),
    ("3x3", "3x4"),
    ("1-3", "1-4"),
    ("1-3", "1 -3"),
    ("12", "1 2"),
    ("1\n2", "1 2"),  # lines matter outside brackets
    ("float32", "float64"),
    ("torch 2.15.0", "torch 2.15.1"),
    ("torch 2.1234.0", "torch 2.1235.0"),
    ("2026-11-21", "2026-11-22"),
    ("v1.2345", "v1.2346"),
    ("grad_fn=<AddBackward0>", "grad_fn=<MulBackward0>"),
    ("tensor(1., device='meta')", "tensor(1.)"),
    ("tensor(1., grad_fn=<A>)", "tensor(1.)"),
    ("[0.1234, 0.5678]", "[0.1234]"),
    ("(0.1234, 0.5678)", "[0.1234, 0.5678]"),
    ("1.5-2.5j", "1.5+2.5j"),
    ("3eggs", "4eggs"),
    ("1e", "2e"),
    ("1 a", "1a"),
    ("a 1", "a1"),
    ("something", ""),
]


@pytest.mark.parametrize(("stored", "new"), EQUAL)
def test_equal(stored, new):
    assert same_text(stored, new)
    assert same_text(new, stored)


@pytest.mark.parametrize(("stored", "new"), DIFFERENT)
def test_different(stored, new):
    assert not same_text(stored, new)
    assert not same_text(new, stored)


FLOATS = """0.1 2.5 3.142 -0.25 12.5 1234.5 0.1234 -0.5678 1.0000 12.3456 99.9999 0.0012
0.00001234 1.2346e-05 -9.8765e+10 1e-05 2.5e+3 -0. 0.98765""".split()


@pytest.mark.parametrize("stored", FLOATS)
def test_every_digit_but_the_last_counts(stored):
    """Of a float with four or more decimals; with fewer, the last one counts, too."""
    mantissa = stored.lower().partition("e")[0]
    decimals = len(mantissa.partition(".")[2])
    assert not too_fine(stored)
    for place, old in enumerate(stored):
        if not old.isdigit():
            continue
        for digit in set("0123456789") - {old}:
            new = stored[:place] + digit + stored[place + 1 :]
            last = place == len(mantissa) - 1
            if not (last and decimals >= 4):
                assert not same_text(f"x = {stored}", f"x = {new}"), new
            elif abs(int(digit) - int(old)) == 1:
                assert same_text(f"x = {stored}", f"x = {new}"), new


@pytest.mark.parametrize("value", [0.1234567, 3.14159, 99.25, 1e-7, 12345.678])
def test_noise_of_a_millionth_passes(value):
    """In the forms in which torch and format strings print floats."""
    for sign in (1, -1):
        near = value * (1 + sign * 1e-6)
        for form in (".4f", ".5f", ".4e", ".6f"):
            assert same_text(f"[{value:{form}}]", f"[{near:{form}}]")


def test_too_fine_finds_floats_with_seven_digits():
    text = "a 123.4567 b 99.9999 [1234.5000] 0.30000000000000004 1.2346e-05 1234.567 "
    assert too_fine(text + "0.0000 inf 2.1234.0 1000000") == [
        "123.4567",
        "1234.5000",
        "0.30000000000000004",
    ]


def test_what_is_too_fine_could_change_unseen():
    """Why too_fine exists: rule 3 lets the second-to-last digit of these change."""
    assert same_text("123.4567", "123.4557")
    assert not same_text("99.9999", "99.9989")


def test_own_tolerance():
    loose = Tolerance(rtol=1e-2)
    assert same_text("loss 1.52 after 3 steps", "loss 1.53 after 3 steps", loose)
    assert not same_text("loss 1.52", "loss 1.55", loose)
    assert not same_text("3 steps", "4 steps", loose)  # integers stay exact
    assert same_text("0.3", "0.30000000000000004", loose)  # in another form
    assert same_text("0.001", "0.002", Tolerance(rtol=0, atol=1e-2))


def test_exact_tolerance():
    assert same_text("0.30000000000000004", "0.30000000000000004", EXACT)
    assert not same_text("0.30000000000000004", "0.30000000000000005", EXACT)
    assert not same_text("0.1234", "0.1235", EXACT)


def test_tokens():
    assert tokens("x: -1.5e-3, v=2.15.0 [ 1,\n 2.]") == [
        *["x", ":", "-1.5e-3", ",", " ", "v", "=", "2", ".", "15", ".", "0", " "],
        *["[", "1", ",", "2.", "]"],
    ]

"""Errata of chapter 27 that are misprints, and have no place on its page."""

import pytest

LINE = "model = build(2).to(device)model.eval()"


def test_E_015():
    """Statements that run together on one line are a syntax error; apart, they run."""
    with pytest.raises(SyntaxError):
        compile(LINE, "script", "exec")
    compile(LINE.replace(")model.eval", ")\nmodel.eval"), "script", "exec")

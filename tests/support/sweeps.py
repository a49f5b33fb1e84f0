"""A quick share of many cases in every run, all of them in `make test-slow`."""

from collections.abc import Iterable

import pytest

__all__ = ["quick_share"]


def quick_share(cases: Iterable, count: int) -> list:
    """The cases as pytest's parameters, all but ``count`` of them marked slow.

    The quick ones are spread evenly over the list, the first one among them.

    Raises:
        ValueError: ``count`` is not between 1 and the number of cases.
    """
    cases = list(cases)
    if not 1 <= count <= len(cases):
        raise ValueError(f"a quick share of {count} out of {len(cases)} cases")
    quick = {i * len(cases) // count for i in range(count)}
    return [
        case if i in quick else pytest.param(case, marks=pytest.mark.slow)
        for i, case in enumerate(cases)
    ]

"""Exercises that check themselves; see :mod:`course_utils.checks.core`."""

from course_utils.checks.core import (
    Case,
    Exercise,
    Verdict,
    Wrong,
    check,
    exercise,
    exercises,
    hint,
    judge,
)

__all__ = [
    "Case",
    "Exercise",
    "Verdict",
    "Wrong",
    "check",
    "exercise",
    "exercises",
    "hint",
    "judge",
]

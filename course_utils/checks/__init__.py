"""Exercises that check themselves; see :mod:`course_utils.checks.core`."""

from course_utils.checks.core import (
    Case,
    Verdict,
    Wrong,
    check,
    exercise,
    exercises,
    judge,
)

__all__ = ["Case", "Verdict", "Wrong", "check", "exercise", "exercises", "judge"]

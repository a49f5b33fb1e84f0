"""What an exercise's check says of another answer than the book's."""

from course_utils import checks

__all__ = ["assert_changed", "assert_verdict"]


def assert_verdict(exercise, source: str, says: str | None) -> None:
    """The answer is refused with these words; where they are ``None``, it passes."""
    verdict = checks.judge(exercise.name, exercise.answer(source))
    if says is None:  # the same by other words
        assert verdict.status == "passed", verdict.text
    else:
        assert verdict.status == "failed" and says in verdict.text, verdict.text


def assert_changed(exercise, old: str, new: str, says: str | None) -> None:
    """The same of the book's solution with ``old``, which it holds, made ``new``."""
    assert exercise.solution.count(old) >= 1
    assert_verdict(exercise, exercise.solution.replace(old, new), says)

"""Every exercise of every chapter: the stub is unattempted, the solution passes."""

import pytest

from booktools import notebook
from booktools.chapter_code import exercises
from course_utils import checks

CHAPTERS = sorted(p.stem for p in notebook.CHAPTERS.glob("*.ipynb"))
NAMES = [(c, name) for c in CHAPTERS for name in checks.exercises(c[:2])]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_exercise_is_in_the_chapter_and_solved(chapter):
    assert list(exercises(chapter)) == checks.exercises(chapter[:2])


@pytest.mark.parametrize("chapter, name", NAMES, ids=[name for _, name in NAMES])
def test_stub_is_unattempted_and_solution_passes(chapter, name):
    exercise = exercises(chapter)[name]
    assert checks.judge(name, exercise.answer(exercise.stub)).status == "unattempted"
    verdict = checks.judge(name, exercise.answer(exercise.solution))
    assert verdict.status == "passed", verdict.text

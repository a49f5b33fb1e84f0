"""An erratum of chapter 13 that a test settles: a list of maps with a slip in it."""

import torch
from torch import nn

from booktools import chapter_code, notebook

CHAPTER = "13_backbones"


def published():
    """The class of exercise 3 as its text prints it, faults and all."""
    for cell in notebook.read(notebook.CHAPTERS / f"{CHAPTER}.ipynb").cells:
        if cell.cell_type == "markdown" and "### 3. A bug hunt" in cell.source:
            space = {"nn": nn}
            exec(cell.source.split("```python\n")[1].split("```")[0], space)
            return space["FixedBody"]
    raise LookupError("the bug hunt is not there")


def test_E_241():
    """Seven maps are returned, the fourth twice and the fifth never."""
    x = torch.zeros(1, 3, 64, 64)
    maps = published()().eval()(x)
    assert len(maps) == 7 and maps[3] is maps[4]
    assert [m.shape[1] for m in maps] == [32, 64, 128, 128, 128, 256, 512]

    exercise = chapter_code.exercises(CHAPTER)["13.fixed_body"]
    maps = exercise.answer(exercise.solution)().eval()(x)
    assert len({id(m) for m in maps}) == 7
    assert [m.shape[1] for m in maps] == [32, 64, 128, 128, 256, 256, 512]

"""The exercise of ``template/NN_template.ipynb``, an example for writers."""

import torch

from course_utils.checks.core import Case, exercise

__all__: list[str] = []


@exercise(
    "00.spread",
    hint="A tensor has the methods max() and min(); look at the empty case first.",
)
def _spread():
    return [
        Case("one value: no spread", (torch.tensor([3.0]),), expect=torch.tensor(0.0)),
        Case("1 and 4", (torch.tensor([1.0, 4.0]),), expect=torch.tensor(3.0)),
        Case("unsorted", (torch.tensor([2.0, -1.0, 5.0]),), expect=torch.tensor(6.0)),
        Case("integers stay integers", (torch.tensor([7, 2]),), expect=torch.tensor(5)),
        Case("no values", (torch.tensor([]),), expect=ValueError),
    ]

"""Errata of chapter 25 that a test settles: code that Python refuses."""

import pytest
import torch

from booktools import chapter_code


def test_E_024():
    """A loop indented one level too deep is refused; the chapter's matching runs."""
    loop = "for d in (1, 2):\n    best = 0\n{}for g in (3, 4):\n{}    best = g\n"
    with pytest.raises(IndentationError, match="unexpected indent"):
        compile(loop.format(" " * 8, " " * 8), "note", "exec")
    exec(compile(loop.format(" " * 4, " " * 4), "note", "exec"), {})
    ours = chapter_code.definitions(
        "25_detection_metrics", "match", "average_precision"
    )
    # By hand: the second takes the free object, the third finds its own one taken.
    iou = torch.tensor([[0.9, 0.0], [0.6, 0.5], [0.8, 0.4]])
    right = ours.match(torch.tensor([0.9, 0.8, 0.7]), iou, 0.5)
    assert right == [True, True, False]
    assert ours.average_precision([0.5, 1, 1], [1, 1, 2 / 3], "voc12") == 1.0

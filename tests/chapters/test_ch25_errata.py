"""Errata of chapter 25 that a test settles."""

import torch

from booktools import chapter_code


def test_E_024():
    """The chapter's matching runs, and gives the verdicts worked out by hand."""
    ours = chapter_code.definitions(
        "25_detection_metrics", "match", "average_precision"
    )
    # By hand: the second takes the free object, the third finds its own one taken.
    iou = torch.tensor([[0.9, 0.0], [0.6, 0.5], [0.8, 0.4]])
    right = ours.match(torch.tensor([0.9, 0.8, 0.7]), iou, 0.5)
    assert right == [True, True, False]
    assert ours.average_precision([0.5, 1, 1], [1, 1, 2 / 3], "voc12") == 1.0

"""Augmentation: what is refused; copy-paste and resizing are in test_fine_tuning."""

import pytest
import torch

from course_utils.detection.augment import CopyPaste, InMemory, collate, resized

IMAGE = torch.zeros(3, 8, 8, dtype=torch.uint8)
TARGET = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}


@pytest.mark.parametrize("size", [0, -3, 1.5, True, None])
def test_resized_refuses_what_is_no_size(size):
    with pytest.raises(ValueError, match=f"positive integer, got {size}"):
        resized(size)


def test_masks_are_needed():
    for transform in (resized(4), CopyPaste([(IMAGE, TARGET)])):
        with pytest.raises(ValueError, match=r"no 'masks', only \['boxes', 'labels'\]"):
            transform(IMAGE, TARGET)


def test_collate_and_in_memory():
    assert collate([(1, "a"), (2, "b")]) == ((1, 2), ("a", "b"))
    with pytest.raises(ValueError):
        collate([(1, "a"), (2,)])
    with pytest.raises(IndexError):
        InMemory([(1, 2)])[1]

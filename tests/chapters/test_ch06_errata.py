"""Errata of chapter 6 that the chapter itself does not show."""

import numpy as np
import pytest
import torch

from booktools import chapter_code

OURS = chapter_code.definitions(
    "06_interpolation", "resize", "resize_matrix", "triangle", "nearest_image"
)


def as_noted(image, scale_factor):
    """A nearest-neighbor resize whose result has three channels, whatever comes in."""
    height, width = image.shape[:2]
    new_height, new_width = int(height * scale_factor), int(width * scale_factor)
    result = np.zeros((new_height, new_width, 3), image.dtype)
    for i in range(new_height):
        for j in range(new_width):
            row = min(round(i / scale_factor), height - 1)
            column = min(round(j / scale_factor), width - 1)
            result[i, j] = image[row, column]
    return result


def test_E_190():
    """An output of three channels turns gray into color and refuses four channels."""
    assert as_noted(np.zeros((2, 2), np.uint8), 2).shape == (4, 4, 3)
    with pytest.raises(ValueError):
        as_noted(np.zeros((2, 2, 4), np.uint8), 2)
    for shape in [(2, 2), (1, 2, 2), (3, 2, 2), (4, 2, 2), (5, 3, 2, 2)]:
        image = torch.zeros(shape)
        resized = OURS.resize(image, (4, 4), OURS.resize_matrix, OURS.triangle)
        assert resized.shape == (*shape[:-2], 4, 4)
        assert OURS.nearest_image(image, (4, 4)).shape == (*shape[:-2], 4, 4)

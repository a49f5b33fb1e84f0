"""Fixtures that several test modules share."""

import pytest
import torch


@pytest.fixture(scope="module")
def one_thread():
    """For tests with tiny tensors: more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

"""Inputs that the exercises of several chapters share: random tensors and boxes.

All are drawn on the CPU from a seeded generator, so that every machine has the same.
"""

import torch

__all__ = ["EMPTY", "some_boxes", "uniform"]

#: No boxes, (0, 4). Every case hands out a copy of its own.
EMPTY = torch.zeros(0, 4)


def uniform(
    *shape: int,
    seed: int = 0,
    low: float = -2.0,
    high: float = 2.0,
    dtype: torch.dtype = torch.float64,
) -> torch.Tensor:
    """Numbers drawn evenly from ``low`` to ``high``; ``shape`` may be empty."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(shape, generator=generator, dtype=torch.float64)
    return (drawn * (high - low) + low).to(dtype)


def some_boxes(
    n: int,
    seed: int,
    *,
    high: int = 20,
    smallest: int = 1,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Boxes with whole coordinates, so that IoU is the same however it is computed.

    Args:
        n: how many.
        seed: of the generator.
        high: corners lie in ``0 .. high - 1``; no side is as long as this.
        smallest: length of the shortest side allowed, in pixels.
        dtype: of the result.

    Returns:
        Boxes (n, 4), xyxy.
    """
    generator = torch.Generator().manual_seed(seed)
    corner = torch.randint(high, (n, 2), generator=generator)
    size = torch.randint(smallest, high, (n, 2), generator=generator)
    return torch.cat([corner, corner + size], dim=1).to(dtype)

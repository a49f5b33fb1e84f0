"""Pictures, laid out in rows."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch

__all__ = ["show_images"]


def as_array(values) -> np.ndarray:
    """A tensor (or what numpy takes) as an array; float32 for what numpy lacks."""
    if not isinstance(values, torch.Tensor):
        return np.asarray(values)
    values = values.detach().cpu().resolve_conj().resolve_neg()
    if values.dtype == torch.bfloat16 or "float8" in str(values.dtype):
        values = values.float()
    return values.numpy()


def _image(picture) -> np.ndarray:
    """One picture as an array that imshow takes: H x W or H x W x 3 (or 4)."""
    array = as_array(picture)
    shape = array.shape
    if isinstance(picture, torch.Tensor) and array.ndim == 3:
        if shape[0] not in (1, 3, 4):
            raise ValueError(f"a tensor picture is C x H x W, got shape {shape}")
        array = np.moveaxis(array, 0, -1)
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[-1] in (3, 4)):
        raise ValueError(f"not a picture: shape {shape}")
    if array.size == 0:
        raise ValueError(f"a picture has no pixels: shape {shape}")
    if array.dtype == bool:
        array = array.astype(np.uint8)
    if array.dtype.kind not in "uif":
        raise TypeError(f"not a picture: dtype {array.dtype}")
    return array


def show_images(
    pictures,
    titles: Sequence[str] | None = None,
    *,
    columns: int | None = None,
    cmap: str = "gray",
    vmin: float | None = None,
    vmax: float | None = None,
    width: float = 6.4,
):
    """Lay pictures out in rows, each with an optional title.

    Args:
        pictures: one picture, a sequence, or a batch (a tensor or array of four
            dimensions). A tensor is C x H x W or H x W; an array or PIL image is
            H x W or H x W x C. In color, integers run from 0 to 255 and floats from
            0 to 1.
        titles: one per picture.
        columns: pictures in a row; default: at most 4.
        cmap: color map of one-channel pictures.
        vmin, vmax: the value range of one-channel pictures; default: 0 to 255 for
            uint8, 0 to 1 for masks (booleans, or uint8 up to 1), the picture's own
            range otherwise.
        width: of the whole figure, in inches.

    Returns:
        ``(figure, axes)``, the axes as a flat list, one per picture.

    Raises:
        ValueError: no pictures, not one title each, or a shape that is no picture.
        TypeError: a dtype that is no picture.
    """
    if isinstance(pictures, (np.ndarray, torch.Tensor)):
        single = pictures.ndim < 4
    else:
        single = not isinstance(pictures, Sequence)
    if isinstance(titles, str):
        titles = [titles]
    arrays = [_image(p) for p in ([pictures] if single else pictures)]
    if not arrays:
        raise ValueError("show_images needs at least one picture, got none")
    if titles is not None and len(titles) != len(arrays):
        raise ValueError(f"{len(arrays)} pictures but {len(titles)} titles")
    if columns is not None and not (isinstance(columns, int) and columns >= 1):
        raise ValueError(f"columns must be an integer of at least 1, got {columns!r}")
    columns = min(columns or 4, len(arrays))
    rows = -(-len(arrays) // columns)
    tallest = max(a.shape[0] / a.shape[1] for a in arrays)
    tallest = min(max(tallest, 0.1), 3.0)  # a figure that fits a page, and is seen
    height = rows * (width / columns * tallest + (0.3 if titles else 0.05))
    figure, grid = plt.subplots(rows, columns, figsize=(width, height), squeeze=False)
    axes = list(grid.flat)
    for ax in axes:
        ax.set_axis_off()
    for i, (ax, array) in enumerate(zip(axes, arrays, strict=False)):
        low, high = vmin, vmax
        if array.ndim == 2 and array.dtype == np.uint8:
            top = 255 if array.max() > 1 else 1
            low, high = (0 if low is None else low), (top if high is None else high)
        ax.imshow(array, cmap=cmap, vmin=low, vmax=high)
        if titles is not None:
            ax.set_title(titles[i])
    return figure, axes[: len(arrays)]

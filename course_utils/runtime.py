"""Where a chapter runs and how it is made repeatable: device, set-up, seeds, profile.

Random numbers are always drawn on the CPU from a seeded generator and then moved
to :func:`device`, so that a CPU and a GPU start from the same values.
"""

import os
import random
import re
import warnings

import numpy as np
import torch

__all__ = ["device", "profile", "seed_everything", "setup"]

PROFILES = ("mini", "full")
STANDIN = "standin"


def device(name: str | None = None) -> torch.device:
    """Return the device that a chapter computes on.

    Args:
        name: a device to insist on, such as ``"cpu"``, ``"cuda"`` or ``"mps"``.
            Default: the environment variable ``COURSE_DEVICE``; if that is unset,
            CUDA where there is one, otherwise the CPU. MPS is used only on request,
            because it lacks float64. A fourth, ``"standin"``, is there in tests
            only: a CPU behind another name, which refuses what CUDA refuses.

    Returns:
        The device. CUDA comes without an index (``cuda``), the current GPU.

    Raises:
        TypeError: ``name`` is not a string.
        ValueError: ``name`` is unknown, or this machine has no such device.
    """
    said = "device"
    if name is None and os.environ.get("COURSE_DEVICE"):
        said, name = "COURSE_DEVICE", os.environ["COURSE_DEVICE"]
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not isinstance(name, str):
        raise TypeError(f"device must be a string, got {name!r}")
    if name == STANDIN and hasattr(torch, STANDIN):  # registered by booktools.standin
        return torch.device(STANDIN, 0)
    parts = re.fullmatch(r"(cpu|cuda|mps)(?::(\d+))?", name, re.ASCII)
    if not parts:
        raise ValueError(f"{said} must be 'cpu', 'cuda' or 'mps', got {name!r}")
    kind, index = parts[1], int(parts[2] or 0)
    count = {
        "cpu": 1,
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": 1 if torch.backends.mps.is_available() else 0,
    }[kind]
    if index >= count:
        raise ValueError(f"{said} is {name!r}, but {kind} devices here: {count}")
    return torch.device(name)


def profile() -> str:
    """Return the size at which chapters run: ``"mini"`` (default) or ``"full"``.

    It is read from the environment variable ``COURSE_PROFILE``. The stored outputs
    of the book are those of ``mini``; ``full`` takes real data and longer training.

    Raises:
        ValueError: the variable holds anything else.
    """
    name = os.environ.get("COURSE_PROFILE") or "mini"
    if name not in PROFILES:
        raise ValueError(f"COURSE_PROFILE must be 'mini' or 'full', got {name!r}")
    return name


def seed_everything(seed: int) -> torch.Generator:
    """Seed Python, NumPy and torch (all devices), and return a seeded generator.

    Args:
        seed: an integer from 0 to 2**32 - 1 (NumPy's range).

    Returns:
        A CPU generator with the same seed, for the calls that accept one. It is
        not the default generator, yet draws the same numbers as that one does.

    Raises:
        TypeError: ``seed`` is not an integer.
        ValueError: ``seed`` is out of range.
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise TypeError(f"seed must be an integer, got {seed!r}")
    seed = int(seed)
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must lie in 0 .. 2**32 - 1, got {seed}")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return torch.Generator("cpu").manual_seed(seed)


def setup() -> None:
    """Prepare a chapter: full float32 precision, repeatable choices, the book's style.

    GPUs may replace a float32 product by TF32, which keeps 10 of its 23 mantissa
    bits, and may pick a different algorithm from run to run. Both are switched off,
    so that a chapter gives the same numbers on a CPU and on a GPU to about 1e-6.
    Figures get the style of :func:`course_utils.viz.use_style`. Safe to call twice.

    Two warnings are switched off, by their text, for the rest of the process: tqdm's
    "IProgress not found", where a notebook has no widgets and the bar is plain text,
    and DataLoader's "This DataLoader will create 2 worker processes", on a machine
    with one core. All other warnings stay as they were.

    Raises:
        ValueError: ``COURSE_PROFILE`` is neither ``mini`` nor ``full``.
    """
    from course_utils import viz

    # Said by tqdm in notebooks without widgets, where its bar is plain text.
    warnings.filterwarnings("ignore", message="IProgress not found")
    # Said by DataLoader on a machine with one core. Chapters that show worker processes
    # start two, no more, and these work there, too.
    warnings.filterwarnings("ignore", message="This DataLoader will create 2 worker")
    profile()  # a misspelled COURSE_PROFILE is reported here, not in mid-chapter
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    viz.use_style()

"""The environment in which chapters run, the same for `make run` and for the tests."""

import os

__all__ = ["environment"]


def environment(threads: int | None = None) -> dict[str, str]:
    """Variables to set for a kernel.

    Args:
        threads: compute threads of the kernel; None leaves the choice to torch.
    """
    variables = {
        # Show every Python warning once per place, so that the tests can refuse it.
        "PYTHONWARNINGS": "default",
        "TQDM_DISABLE": "1",
        # Log lines of the kernel's own machinery are not part of a chapter.
        "JUPYTER_PLATFORM_DIRS": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        # A chapter's numbers must not depend on a reader's settings.
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "MATPLOTLIBRC": os.devnull,
    }
    if threads is not None and "OMP_NUM_THREADS" not in os.environ:
        variables["OMP_NUM_THREADS"] = variables["MKL_NUM_THREADS"] = str(threads)
    return variables

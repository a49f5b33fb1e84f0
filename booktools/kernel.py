"""The environment in which chapters run, the same for `make run` and for the tests."""

import contextlib
import os
from collections.abc import Iterator

from booktools import instruments
from booktools.notebook import ROOT

IPYTHON = ROOT / "_build" / "ipython"

__all__ = ["applied", "environment", "threads_per_worker"]


def environment(threads: int | None = None) -> dict[str, str]:
    """Variables to set for a kernel.

    Args:
        threads: compute threads of the kernel; None leaves the choice to torch. A
            number that the user has set is never changed.
    """
    variables = {
        # Show every Python warning once per place, so that the tests can refuse it.
        "PYTHONWARNINGS": "default",
        "TQDM_DISABLE": "1",
        "JUPYTER_PLATFORM_DIRS": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        # A chapter must not depend on a reader's settings: neither on the style of the
        # figures nor on the start-up files in the reader's own IPython folder.
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "MATPLOTLIBRC": os.devnull,
        "IPYTHONDIR": str(IPYTHON),
    }
    if threads is not None:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            variables[name] = os.environ.get(name, str(threads))
    return variables


@contextlib.contextmanager
def applied(threads: int | None = None) -> Iterator[None]:
    """Set the variables while a kernel starts, which inherits them; then undo it."""
    IPYTHON.mkdir(parents=True, exist_ok=True)
    before = dict(os.environ)
    # With this one set, ipykernel would not pass on what C code prints.
    os.environ.pop("PYTEST_CURRENT_TEST", None)
    os.environ.update(environment(threads))
    os.environ.update(instruments.environment())  # of test-noise and test-device
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def threads_per_worker(workers: int) -> int:
    """The cores this process may use, shared between so many kernels; at least 1."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        cores = os.cpu_count() or 1
    return max(1, cores // workers)

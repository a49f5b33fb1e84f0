"""The environment in which chapters run, the same for `make run` and for the tests."""

import contextlib
import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Iterator

from booktools import instruments
from booktools.notebook import ROOT

BUILD = ROOT / "_build"
IPYTHON = BUILD / "ipython"
# One folder for each version: the list of fonts is the version's own.
MATPLOTLIB = BUILD / f"matplotlib-{importlib.metadata.version('matplotlib')}"

# Seconds that one cell may take, under pytest, in `make run` and in the stand-in for
# Colab. Ten times the 120 reference seconds of the dearest chapter, times three for a
# machine as slow as that. A dead kernel is noticed at once, not after this time.
CELL_TIMEOUT = 3600

__all__ = [
    "CELL_TIMEOUT",
    "applied",
    "death",
    "environment",
    "prepare",
    "threads_per_worker",
]


def environment(threads: int | None = None) -> dict[str, str]:
    """Variables to set for a kernel.

    Args:
        threads: compute threads of the kernel; None leaves the choice to torch. A
            number that the user has set is never changed.
    """
    before = os.environ.get("PYTHONPATH", "")
    variables = {
        # This checkout's course_utils, also where another checkout's is installed.
        "PYTHONPATH": os.pathsep.join([str(ROOT), before] if before else [str(ROOT)]),
        # Show every Python warning once per place, so that the tests can refuse it.
        "PYTHONWARNINGS": "default",
        "TQDM_DISABLE": "1",
        "JUPYTER_PLATFORM_DIRS": "1",
        # "python3" is this environment's kernel, whatever a reader has installed.
        "JUPYTER_PREFER_ENV_PATH": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        # A chapter must not depend on a reader's settings: neither on the style of the
        # figures nor on the start-up files in the reader's own IPython folder.
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "MATPLOTLIBRC": os.devnull,
        "MPLCONFIGDIR": str(MATPLOTLIB),
        "IPYTHONDIR": str(IPYTHON),
    }
    if threads is not None:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            variables[name] = os.environ.get(name, str(threads))
    return variables


def prepare() -> None:
    """Make what kernels share: folders, and matplotlib's list of fonts, once.

    Without the list each kernel that starts before it is there would make it anew.
    """
    IPYTHON.mkdir(parents=True, exist_ok=True)
    MATPLOTLIB.mkdir(parents=True, exist_ok=True)
    if not any(MATPLOTLIB.glob("fontlist-*.json")):
        subprocess.run(
            [sys.executable, "-c", "import matplotlib.font_manager"],
            env={**os.environ, "MPLCONFIGDIR": str(MATPLOTLIB)},
            stderr=subprocess.DEVNULL,  # "building the font cache"
            check=True,
        )


@contextlib.contextmanager
def applied(threads: int | None = None) -> Iterator[None]:
    """Set the variables while a kernel starts, which inherits them; then undo it."""
    prepare()
    before = dict(os.environ)
    # With this one set, ipykernel would not pass on what C code prints.
    os.environ.pop("PYTEST_CURRENT_TEST", None)
    os.environ.pop("JUPYTER_PATH", None)  # it may hold another "python3"
    os.environ.update(environment(threads))
    os.environ.update(instruments.environment())  # of test-noise and test-device
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def death(process: subprocess.Popen | None) -> str:
    """How a kernel's process ended, in words; empty while it runs."""
    code = None if process is None else process.poll()
    if code is None:
        return ""
    killed = f", killed by signal {-code}" if code < 0 else ""
    return f"the kernel died (exit code {code}{killed})"


def threads_per_worker(workers: int) -> int:
    """The cores this process may use, shared between so many kernels; at least 1."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        cores = os.cpu_count() or 1
    return max(1, cores // workers)

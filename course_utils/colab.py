"""What a chapter needs on Google Colab: the few packages that are missing there."""

import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

__all__ = ["install_missing", "missing"]

# Never touched: replacing one of these under a running kernel breaks it.
KEEP = {"torch", "torchvision", "numpy"}
# Packages whose import name is not their own.
IMPORTS = {"pillow": "PIL"}


def missing(root: str | Path) -> list[str]:
    """The requirements of the course that cannot be imported here.

    Args:
        root: folder of the course; its ``pyproject.toml`` lists the requirements.

    Returns:
        Requirements such as ``"tensorboardX>=2.6"``; never torch, torchvision, numpy.

    Raises:
        FileNotFoundError: no ``pyproject.toml`` in ``root``.
    """
    project = tomllib.loads((Path(root) / "pyproject.toml").read_text())["project"]
    wanted = []
    for requirement in project["dependencies"]:
        name = re.match(r"[\w.-]+", requirement)[0]
        if name not in KEEP and find_spec(IMPORTS.get(name, name)) is None:
            wanted.append(requirement)
    return wanted


def install_missing(root: str | Path) -> list[str]:
    """Install what :func:`missing` reports, quietly, and return it.

    Raises:
        subprocess.CalledProcessError: pip failed; its own words are shown.
    """
    wanted = missing(root)
    if wanted:
        command = [sys.executable, "-m", "pip", "install", "--quiet", *wanted]
        subprocess.run(command, check=True)
    return wanted

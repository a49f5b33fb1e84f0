"""What a chapter needs of packages, and what of it is missing, as on Google Colab."""

import re
import subprocess
import sys
import tempfile
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["install_missing", "missing", "require"]

# Never touched: replacing one of these under a running kernel breaks it.
KEEP = ("torch", "torchvision", "numpy")


def missing(root: str | Path, extra: str | None = None) -> list[str]:
    """The requirements of the course that are not installed here, in any version.

    Args:
        root: folder of the course; its ``pyproject.toml`` lists the requirements.
        extra: an extra whose requirements are asked for besides, ``"shipping"``.

    Returns:
        Requirements such as ``"tensorboardX>=2.6"``; never torch, torchvision, numpy.

    Raises:
        FileNotFoundError: no ``pyproject.toml`` in ``root``.
        ValueError: that file is no TOML, or lists no requirements, or no such extra.
    """
    file = Path(root) / "pyproject.toml"
    project = tomllib.loads(file.read_text(encoding="utf-8")).get("project", {})
    if "dependencies" not in project:
        raise ValueError(f"{file} lists no requirements")
    wanted, extras = project["dependencies"], project.get("optional-dependencies", {})
    if extra is not None:
        if extra not in extras:
            raise ValueError(f"{file} has no extra {extra!r}, only {sorted(extras)}")
        wanted = [*wanted, *extras[extra]]
    return [
        requirement
        for requirement in wanted
        if _name(requirement) not in KEEP and _version(_name(requirement)) is None
    ]


def install_missing(root: str | Path, extra: str | None = None) -> list[str]:
    """Install what :func:`missing` reports, quietly, and return it.

    Torch, torchvision and numpy keep their versions: where a package asks for
    others, pip says so and nothing is installed.

    Raises:
        FileNotFoundError: no ``pyproject.toml`` in ``root``.
        ValueError: as from :func:`missing`.
        subprocess.CalledProcessError: pip failed; its own words are shown.
    """
    wanted = missing(root, extra)
    if wanted:
        pins = [f"{name}=={_version(name)}" for name in KEEP if _version(name)]
        with tempfile.TemporaryDirectory() as folder:
            constraints = Path(folder) / "constraints.txt"
            constraints.write_text("\n".join(pins), encoding="utf-8")
            pip = [sys.executable, "-m", "pip", "install", "--quiet"]
            command = [*pip, "--constraint", str(constraints), *wanted]
            subprocess.run(command, check=True)
    return wanted


def require(extra: str) -> None:
    """Say in one line what is missing of an extra, as the first thing in a chapter.

    Raises:
        ModuleNotFoundError: something is missing; names it, and the command.
        ValueError: as from :func:`missing`.
    """
    absent = [_name(wanted) for wanted in missing(Path(__file__).parents[1], extra)]
    if absent:
        raise ModuleNotFoundError(
            f"this chapter needs {', '.join(absent)}: install with "
            f'pip install ".[{extra}]" in the folder of the course'
        )


def _name(requirement: str) -> str:
    return re.match(r"[\w.-]*", requirement)[0].lower()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None

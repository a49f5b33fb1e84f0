"""colab: what is missing is found and installed, and nothing else."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from booktools import notebook
from course_utils import colab

ROOT = notebook.ROOT


def project(folder, *requirements) -> Path:
    lines = ", ".join(f'"{r}"' for r in requirements)
    text = f'[project]\nname = "été"\ndependencies = [{lines}]\n'
    (folder / "pyproject.toml").write_text(text, encoding="utf-8")
    return folder


def test_missing_by_hand(tmp_path):
    root = project(
        tmp_path,
        "Pillow>=10",  # installed, imported by another name
        "pytest-xdist",  # installed, a hyphen in its name
        "matplotlib>=9999",  # installed: never replaced, whatever the floor
        "torch>=9999",
        "no-such-package[extra]>=2.6; python_version>'3'",
    )
    wanted = ["no-such-package[extra]>=2.6; python_version>'3'"]
    assert colab.missing(root) == colab.missing(str(root)) == wanted


def test_torch_and_numpy_are_never_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(colab, "_version", lambda name: None)
    root = project(tmp_path, "torch>=2.11", "torchvision", "NumPy~=2.0", "pillow")
    assert colab.missing(root) == ["pillow"]


def test_nothing_is_missing_here_and_pip_is_not_called(monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: pytest.fail("pip called"))
    assert colab.install_missing(ROOT) == []


def test_no_requirements(tmp_path):
    assert colab.missing(project(tmp_path)) == []


def test_install_pins_what_must_stay(tmp_path, monkeypatch):
    calls = []

    def run(command, check):
        constraints = Path(command[command.index("--constraint") + 1])
        calls.append((command, check, constraints.read_text().split()))

    monkeypatch.setattr(subprocess, "run", run)
    root = project(tmp_path, "torch", "no-such-package>=1", "pillow")
    assert colab.install_missing(root) == ["no-such-package>=1"]
    [(command, check, pins)] = calls
    assert command[:4] == [sys.executable, "-m", "pip", "install"] and check
    assert command[-1] == "no-such-package>=1" and "pillow" not in command
    names = ("torch", "torchvision", "numpy")
    assert pins == [f"{name}=={version(name)}" for name in names]


def test_a_failing_pip_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(subprocess.CalledProcessError, match="no-such-package"):
        colab.install_missing(project(tmp_path, "no-such-package"))


def test_bad_projects(tmp_path):
    with pytest.raises(FileNotFoundError, match="pyproject.toml"):
        colab.missing(tmp_path)
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    with pytest.raises(ValueError, match="pyproject.toml lists no requirements"):
        colab.missing(tmp_path)
    (tmp_path / "pyproject.toml").write_text("not toml")
    with pytest.raises(ValueError):
        colab.missing(tmp_path)

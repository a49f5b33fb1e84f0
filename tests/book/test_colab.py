"""colab: what is missing is found and installed, and nothing else."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from booktools import notebook
from booktools.setup_cell import setup_cell
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


def with_extra(folder, *requirements):
    root = project(folder, "pillow")
    lines = ", ".join(f'"{r}"' for r in requirements)
    with open(root / "pyproject.toml", "a", encoding="utf-8") as file:
        file.write(f"[project.optional-dependencies]\nmore = [{lines}]\n")
    return root


def test_an_extra_is_asked_for_by_name(tmp_path):
    root = with_extra(tmp_path, "pytest", "no-such-package>=1")
    assert colab.missing(root) == []
    assert colab.missing(root, "more") == ["no-such-package>=1"]
    with pytest.raises(ValueError, match=r"no extra 'less', only \['more'\]"):
        colab.missing(root, "less")


def test_nothing_of_shipping_is_missing_here():
    assert colab.missing(ROOT, "shipping") == []
    assert colab.require("shipping") is None


def test_what_is_missing_is_said_in_one_line(monkeypatch):
    there = colab._version
    gone = {"onnx", "fastapi"}
    monkeypatch.setattr(colab, "_version", lambda n: None if n in gone else there(n))
    said = (
        r'^this chapter needs onnx, fastapi: install with pip install "\.\[shipping\]"'
    )
    with pytest.raises(ModuleNotFoundError, match=said) as error:
        colab.require("shipping")
    assert "\n" not in str(error.value)


def test_only_the_chapter_of_the_extra_installs_it():
    for name in [*(p.stem for p in notebook.CHAPTERS.glob("*.ipynb")), "", "NN"]:
        last = setup_cell("https://x.org/y", name).splitlines()[-1].strip()
        extra = ', "shipping"' if name == "32_shipping" else ""
        assert last == f"colab.install_missing(home{extra})", name

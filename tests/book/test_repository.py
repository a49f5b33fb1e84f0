"""`make repository`: one command writes the address, everywhere or nowhere."""

import shutil
from pathlib import Path

import pytest
import yaml

from booktools import notebook, repository
from booktools.setup_cell import setup_cell

URL = "https://github.com/ada/tensors"


@pytest.fixture
def course(tmp_path):
    """A copy of what the command touches."""
    shutil.copy(notebook.ROOT / "_config.yml", tmp_path)
    for folder in ("chapters", "template"):
        shutil.copytree(notebook.ROOT / folder, tmp_path / folder)
    return tmp_path


def setup_cells(root):
    for path in sorted(root.glob("*/*.ipynb")):
        for cell in notebook.read(path).cells:
            if "setup" in cell.metadata.get("tags", []):
                yield path.name, cell.source


def test_configuration_and_every_setup_cell_hold_one_address():
    """The address in _config.yml and in the chapters are the same, now."""
    cells = list(setup_cells(notebook.ROOT))
    assert len(cells) == len(list(notebook.ROOT.glob("chapters/*.ipynb"))) + 1
    for name, source in cells:
        assert source == setup_cell(repository.address(), Path(name).stem), name


def test_set_and_unset(course):
    before = {p: p.read_bytes() for p in course.rglob("*") if p.is_file()}
    changed = repository.set_address(URL + "/", course)
    assert set(changed) == set(before)
    assert repository.address(course) == URL
    for name, source in setup_cells(course):
        assert source == setup_cell(URL, Path(name).stem), name
    assert f'REPOSITORY = "{URL}"' in setup_cell(URL)
    config = yaml.safe_load((course / "_config.yml").read_text())
    assert config["launch_buttons"]["colab_url"] == repository.COLAB
    assert config["html"]["use_edit_page_button"] is True
    assert repository.set_address(URL, course) == []  # nothing left to change
    repository.set_address("", course)
    assert {p: p.read_bytes() for p in before} == before


def test_outputs_and_counts_survive(course):
    before = notebook.read(course / "chapters" / "03_tensors.ipynb")
    repository.set_address(URL, course)
    after = notebook.read(course / "chapters" / "03_tensors.ipynb")
    for a, b in zip(before.cells, after.cells, strict=True):
        if a.cell_type == "code":
            assert (a.outputs, a.execution_count) == (b.outputs, b.execution_count)


def test_a_host_other_than_github_gets_no_colab_button(course):
    repository.set_address("https://gitlab.com/ada/tensors", course)
    config = yaml.safe_load((course / "_config.yml").read_text())
    assert config["launch_buttons"]["colab_url"] == ""
    assert config["html"]["use_edit_page_button"] is True


@pytest.mark.parametrize(
    "typed",
    [
        "https://www.github.com/ada/tensors",
        "HTTPS://GitHub.com/ada/tensors.git",
        "https://WWW.GITHUB.COM/ada/tensors/",
    ],
)
def test_github_in_any_spelling_gets_its_colab_button(course, typed):
    repository.set_address(typed, course)
    assert repository.address(course) == URL
    config = yaml.safe_load((course / "_config.yml").read_text())
    assert config["launch_buttons"]["colab_url"] == repository.COLAB


def test_owner_and_name_keep_their_case():
    assert repository.checked("https://github.com/Ada/TensorS").endswith("/Ada/TensorS")


@pytest.mark.parametrize(
    "url",
    ["github.com/ada/tensors", "https://github.com/ada", "https://x.y/a b/c", 'h"x'],
)
def test_a_wrong_address_changes_nothing(course, url):
    before = {p: p.read_bytes() for p in course.rglob("*") if p.is_file()}
    with pytest.raises(ValueError, match="must look like"):
        repository.set_address(url, course)
    assert {p: p.read_bytes() for p in before} == before


def test_a_corrupt_chapter_stops_before_anything_is_written(course):
    (course / "chapters" / "99_broken.ipynb").write_text("{")
    before = {p: p.read_bytes() for p in course.rglob("*") if p.is_file()}
    with pytest.raises(ValueError, match="99_broken.ipynb: not a notebook"):
        repository.set_address(URL, course)
    assert {p: p.read_bytes() for p in before} == before


def test_command_line(capsys):
    assert repository.main(["nonsense"]) == 1
    assert "must look like" in capsys.readouterr().err
    assert repository.main([]) == 2

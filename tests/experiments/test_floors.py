"""The command that trains over seeds: what it asserts, and when it skips."""

import json

import pytest

from experiments import floors

GOOD = {"bbox/AP": 0.62, "bbox/AP50": 0.95, "segm/AP": 0.5}
NAN = dict.fromkeys(GOOD, float("nan"))
LIMITS = floors.FLOORS["real"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A stand-in for the photographs, and trainings that end as the test says."""
    (tmp_path / "PennFudanPed").mkdir()
    monkeypatch.setenv("COURSE_REAL_DATA", str(tmp_path))
    monkeypatch.setattr(floors, "REAL_FILE", tmp_path / "penn_fudan.json")
    return tmp_path


@pytest.fixture
def trained(monkeypatch):
    results, seeds = dict(GOOD), []

    def fine_tune(recipe, root, seed):
        seeds.append(seed)
        return None, [{"step": recipe.steps, "seconds": 1.0, **results}]

    monkeypatch.setattr(floors, "fine_tune", fine_tune)
    return results, seeds


def test_problems():
    assert floors.problems(GOOD, LIMITS, GOOD) == []
    assert floors.problems(GOOD, LIMITS, None) == []
    low = GOOD | {"segm/AP": 0.43}
    assert floors.problems(low, LIMITS, None) == ["segm/AP is 0.430, the floor is 0.44"]
    far = floors.problems(GOOD, LIMITS, GOOD | {"bbox/AP": 0.68})
    assert len(far) == 1 and "0.620" in far[0] and "0.680" in far[0]
    assert len(floors.problems(NAN, LIMITS, GOOD)) == 6


@pytest.mark.parametrize("value", [None, "/nowhere"])
def test_skips_in_one_line(monkeypatch, capsys, value):
    if value:
        monkeypatch.setenv("COURSE_REAL_DATA", value)
    else:
        monkeypatch.delenv("COURSE_REAL_DATA", raising=False)
    assert floors.main(["real"]) == 0
    line = capsys.readouterr().out
    assert line.startswith("SKIPPED") and line.count("\n") == 1
    assert (value or "COURSE_REAL_DATA is not set") in line


def test_update_writes_and_the_next_run_compares(folder, trained, capsys):
    results, seeds = trained
    with pytest.raises(FileNotFoundError, match=r"penn_fudan\.json"):
        floors.main(["real"])
    assert seeds == []
    assert floors.main(["real", "--update"]) == 0 and seeds == [0, 1, 2]
    stored = json.loads(floors.REAL_FILE.read_text())
    assert stored["mean"] == GOOD and len(stored["runs"]) == 3
    before = floors.REAL_FILE.read_bytes()
    assert floors.main(["real", "--seeds", "1"]) == 0
    results["bbox/AP"] = 0.69
    assert floors.main(["real", "--seeds", "1"]) == 1
    assert "more than 0.05 from" in capsys.readouterr().out
    assert floors.REAL_FILE.read_bytes() == before


def test_a_missed_floor_is_not_stored(folder, trained, capsys):
    results, _ = trained
    results["bbox/AP50"] = 0.9
    assert floors.main(["real", "--update"]) == 1
    assert "the floor is 0.93" in capsys.readouterr().out
    assert not floors.REAL_FILE.exists()


def test_the_file_is_of_three_seeds(folder, trained):
    with pytest.raises(SystemExit):
        floors.main(["real", "--update", "--seeds", "1"])
    with pytest.raises(SystemExit):
        floors.main(["real", "--seeds", "0"])


def test_bundled_scenes_are_compared_with_the_experiments(
    tmp_path, monkeypatch, trained, capsys
):
    results, seeds = trained
    file = tmp_path / "fine_tuning.json"
    monkeypatch.setattr(floors.starts, "FILE", file)
    with pytest.raises(FileNotFoundError):
        floors.main(["bundled"])
    run = {"start": "shapes", "images": 120, "curve": [GOOD]}
    other = run | {"images": 8, "curve": [NAN]}
    file.write_text(json.dumps({"rates": {"shapes": 1e-3}, "runs": [run, other]}))
    assert floors.main(["bundled"]) == 0 and seeds == [0, 1, 2]
    floor = floors.FLOORS["bundled"]["segm/AP"]
    results["segm/AP"] = floor - 0.01
    assert floors.main(["bundled"]) == 1
    assert f"the floor is {floor}" in capsys.readouterr().out
    run["curve"] = [GOOD | {"segm/AP": floor}]
    file.write_text(json.dumps({"rates": {"shapes": 1e-3}, "runs": [run]}))
    assert floors.main(["bundled", "--seeds", "1"]) == 0  # one seed scatters
    results["segm/AP"] = floor - 0.03
    assert floors.main(["bundled", "--seeds", "1"]) == 1
    with pytest.raises(SystemExit):
        floors.main(["bundled", "--update"])

"""Pictures to classify are drawn again, pixel by pixel, and bad orders are refused."""

import numpy as np
import pytest
from PIL import Image

from course_utils.datasets.objects import FOLDER
from experiments import objects


@pytest.mark.parametrize("split", ["train", "val"])
def test_pictures_are_drawn_again(split):
    for name, number in (("balloon", 0), ("giraffe", 17), ("umbrella", 29)):
        stored = np.asarray(Image.open(FOLDER / split / name / f"{number:03d}.png"))
        drawn = objects.draw(split, name, number)
        assert objects.same(drawn, stored) and drawn.dtype == np.uint8


@pytest.mark.parametrize(
    ("order", "said"),
    [
        (("test", "dog", 0), "split must be one of"),
        (("val", "cat", 0), "name must be one of .*, got 'cat'"),
        (("val", "dog", -1), "number must not be negative, got -1"),
    ],
)
def test_bad_orders_are_refused(order, said):
    with pytest.raises(ValueError, match=said):
        objects.draw(*order)


def test_two_pictures_are_not_the_same():
    one, other = (objects.draw("val", "dog", number) for number in (0, 1))
    assert objects.same(one, one) and not objects.same(one, other)
    nudged = one.copy()
    nudged[:4, :10] ^= 8  # one pixel in a hundred
    assert objects.same(one, nudged)
    nudged[5:9, :10] ^= 8
    assert not objects.same(one, nudged) and not objects.same(one, one[:32])


def test_a_folder_is_checked(tmp_path, monkeypatch, capsys):
    """Only two small classes, so that it takes a second."""
    monkeypatch.setattr(objects, "SPLITS", {"train": 2, "val": 1})
    monkeypatch.setattr(objects, "CLASSES", ("balloon", "dog"))
    assert objects.main(["--out", str(tmp_path)]) == 0
    files = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.png"))
    assert len(files) == 6 and "val/dog/000.png" in files
    lines = (tmp_path / "SHA256SUMS").read_text().splitlines()
    assert [line.split("  ")[1] for line in lines] == files
    assert objects.main(["--check", str(tmp_path)]) == 0
    Image.new("RGB", (64, 64)).save(tmp_path / "val" / "dog" / "000.png")
    (tmp_path / "train" / "dog" / "001.png").unlink()
    assert objects.main(["--check", str(tmp_path)]) == 1
    assert "2 pictures differ" in capsys.readouterr().out

"""Files as people have them: found, read, mended or refused, as the table says."""

import os
import pickle
import threading
import time
from pathlib import Path

import found_files
import pytest
from found_files import VARIANTS, coco, matches, run, voc, yolo

from course_utils import files, formats
from course_utils.files import Report, find_files, read_lines, read_text
from course_utils.formats import Category, Dataset, Image, Object

MENDED = [name for name, variant in VARIANTS.items() if variant.mended]


def in_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "given"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant(tmp_path, name):
    variant = VARIANTS[name]
    found = run(variant, in_folder(tmp_path))
    assert matches(variant.after, found), found


@pytest.mark.parametrize("name", MENDED)
def test_a_variant_mended(tmp_path, name):
    variant = VARIANTS[name]
    found = run(variant, in_folder(tmp_path), mend=True)
    assert matches(variant.mended, found), found


def test_what_came_before_was_another():
    assert len(VARIANTS) >= 60
    for name, variant in VARIANTS.items():
        assert variant.before, name
        assert not matches(variant.after, variant.before), name


def test_the_pattern_of_the_table():
    assert matches("a...c...", "abbbcd") and matches("abc", "abc")
    assert matches("a...", "a") and matches("...c", "abc")
    assert not matches("ab", "abc") and not matches("a...c", "abcd")
    assert not matches("a...x...", "abc") and not matches("b...", "abc")


# ------------------------------------------------------------------ what is offered


@pytest.mark.parametrize("name", MENDED)
def test_the_error_offers_what_mends(name):
    variant = VARIANTS[name]
    assert variant.after.startswith("ValueError: ")
    mends = not variant.mended.startswith("ValueError")
    if mends and "duplicate class name 'cup'..." not in variant.after:
        assert "(with mend=True: " in variant.after


BEYOND = {
    "two classes of one name, both with objects": (
        "coco",
        {
            "a.json": coco(
                categories=found_files.TWINS,
                document={
                    "annotations": [
                        {"id": i, "image_id": 1, "category_id": i, "bbox": [3, 4, 5, 6]}
                        for i in (0, 1)
                    ]
                },
            )
        },
        "duplicate class name 'cup'",
    ),
    "a polygon of an odd number": (
        "coco",
        {"a.json": coco(segmentation=[[1, 2, 3, 4, 5, 6, 7]])},
        "a polygon needs 6, 8, 10, ... numbers, got 7",
    ),
    "half an id": (
        "coco",
        {"a.json": coco(category_id=1.5)},
        "category_id must be an integer, got 1.5",
    ),
    "half a class": ("yolo", yolo(a="0.5 .5 .5 .2 .2"), "must be an integer and four"),
    "a class too many": ("yolo", yolo(a="1 .5 .5 .2 .2"), "unknown class 1"),
    "no names at all": ("yolo", yolo(names=None), "neither data.yaml nor classes.txt"),
    "a drive": ("voc", {"a.xml": voc(file="C:\\a.jpg")}, "not a file name below"),
}


@pytest.mark.parametrize("case", BEYOND)
def test_what_is_ambiguous_is_not_mended(tmp_path, case):
    reader, given, message = BEYOND[case]
    found_files.build(tmp_path, given)
    path = tmp_path / "a.json" if reader == "coco" else tmp_path
    for mend in (False, True):
        with pytest.raises((ValueError, FileNotFoundError)) as error:
            formats.read(reader, path, mend=mend)
        assert message in str(error.value)
        assert "mend=True" not in str(error.value)


def test_mend_is_yes_or_no(tmp_path):
    for read in (formats.read_voc, formats.read_coco, formats.read_yolo):
        with pytest.raises(TypeError, match="mend must be True or False, got 'polyg"):
            read(tmp_path, mend="polygons")


def test_what_is_mended_is_written_whole(tmp_path):
    """A mended data set has nothing that a writer refuses."""
    square = [3, 4, 23, 4, 23, 34, 3, 34]
    document = coco(
        {"file_name": " b\\a.jpg"},
        categories=found_files.TWINS,
        segmentation=[[], square, [1, 2]],
    )
    (tmp_path / "a.json").write_text(document)
    data = formats.read("coco", tmp_path / "a.json", mend=True)
    assert data.images[0].file_name == "b/a.jpg"
    assert data.images[0].objects[0].segmentation == [square]
    where = f"{tmp_path / 'a.json'}: annotations[0] (id 1): segmentation"
    assert data.report.mended["left out"][1:] == [where, where]
    formats.write(data, "coco", tmp_path / "b.json")
    again = formats.read("coco", tmp_path / "b.json")
    assert again == data and not again.report


def test_reading_changes_nothing(tmp_path):
    found_files.build(tmp_path, VARIANTS["yolo: classes.txt beside the labels"].files)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    formats.read("yolo", tmp_path, mend=True)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


# ------------------------------------------------------------------ the report


def test_a_report_counts_and_quotes_the_first():
    report = Report()
    assert not report
    assert str(report) == "nothing skipped, missing or mended"
    report.add("skipped", "hidden", Path("a/.b"))
    report.add("skipped", "hidden", "a/.c")
    report.add("mended", "trimmed", "a.xml: name")
    assert report and report == pickle.loads(pickle.dumps(report))
    assert str(report) == (
        "skipped: 2 hidden (the first: a/.b)\n"
        "mended: 1 trimmed (the first: a.xml: name)"
    )


def test_the_report_is_of_the_data_set_and_not_part_of_it(tmp_path):
    found_files.build(tmp_path, yolo({"images/b.jpg": found_files.GRAY}))
    data = formats.read("yolo", tmp_path)
    assert data.report.missing == {"images without labels": ["b.jpg"]}
    same = Dataset(data.categories, data.images, data.extra)
    assert data == same and "report" not in repr(data)


def test_images_and_labels_in_one_folder_are_no_strangers(tmp_path):
    given = {"a.jpg": found_files.GRAY, "a.txt": found_files.LABEL, "b.md": "x"}
    found_files.build(tmp_path, given | {"classes.txt": "cup\n"})
    data = formats.read("yolo", tmp_path, images=tmp_path)
    assert data.report.skipped == {"of another suffix": [str(tmp_path / "b.md")]}


# ------------------------------------------------------------------ finding and text


def test_found_files_are_sorted_by_the_parts_of_their_names(tmp_path):
    names = ["b.txt", "a/z.txt", "a b.txt", "a/b/c.TXT", "a-b.txt"]
    found_files.build(tmp_path, dict.fromkeys(names, ""))
    found = find_files(tmp_path, (".txt",))
    assert list(found) == sorted(names, key=lambda name: name.split("/"))
    assert found["a/b/c.TXT"] == tmp_path / "a/b/c.TXT"


def test_a_hidden_folder_may_be_named(tmp_path):
    found_files.build(tmp_path, {".cache/a.txt": ""})
    assert list(find_files(tmp_path / ".cache", (".txt",))) == ["a.txt"]
    with pytest.raises(FileNotFoundError, match="none: no such folder"):
        find_files(tmp_path / "none", (".txt",))


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-be", "utf-32-be"]
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_text_in_every_encoding_with_a_mark(tmp_path, encoding, end):
    text = "\ufeff" * encoding.endswith("-be") + end.join(["猫\u2028a", "", "b", ""])
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    assert read_text(tmp_path / "a.txt") == "猫\u2028a\n\nb\n"
    assert read_lines(tmp_path / "a.txt") == ["猫\u2028a", "", "b"]


@pytest.mark.parametrize(
    "text, lines", [("", []), ("\n", [""]), ("a", ["a"]), ("a\n\n", ["a", ""])]
)
def test_lines_of_little(tmp_path, text, lines):
    (tmp_path / "a.txt").write_text(text)
    assert read_lines(tmp_path / "a.txt") == lines


# ------------------------------------------------------------------ crowds


def crowded() -> Dataset:
    box = (1.0, 2.0, 30.0, 40.0)
    things = [Object("cup", box, crowd=flag) for flag in (None, True, False)]
    return Dataset([Category("cup")], [Image("a.jpg", 64, 48, things)])


@pytest.mark.parametrize("format", ["voc", "yolo"])
def test_a_crowd_is_never_written_as_an_object(tmp_path, format):
    with pytest.raises(ValueError, match="'object.crowd' leaves out 1 of 3 objects"):
        formats.write(crowded(), format, tmp_path / "a")
    data = crowded()
    drop = [name for name in formats.LOSSES[format] if name != "object.crowd"]
    with pytest.raises(ValueError, match="cannot hold object.crowd"):
        formats.write(data, format, tmp_path / "a", drop=drop)
    assert not list(tmp_path.iterdir())
    formats.write(data, format, tmp_path / "a", drop=formats.LOSSES[format])
    options = {"images": {"a.jpg": (64, 48)}} if format == "yolo" else {}
    again = formats.read(format, tmp_path / "a", **options)
    assert len(again.images[0].objects) == 2
    assert data == crowded()  # and ours keeps them


@pytest.mark.parametrize("format", ["voc", "yolo"])
def test_other_flags_go_and_their_objects_stay(tmp_path, format):
    """A difficult object is an object; without the flag its box is still true."""
    data = crowded()
    for thing in data.images[0].objects:
        thing.crowd, thing.area = None, 9.0
        if format == "yolo":
            thing.difficult = thing.truncated = thing.occluded = True
    formats.write(data, format, tmp_path / "a", drop=formats.LOSSES[format])
    options = {"images": {"a.jpg": (64, 48)}} if format == "yolo" else {}
    again = formats.read(format, tmp_path / "a", **options)
    assert len(again.images[0].objects) == 3


# ------------------------------------------------------------------ names, written

NAMES = {
    "a drive": "C:\\a.jpg",
    "a drive without a folder": "C:a.jpg",
    "a root of Windows": "\\a.jpg",
    "a folder above, in Windows": "b\\..\\..\\a.jpg",
    "a backslash": "b\\a.jpg",
    "space at the end": "a.jpg ",
    "a folder": "b/",
    "a zero byte": "a\0.jpg",
    "half a character": "\udc80.jpg",
    "no text": None,
}


@pytest.mark.parametrize("format", ["voc", "coco", "yolo"])
@pytest.mark.parametrize("case", NAMES)
def test_a_name_that_another_system_reads_otherwise_is_not_written(
    tmp_path, format, case
):
    data = Dataset([], [Image(NAMES[case], 64, 48)])
    with pytest.raises(ValueError, match="file name"):
        formats.write(data, format, tmp_path / "a")
    for name in (" cup", "cup\n", "\ud83d"):
        data = Dataset([Category(name)], [Image("a.jpg", 64, 48)])
        with pytest.raises(ValueError, match="class name .*(space|half a char)"):
            formats.write(data, format, tmp_path / "a", drop=formats.LOSSES[format])
    assert not list(tmp_path.iterdir())


def test_half_a_character_in_an_entry_of_coco_comes_back(tmp_path):
    data = Dataset([], [], extra={"coco": {"note": "\ud83d"}})
    formats.write(data, "coco", tmp_path / "a.json")
    assert formats.read("coco", tmp_path / "a.json") == data


# ------------------------------------------------------------------ where it is written


def one() -> Dataset:
    thing = Object("cup", (1, 2, 30, 40))
    return Dataset([Category("cup")], [Image("a.jpg", 64, 48, [thing])])


def places(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


WRITTEN = {"voc": ["a.xml"], "yolo": ["data.yaml", "labels", "labels/a.txt"]}


@pytest.mark.parametrize("format", WRITTEN)
@pytest.mark.parametrize("kind", ["empty", "link", "here", "here, named", "hidden"])
def test_a_folder_that_exists_is_filled_and_stays(tmp_path, monkeypatch, format, kind):
    real = tmp_path / "real"
    real.mkdir()
    inode, target = real.stat().st_ino, real
    if kind == "link":
        target = tmp_path / "link"
        target.symlink_to(real)
    elif kind.startswith("here"):
        monkeypatch.chdir(real)
        target = Path(".") if kind == "here" else real
    elif kind == "hidden":
        (real / ".DS_Store").write_bytes(b"")
        (real / "lost+found").mkdir()
    formats.write(one(), format, str(target))
    there = [p for p in places(real) if p not in (".DS_Store", "lost+found")]
    assert there == WRITTEN[format]
    assert real.stat().st_ino == inode  # no other folder of the same name
    if kind == "link":
        assert target.is_symlink()
    if kind.startswith("here"):
        assert sorted(os.listdir(".")) == sorted({p.split("/")[0] for p in there})


def test_a_folder_is_filled_without_leaving_its_disk(tmp_path, monkeypatch):
    """The root of a disk: what is beside it is on another one, and stays."""
    real = tmp_path / "disk"
    real.mkdir()
    rename = Path.rename

    def on_one_disk(self, goal):
        assert self.is_relative_to(real), f"{self} is on another disk"
        return rename(self, goal)

    monkeypatch.setattr(Path, "rename", on_one_disk)
    formats.write(one(), "yolo", real)
    assert places(real) == WRITTEN["yolo"]


def test_what_is_not_empty_is_refused_and_named(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="or empty folder: there is b.txt"):
        formats.write(one(), "voc", tmp_path / "a")
    with pytest.raises(FileExistsError, match="b.txt: .*: not a folder"):
        formats.write(one(), "voc", tmp_path / "a/b.txt")
    (tmp_path / "gone").symlink_to(tmp_path / "nothing")
    with pytest.raises(FileExistsError, match="gone: .*: a link to nothing"):
        formats.write(one(), "voc", tmp_path / "gone")
    with pytest.raises(IsADirectoryError, match="a: a folder, where a file is to be"):
        formats.write(one(), "coco", tmp_path / "a")
    assert places(tmp_path) == ["a", "a/b.txt", "gone"]


@pytest.mark.parametrize("format", ["voc", "coco", "yolo"])
@pytest.mark.parametrize("new", [True, False])
def test_an_unwritable_folder_is_named_before_anything_is_lost(
    tmp_path, monkeypatch, format, new
):
    """As root, no mode keeps one from writing: the system's answer is played."""
    place = tmp_path / "place"
    place.mkdir()
    target = place / "a.json" if format == "coco" else place / "a"
    if format == "coco" and not new:
        target.write_text("old")
    elif not new:
        target.mkdir()
    before = places(tmp_path)

    def refuse(self, *args, **options):
        if self.name.endswith(".part"):
            raise PermissionError(13, "Permission denied", str(self))
        raise AssertionError("nothing else is touched")

    monkeypatch.setattr(Path, "mkdir" if format != "coco" else "touch", refuse)
    if format != "coco":
        monkeypatch.setattr(
            Path, "mkdir", lambda self, *a, **o: None if o else refuse(self)
        )
    folder = place if new or format == "coco" else target
    with pytest.raises(PermissionError) as error:
        formats.write(one(), format, target)
    assert str(error.value) == (
        "[Errno 13] cannot write to this folder: Permission denied: "
        + repr(str(folder))
    )
    assert places(tmp_path) == before


def test_a_failure_while_moving_takes_everything_back(tmp_path, monkeypatch):
    real = tmp_path / "real"
    real.mkdir()
    rename = Path.rename

    def fail_late(self, goal):
        if self.name == "labels":
            raise OSError("the disk is gone")
        return rename(self, goal)

    monkeypatch.setattr(Path, "rename", fail_late)
    with pytest.raises(OSError, match="the disk is gone"):
        formats.write(one(), "yolo", real)
    assert places(tmp_path) == ["real"]


def test_two_names_that_are_one_on_this_disk(tmp_path, monkeypatch):
    """macOS and Windows take A.xml for a.xml: played by lower case everywhere."""
    data = one()
    data.images.append(Image("A.jpg", 64, 48))
    joined = Path.__truediv__
    monkeypatch.setattr(
        Path, "__truediv__", lambda self, name: joined(self, str(name).lower())
    )
    with pytest.raises(ValueError, match="this disk takes '[Aa].xml' for another"):
        formats.write(data, "voc", tmp_path / "a")
    assert places(tmp_path) == []


# ------------------------------------------------------------------ one file


def test_parts_of_two_writers_do_not_meet(tmp_path):
    target, seen = tmp_path / "a.json", []
    with files.replacing(target) as one_part:
        one_part.write_text("one")
        with files.replacing(target) as other:
            other.write_text("other")
            assert other != one_part
        seen.append(target.read_text())
    assert seen == ["other"] and target.read_text() == "one"
    assert places(tmp_path) == ["a.json"]


def test_many_threads_write_one_file(tmp_path):
    target, failures = tmp_path / "a.txt", []

    def write(i):
        try:
            for _ in range(20):
                files.write_file(target, str(i) * 10_000)
                assert len(set(read_text(target))) == 1
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and places(tmp_path) == ["a.txt"]


def test_what_a_kill_left_is_removed_a_day_later(tmp_path):
    now = time.time()
    for name, age in {
        ".a[1].json.7-0123.part": 2 * files.DAY,
        ".a[1].json.8-0123.part": 60,
        ".b.json.7-0123.part": 2 * files.DAY,
    }.items():
        (tmp_path / name).write_text("x")
        os.utime(tmp_path / name, (now - age, now - age))
    files.write_file(tmp_path / "a[1].json", "new")
    assert places(tmp_path) == [
        ".a[1].json.8-0123.part",
        ".b.json.7-0123.part",
        "a[1].json",
    ]


def test_a_link_to_a_file_stays(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk/a.json").write_text("old")
    (tmp_path / "a.json").symlink_to("disk/a.json")
    files.write_file(tmp_path / "a.json", "new")
    assert (tmp_path / "a.json").is_symlink()
    assert places(tmp_path) == ["a.json", "disk", "disk/a.json"]
    assert (tmp_path / "disk/a.json").read_text() == "new"

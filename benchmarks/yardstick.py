"""How fast this machine is: one number, and the three parts it is made of.

    python -m benchmarks.yardstick

Three fixed pieces of work on one thread: a convolution forward and backward, a loop of
the interpreter, the decoding of a photograph-sized JPEG. What counts is CPU time, the
least of several tries, so that other work on the machine matters little. A *factor* of
1.00 is the reference machine's speed, 0.50 half of it. Seconds measured here times the
factor are *reference seconds*; every budget of this book is in them.

How the reference was fixed. The reference machine is the one that made the files in
``data/results``: there the first 30 steps of the three runs "shapes" with all images
took 27.0 to 29.0 CPU-seconds on one thread (``cpu_seconds`` in ``fine_tuning.json``),
27.9 on average. The yardstick did not exist then and never ran there. The same 30 steps
were timed on another machine with two AVX2 cores, and took 74.7 CPU-seconds: 2.68 times
as long. There the three parts took 0.0690, 0.0716 and 0.0722 CPU-seconds;
:data:`REFERENCE` holds these figures divided by 2.68. So one ratio, that of a training
step, stands for all three parts; how the reference machine divides the time among them
is not known. Only the ratio of two machines means something.
"""

import io
import math
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

__all__ = ["REFERENCE", "factor", "main", "measure"]

# CPU-seconds of each part on the reference machine.
REFERENCE = {"convolution": 0.0257, "interpreter": 0.0267, "decoding": 0.0269}
TRIES = 8


def _convolution() -> Callable[[], object]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(4, 32, 96, 96, generator=generator).requires_grad_()
    weight = torch.rand(64, 32, 3, 3, generator=generator).requires_grad_()

    def work():
        F.conv2d(images, weight, padding=1).relu().sum().backward()

    return work


def _interpreter() -> Callable[[], object]:
    def work():
        counts: dict[int, int] = {}
        total = 0.0
        for i in range(400_000):
            key = i * i % 97
            counts[key] = counts.get(key, 0) + 1
            total += math.sqrt(key) if key > 50 else 0.5
        return total, counts

    return work


def _decoding() -> Callable[[], object]:
    y, x = np.mgrid[:600, :800].astype(np.float64)
    waves = np.stack([np.sin(x / 9), np.cos(y / 7), np.sin((x + y) / 5)], axis=-1)
    noise = np.random.default_rng(0).normal(size=waves.shape) / 8
    pixels = ((waves + noise).clip(-1, 1) * 127 + 128).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)

    def work():
        for _ in range(16):
            np.asarray(Image.open(io.BytesIO(file.getvalue())).convert("L"))

    return work


PARTS = {
    "convolution": _convolution,
    "interpreter": _interpreter,
    "decoding": _decoding,
}


def measure(tries: int = TRIES) -> dict[str, float]:
    """CPU-seconds of each part on this machine, on one thread: the least of ``tries``.

    Takes about two seconds. The number of torch's threads is the same afterwards.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    works = {name: make() for name, make in PARTS.items()}
    best = dict.fromkeys(works, math.inf)
    try:
        for _ in range(tries):  # in turns: a slow moment does not hit one part alone
            for name, work in works.items():
                start = time.process_time()
                work()
                best[name] = min(best[name], time.process_time() - start)
    finally:
        torch.set_num_threads(threads)
    return best


def factor(seconds: dict[str, float]) -> float:
    """The speed of a machine that took so long, in units of the reference machine.

    Raises:
        ValueError: a part is missing, unknown, or took no time.
    """
    if seconds.keys() != REFERENCE.keys() or min(seconds.values()) <= 0:
        raise ValueError(f"positive seconds of {list(REFERENCE)} expected: {seconds}")
    return sum(REFERENCE.values()) / sum(seconds.values())


def describe(seconds: dict[str, float]) -> str:
    """One line: the factor, and each part's own."""
    parts = ", ".join(f"{k} {REFERENCE[k] / v:.2f}" for k, v in seconds.items())
    return f"yardstick: {factor(seconds):.2f} of the reference's speed ({parts})"


def main() -> None:
    print(describe(measure()))


if __name__ == "__main__":
    main()

"""How long two processes take for an all-reduce and for a training step (chapter 31).

python -m experiments.scaling

Two processes on this machine's CPU, one thread each, exchange by gloo. Of each number
of bytes the fastest of many all-reduces counts, for what else the machine does can only
add to it. Two numbers are fitted, latency and bandwidth; with them and the time of a
step without exchange, the time of a step with one is predicted, and measured.
"""

import math
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from course_utils import workers
from experiments.stored import options, reference_speed, significant, store

__all__ = ["fit", "main", "measure"]

SIZES = [4 * 4**k for k in range(1, 11)]  # bytes: 16 to 4.2 million
WIDTHS = (256, 512, 1024)  # of the networks whose steps are measured
BOUND = 3.0  # by which factor the model may miss an all-reduce


def fit(sizes: Sequence[int], seconds: Sequence[float]) -> tuple[float, float]:
    """The latency and the bandwidth of a ring of two processes.

    The model is ``2 * latency + bytes / bandwidth``; what is least is the largest
    factor by which it misses a measurement, over a grid of both.

    Args:
        sizes: bytes of the messages.
        seconds: of an all-reduce of each, above 0.

    Returns:
        Seconds, and bytes a second.

    Raises:
        ValueError: fewer than two measurements, or not one for each size.
    """
    if len(sizes) < 2 or len(sizes) != len(seconds):
        raise ValueError(f"two or more pairs are needed, got {sizes} and {seconds}")
    b = torch.tensor(sizes, dtype=torch.float64)
    t = torch.tensor(seconds, dtype=torch.float64)
    steps = torch.linspace(-1.5, 1.5, 61, dtype=torch.float64)
    base = t.min() * 10**steps  # (61,), of both latencies
    rest = (t - t.min()).max().clamp(min=1e-12)
    rate = b.max() / rest * 10**steps
    said = base[:, None, None] + b / rate[None, :, None]  # (61, 61, sizes)
    missed = (said / t).log().abs().amax(2)
    best = int(missed.argmin())
    return base[best // 61].item() / 2, rate[best % 61].item()


def _network(width: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))


def _fastest(acts: Sequence, repeats: int) -> list[float]:
    """Of each act the fewest seconds; they take turns."""
    found = [math.inf] * len(acts)
    for _ in range(repeats):
        for k, act in enumerate(acts):
            dist.barrier()
            begin = time.perf_counter()
            act()
            found[k] = min(found[k], time.perf_counter() - begin)
    return found


def _work(repeats: int) -> dict:
    """What one process measures: seconds by bytes, and seconds of steps."""
    acts = [partial(dist.all_reduce, torch.zeros(size // 4)) for size in SIZES]
    reduce = dict(zip(SIZES, _fastest(acts, repeats), strict=True))
    steps = []
    for width in WIDTHS:
        model = _network(width)
        optimizer = torch.optim.SGD(model.parameters(), 1e-3)
        x = torch.rand(64, width)
        flat = torch.zeros(sum(p.numel() for p in model.parameters()))

        def step(exchange, model=model, optimizer=optimizer, x=x, flat=flat):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            if exchange:
                dist.all_reduce(flat)
            optimizer.step()

        acts = [partial(step, exchange) for exchange in (False, True)]
        alone, together = _fastest(acts, repeats)
        steps.append({"bytes": flat.nbytes, "alone": alone, "together": together})
    return {"all_reduce": reduce, "steps": steps}


def _enter(rank: int, file: str, repeats: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        store=dist.FileStore(f"{file}.store", 2),
        rank=rank,
        world_size=2,
        timeout=timedelta(minutes=10),
    )
    found = _work(repeats)
    torch.save(found, f"{file}.{rank}")
    dist.destroy_process_group()


def measure(repeats: int) -> dict:
    """Measure with two processes.

    Args:
        repeats: of each measurement; the fastest counts, and of the two processes the
            slower one.

    Returns:
        ``all_reduce``, a dictionary from bytes to seconds, and ``steps``, a list of
        dictionaries: ``bytes`` of the gradients, and the seconds of a step ``alone``
        and ``together``, with an all-reduce.

    Raises:
        RuntimeError: a process failed.
    """
    context = workers.context()
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "run")
        started = [
            context.Process(target=_enter, args=(rank, file, repeats))
            for rank in (0, 1)
        ]
        for process in started:
            process.start()
        for process in started:
            process.join(600)
        codes = [process.exitcode for process in started]
        for process in started:
            process.kill()
        if codes != [0, 0]:
            raise RuntimeError(f"the processes ended with {codes}")
        first, second = (torch.load(f"{file}.{rank}") for rank in (0, 1))
    reduce = {
        size: max(first["all_reduce"][size], second["all_reduce"][size])
        for size in SIZES
    }
    steps = [
        {key: max(a[key], b[key]) for key in a}
        for a, b in zip(first["steps"], second["steps"], strict=True)
    ]
    return {"all_reduce": reduce, "steps": steps}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, compare with the model, and store both."""
    chosen = options(
        "scaling",
        "Measure all-reduces and steps of two processes.",
        "measure a few times only, and write nothing",
        arguments,
    )
    speed = reference_speed()
    found = measure(5 if chosen.check else 100)
    sizes, seconds = zip(*found["all_reduce"].items(), strict=True)
    latency, bandwidth = fit(sizes, seconds)
    print(f"latency {latency:.2e} s, bandwidth {bandwidth:.2e} bytes a second")
    runs, missed = [], []
    for size, measured in found["all_reduce"].items():
        model = 2 * latency + size / bandwidth
        factor = math.exp(abs(math.log(model / measured)))
        print(f"{size:9} bytes: {measured:.2e} s, model {model:.2e} s")
        runs.append({"bytes": size, "seconds": measured, "model": model})
        if factor > BOUND and not chosen.check:
            missed.append(f"{size} bytes by a factor of {factor:.1f}")
    for step in found["steps"]:
        step["model"] = step["alone"] + 2 * latency + step["bytes"] / bandwidth
        print(
            f"a step with {step['bytes']} bytes: {step['together']:.2e} s, "
            f"model {step['model']:.2e} s"
        )
        if not 1 / 2 < step["together"] / step["model"] < 2 and not chosen.check:
            missed.append(f"a step with {step['bytes']} bytes")
    return store(
        "scaling",
        significant(runs),
        missed,
        not chosen.check,
        latency=significant(latency),
        bandwidth=significant(bandwidth),
        speed=significant(speed, 2),
        steps=significant(found["steps"]),
    )


if __name__ == "__main__":
    sys.exit(main())

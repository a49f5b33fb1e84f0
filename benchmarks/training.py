"""Speed and memory of our training loop against two others; AP per minute of training.

    python -m benchmarks.training [speed] [memory] [curves] [--rounds 48] [--threads 1]
                                  [--out FILE.png]

Three loops train the same Mask R-CNN (ImageNet body, images of 288 pixels, 4 a step) on
the same batches of the bundled scenes, with the same optimizer, schedule and clipping:

- ours: ``engine.train_one_epoch`` with checked targets, a progress bar, and losses and
  learning rate written by tensorboardX, as ``engine.fit`` does; no pictures;
- plain: the fewest lines that train;
- reference: what the loop of torchvision's detection reference does: an autocast that
  is off on a CPU, losses averaged over the processes, a finite check, smoothed meters,
  and a line on the console every 10 steps.

speed: they take turns, one step each, in all orders, so that a busy machine slows all
alike. Of each round the ratio of ours to the other is taken; told are the median and
its interval of at least 95 % (two order statistics, from the binomial distribution: no
assumption on the shape). Processor time counts what tensorboardX does in its threads
as ours; the clock does not, for that runs beside the next step. The weights of all
three are asserted to be equal at the end, bit for bit. Console lines go to a file.

memory: each loop alone in a fresh process; the most that the process ever held, with
the libraries it loads.

curves: box AP over the processor time of training for the three starts of chapter 27,
as ``make experiments`` measured it, evaluation and pretraining not counted.
"""

import argparse
import contextlib
import itertools
import json
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from course_utils import runtime, viz
from course_utils.datasets import PennFudan
from course_utils.datasets.penn_fudan import BUNDLED
from course_utils.detection import augment, models
from course_utils.training import engine
from experiments import fine_tuning, starts
from experiments.fine_tuning import BATCH

SIZE, RATE, AIM = 288, 1e-3, 1.05
WARM_UP = 2  # rounds that are not counted
MEMORY_STEPS = 12
PAUSE = 0.01  # seconds for the threads of tensorboardX to finish

LABELS = {
    "scratch": "from scratch",
    "imagenet": "ImageNet body",
    "shapes": "pretrained detector",
}


def bundled_batches(count: int) -> list[tuple]:
    """Batches as a loader gives them: plain tensors, images uint8."""
    data = PennFudan(BUNDLED, "train", augment.resized(SIZE))
    data = augment.InMemory(data, v2.ToPureTensor())
    order = torch.utils.data.RandomSampler(
        data,
        num_samples=count * BATCH,
        generator=torch.Generator().manual_seed(0),
    )
    return list(DataLoader(data, BATCH, sampler=order, collate_fn=augment.collate))


def course_parts(steps: int) -> tuple:
    """The model of chapter 27, its optimizer and its schedule; the same every time."""
    runtime.seed_everything(0)
    model = models.mask_rcnn_mobilenet(2, "imagenet", min_size=SIZE, max_size=SIZE)
    return model, *fine_tuning.one_cycle(model, RATE, steps)


# The other loops wait at each `yield` for a batch, and so for their turn.
def plain(model: nn.Module, optimizer, schedule, device, steps: int) -> Generator:
    """The fewest lines that train."""
    model.train()
    while True:
        images, targets = yield
        images = [image.to(device) / 255 for image in images]
        targets = [{k: move(v, device) for k, v in t.items()} for t in targets]
        loss = sum(model(images, targets).values())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), fine_tuning.CLIP_NORM)
        optimizer.step()
        schedule.step()


def reference(model: nn.Module, optimizer, schedule, device, steps: int) -> Generator:
    """What torchvision's detection reference does in a step, and clipping."""
    model.train()
    meters = defaultdict(Meter)
    ended, width = time.time(), len(str(steps))
    for step in itertools.count():
        images, targets = yield
        meters["data"].add(time.time() - ended)
        # to_dtype of v2 multiplies by 1 / 255, which differs in the last bit.
        images = [image.to(device) / 255 for image in images]
        targets = [{k: move(v, device) for k, v in t.items()} for t in targets]
        with torch.autocast(torch.device(device).type, enabled=False):
            losses = model(images, targets)
            loss = sum(losses.values())
        told = averaged(losses)
        whole = sum(told.values())
        if not math.isfinite(whole.item()):
            raise SystemExit(f"the loss is {whole.item()}: {told}")
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), fine_tuning.CLIP_NORM)
        optimizer.step()
        schedule.step()
        for name, value in {"loss": whole, **told}.items():
            meters[name].add(value.item())
        meters["lr"].add(optimizer.param_groups[0]["lr"])
        meters["time"].add(time.time() - ended)
        if step % 10 == 0 or step == steps - 1:
            left = int(meters["time"].mean * (steps - step))
            line = "  ".join(f"{name}: {meter}" for name, meter in meters.items())
            print(f"[{step:{width}}/{steps}]  {left} s left  {line}", flush=True)
        ended = time.time()


def move(value, device):
    """A tensor on the device; a plain number, such as an image_id, as it is."""
    return value.to(device) if isinstance(value, torch.Tensor) else value


def averaged(losses: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Each loss, the mean over the processes; with one, as it is."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return losses
    with torch.no_grad():
        values = torch.stack([losses[name] for name in sorted(losses)])
        dist.all_reduce(values)
        return dict(zip(sorted(losses), values / dist.get_world_size(), strict=True))


class Meter:
    """A number over time: the median of the last 20, and the mean of all."""

    def __init__(self) -> None:
        self.last, self.sum, self.count = deque(maxlen=20), 0.0, 0

    def add(self, value: float) -> None:
        self.last.append(value)
        self.sum, self.count = self.sum + value, self.count + 1

    @property
    def mean(self) -> float:
        return self.sum / self.count

    def __str__(self) -> str:
        return f"{torch.tensor(self.last).median().item():.4f} ({self.mean:.4f})"


OTHERS = {"plain": plain, "reference": reference}
LOOPS = ("ours", *OTHERS)


class Turns:
    """A loader for ours that, between its batches, gives them to the others too.

    ``train_one_epoch`` asks for a batch when the step before is done: the time from
    batch to question is that of its step.

    Args:
        batches: each goes to all loops.
        others: by name, generators that wait for a batch.
        ours: whether ours takes part.
    """

    def __init__(self, batches: list, others: dict[str, Generator], ours: bool = True):
        self.batches, self.others = batches, others
        names = [*["ours"] * ours, *others]
        self.orders = list(itertools.permutations(names))
        self.wall = {name: [] for name in names}
        self.processor = {name: [] for name in names}

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator:
        for other in self.others.values():
            next(other)  # to where it waits
        for number, batch in enumerate(self.batches):
            for name in self.orders[number % len(self.orders)]:
                torch.manual_seed(number)  # the model samples proposals
                with self.clock(name):
                    if name == "ours":
                        yield batch
                    else:
                        self.others[name].send(batch)

    @contextlib.contextmanager
    def clock(self, name: str) -> Iterator[None]:
        processor, wall = time.process_time(), time.perf_counter()
        yield
        self.wall[name].append(time.perf_counter() - wall)
        time.sleep(PAUSE)
        self.processor[name].append(time.process_time() - processor)


def take_turns(
    names: Sequence[str], make: Callable, batches: list, device: str = "cpu"
) -> tuple[Turns, dict[str, nn.Module]]:
    """Let loops train on the same batches, one step each in turn.

    Args:
        names: some of :data:`LOOPS`.
        make: returns a model, its optimizer and its schedule for a number of steps;
            the same each time.
        batches: images uint8.

    Returns:
        The times, and the trained models by name.
    """
    steps = len(batches)
    parts = {name: make(steps) for name in names}
    others = {
        name: OTHERS[name](*parts[name], device, steps)
        for name in names
        if name in OTHERS
    }
    turns = Turns(batches, others, "ours" in names)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        console = stack.enter_context(open(folder / "console", "w"))
        stack.enter_context(contextlib.redirect_stdout(console))
        stack.enter_context(contextlib.redirect_stderr(console))
        if "ours" in names:
            model, optimizer, schedule = parts["ours"]
            writer = stack.enter_context(contextlib.closing(engine._Writer(folder, 0)))
            engine.train_one_epoch(
                model,
                optimizer,
                turns,
                device,
                schedule=schedule,
                clip_norm=fine_tuning.CLIP_NORM,
                log=writer.scalar,
            )
        else:
            for _ in turns:
                pass
    return turns, {name: parts[name][0] for name in names}


def assert_equal_weights(trained: dict[str, nn.Module]) -> None:
    """All models hold the same numbers, bit for bit."""
    (first, model), *rest = trained.items()
    wanted = model.state_dict()
    for name, other in rest:
        for key, value in other.state_dict().items():
            assert torch.equal(value, wanted[key]), f"{key}: {name} is not {first}"


def median_interval(
    values: Sequence[float], coverage: float = 0.95
) -> tuple[float, float, float]:
    """The median of a sample, and an interval that covers that of its distribution.

    The number of values below the true median is binomial with p = 1/2, so the k-th
    smallest and the k-th largest value enclose it with a probability that is known
    for any continuous distribution; k is the largest for which that suffices.

    Returns:
        Lower end, median, upper end.

    Raises:
        ValueError: too few values for any interval; 6 are enough for 95 %.
    """
    n, ordered = len(values), sorted(values)
    k, below = 0, 0.0  # below: probability that at most k - 1 values lie below
    while (below := below + math.comb(n, k) / 2**n) <= (1 - coverage) / 2:
        k += 1
    if k == 0:
        raise ValueError(f"{n} values give no interval of {coverage:.0%}")
    return ordered[k - 1], statistics.median(ordered), ordered[n - k]


def ratios(
    seconds: dict[str, list[float]], other: str, skip: int = WARM_UP
) -> list[float]:
    """Of each round that counts: how many times as long as the other ours takes."""
    pairs = zip(seconds["ours"][skip:], seconds[other][skip:], strict=True)
    return [ours / theirs for ours, theirs in pairs]


def report_speed(rounds: int) -> None:
    """Images per second of the three loops, and the ratios."""
    batches = bundled_batches(WARM_UP + rounds)
    turns, trained = take_turns(LOOPS, course_parts, batches)
    assert_equal_weights(trained)
    print(f"\nSpeed, {rounds} rounds; weights equal after {len(batches)} steps each")
    print("loop        images/s by processor   by the clock   ms a step by processor")
    for name in LOOPS:
        processor = statistics.median(turns.processor[name][WARM_UP:])
        wall = statistics.median(turns.wall[name][WARM_UP:])
        print(
            f"{name:12}{BATCH / processor:21.2f}{BATCH / wall:15.2f}"
            f"{processor * 1e3:25.0f}"
        )
    for other in OTHERS:
        for kind, seconds in {
            "processor": turns.processor,
            "clock": turns.wall,
        }.items():
            low, median, high = median_interval(ratios(seconds, other))
            said = "reached" if high <= AIM else "not reached"
            print(
                f"ours / {other:10}by {kind:10}{median:6.3f}, 95 %: {low:.3f} to "
                f"{high:.3f}; at most {AIM}: {said}"
            )


def peak() -> float:
    """The most memory that this process ever held, in MB."""
    unit = 1024**2 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def child(name: str) -> None:
    """Train with one loop, in this process; print the peak."""
    take_turns([name], course_parts, bundled_batches(MEMORY_STEPS))
    print(peak())


def report_memory(repeats: int, threads: int) -> None:
    """Peak memory of each loop in processes of their own."""
    peaks = {name: [] for name in LOOPS}
    for _ in range(repeats):
        for name in LOOPS:
            command = [sys.executable, "-m", "benchmarks.training", "--child", name]
            done = subprocess.run(
                [*command, "--threads", str(threads)],
                capture_output=True,
                text=True,
                cwd=Path(__file__).parents[1],
            )
            if done.returncode:
                raise SystemExit(done.stderr)
            peaks[name].append(float(done.stdout.split()[-1]))
    print(f"\nPeak memory of {MEMORY_STEPS} steps [MB], {repeats} processes each")
    plainly = statistics.median(peaks["plain"])
    for name in LOOPS:
        median = statistics.median(peaks[name])
        all_ = ", ".join(f"{value:.0f}" for value in sorted(peaks[name]))
        print(f"{name:12}{median:8.0f}{median / plainly:8.3f} x plain   ({all_})")


def curves(results: dict) -> dict[str, list[dict[str, float]]]:
    """For each start and evaluation the means over the seeds, and the range of AP.

    Args:
        results: what :mod:`experiments.starts` writes. Runs with the most
            images are taken.
    """
    most = max(run["images"] for run in results["runs"])
    runs = defaultdict(list)
    for run in results["runs"]:
        if run["images"] == most:
            runs[run["start"]].append(run["curve"])
    found = {}
    for start in (s for s in LABELS if s in runs):
        found[start] = []
        for records in zip(*runs[start], strict=True):
            box = [record["bbox/AP"] for record in records]
            found[start].append(
                {
                    "step": records[0]["step"],
                    "minutes": statistics.mean(r["cpu_seconds"] for r in records) / 60,
                    "box": statistics.mean(box),
                    "low": min(box),
                    "high": max(box),
                    "mask": statistics.mean(r["segm/AP"] for r in records),
                }
            )
    return found


def report_curves(file: Path, out: Path | None) -> None:
    """AP over processor minutes, as a table and, if asked for, as a picture."""
    if not file.is_file():
        return print(f"\nNo curves: {file} is not there; make experiments writes it")
    results = json.loads(file.read_text())
    found = curves(results)
    print(
        f"\nAP over processor minutes of training ({results['date']}, means of seeds)"
    )
    print("      " + "".join(LABELS[start].rjust(33) for start in found))
    print("step  " + "     minutes  box (range)     mask" * len(found))
    for points in zip(*found.values(), strict=True):
        cells = [
            f"{p['minutes']:12.2f}{p['box']:6.2f} ({p['low']:.2f}-{p['high']:.2f})"
            f"{p['mask']:6.2f}"
            for p in points
        ]
        print(f"{points[0]['step']:4}  " + " ".join(cells))
    for start, points in found.items():
        last = points[-1]
        print(
            f"{LABELS[start]}: box AP {last['box']:.2f} in {last['minutes']:.2f} "
            f"minutes, {last['box'] / last['minutes']:.2f} a minute"
        )
    if out:
        draw(found, out)
        print(f"drew {out}")


def draw(found: dict[str, list[dict[str, float]]], out: Path) -> None:
    """One line for each start, with the band of its seeds."""
    viz.use_style()
    figure, axes = plt.subplots()
    for marker, (start, points) in zip("os^", found.items(), strict=False):
        minutes = [p["minutes"] for p in points]
        box, low, high = ([p[k] for p in points] for k in ("box", "low", "high"))
        line = axes.plot(minutes, box, marker=marker, markersize=4, label=LABELS[start])
        axes.fill_between(minutes, low, high, alpha=0.2, color=line[0].get_color())
    axes.set(xlabel="processor minutes of training", ylabel="box AP")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.legend()
    figure.savefig(out)
    plt.close(figure)


PARTS = ("speed", "memory", "curves")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is asked for, and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"of {PARTS}; default: all"
    )
    parser.add_argument("--rounds", type=int, default=48, help="of steps, at least 40")
    parser.add_argument("--repeats", type=int, default=3, help="of processes, memory")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--results", type=Path, default=starts.FILE)
    parser.add_argument("--out", type=Path, help="a picture of the curves")
    parser.add_argument("--child", choices=LOOPS, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    parts = chosen.parts or PARTS
    for part in parts:
        if part not in PARTS:
            parser.error(f"PART must be one of {PARTS}, got {part!r}")
    if chosen.rounds < 6:
        parser.error(f"6 rounds are the fewest with an interval, got {chosen.rounds}")
    torch.set_num_threads(chosen.threads)
    if chosen.child:
        return child(chosen.child)
    print(f"{chosen.threads} threads, torch {torch.__version__}", flush=True)
    # Memory first: a process starts with the peak of the one that starts it.
    if "memory" in parts:
        report_memory(chosen.repeats, chosen.threads)
    if "speed" in parts:
        report_speed(chosen.rounds)
    if "curves" in parts:
        report_curves(chosen.results, chosen.out)


if __name__ == "__main__":
    main()

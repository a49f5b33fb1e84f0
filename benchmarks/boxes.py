"""Pairwise IoU and NMS: two loops, the chapter's tensors, course_utils, torchvision.

    python -m benchmarks.boxes [--device cuda] [--sizes 10 100 1000 10000]

All are timed in one run, side by side; the time is the best of several. The last
columns are ratios: how many times as long as torchvision's each one takes. The loops
visit every pair in Python and stop at 300 boxes for IoU, at 3,000 for NMS.
"""

import argparse
import time
from functools import partial

import torch
from torchvision import ops

from booktools.chapter_code import definitions
from course_utils import runtime
from course_utils.detection import box_ops

CHAPTER = definitions("23_iou_and_nms", "box_iou", "nms", "iou_of_two")


def pairs_in_loops(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """One pair of boxes at a time, as is often written."""
    table = torch.zeros(len(a), len(b))
    for i in range(len(a)):
        for j in range(len(b)):
            lt = torch.max(a[i, :2], b[j, :2])
            rb = torch.min(a[i, 2:], b[j, 2:])
            width, height = (rb - lt).clamp(min=0)
            inter = width * height
            area_a = (a[i, 2] - a[i, 0]) * (a[i, 3] - a[i, 1])
            area_b = (b[j, 2] - b[j, 0]) * (b[j, 3] - b[j, 1])
            table[i, j] = inter / (area_a + area_b - inter)
    return table


def nms_in_loops(boxes: torch.Tensor, scores: torch.Tensor, threshold: float):
    """The two loops of greedy NMS, on plain numbers."""
    plain, values = boxes.tolist(), scores.tolist()
    candidates = sorted(range(len(plain)), key=lambda i: -values[i])
    keep = []
    while candidates:
        best, *rest = candidates
        keep.append(best)
        one = plain[best]
        candidates = [i for i in rest if CHAPTER.iou_of_two(one, plain[i]) <= threshold]
    return torch.tensor(keep, device=boxes.device)


def best_time(call, device: torch.device, budget: float = 0.5) -> float:
    """Seconds of the fastest call, after one that warms up."""
    best, spent, runs = float("inf"), 0.0, 0
    while runs < 3 or (spent < budget and runs < 200):
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize()
        took = time.perf_counter() - start
        best = took if runs == 0 else min(best, took)
        spent, runs = spent + took, runs + 1
        if took > 5:
            break
    return best


def detections(n: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes around n / 10 objects, as a detector gives them before suppression."""
    generator = torch.Generator().manual_seed(n)
    objects = max(n // 10, 1)
    center = torch.rand(objects, 2, generator=generator) * 1000
    size = 20 + 80 * torch.rand(objects, 2, generator=generator)
    owner = torch.randint(objects, (n,), generator=generator)
    jitter = 0.2 * (torch.rand(n, 4, generator=generator) - 0.5)
    corner = torch.cat([center - size / 2, center + size / 2], dim=1)[owner]
    boxes = corner + jitter * size[owner].repeat(1, 2)
    return boxes.to(device), torch.rand(n, generator=generator).to(device)


def report(title: str, sizes, limits: dict, calls: dict, device) -> None:
    """Print a table: a row for each number of boxes; the reference comes last."""
    names = list(calls)
    print(f"\n{title}")
    ratios = [f"{name}/{names[-1]}" for name in names[:-1]]
    head = [f"{name} [ms]" for name in names] + ratios
    print("boxes".rjust(7) + "".join(h.rjust(27) for h in head))
    for n in sizes:
        boxes, scores = detections(n, device)
        wanted = calls[names[-1]](boxes, scores)
        seconds = {}
        for name, call in calls.items():
            if n > limits.get(name, n):
                continue
            got = call(boxes, scores)
            if got.dtype == torch.int64:
                assert torch.equal(got, wanted), f"{name} differs"
            else:
                torch.testing.assert_close(got, wanted.to(got), check_device=False)
            del got
            seconds[name] = best_time(partial(call, boxes, scores), device)
        row = [f"{seconds[k] * 1e3:.3f}" if k in seconds else "-" for k in names]
        for name in names[:-1]:
            known = name in seconds
            row.append(f"{seconds[name] / seconds[names[-1]]:.1f}" if known else "-")
        print(f"{n:7}" + "".join(cell.rjust(27) for cell in row))


def main() -> None:
    """Time everything and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 100, 1000, 10000])
    parser.add_argument("--threads", type=int, help="of torch on the CPU")
    args = parser.parse_args()
    device = runtime.device(args.device)
    if args.threads:
        torch.set_num_threads(args.threads)
    print(f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    report(
        "IoU of N boxes with N boxes",
        args.sizes,
        {"two loops": 300},
        {
            "two loops": lambda b, s: pairs_in_loops(b, b),
            "chapter": lambda b, s: CHAPTER.box_iou(b, b),
            "course_utils": lambda b, s: box_ops.box_iou(b, b),
            "torchvision": lambda b, s: ops.box_iou(b, b),
        },
        device,
    )
    report(
        "NMS at 0.5",
        args.sizes,
        {"two loops": 3000},
        {
            "two loops": lambda b, s: nms_in_loops(b, s, 0.5),
            "chapter": lambda b, s: CHAPTER.nms(b, s, 0.5),
            "course_utils": lambda b, s: box_ops.nms(b, s, 0.5),
            "torchvision": lambda b, s: ops.nms(b, s, 0.5),
        },
        device,
    )
    labels = {n: torch.arange(n, device=device) % 20 for n in args.sizes}
    report(
        "NMS at 0.5 within 20 classes",
        args.sizes,
        {},
        {
            "course_utils": lambda b, s: box_ops.batched_nms(b, s, labels[len(b)], 0.5),
            "torchvision": lambda b, s: ops.batched_nms(b, s, labels[len(b)], 0.5),
        },
        device,
    )


if __name__ == "__main__":
    main()

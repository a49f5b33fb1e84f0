"""Chapter 31's functions in real processes: each scenario asserts, in each process."""

import datetime
import json
import traceback

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F

from booktools import chapter_code

NAMES = [
    *("broadcast", "gather", "all_reduce", "ring_all_reduce", "DataParallel"),
    *("synced_norm", "Total", "make_net"),
]


def drawn(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64).to(dtype) - 0.5


def plain_collectives(ours):
    rank, world = dist.get_rank(), dist.get_world_size()
    for shape in ((), (1,), (3,), (2, 5), (1000,)):
        for dtype in (torch.float64, torch.float32, torch.int64):
            # Whole numbers: each order of additions gives the same.
            mine = (drawn(*shape, seed=rank) * 1000).round().to(dtype)
            here, there = mine.clone(), mine.clone()
            ours.broadcast(here)
            dist.broadcast(there, 0)
            assert torch.equal(here, there), ("broadcast", shape, dtype)
            here, there = mine.clone(), mine.clone()
            ours.all_reduce(here)
            dist.all_reduce(there)
            assert torch.equal(here, there), ("all-reduce", shape, dtype)
            parts = ours.gather(mine)
            wanted = None if rank else [torch.empty_like(mine) for _ in range(world)]
            dist.gather(mine, wanted, 0)
            assert (parts is None) == (rank != 0)
            if rank == 0:
                assert all(map(torch.equal, parts, wanted)), ("gather", shape, dtype)


def ring(ours):
    rank, world = dist.get_rank(), dist.get_world_size()
    for count in (1, 2, 3, 5, 8, 12, 1000):
        for dtype in (torch.float64, torch.float32, torch.float16, torch.int64):
            mine = (drawn(count, seed=rank) * 100).to(dtype)
            here, there = mine.clone(), mine.clone()
            sent, seen = ours.ring_all_reduce(here)
            dist.all_reduce(there)
            within = 1e-2 if dtype == torch.float16 else 1e-5
            torch.testing.assert_close(here, there, rtol=within, atol=within * 100)
            assert len(seen) == 2 * (world - 1) + 1
            if count % world == 0:
                assert sent * world == 2 * (world - 1) * mine.nbytes
            everywhere = [torch.empty_like(here) for _ in range(world)]
            dist.all_gather(everywhere, here)
            assert all(torch.equal(here, other) for other in everywhere), count
    odd = torch.full((6,), float("nan") if rank == 0 else float("inf"))
    ours.ring_all_reduce(odd)
    assert odd.isnan().all()


class Branched(nn.Module):
    """A frozen layer, a buffer, a large parameter between small ones."""

    def __init__(self):
        super().__init__()
        self.first, self.frozen = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)
        self.frozen.requires_grad_(False)
        self.large, self.last = nn.Linear(4, 400), nn.Linear(400, 3)
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer("shift", torch.rand(4))

    def forward(self, images):
        x = self.frozen(self.first(images).relu()).mean((2, 3)) + self.shift
        return self.last(self.large(x).tanh()) * self.scale


DATA_PARALLEL = [  # the numbers, bytes of a bucket, the optimizer
    (torch.float32, 3000, torch.optim.SGD),
    (torch.float32, 2**20, torch.optim.AdamW),
    (torch.float64, 1, torch.optim.AdamW),
    (torch.float64, 3000, torch.optim.AdamW),
    (torch.float64, 2**20, torch.optim.SGD),
]


def data_parallel(ours):
    rank, world = dist.get_rank(), dist.get_world_size()
    for dtype, bucket, make in DATA_PARALLEL:
        found = []
        for wrap in (
            lambda m, b=bucket: ours.DataParallel(m, bucket_bytes=b),
            nn.parallel.DistributedDataParallel,
        ):
            torch.manual_seed(rank)  # other weights in each process
            model = wrap(Branched().to(dtype))
            optimizer = make(model.parameters(), 0.05)
            for step in range(4):
                x = drawn(5, 3, 6, 6, seed=10 * step + rank, dtype=dtype)
                y = (torch.arange(5) + rank) % 3
                optimizer.zero_grad()
                F.cross_entropy(model(x), y).backward()
                optimizer.step()
            found.append(dict(model.module.state_dict()))
        for name, value in found[0].items():
            case = name, dtype, bucket, make.__name__
            if world == 2:
                assert torch.equal(value, found[1][name]), case
            else:
                torch.testing.assert_close(value, found[1][name])
            everywhere = [torch.empty_like(value) for _ in range(world)]
            dist.all_gather(everywhere, value)
            assert all(torch.equal(value, v) for v in everywhere), case


def no_sync(ours):
    found = []
    for wrap in (ours.DataParallel, nn.parallel.DistributedDataParallel):
        model = wrap(ours.make_net(0))
        for k in range(3):
            x = drawn(6, 8, seed=10 * k + dist.get_rank())
            if isinstance(model, ours.DataParallel):
                model.sync = k == 2
                model(x).square().sum().backward()
            elif k < 2:
                with model.no_sync():
                    model(x).square().sum().backward()
            else:
                model(x).square().sum().backward()
        found.append([p.grad for p in model.parameters()])
    for ours_, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours_, theirs, rtol=1e-12, atol=1e-12)


def synced(ours):
    rank, world = dist.get_rank(), dist.get_world_size()
    shares = {"equal": [2] * world, "uneven": [1, 5, 2][:world], "none": [0, 4, 3]}
    for name, counts in shares.items():
        counts = counts[:world]
        for offset in (0.0, 1000.0):
            x = drawn(sum(counts), 3, 4, 5, seed=1) + offset
            goal = drawn(sum(counts), 3, 4, 5, seed=2)
            whole = x.clone().requires_grad_()
            given = nn.BatchNorm2d(3).double()(whole)
            (given - goal).pow(3).sum().backward()
            start = sum(counts[:rank])
            rows = slice(start, start + counts[rank])
            mine = x[rows].clone().requires_grad_()
            out = ours.synced_norm(mine)
            (out - goal[rows]).pow(3).sum().backward()
            case = f"{name}, {offset}"
            torch.testing.assert_close(
                out, given[rows], rtol=1e-8, atol=1e-8, msg=lambda m, c=case: f"{c} {m}"
            )
            torch.testing.assert_close(
                mine.grad, whole.grad[rows], rtol=1e-7, atol=1e-7
            )


SCENARIOS = plain_collectives, ring, data_parallel, no_sync, synced
WORLDS = 2, 3


def enter(rank, file, worlds):
    """One process: all scenarios in a group of two, then in one of three.

    What each scenario ended with goes into ``file.rank``, by the size of the group.
    """
    torch.set_num_threads(1)
    ours = chapter_code.definitions("31_scaling_out", *NAMES)
    found = {}
    for world in worlds:
        if rank < world:
            found[world] = _scenarios(ours, rank, world, f"{file}.store{world}")
            if set(found[world].values()) != {"fine"}:
                break  # the others may have gone on: nothing more can be exchanged
            dist.barrier()
            dist.destroy_process_group()
    with open(f"{file}.{rank}", "w", encoding="utf-8") as out:
        json.dump(found, out)


def _scenarios(ours, rank, world, store):
    dist.init_process_group(
        "gloo",
        store=dist.FileStore(store, world),
        rank=rank,
        world_size=world,
        timeout=datetime.timedelta(minutes=5),
    )
    found = {}
    for scenario in SCENARIOS:
        try:
            scenario(ours)
            found[scenario.__name__] = "fine"
        except Exception:
            found[scenario.__name__] = traceback.format_exc()
            break
    return found

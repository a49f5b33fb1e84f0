"""The exercises of chapter 31: mistakes are refused, each for its own reason."""

import pytest
import torch
from answers import assert_changed, assert_verdict

from booktools import chapter_code
from course_utils.checks import ch31
from course_utils.checks.core import Wrong

EXERCISES = chapter_code.exercises("31_scaling_out")

# The exercise, a change of the solution's source, and words of the verdict.
CHANGES = [
    ("exact_shares", " + (rank < longer)", "", "the example"),
    ("exact_shares", "(rank < longer)", "(rank <= longer)", "no pictures"),
    ("exact_shares", "(rank < longer)", "(rank >= world - longer)", "the example"),
    ("exact_shares", "range(world)", "range(min(world, count))", "no pictures"),
    (
        "exact_shares",
        "list(range(start, stop))",
        "list(range(count))[rank::world]",
        "it divides",
    ),
    ("exact_shares", "list(range(start, stop))", "range(start, stop)", None),
    ("fill_buckets", "reversed(range(len(sizes)))", "range(len(sizes))", "the first"),
    ("fill_buckets", "first if len(buckets) == 1 else cap", "cap", "the example"),
    ("fill_buckets", "first if len(buckets) == 1 else cap", "first", "the example"),
    ("fill_buckets", "> limit", ">= limit", "all in the first"),
    ("fill_buckets", "            filled = 0\n", "", "the example"),
    ("fill_buckets", "not buckets or ", "", "one parameter"),
    (
        "fill_buckets",
        "buckets, filled = [], 0",
        "buckets, filled = [[]], 0",
        "no parameters",
    ),
    (
        "fill_buckets",
        "reversed(range(len(sizes)))",
        "range(len(sizes) - 1, -1, -1)",
        None,
    ),
    ("step_of_all", "    optimizer.zero_grad()  # 1: old gradients\n", "", "old"),
    ("step_of_all", "    comm.all_reduce(total)\n", "", "two equal shares"),
    (
        "step_of_all",
        "            if parameter.grad is None:  # 3: all come, or some wait for ever\n"
        "                parameter.grad = torch.zeros_like(parameter)\n"
        "            comm.all_reduce(parameter.grad)\n",
        "            if parameter.grad is not None:\n"
        "                comm.all_reduce(parameter.grad)\n",
        "of different shapes",
    ),
    (
        "step_of_all",
        "    comm.all_reduce(loss)  # 4",
        "    if comm.rank == 0:\n        comm.all_reduce(loss)  # 4",
        "deadlock",
    ),
    (
        "step_of_all",
        "    comm.all_reduce(loss)  # 4",
        "    # 4",
        "the mean loss over all",
    ),
    ("step_of_all", "return loss.item()", "return loss", "not a Python number"),
    (
        "step_of_all",
        "return loss.item()",
        "return loss.item() if comm.rank == 0 else None",
        "returns None",
    ),
    (
        "step_of_all",
        "        if parameter.requires_grad:\n",
        "        if True:\n",
        None,
    ),
    (
        "step_of_all",
        'labels, reduction="sum")\n    loss = loss / total',
        "labels)\n    loss = loss / comm.world",
        "three and one",
    ),
    ("step_of_all", "    optimizer.step()\n", "", "is not what one process gets"),
    ("tree_broadcast", "have *= 2", "have += 1", "four"),
    ("tree_broadcast", "comm.rank < 2 * have", "comm.rank <= 2 * have", "waits"),
    ("tree_broadcast", "comm.rank + have < comm.world", "True", "sends to"),
    (
        "tree_broadcast",
        "tensor.copy_(comm.recv(comm.rank - have))",
        "tensor = comm.recv(comm.rank - have)",
        "process 1 has",
    ),
    ("tree_broadcast", "comm.recv(comm.rank - have)", "comm.recv(0)", "deadlock"),
    ("tree_broadcast", "tensor.copy_(", "tensor.add_(", "process 1 has"),
    (
        "tree_broadcast",
        "tensor.copy_(comm.recv(comm.rank - have))",
        "tensor.data = comm.recv(comm.rank - have)",
        "process 1 has",
    ),
    ("hours_needed", "(0 if last else save)", "save", "no work"),
    ("hours_needed", "left[0] < end", "left[0] <= end", "at the end of a saving"),
    (
        "hours_needed",
        "done, delay = end, done + useful, 0.0",
        "done = end, done + useful",
        "",
    ),
    (
        "hours_needed",
        "delay = left.pop(0), restart",
        "delay = left.pop(0), 0",
        "example",
    ),
    ("hours_needed", "min(interval, work - done)", "interval", "no work"),
    (
        "hours_needed",
        "clock, delay = left.pop(0), restart",
        "left.pop(0)\n            delay = restart",
        "example",
    ),
    ("hours_needed", "left[0] < end", "left and end > left[0]", None),
]


@pytest.mark.parametrize(("name", "old", "new", "says"), CHANGES)
def test_a_changed_solution(name, old, new, says):
    assert_changed(EXERCISES[f"31.{name}"], old, new, says)


ONE_AFTER_THE_OTHER = """
def tree_broadcast(comm, tensor):
    if comm.rank == 0:
        for other in range(1, comm.world):
            comm.send(tensor, other)
    else:
        tensor.copy_(comm.recv(0))
"""
CHAIN = """
def tree_broadcast(comm, tensor):
    if comm.rank:
        tensor.copy_(comm.recv(comm.rank - 1))
    if comm.rank + 1 < comm.world:
        comm.send(tensor, comm.rank + 1)
"""
HALVES = """
def tree_broadcast(comm, tensor):
    low, high = 0, comm.world  # process low has it, for those below high
    while high - low > 1:
        middle = (low + high + 1) // 2
        if comm.rank < middle:
            if comm.rank == low:
                comm.send(tensor, middle)
            high = middle
        else:
            if comm.rank == middle:
                tensor.copy_(comm.recv(low))
            low = middle
"""
TWICE = """
def tree_broadcast(comm, tensor):
    if comm.rank == 0:
        for other in range(1, comm.world):
            comm.send(tensor, other)
            comm.send(tensor, other)
    else:
        tensor.copy_(comm.recv(0))
"""
BY_A_SUM = """
def tree_broadcast(comm, tensor):
    if comm.rank:
        tensor.zero_()
    comm.all_reduce(tensor)
"""
AS_PRINTED = """
def step_of_all(comm, model, optimizer, images, labels):
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    for parameter in model.parameters():
        if parameter.grad is not None:
            comm.all_reduce(parameter.grad)
    optimizer.step()
    if comm.rank == 0:
        comm.all_reduce(loss)
        return loss / comm.world
"""
FACTORS = """
def step_of_all(comm, model, optimizer, images, labels):
    total = torch.tensor([float(len(labels)), 0.0], dtype=torch.float64)
    comm.all_reduce(total)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    loss = torch.zeros((), dtype=torch.float64)
    if len(labels):
        mean = F.cross_entropy(model(images), labels)
        loss = mean * (len(labels) / total[0].item())
        loss.backward()
    flat = torch.cat([p.grad.flatten() for p in model.parameters()])
    comm.all_reduce(flat)
    sizes = [p.numel() for p in model.parameters()]
    for parameter, part in zip(model.parameters(), flat.split(sizes)):
        parameter.grad.copy_(part.view_as(parameter))
    optimizer.step()
    loss = loss.detach().double()
    comm.all_reduce(loss)
    return float(loss)
"""
BY_LOOP = """
def exact_shares(count, world):
    shares = [[] for _ in range(world)]
    for k in range(count):
        size, longer = divmod(count, world)
        edge = longer * (size + 1)
        rank = k // (size + 1) if k < edge else longer + (k - edge) // size
        shares[rank].append(k)
    return shares
"""
RECURSIVE = """
def hours_needed(work, interval, save, restart, failures, clock=0.0, delay=0.0):
    useful = min(work, interval)
    last = useful == work
    end = clock + delay + useful + (not last) * save
    coming = [f for f in failures if f < end]
    if coming:
        rest = list(failures)[1:]
        return hours_needed(work, interval, save, restart, rest, coming[0], restart)
    if last:
        return end
    return hours_needed(work - useful, interval, save, restart, failures, end)
"""


@pytest.mark.parametrize(
    ("name", "source", "says"),
    [
        ("tree_broadcast", ONE_AFTER_THE_OTHER, "with 4 processes it takes 3 rounds"),
        ("tree_broadcast", CHAIN, "with 4 processes it takes 3 rounds; 2 are"),
        ("tree_broadcast", TWICE, "messages that nobody fetched"),
        ("tree_broadcast", BY_A_SUM, "all_reduce is no broadcast"),
        ("tree_broadcast", HALVES, None),
        ("step_of_all", AS_PRINTED, "one process"),
        ("step_of_all", FACTORS, None),
        ("exact_shares", BY_LOOP, None),
        ("hours_needed", RECURSIVE, None),
    ],
)
def test_another_answer(name, source, says):
    assert_verdict(EXERCISES[f"31.{name}"], source, says)


def test_threads_that_wait_for_each_other_are_told():
    with pytest.raises(Wrong, match="process 0 in recv from 1, process 1 in all_red"):
        ch31._together(_crossed, 2)
    with pytest.raises(ZeroDivisionError):
        ch31._together(lambda comm: 1 / 0 if comm.rank else comm.recv(1), 2)
    with pytest.raises(Wrong, match="process 1 ended by SystemExit"):
        ch31._together(_leaves, 2)


def _crossed(comm):
    return comm.recv(1) if comm.rank == 0 else comm.all_reduce(torch.ones(1))


def _leaves(comm):
    if comm.rank:
        raise SystemExit(1)

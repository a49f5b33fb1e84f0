"""Exercises of chapter 31, several processes.

Where an answer needs processes, threads of :class:`_Group` stand for them: they send
and wait as processes do, and where all wait for each other, that is noticed at once.
"""

import math
import threading
from collections import defaultdict, deque

import torch
from torch import nn
from torch.nn import functional as F

from course_utils.checks.core import Case, Wrong, exercise

__all__: list[str] = []


# --- 1 ------------------------------------------------------------------------


@exercise(
    "31.exact_shares",
    hint="divmod(count, world) gives the size of a share, and how many shares are "
    "longer by one. Then go through the ranks and note where each share starts.",
)
def exact_shares() -> list[Case]:
    def gives(says, count, world, expected):
        def test(answer):
            got = answer(count, world)
            try:
                plain = [list(share) for share in got]
            except TypeError:
                raise Wrong(
                    f"exact_shares({count}, {world}): expected a list of lists, "
                    f"got {got!r}"
                ) from None
            if plain != expected:
                raise Wrong(
                    f"exact_shares({count}, {world}): expected {expected}, got {plain}"
                )

        return Case(says, test=test)

    return [
        gives("no pictures", 0, 2, [[], []]),
        gives("one process", 3, 1, [[0, 1, 2]]),
        gives("it divides", 4, 2, [[0, 1], [2, 3]]),
        gives("the example", 5, 2, [[0, 1, 2], [3, 4]]),
        gives("fewer pictures than processes", 2, 4, [[0], [1], [], []]),
        gives("two are longer", 10, 4, [[0, 1, 2], [3, 4, 5], [6, 7], [8, 9]]),
    ]


# --- 2 ------------------------------------------------------------------------


@exercise(
    "31.fill_buckets",
    hint="Go through the numbers backwards, and keep the bytes of the bucket that is "
    "being filled. Which limit holds depends on how many buckets there are.",
)
def fill_buckets() -> list[Case]:
    return [
        Case("no parameters", args=([], 3, 6), expect=[]),
        Case("one parameter", args=([2], 3, 6), expect=[[0]]),
        Case("all in the first", args=([1, 1, 1], 3, 6), expect=[[2, 1, 0]]),
        Case("the example", args=([4, 4, 2, 3], 3, 6), expect=[[3], [2, 1], [0]]),
        Case("too large for any", args=([1, 9, 1], 3, 6), expect=[[2], [1], [0]]),
        Case("too large for the first", args=([2, 5], 3, 6), expect=[[1], [0]]),
        Case("exactly full", args=([3, 3, 2, 1], 3, 6), expect=[[3, 2], [1, 0]]),
        Case(
            "later buckets",
            args=([2, 2, 2, 2, 2, 2], 2, 4),
            expect=[[5], [4, 3], [2, 1], [0]],
        ),
        Case("a first that is larger", args=([1, 1, 1], 2, 1), expect=[[2, 1], [0]]),
    ]


# --- processes, played by threads ----------------------------------------------------


class _Stuck(Exception):
    """All wait for each other."""


class _Group:
    """What ``world`` threads exchange; a clock counts the rounds of sending."""

    def __init__(self, world: int, sums: bool) -> None:
        self.world, self.may_sum = world, sums
        self.changed = threading.Condition()
        self.boxes = defaultdict(deque)  # (source, to): tensors and when they came
        self.sums = defaultdict(dict)  # number of the call: rank to tensor
        self.calls = [0] * world
        self.clocks = [0] * world
        self.blocked, self.done, self.stuck = {}, set(), {}

    def wait(self, rank: int, ready, what: str) -> None:
        """Wait until ``ready()``; the lock is held."""
        self.blocked[rank] = ready, what
        while not ready():
            if self._all_wait() and not self.stuck:
                self.stuck = {r: words for r, (_, words) in self.blocked.items()}
                self.changed.notify_all()
            if self.stuck:
                raise _Stuck
            self.changed.wait(1.0)
        del self.blocked[rank]

    def _all_wait(self) -> bool:
        return all(
            r in self.done or (r in self.blocked and not self.blocked[r][0]())
            for r in range(self.world)
        )


class _Comm:
    """One of the processes, as the reader's function gets it."""

    def __init__(self, group: _Group, rank: int) -> None:
        self._group, self.rank, self.world = group, rank, group.world

    def send(self, tensor, to: int) -> None:
        group = self._group
        if not isinstance(to, int) or not 0 <= to < self.world or to == self.rank:
            raise Wrong(f"process {self.rank} of {self.world} sends to {to!r}")
        with group.changed:
            group.clocks[self.rank] += 1
            message = tensor.detach().clone(), group.clocks[self.rank]
            group.boxes[self.rank, to].append(message)
            group.changed.notify_all()

    def recv(self, source: int):
        group = self._group
        if not isinstance(source, int) or not 0 <= source < self.world:
            raise Wrong(f"process {self.rank} of {self.world} asks {source!r}")
        with group.changed:
            box = group.boxes[source, self.rank]
            group.wait(self.rank, lambda: len(box) > 0, f"recv from {source}")
            tensor, clock = box.popleft()
            group.clocks[self.rank] = max(group.clocks[self.rank], clock)
            return tensor

    def all_reduce(self, tensor) -> None:
        group = self._group
        if not group.may_sum:
            raise Wrong("all_reduce is no broadcast: use comm.send and comm.recv alone")
        if not isinstance(tensor, torch.Tensor):
            raise Wrong(f"all_reduce takes a tensor, got {tensor!r}")
        with group.changed:
            number = group.calls[self.rank]
            group.calls[self.rank] += 1
            parts = group.sums[number]
            parts[self.rank] = tensor.detach().clone()
            group.changed.notify_all()
            group.wait(self.rank, lambda: len(parts) == self.world, "all_reduce")
        shapes = {tuple(part.shape) for part in parts.values()}
        if len(shapes) > 1:
            raise Wrong(
                f"the processes add tensors of different shapes, {shapes}: has one of "
                "them left out an all_reduce?"
            )
        with torch.no_grad():
            tensor.copy_(sum(parts[r] for r in range(self.world)))


def _together(act, world: int, sums: bool = True) -> tuple[list, int]:
    """What ``act(comm)`` returns in each of ``world`` threads, and the rounds of it.

    Without ``sums``, ``comm.all_reduce`` is refused.

    Raises:
        Wrong: they wait for each other, or a message was never fetched.
        Exception: that of the first thread that has one of its own.
    """
    group = _Group(world, sums)
    results, errors = [None] * world, {}

    def run(rank):
        try:
            results[rank] = act(_Comm(group, rank))
        except BaseException as error:  # also a reader's sys.exit
            errors[rank] = error
        with group.changed:
            group.done.add(rank)
            group.blocked.pop(rank, None)
            if group.blocked and group._all_wait() and not group.stuck:
                group.stuck = {r: words for r, (_, words) in group.blocked.items()}
            group.changed.notify_all()

    threads = [
        threading.Thread(target=run, args=(r,), daemon=True) for r in range(world)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    if any(thread.is_alive() for thread in threads):
        raise Wrong(f"with {world} processes it does not end")
    for rank in range(world):
        if rank in errors and not isinstance(errors[rank], _Stuck):
            if isinstance(errors[rank], Wrong | Exception):
                raise errors[rank]
            raise Wrong(f"process {rank} ended by {type(errors[rank]).__name__}")
    if errors:
        waits = ", ".join(
            f"process {r} in {group.stuck[r]}" for r in sorted(group.stuck)
        )
        raise Wrong(f"with {world} processes a deadlock: for ever waits {waits}")
    left = sum(map(len, group.boxes.values()))
    if left:
        raise Wrong(f"with {world} processes, messages that nobody fetched: {left}")
    return results, max(group.clocks)


# --- 3 ------------------------------------------------------------------------


class _Sometimes(nn.Module):
    """A network whose second branch only bright pictures use; one layer is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.fixed, self.first = nn.Linear(2, 4), nn.Linear(4, 3)
        self.second = nn.Linear(2, 3)
        with torch.no_grad():
            for k, parameter in enumerate(self.parameters()):
                values = torch.linspace(-1, 1, parameter.numel()) * (1 + k / 4)
                parameter.copy_(values.reshape(parameter.shape))
        self.fixed.requires_grad_(False)

    def forward(self, images):
        scores = self.first(self.fixed(images).tanh())
        bright = images.sum(1) > 2
        if bright.any():
            scores = scores + self.second(images) * bright[:, None]
        return scores


def _step(counts, bright, stale=False, momentum=0.0):
    """A test of one step, or two: how many pictures each process has."""
    total = sum(counts)

    def parts():
        images = (torch.arange(2.0 * total) * 0.7).sin().reshape(total, 2)
        if bright:
            images[0] = torch.tensor([1.5, 1.0])  # of the first process that has any
        labels = torch.arange(total) * 2 % 3
        return images.split(counts), labels.split(counts)

    def make():
        model = _Sometimes()
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(trained, 0.5, momentum=momentum)
        if stale:
            for parameter in trained:
                parameter.grad = torch.ones_like(parameter)
        return model, optimizer

    def test(answer):
        images, labels = parts()
        wanted, optimizer = make()
        loss = F.cross_entropy(wanted(torch.cat(images)), torch.cat(labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        made = [make() for _ in counts]

        def act(comm):
            mine = images[comm.rank].clone(), labels[comm.rank].clone()
            return answer(comm, *made[comm.rank], *mine)

        got, _ = _together(act, len(counts))
        words = f"with {counts} pictures"
        for rank, (model, _) in enumerate(made):
            pairs = zip(
                model.named_parameters(), wanted.named_parameters(), strict=True
            )
            for (name, mine), (_, theirs) in pairs:
                if not torch.allclose(mine, theirs, rtol=1e-4, atol=1e-5):
                    raise Wrong(
                        f"{words}, process {rank}: {name} is not what one process gets "
                        f"from all, off by up to {(mine - theirs).abs().max():.3g}"
                    )
        for rank, value in enumerate(got):
            if not isinstance(value, float):
                kind = "None" if value is None else f"a {type(value).__name__}"
                raise Wrong(
                    f"{words}, process {rank} returns {kind}, not a Python number"
                )
            if not math.isclose(value, loss.item(), rel_tol=1e-4, abs_tol=1e-5):
                raise Wrong(
                    f"{words}, process {rank} returns {value:.4f}, the mean loss over "
                    f"all is {loss.item():.4f}"
                )

    return test


@exercise(
    "31.step_of_all",
    hint="Begin with the counts: an all_reduce of them tells each process how many "
    "pictures there are. Then look for every line that one process may skip.",
)
def step_of_all() -> list[Case]:
    return [
        Case("one process", test=_step([2], False)),
        Case("two equal shares", test=_step([2, 2], False)),
        Case("old gradients lie there", test=_step([2, 2], False, stale=True)),
        Case("three and one", test=_step([3, 1], False)),
        Case("a branch that one process uses", test=_step([2, 2], True)),
        Case("a process without pictures", test=_step([0, 3], False)),
        Case("four processes, all of it", test=_step([4, 0, 2, 3], True, True, 0.9)),
    ]


# --- 4 ------------------------------------------------------------------------


@exercise(
    "31.tree_broadcast",
    hint="After the first round two processes have it. In the second round both can "
    "send: to whom, so that four have it? Write the rule with the rank.",
)
def tree_broadcast() -> list[Case]:
    def spreads(says, world, shape=(3,)):
        def test(answer):
            size = math.prod(shape)
            wanted = torch.arange(1.0, size + 1).reshape(shape)
            # Others hold numbers of their own, which have to give way.
            tensors = [wanted.clone() if r == 0 else -wanted - r for r in range(world)]
            given = [tensor.view_as(tensor) for tensor in tensors]
            results, rounds = _together(
                lambda comm: answer(comm, given[comm.rank]), world, sums=False
            )
            for rank, tensor in enumerate(tensors):
                if not torch.equal(tensor, wanted):
                    hint = ""
                    if isinstance(results[rank], torch.Tensor):
                        hint = " (it must be changed in place)"
                    raise Wrong(
                        f"with {world} processes, process {rank} has "
                        f"{tensor.tolist()}, expected {wanted.tolist()}{hint}"
                    )
            limit = math.ceil(math.log2(world))
            if rounds > limit:
                raise Wrong(
                    f"with {world} processes it takes {rounds} rounds; {limit} are "
                    "enough"
                )

        return Case(says, test=test)

    return [
        spreads("one process", 1),
        spreads("two", 2),
        spreads("three", 3),
        spreads("four", 4),
        spreads("five, no power of two", 5),
        spreads("a matrix, seven", 7, (2, 2)),
        spreads("eight", 8),
        spreads("thirteen", 13),
    ]


# --- 5 ------------------------------------------------------------------------


@exercise(
    "31.hours_needed",
    hint="Think in segments: useful hours and the saving after them, perhaps with a "
    "restart before. Either the next failure comes before its end, or it does not.",
)
def hours_needed() -> list[Case]:
    def of(says, *args, expect):
        return Case(says, args=args, expect=expect)

    return [
        of("no work", 0, 2, 1, 1, [], expect=0),
        of("one short segment", 1, 2, 1, 1, [], expect=1),
        of("no failure, one saving", 4, 2, 1, 1, [], expect=5),
        of("a rest at the end", 5, 2, 1, 1, [], expect=7),
        of("the example", 4, 2, 1, 1, [4], expect=7),
        of("a failure while it saves", 4, 2, 1, 1, [2.5], expect=8.5),
        of("a failure at the end of a saving", 4, 2, 1, 1, [3], expect=6),
        of("a failure at the very end", 4, 2, 1, 1, [5], expect=5),
        of("a failure after the end", 4, 2, 1, 1, [9], expect=5),
        of("a failure in the restart", 4, 2, 1, 2, [4, 5], expect=9),
        of("a failure at hour 0", 2, 2, 1, 3, [0], expect=5),
        of("two failures in one segment", 2, 2, 1, 1, [1, 2.5], expect=5.5),
        of("never saved, so from the start", 4, 8, 1, 1, [3], expect=8),
        of("many", 6, 1, 0.5, 0.5, [1, 2, 4, 4.25, 7], expect=13),
    ]

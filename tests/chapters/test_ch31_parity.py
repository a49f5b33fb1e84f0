"""Chapter 31's exchanges and wrappers against torch's, in two and in three processes.

The functions come out of the notebook and run in real processes
(``tests/support/chapter_31_processes.py``); what needs no process is tried here.
"""

import json
import math

import chapter_31_processes as processes
import pytest
import torch

from booktools import chapter_code
from course_utils import workers

CHAPTER = "31_scaling_out"
LIMIT = 600  # seconds; it takes some 10

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """For each process, by the size of the group, what each scenario ended with.

    The same three processes do both, for to start them costs more than what they do.
    """
    file = str(tmp_path_factory.mktemp("processes") / "run")
    context = workers.context()
    context.set_forkserver_preload(  # imported once, for all processes
        ["torch._dynamo", "torch.distributed.rpc", "booktools.chapter_code"]
        + ["course_utils.checks", "course_utils.viz", "course_utils.runtime"]
    )
    worlds = processes.WORLDS
    started = [
        context.Process(target=processes.enter, args=(rank, file, worlds))
        for rank in range(max(worlds))
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(LIMIT)
    for process in started:
        process.kill()
        process.join()
    results = []
    for rank in range(max(worlds)):
        with open(f"{file}.{rank}", encoding="utf-8") as text:
            results.append(json.load(text))
    return results


@pytest.mark.parametrize("world", processes.WORLDS)
@pytest.mark.parametrize("name", [s.__name__ for s in processes.SCENARIOS])
def test_in_processes(found, name, world):
    for rank, of_rank in enumerate(found[:world]):
        said = of_rank.get(str(world), {}).get(name, "it was not reached")
        assert said == "fine", f"rank {rank}: {said}"


def test_the_mean_of_gradients():
    ours = chapter_code.definitions(CHAPTER, "mean_of_gradients")
    generator = torch.Generator().manual_seed(0)
    for counts in ([4], [2, 2], [1, 5], [3, 1, 8], [7, 2, 1, 1]):
        slopes = torch.rand(sum(counts), generator=generator)
        shares = slopes.split(counts)
        factors = [len(counts) * c / sum(counts) for c in counts]
        mended = ours.mean_of_gradients(shares, factors)
        assert mended == pytest.approx(slopes.mean().item(), rel=1e-5)
        plain = ours.mean_of_gradients(shares)
        wanted = sum(share.mean().item() for share in shares) / len(counts)
        assert plain == pytest.approx(wanted, rel=1e-5)


def test_the_pipelines_table():
    """Each slot of a stage is used once, in the order that the data allow."""
    gpipe = chapter_code.definitions(CHAPTER, "gpipe").gpipe
    for stages in (1, 2, 3, 5):
        for micro in (1, 2, 4, 9):
            table = gpipe(stages, micro)
            when = {
                (stage, m, forward): time
                for stage, row in enumerate(table)
                for time, m, forward in row
            }
            assert len(when) == 2 * stages * micro
            for stage, row in enumerate(table):
                assert len({time for time, _, _ in row}) == 2 * micro
                for m in range(micro):
                    if stage:
                        assert when[stage, m, True] > when[stage - 1, m, True]
                        assert when[stage, m, False] < when[stage - 1, m, False]
                    assert when[stage, m, False] > when[stage, m, True]
            length = 1 + max(when.values())
            idle = 1 - 2 * micro / length
            assert idle == pytest.approx((stages - 1) / (micro + stages - 1))


def test_memory_of_the_stages():
    ours = chapter_code.definitions(CHAPTER, "gigabytes", "STAGES")
    for stage in ours.STAGES:
        assert ours.gigabytes(1e9, 1, stage) == pytest.approx(16)
    kept = [ours.gigabytes(1e9, 4, stage) for stage in ours.STAGES]
    assert kept == pytest.approx([16, 8 + 8 / 4, 4 + 12 / 4, 16 / 4])


def test_played_failures_follow_the_formula():
    """Exact for failures without memory: (M + R) (e^((t + C) / M) - 1) a segment."""
    ours = chapter_code.definitions(CHAPTER, "lost_share", "SAVE", "RESTART")
    between = 3.0
    for interval in (0.05, 0.2, 1.0):
        played = [ours.lost_share(interval, between, seed=s) for s in range(40)]
        growth = math.exp((interval + ours.SAVE) / between) - 1
        exact = 1 - interval / ((between + ours.RESTART) * growth)
        assert sum(played) / 40 == pytest.approx(exact, abs=0.012), interval
    assert ours.lost_share(1.0, 1e12) == pytest.approx(
        ours.SAVE / (1 + ours.SAVE), rel=1e-9
    )


def test_scaling_efficiency():
    ours = chapter_code.definitions(CHAPTER, "efficiency", "step_seconds")
    for how in ({}, {"overlap": False}, {"tree": True}, {"fixed_batch": True}):
        values = [ours.efficiency(2**k, **how) for k in range(3, 13)]
        assert all(a >= b for a, b in zip(values, values[1:], strict=False)), how
        assert 0 < values[-1] <= values[0] <= 1.0001
    assert ours.efficiency(8) == ours.efficiency(8, fixed_batch=True) == 1

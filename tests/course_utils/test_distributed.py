"""One process or several: which backend, and whose error it is."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import two_processes

from course_utils.training import distributed

LIMIT = 400  # seconds for all scenarios; they take some 10, more on a busy machine


@pytest.mark.parametrize(
    "places, backend",
    [
        ([(1, 1)], "nccl"),
        ([(2, 2), (2, 2)], "nccl"),
        ([(2, 4), (2, 4)], "nccl"),
        ([(2, 1), (2, 1)], "gloo"),  # two processes, one GPU
        ([(2, 0), (2, 0)], "gloo"),
        ([(2, 2), (2, 2), (2, 1), (2, 1)], "gloo"),  # a second machine with one GPU
        ([(2, 2), (2, 0)], "gloo"),
    ],
)
def test_one_backend_for_all(places, backend):
    assert distributed.choose_backend(places) == backend


def test_no_process_has_no_backend():
    with pytest.raises(ValueError, match="no process"):
        distributed.choose_backend([])


@pytest.fixture
def joined(monkeypatch):
    """What start() does as one process of two, with GPUs and the other's answer."""

    def start(local, gpus, other, nccl=True):
        done, store = {}, {f"place/{1 - local}": other.encode()}

        class Store:
            def set(self, key, value):
                store[key] = value.encode()

            def get(self, key):
                return store[key]

        def rendezvous(address):
            assert address == "env://"
            yield Store(), local, 2

        numbers = {"WORLD_SIZE": 2, "RANK": local, "LOCAL_RANK": local}
        for name, value in (numbers | {"LOCAL_WORLD_SIZE": 2}).items():
            monkeypatch.setenv(name, str(value))
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.cuda, "set_device", lambda i: done.update(device=i))
        monkeypatch.setattr(distributed.dist, "is_nccl_available", lambda: nccl)
        monkeypatch.setattr(distributed.dist, "rendezvous", rendezvous)
        monkeypatch.setattr(
            distributed.dist,
            "init_process_group",
            lambda backend, **options: done.update(backend=backend, **options),
        )
        distributed.start()
        assert done.pop("rank") == local and done.pop("world_size") == 2
        assert isinstance(done.pop("store"), Store)
        return done, store[f"place/{local}"]

    return start


@pytest.mark.parametrize("local", [0, 1])
def test_a_gpu_for_each_process(joined, local):
    assert joined(local, 2, "2 2") == ({"backend": "nccl", "device": local}, b"2 2")


@pytest.mark.parametrize("local", [0, 1])
def test_two_processes_on_one_gpu(joined, local):
    assert joined(local, 1, "2 1") == ({"backend": "gloo", "device": 0}, b"2 1")


def test_the_others_answer_counts(joined):
    assert joined(0, 2, "2 0") == ({"backend": "gloo", "device": 0}, b"2 2")
    assert joined(0, 0, "2 2") == ({"backend": "gloo"}, b"2 0")
    assert joined(0, 2, "2 2", nccl=False)[0]["backend"] == "gloo"


def test_start_alone_and_without_torchrun(monkeypatch):
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    distributed.start()
    assert not torch.distributed.is_initialized()
    assert distributed.rank() == 0 and distributed.world_size() == 1
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        with pytest.raises(ValueError, match=f"WORLD_SIZE is set, {name} is not"):
            distributed.start()
        monkeypatch.setenv(name, "0")


def test_alone_an_error_is_its_own():
    with pytest.raises(KeyError, match="mine") as caught:
        with distributed.together():
            raise KeyError("mine")
    assert not hasattr(caught.value, "__notes__")
    assert distributed.gather("x") == ["x"]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """For each scenario what either process raised: [first, second]."""
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root = Path(__file__).resolve().parents[2]
    processes = []
    for rank in (0, 1):
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(map(str, [root, root / "tests" / "support"])),
            **{"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"},
            **{"RANK": str(rank), "LOCAL_RANK": str(rank)},
            **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
        }
        processes.append(
            subprocess.Popen(
                [sys.executable, two_processes.__file__, str(folder)],
                env=environment,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        for process in processes:
            _, words = process.communicate(timeout=LIMIT)
            assert process.returncode == 0, words[-2000:]
    finally:
        for process in processes:
            process.kill()
    both = [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert both[0].keys() == both[1].keys()
    return {name: [of_rank[name] for of_rank in both] for name in both[0]}


def test_processes_that_see_different_gpus_take_one_backend(found):
    assert found["backend"] == ["gloo", "gloo"]


def test_without_an_error_all_goes_well(found):
    assert found["nothing"] == found["at the end"] == ["fine", "fine"]


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize(
    "name, words",
    [
        ("nan", "NonFiniteLoss: step 1, images with image_id [7]: loss_a = nan"),
        ("label", "ValueError: image_id 8: labels start at 1"),
        ("file", "OSError: image 1 is truncated"),
    ],
)
def test_an_error_of_one_stops_both(found, name, words, rank):
    here, there = found[f"{name} {rank}"][rank], found[f"{name} {rank}"][1 - rank]
    assert here.startswith(words) and there.startswith(words)
    assert "raised in" not in here
    assert f"raised in process {rank}; this is process {1 - rank}" in there


def test_loaders_of_different_lengths(found):
    for words in found["lengths"]:
        assert words.startswith("ValueError: the loaders of the processes give diff")
        assert "processes [1] ended first" in words


def test_an_error_that_cannot_be_sent(found):
    first, second = found["local"]
    assert second.startswith("Local: of this process only")
    assert first.startswith("RuntimeError: Local: of this process only raised in")


def test_a_stream_is_refused(found):
    for words in found["stream"]:
        assert words.startswith("ValueError: several processes cannot share an Iter")


@pytest.mark.parametrize(
    "name, words",
    [
        ("evaluate", "ValueError: two images have the image_id 3"),
        ("folder", "CheckpointError: cannot write into the folder"),
        ("elsewhere", "CheckpointError: there is no checkpoint"),
        ("unwritable", "CheckpointError: no space left"),
    ],
)
def test_where_only_one_can_fail_both_stop(found, name, words):
    assert all(said.startswith(words) for said in found[name]), found[name]

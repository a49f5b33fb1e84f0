"""Errata of chapter 8 that a test settles: misprints, old names, small slips."""

import inspect
import subprocess
import sys

import pytest
import torch
import torchvision
from torch import nn
from torch.utils import data


def test_E_058():
    """The method is `__getitem__`: a loader finds no sample under another name."""

    class Misspelled(data.Dataset):
        def __len__(self):
            return 2

        def __getitem(self, i):
            return i

    class Right(Misspelled):
        def __getitem__(self, i):
            return i

    with pytest.raises(NotImplementedError):
        list(data.DataLoader(Misspelled()))
    assert [batch.tolist() for batch in data.DataLoader(Right())] == [[0], [1]]


def test_E_065():
    """A shuffled validation loader gives the same sum, but samples change places."""
    errors = torch.arange(50.0)
    runs = []
    for seed in (0, 1):
        generator = torch.Generator().manual_seed(seed)
        loader = data.DataLoader(errors, 8, shuffle=True, generator=generator)
        runs.append(torch.cat(list(loader)))
    assert runs[0].sum() == runs[1].sum() == errors.sum()
    assert not torch.equal(*runs)
    assert torch.equal(torch.cat(list(data.DataLoader(errors, 8))), errors)


def test_E_075():
    """Test data need no shuffling: the count of hits does not depend on the order."""
    pairs = data.TensorDataset(torch.arange(20) % 3, torch.arange(20) % 2)
    hits = [
        sum((a == b).sum().item() for a, b in data.DataLoader(pairs, 6, shuffle=s))
        for s in (False, True)
    ]
    assert hits[0] == hits[1]


def test_E_083():
    """`path in list` compares with one path after the other, `path in set` with few."""

    class Name(str):
        compared = 0

        def __eq__(self, other):
            Name.compared += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    paths = [Name(f"{i}.jpg") for i in range(300)]
    held = paths[::5]
    needed = {}
    for kind in (list, set):
        store, Name.compared = kind(held), 0
        assert sum(str(path) in store for path in paths) == 60
        needed[kind] = Name.compared
    assert needed[list] > 20 * needed[set]


def test_E_101():
    """Indices come from the batch sampler; the data set is asked for single items."""

    class Asked:
        calls = []

        def __len__(self):
            return 4

        def __getitem__(self, i):
            self.calls.append(i)
            return i

    dataset = Asked()
    loader = data.DataLoader(dataset, batch_size=2)
    assert next(iter(loader.batch_sampler)) == [0, 1]
    list(loader)
    assert dataset.calls == [0, 1, 2, 3]


def test_E_102():
    """Without @property, `num_samples` is a method, and neither length nor size."""

    class Misprinted:
        def __init__(self, source):
            self.source = source

        def num_samples(self):  # the library's has @property above this line
            return len(self.source)

        def __len__(self):
            return self.num_samples

        def __iter__(self):
            return iter(torch.randint(3, (self.num_samples,)).tolist())

    sampler = Misprinted([1, 2, 3])
    with pytest.raises(TypeError):
        len(sampler)
    with pytest.raises(TypeError):
        list(iter(sampler))
    assert data.RandomSampler([1, 2, 3]).num_samples == 3


def test_E_103():
    """`num_samples` is optional in both cases, and is what the length returns."""
    assert len(data.RandomSampler(range(5), replacement=True)) == 5
    assert len(data.RandomSampler(range(5))) == 5
    assert len(data.RandomSampler(range(5), num_samples=2)) == 2


def test_E_104():
    """A sequential sampler is no example of a random one: its order never changes."""
    sampler = data.SequentialSampler(range(50))
    assert list(sampler) == list(sampler) == list(range(50))
    generator = torch.Generator().manual_seed(0)
    sampler = data.RandomSampler(range(50), generator=generator)
    assert list(sampler) != list(sampler)


def test_E_105():
    """The source of `BatchSampler` has no full-width comma, nor any such character."""
    source = inspect.getsource(data.BatchSampler)
    assert "def __init__" in source and source.isascii()


def test_E_106():
    """Without dropping, the length is the number of batches, rounded up."""
    batches = data.BatchSampler(data.SequentialSampler(range(5)), 2, False)
    assert len(batches) == 3 != len(batches.sampler)


def test_E_108():
    """The parameter is `num_workers`."""
    with pytest.raises(TypeError, match="num_works"):
        data.DataLoader([1], num_works=0)
    assert data.DataLoader([1], num_workers=0).num_workers == 0


def test_E_109():
    """Ready-made data sets are in torchvision; torch has no module of that name."""
    assert not hasattr(torch, "datasets")
    assert hasattr(torchvision.datasets, "MNIST")


def test_E_111():
    """MNIST is read from the raw idx files; the old names are training.pt, test.pt."""
    mnist = torchvision.datasets.MNIST
    assert (mnist.training_file, mnist.test_file) == ("training.pt", "test.pt")
    assert all("idx" in name for name, _ in mnist.resources)


def test_E_225():
    """A DataLoader has more than 11 parameters."""
    assert len(inspect.signature(data.DataLoader).parameters) > 11


def test_E_227():
    """Methods that only `pass` return None, and a length of None is no length."""

    class Skeleton(data.Dataset):
        def __len__(self):
            pass

        def __getitem__(self, i):
            pass

    with pytest.raises(TypeError, match="NoneType"):
        data.DataLoader(Skeleton(), shuffle=True)


GUARD = 'if __name__ == "__main__":\n    '
SCRIPT = """\
import multiprocessing

worker = multiprocessing.get_context("spawn").Process(target=print, args=("hello",))
{}worker.start()
"""


def test_E_228(tmp_path):
    """A script that starts a process needs the guard where that process imports it.

    DataLoader starts its workers in this way; torch is left out to save its import.
    """
    done = {}
    for name, guard in (("guarded", GUARD), ("bare", "")):
        path = tmp_path / f"{name}.py"
        path.write_text(SCRIPT.format(guard))
        done[name] = subprocess.run(
            [sys.executable, str(path)], capture_output=True, text=True, timeout=600
        )
    assert done["guarded"].stdout.strip() == "hello", done["guarded"].stderr
    assert "__main__" in done["bare"].stderr and done["bare"].stdout.strip() == ""


def test_E_229():
    """The method is `zero_grad`."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)
    assert not hasattr(optimizer, "grad_zero")
    optimizer.zero_grad()


def test_E_230():
    """ImageFolder has more than four parameters."""
    names = list(inspect.signature(torchvision.datasets.ImageFolder).parameters)
    assert names[:4] == ["root", "transform", "target_transform", "loader"]
    assert {"is_valid_file", "allow_empty"} <= set(names)

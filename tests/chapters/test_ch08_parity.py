"""Chapter 8's samplers, collate function and loader against torch's, and that it bites.

The classes come out of the notebook. Two epochs from equally seeded generators must
give equal orders, and leave the generators in equal states.
"""

import ast
import itertools
import math
from collections import Counter, defaultdict, namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils import data
from torchvision import tv_tensors
from torchvision.datasets import ImageFolder

from booktools import chapter_code

CHAPTER = "08_data_loading"
NAMES = [
    *("seeded", "SequentialSampler", "RandomSampler", "SubsetRandomSampler"),
    *("WeightedRandomSampler", "BatchSampler", "DistributedSampler", "collate"),
    *("GroupedBatchSampler", "Loader", "Subset", "random_split", "ImageFolder"),
    "Stream",
]
OURS = chapter_code.definitions(CHAPTER, *NAMES)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def history(space, name, *args, seed=0, **options):
    """Two epochs, the length and the generator's state; or the exception's type."""
    generator = seeded(seed)
    try:
        sampler = getattr(space, name)(*args, **options, generator=generator)
        epochs = [list(sampler), list(sampler)]
    except Exception as error:
        return type(error)
    return epochs, len(sampler), generator.get_state().tolist()


WEIGHTS = [0.1, 0.9, 0.4, 0.7, 3.0, 0.6]
SAMPLERS = {
    "one": ("RandomSampler", range(1)),
    "few": ("RandomSampler", range(7)),
    "many": ("RandomSampler", range(3000)),
    "none": ("RandomSampler", []),
    "fewer than there are": ("RandomSampler", range(7), False, 3),
    "twice": ("RandomSampler", range(7), False, 14),
    "twice and a part": ("RandomSampler", range(7), False, 17),
    "replacement": ("RandomSampler", range(7), True),
    "replacement, one": ("RandomSampler", range(7), True, 1),
    "replacement, 32": ("RandomSampler", range(7), True, 32),
    "replacement, 77": ("RandomSampler", range(70000), True, 77),
    "replacement, none to draw from": ("RandomSampler", [], True),
    "num_samples 0": ("RandomSampler", range(3), True, 0),
    "num_samples -1": ("RandomSampler", range(3), False, -1),
    "subset": ("SubsetRandomSampler", [9, 3, 3, 5]),
    "empty subset": ("SubsetRandomSampler", []),
    "lottery": ("WeightedRandomSampler", WEIGHTS, 100),
    "lottery, one draw": ("WeightedRandomSampler", WEIGHTS, 1),
    "lottery, one index": ("WeightedRandomSampler", [2.0], 5),
    "lottery, a zero": ("WeightedRandomSampler", [1.0, 0.0, 3.0], 50),
    "lottery, integers": ("WeightedRandomSampler", [1, 5, 2], 50),
    "lottery, tiny": ("WeightedRandomSampler", [1e-30, 3e-30], 50),
    "race": ("WeightedRandomSampler", WEIGHTS, 4, False),
    "race to the end": ("WeightedRandomSampler", WEIGHTS, 6, False),
    "race of many": ("WeightedRandomSampler", [0.5, 1, 2] * 100, 70, False),
}


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("case", SAMPLERS)
def test_sampler_equals_the_library(case, seed):
    name, *args = SAMPLERS[case]
    assert history(OURS, name, *args, seed=seed) == history(
        data, name, *args, seed=seed
    )


def test_without_a_generator_the_global_state_decides():
    for name, *args in (
        ("RandomSampler", range(9)),
        ("RandomSampler", range(9), True, 40),
        ("SubsetRandomSampler", [3, 1, 2]),
        ("WeightedRandomSampler", WEIGHTS, 20),
    ):
        found = []
        for space in (OURS, data):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(3)
                sampler = getattr(space, name)(*args)
                found.append(([list(sampler), list(sampler)], torch.rand(1).item()))
        assert found[0] == found[1]


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 6, 16])
@pytest.mark.parametrize("n", [0, 1, 5, 6])
def test_batches_equal_the_library(n, size, drop_last):
    ours = OURS.BatchSampler(OURS.SequentialSampler(range(n)), size, drop_last)
    library = data.BatchSampler(data.SequentialSampler(range(n)), size, drop_last)
    assert list(ours) == list(library)
    assert len(ours) == len(library) == len(list(ours))


def shares(space, n, ranks, epoch, **options):
    found = []
    for rank in range(ranks):
        sampler = space.DistributedSampler(range(n), ranks, rank, **options)
        sampler.set_epoch(epoch)
        found.append((list(sampler), len(sampler)))
    return found


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("n, ranks", [(11, 2), (12, 4), (1, 3), (2, 5), (7, 1), (0, 2)])
def test_ranks_equal_the_library(n, ranks, shuffle, drop_last):
    for seed, epoch in ((0, 0), (5, 3)):
        how = {"shuffle": shuffle, "seed": seed, "drop_last": drop_last}
        found = shares(OURS, n, ranks, epoch, **how)
        assert found == shares(data.distributed, n, ranks, epoch, **how)
        if not drop_last:
            assert {i for share, _ in found for i in share} == set(range(n))


@pytest.mark.parametrize("lengths", [[7, 3], [10, 0], [4, 4, 2]])
def test_splits_equal_the_library(lengths):
    ours = OURS.random_split(range(10), lengths, seeded(4))
    library = data.random_split(range(10), lengths, seeded(4))
    assert [list(part) for part in ours] == [list(part) for part in library]


Pair = namedtuple("Pair", "image label")
BATCHES = {
    "tensors": [torch.ones(2, 3), torch.zeros(2, 3)],
    "images": [tv_tensors.Image(torch.ones(3, 2, 2))] * 2,
    "one": [torch.ones(2)],
    "empty tensors": [torch.ones(0, 4)] * 3,
    "arrays": [np.arange(3), np.arange(3)],
    "floats": [0.5, 1.5],
    "integers": [1, 2, 3],
    "booleans": [True, False],
    "strings": ["a", "b"],
    "bytes": [b"a", b"b"],
    "pairs": [(torch.ones(2), 1), (torch.zeros(2), 0)],
    "named pairs": [Pair(torch.ones(2), 1), Pair(torch.zeros(2), 0)],
    "an integer first": [1, 2.5],
    "a float first": [2.5, 1],
    "nested": [{"a": (1, [0.5, "x"]), "b": {"c": torch.ones(1)}}] * 2,
    "no parts": [(), ()],
}


def same(a, b):
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype and torch.equal(a, b)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    else:
        assert a == b


@pytest.mark.parametrize("name", BATCHES)
def test_collate_equals_the_library(name):
    same(OURS.collate(BATCHES[name]), data.default_collate(BATCHES[name]))


def test_collate_refuses_what_the_library_refuses():
    for batch, error in (
        ([torch.ones(2), torch.ones(3)], RuntimeError),
        ([{"a": 1}, {"b": 1}], KeyError),
        ([None, None], TypeError),
    ):
        for collate in (OURS.collate, data.default_collate):
            with pytest.raises(error):
                collate(batch)
    with pytest.raises(ValueError):  # the library: RuntimeError
        OURS.collate([(1, 2), (1,)])


class Squares(data.Dataset):
    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        return torch.full((2,), i), i * i


class Counted(data.IterableDataset):
    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __iter__(self):
        return iter(range(self.n))


WAYS = {
    "plain": {},
    "in order": {"batch_size": 4},
    "dropped": {"batch_size": 4, "drop_last": True},
    "shuffled": {"batch_size": 3, "shuffle": True},
    "larger than the data": {"batch_size": 64, "shuffle": True},
    "nothing left": {"batch_size": 64, "drop_last": True},
    "sampler": {"sampler": [3, 1, 1], "batch_size": 2},
    "batches": {"batch_sampler": [[3, 1], [2]]},
    "own collate": {"batch_size": 2, "collate_fn": list},
    "sampler and shuffle": {"sampler": [1], "shuffle": True},
    "batches and size": {"batch_sampler": [[1]], "batch_size": 2},
    "batches and shuffle": {"batch_sampler": [[1]], "shuffle": True},
    "batches and sampler": {"batch_sampler": [[1]], "sampler": [1]},
    "batches and drop_last": {"batch_sampler": [[1]], "drop_last": True},
}


def loaded(kind, dataset, options):
    generator = seeded(7)
    try:
        loader = kind(dataset, **options, generator=generator)
        epochs = [list(loader), list(loader)]
        return epochs, len(loader), generator.get_state()
    except ValueError as error:
        return type(error)


@pytest.mark.parametrize("n", [0, 1, 10])
@pytest.mark.parametrize("way", WAYS)
def test_loader_equals_the_library(way, n):
    if n < 10 and way in ("sampler", "batches"):
        pytest.skip("the indices need ten samples")
    same(
        loaded(OURS.Loader, Squares(n), WAYS[way]),
        loaded(data.DataLoader, Squares(n), WAYS[way]),
    )


@pytest.mark.parametrize("way", ["plain", "in order", "dropped", "shuffled", "sampler"])
@pytest.mark.parametrize("n", [0, 1, 10])
def test_streams_equal_the_library(n, way):
    same(
        loaded(OURS.Loader, Counted(n), WAYS[way]),
        loaded(data.DataLoader, Counted(n), WAYS[way]),
    )


def test_grouped_batches():
    groups = [i % 3 for i in range(20)]
    order = torch.randperm(20, generator=seeded()).tolist()
    for drop_last in (False, True):
        sampler = OURS.GroupedBatchSampler(order, groups, 4, drop_last)
        batches = list(sampler)
        assert len(sampler) == len(batches) == (3 if drop_last else 6)
        assert all(len({groups[i] for i in batch}) == 1 for batch in batches)
        for group in range(3):  # within a group, the sampler's order
            seen = [i for b in batches for i in b if groups[i] == group]
            wanted = [i for i in order if groups[i] == group]
            assert seen == (wanted[:4] if drop_last else wanted)
    one = OURS.GroupedBatchSampler(order, [0] * 20, 6)
    assert list(one) == list(data.BatchSampler(order, 6, False))
    assert list(OURS.GroupedBatchSampler([], [], 4)) == []
    assert list(sampler) == list(sampler)  # nothing is left over from an epoch


def test_folder_equals_the_library(tmp_path: Path):
    for name, mode, count in (("b", "L", 12), ("a", "RGBA", 2), ("C", "P", 1)):
        (tmp_path / name / "inner").mkdir(parents=True)
        for i in range(count):
            picture = Image.new("L", (3, 2), i).convert(mode)
            picture.save(tmp_path / name / f"{i}.png")
        picture.save(tmp_path / name / "inner" / "x.png")
    (tmp_path / "note.txt").write_text("no class")
    ours, library = OURS.ImageFolder(tmp_path), ImageFolder(tmp_path)
    assert ours.classes == library.classes
    assert ours.class_to_idx == library.class_to_idx
    assert sorted(ours.samples) == sorted(library.samples)
    for (path, label), (_, target) in zip(ours.samples, ours, strict=False):
        assert (
            label
            == target
            == library.class_to_idx[Path(path).relative_to(tmp_path).parts[0]]
        )
    wanted = dict(library.samples)
    for i in range(len(ours)):
        picture, label = ours[i]
        theirs = library.loader(ours.samples[i][0])
        assert (
            picture.tobytes() == theirs.tobytes()
            and wanted[ours.samples[i][0]] == label
        )


# --- the comparison bites: mistakes planted in the chapter's own source ---------------


def planted(old: str, new: str):
    """The chapter's definitions with one piece of their source replaced."""
    chunks = {}
    for cell in chapter_code._cells(CHAPTER):
        if not {"exercise", "solution"} & set(cell.metadata.get("tags", [])):
            for node in ast.parse(cell.source).body:
                if getattr(node, "name", None) in NAMES:
                    source = ast.get_source_segment(cell.source, node)
                    chunks.setdefault(node.name, source)
    source = "\n\n\n".join(chunks.values())
    assert source.count(old) == 1, f"{source.count(old)} times in the chapter: {old}"
    space = {
        **{"torch": torch, "np": np, "math": math, "itertools": itertools},
        **{"Counter": Counter, "defaultdict": defaultdict, "Path": Path},
        **{"Dataset": data.Dataset, "IterableDataset": data.IterableDataset},
        "Image": Image,
    }
    exec(compile(source.replace(old, new), "<planted>", "exec"), space)
    return type("Planted", (), {name: staticmethod(space[name]) for name in chunks})


def samplers_differ(space):
    return any(
        history(space, name, *args) != history(data, name, *args)
        for name, *args in SAMPLERS.values()
    )


def batches_differ(space):
    return any(
        (list(ours), len(ours)) != (list(library), len(library))
        for n, size, drop in itertools.product((0, 5, 6), (1, 3, 16), (False, True))
        for ours, library in [
            [k.BatchSampler(range(n), size, drop) for k in (space, data)]
        ]
    )


def ranks_differ(space):
    return any(
        shares(space, 11, 4, 2, **how) != shares(data.distributed, 11, 4, 2, **how)
        for how in ({"seed": 1}, {"shuffle": False}, {"drop_last": True})
    )


def loaders_differ(space):
    for options in WAYS.values():
        for dataset in (Squares(10), Counted(10)):
            if isinstance(dataset, Counted) and "batch_sampler" in options:
                continue
            found = [
                loaded(k, dataset, options) for k in (space.Loader, data.DataLoader)
            ]
            try:
                same(*found)
            except AssertionError:
                return True
    return False


def collates_differ(space):
    for batch in BATCHES.values():
        try:
            same(space.collate(batch), data.default_collate(batch))
        except Exception:
            return True
    return False


PLANTED = {
    "one shuffle for all rounds": (
        "generator=generator)\n            yield from order[",
        "generator=seeded(0))\n            yield from order[",
        samplers_differ,
    ),
    "the part of the last round forgotten": (
        *("[self.n] * rounds + [rest]", "[self.n] * rounds"),
        samplers_differ,
    ),
    "num_samples of 0 taken as none": (
        "self.n if num_samples is None else num_samples",
        "num_samples or self.n",
        samplers_differ,
    ),
    "one too few faces": (
        *("torch.randint(self.n,", "torch.randint(max(self.n - 1, 1),"),
        samplers_differ,
    ),
    "places instead of indices": (
        "[self.indices[i] for i in order.tolist()]",
        "[i for i in order.tolist()]",
        samplers_differ,
    ),
    "darts in float32": (
        *(
            "torch.rand(self.num_samples, dtype=torch.float64,",
            "torch.rand(self.num_samples,",
        ),
        samplers_differ,
    ),
    "weights not normalized": (
        *("self.weights.cumsum(0) / self.weights.sum()", "self.weights.cumsum(0)"),
        samplers_differ,
    ),
    "the slow ones win": (
        *("(waiting / self.weights).argsort()", "(waiting * self.weights).argsort()"),
        samplers_differ,
    ),
    "drop_last drops a full batch": (
        *("if len(batch) == self.batch_size or", "if len(batch) < self.batch_size or"),
        batches_differ,
    ),
    "the length rounds down": (
        "if self.drop_last else math.ceil(count)",
        "if self.drop_last else math.floor(count)",
        batches_differ,
    ),
    "blocks instead of every second": (
        "list(filled)[self.rank::self.num_replicas]",
        "list(filled)[self.rank * self.num_samples:][:self.num_samples]",
        ranks_differ,
    ),
    "the epoch forgotten": (
        *("manual_seed(self.seed + self.epoch)", "manual_seed(self.seed)"),
        ranks_differ,
    ),
    "no seed for the workers": (
        "torch.empty((), dtype=torch.int64).random_(generator=self.generator)",
        "pass",
        loaders_differ,
    ),
    "drop_last lost": (
        "BatchSampler(sampler, batch_size, drop_last)",
        "BatchSampler(sampler, batch_size)",
        loaders_differ,
    ),
    "a contradiction allowed": (
        *("if sampler is not None and shuffle:", "if False:"),
        loaders_differ,
    ),
    "floats in float32": (
        *("torch.tensor(batch, dtype=torch.float64)", "torch.tensor(batch)"),
        collates_differ,
    ),
    "tuples stay tuples": (
        "parts = [collate(part) for part in zip(*batch, strict=True)]",
        "parts = tuple(collate(part) for part in zip(*batch, strict=True))",
        collates_differ,
    ),
    "a named tuple becomes a list": (
        *('if hasattr(first, "_fields") else parts', "if False else parts"),
        collates_differ,
    ),
}


@pytest.mark.parametrize("mistake", PLANTED)
def test_planted_mistake_is_caught(mistake):
    old, new, differs = PLANTED[mistake]
    assert differs(planted(old, new))


def test_the_source_itself_is_no_mistake():
    space = planted("class Loader:", "class Loader :")
    checks = (samplers_differ, batches_differ, ranks_differ, collates_differ)
    assert not any(differs(space) for differs in checks)
    for options in WAYS.values():
        found = [
            loaded(k, Squares(10), options) for k in (space.Loader, data.DataLoader)
        ]
        same(*found)

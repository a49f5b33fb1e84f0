"""Exercises of chapter 8, data loading."""

import copy
import itertools
import math
import random

import numpy as np
import torch
from torch.utils import data

from course_utils.checks.core import Case, Wrong, difference, exercise

__all__: list[str] = []


def _global_states() -> dict:
    """The states of the three global generators, by their owners."""
    kind, keys, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state().tolist(),
        "NumPy": (kind, keys.tolist(), *rest),
        "Python": random.getstate(),
    }


# --- 1 ------------------------------------------------------------------------


@exercise(
    "08.training_steps",
    hint="Work from the inside out: the samples of one rank, then its batches in "
    "one epoch, then all epochs. For whole numbers -(-a // b) is a / b, "
    "rounded up.",
)
def training_steps() -> list[Case]:
    def case(says, n, batch_size, ranks, epochs, drop_last):
        share = math.ceil(n / ranks)
        cut = math.floor if drop_last else math.ceil
        expect = epochs * cut(share / batch_size)
        args = (n, batch_size, ranks, epochs, drop_last)
        return Case(says, args=args, expect=expect)

    return [
        case("one rank, one epoch, no rest", 4, 2, 1, 1, False),
        case("one rank, a rest", 11, 2, 1, 1, False),
        case("one rank, the rest dropped", 11, 2, 1, 1, True),
        case("two ranks: the shares are filled up", 11, 2, 2, 1, True),
        case("more ranks than samples", 2, 1, 3, 1, False),
        case("a batch larger than the data", 3, 16, 1, 1, False),
        case("the same with drop_last", 3, 16, 1, 1, True),
        case("no samples", 0, 4, 2, 3, False),
        case("several epochs", 120, 4, 3, 10, False),
        case("several epochs with a rest each", 121, 8, 2, 10, True),
    ]


# --- 2 ------------------------------------------------------------------------


@exercise(
    "08.repeat_factors",
    hint="First make the set of classes of each picture, so that two boxes of "
    "one class count once. Then count in how many pictures each class is.",
)
def repeat_factors() -> list[Case]:
    def case(says, labels, t, expect):
        tensors = [torch.tensor(part, dtype=torch.int64) for part in labels]
        return Case(says, args=(tensors, t), expect=torch.tensor(expect))

    half, third = math.sqrt(2), math.sqrt(3)
    return [
        case("one class in each picture", [[0], [0]], 0.5, [1.0, 1.0]),
        case("a class in half of the pictures", [[0], []], 1.0, [half, 1.0]),
        case("twice in one picture counts once", [[0, 0], []], 1.0, [half, 1.0]),
        case(
            "the rarest class decides",
            [[0, 1], [0], [0]],
            1.0,
            [third, 1.0, 1.0],
        ),
        case("frequent classes get no less than 1", [[0], [0]], 0.1, [1.0, 1.0]),
        case(
            "the example of the text",
            [[0], [0, 0], [0, 1], []],
            1.0,
            [math.sqrt(4 / 3), math.sqrt(4 / 3), 2.0, 1.0],
        ),
        case(
            "two rare classes in one picture: the largest counts",
            [[0, 1], [0], [], []],
            1.0,
            [2.0, half, 1.0, 1.0],
        ),
        case("labels with gaps", [[90], [7], [7]], 1.0, [third, *[math.sqrt(1.5)] * 2]),
        case("no pictures", [], 1.0, []),
    ]


# --- 3 ------------------------------------------------------------------------


@exercise(
    "08.split_views",
    hint="One shuffle of the indices is enough for both parts. Draw it from a "
    "generator that your function makes and seeds itself.",
)
def split_views() -> list[Case]:
    def views(n):
        return [("train", i) for i in range(n)], [("val", i) for i in range(n)]

    def parts(answer, n, num_val, seed=0):
        result = answer(*views(n), num_val, seed)
        if not isinstance(result, (tuple, list)) or len(result) != 2:
            raise Wrong("two parts were expected: training and validation")
        if not all(isinstance(part, data.Subset) for part in result):
            raise Wrong("both parts should be data.Subset objects")
        return [[part[i] for i in range(len(part))] for part in result]

    def case(says, n, num_val):
        def test(answer):
            train, val = parts(answer, n, num_val)
            if len(val) != num_val or len(train) != n - num_val:
                raise Wrong(
                    f"{n} samples, num_val={num_val}: the parts have "
                    f"{len(train)} and {len(val)} samples"
                )
            if {kind for kind, _ in train} - {"train"}:
                raise Wrong("the training part shows samples of val_view")
            if {kind for kind, _ in val} - {"val"}:
                raise Wrong("the validation part shows samples of train_view")
            numbers = [i for _, i in train + val]
            twice = len(numbers) - len(set(numbers))
            if twice:
                raise Wrong(f"{twice} of {n} pictures are in both parts")

        return Case(says, test=test)

    def repeats(answer):
        torch.manual_seed(1)
        first = parts(answer, 30, 10)
        torch.manual_seed(2)
        torch.rand(5)
        if parts(answer, 30, 10) != first:
            raise Wrong("equal seeds gave two splits: torch's global state was used")
        if parts(answer, 30, 10, seed=1) == first:
            raise Wrong("two seeds gave one split")
        held = [i for _, i in first[1]]
        steps = {(b - a) % 30 for a, b in itertools.pairwise(sorted(held))}
        if len(steps) == 1:
            raise Wrong(f"the validation part is no random choice: {sorted(held)}")

    def global_state(answer):
        before = _global_states()
        parts(answer, 6, 2)
        for name, state in _global_states().items():
            if state != before[name]:
                raise Wrong(
                    f"{name}'s global generator was seeded or used: make your own"
                )

    def lengths(answer):
        for a, b in ((5, 4), (4, 5)):
            try:
                answer(list(range(a)), list(range(b)), 2, 0)
            except ValueError:
                continue
            except Exception as error:
                found = type(error).__name__
            else:
                found = "none"
            raise Wrong(
                f"views of {a} and {b} samples: a ValueError was expected, got {found}"
            )

    return [
        case("two pictures, one held out", 2, 1),
        case("ten pictures, three held out", 10, 3),
        case("nothing held out", 4, 0),
        case("all held out", 4, 4),
        Case("the seed decides, and nothing else", test=repeats),
        Case("the global generators stay", test=global_state),
        Case("different lengths are refused", test=lengths),
    ]


# --- 4 ------------------------------------------------------------------------


@exercise(
    "08.pictures",
    hint="Each complaint points at one method: the darker pictures and the "
    "loader at one line each, the float64 at where the ages are stored or "
    "handed out.",
)
def pictures() -> list[Case]:
    def made(answer, n=3):
        generator = torch.Generator().manual_seed(0)
        stored = torch.randint(256, (n, 2, 2), generator=generator).float()
        return stored, answer(stored.clone(), [20.5 + i for i in range(n)])

    def length(answer):
        _, dataset = made(answer)
        try:
            count = len(dataset)
        except TypeError:
            raise Wrong("len(dataset) fails: what does __len__ return?") from None
        if count != 3:
            raise Wrong(f"len(dataset) is {count} for 3 pictures")

    def values(answer):
        stored, dataset = made(answer)
        picture, age = dataset[1]
        why = difference(picture, stored[1] / 255)
        if why:
            raise Wrong(f"the picture should be the stored one divided by 255: {why}")
        if float(age) != 21.5:
            raise Wrong(f"the age of sample 1 should be 21.5, got {float(age)}")

    def twice(answer):
        _, dataset = made(answer)
        first, second = dataset[0][0].clone(), dataset[0][0]
        if not torch.equal(first, second):
            raise Wrong("asked for a second time, sample 0 has other values")

    def ours_stays(answer):
        stored = torch.full((2, 2, 2), 255.0)
        dataset = answer(stored, [1.0, 2.0])
        dataset[0]
        if not torch.equal(stored, torch.full((2, 2, 2), 255.0)):
            raise Wrong("the tensor that was handed in has been changed")

    def dtypes(answer):
        _, dataset = made(answer)
        images, ages = next(iter(data.DataLoader(dataset, batch_size=3)))
        for name, part in (("pictures", images), ("ages", ages)):
            if part.dtype != torch.float32:
                raise Wrong(f"in a batch the {name} are {part.dtype}, not float32")
        if ages.shape != (3,):
            raise Wrong(f"in a batch the ages have shape {tuple(ages.shape)}, not (3,)")
        if ages.tolist() != [20.5, 21.5, 22.5]:
            raise Wrong(f"the ages 20.5, 21.5, 22.5 became {ages.tolist()} in a batch")

    def shuffled(answer):
        _, dataset = made(answer, 5)
        loader = data.DataLoader(dataset, batch_size=2, shuffle=True)
        ages = sorted(a for _, batch in loader for a in batch.tolist())
        if ages != [20.5 + i for i in range(5)]:
            raise Wrong(f"an epoch of 5 samples brought the ages {ages}")

    return [
        Case("it has a length", test=length),
        Case("one sample", test=values),
        Case("the same sample twice", test=twice),
        Case("the data handed in stay", test=ours_stays),
        Case("a batch is float32", test=dtypes),
        Case("an epoch, shuffled", test=shuffled),
    ]


# --- 5 ------------------------------------------------------------------------


@exercise(
    "08.collate_padded",
    hint="Find the greatest height and the greatest width first, make a tensor "
    "of zeros that is large enough, and copy each image into a slice of it.",
)
def collate_padded() -> list[Case]:
    def case(says, *sizes, channels=3, dtype=torch.float32):
        generator = torch.Generator().manual_seed(len(sizes))
        batch = []
        for k, (h, w) in enumerate(sizes):
            image = torch.randint(1, 9, (channels, h, w), generator=generator)
            batch.append((image.to(dtype), {"boxes": torch.ones(k, 4), "image_id": k}))
        height, width = (max(size[axis] for size in sizes) for axis in (0, 1))
        frames = torch.zeros(len(sizes), channels, height, width, dtype=dtype)
        for k, (image, _) in enumerate(batch):
            frames[k, :, : sizes[k][0], : sizes[k][1]] = image
        targets = [target for _, target in batch]
        wanted = {"images": frames, "sizes": torch.tensor(sizes), "targets": targets}

        def test(answer):
            given = copy.deepcopy(batch)
            shapes = ", ".join(str(tuple(image.shape)) for image, _ in batch)
            where = f"images of shape {shapes}, {dtype}:"
            try:
                parts = answer(given)
            except Exception as error:
                first = (str(error).splitlines() or [""])[0][:100]
                raise Wrong(
                    f"{where}\nit raised {type(error).__name__}: {first}"
                ) from None
            if parts is None:
                raise Wrong(f"{where} got None (does the function end with a return?)")
            if not isinstance(parts, (tuple, list)) or len(parts) != 3:
                raise Wrong(
                    f"{where} three parts were expected: images, sizes, targets"
                )
            for (name, expect), got in zip(wanted.items(), parts, strict=True):
                if why := difference(got, expect, 0):
                    raise Wrong(f"{where}\nthe {name} are not right: {why}")
            if difference([image for image, _ in given], [i for i, _ in batch], 0):
                raise Wrong(f"{where} the result is right, but the images were changed")

        return Case(says, test=test)

    return [
        case("one image", (1, 2)),
        case("two of one size", (2, 3), (2, 3)),
        case("a wide and a high one", (1, 3), (2, 1)),
        case("whole numbers stay whole", (2, 2), (3, 1), dtype=torch.uint8),
        case("one channel", (3, 3), (4, 4), (2, 5), channels=1),
        case("half precision stays", (2, 1), (1, 3), dtype=torch.float16),
    ]


# --- 6 ------------------------------------------------------------------------


@exercise(
    "08.resumable_sampler",
    hint="Two numbers are enough as a state: the epoch, and how many of its indices "
    "have been handed out. The order itself can be made again from seed and epoch.",
)
def resumable_sampler() -> list[Case]:
    def take(sampler, count):
        indices = iter(sampler)
        return [next(indices) for _ in range(count)]

    def epoch(answer):
        for n in (1, 8):
            found = list(answer(n, 0))
            if sorted(found) != list(range(n)):
                raise Wrong(f"an epoch of {n} should hold each index once: {found}")
        if list(answer(8, 0)) == list(range(8)):
            raise Wrong("the indices come in order: shuffle them")

    def epochs(answer):
        sampler = answer(20, 0)
        first, second = list(sampler), list(sampler)
        if len(second) != 20:
            raise Wrong(f"the second epoch has {len(second)} indices instead of 20")
        if first == second:
            raise Wrong("the second epoch repeats the first")
        torch.manual_seed(5)
        again = answer(20, 0)
        if [list(again), list(again)] != [first, second]:
            raise Wrong("a second sampler with the same seed gives other epochs")
        if list(answer(20, 7)) == first:
            raise Wrong("another seed gives the same order")
        if list(answer(20, 1)) != second:
            raise Wrong(
                "seed 0 in epoch 1 and seed 1 in epoch 0 should give one order: "
                "the shuffle is seeded by seed + epoch"
            )
        before = _global_states()["torch"]
        list(answer(20, 0))
        if _global_states()["torch"] != before:
            raise Wrong("torch's global generator was seeded or used: make your own")

    def lengths(answer):
        sampler = answer(5, 0)
        seen = [len(sampler)]
        take(sampler, 2)
        seen.append(len(sampler))
        if seen != [5, 3]:
            raise Wrong(f"len before and after two of five: {seen} instead of [5, 3]")

    def state(answer):
        sampler = answer(6, 0)
        take(sampler, 2)
        found = sampler.state_dict()
        if not isinstance(found, dict):
            raise Wrong(f"state_dict() returned a {type(found).__name__}, not a dict")
        kept = copy.deepcopy(found)
        list(sampler)
        if found != kept:
            raise Wrong("a saved state changed when the sampler went on")
        if not all(type(value) in (int, float, bool) for value in found.values()):
            raise Wrong(f"the state should hold Python numbers alone: {found}")

    def resume(answer):
        for done in (0, 1, 3, 5):
            whole = answer(6, 3)
            list(whole)  # one epoch is over
            start = take(whole, done)
            saved = whole.state_dict()
            rest = list(whole)
            other = answer(6, 3)
            other.load_state_dict(saved)
            found = list(other)
            if found != rest:
                raise Wrong(
                    f"stopped after {start} in the second epoch; expected {rest}, "
                    f"got {found}"
                )
            if list(other) != list(whole):
                raise Wrong("the epoch after the resumed one differs")

    def twice(answer):
        whole = list(answer(6, 0))
        state, seen = answer(6, 0).state_dict(), []
        for count in (2, 3, 1):
            sampler = answer(6, 0)
            sampler.load_state_dict(state)
            seen += take(sampler, count)
            state = sampler.state_dict()
        if seen != whole:
            raise Wrong(f"in three runs {seen}, in one run {whole}")

    def after_last(answer):
        sampler = answer(3, 0)
        take(sampler, 3)  # the loop was left with the last index in hand
        other = answer(3, 0)
        other.load_state_dict(sampler.state_dict())
        found = list(other)
        if found:
            raise Wrong(f"all three were handed out, yet resuming gave {found}")
        if len(list(other)) != 3:
            raise Wrong("after the rest of the epoch, none here, the next should come")

    def empty(answer):
        if list(answer(0, 0)):
            raise Wrong("with n=0 there is nothing to yield")

    return [
        Case("an epoch", test=epoch),
        Case("two epochs", test=epochs),
        Case("the length is what is left", test=lengths),
        Case("the state is plain", test=state),
        Case("stopped and resumed", test=resume),
        Case("stopped twice", test=twice),
        Case("stopped with the last index in hand", test=after_last),
        Case("no samples", test=empty),
    ]

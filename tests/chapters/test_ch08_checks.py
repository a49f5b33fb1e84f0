"""The exercises of chapter 8: mistakes are refused, each for its own reason."""

import math
import random
from collections import Counter

import numpy as np
import pytest
import torch
from torch.utils import data
from torch.utils.data import Dataset

from course_utils import checks

# Wrong answers, each with words of the verdict that must stop it.


def steps_floor(n, batch_size, ranks, epochs, drop_last):
    return epochs * (n // ranks // batch_size)


def steps_plus_one(n, batch_size, ranks, epochs, drop_last):
    share = math.ceil(n / ranks)
    return epochs * (share // batch_size + (not drop_last))


def steps_ranks_cut(n, batch_size, ranks, epochs, drop_last):
    cut = math.floor if drop_last else math.ceil
    return epochs * cut(n // ranks / batch_size)


def steps_in_one_go(n, batch_size, ranks, epochs, drop_last):
    cut = math.floor if drop_last else math.ceil
    return cut(epochs * math.ceil(n / ranks) / batch_size)


def steps_float(n, batch_size, ranks, epochs, drop_last):
    return epochs * n / ranks / batch_size


def steps_at_least_one(n, batch_size, ranks, epochs, drop_last):
    cut = math.floor if drop_last else math.ceil
    return epochs * max(1, cut(math.ceil(n / ranks) / batch_size))


def steps_whole_batches(n, batch_size, ranks, epochs, drop_last):
    cut = math.floor if drop_last else math.ceil
    return epochs * cut(n / (ranks * batch_size))


def steps_all_ranks(n, batch_size, ranks, epochs, drop_last):
    cut = math.floor if drop_last else math.ceil
    return epochs * cut(ranks * math.ceil(n / ranks) / batch_size)


def factors(labels, t, once=True, least=1.0, pick=max):
    shown = [set(part.tolist()) if once else part.tolist() for part in labels]
    pictures = Counter(c for classes in shown for c in classes)
    factor = {
        c: max(least, math.sqrt(t * len(labels) / k)) for c, k in pictures.items()
    }
    return torch.tensor([pick([factor[c] for c in part] or [1.0]) for part in shown])


def factors_boxes(labels, t):
    return factors(labels, t, once=False)


def factors_below_one(labels, t):
    return factors(labels, t, least=0.0)


def factors_mean(labels, t):
    return factors(labels, t, pick=lambda values: sum(values) / len(values))


def factors_no_empty(labels, t):
    shown = [part.unique().tolist() for part in labels]
    pictures = Counter(c for classes in shown for c in classes)
    return torch.tensor(
        [
            max(max(1.0, math.sqrt(t * len(labels) / pictures[c])) for c in part)
            for part in shown
        ]
    )


def factors_product(labels, t):
    return factors(labels, t, pick=math.prod)


def factors_first(labels, t):
    return factors(labels, t, pick=lambda values: values[0])


def factors_no_root(labels, t):
    return factors(labels, t) ** 2


def factors_double(labels, t):
    return factors(labels, t).double()


def factors_list(labels, t):
    return factors(labels, t).tolist()


def views_two_shuffles(train_view, val_view, num_val, seed):
    n = len(train_view)
    if n != len(val_view):
        raise ValueError
    generator = torch.Generator().manual_seed(seed)
    kept = torch.randperm(n, generator=generator)[num_val:].tolist()
    held = torch.randperm(n, generator=generator)[:num_val].tolist()
    return data.Subset(train_view, kept), data.Subset(val_view, held)


def views_global(train_view, val_view, num_val, seed):
    order = torch.randperm(len(train_view)).tolist()
    return (
        data.Subset(train_view, order[num_val:]),
        data.Subset(val_view, order[:num_val]),
    )


def views_manual_seed(train_view, val_view, num_val, seed):
    torch.manual_seed(seed)
    return views_global(train_view, val_view, num_val, seed)


def views_one(train_view, val_view, num_val, seed):
    generator = torch.Generator().manual_seed(seed)
    lengths = [len(train_view) - num_val, num_val]
    return data.random_split(train_view, lengths, generator=generator)


def views_swapped(train_view, val_view, num_val, seed):
    val, train = views_one(val_view, train_view, num_val, seed)
    return data.Subset(train_view, val.indices), data.Subset(val_view, val.indices)


def views_minus(train_view, val_view, num_val, seed):
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(train_view), generator=generator).tolist()
    kept = data.Subset(train_view, order[:-num_val])
    return kept, data.Subset(val_view, order[-num_val:])


def views_no_error(train_view, val_view, num_val, seed):
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(train_view), generator=generator).tolist()
    kept = data.Subset(train_view, order[num_val:])
    return kept, data.Subset(val_view, order[:num_val])


def views_assert(train_view, val_view, num_val, seed):
    assert len(train_view) == len(val_view)
    return views_no_error(train_view, val_view, num_val, seed)


def views_from(order, train_view, val_view, num_val):
    if len(train_view) != len(val_view):
        raise ValueError
    held = data.Subset(val_view, order[:num_val])
    return data.Subset(train_view, order[num_val:]), held


def views_numpy_global(train_view, val_view, num_val, seed):
    np.random.seed(seed)
    order = np.random.permutation(len(train_view)).tolist()
    return views_from(order, train_view, val_view, num_val)


def views_python_global(train_view, val_view, num_val, seed):
    random.seed(seed)
    order = random.sample(range(len(train_view)), len(train_view))
    return views_from(order, train_view, val_view, num_val)


def views_block(train_view, val_view, num_val, seed):
    n = len(train_view)
    order = [(i + 7 * seed + 3) % max(n, 1) for i in range(n)]
    return views_from(order, train_view, val_view, num_val)


def views_one_way(train_view, val_view, num_val, seed):
    if len(train_view) > len(val_view):
        raise ValueError
    return views_no_error(train_view, val_view, num_val, seed)


class Given(Dataset):
    def __init__(self, pictures, ages):
        self.pictures, self.ages = pictures, ages

    def __len__(self):
        len(self.pictures)

    def __getitem__(self, i):
        picture = self.pictures[i]
        picture /= 255
        return picture, self.ages[i]


class InPlace(Given):
    def __len__(self):
        return len(self.pictures)


class ScaledAtStart(InPlace):
    def __init__(self, pictures, ages):
        pictures /= 255
        super().__init__(pictures, torch.tensor(ages))

    def __getitem__(self, i):
        return self.pictures[i], self.ages[i]


class Doubles(InPlace):
    def __getitem__(self, i):
        return self.pictures[i] / 255, self.ages[i]


class AgesOfOne(InPlace):
    def __getitem__(self, i):
        return self.pictures[i] / 255, torch.tensor([self.ages[i]])


class By256(InPlace):
    def __getitem__(self, i):
        return self.pictures[i] / 256, torch.tensor(self.ages[i])


class WholeAges(InPlace):
    def __getitem__(self, i):
        return self.pictures[i] / 255, torch.tensor(float(round(self.ages[i])))


class Unscaled(InPlace):
    def __getitem__(self, i):
        return self.pictures[i], torch.tensor(self.ages[i])


def padded(batch, **options):
    images, targets = zip(*batch, strict=True)
    sizes = torch.tensor([image.shape[1:] for image in images])
    high, wide = sizes.max(dim=0).values.tolist()
    frames = torch.zeros(len(images), images[0].shape[0], high, wide, **options)
    for frame, image in zip(frames, images, strict=True):
        frame[:, : image.shape[1], : image.shape[2]] = image
    return frames, sizes, list(targets)


def padded_floats(batch):
    return padded(batch)


def padded_first_size(batch):
    frames, sizes, targets = padded(batch, dtype=batch[0][0].dtype)
    return frames[:, :, : sizes[0, 0], : sizes[0, 1]], sizes, targets


def padded_width_first(batch):
    frames, sizes, targets = padded(batch, dtype=batch[0][0].dtype)
    return frames, sizes.flip(1), targets


def padded_center(batch):
    frames, sizes, targets = padded(batch, dtype=batch[0][0].dtype)
    high, wide = frames.shape[2:]
    for frame, (h, w) in zip(frames, sizes.tolist(), strict=True):
        frame.copy_(frame.roll(((high - h) // 2, (wide - w) // 2), (1, 2)))
    return frames, sizes, targets


def padded_square(batch):
    frames, sizes, targets = padded(batch, dtype=batch[0][0].dtype)
    side = max(frames.shape[2:])
    room = (0, side - frames.shape[3], 0, side - frames.shape[2])
    return torch.nn.functional.pad(frames, room), sizes, targets


def padded_short_sizes(batch):
    frames, sizes, targets = padded(batch, dtype=batch[0][0].dtype)
    return frames, sizes.int(), targets


def padded_stacked_targets(batch):
    frames, sizes, targets = padded(batch, dtype=batch[0][0].dtype)
    return frames, sizes, {key: [t[key] for t in targets] for key in targets[0]}


def padded_largest_first(batch):
    batch = sorted(batch, key=lambda pair: -pair[0].numel())
    return padded(batch, dtype=batch[0][0].dtype)


def padded_two_parts(batch):
    return padded(batch, dtype=batch[0][0].dtype)[::2]


def padded_stack(batch):
    images, targets = zip(*batch, strict=True)
    sizes = torch.tensor([image.shape[1:] for image in images])
    return torch.stack(images), sizes, list(targets)


class Resumable:
    def __init__(self, n, seed):
        self.n, self.seed, self.epoch, self.done = n, seed, 0, 0

    def __len__(self):
        return self.n - self.done

    def order(self):
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        return torch.randperm(self.n, generator=generator).tolist()

    def __iter__(self):
        for i in self.order()[self.done :]:
            self.done += 1
            yield i
        self.epoch, self.done = self.epoch + 1, 0

    def state_dict(self):
        return {"epoch": self.epoch, "done": self.done}

    def load_state_dict(self, state):
        self.epoch, self.done = state["epoch"], state["done"]


class AlwaysFirst(Resumable):
    def order(self):
        generator = torch.Generator().manual_seed(self.seed)
        return torch.randperm(self.n, generator=generator).tolist()


class CountsLate(Resumable):
    def __iter__(self):
        for i in self.order()[self.done :]:
            yield i
            self.done += 1
        self.epoch, self.done = self.epoch + 1, 0


class ForgetsEpoch(Resumable):
    def state_dict(self):
        return {"done": self.done}

    def load_state_dict(self, state):
        self.done = state["done"]


class FullLength(Resumable):
    def __len__(self):
        return self.n


class LiveState(Resumable):
    def state_dict(self):
        return vars(self)

    def load_state_dict(self, state):
        vars(self).update(state)


class GlobalShuffle(Resumable):
    def order(self):
        return torch.randperm(self.n).tolist()


class SeedsTorch(Resumable):
    def order(self):
        torch.manual_seed(self.seed + self.epoch)
        return torch.randperm(self.n).tolist()


class SeedTimesEpoch(Resumable):
    def order(self):
        seed = 1000 * self.seed + self.epoch
        return torch.randperm(
            self.n, generator=torch.Generator().manual_seed(seed)
        ).tolist()


class KeepsOrder(Resumable):
    def state_dict(self):
        return {**super().state_dict(), "order": self.order()}


class StaysAtEnd(Resumable):
    def __iter__(self):
        order = self.order()
        while self.done < self.n:
            self.done += 1
            yield order[self.done - 1]
            if self.done == self.n:  # never reached where the loop was left
                self.epoch, self.done = self.epoch + 1, 0
                return


class RestartsDone(Resumable):
    def __iter__(self):
        done, self.done = self.done, 0
        for i in self.order()[done:]:
            self.done += 1
            yield i
        self.epoch, self.done = self.epoch + 1, 0


WRONG = {
    "08.training_steps": {
        steps_floor: "a rest",
        steps_plus_one: "no rest",
        steps_ranks_cut: "filled up",
        steps_in_one_go: "a rest each",
        steps_float: "a rest",
        steps_at_least_one: "the same with drop_last",
        steps_whole_batches: "filled up",
        steps_all_ranks: "filled up",
    },
    "08.repeat_factors": {
        factors_boxes: "counts once",
        factors_below_one: "one class in each picture",
        factors_mean: "the rarest class decides",
        factors_no_empty: "half of the pictures",
        factors_list: "expected a tensor",
        factors_product: "the example of the text",
        factors_first: "the rarest class decides",
        factors_no_root: "half of the pictures",
        factors_double: "float64",
    },
    "08.split_views": {
        views_two_shuffles: "in both parts",
        views_global: "global state was used",
        views_manual_seed: "torch's global generator",
        views_numpy_global: "NumPy's global generator",
        views_python_global: "Python's global generator",
        views_block: "no random choice",
        views_one_way: "views of 4 and 5",
        views_one: "samples of train_view",
        views_swapped: "in both parts",
        views_minus: "nothing held out",
        views_no_error: "ValueError was expected, got none",
        views_assert: "ValueError was expected, got AssertionError",
    },
    "08.pictures": {
        Given: "what does __len__ return",
        InPlace: "has other values",
        ScaledAtStart: "handed in has been changed",
        Doubles: "float64",
        AgesOfOne: "shape (3, 1)",
        Unscaled: "divided by 255",
        By256: "divided by 255",
        WholeAges: "age of sample 1",
    },
    "08.collate_padded": {
        padded_floats: "images are not right: dtype torch.float32, expected",
        padded_square: "images are not right: shape",
        padded_short_sizes: "sizes are not right: dtype torch.int32",
        padded_stacked_targets: "targets are not right",
        padded_largest_first: "one channel",
        padded_two_parts: "three parts",
        padded_first_size: "a wide and a high one",
        padded_width_first: "sizes are not right",
        padded_center: "a wide and a high one",
        padded_stack: "RuntimeError",
    },
    "08.resumable_sampler": {
        AlwaysFirst: "repeats the first",
        CountsLate: "len before and after",
        ForgetsEpoch: "stopped after",
        FullLength: "len before and after",
        LiveState: "changed when the sampler went on",
        GlobalShuffle: "gives other epochs",
        RestartsDone: "stopped twice",
        SeedsTorch: "torch's global generator",
        SeedTimesEpoch: "seeded by seed + epoch",
        KeepsOrder: "Python numbers alone",
        StaysAtEnd: "the next should come",
    },
}


@pytest.mark.parametrize(
    "name, answer, says",
    [(n, a, s) for n, answers in WRONG.items() for a, s in answers.items()],
)
def test_mistakes_are_refused(name, answer, says):
    verdict = checks.judge(name, answer)
    assert verdict.status == "failed", verdict.text
    failure = verdict.text.split("not yet: ")[1]
    assert says in failure, verdict.text


# Right answers that are written in another way than the chapter's.


def steps_by_loop(n, batch_size, ranks, epochs, drop_last):
    indices = range(math.ceil(n / ranks))
    loader = data.BatchSampler(indices, batch_size, drop_last)
    return sum(len(loader) for _ in range(epochs))


def factors_by_tensors(labels, t):
    if not labels:
        return torch.ones(0)
    shown = torch.zeros(len(labels), 100, dtype=torch.bool)
    for row, part in zip(shown, labels, strict=True):
        row[part] = True
    factor = (t / shown.float().mean(0)).sqrt().clamp(1)
    return torch.where(shown, factor, 1.0).max(1).values


def views_by_numpy(train_view, val_view, num_val, seed):
    order = np.random.default_rng(seed).permutation(len(train_view)).tolist()
    return views_from(order, train_view, val_view, num_val)


def views_by_python(train_view, val_view, num_val, seed):
    n = len(train_view)
    order = random.Random(seed).sample(range(n), n)
    return list(views_from(order, train_view, val_view, num_val))


class ScaledOnce(InPlace):
    def __init__(self, pictures, ages):
        super().__init__(pictures / 255, np.float32(ages))

    def __getitem__(self, i):
        return self.pictures[i], self.ages[i]


class Cloned(InPlace):
    def __getitem__(self, i):
        picture = self.pictures[i].clone()
        picture /= 255
        return picture, torch.tensor(self.ages[i])


def padded_by_pad(batch):
    sizes = torch.tensor([(image.shape[-2], image.shape[-1]) for image, _ in batch])
    high, wide = sizes.amax(0).tolist()
    frames = [
        torch.nn.functional.pad(i, (0, wide - i.shape[2], 0, high - i.shape[1]))
        for i, _ in batch
    ]
    return [torch.stack(frames), sizes, tuple(target for _, target in batch)]


class ByPython(Resumable):
    def order(self):
        order = list(range(self.n))
        random.Random(self.seed + self.epoch).shuffle(order)
        return order


RIGHT = {
    "08.training_steps": [steps_by_loop],
    "08.repeat_factors": [factors_by_tensors],
    "08.split_views": [views_by_numpy, views_by_python],
    "08.pictures": [ScaledOnce, Cloned],
    "08.collate_padded": [padded_by_pad],
    "08.resumable_sampler": [Resumable, ByPython],
}


@pytest.mark.parametrize("name, answer", [(n, a) for n, r in RIGHT.items() for a in r])
def test_right_answers_pass(name, answer):
    verdict = checks.judge(name, answer)
    assert verdict.status == "passed", verdict.text

"""The exercises of chapter 8: mistakes are refused, each for its own reason."""

import math
from collections import Counter

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
    },
    "08.repeat_factors": {
        factors_boxes: "counts once",
        factors_below_one: "one class in each picture",
        factors_mean: "the rarest class decides",
        factors_no_empty: "half of the pictures",
        factors_list: "expected a tensor",
    },
    "08.split_views": {
        views_two_shuffles: "in both parts",
        views_global: "global state was used",
        views_manual_seed: "global generator",
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
    },
    "08.collate_padded": {
        padded_floats: "dtype torch.float32, expected torch.uint8",
        padded_first_size: "a wide and a high one",
        padded_width_first: "one image",
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

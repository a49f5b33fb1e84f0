"""Chapter 28's transformer that sorts: six seeds, with and without places.

    python -m experiments.sorting            train all, write data/results/sorting.json
    python -m experiments.sorting --check    train once, assert the floor

The model and its training are the chapter's own, taken out of the notebook. One
thread, on the CPU. Seconds are CPU-seconds of the reference machine
(:mod:`benchmarks.yardstick`).
"""

import json
import sys
import time
from collections.abc import Sequence

import torch

from booktools import chapter_code
from experiments import stored

__all__ = ["EACH", "FLOOR", "LENGTHS", "SEEDS", "STEPS", "chapter", "main", "train"]

SEEDS = (0, 1, 2, 3, 4, 5)
STEPS, EACH = 1000, 50  # how long, and between two points of a curve
LENGTHS = (6, 7, 8, 10)  # with places there are rows for 6 digits only
FLOOR = 0.97  # of the models with places, on unseen sequences
EXAMPLE = (7, 3, 9, 3, 0, 8)


def chapter():
    """The chapter's functions: what is drawn, trained, measured and changed."""
    return chapter_code.definitions(
        "28_attention",
        *("draw_digits", "with_answer", "train_sorter", "exactness"),
        *("pointing", "blurred"),
    )


def train(
    seed: int, places: bool, steps: int = STEPS, count: int = 2000
) -> tuple[torch.nn.Module, dict]:
    """Train one model, and measure it.

    Args:
        seed: of the weights and of the digits.
        places: whether the tokens get a place.
        steps: of training.
        count: how many unseen sequences are sorted for each figure.

    Returns:
        The model, and ``seed``, ``places``, ``curve`` (exactness on 500 sequences,
        every :data:`EACH` steps), ``exact`` by length, ``seconds`` of the training
        (CPU time of this process), and with places ``heads``: of each one ``layer``,
        ``head``, ``points`` and ``blurred``.
    """
    own = chapter()
    device = torch.device("cpu")
    generator = torch.Generator().manual_seed(99)
    few = own.draw_digits(500, 6, generator, unseen=True).to(device)
    curve, spent = [], 0.0

    def watch(step, model):
        nonlocal spent
        if step % EACH == 0:
            start = time.process_time()
            curve.append(round(own.exactness(model, few), 4))
            spent += time.process_time() - start

    start = time.process_time()
    model = own.train_sorter(seed, steps, places, watch)
    seconds = time.process_time() - start - spent
    exact = {}
    for length in LENGTHS[:1] if places else LENGTHS:
        digits = own.draw_digits(count, length, generator, unseen=True)
        exact[str(length)] = round(own.exactness(model, digits), 4)
    found = {"seed": seed, "places": places, "curve": curve, "exact": exact}
    if places:
        shares = own.pointing(model, few)
        found["heads"] = [
            {
                "layer": layer,
                "head": head,
                "points": round(share, 4),
                "blurred": round(
                    own.exactness(own.blurred(model, layer, head), few), 4
                ),
            }
            for layer, row in enumerate(shares)
            for head, share in enumerate(row)
        ]
    return model, found | {"seconds": seconds}


@torch.no_grad()
def example(model: torch.nn.Module, digits: Sequence[int] = EXAMPLE) -> dict:
    """The tables of all heads while the model writes one answer."""
    read, answer = chapter().with_answer(torch.tensor([digits]))
    said = model(read)[:, len(digits) :].argmax(-1)
    tables, names = [], []
    for layer, block in enumerate(model.blocks):
        for head, table in enumerate(block.table[0, :, len(digits) :]):
            names.append(f"layer {layer + 1}, head {head + 1}")
            tables.append([[round(w, 3) for w in row] for row in table.tolist()])
    return {
        "reads": read[0].tolist(),
        "says": said[0].tolist(),
        "right": torch.equal(said, answer),
        "names": names,
        "tables": tables,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    chosen = stored.options(
        "sorting", "Chapter 28's sorting models.", "one seed, and the floor", arguments
    )
    speed = stored.reference_speed()
    runs, shown = [], None
    wanted = (
        [(0, True)] if chosen.check else [(s, p) for p in (True, False) for s in SEEDS]
    )
    for seed, places in wanted:
        model, run = train(seed, places)
        run["seconds"] = round(run["seconds"] * speed, 1)
        shown = shown or example(model)
        runs.append(run)
        brief = {key: run[key] for key in ("seed", "places", "exact", "seconds")}
        print(json.dumps(brief), flush=True)
    missed = [r["seed"] for r in runs if r["places"] and r["exact"]["6"] < FLOOR]
    steps = list(range(EACH, STEPS + 1, EACH))
    return stored.store(
        "sorting", runs, missed, not chosen.check, steps=steps, example=shown
    )


if __name__ == "__main__":
    sys.exit(main())

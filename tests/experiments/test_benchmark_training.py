"""The benchmark of training: fair turns, equal weights, and an interval that covers."""

import json
import math
import time

import pytest
import small_training as small
import torch

from benchmarks import training
from course_utils.training import engine

ROUNDS, SLOW = 8, 5


def make(steps):
    model = small.small_model(mask_layers=0, channels=8)
    return model, *training.fine_tuning.one_cycle(model, training.RATE, steps)


def batches():
    data = small.Rectangles(ROUNDS)
    return [([(image * 255).to(torch.uint8)], [target]) for image, target in data]


def work(seconds):
    """Keep the processor busy."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def run():
    """All loops; ours takes 0.1 s longer at every step, and 0.5 s at one."""
    calls = []

    def planted(images, targets, num_classes):
        work(0.5 if len(calls) == SLOW else 0.1)
        calls.append(targets)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "check_targets", planted)
        return training.take_turns(training.LOOPS, make, batches())


def test_weights_are_equal_and_trained(run):
    _, trained = run
    training.assert_equal_weights(trained)
    start = make(ROUNDS)[0].state_dict()
    name = "roi_heads.box_predictor.cls_score.weight"
    assert not torch.equal(trained["ours"].state_dict()[name], start[name])


def test_unequal_weights_are_named():
    trained = {"ours": torch.nn.Linear(2, 1), "plain": torch.nn.Linear(2, 1)}
    trained["plain"].load_state_dict(trained["ours"].state_dict())
    training.assert_equal_weights(trained)
    with torch.no_grad():
        trained["plain"].bias += 1e-6
    with pytest.raises(AssertionError, match="bias: plain is not ours"):
        training.assert_equal_weights(trained)


def test_every_loop_has_every_turn(run):
    turns, _ = run
    assert len(turns.orders) == 6 and len(turns) == ROUNDS
    for seconds in (turns.wall, turns.processor):
        assert set(seconds) == set(training.LOOPS)
        assert all(len(of_loop) == ROUNDS for of_loop in seconds.values())
        assert all(value > 0 for of_loop in seconds.values() for value in of_loop)


def test_slow_steps_are_seen_and_charged_to_the_right_one(run):
    turns, _ = run
    ours = turns.processor["ours"]
    assert min(ours) > 0.1 and ours[SLOW] > 0.5
    for other in training.OTHERS:
        ratios = training.ratios(turns.processor, other)
        assert len(ratios) == ROUNDS - training.WARM_UP
        assert training.median_interval(ratios)[0] > training.AIM


def test_one_loop_alone():
    turns, trained = training.take_turns(["reference"], make, batches()[:2])
    assert list(trained) == ["reference"] and len(turns.wall["reference"]) == 2


def test_interval_by_hand():
    assert training.median_interval([5, 1, 4, 2, 6, 3]) == (1, 3.5, 6)
    # 40 values: the table of the sign test gives the 14th from either end.
    assert training.median_interval(range(1, 41)) == (14, 20.5, 27)
    outlier = [1.0] * 39 + [50.0]
    assert training.median_interval(outlier) == (1, 1, 1)
    with pytest.raises(ValueError, match="5 values give no interval of 95%"):
        training.median_interval([1, 2, 3, 4, 5])


@pytest.mark.parametrize("n", [6, 7, 40, 41, 48, 200])
def test_interval_covers_and_is_the_shortest(n):
    low, _, high = training.median_interval(range(1, n + 1))
    assert low + high == n + 1

    def coverage(k):  # of the k-th smallest to the k-th largest
        return sum(math.comb(n, i) for i in range(k, n - k + 1)) / 2**n

    assert coverage(low) >= 0.95 > coverage(low + 1)


def test_interval_covers_drawn_samples():
    generator = torch.Generator().manual_seed(0)
    samples = torch.randn(1000, 40, generator=generator).exp()  # of median 1
    covered = 0
    for sample in samples.tolist():
        low, _, high = training.median_interval(sample)
        covered += low <= 1 <= high
    assert 937 <= covered <= 985  # 96.15 %, 4 standard deviations either way


def test_meter():
    meter = training.Meter()
    for value in range(1, 26):
        meter.add(float(value))
    assert str(meter) == "15.0000 (13.0000)"  # of 6 .. 25 the lower median; of all


def test_losses_of_one_process_are_as_they_are():
    losses = {"a": torch.tensor(1.0)}
    assert training.averaged(losses) is losses


def results(tmp_path):
    """Two seeds, three starts, two evaluations; and a run with fewer images."""
    runs = [
        {
            "start": start,
            "images": images,
            "seed": seed,
            "curve": [
                {
                    "step": step,
                    "cpu_seconds": 60 * step,
                    "bbox/AP": 0.1 * step + 0.02 * seed,
                    "segm/AP": 0.05 * step,
                }
                for step in (1, 2)
            ],
        }
        for start in training.LABELS
        for images in (120, 8)
        for seed in (0, 1)
    ]
    file = tmp_path / "results.json"
    file.write_text(json.dumps({"date": "2026-01-01", "runs": runs}))
    return file


def test_curves(tmp_path, capsys):
    file, picture = results(tmp_path), tmp_path / "curves.png"
    found = training.curves(json.loads(file.read_text()))
    assert list(found) == list(training.LABELS)
    last = found["shapes"][-1]
    assert last["step"] == 2 and last["minutes"] == 2
    assert math.isclose(last["box"], 0.21) and math.isclose(last["mask"], 0.1)
    assert math.isclose(last["low"], 0.2) and math.isclose(last["high"], 0.22)
    training.main(["curves", "--results", str(file), "--out", str(picture)])
    said = capsys.readouterr().out
    assert "pretrained detector: box AP 0.21 in 2.00 minutes" in said
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_without_results_it_says_so(tmp_path, capsys):
    training.main(["curves", "--results", str(tmp_path / "none.json")])
    assert "none.json is not there; make experiments" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [["velocity"], ["speed", "--rounds", "5"]])
def test_wrong_arguments(wrong, capsys):
    with pytest.raises(SystemExit):
        training.main(wrong)
    assert wrong[-1] in capsys.readouterr().err

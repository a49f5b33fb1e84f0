"""Chapter 27's plain functions against the course's and torchvision's, and they bite.

The functions come out of the notebook. The loop is tried on a toy detector, so that no
training is needed; the chapter itself compares it on the real one.
"""

import ast
import copy
import struct

import pytest
import torch
from PIL import Image
from small_training import Rectangles, small_model
from tensorboardX import SummaryWriter
from torchvision import tv_tensors

from booktools import chapter_code, notebook, structure
from course_utils import datasets
from course_utils.checks.ch27 import Detector
from course_utils.datasets.penn_fudan import BUNDLED
from course_utils.detection import augment, models
from course_utils.detection.targets import check_target
from course_utils.training import engine

CHAPTER = "27_mask_rcnn"
NAMES = [
    *("prepare", "crowded", "Samples", "collate", "parts_of", "to_device"),
    *("replace_class_layers", "train_plainly", "read_events", "from_score"),
    "my_picture",
]
OURS = chapter_code.definitions(CHAPTER, *NAMES)


pytestmark = pytest.mark.usefixtures("one_thread")


# --- data ---


def assert_equal(ours, theirs):
    assert type(ours[0]) is type(theirs[0]) and torch.equal(ours[0], theirs[0])
    assert ours[1].keys() == theirs[1].keys()
    for name, value in ours[1].items():
        other = theirs[1][name]
        assert type(value) is type(other), name
        assert torch.equal(value, other) if torch.is_tensor(value) else value == other


@pytest.mark.parametrize("size", [288, 96, 40])
def test_prepare_is_the_courses(size):
    scenes = datasets.PennFudan(BUNDLED, "test")
    for k in range(12):
        sample = OURS.prepare(*scenes[k], size)
        assert_equal(sample, augment.resized(size)(*scenes[k]))
        check_target(*sample, 2)


def test_prepare_leaves_out_who_vanished():
    masks = torch.zeros(2, 100, 100, dtype=torch.uint8)
    masks[0, 10:60, 10:60] = 1
    masks[1, 3, 3] = 1  # between the pixels that nearest-neighbor reads
    target = {
        "boxes": tv_tensors.BoundingBoxes(
            [[10, 10, 60, 60], [3, 3, 4, 4]], format="XYXY", canvas_size=(100, 100)
        ),
        "labels": torch.tensor([1, 1]),
        "masks": tv_tensors.Mask(masks),
        "image_id": 5,
        "area": torch.tensor([2500.0, 1.0]),
        "iscrowd": torch.tensor([0, 0]),
    }
    image = tv_tensors.Image(torch.zeros(3, 100, 100, dtype=torch.uint8))
    image, small = OURS.prepare(image, target, 20)
    assert image.shape == (3, 20, 20)
    assert small["boxes"].tolist() == [[2, 2, 12, 12]]
    assert len(small["labels"]) == len(small["masks"]) == len(small["area"]) == 1
    assert small["image_id"] == 5
    same = OURS.prepare(image, target, None)
    assert same[0] is image and same[1] is target


def test_crowded():
    boxes = torch.tensor([[0.0, 0, 10, 10], [5, 0, 15, 10], [40, 0, 50, 10]])
    found = [{"boxes": boxes}, {"boxes": boxes[:0]}, {"boxes": boxes[2:]}]
    assert OURS.crowded(found) == (4, 2)


def test_samples_and_collate():
    pairs = [(torch.zeros(3, 4, k), {"image_id": k}) for k in (5, 6)]
    ours, theirs = OURS.Samples(pairs), augment.InMemory(pairs)
    assert len(ours) == len(theirs) == 2
    assert ours[1][0] is theirs[1][0]
    changed = OURS.Samples(pairs, lambda image, target: (image + 1, target))
    assert changed[0][0].eq(1).all() and pairs[0][0].eq(0).all()
    assert OURS.collate(pairs) == augment.collate(pairs)
    with pytest.raises(IndexError):
        ours[2]


# --- the model ---


def test_class_layers():
    model = models.mask_rcnn_mobilenet(4, channels=16, mask_layers=1)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    changed = {n for n in before if n.startswith(models.CLASS_LAYERS)}
    model = OURS.replace_class_layers(model, 3)
    after = model.state_dict()
    assert len(changed) == 6 and after.keys() == before.keys()
    assert all(torch.equal(after[k], before[k]) for k in before if k not in changed)
    for name in changed:
        each = before[name].reshape(4, -1, *before[name].shape[1:])
        new = after[name].reshape(3, -1, *before[name].shape[1:])
        assert torch.equal(new[0], each[0])
        torch.testing.assert_close(new[1], (each[1] + each[2] + each[3]) / 3)
        assert torch.equal(new[1], new[2])
        assert dict(model.named_parameters())[name].requires_grad
    # The library's own way makes layers of the same sizes.
    theirs = models.replace_heads(copy.deepcopy(model), 3)
    assert str(theirs.roi_heads.box_predictor) == str(model.roi_heads.box_predictor)
    found = model.eval()([torch.rand(3, 64, 64)])
    assert set(found[0]) == {"boxes", "labels", "scores", "masks"}


# --- the loop ---


def batches(count):
    generator = torch.Generator().manual_seed(count)
    for k in range(count):
        image = torch.randint(256, (3, 8, 9), generator=generator).to(torch.uint8)
        target = {
            "boxes": torch.tensor([[1.0, 1, 5, 6]]),
            "labels": torch.tensor([1]),
            "image_id": k,
        }
        yield [image], [target]


def trained(how, steps=40):
    model = Detector()
    optimizer = torch.optim.AdamW(model.parameters(), 0.1, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps)
    how(model, optimizer, schedule, list(batches(steps)))
    return torch.stack([p.detach() for p in model.parameters()])


def by_engine(model, optimizer, schedule, batches):
    engine.train_one_epoch(
        model,
        optimizer,
        batches,
        "cpu",
        schedule=schedule,
        clip_norm=5.0,
        progress=False,
    )


def by_hand(model, optimizer, schedule, batches):
    model.eval()  # it must find its way back by itself
    OURS.train_plainly(model, optimizer, schedule, batches, "cpu")


def test_loop_is_the_engines():
    assert torch.equal(trained(by_hand), trained(by_engine))


def test_loop_is_the_engines_on_a_detector():
    weights = []
    for how in (by_hand, by_engine):
        model = small_model()
        data = Rectangles(4)
        pairs = [OURS.collate([data[0], data[1]]), OURS.collate([data[2], data[3]])]
        # The plain loop divides by 255: it takes whole numbers.
        pairs = [([(i * 255).to(torch.uint8) for i in a], b) for a, b in pairs]
        optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
        schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
        torch.manual_seed(1)
        how(model, optimizer, schedule, pairs)
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*weights)


def mutated(changes):
    """The chapter's loop with some of its lines replaced."""
    book = notebook.read(notebook.CHAPTERS / f"{CHAPTER}.ipynb")
    (source,) = [
        ast.get_source_segment(cell.source, node)
        for cell in structure.code_cells(book)
        for node in ast.parse(cell.source).body
        if isinstance(node, ast.FunctionDef) and node.name == "train_plainly"
    ]
    lines = source.splitlines()
    places = {
        start: [k for k, line in enumerate(lines) if line.strip().startswith(start)]
        for start in changes
    }
    for start, instead in changes.items():
        (k,) = places[start]
        lines[k] = lines[k][: -len(lines[k].lstrip())] + instead
    space = dict(OURS.train_plainly.__globals__)
    exec("\n".join(lines), space)

    def loop(model, optimizer, schedule, batches):
        model.eval()
        space["train_plainly"](model, optimizer, schedule, batches, "cpu")

    return loop


CLIP, STEP = "nn.utils.clip_grad_norm_(", "optimizer.step()"


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer.zero_grad()": "pass"},
        {CLIP: "pass"},
        {CLIP: STEP, STEP: CLIP + "model.parameters(), clip_norm)"},
        {"schedule.step()": "pass"},
        {"loss = sum(": "loss = losses['loss_mask']"},
    ],
    ids=["no zero_grad", "no clipping", "clipped late", "no schedule", "one loss"],
)
def test_planted_mistakes_are_noticed(changes):
    """Every line of the chapter's loop counts: changed, it ends with other weights."""
    right = trained(by_engine)
    assert torch.equal(trained(mutated({STEP: STEP})), right)
    assert not torch.allclose(trained(mutated(changes)), right, atol=1e-4)


def test_without_train_the_loop_stops():
    with pytest.raises(AttributeError, match="values"):
        trained(mutated({"model.train()": "pass"}))


def test_to_device():
    image = torch.full((3, 2, 2), 255, dtype=torch.uint8)
    images, targets = OURS.to_device(
        [image], [{"boxes": torch.zeros(1, 4), "k": 3}], "cpu"
    )
    assert images[0].dtype == torch.float32 and images[0].eq(1).all()
    assert targets[0]["k"] == 3 and image.dtype == torch.uint8


# --- the log ---


def test_events_are_read(tmp_path):
    with SummaryWriter(str(tmp_path)) as writer:
        for step in range(5):
            writer.add_scalar("loss", step / 3, step)
        writer.add_scalar("AP", -1.5, 4)
        writer.add_text("note", "no number", 4)
    (file,) = tmp_path.glob("events.*")
    rows = OURS.read_events(file)
    assert [(s, n) for s, n, _ in rows] == [*((k, "loss") for k in range(5)), (4, "AP")]
    values = [value for _, _, value in rows]
    torch.testing.assert_close(values, [0.0, 1 / 3, 2 / 3, 1.0, 4 / 3, -1.5])


def test_half_a_record_is_left_out(tmp_path):
    with SummaryWriter(str(tmp_path)) as writer:
        for step in range(5):
            writer.add_scalar("loss", 1.0, step)
    (file,) = tmp_path.glob("events.*")
    whole = file.read_bytes()
    (length,) = struct.unpack_from("<Q", whole)
    assert len(OURS.read_events(file)) == 5
    file.write_bytes(whole[:-1])  # the last checksum is cut, its record is there
    assert len(OURS.read_events(file)) == 5
    file.write_bytes(whole[:-8])
    assert len(OURS.read_events(file)) == 4
    file.write_bytes(whole[: 16 + length + 5])  # five bytes of the second record's head
    assert OURS.read_events(file) == []


def test_from_score():
    prediction = {
        "scores": torch.tensor([0.9, 0.5, 0.1]),
        "labels": torch.tensor([1, 2, 3]),
    }
    assert OURS.from_score(prediction, 0.5)["labels"].tolist() == [1, 2]
    assert OURS.from_score(prediction, 0.95)["labels"].tolist() == []


# --- a picture of the reader's ---


def test_my_picture(tmp_path):
    file = tmp_path / "street.png"
    Image.new("RGB", (600, 300), "red").save(file)
    assert OURS.my_picture(file).shape == OURS.my_picture(str(file)).shape
    image = OURS.my_picture(file)
    assert image.shape == (3, 144, 288) and image.dtype == torch.uint8


def test_bad_pictures_are_refused(tmp_path):
    text, thin = tmp_path / "text.jpg", tmp_path / "thin.png"
    text.write_text("no picture")
    Image.new("RGB", (2100, 100)).save(thin)
    for file, error in (
        (tmp_path / "nowhere.jpg", FileNotFoundError),
        (tmp_path, IsADirectoryError),
        (text, ValueError),
        (thin, ValueError),
    ):
        with pytest.raises(error, match=file.name):
            OURS.my_picture(file)

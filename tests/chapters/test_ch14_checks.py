"""The exercises of chapter 14: mistakes are refused, each for its own reason."""

import pytest
from answers import assert_changed, assert_verdict

from booktools import chapter_code

EXERCISES = chapter_code.exercises("14_looking_inside")

# The exercise, a change of the solution's source, and words of the verdict.
CHANGES = [
    ("heaviest", "model.named_parameters()", "model.state_dict().items()", "a part"),
    ("heaviest", "p.numel()", "len(p)", "exactly three quarters"),
    ("heaviest", ", reverse=True", "", "exactly three quarters"),
    ("heaviest", "held >= wanted", "held > wanted", "a share of 0"),
    (
        "heaviest",
        "if held >= wanted:\n            break\n        names.append(name)\n"
        "        held += sizes[name]",
        "held += sizes[name]\n        if held > wanted:\n            break\n"
        "        names.append(name)",
        "a little more",
    ),
    (
        "heaviest",
        "p in model.named_parameters()}",
        "p in model.named_parameters() if p.requires_grad}",
        "frozen ones count",
    ),
    (
        "heaviest",
        "sorted(sizes, key=sizes.get, reverse=True)",
        "sorted(sizes, key=lambda n: (sizes[n], n), reverse=True)",
        "equal ones",
    ),
    (
        "heaviest",
        "sorted(sizes, key=sizes.get, reverse=True)",
        "sorted(sizes, key=lambda n: -sizes[n])",
        None,
    ),
    (
        "heaviest",
        "sorted(sizes, key=sizes.get, reverse=True)",
        "sorted(sizes, key=lambda n: (-sizes[n], n))",
        "as many weights as biases",
    ),
    ("frame", "masked_crc(size)", "masked_crc(message)", "checksum of the first 8"),
    ("frame", "masked_crc(message)", "masked_crc(size + message)", "of the message"),
    ("frame", "len(message)", "(len(message) + 16)", "must say 0"),
    ("frame", 'to_bytes(8, "little")', 'to_bytes(8, "big")', "low byte first"),
    ("frame", 'to_bytes(8, "little")', 'to_bytes(4, "little")', "needs a record of"),
    (
        "frame",
        'masked_crc(message).to_bytes(4, "little")',
        'masked_crc(message).to_bytes(4, "big")',
        "the last 4 bytes",
    ),
    ("frame", "return (size", "return bytearray(size", "bytes are expected"),
    ("dead_units", "alive[name] | seen", "seen", "dead in one of two batches"),
    ("dead_units", "alive[name] | seen", "alive[name] & seen", "dead in one of two"),
    ("dead_units", "(output > 0)", "(output >= 0)", "a positive batch"),
    (
        "dead_units",
        "(output > 0).transpose(0, 1).flatten(1).any(1)",
        "(output > 0).any(0)",
        "one bright place of a map",
    ),
    (
        "dead_units",
        "(output > 0).transpose(0, 1).flatten(1).any(1)",
        "(output > 0).transpose(0, 1).flatten(1).all(1)",
        "one bright place of a map",
    ),
    (
        "dead_units",
        "(output > 0).transpose(0, 1).flatten(1).any(1)",
        "(output.mean(0) > 0).flatten(1).any(1) if output.dim() > 2 "
        "else (output.mean(0) > 0)",
        None,
    ),
    ("dead_units", "isinstance(part, nn.ReLU)", "not list(part.children())", "got"),
    ("dead_units", "model.named_modules()", "model.named_children()", "deep in"),
    ("dead_units", "handle.remove()", "pass", "a hook is left"),
    (
        "dead_units",
        "finally:\n        for handle in handles:",
        "except ZeroDivisionError:\n        pass\n    if True:\n"
        "        for handle in handles:",
        "after an error",
    ),
    ("dead_units", "alive = {}", "alive = {}\n    model.eval()", "training mode"),
    (
        "dead_units",
        "for batch in batches:",
        "for batch in (batches if list(batches) else []):",
        "read once",
    ),
    ("dead_units", "(~seen).sum()", "seen.sum()", "a positive batch"),
    ("dead_units", "(~seen).sum()", "(seen == 0).sum()", None),
    (
        "fixed_cams",
        "logits = head(maps)",
        "logits = head(maps).softmax(1)",
        "in the first row",
    ),
    (
        "fixed_cams",
        "logits = head(maps)",
        "logits = head(maps).log_softmax(1)",
        "in the first row",
    ),
    (
        "fixed_cams",
        "logits[torch.arange(len(x)), labels]",
        "logits.amax(1)",
        "in the first row",
    ),
    (
        "fixed_cams",
        "logits[torch.arange(len(x)), labels]",
        "logits[:, labels]",
        "three pictures of one class",
    ),
    (
        "fixed_cams",
        "logits[torch.arange(len(x)), labels]",
        "logits[:, labels[0]]",
        "three pictures of two classes",
    ),
    (
        "fixed_cams",
        "logits[torch.arange(len(x)), labels]",
        "logits.gather(1, labels[:, None])",
        None,
    ),
    ("fixed_cams", "labels].sum()", "labels].mean()", "three pictures of one class"),
    ("fixed_cams", "slope.mean((2, 3))", "slope.amax((2, 3))", "corner"),
    ("fixed_cams", "slope.mean((2, 3))", "slope.sum((2, 3))", "expected"),
    (
        "fixed_cams",
        "slope.mean((2, 3))",
        "slope.mean((0, 2, 3)).expand(len(x), -1)",
        "three pictures of one class",
    ),
    ("fixed_cams", "parts.sum(1).relu()", "parts.relu().sum(1)", "expected"),
    ("fixed_cams", "parts.sum(1).relu()", "parts.sum(1)", "expected"),
    ("fixed_cams", "parts.sum(1).relu()", "parts.mean(1).relu()", "expected"),
    ("fixed_cams", "parts.sum(1).relu()", "parts.sum(1).abs()", "expected"),
    (
        "fixed_cams",
        "(slope,) = torch.autograd.grad(wanted, maps)",
        "wanted.backward()\n    slope = maps.grad",
        "have got gradients",
    ),
    (
        "fixed_cams",
        "(slope,) = torch.autograd.grad(wanted, maps)",
        "wanted.backward()\n    slope = maps.grad\n    head.zero_grad()",
        "had before were changed",
    ),
    (
        "fixed_cams",
        "    maps = maps.detach()",
        "    head.requires_grad_(False)\n    maps = maps.detach()",
        "no longer want a gradient",
    ),
    (
        "fixed_cams",
        "(slope,) = torch.autograd.grad(wanted, maps)",
        "wanted.backward(inputs=[maps])\n    slope = maps.grad",
        None,
    ),
    ("path_gradients", "(k + 0.5)", "k", "a straight piece"),
    ("path_gradients", "(k + 0.5)", "(k + 1)", "a straight piece"),
    (
        "path_gradients",
        "slope * (end - start)",
        "slope * (points[-1] - points[0])",
        "around a corner",
    ),
    (
        "path_gradients",
        "zip(points, points[1:])",
        "[(points[0], points[-1])]",
        "around a corner",
    ),
    ("path_gradients", "(end - start) / steps", "(end - start)", "a straight piece"),
    (
        "path_gradients",
        "points = points.detach()",
        "points, steps = points.detach(), max(1, steps // max(1, len(points) - 1))",
        "two steps each",
    ),
    ("path_gradients", "shares +=", "shares =", "a straight piece"),
    ("path_gradients", "* (end - start) / steps", "/ steps", "a straight piece"),
    (
        "path_gradients",
        "points = points.detach()",
        "points = points.detach().double()",
        "float32 stays",
    ),
    (
        "path_gradients",
        "(end - start) / steps",
        "((end - start) / steps)",
        None,
    ),
]


@pytest.mark.parametrize(("name", "old", "new", "says"), CHANGES)
def test_a_changed_solution(name, old, new, says):
    exercise = EXERCISES[f"14.{name}"]
    assert_changed(exercise, old, new, says)


def test_a_gradient_at_the_end_only():
    """The plain gradient times the distance is not integrated."""
    exercise = EXERCISES["14.path_gradients"]
    source = """
def path_gradients(score, points, steps):
    end = points[-1].detach().requires_grad_()
    (slope,) = torch.autograd.grad(score(end), end)
    return slope * (points[-1] - points[0])
"""
    assert_verdict(exercise, source, "a straight piece")


def test_the_faulty_cams_of_the_text():
    exercise = EXERCISES["14.fixed_cams"]
    source = """
def fixed_cams(body, head, x, labels):
    maps = body(x).detach().requires_grad_()
    shares = head(maps).softmax(1)
    shares[torch.arange(len(x)), labels].sum().backward()
    weights = maps.grad.amax((2, 3))
    parts = weights[:, :, None, None] * maps.detach()
    return parts.relu().sum(1)
"""
    assert_verdict(exercise, source, "two maps, equal weights")


def test_the_function_of_the_chapter_is_no_answer():
    """It makes the map of one picture."""
    exercise = EXERCISES["14.fixed_cams"]
    source = """
def fixed_cams(body, head, x, labels):
    maps = body(x).detach().requires_grad_()
    (slope,) = torch.autograd.grad(head(maps)[0, labels[0]], maps)
    weight = slope.mean((2, 3))[0]
    return torch.einsum("c,chw->hw", weight, maps.detach()[0]).relu()
"""
    assert_verdict(exercise, source, "two maps, equal weights")

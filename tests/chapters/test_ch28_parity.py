"""Chapter 28's attention against torch's: the parity contract, and that it bites.

The functions and classes come out of the notebook. Outputs and slopes must agree in
float64 within 1e-12, in float32 within 2e-5 of the largest value of the library's.
"""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from booktools import chapter_code

CHAPTER = "28_attention"
OURS = chapter_code.definitions(
    CHAPTER,
    *("plain_attention", "attention", "streaming_attention", "MultiHead", "Block"),
    *("DecoderBlock", "sinusoids", "rope", "Sorter", "with_answer", "draw_digits"),
    *("step_by_step", "sort_with", "exactness", "blurred", "collect", "pointing"),
)
WITHIN = {torch.float64: 1e-12, torch.float32: 2e-5}
sdpa = F.scaled_dot_product_attention

pytestmark = pytest.mark.usefixtures("one_thread")


def draw(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1).to(
        dtype
    )


def assert_near(ours, library, within):
    for a, b in zip(ours, library, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        scale = (b.abs().max().item() if b.numel() else 0.0) or 1.0
        assert torch.allclose(a / scale, b / scale, rtol=0, atol=within)


def slopes(outputs, leaves):
    grad = draw(*outputs.shape, seed=9, dtype=outputs.dtype)
    return [outputs, *torch.autograd.grad(outputs, leaves, grad)]


def strided(x):
    return x.transpose(-1, -2).contiguous().transpose(-1, -2)


# --- the function --------------------------------------------------------------------

SHAPES = {
    "one head": ((5, 8), (5, 8), (5, 8)),
    "cross, two axes": ((2, 3, 4, 8), (2, 3, 7, 8), (2, 3, 7, 5)),
    "one token": ((1, 1, 4), (1, 1, 4), (1, 1, 4)),
    "one feature": ((2, 3, 1), (2, 4, 1), (2, 4, 6)),
    "no samples": ((0, 3, 4), (0, 5, 4), (0, 5, 4)),
    "no queries": ((2, 0, 4), (2, 5, 4), (2, 5, 4)),
    "no keys": ((2, 3, 4), (2, 0, 4), (2, 0, 4)),
}
CHANGES = {
    "plain": lambda x: x,
    "strided": strided,
    "huge": lambda x: x * 1e4,
    "tiny": lambda x: x * 1e-15,
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("dtype", WITHIN)
def test_attention(shapes, change, dtype):
    inputs = [
        CHANGES[change](draw(*shape, seed=seed, dtype=dtype)).requires_grad_()
        for seed, shape in enumerate(SHAPES[shapes])
    ]
    out, weights = OURS.attention(*inputs)
    found = slopes(out, inputs)
    if change == "huge":  # the softmax is a choice: slopes are rounding alone
        assert_near(found[:1], [sdpa(*inputs)], WITHIN[dtype])
        return
    assert_near(found, slopes(sdpa(*inputs), inputs), WITHIN[dtype])
    if inputs[1].shape[-2]:
        assert torch.allclose(weights.sum(-1), torch.ones_like(weights[..., 0]))
        assert torch.equal(out, OURS.plain_attention(*inputs)[0])


MASKS = {
    "causal": torch.ones(4, 4, dtype=torch.bool).tril(),
    "padding": torch.tensor([[[True, True, False, False]], [[True] * 4]]),
    "blind rows": torch.ones(4, 4, dtype=torch.bool).triu(1),
    "all blind": torch.zeros(4, 4, dtype=torch.bool),
    "one for each sample": draw(2, 4, 4, seed=5) > 0,
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("dtype", WITHIN)
def test_masks(mask, dtype):
    inputs = [draw(2, 4, 6, seed=s, dtype=dtype).requires_grad_() for s in range(3)]
    allowed = MASKS[mask]
    out, weights = OURS.attention(*inputs, allowed)
    assert not weights.masked_select(~allowed).any()
    ours, library = (slopes(y, inputs) for y in (out, sdpa(*inputs, attn_mask=allowed)))
    assert all(t.isfinite().all() for t in ours)
    assert_near(ours, library, WITHIN[dtype])


def test_a_mask_of_the_wrong_sense_is_noticed():
    inputs = [draw(2, 4, 6, seed=s) for s in range(3)]
    allowed = MASKS["causal"]
    ours = OURS.attention(*inputs, ~allowed)[0]
    with pytest.raises(AssertionError):
        assert_near([ours], [sdpa(*inputs, attn_mask=allowed)], 1e-3)


def test_a_bias_is_torchs_float_mask():
    q, k, v, bias = (draw(2, 4, 4, seed=s).requires_grad_() for s in range(4))
    ours = OURS.attention(q, k, v, bias=bias)[0]
    library = sdpa(q, k, v, attn_mask=bias)
    assert_near(slopes(ours, (q, k, v, bias)), slopes(library, (q, k, v, bias)), 1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_types(dtype):
    inputs = [draw(2, 4, 8, seed=s, dtype=dtype) for s in range(3)]
    out, weights = OURS.attention(*inputs, MASKS["blind rows"])
    assert out.dtype == weights.dtype == dtype and out.isfinite().all()
    wanted = OURS.attention(*(x.double() for x in inputs), MASKS["blind rows"])[0]
    assert torch.allclose(out.double(), wanted, atol=2e-2)


@pytest.mark.parametrize("piece", [1, 3, 16, 1000])
@pytest.mark.parametrize("size", [1.0, 1e3])
def test_streaming(piece, size):
    q, k, v = size * draw(2, 5, 8), draw(2, 50, 8, seed=1), draw(2, 50, 3, seed=2)
    streamed = OURS.streaming_attention(q, k, v, piece)
    assert_near([streamed], [sdpa(q, k, v)], 1e-12)


# --- layers --------------------------------------------------------------------------


def meet(ours, library, inputs, dtype, masks=({}, {})):
    """Same state, both ways; then outputs, and slopes of inputs and parameters."""
    ours, library = ours.to(dtype), library.to(dtype)
    with torch.no_grad():  # the library's biases start at 0
        for seed, p in enumerate(library.parameters()):
            p.add_(draw(*p.shape, seed=50 + seed, dtype=dtype) / 4)
    assert sorted(ours.state_dict()) == sorted(library.state_dict())
    ours.load_state_dict(library.state_dict())
    copy.deepcopy(library).load_state_dict(ours.state_dict())
    for training in (True, False):
        found = []
        for layer, mask in zip((ours, library), masks, strict=True):
            layer.train(training)
            out = layer(*inputs, **mask)
            out = out[0] if isinstance(out, tuple) else out
            parameters = [p for _, p in sorted(layer.named_parameters())]
            found.append(slopes(out, [*dict.fromkeys(inputs), *parameters]))
        assert_near(*found, WITHIN[dtype])
        with torch.no_grad():  # torch's fast path in evaluation
            pair = [
                f(*inputs, **m) for f, m in zip((ours, library), masks, strict=True)
            ]
        pair = [y[0] if isinstance(y, tuple) else y for y in pair]
        assert_near(pair[:1], pair[1:], WITHIN[dtype])


def tokens(*shape, seed=0, dtype=torch.float64):
    return draw(*shape, seed=seed, dtype=dtype).requires_grad_()


CAUSAL = torch.ones(5, 5, dtype=torch.bool).tril()


@pytest.mark.parametrize("heads", [1, 2, 8])
@pytest.mark.parametrize("dtype", WITHIN)
def test_heads(heads, dtype):
    library = nn.MultiheadAttention(8, heads, batch_first=True)
    x, memory = tokens(2, 5, 8, dtype=dtype), tokens(2, 7, 8, seed=1, dtype=dtype)
    make = lambda: OURS.MultiHead(8, heads)  # noqa: E731
    meet(make(), library, (x, x, x), dtype)
    meet(make(), library, (x, memory, memory), dtype)
    meet(
        *(make(), library, (x, x, x), dtype),
        masks=({"allowed": CAUSAL}, {"attn_mask": ~CAUSAL}),
    )
    padding = torch.tensor([[True] * 5, [True, True, True, False, False]])
    masks = {"allowed": padding[:, None, None]}, {"key_padding_mask": ~padding}
    meet(make(), library, (x, x, x), dtype, masks)


def test_the_tables_of_the_heads_and_no_batch_axis():
    library = nn.MultiheadAttention(8, 2, batch_first=True).double()
    ours = OURS.MultiHead(8, 2).double()
    ours.load_state_dict(library.state_dict())
    for x in (draw(2, 5, 8), draw(5, 8), draw(3, 1, 8), strided(draw(2, 5, 8))):
        found = library(x, x, x, average_attn_weights=False)
        assert_near(ours(x, x, x), found, 1e-12)
    assert ours(*[torch.zeros(0, 5, 8).double()] * 3)[0].shape == (0, 5, 8)


def test_heads_that_do_not_divide_are_quoted():
    with pytest.raises(ValueError, match="3 heads cannot share 8 features"):
        OURS.MultiHead(8, 3)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("activation", [F.relu, F.gelu])
@pytest.mark.parametrize("dtype", WITHIN)
def test_encoder_layer(first, activation, dtype):
    library = nn.TransformerEncoderLayer(
        8, 2, 16, 0.0, activation, batch_first=True, norm_first=first
    )
    x = tokens(2, 5, 8, dtype=dtype)
    block = OURS.Block(8, 2, 16, first, activation)
    meet(block, library, (x,), dtype)
    masks = {"allowed": CAUSAL}, {"src_mask": ~CAUSAL}
    meet(block, library, (x,), dtype, masks)
    assert block.table.shape == (2, 2, 5, 5) and not block.table.requires_grad


@pytest.mark.parametrize("dtype", WITHIN)
def test_decoder_layer(dtype):
    library = nn.TransformerDecoderLayer(8, 2, 16, 0.0, batch_first=True)
    x, memory = tokens(2, 5, 8, dtype=dtype), tokens(2, 7, 8, seed=1, dtype=dtype)
    masks = {"allowed": CAUSAL}, {"tgt_mask": ~CAUSAL}
    for m in (({}, {}), masks):
        meet(OURS.DecoderBlock(8, 2, 16), library, (x, memory), dtype, m)


# --- places --------------------------------------------------------------------------


def test_sinusoids_number_by_number():
    table = OURS.sinusoids(torch.arange(7.0).double(), 6)
    for place in range(7):
        for i in range(3):
            angle = place / 10_000 ** (2 * i / 6)
            assert math.isclose(table[place, 2 * i], math.sin(angle), abs_tol=1e-12)
            assert math.isclose(table[place, 2 * i + 1], math.cos(angle), abs_tol=1e-12)


def test_rope_as_complex_numbers():
    x, place = draw(2, 3, 5, 8), torch.arange(5.0).double()
    speeds = 10_000 ** -(torch.arange(0, 8, 2).double() / 8)
    turn = torch.polar(torch.ones(5, 4).double(), place[:, None] * speeds)
    wanted = torch.view_as_real(
        torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous()) * turn
    ).flatten(-2)
    found = OURS.rope(x, place)
    assert_near([found], [wanted], 1e-12)
    assert torch.allclose(found.norm(dim=-1), x.norm(dim=-1))


# --- the sorter ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def sorter():
    torch.manual_seed(0)
    return OURS.Sorter().double()


def test_digits_of_train_and_test_never_meet():
    generator = torch.Generator().manual_seed(0)
    train = OURS.draw_digits(500, 6, generator)
    test = OURS.draw_digits(500, 6, generator, unseen=True)
    assert len(train) == len(test) == 500
    of = [{tuple(sorted(row)) for row in part.tolist()} for part in (train, test)]
    assert not of[0] & of[1]


def test_what_the_model_reads_and_says():
    read, answer = OURS.with_answer(torch.tensor([[3, 1, 3]]))
    assert read.tolist() == [[3, 1, 3, 10, 1, 3]] and answer.tolist() == [[1, 3, 3]]
    assert OURS.with_answer(torch.zeros(0, 6, dtype=torch.int64))[0].shape == (0, 12)


def test_the_cache_changes_nothing(sorter):
    read, _ = OURS.with_answer(draw(5, 6).mul(5).add(5).long())
    assert_near([OURS.step_by_step(sorter, read)], [sorter(read).detach()], 1e-12)


def test_no_token_reads_the_future(sorter):
    read, _ = OURS.with_answer(draw(5, 6).mul(5).add(5).long())
    other = read.clone()
    other[:, 8:] = 0
    assert torch.equal(sorter(read)[:, :8], sorter(other)[:, :8])


def test_exactness_counts_whole_sequences():
    class Knows(nn.Module):
        """Says the right digits, but for the last of sequences that begin with 9."""

        def forward(self, tokens):
            n = 4
            done = tokens.shape[1] - n - 1
            answer = tokens[:, :n].sort(1).values[:, done]
            if done == n - 1:
                answer = torch.where(tokens[:, 0] == 9, answer + 1, answer) % 10
            return F.one_hot(answer, 10)[:, None]

    digits = torch.tensor([[1, 2, 3, 0], [9, 1, 1, 2], [0, 0, 0, 0], [5, 9, 9, 1]])
    assert OURS.exactness(Knows(), digits) == 0.75


def test_a_blurred_head_takes_plain_means(sorter):
    read, _ = OURS.with_answer(draw(5, 6).mul(5).add(5).long())
    blurred = OURS.blurred(sorter, 1, 2)
    blurred(read)
    plain = torch.ones(12, 12).double().tril()
    plain = (plain / plain.sum(-1, keepdim=True)).expand(5, 12, 12)
    assert torch.allclose(blurred.blocks[1].table[:, 2], plain)
    sorter(read)
    assert torch.equal(sorter.blocks[0].table, blurred.blocks[0].table)
    assert not torch.allclose(sorter.blocks[1].table[:, 2], plain)


def test_where_heads_point(sorter):
    digits = draw(5, 6).mul(5).add(5).long()
    shares = torch.tensor(OURS.pointing(sorter, digits))
    assert shares.shape == (2, 4) and 0 <= shares.min() and shares.max() <= 1
    read, answer = OURS.with_answer(digits)
    sorter(read)
    hits = [
        read[b, sorter.blocks[1].table[b, 3, 6 + i].argmax()] == answer[b, i]
        for b in range(5)
        for i in range(6)
    ]
    assert math.isclose(shares[1, 3], sum(hits) / 30, abs_tol=1e-6)


def test_a_longer_sequence_has_no_place(sorter):
    with pytest.raises(IndexError):
        sorter(torch.zeros(1, 13, dtype=torch.int64))
    torch.manual_seed(0)
    free = OURS.Sorter(places=False)
    assert free(torch.zeros(1, 13, dtype=torch.int64)).shape == (1, 13, 10)

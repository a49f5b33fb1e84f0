"""Arithmetic that is a little different, for ``make test-noise``.

No two machines round alike. Vector width, the number of threads, a fused multiply-add
and the library behind a product decide in which order numbers are added, and the last
bit of the result with it. Words, integers and decisions on the page must not depend on
that bit. :class:`NoisyArithmetic` makes a machine of its own out of every seed: it
moves a result to a neighboring float, one unit in the last place up, one down, or not
at all, by a hash of the result's bits and the seed.

What is moved: results of the operations in :data:`OPERATIONS`, in float32 and float64,
in all their forms (``x.exp()``, ``x.exp_()``, ``torch.exp(x, out=y)``,
``torch._foreach_exp``), in ``backward`` as well.

What stays, because every machine computes it alike:

- a single addition, product, quotient, square root, comparison or copy: IEEE 754 rounds
  them correctly;
- a value with few significant bits (16 of float32's 24, 37 of float64's 53), such as a
  power of two or a small integer, and every integer that the type holds exactly;
- zero, infinity, nan, subnormal numbers, and the largest binade, which would overflow;
- a reduction over one number, a product with an inner dimension of 1, a picture resized
  to its own size.

Equal inputs give equal outputs: two computations that agree to the bit still do where
both take the same operations. The hash takes the bits of the significand alone, so that
a negated or doubled input still gives the negated or doubled output.

Not reached: float16 and bfloat16, whose unit in the last place is a thousand times
coarser than what machines differ by; complex numbers; NumPy, SciPy and Pillow; other
threads than the one that switched it on (``backward`` is reached); what
``torch.jit.trace`` and ``torch.onnx.export`` compute, because a traced operation that
goes through Python ends as a constant in the graph, and the older exporter breaks; a
float32 picture value that a product with ones and zeros only picks is moved, though no
machine would.
"""

import functools

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

__all__ = ["OPERATIONS", "NoisyArithmetic", "check_seed", "found", "move"]

# By the reason why machines differ. In-place forms, out= and _foreach_ go by the same
# name; names that this torch does not have are never met.
OPERATIONS: dict[str, str] = {
    "products: the order of additions": """
        mm addmm bmm baddbmm addbmm mv addmv addr dot vdot _addmm_activation
        convolution convolution_overrideable _convolution convolution_backward
        mkldnn_convolution _slow_conv2d_forward thnn_conv2d
        mkldnn_rnn_layer mkldnn_rnn_layer_backward
        _cdist_forward _cdist_backward _pdist_forward _pdist_backward
        _euclidean_dist _trilinear""",
    "sums: the order of additions": """
        sum nansum mean var var_mean std std_mean norm linalg_vector_norm prod trace
        cumsum cumprod logsumexp logcumsumexp renorm index_add scatter_add
        scatter_reduce index_put _index_put_impl _unsafe_index_put
        embedding_dense_backward _embedding_bag _embedding_bag_backward
        _segment_reduce_backward segment_reduce""",
    "normalization: sums and a reciprocal root": """
        native_batch_norm native_batch_norm_backward _native_batch_norm_legit
        _native_batch_norm_legit_no_training _batch_norm_with_update
        batch_norm_backward native_layer_norm native_layer_norm_backward
        native_group_norm native_group_norm_backward
        _fused_rms_norm _fused_rms_norm_backward rms_norm""",
    "softmax and attention: exponentials, sums, blocks": """
        _softmax _softmax_backward_data _log_softmax _log_softmax_backward_data
        _scaled_dot_product_flash_attention_for_cpu
        _scaled_dot_product_flash_attention_for_cpu_backward
        _scaled_dot_product_fused_attention_overrideable
        _scaled_dot_product_fused_attention_overrideable_backward
        _scaled_dot_product_attention_math _native_multi_head_attention
        _transformer_encoder_layer_fwd""",
    "transcendental functions: a polynomial that approximates": """
        exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos atan atan2 sinh cosh
        asinh acosh atanh tanh sigmoid log_sigmoid_forward softplus erf erfc erfinv gelu
        silu mish elu rsqrt pow logaddexp logaddexp2 hypot logit xlogy sinc i0 lgamma
        digamma polygamma mvlgamma special_entr special_log_ndtr special_ndtri
        special_erfcx special_xlog1py special_i0e special_i1 special_i1e special_zeta
        angle polar""",
    "their backward forms": """
        tanh_backward sigmoid_backward log_sigmoid_backward softplus_backward
        gelu_backward silu_backward mish_backward elu_backward logit_backward""",
    "losses: sums, logarithms": """
        nll_loss_forward nll_loss_backward nll_loss2d_forward nll_loss2d_backward
        mse_loss mse_loss_backward smooth_l1_loss smooth_l1_loss_backward huber_loss
        huber_loss_backward soft_margin_loss binary_cross_entropy
        binary_cross_entropy_backward binary_cross_entropy_with_logits""",
    "interpolation and pooling: weighted sums, fused multiply-adds": """
        upsample_linear1d upsample_bilinear2d upsample_trilinear3d upsample_bicubic2d
        _upsample_bilinear2d_aa _upsample_bicubic2d_aa _upsample_lanczos2d_aa
        upsample_linear1d_backward upsample_bilinear2d_backward
        upsample_trilinear3d_backward upsample_bicubic2d_backward
        _upsample_bilinear2d_aa_backward _upsample_bicubic2d_aa_backward
        grid_sampler_2d grid_sampler_2d_backward grid_sampler_3d
        grid_sampler_3d_backward avg_pool1d avg_pool2d avg_pool2d_backward avg_pool3d
        avg_pool3d_backward adaptive_avg_pool1d adaptive_avg_pool2d
        _adaptive_avg_pool2d _adaptive_avg_pool2d_backward _adaptive_avg_pool3d
        _adaptive_avg_pool3d_backward col2im
        roi_align _roi_align_backward ps_roi_align _ps_roi_align_backward
        deform_conv2d _deform_conv2d_backward""",
    "a product and an addition that may be fused into one": """
        add sub rsub addcmul addcdiv lerp linspace logspace arange uniform
        _fused_adam _fused_adamw _fused_sgd _fused_adagrad""",
    "normal and exponential random numbers: logarithms, cosines": """
        randn randn_like normal normal_functional log_normal exponential cauchy
        _sample_dirichlet _standard_gamma""",
    "linear algebra: the order of additions, and pivots": """
        linalg_solve_ex _linalg_solve_ex linalg_inv_ex linalg_cholesky_ex
        cholesky_solve cholesky_inverse linalg_lu_factor_ex linalg_lu linalg_lu_solve
        linalg_qr geqrf linalg_householder_product linalg_svd _linalg_svd linalg_eigh
        _linalg_eigh linalg_lstsq linalg_solve_triangular triangular_solve
        _linalg_det _linalg_slogdet linalg_matrix_exp linalg_pinv""",
}
_NAMES = frozenset(" ".join(OPERATIONS.values()).split())

# Statistics that an operation updates without saying so in its schema: positions, and
# the position of the flag that says whether it does.
_SILENTLY_WRITTEN = {"native_batch_norm": ((3, 4), 5)}
# torch computes these powers by products, quotients and square roots.
_PLAIN_POWERS = (0, 0.5, 1, 2, 3, -1, -2)
_PRODUCTS = {"mm", "bmm", "mv", "dot", "vdot"}
_ONE_TO_ONE = {"sum", "nansum", "mean", "prod", "trace", "norm", "linalg_vector_norm"}


class NoisyArithmetic(TorchDispatchMode):
    """Arithmetic of another machine, while this is on::

        with NoisyArithmetic(seed=1):
            loss = model(images).mean()

    It holds in the thread that switches it on, and in the ``backward`` of that thread.

    Args:
        seed: which machine; an integer from 0 to 2**32 - 1.

    Raises:
        TypeError: ``seed`` is not an integer.
        ValueError: ``seed`` is out of range.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing here is compiled, and torch._dynamo takes long to import

    def __init__(self, seed: int):
        super().__init__()
        self.seed = check_seed(seed)

    def __enter__(self):
        _trace_plainly()
        return super().__enter__()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        try:
            plan = _plans[func]
        except KeyError:
            plan = _plans[func] = _plan(func)
        if plan is not None and (plan.when is None or plan.when(args, kwargs, result)):
            done: set[int] = set()
            self._move(result, done)
            written = plan.written
            if plan.silently is not None:
                places, flag = plan.silently
                written += places if args[flag] else ()
            for position, name in written:
                if position < len(args):
                    self._move(args[position], done)
                elif name in kwargs:
                    self._move(kwargs[name], done)
        return result

    def _move(self, thing, done: set[int]) -> None:
        if isinstance(thing, torch.Tensor):
            if id(thing) not in done:
                done.add(id(thing))
                move(thing, self.seed)
        elif isinstance(thing, (tuple, list)):
            for part in thing:
                self._move(part, done)


# What runs a model to write down its operations. The older ONNX exporter also computes
# with what it has written.
_TRACERS = ((torch.jit, "trace"), (torch.jit, "trace_module"), (torch.onnx, "export"))


def _trace_plainly() -> None:
    """Let the modes of a thread step aside while it traces; twice does no more."""
    for space, name in _TRACERS:
        tracer = getattr(space, name, None)
        if tracer is not None and not hasattr(tracer, "plainly"):
            setattr(space, name, _plainly(tracer))


def _plainly(tracer):
    @functools.wraps(tracer)
    def traced(*args, **kwargs):
        with _disable_current_modes():
            return tracer(*args, **kwargs)

    traced.plainly = True
    return traced


def check_seed(seed) -> int:
    """The seed as an int.

    Raises:
        TypeError: not an integer.
        ValueError: not from 0 to 2**32 - 1.
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise TypeError(f"the seed of the noise must be an integer, got {seed!r}")
    if not 0 <= seed < 2**32:
        raise ValueError(f"the seed of the noise must be from 0 to 2**32 - 1: {seed}")
    return int(seed)


def found() -> dict[str, list[str]]:
    """The operations that this torch (and torchvision, if imported) has, by reason."""
    spaces = (torch.ops.aten, torch.ops.torchvision)
    return {
        reason: [
            name
            for name in names.split()
            if any(hasattr(space, name + end) for space in spaces for end in ("", "_"))
        ]
        for reason, names in OPERATIONS.items()
    }


# --- which tensors an operation makes ------------------------------------------------


class _Plan:
    """What is moved after an operation: results and written arguments, if ``when``.

    ``silently``: further written arguments, and the position of the flag that they are
    written only with; None where there are none.
    """

    def __init__(self, written, when, silently=None):
        self.written, self.when, self.silently = written, when, silently


_plans: dict[object, _Plan | None] = {}


def _plan(func) -> _Plan | None:
    space, _, name = func._schema.name.partition("::")
    name = name.removeprefix("_foreach_").removesuffix("_")
    if space not in ("aten", "torchvision") or name not in _NAMES:
        return None
    arguments = func._schema.arguments
    written = [
        (position, argument.name)
        for position, argument in enumerate(arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
    positions = {argument.name: i for i, argument in enumerate(arguments)}
    silently = None
    if name in _SILENTLY_WRITTEN:
        places, flag = _SILENTLY_WRITTEN[name]
        silently = tuple((i, arguments[i].name) for i in places), flag
    return _Plan(tuple(written), _condition(name, positions, arguments), silently)


def _condition(name: str, positions: dict[str, int], arguments):
    """A test of a call's arguments and result, where not every call is inexact."""

    def given(argument, args, kwargs):
        position = positions[argument]
        if position < len(args):
            return args[position]
        return kwargs.get(argument, arguments[position].default_value)

    if name in _PRODUCTS:
        return lambda args, kwargs, result: args[0].shape[-1] != 1
    if name in _ONE_TO_ONE or "upsample" in name:

        def fewer(args, kwargs, result):
            first = args[0] if args else None
            both = isinstance(first, torch.Tensor) and isinstance(result, torch.Tensor)
            return not both or first.numel() != result.numel()

        return fewer
    if name in ("add", "sub", "rsub"):
        if "alpha" not in positions:
            return lambda args, kwargs, result: False
        return lambda args, kwargs, result: given("alpha", args, kwargs) != 1
    if name == "pow" and isinstance(positions.get("exponent"), int):

        def hard(args, kwargs, result):
            power = given("exponent", args, kwargs)
            return not isinstance(power, (int, float)) or power not in _PLAIN_POWERS

        return hard
    if "index_put" in name:
        return lambda args, kwargs, result: given("accumulate", args, kwargs)
    if name == "scatter_reduce":
        picks = ("amax", "amin")
        return lambda args, kwargs, result: given("reduce", args, kwargs) not in picks
    if name in ("grid_sampler_2d", "grid_sampler_3d"):
        nearest = 1
        return lambda a, k, result: given("interpolation_mode", a, k) != nearest
    if name == "uniform":
        return lambda a, k, result: (given("from", a, k), given("to", a, k)) != (0, 1)
    return None


# --- to a neighboring float ----------------------------------------------------------

_CHUNK = 1 << 14  # values at a time: the steps in between stay in the cache
_FEW = 16  # up to there Python's integers are faster than NumPy's arrays


class _Format:
    """Bit patterns of a float type, as Python integers."""

    def __init__(self, unsigned, significand: int, exponent: int, low: int, factors):
        self.unsigned = unsigned
        self.bits = significand + exponent + 1
        self.all = (1 << self.bits) - 1
        self.low = (1 << low) - 1
        self.significand = (1 << significand) - 1
        self.magnitude = self.all >> 1
        self.smallest = 1 << significand  # the smallest normal number
        # Magnitudes from there up to the largest binade, that one left out.
        self.span = (((1 << exponent) - 2) << significand) - self.smallest
        bias = (1 << (exponent - 1)) - 1
        # All magnitudes from here on are integers, but not every integer is there.
        self.integers = (bias + significand + 1) << significand
        self.factors = factors
        self.half = self.bits // 2 - 1

    def salt(self, seed: int) -> int:
        mixed = (seed + 1) * 0x9E3779B97F4A7C15 % 2**64
        mixed = (mixed ^ (mixed >> 31)) * 0xBF58476D1CE4E5B9 % 2**64
        return mixed >> (64 - self.bits)


_FORMATS = {
    torch.float32: _Format(np.uint32, 23, 8, 8, (0x85EBCA6B, 0xC2B2AE35)),
    torch.float64: _Format(
        np.uint64, 52, 11, 16, (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53)
    ),
}


def move(tensor: torch.Tensor, seed: int) -> None:
    """Move a tensor's inexact values to neighboring floats, in place.

    Tensors of other types than float32 and float64, of other devices and layouts stay.
    """
    tensor = getattr(tensor, "cpu_memory", tensor)  # of the stand-in accelerator
    form = _FORMATS.get(tensor.dtype)
    if (
        form is None
        or type(tensor) not in (torch.Tensor, torch.nn.Parameter)
        or tensor.device.type != "cpu"
        or tensor.layout is not torch.strided
        or tensor.numel() == 0
    ):
        return
    if tensor.requires_grad:
        tensor = tensor.detach()
    values = tensor.numpy()
    flat = values.reshape(-1)  # a copy where the values do not lie side by side
    salt = form.salt(seed)
    if flat.size <= _FEW:
        _move_few(flat, form, salt)
    else:
        for start in range(0, flat.size, _CHUNK):
            _move_many(flat[start : start + _CHUNK], form, salt)
    if not values.flags.c_contiguous:
        values[...] = flat.reshape(values.shape)


def _move_many(values: np.ndarray, form: _Format, salt: int) -> None:
    bits = values.view(form.unsigned)
    magnitude = bits & form.magnitude
    # Inexact: many significant bits, and not an integer that the type holds exactly.
    move = (bits & form.low) != 0
    move &= (magnitude - form.smallest) < form.span
    move &= (np.trunc(values) != values) | (magnitude >= form.integers)
    mixed = bits & form.significand
    mixed ^= salt
    mixed *= form.factors[0]
    mixed ^= mixed >> form.half
    mixed *= form.factors[1]
    # Two bits of the hash: up where only the first is set, down where only the second.
    step = mixed >> (form.bits - 1)
    mixed >>= form.bits - 2
    mixed &= 1
    step -= mixed
    step *= move
    bits += step


def _move_few(values: np.ndarray, form: _Format, salt: int) -> None:
    """The same, value by value."""
    patterns = values.view(form.unsigned)
    pairs = zip(values.tolist(), patterns.tolist(), strict=True)
    for i, (value, bits) in enumerate(pairs):
        magnitude = bits & form.magnitude
        if not bits & form.low or not 0 <= magnitude - form.smallest < form.span:
            continue
        if magnitude < form.integers and value == int(value):
            continue
        mixed = ((bits & form.significand) ^ salt) * form.factors[0] & form.all
        mixed = (mixed ^ mixed >> form.half) * form.factors[1] & form.all
        step = (mixed >> (form.bits - 1)) - (mixed >> (form.bits - 2) & 1)
        patterns[i] = bits + step

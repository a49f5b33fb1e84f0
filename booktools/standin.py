"""A stand-in for a GPU, in CPU memory: for ``make test-device`` and for tests.

Chapters move tensors to ``runtime.device()``. On a machine without a GPU that moves
nothing, and a forgotten ``.cpu()`` or ``.to(device)`` is not seen. :func:`install`
registers another device, ``standin``, whose tensors lie in CPU memory and compute
there, but refuse what CUDA refuses:

- an operation with a CPU tensor among its tensors. As on CUDA a CPU tensor without
  dimensions may join element by element, CPU tensors may be indices, and a copy from
  one device to the other is what it is for;
- a CPU generator for numbers drawn on the device;
- ``.numpy()``, ``np.asarray`` and ``pin_memory`` of a tensor there.

As a GPU does, it draws random numbers of its own: other ones than the CPU's for the
same seed. ``torch.accelerator`` sees the device; ``torch.cuda`` does not, so that code
under ``device.type == "cuda"`` is not reached. Automatic mixed precision takes the
low precision in products and float32 in losses and norms.

It stands on an interface of torch that is called experimental; :func:`lacking` says
whether this torch has it. Once installed it stays, for the life of the process.
"""

import functools
from collections import OrderedDict

import torch
from torch.utils import backend_registration
from torch.utils._mode_utils import no_dispatch
from torch.utils._pytree import tree_map

__all__ = ["NAME", "install", "lacking"]

NAME = "standin"
_REGISTER = "_setup_privateuseone_for_python_backend"

aten = torch.ops.aten


def lacking() -> str:
    """Why this torch cannot have the stand-in device, in one line; empty if it can."""
    if not hasattr(backend_registration, _REGISTER):
        return f"torch {torch.__version__} has no {_REGISTER}"
    return ""


@functools.cache
def install() -> torch.device:
    """Register the device and return it.

    Raises:
        RuntimeError: this torch lacks the interface; the message is :func:`lacking`'s.
    """
    if reason := lacking():
        raise RuntimeError(f"no stand-in device: {reason}")
    getattr(backend_registration, _REGISTER)(NAME, backend_module=_Module())
    _library.fallback(_called, "PrivateUse1")
    for operation in _operations(_FACTORIES):
        _kernels.impl(operation, functools.partial(_called, operation), "PrivateUse1")
    _register_autocast()
    _replace_functions()
    return torch.device(NAME, 0)


_library = torch.library.Library("_", "IMPL")
_kernels = torch.library.Library("aten", "IMPL")


class _Module:
    """What ``torch.standin`` offers, as ``torch.cuda`` does."""

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return True

    def device_count(self) -> int:
        return 1

    def current_device(self) -> int:
        return 0

    def set_device(self, device) -> None:
        pass

    def synchronize(self, device=None) -> None:
        pass

    def empty_cache(self) -> None:
        pass

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        _random.seed(seed)

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16, torch.float32]


class _Random:
    """The device's random numbers: the CPU's generator, in a state of its own."""

    def __init__(self):
        self.seed(0)

    def seed(self, seed: int) -> None:
        other = (seed ^ 0x5DEECE66D) % 2**63
        self.state = torch.Generator().manual_seed(other).get_state()

    def __enter__(self):
        self.cpu = torch.default_generator.get_state()
        torch.default_generator.set_state(self.state)

    def __exit__(self, *error):
        self.state = torch.default_generator.get_state()
        torch.default_generator.set_state(self.cpu)


_random = _Random()


# --- tensors -------------------------------------------------------------------------


class OnDevice(torch.Tensor):
    """A tensor on the device; its values are in the CPU tensor ``cpu_memory``."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, cpu_memory, requires_grad=False):
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            cpu_memory.size(),
            strides=cpu_memory.stride(),
            storage_offset=cpu_memory.storage_offset(),
            dtype=cpu_memory.dtype,
            layout=cpu_memory.layout,
            device=torch.device(NAME, 0),
            requires_grad=requires_grad,
        )
        made.cpu_memory = cpu_memory
        return made

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})

    def __repr__(self, *, tensor_contents=None):
        text = repr(self.detach().cpu())
        if text.endswith(")"):
            text = text[:-1] + f", device='{self.device}'"
            if self.grad_fn is not None:
                text += f", grad_fn=<{type(self.grad_fn).__name__}>"
            elif self.requires_grad:
                text += ", requires_grad=True"
            text += ")"
        if isinstance(self, torch.nn.Parameter):
            text = f"Parameter containing:\n{text}"
        return text

    def __format__(self, spec):
        return format(self.item(), spec) if self.dim() == 0 else repr(self)

    def __getitem__(self, index):
        return super().__getitem__(_without_lists(index))

    def __setitem__(self, index, value):
        super().__setitem__(_without_lists(index), value)

    def __deepcopy__(self, memo):
        if not self.is_leaf:
            raise RuntimeError(
                "Only Tensors created explicitly by the user (graph leaves) support "
                "the deepcopy protocol at the moment."
            )
        if id(self) in memo:
            return memo[id(self)]
        made = OnDevice(self.cpu_memory.clone(), self.requires_grad)
        if isinstance(self, torch.nn.Parameter):
            made = torch.nn.Parameter(made, self.requires_grad)
        memo[id(self)] = made
        if self.grad is not None:
            made.grad = self.grad.__deepcopy__(memo)
        return made

    def __reduce_ex__(self, protocol):
        if isinstance(self, torch.nn.Parameter):
            parts = (self.detach(), self.requires_grad, OrderedDict())
            return torch._utils._rebuild_parameter, parts
        parts = (self.cpu(), self.dtype, str(self.device), self.requires_grad)
        return torch._utils._rebuild_device_tensor_from_cpu_tensor, parts

    def tolist(self):
        return self.cpu_memory.tolist()

    def numpy(self, *, force=False):
        if force:
            return self.detach().cpu().numpy()
        raise TypeError(
            f"can't convert {self.device} device type tensor to numpy. Use "
            "Tensor.cpu() to copy the tensor to host memory first."
        )

    def __array__(self, dtype=None, copy=None):
        return self.numpy()

    def pin_memory(self, device=None):
        raise RuntimeError(
            f"cannot pin a tensor on {self.device}: only dense CPU tensors can be "
            "pinned"
        )

    def is_pinned(self, device=None):
        return False

    def new_tensor(self, data, *, dtype=None, device=None, requires_grad=False):
        return torch.tensor(
            data,
            dtype=dtype or self.dtype,
            device=device or self.device,
            requires_grad=requires_grad,
        )

    def data_ptr(self):
        return self.cpu_memory.data_ptr()

    def untyped_storage(self):
        return self.cpu_memory.untyped_storage()


# Where a chapter prints a class, it prints what a GPU prints.
OnDevice.__name__ = OnDevice.__qualname__ = "Tensor"
OnDevice.__module__ = "torch"


def _without_lists(index):
    """An index whose lists are CPU tensors: torch makes them on the device itself."""
    if isinstance(index, list):
        return torch.tensor(index, dtype=None if index else torch.long)
    if isinstance(index, tuple):
        return tuple(_without_lists(i) if isinstance(i, list) else i for i in index)
    return index


# --- operations ----------------------------------------------------------------------

_COPIES = {"_to_copy", "copy_", "_copy_from", "_copy_from_and_resize", "_foreach_copy_"}
_GATHERS = {"index", "_unsafe_index"}
_SCATTERS = {"index_put", "index_put_", "_index_put_impl_", "_unsafe_index_put"}
# Beside those that torch marks as element by element.
_WITH_CPU_SCALAR = {"masked_fill", "masked_fill_", "index_fill", "index_fill_", "fill_"}
_WITH_CPU_SCALAR |= {"linspace", "logspace"}


# torch makes these from an empty tensor that grows, which a stand-in cannot do.
_FACTORIES = """
    arange arange.start arange.start_step range range.step linspace logspace eye eye.m
    randperm randperm.generator tril_indices triu_indices"""


def _operations(names: str) -> list:
    """The named operations of aten, those that this torch has."""
    found = []
    for name in names.split():
        packet, _, overload = name.partition(".")
        made = getattr(getattr(aten, packet, None), overload or "default", None)
        found += [] if made is None else [made]
    return found


def _called(func, *args, **kwargs):
    return _run(func, args, kwargs)


class _Facts:
    """What matters of an operation."""

    def __init__(self, func):
        schema = func._schema
        self.name = schema.name.partition("::")[2]
        self.written = [
            (i, argument.name)
            for i, argument in enumerate(schema.arguments)
            if argument.alias_info is not None and argument.alias_info.is_write
        ]
        self.reshapes = torch.Tag.inplace_view in func.tags
        self.draws = torch.Tag.nondeterministic_seeded in func.tags
        self.scalar_joins = (
            torch.Tag.pointwise in func.tags
            or self.name in _WITH_CPU_SCALAR
            or self.name.startswith("_foreach_")
        )


_facts: dict[object, _Facts] = {}


def _run(func, args, kwargs):
    """An operation with a tensor on the device, or one that makes a tensor there."""
    try:
        facts = _facts[func]
    except KeyError:
        facts = _facts[func] = _Facts(func)
    here: dict[int, OnDevice] = {}  # by the identity of their CPU tensors
    there: list[torch.Tensor] = []
    plain_args = [_plain(value, here, there) for value in args]
    plain_kwargs = {k: _plain(value, here, there) for k, value in kwargs.items()}
    device = kwargs.get("device")
    asked = None if device is None else torch.device(device).type
    if here and there and facts.name not in _COPIES:
        _refuse_mixed(facts, args, kwargs, there)
    made_here = asked == NAME if asked is not None else bool(here)
    if facts.draws and made_here:
        if kwargs.get("generator") is not None:
            kind = kwargs["generator"].device.type
            raise RuntimeError(
                f"Expected a '{NAME}' device type for generator but found '{kind}'"
            )
        with _random:
            result = func(*plain_args, **plain_kwargs)
    else:
        result = func(*plain_args, **plain_kwargs)
    if facts.name in ("copy_", "_foreach_copy_"):
        return args[0]
    for position, name in facts.written:
        given = args[position] if position < len(args) else kwargs.get(name)
        if isinstance(given, OnDevice) and given.shape != given.cpu_memory.shape:
            _reshape(given, facts, func, args, kwargs)
    return _wrapped(result, here) if made_here else result


def _reshape(tensor: OnDevice, facts: _Facts, func, args, kwargs) -> None:
    """Give a tensor the shape that its values have got, by ``squeeze_`` for example."""
    if facts.reshapes:
        with no_dispatch():
            func(*args, **kwargs)
    if tensor.shape != tensor.cpu_memory.shape:
        raise NotImplementedError(
            f"the stand-in device cannot resize a tensor in place (aten::{facts.name})"
        )


def _plain(value, here, there):
    """A value with CPU tensors for those on the device; both kinds are noted."""
    if isinstance(value, OnDevice):
        here[id(value.cpu_memory)] = value
        return value.cpu_memory
    if isinstance(value, torch.Tensor):
        there.append(value)
    elif isinstance(value, (list, tuple)):
        return [_plain(part, here, there) for part in value]
    elif isinstance(value, torch.device) and value.type == NAME:
        return torch.device("cpu")
    return value


def _wrapped(result, here):
    if isinstance(result, torch.Tensor):
        if isinstance(result, OnDevice):
            return result
        known = here.get(id(result))
        return OnDevice(result) if known is None else known
    if isinstance(result, (list, tuple)):
        return type(result)(_wrapped(part, here) for part in result)
    return result


def _refuse_mixed(facts: _Facts, args, kwargs, there: list[torch.Tensor]) -> None:
    if facts.name in _GATHERS | _SCATTERS and isinstance(args[0], OnDevice):
        there = [] if facts.name in _GATHERS else [args[2]]
        there = [t for t in there if not isinstance(t, OnDevice) and t.dim() > 0]
    elif facts.name in _GATHERS | _SCATTERS:
        raise RuntimeError(
            "indices should be either on cpu or on the same device as the indexed "
            "tensor (cpu)"
        )
    elif facts.scalar_joins:
        results = [
            args[i] if i < len(args) else kwargs.get(name) for i, name in facts.written
        ]
        there = [t for t in there if t.dim() > 0 or any(t is r for r in results)]
    if there:
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two "
            f"devices, {NAME}:0 and cpu! (when checking aten::{facts.name})"
        )


# --- automatic mixed precision -------------------------------------------------------

_LOW = """
    conv1d conv2d conv3d conv_transpose1d conv_transpose2d.input conv_transpose3d.input
    linear matmul mm mv bmm addmm addmv addbmm baddbmm scaled_dot_product_attention"""
_FULL = """
    exp log log1p expm1 rsqrt softmax.int log_softmax.int sum sum.dim_IntList prod
    cumsum norm.Scalar layer_norm group_norm mse_loss l1_loss smooth_l1_loss huber_loss
    nll_loss cross_entropy_loss binary_cross_entropy_with_logits kl_div"""


def _register_autocast() -> None:
    _library.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    for names, low in ((_LOW, True), (_FULL, False)):
        for operation in _operations(names):
            kernel = functools.partial(_cast_and_call, operation, low)
            _kernels.impl(operation, kernel, "AutocastPrivateUse1")


def _cast_and_call(operation, low: bool, *args, **kwargs):
    dtype = torch.get_autocast_dtype(NAME) if low else torch.float32
    key = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)

    def cast(value):
        if isinstance(value, OnDevice) and value.is_floating_point():
            return value if value.dtype == torch.float64 else value.to(dtype)
        if isinstance(value, (list, tuple)):
            return [cast(part) for part in value]
        return value

    with torch._C._ExcludeDispatchKeyGuard(key):
        return operation(
            *[cast(value) for value in args],
            **{name: cast(value) for name, value in kwargs.items()},
        )


# --- functions that make tensors without asking the device ---------------------------


def _replace_functions() -> None:
    plain_tensor, plain_as_tensor = torch.tensor, torch.as_tensor
    plain_pin, plain_pinned = torch.Tensor.pin_memory, torch.Tensor.is_pinned

    def is_here(device) -> bool:
        return device is not None and torch.device(device).type == NAME

    @functools.wraps(plain_tensor)
    def tensor(data, *, device=None, requires_grad=False, **kwargs):
        if isinstance(data, OnDevice):
            device = data.device if device is None else device
            data = data.cpu_memory.detach()
        if not is_here(device):
            return plain_tensor(
                data, device=device, requires_grad=requires_grad, **kwargs
            )
        made = plain_tensor(data, **kwargs).to(device)
        return made.requires_grad_() if requires_grad else made

    @functools.wraps(plain_as_tensor)
    def as_tensor(data, dtype=None, device=None):
        if isinstance(data, OnDevice):
            return data.to(device=device or data.device, dtype=dtype or data.dtype)
        if is_here(device):
            return plain_as_tensor(data, dtype=dtype).to(device)
        return plain_as_tensor(data, dtype=dtype, device=device)

    # Pinned memory exists where there is an accelerator; here it is marked memory.
    @functools.wraps(plain_pin)
    def pin_memory(self, device=None):
        made = self.clone()
        made.pinned_for_standin = True
        return made

    @functools.wraps(plain_pinned)
    def is_pinned(self, device=None):
        return getattr(self, "pinned_for_standin", False)

    # A file says where its tensors were; map_location says where they shall go.
    plain_load = torch.load

    @functools.wraps(plain_load)
    def load(f, map_location=None, *args, **kwargs):
        if not isinstance(map_location, (str, torch.device)):
            return plain_load(f, map_location, *args, **kwargs)
        first = "cpu" if is_here(map_location) else map_location
        found = plain_load(f, first, *args, **kwargs)
        return tree_map(
            lambda x: x.to(map_location) if isinstance(x, torch.Tensor) else x, found
        )

    torch.tensor, torch.as_tensor, torch.load = tensor, as_tensor, load
    torch.Tensor.pin_memory, torch.Tensor.is_pinned = pin_memory, is_pinned

"""A GPU that is not there: tensors that say they are on cuda:0, and refuse what a real GPU would refuse.

Their numbers lie in the CPU's memory and torch computes them there. So code for a GPU runs with real values where there
is none, and what would fail on one fails here: an operator that is given tensors of both devices, an array of a tensor
that was not copied back, an index or a random generator of the wrong device. What this cannot tell is how fast a GPU
is, how it rounds, and which operators it lacks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

GPU = torch.device("cuda", 0)
CPU = torch.device("cpu")
_IN_TORCH = torch.device("meta")  # what torch's own code takes the GPU for: a build for CPUs knows this device

# An index may lie on the CPU beside values of a GPU, as torch copies it; so may numbers without axes.
_TAKE_INDICES_OF_THE_CPU = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
_COPY_BETWEEN_DEVICES = {"copy_"}


class GpuTensor(Tensor):
    """A tensor of the pretended GPU, which wraps the tensor of the CPU that holds its numbers."""

    @staticmethod
    def __new__(cls, held: Tensor) -> GpuTensor:
        return Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=_IN_TORCH,
        )

    def __init__(self, held: Tensor) -> None:
        self.held = held

    device = property(lambda self: GPU)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)
    is_meta = property(lambda self: False)

    def __repr__(self, **_: Any) -> str:
        return f"GpuTensor({self.held})"

    def numpy(self, **_: Any) -> None:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")

    def tolist(self) -> Any:
        return self.detach().held.tolist()

    def __array__(self, *_: Any) -> None:
        self.numpy()

    @classmethod
    def __torch_dispatch__(cls, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(operator, args, kwargs or {})


class _MadeByTorch(TorchDispatchMode):
    """What torch makes itself on the GPU, such as the zeros of a backward pass."""

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(operator, args, kwargs or {})


def _computed(operator: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """What an operator gives, on the device where a GPU would have it."""
    name = operator.overloadpacket.__name__
    values = tree_leaves((args, kwargs))
    on_gpu = any(isinstance(value, GpuTensor) for value in values)
    device = kwargs.get("device")
    if device is not None:
        on_gpu = torch.device(device) == _IN_TORCH
        kwargs = kwargs | {"device": CPU}
    if not on_gpu:
        return operator(*args, **kwargs)
    _refuse_two_devices(name, values)
    found = operator(*tree_map(_held, args), **tree_map(_held, kwargs))
    if name == "copy_" and not isinstance(args[0], GpuTensor):
        return args[0]  # from the GPU into the CPU's memory
    if operator._schema.is_mutable and isinstance(args[0], GpuTensor) and found is args[0].held:
        return args[0]
    return tree_map(_wrapped, found)


def _held(value: Any) -> Any:
    return value.held if isinstance(value, GpuTensor) else value


def _wrapped(value: Any) -> Any:
    return GpuTensor(value) if isinstance(value, Tensor) and not isinstance(value, GpuTensor) else value


def _refuse_two_devices(name: str, values: list[Any]) -> None:
    tensors = [value for value in values if isinstance(value, Tensor)]
    on_cpu = [tensor for tensor in tensors if not isinstance(tensor, GpuTensor) and tensor.ndim > 0]
    if not on_cpu or name in _COPY_BETWEEN_DEVICES:
        return
    are_indices = all(tensor.dtype in (torch.int64, torch.bool) for tensor in on_cpu)
    if name in _TAKE_INDICES_OF_THE_CPU and isinstance(values[0], GpuTensor) and are_indices:
        return
    raise RuntimeError(
        f"{name}: Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"
    )


class _Upload(torch.autograd.Function):
    """The copy of a tensor of the CPU on the GPU."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return GpuTensor(tensor.detach().clone())

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        return grad_output.held


class _Download(torch.autograd.Function):
    """The copy of a tensor of the GPU on the CPU."""

    @staticmethod
    def forward(ctx: Any, tensor: GpuTensor) -> Tensor:
        return tensor.held.clone()

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        return GpuTensor(grad_output)


def _moved(tensor: Tensor, device: torch.device | None) -> Tensor:
    """The tensor on a device, which None leaves as it is."""
    if device is None or (device.type == "cuda") == isinstance(tensor, GpuTensor):
        return tensor
    return _Upload.apply(tensor) if device.type == "cuda" else _Download.apply(tensor)


class _OnDevices(TorchFunctionMode):
    """The calls that name a device: what they make lies there."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if function is Tensor.cpu:
            return _moved(args[0], CPU)
        if function is Tensor.cuda:
            return _moved(args[0], GPU)
        if function is Tensor.to:
            return _to(*args, **kwargs)
        device = kwargs.get("device")
        if device is None:
            return function(*args, **kwargs)
        device = torch.device(device)
        generator = kwargs.get("generator")
        if generator is not None and generator.device.type != device.type:
            raise RuntimeError(f"Expected a '{device}' device type for generator but found '{generator.device}'")
        return _moved(function(*args, **kwargs | {"device": CPU}), device)


def _to(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """`Tensor.to` with any of its signatures."""
    if args and isinstance(args[0], Tensor):
        args = (args[0].device, args[0].dtype, *args[1:])
    copy = kwargs.pop("copy", False)
    device, dtype, _, memory_format = torch._C._nn._parse_to(*args, **kwargs)
    options = {} if memory_format is None else {"memory_format": memory_format}
    return Tensor.to(_moved(tensor, device), dtype or tensor.dtype, copy=copy, **options)


class Generator(torch.Generator):
    """A random generator of the CPU, or of the pretended GPU."""

    def __new__(cls, device: Any = CPU) -> Generator:
        made = super().__new__(cls, CPU)
        made.of_gpu = torch.device(device).type == "cuda"
        return made

    device = property(lambda self: GPU if self.of_gpu else CPU)


_engine_run_backward = torch.autograd._engine_run_backward


def _run_backward(*args: Any, **kwargs: Any) -> Any:
    """The backward pass, in which the functions of others make tensors: torch leaves the mode before it starts."""
    with _OnDevices(), _MadeByTorch():
        return _engine_run_backward(*args, **kwargs)


class _NoGradient:
    """`torch.inference_mode` as `torch.no_grad` does it, or nothing where its argument is False."""

    def __enter__(self: Any) -> None:
        self.before = torch.is_grad_enabled()
        torch.set_grad_enabled(self.before and not self.mode)

    def __exit__(self: Any, *_: object) -> None:
        torch.set_grad_enabled(self.before)


@contextmanager
def pretended_gpu() -> Iterator[torch.device]:
    """Let torch have one GPU, with bfloat16, in this block; in this thread its tensors are checked as on a real one."""
    substitutes: dict[str, Any] = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda device: None,
        "synchronize": lambda device=None: None,
        "empty_cache": lambda: None,
        "is_bf16_supported": lambda including_emulation=True: True,
        "reset_peak_memory_stats": lambda device=None: None,
        "memory_allocated": lambda device=None: 0,
        "max_memory_allocated": lambda device=None: 0,
        "get_device_name": lambda device=None: "a pretended GPU",
    }
    with ExitStack() as stack:
        for name, substitute in substitutes.items():
            stack.enter_context(patch.object(torch.cuda, name, substitute))
        stack.enter_context(patch.object(torch, "Generator", Generator))
        stack.enter_context(patch.object(Tensor, "pin_memory", lambda tensor: tensor))  # threads that load call it, too
        stack.enter_context(patch.object(torch.__future__, "get_overwrite_module_params_on_conversion", lambda: True))
        for name in ("__enter__", "__exit__"):  # wrappers of tensors made in inference mode are refused as views
            stack.enter_context(patch.object(torch.inference_mode, name, getattr(_NoGradient, name)))
        stack.enter_context(patch.object(torch.autograd, "_engine_run_backward", _run_backward))
        stack.enter_context(_MadeByTorch())
        stack.enter_context(_OnDevices())
        yield GPU

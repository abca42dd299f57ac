"""Whether the kernels of a GPU are to be trusted: they must reproduce plain torch there before they serve.

Whoever puts fields on a GPU calls `try_kernels` first, as `network.register` does. Where nobody has, plain torch
computes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from lumirkit.registration.inverse import invert, inverted_by_kernels
from lumirkit.registration.kernels.dispatch import gpu_verdicts, plain_torch
from lumirkit.registration.kernels.functions import Sample
from lumirkit.registration.warp import compose, sample

_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}
_SHAPE = (4, 5, 6)

# What is compared, its two versions, and which of volume, wide field and small field they take. The kernels are called
# without `sample`, `compose` and `invert`, which use them only where they are trusted already.
_CASES: tuple[tuple[str, Callable[..., Tensor], Callable[..., Tensor], tuple[int, ...]], ...] = (
    ("sampling", lambda v, u: _sampled(v, u, False, False), sample, (0, 1)),
    ("sampling with zeros", lambda v, u: _sampled(v, u, True, False), lambda v, u: sample(v, u, "zeros"), (0, 1)),
    ("composition", lambda v, u: _sampled(v, u, False, True), compose, (0, 1)),
    ("inversion", inverted_by_kernels, invert, (2,)),
)


def _sampled(volume: Tensor, disp_vox: Tensor, zeros: bool, add_disp: bool) -> Tensor:
    return Sample.apply(volume, disp_vox, zeros, add_disp)  # type: ignore[no-untyped-call]


def try_kernels(device: torch.device, dtype: torch.dtype) -> None:
    """Try the geometry kernels of a GPU, once in a process for each dtype, and record whether they serve there.

    The kernels of a CPU need no trial, and neither do dtypes that have no kernels. Kernels that fail are warned of, and
    plain torch takes their place.

    Args:
        device: where the fields will be; a GPU without a number is the current one.
        dtype: the number format of the fields.
    """
    if device.type != "cuda" or dtype not in _TOLERANCE:
        return
    if device.index is None:
        device = torch.device("cuda", torch.cuda.current_device())
    if (device, dtype) in gpu_verdicts:
        return
    failure = _failure(device, dtype)
    gpu_verdicts[device, dtype] = failure is None
    if failure is not None:
        warnings.warn(f"{failure}; plain torch is used on {device} instead", RuntimeWarning, stacklevel=3)


def _failure(device: torch.device, dtype: torch.dtype) -> str | None:
    try:
        from lumirkit.registration.kernels import cuda
    except ImportError as error:
        return f"the CUDA kernels cannot be loaded ({error})"
    if not cuda.available():
        extra = f"cuda{torch.version.cuda.partition('.')[0]}" if torch.version.cuda else "cuda12"
        return f'Numba cannot use this GPU (the extra "{extra}" brings what it needs)'
    try:
        return difference_from_plain_torch(device, dtype)
    except Exception as error:  # whatever a driver or a compiler raises, plain torch can still do the work
        return f"the CUDA kernels failed ({type(error).__name__}: {error})"


def difference_from_plain_torch(device: torch.device, dtype: torch.dtype) -> str | None:
    """Compare the kernels of a device with plain torch on small random fields: values and gradients.

    Returns:
        The first operation that differs and by how much; None where all agree.
    """
    given = inputs(device, dtype)
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
        for name, kernels, plain, places in _CASES:
            arguments = [given[place] for place in places]
            found = _value_and_gradients(kernels, arguments)
            with plain_torch():
                expected = _value_and_gradients(plain, arguments)
            for a, b in zip(found, expected, strict=True):
                if not torch.allclose(a, b, rtol=_TOLERANCE[dtype], atol=_TOLERANCE[dtype]):
                    return f"the CUDA kernels of {name} are off by {float((a - b).abs().max()):.2g}"
    return None


def inputs(device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    """A volume (2, 3, 4, 5, 6), a field that leaves the grid, and a small one that can be inverted."""
    generator = torch.Generator().manual_seed(0)
    volume, wide, small = (torch.rand(2, 3, *_SHAPE, generator=generator, dtype=torch.float64) for _ in range(3))
    return [tensor.to(device, dtype) for tensor in (volume, 6 * wide - 3, 0.3 * small - 0.15)]


def _value_and_gradients(function: Callable[..., Tensor], inputs: list[Tensor]) -> list[Tensor]:
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    value = function(*leaves)
    upstream = torch.linspace(-1, 1, value.numel(), device=value.device, dtype=value.dtype).reshape(value.shape)
    return [value.detach(), *torch.autograd.grad(value, leaves, upstream)]

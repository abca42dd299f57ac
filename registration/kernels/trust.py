"""Whether the kernels of a GPU are to be trusted: they must reproduce plain torch there before they serve."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from lumirkit.registration.inverse import invert, inverted_by_kernels
from lumirkit.registration.kernels.dispatch import plain_torch
from lumirkit.registration.kernels.functions import Sample
from lumirkit.registration.warp import compose, sample

_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}
_SHAPE = (4, 5, 6)

# What is compared, its two versions, and which of volume, wide field and small field they take. The kernels are called
# without `sample`, `compose` and `invert`, which would ask whether they are trusted.
_CASES: tuple[tuple[str, Callable[..., Tensor], Callable[..., Tensor], tuple[int, ...]], ...] = (
    ("sampling", lambda v, u: _sampled(v, u, False, False), sample, (0, 1)),
    ("sampling with zeros", lambda v, u: _sampled(v, u, True, False), lambda v, u: sample(v, u, "zeros"), (0, 1)),
    ("composition", lambda v, u: _sampled(v, u, False, True), compose, (0, 1)),
    ("inversion", inverted_by_kernels, invert, (2,)),
)


def _sampled(volume: Tensor, disp_vox: Tensor, zeros: bool, add_disp: bool) -> Tensor:
    return Sample.apply(volume, disp_vox, zeros, add_disp)  # type: ignore[no-untyped-call]


@cache
def trusted(device: torch.device, dtype: torch.dtype) -> bool:
    """Try the kernels at the first call for a GPU and a dtype; one that fails is warned of, and is for plain torch."""
    failure = _failure(device, dtype)
    if failure is None:
        return True
    warnings.warn(f"{failure}; plain torch is used on {device} instead", RuntimeWarning, stacklevel=3)
    return False


def _failure(device: torch.device, dtype: torch.dtype) -> str | None:
    try:
        from lumirkit.registration.kernels import cuda
    except ImportError as error:
        return f"the CUDA kernels cannot be loaded ({error})"
    if not cuda.available():
        return 'Numba cannot use this GPU (the extra "cuda" brings what it needs)'
    try:
        return difference_from_plain_torch(device, dtype)
    except Exception as error:  # whatever a driver or a compiler raises, plain torch can still do the work
        return f"the CUDA kernels failed ({type(error).__name__}: {error})"


def difference_from_plain_torch(device: torch.device, dtype: torch.dtype) -> str | None:
    """What the kernels of a device compute otherwise than plain torch on small random fields; None if nothing."""
    given = inputs(device, dtype)
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
        for name, kernels, plain, of in _CASES:
            found = _value_and_gradients(kernels, [given[index] for index in of])
            with plain_torch():
                expected = _value_and_gradients(plain, [given[index] for index in of])
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

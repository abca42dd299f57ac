"""The geometry kernels on an NVIDIA GPU: `dispatch.Geometry` with one thread a voxel.

They interpolate with the functions of `interpolation` and `inversion` that the CPU's kernels call. NVVM compiles them
at their first use in a process, which needs no host compiler. Gradients of volumes are sums of atomic additions, whose
order and so last bits may differ from run to run.

Inside the kernels volumes and fields are (batch, channel, voxel), and `shape` is their grid. In Numba's CUDA simulator
the same functions take CPU tensors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import cuda, types
from numba.extending import overload
from torch import Tensor

from lumirkit.base.compiled import compiled_point
from lumirkit.registration.kernels.interpolation import axis_slopes, axis_weights, floored
from lumirkit.registration.kernels.inverse import cross, dot, value_and_matrix
from lumirkit.registration.kernels.sampling import corner_steps

Array = np.ndarray[Any, Any]
Real = Any
Pair = tuple[Any, Any]
Three = tuple[Any, Any, Any]
Shape = tuple[int, int, int]

_BLOCK = (32, 4, 2)  # threads along z, y and x: a warp reads neighbours in memory
cuda.config.CUDA_LOW_OCCUPANCY_WARNINGS = 0  # the grids of coarse levels are small


def available() -> bool:
    """Whether Numba finds a GPU's driver and the libraries it compiles with."""
    return bool(cuda.is_available())


def sample(volume: Tensor, disp_vox: Tensor, zeros: bool, add_disp: bool) -> Tensor:
    """Sample a volume; see `dispatch.Geometry`."""
    out = _empty_like(volume)
    _launch(_sample, volume, disp_vox, zeros, add_disp, out)
    return out


def grad_volume(grad_output: Tensor, disp_vox: Tensor, zeros: bool) -> Tensor:
    """Differentiate `sample` with respect to the volume; see `dispatch.Geometry`."""
    out = _empty_like(grad_output).zero_()
    _launch(_grad_volume, grad_output, disp_vox, zeros, out)
    return out


def grad_disp(grad_output: Tensor, volume: Tensor, disp_vox: Tensor, zeros: bool, add_disp: bool) -> Tensor:
    """Differentiate `sample` with respect to the field; see `dispatch.Geometry`."""
    out = _empty_like(disp_vox)
    _launch(_grad_disp, grad_output, volume, disp_vox, zeros, add_disp, out)
    return out


def invert(disp_vox: Tensor, tolerance: float, most_steps: int, smallest_determinant: float) -> Tensor:
    """Invert a field; see `dispatch.Geometry`."""
    out = _empty_like(disp_vox)
    real = np.float32 if disp_vox.dtype == torch.float32 else np.float64
    _launch(_invert, disp_vox, real(tolerance), most_steps, real(smallest_determinant), out)
    return out


def transposed_solve(disp_vox: Tensor, inverse_vox: Tensor, grad_output: Tensor) -> Tensor:
    """Solve for the gradient of the inverse; see `dispatch.Geometry`."""
    out = _empty_like(disp_vox)
    _launch(_transposed_solve, disp_vox, inverse_vox, grad_output, out)
    return out


def _empty_like(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, memory_format=torch.contiguous_format)


def _launch(kernel: Any, first: Tensor, *others: Any) -> None:
    """Run a kernel for every voxel of `first`'s batch, on its device, in the order of torch's current stream."""
    batch, _, *shape = first.shape
    ticks = torch.arange(max(*shape, 1) + 1, dtype=first.dtype, device=first.device)
    threads = (shape[2], shape[1], batch * shape[0])
    blocks = tuple(-(-count // size) for count, size in zip(threads, _BLOCK, strict=True))
    with cuda.gpus[first.device.index or 0]:
        arguments = [_device_array(value) if isinstance(value, Tensor) else value for value in (first, *others)]
        kernel[blocks, _BLOCK, _stream(first)](tuple(shape), _device_array(ticks), *arguments)


def _device_array(tensor: Tensor) -> Any:
    """The tensor's memory as Numba's kernels take it, voxels in one axis."""
    tensor = tensor.detach().contiguous()
    tensor = tensor.flatten(2) if tensor.ndim > 2 else tensor
    return cuda.as_cuda_array(tensor) if tensor.is_cuda else tensor.numpy()


def _stream(tensor: Tensor) -> Any:
    return cuda.external_stream(torch.cuda.current_stream(tensor.device).cuda_stream) if tensor.is_cuda else 0


@overload(floored, target="cuda")
def _floored(value):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    if value == types.float32:
        return lambda value: cuda.libdevice.floorf(value)
    return lambda value: cuda.libdevice.floor(value)


@cuda.jit(device=True)
def _this_voxel(batch: int, shape: Shape) -> tuple[int, int, int, int, int]:
    """The voxel of this thread: image of the batch, x, y, z, flat index; without a voxel the image is `batch`."""
    size_x, size_y, size_z = shape
    z, y, plane = cuda.grid(3)
    b, x = plane // size_x, plane % size_x
    inside = b < batch and y < size_y and z < size_z
    return b if inside else batch, x, y, z, (x * size_y + y) * size_z + z


@compiled_point
def _moved(disp: Array, x: int, y: int, z: int, voxel: int, ticks: Array) -> Three:
    """The point that a field (3, voxel) moves a voxel to."""
    return ticks[x] + disp[0, voxel], ticks[y] + disp[1, voxel], ticks[z] + disp[2, voxel]


@compiled_point
def _corner_and_weights(point: Three, shape: Shape, ticks: Array, zeros: bool) -> tuple[np.uint32, Pair, Pair, Pair]:
    """First corner (flat index) of the cell around a point, and the weights of its lower and upper voxels by axis."""
    size_x, size_y, size_z = shape
    cx, ax, bx = axis_weights(point[0], ticks[size_x - 1], ticks[1], zeros)
    cy, ay, by = axis_weights(point[1], ticks[size_y - 1], ticks[1], zeros)
    cz, az, bz = axis_weights(point[2], ticks[size_z - 1], ticks[1], zeros)
    corner = np.uint32((np.int32(cx) * np.int32(size_y) + np.int32(cy)) * np.int32(size_z) + np.int32(cz))
    return corner, (ax, bx), (ay, by), (az, bz)


@compiled_point
def _slopes(point: Three, shape: Shape, ticks: Array, zeros: bool) -> tuple[Pair, Pair, Pair]:
    """Derivatives of the weights of `_corner_and_weights` with respect to the point's coordinates."""
    return (
        axis_slopes(point[0], ticks[shape[0] - 1], ticks[1], zeros),
        axis_slopes(point[1], ticks[shape[1] - 1], ticks[1], zeros),
        axis_slopes(point[2], ticks[shape[2] - 1], ticks[1], zeros),
    )


@compiled_point
def _on_face(v: Array, k: np.uint32, sy: np.uint32, sz: np.uint32, wy: Pair, wz: Pair) -> Real:
    """The weighted sum of the four corners of a cell in one x plane."""
    low, high = wz[0] * v[k] + wz[1] * v[k + sz], wz[0] * v[k + sy] + wz[1] * v[k + sy + sz]
    return wy[0] * low + wy[1] * high


@compiled_point
def _in_cell(v: Array, k: np.uint32, shape: Shape, wx: Pair, wy: Pair, wz: Pair) -> Real:
    """The weighted sum of the eight corners of a cell; with slopes in place of an axis' weights, its derivative."""
    sx, sy, sz = corner_steps(shape)
    return wx[0] * _on_face(v, k, sy, sz, wy, wz) + wx[1] * _on_face(v, k + sx, sy, sz, wy, wz)


@cuda.jit
def _sample(shape: Shape, ticks: Array, volume: Array, disp: Array, zeros: bool, add_disp: bool, out: Array) -> None:
    batch, channels, _ = volume.shape
    b, x, y, z, voxel = _this_voxel(batch, shape)
    if b >= batch:
        return
    point = _moved(disp[b], x, y, z, voxel, ticks)
    k, wx, wy, wz = _corner_and_weights(point, shape, ticks, zeros)
    for c in range(channels):
        value = _in_cell(volume[b, c], k, shape, wx, wy, wz)
        out[b, c, voxel] = value + disp[b, c, voxel] if add_disp else value


@cuda.jit
def _grad_disp(
    shape: Shape, ticks: Array, grad_output: Array, volume: Array, disp: Array, zeros: bool, add_disp: bool, out: Array
) -> None:
    batch, channels, _ = volume.shape
    b, x, y, z, voxel = _this_voxel(batch, shape)
    if b >= batch:
        return
    point = _moved(disp[b], x, y, z, voxel, ticks)
    k, wx, wy, wz = _corner_and_weights(point, shape, ticks, zeros)
    dx, dy, dz = _slopes(point, shape, ticks, zeros)
    along_x = along_y = along_z = ticks[0]
    for c in range(channels):
        v, g = volume[b, c], grad_output[b, c, voxel]
        along_x += g * _in_cell(v, k, shape, dx, wy, wz)
        along_y += g * _in_cell(v, k, shape, wx, dy, wz)
        along_z += g * _in_cell(v, k, shape, wx, wy, dz)
    out[b, 0, voxel] = along_x + grad_output[b, 0, voxel] if add_disp else along_x
    out[b, 1, voxel] = along_y + grad_output[b, 1, voxel] if add_disp else along_y
    out[b, 2, voxel] = along_z + grad_output[b, 2, voxel] if add_disp else along_z


@cuda.jit(device=True)
def _add_face(v: Array, k: int, sy: int, sz: int, g: Real, wy: Pair, wz: Pair) -> None:
    """Add g times the weights of four corners in one x plane, which other threads may be adding to as well."""
    cuda.atomic.add(v, k, g * wy[0] * wz[0])
    cuda.atomic.add(v, k + sz, g * wy[0] * wz[1])
    cuda.atomic.add(v, k + sy, g * wy[1] * wz[0])
    cuda.atomic.add(v, k + sy + sz, g * wy[1] * wz[1])


@cuda.jit
def _grad_volume(shape: Shape, ticks: Array, grad_output: Array, disp: Array, zeros: bool, out: Array) -> None:
    batch, channels, _ = grad_output.shape
    b, x, y, z, voxel = _this_voxel(batch, shape)
    if b >= batch:
        return
    point = _moved(disp[b], x, y, z, voxel, ticks)
    k, wx, wy, wz = _corner_and_weights(point, shape, ticks, zeros)
    sx, sy, sz = corner_steps(shape)
    for c in range(channels):
        v, g = out[b, c], grad_output[b, c, voxel]
        _add_face(v, k, sy, sz, g * wx[0], wy, wz)
        _add_face(v, k + sx, sy, sz, g * wx[1], wy, wz)


@compiled_point
def _larger(a: Real, b: Real) -> Real:
    """The larger of two numbers, NaN if either is."""
    return a if a >= b or a != a else b


@cuda.jit
def _invert(
    shape: Shape,
    ticks: Array,
    disp: Array,
    tolerance: Real,
    most_steps: int,
    smallest_determinant: Real,
    out: Array,
) -> None:
    """Invert a field as the plain version does: a Newton step that does not shrink the residual is replaced.

    The fixed-point step from the best solution so far takes its place.
    """
    batch, _, _ = disp.shape
    b, x, y, z, voxel = _this_voxel(batch, shape)
    if b >= batch:
        return
    fields = disp[b, 0], disp[b, 1], disp[b, 2]
    v = -fields[0][voxel], -fields[1][voxel], -fields[2][voxel]
    best = fixed_point = v
    best_size = disp.dtype.type(np.inf)
    for _ in range(most_steps):
        u, a, c, e = value_and_matrix(fields, shape, ticks, ticks[x] + v[0], ticks[y] + v[1], ticks[z] + v[2])
        residual = v[0] + u[0], v[1] + u[1], v[2] + u[2]
        size = _larger(_larger(abs(residual[0]), abs(residual[1])), abs(residual[2]))
        improved = size < best_size
        if improved:
            best, best_size = v, size
            fixed_point = -u[0], -u[1], -u[2]
        if best_size <= tolerance:
            break
        m, n, o = cross(c, e), cross(e, a), cross(a, c)
        determinant = dot(a, m)
        if improved and determinant > smallest_determinant:
            scale = ticks[1] / determinant
            v = v[0] - scale * dot(m, residual), v[1] - scale * dot(n, residual), v[2] - scale * dot(o, residual)
        else:
            v = fixed_point
    out[b, 0, voxel], out[b, 1, voxel], out[b, 2, voxel] = best


@cuda.jit
def _transposed_solve(shape: Shape, ticks: Array, disp: Array, inverse: Array, grad_output: Array, out: Array) -> None:
    batch, _, _ = disp.shape
    b, x, y, z, voxel = _this_voxel(batch, shape)
    if b >= batch:
        return
    px, py, pz = _moved(inverse[b], x, y, z, voxel, ticks)
    _, a, c, e = value_and_matrix((disp[b, 0], disp[b, 1], disp[b, 2]), shape, ticks, px, py, pz)
    m, n, o = cross(c, e), cross(e, a), cross(a, c)
    scale = -ticks[1] / dot(a, m)
    for axis in range(3):
        g0, g1, g2 = grad_output[b, 0, voxel], grad_output[b, 1, voxel], grad_output[b, 2, voxel]
        out[b, axis, voxel] = scale * (m[axis] * g0 + n[axis] * g1 + o[axis] * g2)

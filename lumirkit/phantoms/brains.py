"""Brain-like phantom subjects: images and label maps that nobody has to download.

One analytic template (a labelling of anatomical points) is seen through a random diffeomorphism per subject,
so every subject has the same folds and nuclei in other places, with crisp label borders. All arrays have the
axes x (left to right), y (posterior to anterior), z (inferior to superior). "Template millimetres" are those
of the template, whose brain is about 132 x 172 x 128 mm; coarse grids show the same brain in fewer voxels.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Points = NDArray[np.float32]
Tissue = Literal["csf", "cortex", "deep grey", "pallidum", "brain stem", "white matter"]


@dataclass(frozen=True)
class Structure:
    """A labelled structure: Neuromorphometrics label id, name, tissue class (which sets its intensity)."""

    label: int
    name: str
    tissue: Tissue


def _bilateral(right: int, left: int, name: str, tissue: Tissue) -> tuple[Structure, Structure]:
    return Structure(right, f"right {name}", tissue), Structure(left, f"left {name}", tissue)


STRUCTURES: tuple[Structure, ...] = (
    Structure(4, "third ventricle", "csf"),
    Structure(11, "fourth ventricle", "csf"),
    *_bilateral(23, 30, "accumbens", "deep grey"),
    *_bilateral(31, 32, "amygdala", "deep grey"),
    Structure(35, "brain stem", "brain stem"),
    *_bilateral(36, 37, "caudate", "deep grey"),
    *_bilateral(38, 39, "cerebellum exterior", "cortex"),
    *_bilateral(40, 41, "cerebellum white matter", "white matter"),
    *_bilateral(44, 45, "cerebral white matter", "white matter"),
    *_bilateral(47, 48, "hippocampus", "deep grey"),
    *_bilateral(51, 52, "lateral ventricle", "csf"),
    *_bilateral(55, 56, "pallidum", "pallidum"),
    *_bilateral(57, 58, "putamen", "deep grey"),
    *_bilateral(59, 60, "thalamus", "deep grey"),
    *_bilateral(142, 143, "middle frontal gyrus", "cortex"),
    *_bilateral(144, 145, "middle occipital gyrus", "cortex"),
    *_bilateral(154, 155, "middle temporal gyrus", "cortex"),
    *_bilateral(182, 183, "precentral gyrus", "cortex"),
    *_bilateral(198, 199, "superior parietal lobule", "cortex"),
)
_LEFT_OF = {s.label: t.label for s, t in pairwise(STRUCTURES) if s.name.startswith("right")}
LANDMARK_STRUCTURES: tuple[int, ...] = (11, 31, 32, 35, 36, 37, 40, 41, 47, 48, 57, 58, 59, 60)


@dataclass(frozen=True)
class PhantomSpec:
    """What to generate: shape in voxels (x, y, z), numbers of subjects and pairs, seed, deformations.

    The displacements are the root mean square, in template millimetres, of the coarse and the fine part of
    each subject's deformation (less near the border of the grid). Raises ValueError where a value makes no
    phantom.
    """

    shape: tuple[int, int, int] = (64, 80, 64)
    n_train: int = 8
    pairs_per_split: int = 3
    seed: int = 0
    coarse_displacement: float = 4.2
    fine_displacement: float = 1.5

    def __post_init__(self) -> None:
        """Check every value; raise ValueError naming what was found and what was expected."""
        if len(self.shape) != 3 or not all(isinstance(n, int) and 32 <= n <= 512 for n in self.shape):
            raise ValueError(f"shape is {self.shape!r}, expected three integers from 32 to 512 voxels")
        # Upper limits: the first validation number, and the nine numbers between 4024 and 4033.
        for name, low, high in (("n_train", 1, 3384), ("pairs_per_split", 1, 9), ("seed", 0, 2**32 - 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or not low <= value <= high:
                raise ValueError(f"{name} is {value!r}, expected an integer from {low} to {high}")
        for name, limit in (("coarse_displacement", 7.0), ("fine_displacement", 2.5)):
            if not 0 <= getattr(self, name) <= limit:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected 0 to {limit} mm")


@dataclass(frozen=True)
class Contrast:
    """Mean intensities (0 to 255, in the order of Tissue), noise deviation, bias strength (log scale)."""

    means: tuple[float, float, float, float, float, float]
    noise: float
    bias: float


T1 = Contrast((35, 118, 135, 165, 172, 188), noise=5, bias=0.06)
T2 = Contrast((225, 128, 115, 75, 88, 78), noise=5, bias=0.06)
OUT_OF_DOMAIN_T1 = Contrast((75, 142, 148, 158, 164, 172), noise=11, bias=0.22)


@dataclass(frozen=True)
class Subject:
    """One scan: subject number, modality (0 or 1), folder suffix, contrast, whether it has landmarks."""

    number: int
    modality: int = 0
    split: Literal["Tr", "Val"] = "Val"
    contrast: Contrast = T1
    landmarks: bool = False

    @property
    def id(self) -> str:
        """File name without suffix, as the challenge writes it."""
        return f"LUMIRMRI_{self.number:04d}_{self.modality:04d}"


# --- anatomy


def _ellipsoid(p: Points, centre: tuple[float, float, float], radii: tuple[float, float, float]) -> Points:
    """Approximate depth below an ellipsoid's surface in mm, positive inside; p is (3, n)."""
    r = np.asarray(radii, np.float32)[:, None]
    q = (p - np.asarray(centre, np.float32)[:, None]) / r
    norm = np.sqrt(np.sum(q * q, axis=0)) + np.float32(1e-4)
    slope = np.sqrt(np.sum((q / r) ** 2, axis=0)) + np.float32(1e-6)
    return np.asarray(norm * (1 - norm) / slope, np.float32)


def _tube(p: Points, *nodes: tuple[float, float, float, float]) -> Points:
    """Depth in mm inside a bent tube through nodes (x, y, z, radius), positive inside; p is (3, n)."""
    depth = np.full(p.shape[1], -np.inf, np.float32)
    for start, end in pairwise(nodes):
        a, axis = np.asarray(start, np.float32), np.subtract(end, start).astype(np.float32)
        offset = p - a[:3, None]
        t = np.clip(np.sum(axis[:3, None] * offset, axis=0) / np.sum(axis[:3] ** 2), 0, 1)
        distance = np.sqrt(np.sum((offset - axis[:3, None] * t) ** 2, axis=0))
        depth = np.maximum(depth, a[3] + axis[3] * t - distance)
    return depth


def _folding_waves() -> list[tuple[np.float32, NDArray[np.float32], np.float32]]:
    """Amplitude, wave vector (3) in rad/mm and phase of each wave of the folding pattern, one for all."""
    rng = np.random.default_rng(1909)
    waves = []
    for _ in range(14):
        direction = rng.normal(size=3)
        vector = direction / np.sqrt(np.sum(direction**2)) * (2 * np.pi / rng.uniform(31, 43))
        waves.append(
            (np.float32(rng.uniform(0.7, 1.3)), vector.astype(np.float32), np.float32(rng.uniform(0, 2 * np.pi)))
        )
    return waves


def _sulcus_distance(p: Points) -> Points:
    """Distance in mm to the sulcal sheets: zero level of a band-limited field, constant along radii."""
    # Slightly different folds on the two sides; radial sheets need the same field value along each radius.
    q = np.stack([np.abs(p[0]) - 22 + 0.05 * p[0], p[1], p[2] - 8])
    radius = np.sqrt((q[0] / 40) ** 2 + (q[1] / 78) ** 2 + (q[2] / 46) ** 2) + np.float32(0.02)
    q /= radius
    value, gradient = np.zeros_like(radius), np.zeros_like(q)
    # A loop, not a matrix product: BLAS may round differently with another number of threads.
    for amplitude, vector, phase in _folding_waves():
        angle = vector[0] * q[0] + vector[1] * q[1] + vector[2] * q[2] + phase
        value += amplitude * np.sin(angle)
        slope = amplitude * np.cos(angle)
        for axis in range(3):
            gradient[axis] += vector[axis] * slope
    steepness = np.sqrt(np.sum(gradient**2, axis=0)) + np.float32(0.03)
    return np.asarray(np.abs(value) / steepness * radius, np.float32)


def _cerebrum(p: Points) -> tuple[Points, Points]:
    """Depth in mm below the smooth hull of the cerebrum and below its folded pial surface; p is (3, n)."""
    q = np.stack([np.abs(p[0]), p[1], p[2]])
    upper = _ellipsoid(p, (0, 2, 8), (66, 85, 54))
    lower = _ellipsoid(p, (0, 2, 8), (66, 85, 33))
    temporal = _ellipsoid(q, (41, 4, -22), (21, 42, 18))
    hull = np.maximum(np.where(p[2] > 8, upper, lower), temporal)
    # The corpus callosum and the nuclei keep the interhemispheric fissure from cutting the brain in two.
    bridge = _ellipsoid(np.stack([0 * p[0], p[1], p[2]]), (0, -4, 0), (1e3, 42, 27))
    fissure = np.hypot(p[0], np.maximum(bridge, 0)) - 1.3
    depth = np.minimum(hull, fissure * 1.6)
    # Shallower below, where the temporal lobes would have no white matter left.
    deepest = np.clip(15 + 0.4 * (p[2] + 2), 5, 15)
    sulci = np.hypot(_sulcus_distance(p), np.maximum(depth - deepest, 0))
    sulci -= np.clip(1.7 - 0.1 * depth, 0.3, 1.7)
    sylvian = np.hypot(p[2] + 8 + 0.25 * p[1], np.maximum(hull - 22, 0)) - 1.2
    sylvian = np.where((q[0] > 24) & (p[1] > -32), sylvian, np.inf)
    pial = np.minimum(np.minimum(hull, fissure), np.minimum(sulci, sylvian))
    return hull.astype(np.float32), pial.astype(np.float32)


def _cerebellum(p: Points) -> Points:
    """Depth in mm below the hull of the cerebellum; p is (3, n)."""
    q = np.stack([np.abs(p[0]), p[1], p[2]])
    vermis = _ellipsoid(p, (0, -50, -32), (18, 24, 22))
    return np.maximum(_ellipsoid(q, (22, -49, -34), (32, 29, 24)), vermis)


def _parcels(p: Points) -> NDArray[np.uint8]:
    """Right-hemisphere label of the cortical parcel that each point would belong to; p is (3, n)."""
    x, y, z = np.abs(p[0]), p[1], p[2]
    slanted = y + 0.35 * z
    labels = np.full(p.shape[1], 142, np.uint8)
    labels[slanted < 18] = 182
    labels[slanted < -18] = 198
    labels[(z < -8 - 0.25 * y) & (x > 22) | (z < -6) & (y < -10)] = 154
    labels[y < -52 + 0.2 * z] = 144
    return labels


def _nuclei(p: Points) -> list[tuple[int, Points]]:
    """Right labels and depths in mm of the structures in the white matter, later ones on top; p is (3, n)."""
    q = np.stack([np.abs(p[0]), p[1], p[2]])
    return [
        (57, _ellipsoid(q, (28, 5, 1), (6.5, 18, 12))),
        (55, _ellipsoid(q, (20, 0, -1), (5, 10, 7.5))),
        (23, _ellipsoid(q, (10, 19, -7), (6, 7, 5))),
        (31, _ellipsoid(q, (25, 6, -20), (8, 8, 7.5))),
        (47, _tube(q, (26, -8, -21, 6.5), (29, -22, -17, 6), (25, -36, -5, 5))),
        (59, _ellipsoid(q, (12, -17, 6), (9.5, 15, 9.5))),
        (36, _tube(q, (15, 26, 5, 7.5), (18, 10, 16, 5.5), (20, -14, 20, 4))),
        (51, _tube(q, (8, 34, 8, 5), (8, 12, 17, 5), (11, -14, 20, 5), (22, -38, 12, 6.5), (24, -56, 6, 4))),
        (4, _ellipsoid(p, (0, -10, 3), (3.2, 15, 9))),
    ]


def template_labels(points: Points) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Labels (n), uint8, and brain membership (n) of points (3, n) in template millimetres.

    The cerebrospinal fluid of sulci and fissures is brain (it has an intensity) but carries label 0.
    """
    p = points.astype(np.float32)
    hull, pial = _cerebrum(p)
    cerebellum = _cerebellum(p)
    stem = _tube(p, (0, -18, -6, 10), (0, -20, -26, 14), (0, -30, -58, 8))
    right = np.where(pial > 4.2, 44, np.where(pial > 0, _parcels(p), 0)).astype(np.uint8)
    right[(cerebellum > 0) & (hull < -1.5)] = 38
    folia = 6.5 + 3 * np.sin(0.45 * (p[2] + 0.5 * p[1]))
    right[(right == 38) & (cerebellum > folia)] = 40
    right[(stem > 0) & (right != 38) | (stem > 3)] = 35
    for label, depth in _nuclei(p):
        right[(depth > 0) & (hull > 0)] = label
    right[_ellipsoid(p, (0, -37, -34), (7, 5, 10)) > 0] = 11
    left = np.arange(256, dtype=np.uint8)
    left[list(_LEFT_OF)] = list(_LEFT_OF.values())
    labels = np.where(p[0] > 0, right, left[right])
    return labels, (labels > 0) | (hull > 0) | (cerebellum > 0)


# --- deformation


def _voxel_millimetres(shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """Template millimetres a voxel, per axis: the brain fills 84 % of every axis."""
    return np.array([132.0, 172.0, 128.0]) / (0.84 * np.array(shape))


def _smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], fraction: float) -> NDArray[np.float32]:
    """Zero-mean, unit-variance smooth noise; the smoothing is a fraction of each axis."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    smooth = ndimage.gaussian_filter(noise, [fraction * n for n in shape], mode="wrap", truncate=3.0)
    return np.asarray((smooth - smooth.mean()) / smooth.std(), np.float32)


def deformation(spec: PhantomSpec, rng: np.random.Generator) -> NDArray[np.float32]:
    """Voxel displacement (3, X, Y, Z), float32: the exponential of a random stationary velocity field."""
    shape, mm = spec.shape, _voxel_millimetres(spec.shape)
    # Still at the border, so that no brain leaves the grid.
    axes = [np.clip(np.minimum(np.arange(n), n - 1 - np.arange(n)) / (0.14 * n), 0, 1) for n in shape]
    taper = np.multiply.outer(np.multiply.outer(axes[0], axes[1]), axes[2])
    parts = ((spec.coarse_displacement, 0.115), (spec.fine_displacement, 0.05))
    velocity = np.stack(
        [
            taper * sum(rms / np.sqrt(3) * _smooth_noise(rng, shape, width) for rms, width in parts) / mm[i]
            for i in range(3)
        ]
    ).astype(np.float32)
    steps = 5
    displacement: NDArray[np.float32] = velocity / np.float32(2**steps)
    grid = np.indices(shape, dtype=np.float32)
    for _ in range(steps):
        at = grid + displacement
        moved = [ndimage.map_coordinates(c, at, order=1, mode="nearest") for c in displacement]
        displacement += np.asarray(moved, np.float32)
    return displacement


def jacobian_determinant(displacement: NDArray[np.float32]) -> NDArray[np.float64]:
    """Jacobian determinant (X, Y, Z) of x + u(x), central differences; u is (3, X, Y, Z) in voxels."""
    matrix = np.stack([np.stack(np.gradient(c.astype(np.float64))) for c in displacement])
    matrix += np.eye(3)[:, :, None, None, None]
    return np.asarray(np.linalg.det(np.moveaxis(matrix, (0, 1), (-2, -1))), np.float64)


# --- appearance


def render(
    labels: NDArray[np.uint8], brain: NDArray[np.bool_], contrast: Contrast, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Image (X, Y, Z), uint8, of a label map: 0 outside the brain mask, 1 to 255 inside."""
    tissue_means = dict(zip(get_args(Tissue), contrast.means, strict=True))
    means = np.full(256, tissue_means["csf"])
    for structure in STRUCTURES:
        means[structure.label] = tissue_means[structure.tissue] + rng.normal(0, 3)
    # Normalised by the blurred mask: partial volume between tissues, but no dark rim at the brain border.
    blurred = ndimage.gaussian_filter(means[labels] * brain, 0.55)
    weight = ndimage.gaussian_filter(brain.astype(np.float64), 0.55)
    bias = np.exp(contrast.bias * _smooth_noise(rng, labels.shape, 0.2))
    signal = blurred / np.maximum(weight, 1e-3) * bias
    noise = contrast.noise * rng.standard_normal((2, *labels.shape))
    rician = np.hypot(signal + noise[0], noise[1])
    return np.where(brain, np.clip(np.rint(rician), 1, 255), 0).astype(np.uint8)


def make_subject(spec: PhantomSpec, subject: Subject) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Image and label map, both (X, Y, Z) uint8, of a subject; RuntimeError if its deformation folds."""
    rng = np.random.default_rng((spec.seed, subject.number))
    displacement = deformation(spec, rng)
    if jacobian_determinant(displacement).min() <= 0:
        raise RuntimeError(f"the deformation of {subject.id} folds: lower the displacements of the spec")
    shape, mm = spec.shape, _voxel_millimetres(spec.shape)
    centre = np.array([(n - 1) / 2 for n in shape])
    voxels = (np.indices(shape) + displacement).reshape(3, -1) - centre[:, None]
    points = voxels * mm[:, None] + np.array([0.0, 2.0, -1.0])[:, None]
    labels, brain = template_labels(points.astype(np.float32))
    labels, brain = labels.reshape(shape), brain.reshape(shape)
    return render(labels, brain, subject.contrast, rng), labels


def landmark_map(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Map (X, Y, Z), uint8, with a 3 x 3 x 3 blob of 1, 2, ... at the centroid of each landmark structure."""
    landmarks = np.zeros_like(labels)
    present = [label for label in LANDMARK_STRUCTURES if np.any(labels == label)]
    centroids = ndimage.center_of_mass(np.ones_like(labels), labels, present)
    for label, centroid in zip(present, centroids, strict=True):
        block = tuple(slice(round(c) - 1, round(c) + 2) for c in centroid)
        landmarks[block] = LANDMARK_STRUCTURES.index(label) + 1
    return landmarks

"""Transforms of ANTs and their displacements in voxels warp alike."""

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from translated import SHAPE, affines, axes, texture

from lumirkit.eval.baselines import syn
from lumirkit.eval.baselines.ants_displacement import displacement_from_ants
from lumirkit.eval.baselines.syn import SyN
from lumirkit.registration.ants_image import to_ants
from lumirkit.registration.volume import Volume, write_volume
from lumirkit.registration.warp import sample


def lps_mm(affine, disp_vox):
    """Voxel displacements (..., 3) as ITK sees them."""
    return disp_vox @ (np.diag([-1.0, -1, 1]) @ affine[:3, :3]).T


@affines
def test_an_ants_image_lies_where_the_nifti_file_says(ants, affine, tmp_path):
    write_volume(tmp_path / "image.nii.gz", texture(), affine)
    from_file, from_array = ants.image_read(str(tmp_path / "image.nii.gz")), to_ants(texture(), affine)
    np.testing.assert_array_equal(from_array.numpy(), from_file.numpy())
    for name in ("origin", "spacing", "direction"):
        np.testing.assert_allclose(getattr(from_array, name), getattr(from_file, name), atol=1e-5)


@affines
@axes
def test_a_translation_in_mm_becomes_one_in_voxels(ants, affine, axis, tmp_path):
    expected = np.zeros(3)
    expected[axis] = 2.5
    transform = ants.create_ants_transform(
        transform_type="AffineTransform", dimension=3, translation=tuple(lps_mm(affine, expected))
    )
    file = str(tmp_path / "translation.mat")
    ants.write_transform(transform, file)
    disp_vox = displacement_from_ants(to_ants(texture(), affine), affine, [file])
    assert disp_vox.dtype == np.float32
    np.testing.assert_allclose(disp_vox, np.broadcast_to(expected, (*SHAPE, 3)), atol=1e-5)


def random_transforms(ants, affine, folder):
    """A smooth warp after an affine, as files in the order of ANTs' transform lists."""
    rng = np.random.default_rng(1)
    disp_vox = np.stack([gaussian_filter(rng.standard_normal(SHAPE), 4) for _ in range(3)], axis=-1)
    disp_vox *= 2 / np.abs(disp_vox).max()
    geometry = to_ants(texture(), affine)
    warp = ants.from_numpy(
        lps_mm(affine, disp_vox).astype(np.float32),
        geometry.origin,
        geometry.spacing,
        geometry.direction,
        has_components=True,
    )
    warp_file, affine_file = str(folder / "warp.nii.gz"), str(folder / "affine.mat")
    ants.image_write(warp, warp_file)
    centre = affine[:3, :3] @ (np.array(SHAPE) / 2) + affine[:3, 3]
    linear = ants.create_ants_transform(
        transform_type="AffineTransform",
        dimension=3,
        matrix=np.eye(3) + 0.04 * rng.standard_normal((3, 3)),
        translation=tuple(rng.uniform(-1, 1, 3)),
        center=tuple(centre * [-1, -1, 1]),
    )
    ants.write_transform(linear, affine_file)
    return [warp_file, affine_file]


def assert_both_warp_alike(ants, affine, transforms):
    """ANTs resampling through its own files and this package's sampling through the field give one image."""
    moving = texture(2)
    fixed_image = to_ants(texture(), affine)
    disp_vox = displacement_from_ants(fixed_image, affine, transforms)
    by_ants = ants.apply_transforms(fixed_image, to_ants(moving, affine), transforms).numpy()
    field = torch.from_numpy(np.ascontiguousarray(np.moveaxis(disp_vox, -1, 0)))[None]
    by_field = sample(torch.from_numpy(moving)[None, None], field)[0, 0].numpy()
    position = np.moveaxis(np.indices(SHAPE), 0, -1) + disp_vox
    inside = ((position > 0) & (position < np.array(SHAPE) - 1)).all(axis=-1)  # the two fill differently outside
    assert inside.mean() > 0.7
    np.testing.assert_allclose(by_field[inside], by_ants[inside], atol=0.01)  # of a range of 200
    assert np.abs(moving - by_ants)[inside].mean() > 1  # the field is not next to nothing


@affines
def test_warp_and_affine_compose_as_ants_applies_them(ants, affine, tmp_path):
    assert_both_warp_alike(ants, affine, random_transforms(ants, affine, tmp_path))


@affines
def test_the_field_of_syn_warps_as_ants_does(ants, affine, tmp_path, monkeypatch):
    compared = []

    def compare(fixed_image, affine, transforms):
        assert_both_warp_alike(ants, affine, transforms)
        compared.append(transforms)
        return displacement_from_ants(fixed_image, affine, transforms)

    monkeypatch.setattr(syn, "displacement_from_ants", compare)
    fixed, moving = (Volume(tmp_path, texture(seed), affine) for seed in (0, 3))
    SyN(iterations=(20, 10))(fixed, moving)
    assert compared

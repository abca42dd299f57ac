"""The leaderboard's numbers of generated pairs, against public libraries and formulas written out here."""

from itertools import product

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from surface_distance import compute_dice_coefficient, compute_robust_hausdorff, compute_surface_distances

from lumirkit.eval.leaderboard import evaluate


def warped_by_scipy(moving, disp_vox):
    """As the organisers' scorer warps labels: nearest neighbour at float64 positions, 0 outside."""
    positions = np.indices(moving.shape) + np.moveaxis(disp_vox.astype(np.float64), -1, 0)
    return map_coordinates(moving, positions, order=0, mode="constant", cval=0)


def dice(labels, fixed, moving, warped):
    """Of each label; a label that an image lacks before it was warped is not scored."""
    scored = [(fixed == label).any() and (moving == label).any() for label in labels]
    values = [compute_dice_coefficient(fixed == label, warped == label) for label in labels]
    return np.where(scored, values, np.nan)


def hd95(labels, fixed, moving, warped):
    """Of each label in voxels."""
    values = []
    for label in labels:
        if (fixed == label).any() and (moving == label).any():
            distances = compute_surface_distances(fixed == label, warped == label, (1, 1, 1))
            values.append(compute_robust_hausdorff(distances, 95))
        else:
            values.append(np.nan)
    return np.array(values)


def tre(fixed, warped):
    """The mean distance of centroids in voxels over the fixed landmarks, NaN if one was lost."""
    landmarks = np.unique(fixed[fixed > 0])
    centroids = [[np.argwhere(each == label).mean(axis=0) for label in landmarks] for each in (fixed, warped)]
    return np.linalg.norm(np.subtract(*centroids), axis=1).mean()


def ndv(disp_vox, mask):
    """Non-diffeomorphic volume in percent of the mask (Liu et al. 2024, IJCV 132).

    The space around a voxel is cut twice into five tetrahedra. The four corners of a cutting have determinants of
    one-sided differences, the middle of it that of three neighbours on diagonals; a tetrahedron's volume is a sixth.
    """
    positions = np.indices(mask.shape) + np.moveaxis(disp_vox.astype(np.float64), -1, 0)

    def edge(*offset):
        """From each inner voxel to its neighbour, after the map: (x, y, z, 3)."""
        inner = tuple(slice(1 + step, size - 1 + step) for step, size in zip(offset, mask.shape, strict=True))
        return np.moveaxis(positions[:, *inner] - positions[:, 1:-1, 1:-1, 1:-1], 0, -1)

    def determinant(*edges):
        return np.linalg.det(np.stack(edges, axis=-1))

    corners = [
        x * y * z * determinant(edge(x, 0, 0), edge(0, y, 0), edge(0, 0, z)) for x, y, z in product((1, -1), repeat=3)
    ]
    middles = [
        determinant(edge(-1, -1, 0), edge(-1, 0, -1), edge(0, -1, -1)),
        determinant(edge(1, 1, 0), edge(0, 1, 1), edge(1, 0, 1)),
    ]
    folded = sum(np.maximum(-each, 0) / 6 for each in (*corners, *middles)) / 2
    inside = mask[1:-1, 1:-1, 1:-1]
    return 100 * folded[inside].sum() / inside.sum()


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])  # of the fields: hardly folded, folded, labels and landmarks lost
def test_every_number_of_every_pair(ground_truth, fields, scale):
    for path in fields.iterdir():
        disp_vox = np.asarray(nib.load(path).dataobj) * np.float32(scale)
        nib.save(nib.Nifti1Image(disp_vox, np.eye(4)), path)
    result = evaluate(ground_truth, fields)
    assert len(result.scored) == 4
    for case, _ in result.scored:
        disp_vox = np.asarray(nib.load(case.field).dataobj)
        folder = "landmarks" if case.split == "in-domain landmarks" else "labels"
        fixed, moving = (np.asarray(nib.load(path).dataobj).astype(np.int32) for path in case.maps(folder))
        warped = warped_by_scipy(moving, disp_vox)
        expected = {"Non-diffeomorphic Volumes": ndv(disp_vox, np.asarray(nib.load(case.fixed_image).dataobj) > 0)}
        if folder == "landmarks":
            expected["TRE_lm"] = tre(fixed, warped)
        else:
            labels = next(metric.labels for metric in case.metrics if metric.kind == "dice")
            expected |= {"DSC": dice(labels, fixed, moving, warped), "HD95": hd95(labels, fixed, moving, warped)}
        found = result.cases[case.name]
        assert set(found) == set(expected)
        for name, values in expected.items():
            np.testing.assert_allclose(found[name]["detailed"], values, rtol=1e-12, atol=1e-12, err_msg=case.name)
            np.testing.assert_allclose(found[name]["mean"], np.nanmean(values), rtol=1e-12, atol=1e-12)

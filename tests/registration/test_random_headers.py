"""`register`, `warp` and `export` of files with random headers and types: a right result, or one sentence.

Every result is compared with what nibabel, scipy and ANTs make of the same files. `LUMIRKIT_EXAMPLES=500` draws so many
examples of each test; `--hypothesis-show-statistics` then lists the sentences that refused files.
"""

import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from nibabel.affines import apply_affine, from_matvec
from random_headers import (
    HAS_ANTS,
    PLACES,
    affine_of,
    draws,
    indices,
    itk_affine_of,
    oddities,
    places,
    random_files,
    read_values,
    require_refusal,
    run,
)
from scipy.ndimage import map_coordinates

import lumirkit
from lumirkit.base.errors import KitError

LPS = np.array([-1, -1, 1])
OF_ANTS = ("uint8", "int16", "uint16", "int32", "float32", "float64")
VOXELS, ITK = "voxels", "itk"
SPACING_MM = (1.5, 1.9)  # at which the brains of the tests fit into small frames
ROUNDING_VOX = 1e-3


def blob(shape, seed):
    """Whole numbers from 0 to 120, on background 0."""
    rng = np.random.default_rng(seed)
    values = rng.integers(1, 121, shape).astype(np.float64)
    values[0], values[:, 0], values[:, :, 0] = 0, 0, 0
    return values


shapes = st.tuples(*[st.integers(4, 8)] * 3)


@st.composite
def fields(draw, shape, moving_shape, moving_place, plain=False):
    """A field that takes voxels of a fixed grid somewhere near those of a moving one, in voxels or in mm."""
    kind = VOXELS if plain else draw(st.sampled_from([VOXELS, ITK]))
    kinds = (*PLACES, "type", "slope", "truncated", "NaN", "pair")
    odd = frozenset() if plain else draw(st.one_of(st.just(frozenset()), oddities(kinds, most=1)))
    drawn = draw(random_files(np.zeros(shape), odd, draw(places(odd))))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    at = indices(shape)
    there = at * (np.array(moving_shape) - 1) / np.maximum(np.array(shape) - 1, 1) + rng.uniform(-1.5, 1.5, (*shape, 3))
    if kind == VOXELS:
        values = there - at
    else:
        values = (apply_affine(moving_place.sform, there) - apply_affine(drawn.place.sform, at)) * LPS
        values = np.where(np.isfinite(values), values, 1.0)[:, :, :, None]
    if "NaN" in odd:
        values.flat[values.size // 2] = np.nan
    intent = draw(st.sampled_from([1007] * 8 + [0, 1006])) if kind == ITK else draw(st.sampled_from([0, 1007]))
    dtype = drawn.dtype if odd & {"type"} else draw(st.sampled_from(["float32"] * 6 + ["float64"] * 4 + ["int16"]))
    return kind, replace(drawn, values=values, intent=intent, dtype=dtype)


@st.composite
def nudged(draw, place):
    """A place, or for some draws one that is a part of a voxel or a few voxels off."""
    step = draw(st.sampled_from([0, 0, 0, 0, 0.001, 0.5, 1, 5]))
    shift = step * np.sign(draw(st.sampled_from([1, -1]))) * np.eye(4)[:, draw(st.integers(0, 2))]
    shift_mm = from_matvec(np.eye(3), (place.sform @ shift)[:3])
    return replace(place, sform=shift_mm @ place.sform, qform=shift_mm @ place.qform) if step else place


@st.composite
def warp_requests(draw):
    odd = draw(oddities())
    moving = draw(random_files(blob(draw(shapes), draw(st.integers(0, 99))), odd))
    shape = (*moving.values.shape, 1, 1)[:3]
    kind, field = draw(fields(shape if draw(st.integers(0, 4)) and min(shape) else draw(shapes), shape, moving.place))
    like = None
    if draw(st.booleans()):
        like_odd = draw(st.sampled_from([frozenset(), draw(oddities(most=1))]))
        place = draw(nudged(field.place))
        like = draw(random_files(np.ones(field.values.shape[:3]), like_odd - set(PLACES), place))
        like = replace(like, version=field.version, oddities=like.oddities | (field.oddities & set(PLACES)))
    return moving, kind, field, like, draw(st.booleans())


@draws(few=100)
@given(warp_requests())
def test_warp(request_):
    moving, kind, field, like, labels = request_
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        moving_path, field_path = moving.write(folder, "moving"), field.write(folder, "field")
        like_path = None if like is None else like.write(folder, "like")
        before, out = set(folder.iterdir()), folder / "out.nii.gz"
        words = ["warp", field_path, "--moving", moving_path, "--out", out]
        words += ["--labels"] if labels else []
        words += [] if like is None else ["--like", like_path]
        status, said = run(*words)
        require_verb(lambda image: warp_by_verb(field_path, like_path, image, labels), moving_path, status, out)
        if status:
            require_refusal(status, said, folder, before)
            odd = moving.oddities | field.oddities | (like.oddities if like else frozenset())
            ordinary = not odd and kind == VOXELS and field.dtype != "int16" and like is None
            assert not ordinary or "shape" in said or "its axes run" in said, said
            return
        assert set(folder.iterdir()) == before | {out}
        event("result")
        check_warped(out, (moving_path, moving), (field_path, field), (like_path, like), kind, labels)


def warp_by_verb(field_path, like_path, image, labels):
    return lumirkit.read_field(field_path, fixed=like_path, moving=image).warp(image, labels)


def require_verb(verb, moving_path, status, out):
    """Check that the verb makes the same of an image in memory as the command of its file, or says why not."""
    try:
        image = nib.load(moving_path)
    except Exception:
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            found = verb(image)
    except KitError:
        assert status, "only the verb refused"
        return
    assert np.isfinite(found).all()
    if status:
        event(f"only the command refused a {type(image).__name__}")
    else:
        np.testing.assert_allclose(found, read_values(out), rtol=1e-6)


def require_one_place(field, fixed):
    """Check that the fixed image of a field in mm lies where the field does, to the tenth of a voxel."""
    there, here = itk_affine_of(*field), itk_affine_of(*fixed)
    if there is None or here is None:
        return
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(read_values(field[0]).shape[:3]) - 1)
    np.testing.assert_allclose(apply_affine(np.linalg.inv(here) @ there, corners), corners, atol=0.1)


def check_warped(out, moving, field, fixed, kind, labels):
    (moving_path, _), (field_path, _), (like_path, _) = moving, field, fixed
    found, source, vectors = read_values(out), read_values(moving_path), read_values(field_path)
    shape = vectors.shape[:3]
    at, sure = indices(shape), np.ones(shape, bool)
    if kind == VOXELS:
        there, place = at + vectors, affine_of(like_path or field_path)
    else:
        here, moving_place = itk_affine_of(*field), itk_affine_of(*moving)
        if here is None or moving_place is None:
            event("result that ITK cannot judge")
            return
        fixed_place = here if like_path is None else itk_affine_of(*fixed)
        if fixed_place is None:
            event("result that ITK cannot judge")
            return
        fixed_mm = apply_affine(fixed_place, at)
        moved_mm, sure = moved_by(vectors[:, :, :, 0] * LPS, here, fixed_mm)
        there = apply_affine(np.linalg.inv(moving_place), moved_mm)
        place = here if like_path is None else affine_of(like_path)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(nib.load(out).affine, place, rtol=1e-5, atol=1e-5 * np.abs(place).max())
    rest = source.shape[3:] if set(source.shape[3:]) - {1} else ()
    assert found.shape == (*shape, *rest)
    for which in np.ndindex(rest):
        volume = source[..., *which].reshape(source.shape[:3])
        agree(found[..., *which][sure], np.rint(volume) if labels else volume, there[sure], labels)


def moved_by(disp_ras_mm, place, at_mm):
    """Where a field takes positions, linearly read, and where that is beyond doubt: not at the rim of its grid."""
    read_at = apply_affine(np.linalg.inv(place), at_mm)
    rim = np.array(disp_ras_mm.shape[:3]) - 0.5
    inside = ((read_at >= -0.5) & (read_at <= rim)).all(axis=-1)
    coordinates = np.moveaxis(read_at, -1, 0)
    read = [map_coordinates(disp_ras_mm[..., i], coordinates, order=1, mode="nearest") for i in range(3)]
    sure = (np.minimum(np.abs(read_at + 0.5), np.abs(read_at - rim)) > ROUNDING_VOX).all(axis=-1)
    return at_mm + np.where(inside[..., None], np.stack(read, axis=-1), 0), sure


def agree(found, volume, there, labels, rounding_vox=ROUNDING_VOX):
    """Check a warped volume against scipy's; rounding of coordinates decides ties and moves values a little."""
    coordinates = np.moveaxis(there, -1, 0)
    expected = map_coordinates(volume, coordinates, order=0 if labels else 1, mode="grid-constant")
    if labels:
        tie = (np.abs(there - np.floor(there) - 0.5) < rounding_vox).any(axis=-1)
        np.testing.assert_array_equal(found[~tie], expected[~tie])
    else:
        span = np.abs(volume).max(initial=0)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=span * (3 * rounding_vox + 1e-6))


@st.composite
def export_requests(draw):
    plain = draw(st.integers(0, 3)) == 0
    odd = frozenset() if plain else draw(oddities())
    moving = draw(random_files(blob(draw(shapes), draw(st.integers(0, 99))), odd))
    shape = (*moving.values.shape, 1, 1)[:3]
    kind, field = draw(fields(shape if plain or draw(st.integers(0, 4)) else draw(shapes), shape, moving.place, plain))
    of_field = draw(nudged(field.place))
    place = draw(st.sampled_from([of_field, of_field, moving.place])) if kind == VOXELS else of_field
    fixed_odd = frozenset() if plain else draw(oddities(most=1)) - set(PLACES)
    fixed = draw(random_files(np.ones(field.values.shape[:3]), fixed_odd, place))
    fixed = replace(
        fixed, oddities=fixed.oddities | (moving if place is moving.place else field).oddities & set(PLACES)
    )
    if plain:
        moving, fixed = (replace(file, dtype=draw(st.sampled_from(OF_ANTS)), version=1) for file in (moving, fixed))
    elif place is moving.place:
        fixed = replace(fixed, version=moving.version)
    return moving, kind, field, fixed, draw(st.sampled_from(["itk", "itk", "itk", "challenge"]))


@draws(few=100)
@given(export_requests())
def test_export(request_):
    moving, kind, field, fixed, convention = request_
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [file.write(folder, name) for file, name in ((moving, "moving"), (field, "field"), (fixed, "fixed"))]
        before, out = set(folder.iterdir()), folder / "out.nii.gz"
        moving_path, field_path, fixed_path = paths
        images = ["--fixed", fixed_path, "--moving", moving_path]
        status, said = run("export", field_path, *images, "--out", out, "--format", convention)
        if status:
            require_refusal(status, said, folder, before)
            return
        assert set(folder.iterdir()) == before | {out}
        event("result")
        check_exported(out, (moving_path, moving), (field_path, field), (fixed_path, fixed), kind, convention)


def check_exported(out, moving, field, fixed, kind, convention):
    found, given_values = read_values(out), read_values(field[0])
    assert np.isfinite(found).all()
    at = indices(given_values.shape[:3])
    if kind == ITK:
        require_one_place(field, fixed)
    here, there = itk_affine_of(*fixed), itk_affine_of(*moving)
    if here is None or there is None:
        event("result that ITK cannot judge")
        return
    lps_mm = (
        given_values[:, :, :, 0]
        if kind == ITK
        else ((apply_affine(there, at + given_values) - apply_affine(here, at)) * LPS)
    )
    if convention == "itk":
        assert nib.load(out).header["intent_code"] == 1007
        np.testing.assert_allclose(nib.load(out).affine, here, rtol=1e-5, atol=1e-5 * np.abs(here).max())
        near(found[:, :, :, 0], lps_mm, np.linalg.norm(there[:3, :3], axis=0).min())
        if HAS_ANTS and kind == VOXELS and all(is_plain(file) for _, file in (moving, fixed)):
            check_with_ants(out, moving[0], fixed[0], at + given_values)
    else:
        near(found, apply_affine(np.linalg.inv(there), apply_affine(here, at) + lps_mm * LPS) - at, 1)


def near(found, expected, voxel):
    """Check displacements to a hundredth of a voxel, which the kit allows to be lost."""
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=0.011 * voxel)


def is_plain(file):
    """Whether ANTs reads a file, and where nibabel places it."""
    return not file.oddities and file.dtype in OF_ANTS and file.version == 1


def check_with_ants(warp, moving_path, fixed_path, there):
    """Check that ANTs reads the moving image where the field says; beyond it tools fill differently."""
    import ants

    event("result that ANTs applied")
    fixed, moving = ants.image_read(str(fixed_path)), ants.image_read(str(moving_path))
    found = ants.apply_transforms(fixed, moving, [str(warp)]).numpy()
    inside = ((there > 0.02) & (there < np.array(moving.shape) - 1.02)).all(axis=-1)
    expected = map_coordinates(read_values(moving_path), np.moveaxis(there, -1, 0), order=1)
    np.testing.assert_allclose(found[inside], expected[inside], atol=0.5)


def brain(shape, seed):
    """An ellipsoid of whole numbers from 40 to 120 on background 0."""
    rng = np.random.default_rng(seed)
    at = indices(shape) / (np.array(shape) - 1) * 2 - 1 - rng.uniform(-0.1, 0.1, 3)
    values = 80 + 40 * np.sin(at * rng.uniform(2, 7, 3)).prod(axis=-1)
    return np.where(np.square(at / rng.uniform(0.85, 0.95, 3)).sum(axis=-1) < 1, np.rint(values), 0)


@st.composite
def register_requests(draw):
    files = [
        draw(
            random_files(
                brain(draw(st.tuples(*[st.integers(16, 20)] * 3)), draw(st.integers(0, 99))),
                odd,
                draw(places(odd, SPACING_MM)),
            )
        )
        for odd in (draw(oddities()), draw(oddities(most=1)))
    ]
    if draw(st.integers(0, 3)) == 0 and files[0].values.shape == files[1].values.shape:
        files[1] = replace(files[1], place=files[0].place, version=files[0].version)
    if draw(st.booleans()):
        files.reverse()
    return (*files, draw(st.integers(0, 4)) == 0)


@pytest.fixture(scope="module")
def weights(make_weights):
    return make_weights()


@draws(few=40)
@given(request_=register_requests())
def test_register(weights, request_):
    fixed, moving, by_verb = request_
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fixed_path, moving_path = fixed.write(folder, "fixed"), moving.write(folder, "moving")
        before, out, moved = set(folder.iterdir()), folder / "field.nii.gz", folder / "moved.nii.gz"
        words = ["register", fixed_path, moving_path, out, "--moved", moved, "--weights", weights, "--device", "cpu"]
        status, said = run(*words)
        if by_verb:
            require_verb(lambda image: register_by_verb(fixed_path, image, weights), moving_path, status, moved)
        if status:
            require_refusal(status, said, folder, before)
            assert fixed.oddities | moving.oddities or "NaN or inf" not in said
            return
        assert set(folder.iterdir()) == before | {out, moved}
        event("result")
        check_registered(out, moved, (moving_path, moving), (fixed_path, fixed))


def register_by_verb(fixed_path, image, weights):
    return lumirkit.register(fixed_path, image, weights=weights, say=lambda text: None).warp(image)


def check_registered(out, moved, moving, fixed):
    found, vectors, source = read_values(moved), read_values(out), read_values(moving[0])
    assert np.isfinite(found).all()
    assert np.isfinite(vectors).all()
    at = indices(vectors.shape[:3])
    np.testing.assert_allclose(nib.load(moved).affine, affine_of(fixed[0]), rtol=1e-5, atol=1e-4)
    if vectors.ndim == 4:
        there = at + vectors
    else:
        here, moving_place = itk_affine_of(*fixed), itk_affine_of(*moving)
        if here is None or moving_place is None:
            event("result that ITK cannot judge")
            return
        there = apply_affine(np.linalg.inv(moving_place), apply_affine(here, at) + vectors[:, :, :, 0] * LPS)
    agree(found, source.reshape(source.shape[:3]), there, labels=False, rounding_vox=0.02)

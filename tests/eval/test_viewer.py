"""The viewer of a pair: what is packed for it, unpacked again, and what a browser draws of it."""

import base64
import io
import json
import re
import shutil
import subprocess

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from lumirkit.eval.leaderboard import evaluate
from lumirkit.eval.pictures import PANELS, RegisteredPair, as_webp, plane_stack
from lumirkit.eval.report.page import as_data_uri
from lumirkit.eval.report.pairs import show_pair
from lumirkit.eval.report.scores import write_report
from lumirkit.eval.report.viewer import Packing, pack_row, pack_shared
from lumirkit.eval.tables.rows import RowCard
from lumirkit.phantoms.brains import PhantomSpec, Subject, deformation, make_subject
from lumirkit.registration.volume import read_place

SHAPE = (27, 40, 34)


def unpacked(uri, packed):
    """The volume (X, Y, Z) of a packed picture, read slice by slice, with all channels."""
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGB")).astype(int)
    x, y, z = packed["size"]
    corners = [(k // packed["columns"] * y, k % packed["columns"] * x) for k in range(z)]
    return np.stack([pixels[top : top + y, left : left + x].swapaxes(0, 1) for top, left in corners], axis=2)


def labels_of(uri, packed):
    return unpacked(uri, packed) @ [1, 1 << 8, 1 << 16]


def place(tmp_path, affine, code=2):
    image = nib.Nifti1Image(np.zeros(SHAPE, np.uint8), affine)
    image.set_sform(affine, code)
    image.set_qform(affine, code)
    nib.save(image, tmp_path / "grid.nii")
    return read_place(tmp_path / "grid.nii")


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    smooth = [gaussian_filter(rng.normal(size=SHAPE), 3) for _ in range(3)]
    fixed, moving, warped = (np.interp(each, (each.min(), each.max()), (30, 220)).astype(np.float32) for each in smooth)
    fixed_labels, warped_labels = (rng.integers(0, 70_000, SHAPE, dtype=np.int32) for _ in range(2))
    return RegisteredPair(fixed, moving, warped, np.zeros((*SHAPE, 3), np.float32), fixed_labels, warped_labels)


@pytest.mark.parametrize("axes", ["RAS", "LIA", "PSR"])
def test_images_and_labels_are_turned_and_made_coarser(pair, tmp_path, axes):
    """Against nibabel's own turning, and blocks taken one by one; 1 mm along two axes and 3 along the last."""
    towards = {"R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}
    affine = np.eye(4)
    affine[:3, :3] = np.transpose([towards[letter] for letter in axes]) * [1, 1, 3]
    packing = Packing.of(SHAPE, place(tmp_path, affine))
    packed, row = pack_shared(pair, packing), pack_row(pair, packing)
    assert packed["sides"] == ("L", "R", "P", "A", "I", "S")
    for uri, volume, is_label in (
        (packed["fixed"], pair.fixed, False),
        (packed["moving"], pair.moving, False),
        (row["warped"], pair.warped, False),
        (packed["fixed_labels"], pair.fixed_labels, True),
        (row["warped_labels"], pair.warped_labels, True),
    ):
        canonical = nib.as_closest_canonical(nib.Nifti1Image(volume, affine))
        edges = canonical.header.get_zooms()
        steps = [2 if edge == 1 else 1 for edge in edges]
        assert packed["edges_mm"] == tuple(edge * step for edge, step in zip(edges, steps, strict=True))
        data = np.asarray(canonical.dataobj)
        assert packed["size"] == tuple(-(-size // step) for size, step in zip(data.shape, steps, strict=True))
        blocks = {
            voxel: data[tuple(slice(i * step, (i + 1) * step) for i, step in zip(voxel, steps, strict=True))]
            for voxel in np.ndindex(packed["size"])
        }
        if is_label:
            # the upper of two middle voxels, or the only one at the border
            chosen = [
                block[tuple(min(s // 2, n - 1) for s, n in zip(steps, block.shape, strict=True))]
                for block in blocks.values()
            ]
            np.testing.assert_array_equal(labels_of(uri, packed).ravel(), chosen)
        else:
            filled = [block.sum() / np.prod(steps) for block in blocks.values()]  # with 0 beyond the border
            error = unpacked(uri, packed)[..., 0].ravel() - filled
            assert np.abs(error).mean() < 8  # of 190; a volume turned the wrong way is more than 20 off


def test_a_header_that_says_nothing_names_no_side(pair, tmp_path):
    packing = Packing.of(SHAPE, place(tmp_path, np.eye(4), code=0))
    packed = pack_shared(pair, packing)
    assert packed["sides"] is None
    found = unpacked(packed["fixed"], packed)[..., 0]  # in the order of the file
    assert found[1, 2, 3] == pytest.approx(pair.fixed[2:4, 4:6, 6:8].mean(), abs=20)


def test_volume_changes_and_folds(pair, tmp_path):
    disp_vox = np.zeros((*SHAPE, 3), np.float32)
    disp_vox[..., 1] = 0.5 * np.arange(SHAPE[1])[None, :, None]  # y -> 1.5 y
    disp_vox[10:14, :, :, 2] = -2 * np.arange(SHAPE[2])  # z -> -z
    brain = np.full(SHAPE, 100, np.float32)
    packing = Packing.of(SHAPE, place(tmp_path, np.eye(4)))
    packed = pack_shared(pair, packing)
    row = pack_row(RegisteredPair(brain, brain, brain, disp_vox), packing)
    assert row["warped_labels"] is None
    grey = unpacked(row["jacobian"], packed)[..., 0]
    assert grey[2, 5, 5] == pytest.approx(128 + 127 * np.log(1.5), abs=10)
    folds = labels_of(row["folds"], packed)
    assert folds[5:7, 1:-1, 1:-1].all()
    assert not folds[:4].any()
    assert not folds[8:].any()


def test_a_page_of_thirty_pairs_stays_small(tmp_path):
    """By one pair of brain-like data, made at 2 mm, which fills as much of the page as a full-size pair of 1 mm."""
    spec = PhantomSpec(shape=(80, 112, 96))
    (fixed, fixed_labels), (moving, moving_labels) = (make_subject(spec, Subject(number)) for number in (3454, 3455))
    disp_vox = np.moveaxis(deformation(spec, np.random.default_rng(0)), 0, -1)
    images = (fixed.astype(np.float32), moving.astype(np.float32), moving.astype(np.float32))
    pair = RegisteredPair(*images, disp_vox, fixed_labels.astype(np.int32), moving_labels.astype(np.int32))
    packing = Packing.of(spec.shape, place(tmp_path, np.diag([2.0, 2.0, 2.0, 1.0])))
    assert packing.strides == (1, 1, 1)
    viewer = json.dumps(pack_shared(pair, packing) | pack_row(pair, packing))
    stills = [as_data_uri(as_webp(plane_stack(pair, panel, 2 * 1.25)), "webp") for panel in PANELS]
    assert len(viewer) > 100_000
    assert 30 * (len(viewer) + sum(map(len, stills))) < 14_500_000


@pytest.fixture
def without_images(ground_truth):
    """Label maps and landmarks only, and metrics that need no image."""
    shutil.rmtree(ground_truth / "imagesVal")
    for path in ground_truth.glob("*_evaluation_config.json"):
        config = json.loads(path.read_text())
        config["evaluation_methods"] = [each for each in config["evaluation_methods"] if each["metric"] != "ndv"]
        path.write_text(json.dumps(config))
    return ground_truth


def test_a_pair_without_images_shows_its_label_maps(without_images, fields):
    result = evaluate(without_images, fields)
    shown = show_pair(result.scored[1][0], {"mine": result})
    assert "no images of this pair" in " ".join(shown.remarks)
    fixed, labels = (
        unpacked(shown.volumes["fixed"], shown.volumes),
        labels_of(shown.volumes["fixed_labels"], shown.volumes),
    )
    assert np.corrcoef(fixed[..., 0].ravel(), (labels > 0).ravel())[0, 1] > 0.5


def test_a_pair_without_labels(ground_truth, fields):
    for path in ground_truth.glob("*_evaluation_config.json"):
        config = json.loads(path.read_text())
        config["evaluation_methods"] = [each for each in config["evaluation_methods"] if each["metric"] == "ndv"]
        path.write_text(json.dumps(config))
    result = evaluate(ground_truth, fields)
    shown = show_pair(result.scored[0][0], {"mine": result})
    assert shown.volumes["fixed_labels"] is None
    assert shown.remarks == []


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
STEPS = """
const found = {}, root = document.querySelector(".viewer"), wait = () => new Promise((done) => setTimeout(done, 300));
const set = (name, value) => {
  const input = root.querySelector(`[data-control=${name}]`);
  if (input.type === "checkbox") input.checked = value; else input.value = value;
  input.dispatchEvent(new Event(input.tagName === "SELECT" ? "change" : "input"));
  input.dispatchEvent(new Event("input"));
};
const [sagittal, coronal, axial] = root.querySelectorAll("canvas");
const slices = () => [...root.querySelectorAll("figure input")].map((input) => Number(input.value));
const picture = (canvas, [columns, rows]) => {
  const context = canvas.getContext("2d"), x = canvas.width / columns, y = canvas.height / rows;
  return [...Array(rows).keys()].map((row) => [...Array(columns).keys()].map(
    (column) => context.getImageData((column + 0.5) * x, (row + 0.5) * y, 1, 1).data[0]));
};
const press = (key) => axial.dispatchEvent(new KeyboardEvent("keydown", { key }));
(async () => {
  while (root.hidden) await wait();
  found.stills = document.querySelector(".stills").open;
  set("borders", false);
  for (const how of ["wipe", "fade"]) for (const share of [0, 100]) {
    set("how", how); set("share", share); await wait();
    found[`${how} ${share}`] = picture(axial, AXIAL);
  }
  set("share", 0); await wait();
  found.sagittal = picture(sagittal, SAGITTAL); found.coronal = picture(coronal, CORONAL);
  set("other", "moving"); await wait(); set("share", 100); await wait();
  found.moving = picture(axial, AXIAL);
  found.start = slices();
  press("ArrowUp"); press("ArrowUp"); press("ArrowDown"); await wait();
  found.pressed = slices();
  axial.focus();
  axial.dispatchEvent(new WheelEvent("wheel", { deltaY: 100, cancelable: true })); await wait();
  found.wheeled = slices();
  const box = axial.getBoundingClientRect();
  axial.dispatchEvent(new PointerEvent("pointerdown", { clientX: box.left + 1, clientY: box.top + 1 })); await wait();
  found.clicked = slices();
  found.aspect = [axial.clientWidth, axial.clientHeight];
  const text = document.createElement("pre");
  text.id = "found"; text.textContent = JSON.stringify(found); document.body.append(text);
})();
"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium to draw the page")
def test_what_a_browser_draws(ground_truth, fields, tmp_path):
    for path in (ground_truth / "imagesVal").iterdir():  # columns that run from right to left, voxels of 2 x 2 x 4 mm
        image = nib.load(path)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), np.diag([-2.0, 2.0, 4.0, 1.0])), path)
    result = evaluate(ground_truth, fields)
    write_report(tmp_path / "report.html", {"mine": result}, {"mine": RowCard(name="mine")}, 0, ["3455"])
    page = (tmp_path / "report.html").read_text()
    packed = json.loads(re.search(r'<script type="application/json">(.*?)</script>', page)[1])
    x, y, z = packed["size"]
    sizes = {"SAGITTAL": [y, z], "CORONAL": [x, z], "AXIAL": [x, y]}
    steps = "".join(f"const {name} = {size};" for name, size in sizes.items()) + STEPS
    at_once = "window.requestAnimationFrame = (draw) => setTimeout(draw);"  # there are no frames where nothing is shown
    page = page.replace("<body>", f"<body><script>{at_once}</script>")
    (tmp_path / "driven.html").write_text(page.replace("</body>", f"<script>{steps}</script></body>"))
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=30000", "--dump-dom")
    command = [BROWSER, *options, f"--user-data-dir={tmp_path / 'profile'}", (tmp_path / "driven.html").as_uri()]
    drawn = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
    found = json.loads(re.search(r'<pre id="found">(.*?)</pre>', drawn)[1])

    volumes = {"fixed": packed["fixed"], "warped": packed["rows"][0]["warped"], "moving": packed["moving"]}
    volumes = {name: unpacked(uri, packed)[..., 0] for name, uri in volumes.items()}
    (i, j, k), fixed = packed["start"], volumes["fixed"]
    left_right = np.asarray(nib.load(ground_truth / "imagesVal" / "LUMIRMRI_3455_0000.nii.gz").dataobj)[::-1]
    np.testing.assert_allclose(fixed, left_right, atol=60)  # its left is left; the rest is what WebP makes of it

    def same(drawn, plane, across, up):
        """Compare a picture, from its top, with a plane (across, up), but for the lines through the chosen point."""
        drawn, expected = np.array(drawn), plane.T[::-1]
        keep = np.ix_(np.arange(plane.shape[1])[::-1] != up, np.arange(plane.shape[0]) != across)
        np.testing.assert_allclose(drawn[keep], expected[keep], atol=12)  # a pixel beside the centre

    assert not found["stills"]
    for how in ("wipe", "fade"):
        same(found[f"{how} 0"], fixed[:, :, k], i, j)
        same(found[f"{how} 100"], volumes["warped"][:, :, k], i, j)
    same(found["moving"], volumes["moving"][:, :, k], i, j)
    same(found["sagittal"], fixed[i], j, k)
    same(found["coronal"], fixed[:, j], i, k)
    assert found["start"] == found["wheeled"] == [i, j, k]
    assert found["pressed"] == [i, j, k + 1]
    assert found["clicked"] == [0, y - 1, k]
    assert found["aspect"][0] / found["aspect"][1] == pytest.approx(x / y, rel=0.02)

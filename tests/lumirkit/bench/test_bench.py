"""`lumirkit bench`: real processes at tiny sizes, the report they end in, and what is refused."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from lumirkit.base.errors import RequestError
from lumirkit.bench import run as runs
from lumirkit.bench import sources
from lumirkit.bench.accuracy import measure_accuracy
from lumirkit.bench.child import check_reference_in_child, measure_in_child
from lumirkit.bench.floor import Floor, measure_floor
from lumirkit.bench.kinds import IO_KINDS, SOURCE_KINDS, Kind
from lumirkit.bench.machine import Machine
from lumirkit.bench.measure import measure
from lumirkit.bench.options import Options, parse_size
from lumirkit.bench.report import Report, Row
from lumirkit.bench.run import run_bench
from lumirkit.bench.work import BenchError, Measurement, Spread, Work
from lumirkit.registration.sitreg import SITRegConfig
from lumirkit.registration.voxelmorph import VoxelMorphConfig

RECIPE = """
name: tiny
network: {input_transform: mind, feature_channels: [4, 8], update_channels: [4, 8]}
stages: [{epochs: 1, items_per_epoch: 1, learning_rate: 1.0e-4}]
"""
CONFIG = "src/scripts/configs/sitreg/lumir/cc_grad_1.0_very_deep_heavy_group_consistency_ndv.json"
CHECKOUT = os.environ.get("LUMIRKIT_SITREG")


def convolution_flop(size=16, features=(4, 8), updates=(4, 8), channels=6):
    """Two operations a weight and output voxel, for both images; an update's first layer serves both at once.

    In float32 it does its work twice here, as a small volume alone has to be convolved as a batch of two.
    """
    (f0, f1), (u0, u1) = features, updates
    fine, coarse = size**3, (size // 2) ** 3
    extractor = fine * (channels * f0 + 27 * 2 * f0 * f0) + coarse * (2 * 8 * f0 * f1 + 27 * 2 * f1 * f1)
    updating = fine * (27 * (2 * f0 * u0 + u0 * u0) + 3 * u0) + coarse * (27 * (2 * f1 * u1 + u1 * u1) + 3 * u1)
    return 2 * 2 * (extractor + updating)


def finest_features_flop(size=16, features=4, channels=6):
    """What each of several members does twice: the first block of its extractor."""
    return 2 * 2 * size**3 * (channels * features + 27 * 2 * features * features)


def write_checkout(root: Path, interface: str) -> Path:
    (root / CONFIG).parent.mkdir(parents=True)
    (root / CONFIG).write_text('{"application": {"config": {"model": {}}}}')
    for package in ("application", "application/sitreg"):
        (root / "src" / package).mkdir()
        (root / "src" / package / "__init__.py").write_text("")
    (root / "src/application/interface.py").write_text("TrainingDefinitionArgs = dict\n")
    (root / "src/application/sitreg/interface.py").write_text(interface)
    return root


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def measured(recipe, tmp_path_factory):
    """One run in processes of its own, beside public code that fails; gives its folder and its error."""
    root = tmp_path_factory.mktemp("bench")
    broken = "def create_training_definition(config, arguments):\n    raise KeyError('broken | here')\n"
    checkout = write_checkout(root / "checkout", broken)
    options = Options(network=str(recipe), repeats=2, threads=1, plain=True, reference=checkout)
    with pytest.raises(BenchError) as error:
        run_bench({Kind.FORWARD: [(16, 16, 16)]}, options, root / "out")
    return root / "out", str(error.value)


@pytest.fixture(scope="module")
def floor():
    return measure_floor(torch.device("cpu"))


@pytest.fixture
def in_this_process(floor, monkeypatch):
    """Let works be measured in this process, which has its imports, where processes of their own are not the point."""
    monkeypatch.setattr(runs, "measure_in_child", lambda work, threads: measure(work))
    monkeypatch.setattr(runs, "floor_in_child", lambda device, threads: floor)


@pytest.fixture
def run(recipe, lumirkit, monkeypatch, tmp_path):
    """Run the command on a tiny network."""
    monkeypatch.setenv("COLUMNS", "200")
    options = ("--network", recipe, "--repeats", 1, "--threads", 1, "--out", tmp_path / "out")
    return lambda work, *arguments: lumirkit("bench", work, *options, *arguments)


def rows_of(folder):
    return json.loads((folder / "bench.json").read_text(encoding="utf-8"))["rows"]


def check_numbers(row):
    found = row["measurement"]
    for spread in (found["seconds"], *found["parts"].values()):
        assert 0 < spread["min"] <= spread["median"] <= spread["max"]
    assert 0 < found["work_memory_gb"] < found["peak_memory_gb"] < 100
    assert row["floor_s"] > 0


def check_forward(rows, expected_flop):
    for row in rows:
        check_numbers(row)
        assert row["measurement"]["convolution_flop"] == expected_flop
        assert row["work"]["plain_torch"] == ("plain torch" in row["what"])
        assert 0.001 < row["measurement"]["mean_displacement_vox"] < 10


def test_forward(measured):
    *ours, _ = rows_of(measured[0])
    assert [row["what"] for row in ours] == ["tiny, float32", "tiny, float32, plain torch"]
    check_forward(ours, convolution_flop())


def test_ensemble(run, in_this_process, tmp_path):
    assert run("ensemble", "--size", "16x16x16", "--members", 3, "--plain").returncode == 0
    rows = rows_of(tmp_path / "out")
    assert [row["what"] for row in rows] == ["3 members, float32", "3 members, float32, plain torch"]
    check_forward(rows, 3 * (convolution_flop() + finest_features_flop()))


def test_the_markdown_holds_every_row(measured):
    text = (measured[0] / "bench.md").read_text(encoding="utf-8")
    rows = rows_of(measured[0])
    assert len(rows) == 3
    for row in rows:
        assert f"| {row['what']} | 16 x 16 x 16 | " in text
    assert "1 threads; 2 repeats" in text


def test_a_work_that_fails_costs_its_own_row(measured):
    theirs = rows_of(measured[0])[-1]
    assert theirs["measurement"] is None
    assert "KeyError: 'broken | here'" in theirs["error"]
    assert theirs["error"] in measured[1]
    text = (measured[0] / "bench.md").read_text(encoding="utf-8")
    assert "| public SITReg code | 16 x 16 x 16 | failed: KeyError: 'broken / here' | - |" in text


def test_a_training_step(run, in_this_process, tmp_path):
    ended = run("step", "--size", "16x16x16")
    assert ended.returncode == 0
    assert "tiny, float32" in ended.stdout
    row, recomputed = rows_of(tmp_path / "out")
    check_numbers(row)
    check_numbers(recomputed)
    assert recomputed["measurement"]["saved_gb"] < 0.5 * row["measurement"]["saved_gb"]
    found = row["measurement"]
    parts = sum(found["parts"][name]["median"] for name in ("forward", "backward", "optimizer"))
    assert parts == pytest.approx(found["seconds"]["median"])
    assert found["saved_gb"] > 50 * 16**3 * 4 / 1e9  # some fields and features of the size of an image
    # Backward does forward's work twice, but for the gradient of the images.
    stem = 2 * 2 * 16**3 * 6 * 4
    assert found["convolution_flop"] == 3 * convolution_flop() - stem


def test_a_triplet_in_both_number_formats(run, in_this_process, tmp_path):
    formats = ("--convolutions", "float32", "--convolutions", "bfloat16")
    assert run("triplet", "--size", "16x16x16", *formats).returncode == 0
    rows = rows_of(tmp_path / "out")
    assert [row["what"] for row in rows[::2]] == ["tiny, float32", "tiny, bfloat16"]
    stem = 2 * 2 * 16**3 * 6 * 4
    for row in rows:
        check_numbers(row)
    # Every pair once without history, then as in a training step.
    assert rows[0]["measurement"]["convolution_flop"] == 3 * (4 * convolution_flop() - stem)


def test_the_pairs_that_are_trained_on_beside_a_step(run, in_this_process, tmp_path):
    ended = run("sources", "--size", "20x24x16")
    assert ended.returncode == 0
    step, _, *pairs = rows_of(tmp_path / "out")
    assert [row["what"] for row in pairs] == ["pair of noise", "pair of primitives", "pair of one image"]
    for row in pairs:
        seconds = row["measurement"]["seconds"]
        assert 0 < seconds["min"] <= seconds["median"] <= seconds["max"]
        assert row["step_s"] == step["measurement"]["seconds"]["median"]
        assert row["what"] in ended.stdout
    text = (tmp_path / "out/bench.md").read_text(encoding="utf-8")
    assert "| what | size | median (min to max) s | % of a step |" in text


def test_the_share_of_a_step_in_the_report():
    """A pair that takes 0.5 s beside a step of 4 s."""
    work = Work(kind=Kind.ONE_IMAGE_PAIR, shape=(16, 17, 18), network=SITRegConfig())
    found = Measurement(seconds=Spread.from_values([0.5]), peak_memory_gb=1, work_memory_gb=0.5)
    row = Row(what="pair of one image", work=work, measurement=found, step_s=4.0)
    assert row.percent_of_a_step == 12.5


@pytest.mark.parametrize("kind", SOURCE_KINDS)
def test_sources_make_pairs_on_the_networks_grid(kind, monkeypatch):
    pairs = []
    for name in ("generate_pair", "pair_from_image"):
        make = getattr(sources, name)
        monkeypatch.setattr(sources, name, lambda *given, make=make: pairs.append(make(*given)))
    call = sources.source_call(Work(kind=kind, shape=(20, 24, 17), network=SITRegConfig(resolution_vox=2)))
    call()
    call()
    assert [pair.fixed.shape for pair in pairs] == [(1, 1, 10, 12, 9)] * 2
    assert not torch.equal(pairs[0].disp_vox, pairs[1].disp_vox)


@pytest.mark.parametrize("kind", [Kind.FORWARD, Kind.ENSEMBLE, Kind.STEP, Kind.TRIPLET])
def test_a_unet_at_work(kind):
    """One network of two levels, asked in both orders of the images; backward as much as forward for either factor."""
    channels = {"encoder_channels": (4, 6), "decoder_channels": (8, 6), "head_channels": (5,)}
    network = VoxelMorphConfig(input_transform="intensity", **channels)
    found = measure(Work(kind=kind, shape=(16, 16, 16), network=network, members=2, repeats=1))
    by_level = {16: 2 * 4 + (6 + 4) * 5 + 5 * 3, 8: 4 * 6 + (8 + 6) * 6, 4: 6 * 8}
    forward = 2 * 2 * 27 * sum(size**3 * products for size, products in by_level.items())
    first = 2 * 2 * 27 * 16**3 * 2 * 4  # of no use to images
    step = 3 * forward - first
    expected = {Kind.FORWARD: forward, Kind.ENSEMBLE: 2 * forward, Kind.STEP: step, Kind.TRIPLET: 3 * (forward + step)}
    assert found.convolution_flop == expected[kind]
    assert 0 < found.seconds.median < 60


def test_accuracy(make_weights, phantom_root, tmp_path):
    fixed, moving = sorted((phantom_root / "imagesVal").iterdir())[:2]
    out = tmp_path / "accuracy.json"
    rows = measure_accuracy([make_weights(0)], fixed, moving, out)
    assert json.loads(out.read_text()) == [row.model_dump() for row in rows]
    plain, kernels, bfloat16 = rows
    assert plain.max_vox < 0.01
    assert kernels.max_vox < 1e-3
    assert kernels.mean_vox < 1e-4
    assert kernels.mean_vox < bfloat16.mean_vox < 0.1
    assert max(row.swap_vox for row in rows) < 1e-5
    assert max(row.inverse_mean_vox for row in rows) < 0.05


@pytest.mark.parametrize("kind", IO_KINDS)
def test_reading_and_writing(kind):
    found = measure(Work(kind=kind, shape=(16, 18, 20), network=SITRegConfig(), repeats=3))
    assert 0 < found.seconds.min <= found.seconds.median <= found.seconds.max
    assert found.raw_s is not None
    assert found.raw_s.median > 0


def test_memory_is_that_of_the_work_alone():
    """This process takes half a GB more; the one that it starts does not begin with that mark."""
    work = Work(kind=Kind.READ_NII, shape=(16, 16, 16), network=SITRegConfig(), repeats=1)
    before = measure_in_child(work, threads=1).peak_memory_gb  # most of it torch, whose builds differ by 0.3 GB
    held = np.ones(500_000_000, dtype=np.uint8)
    assert measure_in_child(work, threads=1).peak_memory_gb < before + 0.1
    assert held[-1] == 1


def test_a_missing_reference_is_named(run, tmp_path):
    ended = run("forward", "--reference", tmp_path / "nowhere")
    assert ended.returncode == 2
    assert f"{tmp_path / 'nowhere'}: found no src/scripts" in ended.stderr
    assert not (tmp_path / "out").exists()


def test_a_package_that_the_reference_lacks_is_named(tmp_path):
    checkout = write_checkout(tmp_path / "checkout", "import no_such_package_at_all\n")
    with pytest.raises(RequestError, match="No module named 'no_such_package_at_all'"):
        check_reference_in_child(checkout)


@pytest.mark.skipif(CHECKOUT is None, reason="LUMIRKIT_SITREG names no checkout of the public SITReg code")
@pytest.mark.parametrize("work", ["forward", "step"])
def test_the_public_code_beside_ours(work, run, tmp_path):
    size = "64x80x72"  # smaller volumes go through oneDNN in pairs, which count twice
    assert run(work, "--size", size, "--network", "lumir25", "--reference", CHECKOUT).returncode == 0
    ours, *_, theirs = rows_of(tmp_path / "out")
    check_numbers(theirs)
    assert ours["reference_s"] == theirs["measurement"]["seconds"]["median"]
    flop = [row["measurement"]["convolution_flop"] for row in (ours, theirs)]
    assert 0.75 * flop[1] < flop[0] < 0.9 * flop[1]  # the same network; ours needs less for the updates' first layers


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "16x16"], "--size 16x16: expected voxels along three axes"),
        (["--size", "16x4x16"], "at least 8 voxels"),
        (["--network", "no-such-recipe"], "no such recipe"),
    ],
)
def test_wrong_requests_start_nothing(run, tmp_path, arguments, message):
    ended = run("forward", *arguments)
    assert ended.returncode == 2
    assert message in ended.stderr
    assert not (tmp_path / "out").exists()


def test_sizes():
    assert parse_size("160x224X192") == (160, 224, 192)


def test_floor_and_ratio_in_the_report():
    """Ours takes 2 s, the floor is 0.5 s, the public code takes 7 s."""
    work = Work(kind=Kind.FORWARD, shape=(16, 17, 18), network=SITRegConfig())
    rates = {"float32": 200.0, "bfloat16": 800.0}
    floor = Floor(matrix_gflops=rates, convolution_gflops={"float32": 500.0, "bfloat16": 700.0}, copy_gb_per_s=64.28)
    assert floor.seconds(250e9, "float32") == 0.5
    assert floor.seconds(400e9, "bfloat16") == 0.5
    spread = Spread.from_values([2.0, 1.0, 12.345])
    found = Measurement(seconds=spread, peak_memory_gb=1230, work_memory_gb=0.01234, mean_displacement_vox=0.61234)
    row = Row(what="ours", work=work, measurement=found, floor_s=0.5, reference_s=7.0)
    machine = Machine(name="computer", device="cpu", torch="2", threads=1, date="today", load=0)
    text = Report(machine=machine, floor=floor, repeats=3, rows=[row]).to_markdown()
    expected = "| ours | 16 x 17 x 18 | 2.00 (1.00 to 12.3) | 0.612 | 1230 (0.0123) | 0.500 | 4.00 | 7.00 | 3.50 |"
    assert expected in text
    assert "computer; device cpu" in text
    assert "Copying: 64.3 GB/s" in text

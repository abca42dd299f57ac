"""The pages: self-contained, complete, with what was asked in them; looked at in a browser by hand."""

import json
import re
from base64 import b64decode
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from lumirkit.base.training_log import TrainingLogError
from lumirkit.eval.cases import EvaluationError
from lumirkit.eval.leaderboard import evaluate
from lumirkit.eval.pictures import PANELS, RegisteredPair, plane_stack
from lumirkit.eval.report.charts import structure_charts
from lumirkit.eval.report.pairs import named, worst_first
from lumirkit.eval.report.scores import write_report
from lumirkit.eval.report.training import write_training_report
from lumirkit.eval.scoring import CaseResult
from lumirkit.eval.tables.rows import RowCard


class Page(HTMLParser):
    """Collects what a page links to, its pictures and its text, and checks that tags are closed in order."""

    VOID = frozenset(("meta", "img", "br", "input"))

    def __init__(self, path):
        super().__init__()
        self.open, self.links, self.images, self.tags, self.words = [], [], [], [], []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append(tag)
        self.links += [found[name] for name in ("src", "href", "xlink:href", "srcset", "action") if found.get(name)]
        if tag == "img":
            self.images.append(found)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def results(ground_truth, fields):
    return {"mine": evaluate(ground_truth, fields), "zero field": evaluate(ground_truth, None)}


@pytest.fixture
def page(results, tmp_path):
    """The page of one pair of each split, with two rows."""
    write_report(tmp_path / "report.html", results, CARDS, pairs_per_split=1)
    return Page(tmp_path / "report.html")


def replace_pair(pair, number):
    return pair.model_copy(update={"moving": f"./imagesVal/LUMIRMRI_{number:04d}_0000.nii.gz"})


CARDS = {"mine": RowCard(name="mine"), "zero field": RowCard(name="zero field", is_reference=True)}


def test_one_file_without_links_that_shows_its_pictures_without_scripts(page):
    assert all(link.startswith(("data:image/", "#")) for link in page.links)
    assert "://" not in re.sub("<svg.*?</svg>", "", page.source, flags=re.DOTALL)  # charts name vocabularies so
    assert not re.search(r"@import|url\(\s*['\"]?http|\bfetch\(|XMLHttpRequest|\bimport\b", page.source)
    assert "default-src 'none'" in page.source
    assert "prefers-color-scheme: dark" in page.source
    assert 'name="viewport"' in page.source
    assert "#010203" not in page.source  # ink became the page's own
    # what a browser without scripts shows: the still pictures are open, the viewers hidden
    assert page.source.count('<details class="stills" open>') == page.source.count('<div class="viewer" hidden>') == 4


def test_what_a_report_holds(page):
    for name in ("3485_0000<--3484_0000", "3455_0000<--3454_0000", "4015_0000<--4014_0000", "4024_0000<--4033_0001"):
        assert name in page.text
    assert "Left Accumbens Area" in page.source or "3rd Ventricle (4)" in page.source
    # four pairs: two pictures that the rows share, and six of each row
    assert len(page.images) == 4 * (2 + 2 * 6)
    assert all(image["alt"] for image in page.images)
    for image in page.images[:8]:
        picture = Image.open(BytesIO(b64decode(image["src"].split(",")[1])))
        assert picture.format == "WEBP"
        assert picture.size == (17, 40)  # of 14 x 32 voxels: planes of 12 x 10, 14 x 10 and 14 x 12


def test_rows_to_compare_are_compared_by_chance(results, tmp_path):
    write_report(tmp_path / "one.html", results, CARDS, pairs_per_split=0)
    assert "What chance" not in Page(tmp_path / "one.html").text
    cards = CARDS | {"zero field": RowCard(name="zero field")}
    write_report(tmp_path / "two.html", results, cards, pairs_per_split=0)
    assert "zero field : mine" in Page(tmp_path / "two.html").text


def test_the_worst_case_comes_first(results):
    result = results["mine"]
    chosen = worst_first(result, 9)
    assert [str(case.split) for case in chosen] == ["in-domain landmarks", "in-domain", "out-of-domain", "multi-modal"]
    case = result.scored[1][0]
    dice = {"good": 0.99, "lost": float("nan"), "bad": 0.1, "fair": 0.5}
    cases = {name: replace(case, pair=replace_pair(case.pair, number)) for number, name in enumerate(dice)}
    several = replace(
        result, scored=[(cases[name], CaseResult(measures={"DSC/dice": value})) for name, value in dice.items()]
    )
    assert worst_first(several, 3) == [cases["lost"], cases["bad"], cases["fair"]]


def test_pairs_by_name(results):
    assert [case.name for case in named(results["mine"], ["4024", "345"])] == [
        "4024_0000<--4033_0001",
        "3455_0000<--3454_0000",
    ]
    with pytest.raises(EvaluationError, match="pair 9999: no case is called so; there are 3485_0000<--3484_0000"):
        named(results["mine"], ["9999"])


def test_a_report_over_failures_is_refused(ground_truth, fields, tmp_path):
    field = next(fields.glob("*.nii.gz"))
    field.write_bytes(b"")
    result = evaluate(ground_truth, fields)
    with pytest.raises(EvaluationError, match="mine: cases could not be scored"):
        write_report(tmp_path / "report.html", {"mine": result}, CARDS, pairs_per_split=1)
    assert not (tmp_path / "report.html").exists()


def test_structures_are_sorted_by_dice(results):
    svg = str(structure_charts(results)["in-domain"])
    names = re.findall(r">([^<>]+ \(\d+\))</text>", svg)
    labels = [int(re.search(r"\((\d+)\)", name)[1]) for name in names]
    rows = next(measured.labels for case, measured in results["mine"].scored if case.split == "in-domain")
    dice = [rows[label]["DSC/dice"] for label in labels]
    assert len(labels) == 4
    assert dice == sorted(dice, reverse=True)


SHAPE = (20, 24, 28)


def brain_pair(**changes):
    image = np.zeros(SHAPE, np.float32)
    image[5:15, 6:18, 7:21] = 200
    given = {"fixed": image, "moving": image, "warped": image, "disp_vox": np.zeros((*SHAPE, 3), np.float32)}
    return RegisteredPair(**given | changes)


@pytest.mark.parametrize("name", PANELS)
def test_a_stack_is_as_large_as_its_planes(name):
    assert plane_stack(brain_pair(), name, 2.0).shape == (2 * (28 + 28 + 24), 2 * 24, 3)


def test_label_borders_are_where_labels_meet():
    labels = np.zeros(SHAPE, np.int32)
    labels[10:] = 1
    shifted = np.roll(labels, 2, axis=0)
    shifted[:2] = 0
    axial = plane_stack(brain_pair(fixed_labels=labels, warped_labels=shifted), "labels", 1.0)[-24:]
    orange, cyan = ((abs(axial - np.array(color)) < 2).all(axis=-1) for color in ((255, 191, 0), (26, 217, 255)))
    assert np.flatnonzero(orange.all(axis=0)).tolist() == [2 + 9]  # 2: the plane is narrower than the stack
    assert np.flatnonzero(cyan.all(axis=0)).tolist() == [2 + 11]


def test_a_checkerboard_shows_both_images():
    other = np.full((60, 60, 60), 255, np.float32)
    fixed = np.zeros((60, 60, 60), np.float32)
    board = plane_stack(RegisteredPair(fixed, other, other, np.zeros((60, 60, 60, 3), np.float32)), "checkerboard", 1.0)
    bottom_left = board[60 - 1 - 5, 5]
    assert (bottom_left.tolist(), board[60 - 1 - 5, 30].tolist()) == ([0, 0, 0], [255, 255, 255])


def test_planes_go_through_the_middle_of_the_brain():
    image = np.zeros(SHAPE, np.float32)
    image[2:5, 10:13, 20:25] = 1
    assert brain_pair(fixed=image).middle == (3, 11, 22)
    assert brain_pair(fixed=np.zeros(SHAPE, np.float32)).middle == (10, 12, 14)


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "runs" / "seed0"
    (folder / "pictures").mkdir(parents=True)
    steps = [
        {"stage": int(step > 600), "step": step, "epoch": 0, "loss": 1 / step, "learning_rate": 1e-3, "seconds": 0.5,
         "waited_seconds": 0.1, "samples_per_second": 2.0, "memory_gb": 3.0 + step / 1e3}
        | ({"cycle": 0.1} if step > 600 else {})
        for step in range(1, 1001)
    ]  # fmt: skip
    lines = [json.dumps(entry) + "\n" for entry in steps]
    (folder / "log.jsonl").write_text("".join(lines) + '{"stage": 1, "st')  # killed while it wrote
    validation = [{"stage": 0, "step": 500, "score": 0.5, "in-domain/dice": 0.5, "multi-modal/dice": 0.4}]
    (folder / "validation.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in validation))
    for step in (500, 1000):
        Image.new("RGB", (4, 4)).save(folder / "pictures" / f"step_{step:08d}_in-domain.png")
    (folder / "recipe.yaml").write_text("name: mine\n")
    (folder / "provenance.json").write_text('{"data": "LUMIR", "commit": "abc"}')
    return folder


def test_the_report_of_a_run(run, tmp_path):
    write_training_report(run, tmp_path / "training.html")
    page = Page(tmp_path / "training.html")
    for heading in ("Losses", "Validation", "Machine", "Latest pictures", "Recipe"):
        assert heading in page.text
    for said in ("1000", "0.17 h", "4.0 GB", "LUMIR", "name: mine"):
        assert said in page.text
    charts = re.findall(r'aria-label="([^"]+)"', page.source)
    assert [chart.split(" over steps")[0] for chart in charts] == [
        "loss", "cycle", "score", "dice", "learning rate", "samples a second", "memory in GB (1e9 bytes)",
        "seconds a step", "seconds waited for data",
    ]  # fmt: skip
    assert [image["alt"] for image in page.images] == ["step 00001000 in-domain"]
    assert len(page.source) < 600_000  # curves are thinned


def test_a_run_without_validation_and_a_folder_without_a_run(run, tmp_path):
    (run / "validation.jsonl").unlink()
    write_training_report(run, tmp_path / "training.html")
    assert "Validation" not in Page(tmp_path / "training.html").text
    with pytest.raises(EvaluationError, match=r"log\.jsonl: found no steps"):
        write_training_report(tmp_path, tmp_path / "none.html")
    with pytest.raises(EvaluationError, match=r"log\.jsonl: no such folder"):
        write_training_report(tmp_path / "nowhere", tmp_path / "none.html")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"step one", "no JSON object"),
        (b"[1, 2]", "no JSON object"),
        (b'{"stage": 0, "step": 3, "loss": "low"}', "no number for loss"),
        (b'{"stage": 0, "loss": 0.5}', "no whole number for step"),
        (b'{"loss": 0.5}', "no whole number for stage and step"),
        (b'{"stage": 0, "step": 3, "\xff": 1}', "no JSON object"),
    ],
)
def test_a_damaged_log_is_named_with_its_line(line, says, run, tmp_path):
    log = run / "log.jsonl"
    first, second, *_ = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(first + b"\n" + second + line + b"\n")
    with pytest.raises(TrainingLogError, match=rf"log\.jsonl, line 4: found {says}; expected a JSON object"):
        write_training_report(run, tmp_path / "none.html")


def test_what_was_never_a_number_has_no_curve_and_one_step_is_a_run(run, tmp_path):
    (run / "log.jsonl").write_text('{"stage": 0, "step": 0, "loss": 0.5, "cycle": NaN, "folding": null}\n')
    (run / "validation.jsonl").write_text('{"step": 0, "score": 0.5, "in-domain/tre": null}\n')
    write_training_report(run, tmp_path / "training.html")
    charts = re.findall(r'aria-label="([^"]+)"', Page(tmp_path / "training.html").source)
    assert [chart.split(" over steps")[0] for chart in charts] == ["loss", "score"]


def test_a_damaged_origin_is_named(run, tmp_path):
    (run / "provenance.json").write_text('{"data": "LU')
    with pytest.raises(EvaluationError, match=r"provenance\.json: found no JSON object"):
        write_training_report(run, tmp_path / "none.html")

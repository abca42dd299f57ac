"""Which subjects a folder, a BIDS tree or a table holds."""

import pytest

from lumirkit.base.errors import RequestError, VolumeError
from lumirkit.data_manifests.split import Part
from lumirkit.prepare.find_subjects import find_subjects
from lumirkit.prepare.sources import Contrast
from lumirkit.prepare.subject import Job, Settings, prepared


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def told(found):
    return {each.name: [(scan.contrast, scan.image.name) for scan in each.scans] for each in found.subjects}


def test_names_of_a_folder_tell_subject_and_contrast(tmp_path):
    touch(tmp_path, "anna_T1w.nii.gz", "anna_FLAIR.nii.gz", "IXI206-HH_T1.nii.gz", "plain.mgz", "notes.txt", ".x.nii")
    assert told(find_subjects(tmp_path)) == {
        "IXI206-HH": [(Contrast.T1W, "IXI206-HH_T1.nii.gz")],
        "anna": [(Contrast.FLAIR, "anna_FLAIR.nii.gz"), (Contrast.T1W, "anna_T1w.nii.gz")],
        "plain": [(Contrast.T1W, "plain.mgz")],
    }


def test_what_belongs_to_an_image_is_named_after_it(tmp_path):
    touch(tmp_path, *(f"a_T1w{ending}" for ending in (".nii.gz", "_mask.nii.gz", "_dseg.nii", "_landmarks.csv")))
    touch(tmp_path, "a_T1w_probability.nii.gz")
    found = find_subjects(tmp_path)
    ((scan,),) = (each.scans for each in found.subjects)
    assert (scan.mask.name, scan.labels.name) == ("a_T1w_mask.nii.gz", "a_T1w_dseg.nii")
    assert scan.landmarks.name == "a_T1w_landmarks.csv"
    (sentence,) = found.left_out
    assert "a_T1w_probability.nii.gz: found beside a_T1w.nii.gz" in sentence


def test_label_maps_can_end_otherwise(tmp_path):
    touch(tmp_path, *(f"a_T1{ending}.nii.gz" for ending in ("", "_DLMUSE", "_labels")), "b_T1.nii", "b_T1_DLMUSE.nii")
    found = find_subjects(tmp_path, "_DLMUSE")
    assert [each.scans[0].labels.name for each in found.subjects] == ["a_T1_DLMUSE.nii.gz", "b_T1_DLMUSE.nii"]
    assert ["a_T1_labels.nii.gz: found beside a_T1.nii.gz" in sentence for sentence in found.left_out] == [True]
    with pytest.raises(RequestError, match=r"--labels-suffix _seg: found no such file"):
        find_subjects(tmp_path, "_seg")
    (tmp_path / "scans.csv").write_text("subject,contrast,image\na,T1w,a_T1.nii.gz\n")
    with pytest.raises(RequestError, match="found a table"):
        find_subjects(tmp_path / "scans.csv", "_DLMUSE")


def test_two_label_maps_of_an_image_are_one_too_many(tmp_path):
    touch(tmp_path, "a_T1w.nii.gz", "a_T1w_labels.nii.gz", "a_T1w_seg.nii.gz")
    (sentence,) = find_subjects(tmp_path).left_out
    assert "a_T1w_seg.nii.gz: found beside a_T1w_labels.nii.gz, which is the labels of a_T1w.nii.gz too" in sentence


def test_a_bids_tree_has_sessions_and_acquisitions(tmp_path):
    touch(tmp_path, "sub-1/anat/sub-1_acq-mprage_T1w.nii.gz", "sub-1/func/sub-1_task-rest_bold.nii.gz")
    touch(tmp_path, *(f"sub-2/ses-{n}/anat/sub-2_ses-{n}_run-1_T2w.nii.gz" for n in "ab"), "derivatives/x_T1w.nii.gz")
    assert told(find_subjects(tmp_path)) == {
        "sub-1": [(Contrast.T1W, "sub-1_acq-mprage_T1w.nii.gz")],
        "sub-2_ses-a": [(Contrast.T2W, "sub-2_ses-a_run-1_T2w.nii.gz")],
        "sub-2_ses-b": [(Contrast.T2W, "sub-2_ses-b_run-1_T2w.nii.gz")],
    }


def test_of_two_runs_the_first_is_taken_and_the_other_told(tmp_path):
    touch(tmp_path, *(f"sub-1/anat/sub-1_run-{n}_T1w.nii.gz" for n in (10, 2)))
    found = find_subjects(tmp_path)
    assert told(found) == {"sub-1": [(Contrast.T1W, "sub-1_run-2_T1w.nii.gz")]}
    (sentence,) = found.left_out
    assert "sub-1_run-10_T1w.nii.gz: found beside sub-1_run-2_T1w.nii.gz, an earlier run" in sentence


def test_two_acquisitions_of_a_subject_are_one_too_many(tmp_path):
    touch(tmp_path, *(f"sub-1/anat/sub-1_acq-{name}_T1w.nii.gz" for name in "ab"))
    ((subject),) = find_subjects(tmp_path).subjects
    with pytest.raises(VolumeError, match=r"sub-1: found 2 T1w images \(.*acq-a.*acq-b"):
        subject.require_one_of_each()


def test_what_else_lies_in_anat_is_no_scan(tmp_path):
    others = ("PDw", "T1map", "UNIT1", "inplaneT2", "part-phase_T1w", "T2starw")
    touch(tmp_path, *(f"sub-1/anat/sub-1_{ending}.nii.gz" for ending in ("part-mag_T1w", "T2w", *others)))
    touch(tmp_path, "sub-1/anat/head_T1w.nii.gz", "sub-2/dwi/sub-2_dwi.nii.gz")
    found = find_subjects(tmp_path)
    assert told(found) == {"sub-1": [(Contrast.T2W, "sub-1_T2w.nii.gz"), (Contrast.T1W, "sub-1_part-mag_T1w.nii.gz")]}
    unnamed, counted = found.left_out
    assert "head_T1w.nii.gz: found a name that is none of BIDS" in unnamed
    assert all(f"1 of {ending}" in counted for ending in others)


@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        ("", "1 1b 2"),
        ("sub-1/", "2"),
        ("# all\n\n*_T1w.nii.gz\n!sub-2_T1w.nii.gz", "2"),
        ("/sub-1/**", "2"),
        ("sub-1/ses-b/anat/*_T1w.nii.gz", "1 2"),
        ("**/sub-2_T1w.nii.gz", "1 1b"),
        ("anat/sub-2_T1w.nii.gz", "1 1b 2"),  # a slash within a pattern ties it to the tree's root
    ],
)
def test_bidsignore_takes_images_out_of_the_tree_as_gitignore_would(tmp_path, patterns, left):
    names = {"1": "sub-1/ses-a/anat/sub-1_ses-a", "1b": "sub-1/ses-b/anat/sub-1_ses-b", "2": "sub-2/anat/sub-2"}
    touch(tmp_path, *(f"{name}_T1w.nii.gz" for name in names.values()))
    (tmp_path / ".bidsignore").write_text(patterns)
    found = {scan.image for each in find_subjects(tmp_path).subjects for scan in each.scans}
    assert found == {tmp_path / f"{names[each]}_T1w.nii.gz" for each in left.split()}


def test_a_link_that_was_not_fetched_is_a_scan_whose_subject_fails(tmp_path):
    (tmp_path / "sub-1" / "anat").mkdir(parents=True)
    (tmp_path / "sub-1" / "anat" / "sub-1_T1w.nii.gz").symlink_to("../../.git/annex/objects/nothing")
    (subject,) = find_subjects(tmp_path).subjects
    with pytest.raises(VolumeError, match=r"found a link to .*nothing, which is not there.*datalad get"):
        prepared(Job(subject, 0, Part.TRAINING, Settings(tmp_path / "out")))


def test_a_table_says_it_all(tmp_path):
    table = tmp_path / "scans.csv"
    table.write_text(
        "subject,contrast,image,mask,part\nb,T1w,x/1.nii,,validation\na,T2w,2.nii,m.nii,\nb,FLAIR,3.mgz,,validation\n"
    )
    a, b = find_subjects(table).subjects
    assert (a.name, a.part, a.scans[0].mask) == ("a", None, tmp_path / "m.nii")
    assert (b.part, b.reference.image) == (Part.VALIDATION, tmp_path / "x" / "1.nii")
    assert [scan.contrast for scan in b.scans] == ["T1w", "FLAIR"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,image\n", "found the columns name, image; expected subject, contrast, image"),
        ("subject,contrast,image\na,PD,1.nii\n", "line 2: found the contrast 'PD'"),
        ("subject,contrast,image\na,T1w,\n", "line 2: found no subject or no image"),
        ("subject,contrast,image\na,T1w,1.nii,2\n", "line 2: found more fields"),
        ("subject,contrast,image,part\na,T1w,1.nii,test\n", "found the part 'test'"),
        ("subject,contrast,image,part\na,T1w,1.nii,training\na,T2w,2.nii,\n", "line 3: found a in two parts"),
        ("subject,contrast,image\n", "found no image"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_by_its_line(tmp_path, text, said):
    (tmp_path / "scans.csv").write_text(text)
    with pytest.raises(RequestError, match=said):
        find_subjects(tmp_path / "scans.csv")


def test_an_empty_folder_and_a_wrong_path_are_refused(tmp_path):
    with pytest.raises(RequestError, match=r"found no image; .* folders of DICOM"):
        find_subjects(tmp_path)
    with pytest.raises(RequestError, match="no such file or folder"):
        find_subjects(tmp_path / "nowhere")


def test_bare_names_of_contrasts_are_scans_of_one_subject(tmp_path):
    touch(tmp_path, "anna/T1w.nii.gz", "anna/flair.nii.gz", "anna/T1w_mask.nii.gz", "anna/otto_T1.nii")
    assert told(find_subjects(tmp_path / "anna")) == {
        "anna": [(Contrast.T1W, "T1w.nii.gz"), (Contrast.FLAIR, "flair.nii.gz")],
        "otto": [(Contrast.T1W, "otto_T1.nii")],
    }

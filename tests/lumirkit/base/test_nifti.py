"""What is said of NIfTI files whose names or headers are odd."""

import gzip
import logging

import nibabel as nib
import numpy as np
import pytest

from lumirkit.base.errors import VolumeError
from lumirkit.base.nifti import open_nifti, read_nifti


@pytest.fixture
def said():
    """What reaches the screen of what nibabel logs."""
    messages = []

    class Screen(logging.Handler):
        def emit(self, record):
            messages.append(record.getMessage())

    screen, logger = Screen(), logging.getLogger("nibabel.global")
    logger.addHandler(screen)
    yield messages
    logger.removeHandler(screen)


@pytest.fixture
def odd_bytes():
    """The bytes of a file with a negative spacing."""
    content = bytearray(nib.Nifti1Image(np.ones((4, 4, 4), np.uint8), np.eye(4)).to_bytes())
    content[80:84] = np.float32(-1).tobytes()  # pixdim[1]
    return bytes(content)


def test_what_nibabel_says_of_a_header_is_said_once_and_names_the_file(tmp_path, said, odd_bytes):
    path = tmp_path / "odd.nii"
    path.write_bytes(odd_bytes)
    open_nifti(path), open_nifti(path), read_nifti(path)
    assert len(said) == 1
    assert said[0].startswith(f"warning: {path}: pixdim[1,2,3] should be positive")
    nib.load(path)
    assert len(said) == 2  # what others read with nibabel is their affair
    assert "odd.nii" not in said[1]


def test_a_packed_file_with_the_name_of_an_unpacked_one_is_told_by_its_content(tmp_path, odd_bytes):
    path = tmp_path / "packed.nii"
    path.write_bytes(gzip.compress(odd_bytes))
    with pytest.raises(VolumeError, match=r"packed\.nii: found a gzip file; .* Call it packed\.nii\.gz"):
        open_nifti(path)


# Without the time of packing, as the name of a test has these bytes and must be one in every process.
PACKED_TWICE = gzip.compress(gzip.compress(b"words", mtime=0), mtime=0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"found an unpacked image; .* Call it a\.nii\."),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "a pointer of Git LFS .* `git lfs pull`"),
        (b"/annex/objects/MD5E-s1--00.nii.gz\n", "a pointer of git-annex .* `git annex get`"),
        (PACKED_TWICE, r"a\.nii\.gz: found a gzip file inside the gzip file; .* `gunzip -c"),
        (PACKED_TWICE[:15], "not a readable NIfTI image"),
        (b"words", "not a readable NIfTI image"),
    ],
)
def test_what_is_no_packed_image_is_called_what_it_is(tmp_path, odd_bytes, content, message):
    path = tmp_path / "a.nii.gz"
    path.write_bytes(odd_bytes if content is None else content)
    with pytest.raises(VolumeError, match=message):
        open_nifti(path)


def test_a_link_to_what_is_not_there_names_it(tmp_path):
    (tmp_path / "a.nii.gz").symlink_to("objects/0a.nii.gz")
    with pytest.raises(VolumeError, match=r"a\.nii\.gz: found a link to objects/0a\.nii\.gz, which is not there"):
        open_nifti(tmp_path / "a.nii.gz")

"""`lumirkit container verify`: an image examined on data that is made for it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from lumirkit.submission.container.engine import connect, find_image
from lumirkit.submission.container.exam import Check, Exam
from lumirkit.submission.container.exam_data import make_exam_data


def examine_image(image: str, shape: tuple[int, int, int], keep: Path | None = None) -> list[Check]:
    """Examine an image under every contract and hostile conditions.

    Args:
        image: name of an image, or an archive of one.
        shape: (X, Y, Z) of the images that are made for it.
        keep: folder in which the data and all outputs are kept; they are removed if None.

    Raises:
        ContainerError: the engine does not answer or does not have the image.
    """
    client = connect()
    name = find_image(client, image).id
    with tempfile.TemporaryDirectory(prefix="lumirkit-verify-") as folder:
        root = keep or Path(folder)
        root.mkdir(parents=True, exist_ok=True)
        root.chmod(0o755)  # the container's user is another one
        return Exam(client, name, make_exam_data(root / "data", shape), root / "runs").take()

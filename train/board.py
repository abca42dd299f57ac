"""The run as TensorBoard shows it; log.jsonl and validation.jsonl remain the truth."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from tensorboardX import SummaryWriter


class Board:
    """Writes scalars and pictures of one run, from `step` on; what an interrupted run wrote after it disappears."""

    def __init__(self, folder: Path, step: int) -> None:
        self._writer = SummaryWriter(str(folder), purge_step=step + 1)

    def scalars(self, group: str, values: Mapping[str, float], step: int) -> None:
        """Add one point to each curve."""
        for name, value in values.items():
            self._writer.add_scalar(f"{group}/{name}", value, step)

    def pictures(self, group: str, pictures: Mapping[str, bytes], step: int) -> None:
        """Show pictures, which are PNG files."""
        for name, content in pictures.items():
            pixels = np.asarray(Image.open(io.BytesIO(content)))
            self._writer.add_image(f"{group}/{name}", pixels, step, dataformats="HWC")

    def close(self) -> None:
        """Write what is still in memory."""
        self._writer.close()

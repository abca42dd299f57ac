"""The run as TensorBoard shows it; log.jsonl and validation.jsonl remain the truth."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image


class Board:
    """A board that nothing is written to, where tensorboardX is not installed."""

    def scalars(self, group: str, values: Mapping[str, float], step: int) -> None:
        """Take one point of each curve."""

    def pictures(self, group: str, pictures: Mapping[str, bytes], step: int) -> None:
        """Take PNG files."""

    def close(self) -> None:
        """Write what is still in memory."""


class TensorBoard(Board):
    """Writes scalars and pictures of one run, from `step` on; what an interrupted run wrote after it disappears."""

    def __init__(self, folder: Path, step: int) -> None:
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=step + 1)

    def scalars(self, group: str, values: Mapping[str, float], step: int) -> None:
        """Write one point of each curve."""
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


def open_board(folder: Path, step: int, say: Callable[[str], None]) -> Board:
    """The board of a run; without tensorboardX one that writes nothing, which is said."""
    if importlib.util.find_spec("tensorboardX") is not None:
        return TensorBoard(folder, step)
    say(f"tensorboardX is not installed, so {folder} is not written; log.jsonl holds the same numbers")
    return Board()

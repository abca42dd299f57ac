"""Many pairs, one after another: read ahead, registered, packed and written behind; failures collected."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from lumirkit.base.ahead import one_ahead
from lumirkit.base.errors import VolumeError
from lumirkit.base.failure import reason_of, traceback_of
from lumirkit.base.files import remove_partial_files
from lumirkit.base.memory import peak_bytes_on, peak_memory_bytes
from lumirkit.base.progress import Progress
from lumirkit.data_manifests.worklist import PairFiles
from lumirkit.registration.predictor import Predictor
from lumirkit.registration.volume import read_affine, write_displacement
from lumirkit.submission.loading import LoadedPair, MadePair, UnusablePair, load_pair
from lumirkit.submission.on_error import OnError
from lumirkit.submission.stamp import ZERO_FIELD, Maker
from lumirkit.submission.status import PairState, PairStatus, RunState, RunStatus


class Run:
    """Registers pairs and keeps the account; the fields that an earlier run finished are kept."""

    def __init__(self, predictor: Predictor, on_error: OnError, status_file: Path) -> None:
        self._predictor, self._on_error, self._status_file = predictor, on_error, status_file
        self._maker = Maker(predictor.weights_sha256, predictor.place.precision)
        self._earlier = RunStatus.made_before(status_file, predictor.weights_sha256)
        timed = {field: pair for field, pair in self._earlier.items() if pair.seconds}
        self._made_before = RunStatus.made_beside(status_file, predictor.weights_sha256) | timed

    def do(self, pairs: Sequence[PairFiles]) -> RunStatus:
        """Register the pairs; returns the account, which lies in the status file too.

        Raises:
            OSError: the status file cannot be written.
        """
        status = RunStatus(
            members=self._predictor.members,
            weights_sha256=self._predictor.weights_sha256,
            pairs_asked_for=len(pairs),
            earlier=[pair for pair in self._earlier.values() if (self._status_file.parent / pair.field).is_file()],
        )
        for name in (self._status_file, *(pair.field for pair in pairs)):
            remove_partial_files(name.parent, name.name)
        try:
            self._do_all(pairs, status)
        finally:
            status.state = RunState.DONE if len(status.pairs) == len(pairs) else RunState.STOPPED
            status.write(self._status_file)
        return status

    def _do_all(self, pairs: Sequence[PairFiles], status: RunStatus) -> None:
        """Register one pair while the next is read and the one before is packed, written and accounted for."""
        loaded_pairs = one_ahead(partial(load_pair, maker=self._maker), pairs)
        with ThreadPoolExecutor(max_workers=1) as writer, closing(loaded_pairs), Progress(len(pairs), "pairs") as bar:

            def account(attempt: _Attempt) -> None:
                self._finish(attempt)
                status.add(attempt.pair)
                status.peak_process_memory_gb = round(peak_memory_bytes() / 1e9, 3)
                status.write(self._status_file)
                bar.advance(attempt.pair.case_name)

            accounting: Future[None] | None = None
            for loaded in loaded_pairs:
                attempt = self._attempt(loaded)
                if accounting is not None:
                    accounting.result()
                accounting = writer.submit(account, attempt)
                if self._on_error is OnError.STOP and (status.failures or attempt.pair.reason):
                    break
            if accounting is not None:
                accounting.result()

    def _attempt(self, loaded: LoadedPair | MadePair | UnusablePair) -> _Attempt:
        """Register a pair; its field is still to be written."""
        pair = PairStatus(case_name=loaded.files.case_name, field=loaded.files.field.name, state=PairState.KEPT)
        attempt = _Attempt(loaded.files, pair)
        if isinstance(loaded, MadePair) and pair.field in self._made_before:
            attempt.pair = self._made_before[pair.field].model_copy(update={"state": PairState.KEPT})
        elif isinstance(loaded, UnusablePair):
            attempt.pair.reason, attempt.pair.traceback = loaded.reason, loaded.traceback
        elif isinstance(loaded, LoadedPair):
            try:
                disp_vox = self._register(loaded, attempt.pair)
            except Exception as error:  # whatever it is, it costs no other pair
                attempt.fail(error, reason_of(error, attempt.files.images))
                attempt.pair.warnings = list(self._predictor.warnings)
            else:
                field = (attempt.files.field, disp_vox, loaded.fixed.affine, loaded.stamp)
                attempt.write = partial(write_displacement, *field)
        return attempt

    def _register(self, loaded: LoadedPair, pair: PairStatus) -> Float32[ndarray, "x y z 3"]:
        start = time.perf_counter()
        disp_vox = self._predictor(loaded.fixed, loaded.moving)
        pair.seconds = round(time.perf_counter() - start, 3)
        place = self._predictor.place
        pair.state = PairState.WRITTEN
        pair.peak_memory_gb = round(peak_bytes_on(place.device) / 1e9, 3)
        pair.device, pair.convolutions = str(place.device), place.precision.value
        pair.warnings = list(self._predictor.warnings)
        if not np.isfinite(disp_vox).all():
            raise VolumeError("the network gave NaN or inf; check the weights and the image")
        return disp_vox

    def _finish(self, attempt: _Attempt) -> None:
        """Write the field; if the pair failed, see to it that no older field stands for it."""
        pair, field = attempt.pair, attempt.files.field
        write, attempt.write = attempt.write, None  # the field takes much memory, and is needed this once
        try:
            if write is not None:
                write()
        except OSError as error:
            attempt.fail(error, f"{field}: could not be written ({error.strerror or error})")
        except Exception as error:
            attempt.fail(error, reason_of(error, str(field)))
        if not pair.reason:
            return
        pair.state = PairState.FAILED
        try:
            field.unlink(missing_ok=True)
            if self._on_error is OnError.ZERO:
                _write_zero_field(attempt.files)
                pair.state = PairState.ZERO
        except Exception as error:
            pair.warnings.append(f"{field}: what stood there could not be replaced ({error})")


@dataclass
class _Attempt:
    """A pair that was tried; its reason says why it failed, if that is known already."""

    files: PairFiles
    pair: PairStatus
    write: Callable[[], None] | None = None

    def fail(self, error: Exception, reason: str) -> None:
        """Note why the pair failed, and where."""
        self.pair.reason, self.pair.traceback = reason, traceback_of(error)


def _write_zero_field(files: PairFiles) -> None:
    try:
        affine = read_affine(files.fixed)
    except Exception:
        affine = np.eye(4)
    if files.shape is None:
        raise VolumeError(f"{files.field}: its shape is not known")
    write_displacement(files.field, np.zeros((*files.shape, 3), np.float32), affine, ZERO_FIELD)

"""One pair from its files to its field; whatever goes wrong costs this pair alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from lumirkit.base.errors import VolumeError
from lumirkit.base.failure import reason_of, traceback_of
from lumirkit.base.memory import peak_bytes_on
from lumirkit.data_manifests.worklist import PairFiles
from lumirkit.registration.predictor import Predictor
from lumirkit.registration.volume import read_affine, write_displacement
from lumirkit.submission.loading import LoadedPair, MadePair, UnusablePair, load_pair
from lumirkit.submission.on_error import OnError
from lumirkit.submission.stamp import ZERO_FIELD, Maker
from lumirkit.submission.status import PairState, PairStatus, StageStatus


@dataclass
class Attempt:
    """A pair that was tried; its reason says why it failed, if that is known already."""

    files: PairFiles
    pair: PairStatus
    write: Callable[[], None] | None = None

    def fail(self, error: Exception, reason: str) -> None:
        """Note why the pair failed, and where."""
        self.pair.reason, self.pair.traceback = reason, traceback_of(error)


class PairMaker:
    """Makes fields with one predictor, in three steps that may overlap with those of other pairs, or all at once."""

    def __init__(self, predictor: Predictor, on_error: OnError) -> None:
        self._predictor, self._on_error = predictor, on_error
        self._maker = Maker(predictor.method, predictor.place.precision)

    def make(self, files: PairFiles, may_keep: bool) -> PairStatus:
        """Read a pair, register it and write its field, unless that is there, made of the same, and may be kept."""
        attempt = self.attempt(load_pair(files, self._maker, may_keep))
        self.finish(attempt)
        return attempt.pair

    def load(self, files: PairFiles) -> LoadedPair | MadePair | UnusablePair:
        """Read a pair, unless its field is there; see `load_pair`."""
        return load_pair(files, self._maker)

    def attempt(self, loaded: LoadedPair | MadePair | UnusablePair) -> Attempt:
        """Register a pair; its field is still to be written."""
        attempt = Attempt(loaded.files, _unmade(loaded.files))
        if isinstance(loaded, UnusablePair):
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

    def finish(self, attempt: Attempt) -> None:
        """Write the field; if the pair failed, see to it that no older field stands for it."""
        field = attempt.files.field
        write, attempt.write = attempt.write, None  # the field takes much memory, and is needed this once
        try:
            if write is not None:
                write()
        except OSError as error:
            attempt.fail(error, f"{field}: could not be written ({error.strerror or error})")
        except Exception as error:
            attempt.fail(error, reason_of(error, str(field)))
        if attempt.pair.reason:
            _settle_failure(attempt.files, attempt.pair, self._on_error)

    def _register(self, loaded: LoadedPair, pair: PairStatus) -> Float32[ndarray, "x y z 3"]:
        self._predictor.wait_for_kernels()  # the first pair's seconds are of its registration alone
        start = time.perf_counter()
        disp_vox = self._predictor(loaded.fixed, loaded.moving)
        pair.seconds = round(time.perf_counter() - start, 3)
        place = self._predictor.place
        pair.state = PairState.WRITTEN
        pair.peak_memory_gb = round(peak_bytes_on(place.device) / 1e9, 3)
        pair.device, pair.convolutions = str(place.device), place.precision.value
        pair.refinement = [StageStatus.of(taken) for taken in self._predictor.taken]
        pair.warnings = list(self._predictor.warnings)
        if not np.isfinite(disp_vox).all():
            raise VolumeError("the network gave NaN or inf; check the weights and the image")
        return disp_vox


def failed_pair(files: PairFiles, reason: str, on_error: OnError, traceback: str = "") -> PairStatus:
    """Account for a pair that could not even be tried; no older field stands for it."""
    pair = _unmade(files)
    pair.reason, pair.traceback = reason, traceback
    _settle_failure(files, pair, on_error)
    return pair


def _unmade(files: PairFiles) -> PairStatus:
    return PairStatus(case_name=files.case_name, field=files.field.name, state=PairState.KEPT)


def _settle_failure(files: PairFiles, pair: PairStatus, on_error: OnError) -> None:
    """Say that a pair failed; its field, if there is one, gives way to none or to a zero field."""
    pair.state = PairState.FAILED
    try:
        files.field.unlink(missing_ok=True)
        if on_error is OnError.ZERO:
            _write_zero_field(files)
            pair.state = PairState.ZERO
    except Exception as error:
        pair.warnings.append(f"{files.field}: what stood there could not be replaced ({error})")


def _write_zero_field(files: PairFiles) -> None:
    try:
        affine = read_affine(files.fixed)
    except Exception:
        affine = np.eye(4)
    if files.shape is None:
        raise VolumeError(f"{files.field}: its shape is not known")
    write_displacement(files.field, np.zeros((*files.shape, 3), np.float32), affine, ZERO_FIELD)

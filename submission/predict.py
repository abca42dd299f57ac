"""The two requests that weights can serve: a list of pairs, or the pairs of a dataset. Both end in field files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lumirkit.base.outputs import require_apart
from lumirkit.data_manifests.worklist import PairFiles, Shard, validation_files
from lumirkit.registration.device import Place
from lumirkit.registration.predictor import Predictor
from lumirkit.submission.on_error import OnError
from lumirkit.submission.run import Run
from lumirkit.submission.status import STATUS_NAME, RunStatus


def predict_pairs(
    pairs: Sequence[PairFiles],
    weights: Sequence[Path],
    place: Place,
    status_file: Path,
    on_error: OnError = OnError.SKIP,
) -> RunStatus:
    """Register pairs of files; fields that these weights have made of these images before are kept.

    Args:
        weights: one to K weight files or folders of them; what they predict is averaged.
        status_file: JSON account of the run, rewritten after every pair.

    Raises:
        WeightsError: the weights cannot be used; nothing was started.
        OSError: the status file cannot be written.
    """
    return Run(Predictor(weights, place), on_error, status_file).do(pairs)


def predict_dataset(
    dataset_json: Path,
    images: Path,
    out: Path,
    weights: Sequence[Path],
    place: Place,
    shard: Shard | None = None,
    on_error: OnError = OnError.SKIP,
) -> RunStatus:
    """Register the validation pairs of a dataset JSON; the fields get the evaluator's names.

    Args:
        images: folder that the JSON's paths are relative to.
        out: folder of the fields and of the account, `lumirkit_status.json`.
        weights: one to K weight files or folders of them; what they predict is averaged.

    Raises:
        ManifestError, WeightsError, RequestError: the request cannot be carried out; nothing was started.
        OSError: the account cannot be written.
    """
    shard = shard or Shard()
    pairs = validation_files(dataset_json, images, out, shard)
    part = f"_{shard.index}of{shard.count}" if shard.count > 1 else ""
    status_file = out / f"{STATUS_NAME}{part}.json"
    require_apart([status_file], [dataset_json])
    return predict_pairs(pairs, weights, place, status_file, on_error)

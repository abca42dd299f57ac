"""The two requests that weights can serve: a list of pairs, or the pairs of a dataset. Both end in field files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lumirkit.base.outputs import require_apart
from lumirkit.data_manifests.worklist import PairFiles, Shard, validation_files
from lumirkit.registration.device import Place
from lumirkit.registration.predictor import Predictor
from lumirkit.registration.refinement.settings import Refinement
from lumirkit.submission.alone import Alone
from lumirkit.submission.on_error import OnError
from lumirkit.submission.run import run
from lumirkit.submission.status import STATUS_NAME, RunStatus
from lumirkit.submission.team import Team, TeamWork


def predict_pairs(
    pairs: Sequence[PairFiles],
    weights: Sequence[Path],
    place: Place | Team,
    status_file: Path,
    on_error: OnError = OnError.SKIP,
    refinement: Refinement | None = None,
) -> RunStatus:
    """Register pairs of files; fields that these weights have made of these images before are kept.

    Args:
        weights: one to K weight files or folders of them; what they predict is averaged. None: no network.
        place: where this process registers all pairs one after another, or the team that shares them.
        status_file: JSON account of the run, rewritten as pairs are done.
        refinement: what is done to the network's registration of every pair.

    Raises:
        WeightsError, RequestError: weights or refinement cannot be used; nothing was started.
        OSError: the status file cannot be written.
    """
    if isinstance(place, Team):
        return run(TeamWork(place, weights, on_error, refinement), pairs, status_file)
    return run(Alone(Predictor(weights, place, refinement), on_error), pairs, status_file)


def predict_dataset(
    dataset_json: Path,
    images: Path,
    out: Path,
    weights: Sequence[Path],
    place: Place | Team,
    shard: Shard | None = None,
    on_error: OnError = OnError.SKIP,
    refinement: Refinement | None = None,
) -> RunStatus:
    """Register the validation pairs of a dataset JSON; the fields get the evaluator's names.

    Args:
        images: folder that the JSON's paths are relative to.
        out: folder of the fields and of the account, `lumirkit_status.json`.
        weights: one to K weight files or folders of them; what they predict is averaged. None: no network.
        place: see `predict_pairs`.
        refinement: see `predict_pairs`.

    Raises:
        ManifestError, WeightsError, RequestError: the request cannot be carried out; nothing was started.
        OSError: the account cannot be written.
    """
    shard = shard or Shard()
    pairs = validation_files(dataset_json, images, out, shard)
    part = f"_{shard.index}of{shard.count}" if shard.count > 1 else ""
    status_file = out / f"{STATUS_NAME}{part}.json"
    require_apart([status_file], [dataset_json])
    return predict_pairs(pairs, weights, place, status_file, on_error, refinement)

"""A reference method over the validation pairs of a dataset; what is made already is kept."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from lumirkit.base.errors import RequestError
from lumirkit.base.files import write_text_atomically
from lumirkit.base.outputs import require_apart
from lumirkit.data_manifests.worklist import PairFiles, Shard, validation_files
from lumirkit.eval.baselines.methods import BASELINES
from lumirkit.eval.baselines.record import is_made, method_record, record_path
from lumirkit.eval.run_times import account_files
from lumirkit.registration.pair_files import Failure, for_each_pair, register_files


def run_baseline(name: str, dataset_json: Path, images: Path, out: Path, shard: Shard | None = None) -> list[Failure]:
    """Write the fields of a reference method for the validation pairs of a dataset JSON.

    Names and format of the fields are those of `predict_dataset`. Beside each lies a JSON of the same name with the
    run time in seconds (registration and conversion, without reading and writing the files). A field whose JSON
    says that this method, version and settings made it of these images is kept.

    Args:
        name: a key of BASELINES.
        images: folder that the JSON's paths are relative to.
        out: folder of the fields.

    Returns:
        The pairs that failed; all others are written.

    Raises:
        ManifestError, RequestError: the request cannot be carried out; nothing was started.
    """
    if name not in BASELINES:
        raise RequestError(f"baseline {name}: expected one of {', '.join(BASELINES)}")
    method = BASELINES[name]()
    record = method_record(name, method)

    def run_pair(pair: PairFiles) -> None:
        made_of = {"case": pair.case_name, **record, "images_sha256": [_sha256(image) for image in pair.inputs]}
        if is_made(pair.field, made_of):
            return
        record_path(pair.field).unlink(missing_ok=True)  # it must not speak for the field that comes
        seconds = register_files(method, pair.fixed, pair.moving, pair.field, pair.shape)
        content = made_of | {"seconds": round(seconds, 3)}
        write_text_atomically(record_path(pair.field), json.dumps(content, indent=1) + "\n")

    pairs = validation_files(dataset_json, images, out, shard)
    require_apart([record_path(pair.field) for pair in pairs], [dataset_json])
    _require_no_predictions(out)
    return for_each_pair(pairs, run_pair)


def _require_no_predictions(out: Path) -> None:
    """Check that `lumirkit predict` has not filled a folder, whose fields have the same names.

    Raises:
        RequestError: it has.
    """
    accounts = account_files(out)
    if accounts:
        raise RequestError(
            f"{accounts[0]}: found the status file of `lumirkit predict`, whose fields would be overwritten; expected "
            "a folder without such fields. Give another --out."
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

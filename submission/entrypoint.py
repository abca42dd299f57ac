"""What the container runs: find the task's mounts, register every pair, say what failed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from data_manifests.dataset import ManifestError
from data_manifests.worklist import RequestError
from registration.weights import WeightsError
from submission.contract import ContractError, find_contract
from submission.predict import predict_dataset

_WEIGHTS = Path("/opt/lumirkit/weights")


def main(root: Path = Path("/"), weights: Path = _WEIGHTS) -> int:
    """Run the challenge's contract; exit status 0 all done, 1 some pairs failed, 2 nothing was started."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        contract = find_contract(root)
        print(f"{contract.name}: {contract.images} -> {contract.output}, on {device}", flush=True)
        failures = predict_dataset(contract.dataset_json, contract.images, contract.output, [weights], device)
    except (ContractError, ManifestError, RequestError, WeightsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for failure in failures:
        print(f"failed: {failure.case_name}: {failure.reason}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(weights=Path(os.environ.get("LUMIRKIT_WEIGHTS", _WEIGHTS))))

"""A run over many pairs: what is kept and what is made is accounted for, and nothing half-done is left behind."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from lumirkit.base.files import remove_partial_files
from lumirkit.data_manifests.worklist import PairFiles
from lumirkit.registration.predictor import Method
from lumirkit.submission.account import Account
from lumirkit.submission.status import RunStatus


class Work(Protocol):
    """Who registers the pairs, and by which method."""

    method: Method

    def do(self, pairs: Sequence[PairFiles], account: Account) -> None:
        """Register pairs, and account for each; fields that these weights have made of these images are kept."""


def run(work: Work, pairs: Sequence[PairFiles], status_file: Path) -> RunStatus:
    """Register the pairs; returns the account, which lies in the status file too.

    Raises:
        OSError: the status file cannot be written.
    """
    account = Account(status_file, work.method, pairs)
    written = (status_file, *(pair.field for pair in pairs))
    _remove_partial_files(written)
    try:
        work.do(pairs, account)
    finally:
        _remove_partial_files(written)  # of other processes that were killed
        account.end()
    return account.status


def _remove_partial_files(files: Iterable[Path]) -> None:
    names = defaultdict(list)
    for file in files:
        names[file.parent].append(file.name)
    for folder, its_names in names.items():
        remove_partial_files(folder, its_names)

"""One process that registers all pairs: one is read ahead while another is registered, and a third is written."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

from lumirkit.base.ahead import one_ahead
from lumirkit.base.progress import Progress
from lumirkit.data_manifests.worklist import PairFiles
from lumirkit.registration.predictor import Predictor
from lumirkit.submission.account import Account, ProcessFacts
from lumirkit.submission.on_error import OnError
from lumirkit.submission.pair_maker import Attempt, PairMaker


class Alone:
    """Registers pairs in this process."""

    def __init__(self, predictor: Predictor, on_error: OnError) -> None:
        self.method = predictor.method
        self._maker, self._on_error = PairMaker(predictor, on_error), on_error

    def do(self, pairs: Sequence[PairFiles], account: Account) -> None:
        """Register one pair while the next is read and the one before is packed, written and accounted for."""
        loaded_pairs = one_ahead(self._maker.load, pairs)
        with ThreadPoolExecutor(max_workers=1) as writer, closing(loaded_pairs), Progress(len(pairs), "pairs") as bar:

            def finish(position: int, attempt: Attempt) -> bool:
                self._maker.finish(attempt)
                account.add(position, attempt.pair, ProcessFacts.here())
                bar.advance(attempt.pair.case_name)
                return attempt.pair.has_failed

            finishing: Future[bool] | None = None
            for position, loaded in enumerate(loaded_pairs):
                attempt = self._maker.attempt(loaded)
                has_failed = finishing is not None and finishing.result()
                finishing = writer.submit(finish, position, attempt)
                if self._on_error is OnError.STOP and (has_failed or attempt.pair.reason):
                    break
            if finishing is not None:
                finishing.result()

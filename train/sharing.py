"""How the processes of a run share one batch: its samples among all, or the pairs of each triplet among three."""

from __future__ import annotations

from dataclasses import dataclass

from lumirkit.train.group_consistency import CYCLE
from lumirkit.train.processes import Processes
from lumirkit.train.recipe import RecipeError, Stage


@dataclass(frozen=True)
class Share:
    """The part of every batch that one process works on.

    `places` are the places of its samples in the batch. `pair` is the number of its pair in `CYCLE` where three
    processes share each triplet; None where a process does everything for its samples. In both cases the gradient of
    the batch is the mean of those of the processes.
    """

    places: range
    pair: int | None = None


def share_of_batch(stage: Stage, number: int, processes: Processes) -> Share:
    """The share of this process in the batches of stage `number`.

    Raises:
        RecipeError: the batch cannot be shared evenly.
    """
    share = _share(stage, number, processes)
    at_once = stage.samples_at_once
    if at_once is not None and len(share.places) % min(at_once, len(share.places)):
        raise RecipeError(
            f"stages.{number}.samples_at_once: found {at_once}, which does not divide the {len(share.places)} samples "
            "of a process; their gradients would not count alike. Choose a divisor."
        )
    return share


def _share(stage: Stage, number: int, processes: Processes) -> Share:
    batch, size = stage.batch_size, processes.size
    if batch % size == 0:
        return Share(_part(processes.rank, batch // size))
    trios = size // len(CYCLE)
    if stage.images_per_item == 3 and size % len(CYCLE) == 0 and batch % trios == 0:
        trio, pair = divmod(processes.rank, len(CYCLE))
        return Share(_part(trio, batch // trios), pair)
    expected = f"a multiple of {size}"
    if stage.images_per_item == 3 and size % len(CYCLE) == 0:
        expected += f", or of {trios} to spread each triplet over three processes"
    raise RecipeError(
        f"stages.{number}.batch_size: found {batch}, which {size} processes cannot share evenly; expected {expected}. "
        f"Set it with --set stages.{number}.batch_size=N, or start another number of processes."
    )


def _part(index: int, size: int) -> range:
    return range(index * size, (index + 1) * size)

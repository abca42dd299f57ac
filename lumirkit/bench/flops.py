"""The count of the convolutions' arithmetic, the part of a network that runs close to the processor's peak."""

from __future__ import annotations

from types import TracebackType

from torch.utils.flop_counter import FlopCounterMode


class ConvolutionFlop:
    """A counter of the floating-point operations of all convolutions in a block, forward and backward.

    A multiplication and an addition are two operations. Zero padding counts as if it were data.
    """

    def __init__(self) -> None:
        self._counter = FlopCounterMode(display=False)

    def __enter__(self) -> ConvolutionFlop:
        self._counter.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._counter.__exit__(kind, error, trace)

    @property
    def total(self) -> int:
        """The number of operations so far."""
        by_operator = self._counter.get_flop_counts().get("Global", {})
        return int(sum(flop for operator, flop in by_operator.items() if "convolution" in str(operator)))

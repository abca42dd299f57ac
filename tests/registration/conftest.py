"""What the tests of several kernels and several commands share."""

from collections.abc import Callable, Iterator
from typing import Any

import numba
import pytest
from torch import Tensor

STRIDES: dict[str, Callable[[Tensor], Tensor]] = {
    "transposed": lambda volume: volume.transpose(2, 4),
    "sliced": lambda volume: volume[:, :, ::2, 1:, :-1],
    "expanded": lambda volume: volume[:1].expand(2, -1, -1, -1, -1),
    "expanded inside": lambda volume: volume[:, :, :, :1].expand(-1, -1, -1, 4, -1),
    "channels last": lambda volume: volume.permute(0, 2, 3, 4, 1).contiguous().permute(0, 4, 1, 2, 3),
}


@pytest.fixture(params=STRIDES.values(), ids=STRIDES)
def as_view(request: pytest.FixtureRequest) -> Callable[[Tensor], Tensor]:
    """Turn (batch, channel, X, Y, Z) into another volume that does not lie in memory one value after the other."""
    return request.param


@pytest.fixture
def on_threads() -> Iterator[Callable[..., Any]]:
    """Call a function on a number of the kernels' threads, as far as the machine has them."""
    before = numba.get_num_threads()

    def call(threads: int, function: Callable[..., Any], *arguments: Any) -> Any:
        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
        return function(*arguments)

    yield call
    numba.set_num_threads(before)


@pytest.fixture
def command(lumirkit: Callable[..., Any]) -> Callable[..., tuple[int, str]]:
    """Run a command in this process; returns its status and what it said."""

    def run(*arguments: Any) -> tuple[int, str]:
        ended = lumirkit(*arguments)
        return ended.returncode, ended.stderr

    return run

"""Counting operations, saved bytes and memory."""

import mmap

import numpy as np
import torch
from torch import nn

from lumirkit.base.memory import peak_memory_bytes, resident_memory_bytes
from lumirkit.bench.flops import ConvolutionFlop
from lumirkit.bench.memory import SavedBytes


def test_convolution_flop_forward_and_backward():
    network = nn.Sequential(nn.Conv3d(2, 3, 3, padding=1), nn.Conv3d(3, 5, 2, stride=2, bias=False))
    first, second = 27 * 2 * 3 * 6 * 8 * 10, 8 * 3 * 5 * 3 * 4 * 5
    with ConvolutionFlop() as forward:
        output = network(torch.zeros(1, 2, 6, 8, 10))
    assert forward.total == 2 * (first + second)
    with ConvolutionFlop() as backward:
        output.sum().backward()
    assert backward.total == 2 * (first + 2 * second)  # the input of the first needs no gradient


def test_only_convolutions_are_counted():
    with ConvolutionFlop() as flop, torch.inference_mode():
        torch.ones(4, 5) @ torch.ones(5, 6)
        nn.functional.conv3d(torch.ones(1, 1, 4, 4, 4), torch.ones(1, 1, 1, 1, 1))
    assert flop.total == 2 * 64


def test_saved_bytes_count_every_storage_once():
    weight = torch.ones(100, requires_grad=True)
    field = torch.ones(3, 100)
    with SavedBytes([weight]) as saved:
        product = weight * field  # keeps both factors
        result = product.exp() + product.sin()  # the first keeps its own output, the second `product`
        result = result + weight * field[1]  # a view of what is kept already
    assert saved.bytes == 3 * 4 * 300
    with SavedBytes() as again:
        result.sum().backward()
    assert again.bytes == 0
    assert weight.grad is not None
    expected = (3 * (np.exp(1) + np.cos(1)) + 3) * np.ones(100)
    np.testing.assert_allclose(weight.grad.numpy(), expected, rtol=1e-6)


def test_memory_of_this_process():
    before = resident_memory_bytes()
    # Pages of the system, not an array: that may lie on memory which an earlier test freed and the process still holds.
    with mmap.mmap(-1, 80_000_000) as held:
        held.write(bytes(range(1, 251)) * (len(held) // 250))
        now, peak = resident_memory_bytes(), peak_memory_bytes()
    assert now - before > 0.9 * 80_000_000
    # Linux counts pages in batches for each core, so its high-water mark can be some hundred kilobytes too low.
    assert peak >= now - 1_000_000

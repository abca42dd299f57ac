"""Descent on functions whose minimum is known."""

import pytest
import torch

from lumirkit.registration.refinement.descent import descend

LOWEST = torch.tensor([[1.0, -2.0], [0.5, 3.0]])


def bowl(numbers):
    return ((numbers - LOWEST) ** 2).sum()


def test_the_lowest_place_of_a_bowl_is_found():
    found, course = descend(bowl, torch.zeros(2, 2), steps=200, learning_rate=0.3)
    torch.testing.assert_close(found, LOWEST, atol=0.05, rtol=0)
    assert course.loss_before == float(bowl(torch.zeros(2, 2)))
    assert course.loss_after == pytest.approx(float(bowl(found)))
    assert course.has_improved
    assert not found.requires_grad


def test_the_first_step_has_the_length_of_the_learning_rate():
    found, _ = descend(bowl, torch.zeros(2, 2), steps=1, learning_rate=0.25)
    assert float(found.square().mean().sqrt()) == pytest.approx(0.25)


def test_more_steps_never_give_a_higher_loss():
    losses = [descend(bowl, torch.zeros(2, 2), steps=n, learning_rate=1.5)[1].loss_after for n in range(1, 12)]
    assert losses == sorted(losses, reverse=True)


def test_it_ends_early_where_nothing_is_gained():
    found, course = descend(bowl, LOWEST, steps=50, learning_rate=0.3)
    assert torch.equal(found, LOWEST)
    assert not course.has_improved
    assert course.steps == 3


def test_a_loss_of_nan_ends_it_with_the_best_so_far():
    def broken_beyond_a_half(numbers):
        loss = bowl(numbers)
        return loss if numbers.max().item() < 0.5 else loss * torch.nan

    found, course = descend(broken_beyond_a_half, torch.zeros(2, 2), steps=50, learning_rate=0.1)
    assert course.ended_by_nan
    assert course.has_improved
    assert float(bowl(found)) == course.loss_after < course.loss_before


def test_nan_at_the_start_leaves_the_start():
    found, course = descend(lambda numbers: bowl(numbers) * torch.nan, torch.zeros(2, 2), steps=5, learning_rate=0.1)
    assert torch.equal(found, torch.zeros(2, 2))
    assert (course.ended_by_nan, course.has_improved, course.steps) == (True, False, 0)

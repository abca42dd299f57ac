import pytest

from lumirkit.train.learning_rate import LearningRate
from lumirkit.train.recipe import Stage


def schedule(kind, epochs=20, patience=2):
    return LearningRate(
        Stage(epochs=epochs, items_per_epoch=2, learning_rate=1, schedule=kind, plateau_patience_epochs=patience)
    )


def shares(rate, losses, steps_per_epoch=2):
    """The share of the first step of every epoch, of losses that an epoch has."""
    found = []
    for epoch, loss in enumerate(losses):
        found.append(rate.share_at(epoch * steps_per_epoch))
        for place in range(steps_per_epoch):  # only their mean counts
            rate.after(epoch * steps_per_epoch + place, loss + (0.5 if place else -0.5))
    return found


def test_constant_and_cosine():
    assert shares(schedule("constant"), [3, 3, 3, 3, 3, 3]) == [1] * 6
    cosine = schedule("cosine")
    assert [cosine.share_at(step) for step in (0, 20, 40)] == pytest.approx([1, 0.5, 0])


def test_plateau_waits_for_its_patience_and_then_drops():
    falling = [5, 4, 3, 2, 1, 0, -1, -2]
    assert shares(schedule("plateau"), falling) == [1] * 8
    stuck = [5, 4, 4, 4, 4, 4, 4, 4, 4]  # the best is the second; two more may be no better, the third drops
    assert shares(schedule("plateau"), stuck) == pytest.approx([1, 1, 1, 1, 1, 0.1, 0.1, 0.1, 0.01])
    rescued = [5, 4, 4, 4, 3, 3, 3, 2]
    assert shares(schedule("plateau"), rescued) == [1] * 8


@pytest.mark.parametrize("cut", range(1, 17))
def test_a_continued_schedule_is_the_whole_one(cut):
    losses = [5, 5, 4, 4, 4, 4, 4, 4, 6, 6, 2, 2, 3, 3, 3, 3, 3, 3]
    whole, first = schedule("plateau"), schedule("plateau")
    for step, loss in enumerate(losses):
        whole.after(step, loss)
        if step < cut:
            first.after(step, loss)
    second = schedule("plateau")
    second.load(first.state())
    for step in range(cut, len(losses)):
        second.after(step, losses[step])
    assert second.share_at(18) == whole.share_at(18) == pytest.approx(0.01)
    assert second.state().equal(whole.state())

"""How far a training is, in one line."""

from training.pace import Pace
from training.recipes import recipe_for


def test_pace_counts_from_where_this_process_began() -> None:
    now = 50.0
    pace = Pace(recipe_for("naive-lenet-mnist", num_epochs=10, batch_size=100), clock=lambda: now)
    assert pace.line(4, 1, 20, {"cross_entropy": 0.5}) == "epoch 5 of 10  cross_entropy 0.5000"
    now += 60.0
    # 20 steps of 100 images in a minute, and 99 of all 200 steps are left.
    line = pace.line(5, 1, 20, {"cross_entropy": 0.25})
    assert line == "epoch 6 of 10  cross_entropy 0.2500  33 images/s  0:04:57 left"

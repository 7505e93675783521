"""How far a training is, how fast it goes and how long it has left, in one line."""

import time
from collections.abc import Callable, Mapping
from datetime import timedelta

from training.recipes import Recipe


def in_words(terms: Mapping[str, float]) -> str:
    """Each term of the loss with its mean."""
    return "  ".join(f"{name} {value:.4f}" for name, value in terms.items())


class Pace:
    """Measures from its first report on, so that epochs of an earlier process do not count.

    Args:
        recipe: What is trained.
        clock: Seconds that pass.
    """

    def __init__(self, recipe: Recipe, clock: Callable[[], float] = time.monotonic) -> None:
        self._recipe, self._clock = recipe, clock
        self._started: tuple[int, float] | None = None

    def line(self, epoch: int, step: int, num_steps: int, terms: dict[str, float]) -> str:
        """What there is to say after a step, counted from 1, of an epoch, counted from 0."""
        done, now = epoch * num_steps + step, self._clock()
        self._started = self._started or (done, now)
        first, started = self._started
        text = f"epoch {epoch + 1} of {self._recipe.num_epochs}  {in_words(terms)}"
        if done == first or now == started:
            return text
        rate = (done - first) / (now - started)
        left = (self._recipe.num_epochs * num_steps - done) / rate
        return f"{text}  {rate * self._recipe.batch_size:,.0f} images/s  {timedelta(seconds=round(left))} left"

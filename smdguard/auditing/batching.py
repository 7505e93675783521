"""Model calls in pieces that fit into memory."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from smdguard.attacks import Model
from smdguard.errors import InvalidInputError
from smdguard.scores import member_log_probabilities

_REFUSALS = ("not enough memory", "can't allocate memory", "out of memory", "STATUS_ALLOC_FAILED")


class Batching:
    """How many images a model is asked about at a time; halved whenever memory runs out.

    The draws of an attack are made for whole shards, so its result does not depend on the pieces.

    Args:
        size: Where to begin.
    """

    def __init__(self, size: int) -> None:
        self._size = size

    def run(self, work: Callable[[], Any]) -> Any:
        """Do the work, and where memory runs out do it again in smaller pieces.

        Raises:
            InvalidInputError: There is not enough memory for a single image.
        """
        while True:
            try:
                return work()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if self._size == 1:
                    raise InvalidInputError(f"there is not enough memory for a single image: {error}") from error
            # Outside the handler, whose traceback would keep the tensors of the failed attempt alive.
            self._size = max(1, self._size // 2)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def wrap(self, model: Model) -> Any:
        """The model, asked about no more images at a time than fit; it shows its members where the model does."""
        return _Batched(model, self) if not hasattr(model, "member_logits") else _BatchedEnsemble(model, self)

    def apply(self, function: Callable[[Tensor], Tensor], images: Tensor, *, axis: int) -> Tensor:
        """A model's output for all images, which lie on the given axis of it."""
        if len(images) <= self._size:
            return function(images)
        pieces = images.split(self._size)
        if torch.is_grad_enabled() and images.requires_grad:
            # What a piece needs for its gradient is computed again when its turn comes, not kept for all at once.
            outputs: list[Any] = [checkpoint(function, piece, use_reentrant=False) for piece in pieces]
        else:
            outputs = [function(piece) for piece in pieces]
        return torch.cat(outputs, dim=axis)


class _Batched:
    def __init__(self, model: Any, batching: Batching) -> None:
        self._model, self._batching = model, batching

    def __call__(self, images: Tensor) -> Tensor:
        return self._batching.apply(partial(_ask_with_graph, self._model), images, axis=0)


class _BatchedEnsemble(_Batched):
    def member_logits(self, images: Tensor) -> Tensor:
        return self._batching.apply(partial(_ask_with_graph, self._model.member_logits), images, axis=1)

    def member_log_probabilities(self, images: Tensor) -> Tensor:
        return member_log_probabilities(self.member_logits(images))


def ask(model: Model, images: Tensor) -> Tensor:
    """The model's output as 32-bit floats; a model that works in place does so on a copy."""
    return model(images.clone()).float()


def _ask_with_graph(model: Model, images: Tensor) -> Tensor:
    """As ask, but images that the model gives no gradient, such as those it purifies without, get one of zeros."""
    output = ask(model, images)
    return output + 0 * images.flatten()[0] if images.requires_grad else output


def is_out_of_memory(error: Exception) -> bool:
    """Whether a device, its libraries, the CPU's allocator or Python had no memory left.

    The second and third raise a plain RuntimeError.
    """
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(text in str(error) for text in _REFUSALS)

"""What is measured of an ensemble between the epochs of its training; nothing of the training depends on it."""

from collections.abc import Iterator

import torch
from torch import Tensor

from smdguard.attacks import PGD
from smdguard.auditing.sampling import evenly_spaced
from smdguard.datasets import LabelledImages
from smdguard.ensemble import Ensemble
from smdguard.saliency import member_saliencies, pairwise_cosine
from smdguard.threat import ThreatModel
from training.data import TrainingData, num_batches
from training.evaluation import clean_accuracy, portions
from training.modes import evaluating
from training.recipes import Recipe

NUM_IMAGES = 1000
_ATTACK = PGD(num_steps=10, step_ratio=0.25)


class Monitor:
    """Watches a training on up to 1,000 held-out images: of the calibration images, else of the test split.

    Every line of metrics.jsonl gets learning_rate (at the end of the epoch), images_per_second (of the steps alone) and
    saliency_cosine, the mean over the images and the pairs of members of cos(s_m, s_l). Now and then, and after the
    last epoch, held_out_accuracy and, at the data set's epsilon and a third of it, held_out_pgd10_accuracy_at_EPSILON
    follow: 10 steps of a quarter of epsilon from a random start, the same in every epoch.

    Args:
        recipe: What is trained.
        data: What it is trained on.
        evaluate_every: Epochs between two attacks; about ten times a training where it is None.
    """

    def __init__(self, recipe: Recipe, data: TrainingData, *, evaluate_every: int | None = None) -> None:
        self._recipe = recipe
        self._num_images = min(recipe.batch_size, len(data.train.images)) * num_batches(data.train, recipe.batch_size)
        held_out = data.calibration if len(data.calibration.images) else data.test
        # From one end to the other: a folder of images is in the order of its classes.
        rows = evenly_spaced(len(held_out.images), NUM_IMAGES, held_out.images.device)
        self._held_out = LabelledImages(held_out.images[rows], held_out.labels[rows])
        self._evaluate_every = evaluate_every or -(-recipe.num_epochs // 10)
        epsilon = recipe.dataset_description.epsilon
        self._threats = [ThreatModel("linf", radius) for radius in (epsilon / 3, epsilon)]

    def __call__(self, ensemble: Ensemble, num_epochs: int, seconds: float) -> dict[str, float]:
        """What is known after so many epochs, the last of which spent that time on its steps."""
        device = ensemble.mean.device
        held_out = LabelledImages(self._held_out.images.to(device), self._held_out.labels.to(device))
        measured = {
            "learning_rate": self._recipe.learning_rate_at(num_epochs / self._recipe.num_epochs),
            "images_per_second": round(self._num_images / max(seconds, 1e-3), 1),
            "saliency_cosine": self._saliency_cosine(ensemble, held_out),
        }
        if num_epochs % self._evaluate_every == 0 or num_epochs == self._recipe.num_epochs:
            measured["held_out_accuracy"] = clean_accuracy(ensemble, held_out)
            for threat in self._threats:
                key = f"held_out_pgd10_accuracy_at_{threat.epsilon:.4g}"
                measured[key] = self._robust_accuracy(ensemble, held_out, threat)
        return measured

    def _saliency_cosine(self, ensemble: Ensemble, data: LabelledImages) -> float:
        def cosines(images: Tensor, labels: Tensor) -> Tensor:
            return pairwise_cosine(member_saliencies(ensemble, images, labels))

        with evaluating(ensemble):
            return torch.cat([cosines(*portion) for portion in self._portions(data)], dim=1).mean().item()

    def _robust_accuracy(self, ensemble: Ensemble, data: LabelledImages, threat: ThreatModel) -> float:
        generator = torch.Generator(data.images.device).manual_seed(0)
        standing = []
        with evaluating(ensemble):
            for images, labels in self._portions(data):
                adversarial = _ATTACK(ensemble, images, labels, threat, generator=generator)
                with torch.inference_mode():
                    standing.append(ensemble(adversarial).argmax(dim=-1) == labels)
        return torch.cat(standing).double().mean().item()

    def _portions(self, data: LabelledImages) -> Iterator[tuple[Tensor, Tensor]]:
        """No larger than a batch, so that gradients of the images take no more memory than a step."""
        return portions(data, self._recipe.batch_size)

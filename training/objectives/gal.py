"""Gradient alignment: members are rewarded for losses whose gradients point in different directions."""

from dataclasses import dataclass, replace

import torch
from pydantic import FiniteFloat
from torch import Tensor

from training.batch import Batch
from training.objectives.objective import Share


@dataclass(frozen=True)
class GAL:
    """Mean of the members' cross-entropies + weight x mean_x log sum_{i<j} exp cos(g_i, g_j), g_m = d CE_m / dx.

    Some images get Gaussian noise first, which may take them a little out of [0, 1]. The members are meant to have
    leaky rectifiers (slope 0.1), so that no gradient vanishes where a rectifier is off.

    Args:
        weight: lambda in the paper.
        noise: Standard deviation of the noise, on the [0, 1] scale.
        noise_probability: Share of the images that get it.

    Reference:
        Kariyappa, Qureshi, "Improving Adversarial Robustness of Ensembles with Diversity Training", 2019, Eq. 9.
    """

    weight: FiniteFloat = 0.5
    noise: Share = 0.045
    noise_probability: Share = 0.5

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """See Objective."""
        members = self._with_noise(batch).members_with_saliencies
        # grad CE = -grad p_y / p_y, so the cosines of the losses' gradients are those of the saliencies (nearly so
        # under batch normalisation, which in training mode mixes the images of a batch).
        return {
            "cross_entropy": members.cross_entropy.mean(),
            "gradient_alignment": self.weight * members.saliency_alignment("probability"),
        }

    def _with_noise(self, batch: Batch) -> Batch:
        return replace(batch, images=batch.at_random(self._noisy))

    def _noisy(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        chosen = torch.rand((len(images), 1, 1, 1), generator=generator, device=images.device) < self.noise_probability
        noise = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
        return images + self.noise * chosen * noise

"""The trial averaged-probabilities: the paper's attacks through an average that is taken the plain way."""

from torch import Tensor, nn

from smdguard.ensemble import Ensemble
from training.audits import PRESET
from zoo.audited_trial import audit_trial


class PlainAverage(nn.Module):
    """The mean of the members' probabilities, given as if they were logits.

    Where an ensemble is sure, the gradient of what it gives is a difference of numbers that agree in all digits of
    float32. Ensemble gives logarithms instead, which keep it.

    Args:
        ensemble: In evaluation mode.
    """

    def __init__(self, ensemble: Ensemble) -> None:
        super().__init__()
        self.ensemble = ensemble.eval()
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] -> outputs in [-1, 0] (B, K).

        One is subtracted since audits refuse probabilities, for what this shows; no softmax is changed by it.
        """
        return self.ensemble.member_logits(images).softmax(dim=-1).mean(dim=0) - 1


def try_plain_average(name: str) -> None:
    """Audit a model of the zoo as the paper did, it and its surrogates as plain averages, and keep that as a trial.

    Raises:
        UnknownModelError: The zoo has no model of that name, or not its files.
    """
    audit_trial("averaged-probabilities", name, PRESET, PlainAverage)

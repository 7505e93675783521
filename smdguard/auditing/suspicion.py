"""Does the members' disagreement give adversarial images away, and does it still when the adversary knows of it?"""

import torch
from torch import Tensor

from smdguard.attacks import APGD, Attack, Unsuspicious
from smdguard.attacks.attack import is_fooled
from smdguard.auditing.crafting import SHARD_SIZE, Planned, Workshop
from smdguard.auditing.outcomes import Outcome
from smdguard.auditing.probes import probe_rows
from smdguard.auditing.statistics import area_under_roc, interval
from smdguard.ensemble import Ensemble
from smdguard.report import SuspicionReport, SuspicionUnderAttack
from smdguard.scores import average_log_probabilities, disagreement
from smdguard.threat import ThreatModel


def suspicion_under_attack(
    ensemble: Ensemble, workshop: Workshop, threat: ThreatModel, threshold: float
) -> tuple[SuspicionReport, list[Outcome]]:
    """Attack a part of the images without and with knowledge of the score.

    What these attacks leave standing is returned beside the report: it counts in the audit's worst case.

    Args:
        ensemble: The audited model.
        workshop: Makes the attacks.
        threat: What the adversary may do.
        threshold: Disagreement in nats above which an image is flagged.
    """

    def answer(images: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities (B, K) of the ensemble and its members' disagreement (B,)."""
        with torch.no_grad():
            members = workshop.batching.run(
                lambda: workshop.batching.apply(ensemble.member_log_probabilities, images, axis=0)
            )
        return average_log_probabilities(members), disagreement(members)

    rows = probe_rows(len(workshop.images), workshop.images.device)
    images, labels = workshop.images[rows], workshop.labels[rows]
    clean_scores = torch.cat([answer(shard)[1] for shard in workshop.images.split(SHARD_SIZE)])
    # The plain attack goes on past its first success: an image at the boundary is one that the members dispute.
    attacks: list[Attack] = [APGD(num_steps=20, early_stop=False), Unsuspicious(num_steps=20, threshold=threshold)]
    under_attack, outcomes = [], []
    for attack in attacks:
        adversarial = workshop.craft(Planned(attack, ensemble, "suspicion"), images, labels, threat, 0)
        output, scores = answer(adversarial)
        fooled = is_fooled(output, labels)
        under_attack.append(_under_attack(attack, fooled, scores, clean_scores[rows], threshold))
        standing = torch.ones_like(workshop.labels, dtype=torch.bool)
        standing[rows] = ~fooled
        outcomes.append(Outcome(attack, "white-box", "suspicion", threat.epsilon, standing, len(rows)))
    clean_flagged = interval(clean_scores > threshold)
    return SuspicionReport(threshold, clean_flagged, len(rows), tuple(under_attack)), outcomes


def _under_attack(
    attack: Attack, fooled: Tensor, scores: Tensor, clean_scores: Tensor, threshold: float
) -> SuspicionUnderAttack:
    flagged = scores > threshold
    any_fooled = bool(fooled.any())
    return SuspicionUnderAttack(
        name=attack.name,
        repr=repr(attack),
        robust_accuracy=interval(~fooled),
        flagged=interval(flagged[fooled]) if any_fooled else None,
        undetected=interval(fooled & ~flagged),
        auroc=area_under_roc(scores[fooled], clean_scores) if any_fooled else None,
    )

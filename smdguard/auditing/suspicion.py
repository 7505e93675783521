"""Does the members' disagreement give adversarial images away, and does it still when the adversary knows of it?"""

import torch
from torch import Tensor

from smdguard.attacks import APGD, Attack, Unsuspicious
from smdguard.attacks.attack import is_fooled
from smdguard.auditing.crafting import SHARD_SIZE, Planned, Workshop
from smdguard.auditing.outcomes import Outcome
from smdguard.auditing.sampling import probe_rows
from smdguard.auditing.statistics import area_under_roc, interval
from smdguard.ensemble import Ensemble
from smdguard.report import SuspicionReport, SuspicionUnderAttack
from smdguard.scores import average_log_probabilities, disagreement
from smdguard.threat import ThreatModel


def suspicion_under_attack(
    ensemble: Ensemble, workshop: Workshop, threat: ThreatModel, threshold: float, clean: Tensor
) -> tuple[SuspicionReport, list[Outcome]]:
    """Attack a part of the images without and with knowledge of the score.

    What these attacks leave standing is returned beside the report: it counts in the audit's worst case.

    Args:
        ensemble: The audited model.
        workshop: Makes the attacks.
        threat: What the adversary may do.
        threshold: Disagreement in nats above which an image is flagged.
        clean: Which images the ensemble gets right, bool (B,).
    """
    model = workshop.batching.wrap(ensemble)

    def answer(images: Tensor, labels: Tensor) -> Tensor:
        """Whether the ensemble is fooled, and its members' disagreement: (B, 2)."""
        with torch.no_grad():
            members = model.member_log_probabilities(images)
        scores = disagreement(members)
        return torch.stack([is_fooled(average_log_probabilities(members), labels).to(scores), scores], dim=1)

    rows = probe_rows(len(workshop.images), workshop.images.device)
    shards = list(zip(workshop.images.split(SHARD_SIZE), workshop.labels.split(SHARD_SIZE), strict=True))
    clean_scores = workshop.batching.run(lambda: torch.cat([answer(*shard)[:, 1] for shard in shards]))
    under_attack, outcomes = [], []
    for attack in attacks_on_suspicion(threshold):
        planned = Planned(attack, ensemble, "suspicion")
        measured = workshop.measure_rows(planned, threat, answer, rows, width=2, dtype=clean_scores.dtype)
        fooled, scores = measured[:, 0] == 1, measured[:, 1]
        under_attack.append(_under_attack(attack, fooled, scores, clean_scores[rows], threshold))
        standing = clean.clone()
        standing[rows] &= ~fooled
        outcomes.append(Outcome(attack, "white-box", "suspicion", threat.epsilon, standing))
    clean_flagged = interval(clean_scores > threshold)
    return SuspicionReport(threshold, clean_flagged, len(rows), tuple(under_attack)), outcomes


def attacks_on_suspicion(threshold: float) -> list[Attack]:
    """One without and one with knowledge of the score."""
    # The plain attack goes on past its first success: an image at the boundary is one that the members dispute.
    return [APGD(num_steps=20, early_stop=False), Unsuspicious(num_steps=20, threshold=threshold)]


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

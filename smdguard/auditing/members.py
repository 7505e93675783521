"""How far what fools one member of an ensemble fools the others."""

import torch
from torch import Tensor

from smdguard.attacks import Attack, Transfer
from smdguard.attacks.attack import is_fooled
from smdguard.auditing.crafting import Planned, Workshop
from smdguard.auditing.outcomes import Outcome
from smdguard.ensemble import Ensemble
from smdguard.report import TransferMatrix
from smdguard.scores import average_log_probabilities
from smdguard.threat import ThreatModel


def member_transfer(
    ensemble: Ensemble, attack: Attack, workshop: Workshop, threat: ThreatModel, clean: Tensor
) -> tuple[TransferMatrix, list[Outcome]]:
    """Attack each member alone: how do the members and the ensemble fare?

    Args:
        ensemble: The audited model.
        attack: What is made on each of its members.
        workshop: Makes the attacks.
        threat: What the adversary may do.
        clean: Which images the ensemble gets right, bool (B,).
    """
    model = workshop.batching.wrap(ensemble)

    def right(images: Tensor, labels: Tensor) -> Tensor:
        """Of the ensemble, then of each member: (B, 1 + M)."""
        with torch.no_grad():
            log_probabilities = model.member_log_probabilities(images)
        fooled = is_fooled(average_log_probabilities(log_probabilities), labels)
        return torch.cat([~fooled[:, None], log_probabilities.argmax(dim=-1) == labels[:, None]], dim=1)

    rows, outcomes = [], []
    for index in range(len(ensemble.members)):
        source = f"member {index}"
        transfer = Transfer(source, attack)
        planned = Planned(transfer, _Member(ensemble, index), source)
        measured = workshop.measure(planned, threat, right, width=1 + len(ensemble.members))
        rows.append(tuple(measured[:, 1:].double().mean(dim=0).tolist()))
        outcomes.append(Outcome(transfer, "member", source, threat.epsilon, clean & measured[:, 0]))
    return TransferMatrix(tuple(rows), threat.epsilon, repr(attack), attack.name), outcomes


class _Member:
    """One member of an ensemble as a model of its own."""

    def __init__(self, ensemble: Ensemble, index: int) -> None:
        self._ensemble, self._index = ensemble, index

    def __call__(self, images: Tensor) -> Tensor:
        return self._ensemble.members[self._index](self._ensemble.normalise(images))

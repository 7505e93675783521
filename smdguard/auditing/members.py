"""How far what fools one member of an ensemble fools the others."""

from collections.abc import Mapping

import torch
from torch import Tensor

from smdguard.attacks import Attack, Model, Transfer
from smdguard.attacks.attack import is_fooled
from smdguard.auditing.crafting import Planned, Workshop
from smdguard.auditing.outcomes import Outcome
from smdguard.ensemble import Ensemble
from smdguard.report import TransferMatrix
from smdguard.scores import average_log_probabilities
from smdguard.threat import ThreatModel


def member_models(ensemble: Ensemble) -> dict[str, Model]:
    """Every member as a model of its own, by what reports call it."""
    return {f"member {index}": _Member(ensemble, index) for index in range(len(ensemble.members))}


def member_transfer(
    ensemble: Ensemble,
    members: Mapping[str, Model],
    attack: Attack,
    workshop: Workshop,
    threat: ThreatModel,
    clean: Tensor,
) -> tuple[TransferMatrix | None, list[Outcome]]:
    """Attack members alone: how do the members and the ensemble fare?

    There is no matrix where not every member is attacked.

    Args:
        ensemble: The audited model.
        members: Those of its members that are attacked, by name.
        attack: What is made on each of them, without early stop (see Transfer).
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
    for source, member in members.items():
        transfer = Transfer(source, attack)
        planned = Planned(transfer, member, source)
        measured = workshop.measure(planned, threat, right, width=1 + len(ensemble.members))
        rows.append(tuple(measured[:, 1:].double().mean(dim=0).tolist()))
        outcomes.append(Outcome(transfer, "member", source, threat.epsilon, clean & measured[:, 0]))
    is_whole = len(rows) == len(ensemble.members)
    return TransferMatrix(tuple(rows), threat.epsilon, repr(attack), attack.name) if is_whole else None, outcomes


class _Member:
    """One member of an ensemble as a model of its own."""

    def __init__(self, ensemble: Ensemble, index: int) -> None:
        self._ensemble, self._index = ensemble, index

    def __call__(self, images: Tensor) -> Tensor:
        return self._ensemble.members[self._index](self._ensemble.normalise(images))

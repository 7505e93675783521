"""Every attack of an audit, and the probes that check on them."""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from smdguard.attacks import Attack
from smdguard.auditing.composition import Evidence
from smdguard.auditing.crafting import SHARD_SIZE, Planned, Workshop
from smdguard.auditing.exhibits import gather_exhibits
from smdguard.auditing.gradient_findings import blind_members
from smdguard.auditing.gradients import gradient_health
from smdguard.auditing.input_probes import probe_input
from smdguard.auditing.members import member_transfer
from smdguard.auditing.outcomes import Outcome, worst_case
from smdguard.auditing.plan import Plan
from smdguard.auditing.presets import LONG_QUERY, has_long_query
from smdguard.auditing.probes import TRACED, attacks_too_weak, probe_gradient_attacks, scale_free_attacks
from smdguard.auditing.sampling import NUM_PROBED, NUM_QUERIED, evenly_spaced, probe_rows
from smdguard.auditing.slopes import probe_slopes
from smdguard.auditing.statistics import interval
from smdguard.auditing.suspicion import suspicion_under_attack
from smdguard.auditing.verdict import is_too_low
from smdguard.ensemble import Ensemble
from smdguard.report import Access
from smdguard.threat import ThreatModel


class Campaign:
    """Looks at a model, then attacks it in every way that its audit asks for.

    `evidence` is what has been found so far, to begin with what shows before any attack.

    Args:
        plan: The attacks.
        workshop: Makes them on the audit's images.
        threat: The audit's threat model.
    """

    def __init__(self, plan: Plan, workshop: Workshop, threat: ThreatModel) -> None:
        self._plan, self._workshop, self._threat = plan, workshop, threat
        self._model, self._run = workshop.batching.wrap(plan.model), workshop.batching.run
        self.evidence = self._look_at_model()

    def make_attacks(self, radii: Sequence[float]) -> None:
        """Make all attacks at these radii, the threat model's last; then the probes."""
        plan, evidence = self._plan, self.evidence
        for radius in radii:
            self._attack(dataclasses.replace(self._threat, epsilon=radius))
        if isinstance(plan.model, Ensemble) and plan.follows_every_member and plan.suspicion_threshold is not None:
            evidence.suspicion, outcomes = suspicion_under_attack(
                plan.model, self._workshop, self._threat, plan.suspicion_threshold, evidence.clean
            )
            evidence.asides += outcomes
        if evidence.has_steady_gradients:
            self._probe_gradients()
            self._probe_what_stands(radii[:-1])

    def gather_exhibits(self) -> None:
        """Find what there is to see."""
        radius, clean = self._threat.epsilon, self.evidence.clean
        outcomes, worst = self.evidence.outcomes_at(radius), self.evidence.standing(radius)
        self.evidence.exhibits = self._run(
            lambda: gather_exhibits(self._plan, self._workshop, self._threat, outcomes, clean=clean, worst=worst)
        )

    def _look_at_model(self) -> Evidence:
        plan, workshop, model = self._plan, self._workshop, self._model
        shards = workshop.images.split(SHARD_SIZE), workshop.labels.split(SHARD_SIZE)
        evidence = Evidence(
            clean=workshop.standing(plan.model, workshop.images, workshop.labels),
            health=self._run(lambda: gradient_health(model, *shards, self._threat)) if plan.has_gradients else None,
            probed=self._run(lambda: probe_input(model, *self._probed(), has_gradients=plan.has_gradients)),
        )
        if plan.has_gradients:
            evidence.probed += blind_members(plan.blind_members)
            evidence.probed += self._run(lambda: list(probe_slopes(model, *self._probed(), self._threat)))
        return evidence

    def _probed(self) -> tuple[Tensor, Tensor]:
        """The few images that the probes are made on, and their labels."""
        rows = probe_rows(len(self._workshop.images), self._workshop.images.device)
        return self._workshop.images[rows], self._workshop.labels[rows]

    def _attack(self, threat: ThreatModel) -> None:
        """Make all attacks at one radius; the probes, which are made at the largest, have their like at the others."""
        plan, evidence, at_largest = self._plan, self.evidence, threat == self._threat
        for attack in plan.attacks:
            self._make(Planned(attack, plan.model, plan.name), threat, "white-box")
        for attack in plan.pursuits:
            self._make(Planned(attack, plan.model, plan.name), threat, "white-box", self._pursued(attack, threat))
        for planned in plan.transfers:
            self._make(planned, threat, "black-box")
        if isinstance(plan.model, Ensemble):
            for attack in plan.on_members(at_largest=at_largest):
                matrix, outcomes = member_transfer(
                    plan.model, plan.members, attack, self._workshop, threat, evidence.clean
                )
                evidence.outcomes += outcomes
                if at_largest and matrix is not None:
                    evidence.transfers.append(matrix)
        if not at_largest and evidence.has_steady_gradients:
            evidence.asides.append(self._long_run(threat))

    def _make(self, planned: Planned, threat: ThreatModel, access: Access, pursued: Tensor | None = None) -> None:
        standing = self.evidence.clean & self._left_by(planned, threat, pursued)
        num_attacked = None if pursued is None else int(pursued.sum())
        self.evidence.outcomes.append(
            Outcome(planned.attack, access, planned.source, threat.epsilon, standing, num_attacked)
        )

    def _pursued(self, attack: Attack, threat: ThreatModel) -> Tensor:
        """What the white-box attacks before this one have left.

        Those along gradients look at what gradients left: what an attack without them found is not credited to them.
        """
        along_gradients = attack.requires == "gradients"
        before = [
            outcome
            for outcome in self.evidence.outcomes
            if (outcome.uses_gradients if along_gradients else outcome.access == "white-box")
        ]
        return worst_case(before, self.evidence.clean, threat.epsilon)

    def _left_by(self, planned: Planned, threat: ThreatModel, pursued: Tensor | None) -> Tensor:
        """Which of the pursued images the audited model still gets right, whatever the attack was made on."""
        return self._workshop.measure(planned, threat, self._right, pursued=pursued)[:, 0]

    def _right(self, images: Tensor, labels: Tensor) -> Tensor:
        """Whether the audited model gets each image right: (B, 1)."""
        return self._workshop.standing(self._plan.model, images, labels)[:, None]

    def _long_run(self, threat: ThreatModel) -> Outcome:
        """What the probes' long run of PGD leaves standing of their images, so that a curve's points are alike."""
        standing = self.evidence.standing(threat.epsilon)
        probed = torch.zeros_like(standing)
        probed[probe_rows(len(probed), probed.device)] = True
        attack = dataclasses.replace(TRACED, early_stop=True)
        left = self._left_by(Planned(attack, self._plan.model, "probes"), threat, probed & standing)
        return Outcome(attack, "white-box", "probes", threat.epsilon, standing & (left | ~probed))

    def _probe_gradients(self) -> None:
        """Findings on a part of the images, and what the long run of PGD behind them leaves standing."""
        evidence, threat = self.evidence, self._threat
        standing = worst_case(evidence.outcomes, evidence.clean, threat.epsilon)
        rows, generator = probe_rows(len(standing), standing.device), self._workshop.generator("probes")
        findings, standing[rows] = self._run(
            lambda: probe_gradient_attacks(
                self._model, *self._probed(), threat, self._plan.attacks, standing[rows], generator
            )
        )
        evidence.probed += findings
        evidence.asides.append(Outcome(TRACED, "white-box", "probes", threat.epsilon, standing))

    def _probe_what_stands(self, smaller: Sequence[float]) -> None:
        """Where enough stands to be called robust, attack some of it in ways that the audit's attacks may lack.

        Scores that shrink away from the clean images lead attacks on the cross-entropy astray. And gradients may be
        sound and still lead nowhere, such as those of the one branch of a model that has any: if no attack has asked
        long without gradients, one does about a few.
        """
        for description, attack in scale_free_attacks(self._workshop.labels).items():
            self._probe_with(attack, description, NUM_PROBED, smaller)
        if not has_long_query(self._plan.preset):
            self._probe_with(LONG_QUERY, f"Square with {LONG_QUERY.num_queries:,} queries", NUM_QUERIED, smaller)

    def _probe_with(self, attack: Attack, description: str, num_images: int, smaller: Sequence[float]) -> None:
        evidence, threat = self.evidence, self._threat
        standing = evidence.standing(threat.epsilon)
        rows = evenly_spaced(len(standing), num_images, standing.device)
        if is_too_low(interval(standing), interval(evidence.clean)) or not standing[rows].any():
            return
        after = self._left_of(rows, attack, threat)
        findings = list(attacks_too_weak(standing[rows], after[rows], description))
        evidence.probed += findings
        # Attacks that are too weak at the largest radius are so at the others, and a curve's points are to be alike.
        if any(finding.severity == "high" for finding in findings):
            for radius in smaller:
                self._left_of(rows, attack, dataclasses.replace(threat, epsilon=radius))

    def _left_of(self, rows: Tensor, attack: Attack, threat: ThreatModel) -> Tensor:
        """Which images stand once those of some rows that do are attacked as well, which counts in the worst case."""
        after = self.evidence.standing(threat.epsilon).clone()
        asked = rows[after[rows]]
        if len(asked):
            planned = Planned(attack, self._plan.model, "probes")
            after[asked] = self._workshop.measure_rows(planned, threat, self._right, asked, width=1)[:, 0]
        self.evidence.asides.append(Outcome(attack, "white-box", "probes", threat.epsilon, after))
        return after

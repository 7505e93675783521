"""Attack a model in every way that its audit asks for."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from smdguard.attacks import Attack, Model
from smdguard.auditing.batching import Batching
from smdguard.auditing.composition import Assignment, Evidence, compose_report
from smdguard.auditing.crafting import SHARD_SIZE, Measure, Planned, Store, Workshop
from smdguard.auditing.duration import measure_pace, seconds_at_most
from smdguard.auditing.exhibits import gather_exhibits
from smdguard.auditing.fingerprint import fingerprint
from smdguard.auditing.gradient_findings import blind_members
from smdguard.auditing.gradients import gradient_health
from smdguard.auditing.input_probes import probe_input
from smdguard.auditing.members import member_transfer
from smdguard.auditing.outcomes import Outcome, worst_case
from smdguard.auditing.plan import Plan, plan_attacks
from smdguard.auditing.preset_names import PresetName
from smdguard.auditing.presets import LONG_QUERY, has_long_query
from smdguard.auditing.probes import TRACED, attacks_too_weak, probe_gradient_attacks
from smdguard.auditing.sampling import NUM_QUERIED, evenly_spaced, probe_rows
from smdguard.auditing.statistics import interval
from smdguard.auditing.suspicion import suspicion_under_attack
from smdguard.auditing.validation import (
    check_attacks,
    check_model,
    check_surrogate,
    checked_epsilons,
    checked_images,
    checked_labels,
)
from smdguard.auditing.verdict import is_too_low
from smdguard.ensemble import Ensemble
from smdguard.report import Access, AuditReport, Exhibits
from smdguard.threat import ThreatModel

# Of the images in a batch: a shard of 3 x 52 x 52, or 13 of 3 x 224 x 224, for which a ResNet-50 takes two gigabytes.
_MAX_VALUES = 2**21

Progress = Callable[[int, int, str], None]
"""Called with the shards done, the shards in all, and what is under way."""


class AuditInterrupted(KeyboardInterrupt):
    """An audit was stopped by hand; `report` holds what was found until then."""

    def __init__(self, report: AuditReport) -> None:
        super().__init__("the audit was stopped")
        self.report = report


# Whoever calls under torch.inference_mode() or no_grad() wants the same report.
@torch.inference_mode(mode=False)
def audit(
    model: Model,
    images: Any,
    labels: Any,
    threat: ThreatModel,
    *,
    attacks: PresetName | Sequence[Attack] = "standard",
    surrogates: Mapping[str, Model] | None = None,
    epsilons: Sequence[float] = (),
    seed: int = 0,
    name: str = "model",
    dataset: str | None = None,
    class_names: Sequence[str] = (),
    progress: Progress = lambda *_: None,
    announce: Callable[[float], None] | None = None,
    store: Store | None = None,
    suspicion_threshold: float | None = None,
) -> AuditReport:
    """Find out how hard a model is to fool.

    Every attack is made white-box on the model and, where it needs gradients, black-box on each surrogate, but for FAB
    and attacks that need members; on an ensemble PGD, or each attack of the preset paper, is also made on each member
    alone. A preset's stronger attacks are made white-box alone, and pursue the images that the white-box attacks before
    them left standing or, along gradients, those that the ones along gradients did. What an attack returns is not
    trusted: its ball and box are checked and the model is asked again. The clean image counts as an attack, so the
    worst case is never above the clean accuracy.

    The same seed gives the same result on one type of device and number of threads: the images are worked on in
    shards of 250, each with a generator made from (seed, attack, shard). What a model itself draws is not seeded.

    Args:
        model: From images (B, C, H, W) in [0, 1] to logits or log-probabilities (B, K); in evaluation mode, with
            its normalisation inside. Where its output carries no gradient, only attacks that need none are made.
        images: Clean images (B, C, H, W) in [0, 1], tensor or array.
        labels: Their classes (B,).
        threat: What the adversary may do.
        attacks: A preset's name or the attacks themselves.
        surrogates: Models to make black-box attacks on, by name.
        epsilons: Further radii, at most the threat model's, for the accuracy curve.
        seed: Seed of every random draw.
        name: What the report calls the model.
        dataset: What the report calls the images.
        class_names: What the report calls the classes, in their order.
        progress: Hears of each finished shard.
        announce: Hears before the attacks begin how many seconds all take at most, if no image falls.
        store: Where the results of finished shards are kept; those that it holds already are not computed again. An
            attack of one's own is known by its repr and by the file that it is written in.
        suspicion_threshold: For an Ensemble, disagreement in nats above which an image is flagged; the report then
            says which share of the adversarial images is.

    Raises:
        InvalidInputError: Images, labels, model, epsilons or preset are not as they have to be, no attack is possible,
            or an attack left the ball or the box.
        AuditInterrupted: Ctrl-C was pressed while attacks were made, or what is shown beside their figures.
    """
    images = checked_images(images)
    labels = checked_labels(labels, images)
    surrogates = dict(surrogates or {})
    check_model(model, images, labels)
    check_attacks(attacks)
    for surrogate_name, surrogate in surrogates.items():
        check_surrogate(surrogate_name, surrogate, images, labels)
    plan = plan_attacks(model, name, attacks, surrogates, images, suspicion_threshold)
    assignment = Assignment(
        name=name,
        dataset=dataset,
        class_names=tuple(class_names),
        threat=threat,
        radii=checked_epsilons(epsilons, threat),
        with_curve=len(epsilons) > 0,
        preset=attacks if isinstance(attacks, str) else None,
        seed=seed,
        impossible=tuple(plan.left_out),
    )
    batching, counter = Batching(_images_at_first(images)), _Counter(progress)
    workshop = Workshop(
        images,
        labels,
        seed,
        fingerprint="" if store is None else _fingerprint(plan, images, labels, seed, batching),
        store={} if store is None else store,
        advance=counter.advance,
        batching=batching,
    )
    evidence = _look_at_model(plan, workshop, threat)
    num_runs = plan.num_runs(len(assignment.attacked), with_long_runs=evidence.has_steady_gradients)
    counter.total = num_runs * -(-len(images) // SHARD_SIZE)
    if announce is not None:
        seconds = workshop.batching.run(lambda: _seconds_at_most(plan, workshop, assignment))
        if seconds is not None:
            announce(seconds)
    partial = True
    try:
        _gather(evidence, plan, workshop, assignment)
        partial = False
        evidence.exhibits = _exhibits(evidence, plan, workshop, threat)
    except KeyboardInterrupt as interrupt:
        raise AuditInterrupted(compose_report(assignment, evidence, partial=partial)) from interrupt
    return compose_report(assignment, evidence)


def _images_at_first(images: Tensor) -> int:
    """How many images to ask a model about at a time, to begin with.

    A GPU says when it has no memory left; a system grants a processor more than there is and kills who uses it.
    """
    return SHARD_SIZE if images.is_cuda else max(1, min(SHARD_SIZE, _MAX_VALUES // images[0].numel()))


def _fingerprint(plan: Plan, images: Tensor, labels: Tensor, seed: int, batching: Batching) -> str:
    models = [(plan.name, plan.model), *plan.surrogates.items()]
    attacks = [*plan.preset.attacks, *plan.preset.pursuits]
    return batching.run(lambda: fingerprint(models, attacks, images, labels, seed, batching))


def _look_at_model(plan: Plan, workshop: Workshop, threat: ThreatModel) -> Evidence:
    """What shows before any attack is made."""
    run, model = workshop.batching.run, workshop.batching.wrap(plan.model)
    shards = workshop.images.split(SHARD_SIZE), workshop.labels.split(SHARD_SIZE)
    hidden = blind_members(plan.blind_members) if plan.has_gradients else []
    return Evidence(
        clean=workshop.standing(plan.model, workshop.images, workshop.labels),
        health=run(lambda: gradient_health(model, *shards, threat)) if plan.has_gradients else None,
        probed=[*run(lambda: probe_input(model, *_probed(workshop), has_gradients=plan.has_gradients)), *hidden],
    )


def _probed(workshop: Workshop) -> tuple[Tensor, Tensor]:
    """The few images that the probes are made on, and their labels."""
    rows = probe_rows(len(workshop.images), workshop.images.device)
    return workshop.images[rows], workshop.labels[rows]


def _seconds_at_most(plan: Plan, workshop: Workshop, assignment: Assignment) -> float | None:
    """By a call or two of each model about one shard."""
    images, labels = workshop.images[:SHARD_SIZE], workshop.labels[:SHARD_SIZE]
    return seconds_at_most(
        plan,
        num_images=len(workshop.labels),
        num_radii=len(assignment.attacked),
        pace_of=lambda model: measure_pace(workshop.batching.wrap(model), images, labels),
    )


class _Counter:
    """Counts finished shards; how many there will be is known once the model has been looked at."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._done, self.total = progress, 0, 0

    def advance(self, description: str) -> None:
        self._done += 1
        self._progress(self._done, self.total, description)


def _gather(evidence: Evidence, plan: Plan, workshop: Workshop, assignment: Assignment) -> None:
    """Make all attacks, then the probes; what is found is kept as it comes."""
    threat = assignment.threat
    for radius in assignment.attacked:
        at_radius = dataclasses.replace(threat, epsilon=radius)
        _gather_at(at_radius, evidence, plan, workshop, at_largest=at_radius == threat)
    if isinstance(plan.model, Ensemble) and plan.follows_every_member and plan.suspicion_threshold is not None:
        evidence.suspicion, outcomes = suspicion_under_attack(
            plan.model, workshop, threat, plan.suspicion_threshold, evidence.clean
        )
        evidence.asides += outcomes
    if evidence.has_steady_gradients:
        _probe_gradients(evidence, plan, workshop, threat)
        _probe_without_gradients(evidence, plan, workshop, threat)


def _exhibits(evidence: Evidence, plan: Plan, workshop: Workshop, threat: ThreatModel) -> Exhibits:
    outcomes, worst = evidence.outcomes_at(threat.epsilon), evidence.standing(threat.epsilon)
    return workshop.batching.run(
        lambda: gather_exhibits(plan, workshop, threat, outcomes, clean=evidence.clean, worst=worst)
    )


def _gather_at(threat: ThreatModel, evidence: Evidence, plan: Plan, workshop: Workshop, *, at_largest: bool) -> None:
    """Make all attacks at one radius; the probes, which are made at the largest, have their like at the others."""
    _attack(evidence, plan, workshop, threat)
    if isinstance(plan.model, Ensemble):
        for attack in plan.on_members(at_largest=at_largest):
            matrix, outcomes = member_transfer(plan.model, plan.members, attack, workshop, threat, evidence.clean)
            evidence.outcomes += outcomes
            if at_largest and matrix is not None:
                evidence.transfers.append(matrix)
    if not at_largest and evidence.has_steady_gradients:
        evidence.asides.append(_long_run(evidence, plan, workshop, threat))


def _attack(evidence: Evidence, plan: Plan, workshop: Workshop, threat: ThreatModel) -> None:
    """Make the attacks at one radius; the pursuits look at what the attacks before them have left.

    Those along gradients look at what gradients left: what an attack without them found is not credited to them.
    """

    def make(planned: Planned, access: Access, pursued: Tensor | None = None) -> None:
        standing = evidence.clean & _left_by(planned, plan, workshop, threat, pursued)
        num_attacked = None if pursued is None else int(pursued.sum())
        outcome = Outcome(planned.attack, access, planned.source, threat.epsilon, standing, num_attacked)
        evidence.outcomes.append(outcome)

    for attack in plan.attacks:
        make(Planned(attack, plan.model, plan.name), "white-box")
    for attack in plan.pursuits:
        along_gradients = attack.requires == "gradients"
        direct = [
            outcome
            for outcome in evidence.outcomes
            if (outcome.uses_gradients if along_gradients else outcome.access == "white-box")
        ]
        make(Planned(attack, plan.model, plan.name), "white-box", worst_case(direct, evidence.clean, threat.epsilon))
    for planned in plan.transfers:
        make(planned, "black-box")


def _left_by(planned: Planned, plan: Plan, workshop: Workshop, threat: ThreatModel, pursued: Tensor | None) -> Tensor:
    """Which of the pursued images the audited model still gets right after an attack, whatever that was made on."""
    return workshop.measure(planned, threat, _right(plan, workshop), pursued=pursued)[:, 0]


def _right(plan: Plan, workshop: Workshop) -> Measure:
    """Whether the audited model gets each image right: (B, 1)."""
    return lambda images, labels: workshop.standing(plan.model, images, labels)[:, None]


def _long_run(evidence: Evidence, plan: Plan, workshop: Workshop, threat: ThreatModel) -> Outcome:
    """What the probes' long run of PGD leaves standing of their images, so that a curve's points are alike."""
    standing = evidence.standing(threat.epsilon)
    probed = torch.zeros_like(standing)
    probed[probe_rows(len(probed), probed.device)] = True
    attack = dataclasses.replace(TRACED, early_stop=True)
    left = _left_by(Planned(attack, plan.model, "probes"), plan, workshop, threat, probed & standing)
    return Outcome(attack, "white-box", "probes", threat.epsilon, standing & (left | ~probed))


def _probe_gradients(evidence: Evidence, plan: Plan, workshop: Workshop, threat: ThreatModel) -> None:
    """Findings on a part of the images, and what the long run of PGD behind them leaves standing."""
    model, standing = workshop.batching.wrap(plan.model), worst_case(evidence.outcomes, evidence.clean, threat.epsilon)
    rows = probe_rows(len(standing), standing.device)
    findings, standing[rows] = workshop.batching.run(
        lambda: probe_gradient_attacks(
            model, *_probed(workshop), threat, plan.attacks, standing[rows], workshop.generator("probes")
        )
    )
    evidence.probed += findings
    evidence.asides.append(Outcome(TRACED, "white-box", "probes", threat.epsilon, standing))


def _probe_without_gradients(evidence: Evidence, plan: Plan, workshop: Workshop, threat: ThreatModel) -> None:
    """Where enough stands to be called robust and no attack has asked long without gradients, ask about a few images.

    Gradients may be sound and still lead nowhere: such as those of the one branch of a model that lets them through.
    """
    clean, standing = evidence.clean, evidence.standing(threat.epsilon)
    if has_long_query(plan.preset) or is_too_low(interval(standing), interval(clean)):
        return
    rows = evenly_spaced(len(standing), NUM_QUERIED, standing.device)
    asked, after = rows[standing[rows]], standing.clone()
    planned = Planned(LONG_QUERY, plan.model, "probes")
    after[asked] = workshop.measure_rows(planned, threat, _right(plan, workshop), asked, width=1)[:, 0]
    evidence.probed += attacks_too_weak(standing[rows], after[rows], f"Square with {LONG_QUERY.num_queries:,} queries")
    evidence.asides.append(Outcome(LONG_QUERY, "white-box", "probes", threat.epsilon, after))

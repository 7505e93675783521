"""An audit, from the images to the report."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, SupportsIndex

import torch
from torch import Tensor

from smdguard.attacks import Attack, Model
from smdguard.auditing.attack_validation import check_attacks
from smdguard.auditing.batching import Batching
from smdguard.auditing.campaign import Campaign
from smdguard.auditing.composition import Assignment, compose_report
from smdguard.auditing.crafting import SHARD_SIZE, Store, Workshop
from smdguard.auditing.duration import measure_pace, seconds_at_most
from smdguard.auditing.fingerprint import fingerprint
from smdguard.auditing.plan import Plan, plan_attacks
from smdguard.auditing.preset_names import PresetName
from smdguard.auditing.validation import (
    check_model,
    check_surrogate,
    check_threat,
    checked_class_names,
    checked_epsilons,
    checked_images,
    checked_labels,
    checked_seed,
)
from smdguard.report import AuditReport
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
    seed: SupportsIndex = 0,
    name: str = "model",
    dataset: str | None = None,
    class_names: Collection[str] = (),
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
    num_classes = check_model(model, images, labels)
    check_threat(threat)
    seed = checked_seed(seed)
    class_names = checked_class_names(class_names, num_classes)
    check_attacks(attacks)
    for surrogate_name, surrogate in surrogates.items():
        check_surrogate(surrogate_name, surrogate, images, labels, num_classes)
    plan = plan_attacks(model, name, attacks, surrogates, images, suspicion_threshold)
    assignment = Assignment(
        name=name,
        dataset=dataset,
        class_names=class_names,
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
    campaign = Campaign(plan, workshop, threat)
    evidence = campaign.evidence
    num_runs = plan.num_runs(len(assignment.attacked), with_long_runs=evidence.has_steady_gradients)
    counter.total = num_runs * -(-len(images) // SHARD_SIZE)
    if announce is not None:
        seconds = workshop.batching.run(lambda: _seconds_at_most(plan, workshop, assignment))
        if seconds is not None:
            announce(seconds)
    partial = True
    try:
        campaign.make_attacks(assignment.attacked)
        partial = False
        campaign.gather_exhibits()
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


def _seconds_at_most(plan: Plan, workshop: Workshop, assignment: Assignment) -> float | None:
    """By a call or two of each model about one shard."""
    images, labels = workshop.images[:SHARD_SIZE], workshop.labels[:SHARD_SIZE]
    return seconds_at_most(
        plan,
        labels=workshop.labels,
        num_radii=len(assignment.attacked),
        pace_of=lambda model: measure_pace(model, workshop.batching, images, labels),
    )


class _Counter:
    """Counts finished shards; how many there will be is known once the model has been looked at."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._done, self.total = progress, 0, 0

    def advance(self, description: str) -> None:
        self._done += 1
        self._progress(self._done, self.total, description)

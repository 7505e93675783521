"""What a report shows beside its numbers: images before and after, where the members look, how far they disagree."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from smdguard.attacks import Attack, Model
from smdguard.attacks.attack import is_fooled, to_the_last_step
from smdguard.auditing.crafting import Workshop
from smdguard.auditing.outcomes import Outcome
from smdguard.auditing.pictures import picture_of_change, picture_of_image, picture_of_saliency
from smdguard.auditing.plan import Plan
from smdguard.auditing.sampling import evenly_spaced
from smdguard.ensemble import Ensemble
from smdguard.report import Disagreement, Exhibits, GalleryImage, SaliencyMaps
from smdguard.saliency import member_saliencies, pairwise_cosine
from smdguard.scores import disagreement
from smdguard.threat import ThreatModel

NUM_SAMPLES = 100
NUM_GALLERY = 8
NUM_SALIENCY = 3


def gather_exhibits(
    plan: Plan, workshop: Workshop, threat: ThreatModel, outcomes: Sequence[Outcome], *, clean: Tensor, worst: Tensor
) -> Exhibits:
    """Make the audit's attacks again, on a small sample spread evenly over the images that the model gets right.

    Args:
        plan: The audit's, to know its models.
        workshop: Holds the audit's images, and makes its models fit into memory.
        threat: The audit's threat model.
        outcomes: The audit's at this radius, to know its attacks.
        clean: Which images the model gets right, bool (B,).
        worst: Which of them stood against all attacks, bool (B,).
    """
    wrap = workshop.batching.wrap
    careful = wrap(plan.model)
    right = clean.nonzero().flatten()
    rows = right[evenly_spaced(len(right), NUM_SAMPLES, right.device)]
    attempts = _attempts(outcomes, {name: wrap(surrogate) for name, surrogate in plan.surrogates.items()}, rows)
    generator = workshop.generator("exhibits")
    sample = _attacked(careful, workshop.images[rows], workshop.labels[rows], threat, attempts, generator)
    # Random draws differ from the audit's; an image that fares otherwise than there would contradict its numbers.
    sample = sample.only(sample.standing == worst[rows])
    shown = sample.only(_one_of_each_class(sample))
    if not isinstance(plan.model, Ensemble):
        return Exhibits(_gallery(careful, shown), saliency=(), disagreement=None)
    saliency = _saliency(plan.model, shown) if plan.follows_every_member else ()
    return Exhibits(_gallery(careful, shown), saliency, _disagreement(careful, sample))


class _Sample(NamedTuple):
    """Images, the last attempt at each, whether it stood against them all, and the number of the attempt."""

    images: Tensor
    labels: Tensor
    adversarial: Tensor
    standing: Tensor
    attempt: Tensor
    names: Sequence[str]

    def only(self, rows: Tensor) -> "_Sample":
        return _Sample(*(part[rows] for part in self[:-1]), names=self.names)


class _Attempt(NamedTuple):
    """An attack, the surrogate that it is made on if it is, what the gallery calls it, and which images fell to it."""

    attack: Attack
    surrogate: Model | None
    name: str
    fooled: Tensor


def _attempts(outcomes: Sequence[Outcome], surrogates: Mapping[str, Model], rows: Tensor) -> list[_Attempt]:
    """The audit's attacks; those by queries take long, and serve where no others do.

    First come those that can go on after their first success, which lies right at the boundary, where members disagree
    most; of those that can, as of the others, the strongest first.
    """
    on_whole_models = [one for one in outcomes if one.access != "member"]
    quick = [one for one in on_whole_models if one.attack.requires != "scores"] or on_whole_models
    quick.sort(key=lambda one: (not hasattr(one.attack, "early_stop"), one.robust_accuracy))
    return [
        _Attempt(
            to_the_last_step(one.attack),
            surrogates[one.source] if one.access == "black-box" else None,
            one.description,
            ~one.standing[rows],
        )
        for one in quick
    ]


def _attacked(
    model: Model,
    images: Tensor,
    labels: Tensor,
    threat: ThreatModel,
    attempts: Sequence[_Attempt],
    generator: torch.Generator,
) -> _Sample:
    """Make one attack after the other, the first on all images, the others on what still stands and fell to them."""
    adversarial, last = images.clone(), torch.zeros_like(labels)
    standing = torch.ones_like(labels, dtype=torch.bool)
    for number, (attack, surrogate, _, fooled) in enumerate(attempts):
        rows = (standing & fooled if number else standing).nonzero().flatten()
        if not len(rows):
            continue
        candidates = attack(
            model if surrogate is None else surrogate, images[rows], labels[rows], threat, generator=generator
        )
        adversarial[rows], last[rows] = threat.project(images[rows], candidates), number
        with torch.no_grad():
            standing[rows] = ~is_fooled(model(adversarial[rows]), labels[rows])
    return _Sample(images, labels, adversarial, standing, last, [attempt.name for attempt in attempts])


def _one_of_each_class(sample: _Sample) -> Tensor:
    """Rows for the gallery: of each of the first classes the first image that is fooled, else the first."""
    rows = []
    for label in sample.labels.unique()[:NUM_GALLERY]:
        of_class = (sample.labels == label).nonzero().flatten()
        fooled = of_class[~sample.standing[of_class]]
        rows.append(fooled[0] if len(fooled) else of_class[0])
    return torch.stack(rows) if rows else sample.labels.new_empty(0)


def _gallery(model: Model, sample: _Sample) -> tuple[GalleryImage, ...]:
    """Those whose answer shows how they fared: not one that is no number, nor another one when asked again."""
    if not len(sample.labels):
        return ()
    with torch.no_grad():
        before, after = (model(images).softmax(dim=-1) for images in (sample.images, sample.adversarial))
    usable = before.isfinite().all(dim=1) & after.isfinite().all(dim=1)
    shows = usable & ((after.argmax(dim=1) == sample.labels) == sample.standing)
    return tuple(
        GalleryImage(
            label=label,
            clean=picture_of_image(sample.images[row]),
            clean_probability=before[row, label].item(),
            adversarial=picture_of_image(sample.adversarial[row]),
            adversarial_label=int(after[row].argmax()),
            adversarial_probability=after[row].max().item(),
            attack=sample.names[int(sample.attempt[row])],
            perturbation=picture_of_change(sample.adversarial[row] - sample.images[row]),
        )
        for row, label in enumerate(sample.labels.tolist())
        if shows[row]
    )


def _saliency(ensemble: Ensemble, sample: _Sample) -> tuple[SaliencyMaps, ...]:
    images, labels = sample.images[:NUM_SALIENCY], sample.labels[:NUM_SALIENCY]
    if not len(labels):
        return ()
    # One image at a time, which fits if any does.
    each = [member_saliencies(ensemble, *one) for one in zip(images.split(1), labels.split(1), strict=True)]
    saliencies = torch.cat(each, dim=1)
    cosines = pairwise_cosine(saliencies).nan_to_num(0.0)
    return tuple(
        SaliencyMaps(
            label=label,
            image=picture_of_image(images[row]),
            maps=tuple(picture_of_saliency(saliency.sum(dim=0, keepdim=True)) for saliency in saliencies[:, row]),
            cosines=tuple(cosines[:, row].tolist()),
        )
        for row, label in enumerate(labels.tolist())
    )


def _disagreement(ensemble: Any, sample: _Sample) -> Disagreement | None:
    if not len(sample.labels):
        return None
    with torch.no_grad():
        clean, adversarial = (
            disagreement(ensemble.member_log_probabilities(images)).nan_to_num(0.0)
            for images in (sample.images, sample.adversarial)
        )
    return Disagreement(tuple(clean.tolist()), tuple(adversarial[~sample.standing].tolist()))

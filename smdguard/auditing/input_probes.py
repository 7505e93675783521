"""Findings on a model that a few questions about clean images bring, before any attack.

Reference:
    Carlini, Athalye, Papernot, Brendel, Rauber, Tsipras, Goodfellow, Madry, Kurakin, "On Evaluating Adversarial
    Robustness", 2019.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from smdguard.attacks import Model
from smdguard.attacks.attack import is_fooled
from smdguard.attacks.losses import margin
from smdguard.auditing.outcomes import is_gap
from smdguard.auditing.sampling import evenly_spaced
from smdguard.auditing.statistics import interval, share_of
from smdguard.report import DEPENDS_ON_BATCH, RANDOM_OUTPUT, Finding
from smdguard.wording import counted, percent

NUM_ALONE = 16
# Kernels for batches of other sizes round otherwise: half precision by a few thousandths of the largest score, which
# may be ten times its lead.
_BEYOND_ROUNDING = 0.1
# A thousandth of the line between two images: what is narrower, attacks step over.
NUM_BISECTED, NUM_BISECTIONS = 50, 10
# Of such parts: how far aside, and how long, is what a jump is held against. What changes within fewer is a jump too.
NUM_ASIDE = 16
MAX_JUMP, MAX_JUMPING = 0.1, 0.2
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def probe_input(model: Model, images: Tensor, labels: Tensor, *, has_gradients: bool) -> list[Finding]:
    """What clean images tell: are the answers each image's own and always the same, and what are they worth?"""
    random = list(_random_output(model, images))
    steady = [*_depends_on_batch(model, images), *_scores_jump(model, images, labels)] if not random else []
    return [
        *random,
        *steady,
        *(_answers_attacks_otherwise(model, images) if has_gradients and not random else ()),
        *_normalised_twice(model, images, labels),
        *_no_better_than_chance(model, images, labels),
    ]


def _random_output(model: Model, images: Tensor) -> Iterator[Finding]:
    with torch.no_grad():
        share = _share_that_differs(model(images), model(images), by=1e-3)
    if share > 0:
        message = (
            f"Asked twice about the same images, the model gives different outputs for {percent(share)} of them. Every "
            "figure here is one draw, and an adversary may ask again. Make the model deterministic, or average its "
            "outputs over many draws inside the model and audit that."
        )
        yield Finding(RANDOM_OUTPUT, "high", message, {"share": share})


def _depends_on_batch(model: Model, images: Tensor) -> Iterator[Finding]:
    """Does an image get another answer alone than among others?"""
    rows = evenly_spaced(len(images), NUM_ALONE, images.device)
    few = images[rows]
    with torch.no_grad():
        together = model(images)[rows]
        alone = torch.cat([model(image) for image in few.split(1)])
    share = _share_that_differs(together, alone, by=_BEYOND_ROUNDING)
    if share > 0:
        message = (
            f"Of {counted(len(few), 'image')} {percent(share)} get different outputs alone and in a batch with "
            "others. Attacks change all images of a batch at once, so no figure here holds for an image by itself. "
            "Look for statistics that are taken over the batch, such as those of batch normalisation in training mode."
        )
        yield Finding(DEPENDS_ON_BATCH, "high", message, {"share": share})


def _answers_attacks_otherwise(model: Model, images: Tensor) -> Iterator[Finding]:
    """Is whoever asks for gradients told what others are told?"""
    with torch.no_grad():
        plain = model(images)
    with torch.enable_grad():
        asked = model(images.detach().requires_grad_()).detach()
    share = _share_that_differs(plain, asked, by=_BEYOND_ROUNDING)
    if share > 0:
        message = (
            f"Asked for gradients, as attacks do, the model gives different outputs for {percent(share)} of the "
            "images than without. Attacks take failures for successes, and stop. Make the model give the same outputs "
            "whether torch.is_grad_enabled() or not."
        )
        yield Finding("answers_attacks_otherwise", "high", message, {"share": share})


def _share_that_differs(outputs: Tensor, others: Tensor, *, by: float) -> float:
    """The share of the images whose outputs, (B, K) and (B, K), differ by more than that part of the gaps in them.

    Each score is held against its distance from the image's best, and at least against that one's lead, here or in
    most images: so neither a huge score beside it nor what is added to all scores makes a change look small, nor does
    the unit that the scores are in. Infinite ones and NaN count as changed unless they are the same.
    """
    finite = outputs.isfinite()
    best, second = outputs.masked_fill(~finite, -torch.inf).topk(2, dim=1).values.split(1, dim=1)
    lead = (best - second).where(second.isfinite(), 0)
    scale = (best - outputs).maximum(lead).maximum(lead.median())
    rounding = 8 * torch.finfo(torch.float32).eps * outputs.abs()
    near = finite & others.isfinite() & ((outputs - others).abs() <= by * scale + rounding)
    same = (outputs == others) | (outputs.isnan() & others.isnan())
    return share_of((~(near | same)).any(dim=1))


def _scores_jump(model: Model, images: Tensor, labels: Tensor) -> Iterator[Finding]:
    """Do the scores tell that the decision is near, or does it change all at once?

    On the line from each image to one that the model answers otherwise, at the point where the answer changes. A model
    that is steep everywhere, as those for large images are, changes as fast beside it. A part of the images is enough:
    a model may show its scores for some classes, and may be steep for a few images.
    """
    rows = evenly_spaced(len(images), NUM_BISECTED, images.device)
    images, labels = images[rows], labels[rows]
    with torch.no_grad():
        outputs = model(images)
        answers, clean = outputs.argmax(dim=1), margin(outputs, labels)
        others = (answers[:, None] != answers).int()
        rows = ((answers == labels) & others.any(dim=1)).nonzero().flatten()
        if not len(rows):
            return
        start, end, labels = images[rows], images[others[rows].argmax(dim=1)], labels[rows]

        def margin_at(part: Tensor) -> Tensor:
            return margin(model(start.lerp(end, part.clamp(0, 1))), labels)

        right, wrong = (torch.full((len(rows), 1, 1, 1), part).to(images) for part in (0.0, 1.0))
        for _ in range(NUM_BISECTIONS):
            middle = (right + wrong) / 2
            fooled = is_fooled(model(start.lerp(end, middle)), labels).view(-1, 1, 1, 1)
            right, wrong = torch.where(fooled, right, middle), torch.where(fooled, middle, wrong)
        jumps, aside = margin_at(wrong) - margin_at(right), NUM_ASIDE * (wrong - right)
        before = margin_at(right - aside) - margin_at(right - 2 * aside)
        after = margin_at(wrong + 2 * aside) - margin_at(wrong + aside)
        unlike = (jumps > MAX_JUMP * clean[rows].abs()) & (jumps > torch.maximum(before.abs(), after.abs()))
    share = share_of(unlike)
    if share >= MAX_JUMPING:
        message = (
            f"Where the decision changes, the scores of {percent(share)} of {counted(len(jumps), 'image')} jump, "
            "between indistinguishable points, by more than a tenth of the clean image's margin and more than in a "
            "step beside that is sixteen times as long. They do not show how near the decision boundary is, so "
            "attacks that follow them fail. Take the step that decides out of the model, and audit the scores before "
            "it."
        )
        yield Finding("scores_jump", "high", message, {"share": share})


def _normalised_twice(model: Model, images: Tensor, labels: Tensor) -> Iterator[Finding]:
    """Undo one normalisation: does the accuracy rise?"""

    def right(candidates: Tensor) -> Tensor:
        with torch.no_grad():
            return ~is_fooled(model(candidates), labels)

    constants = [(images.mean(dim=(0, 2, 3)), images.std(dim=(0, 2, 3)))]
    if images.shape[1] == 3:
        mean, std = IMAGENET
        constants.append((images.new_tensor(mean), images.new_tensor(std)))
    before = right(images)
    for mean, std in constants:
        after = right((images * std.view(-1, 1, 1) + mean.view(-1, 1, 1)).clamp(0, 1))
        if is_gap(before, after):
            evidence = {"as_given": share_of(before), "undone": share_of(after)}
            message = (
                f"The model is right on {percent(evidence['as_given'])} of {counted(len(images), 'clean image')}, "
                f"and on {percent(evidence['undone'])} where one normalisation is undone beforehand. It seems to "
                "normalise twice. Leave one of the two out and audit again."
            )
            yield Finding("normalised_twice", "high", message, evidence)
            return


def _no_better_than_chance(model: Model, images: Tensor, labels: Tensor) -> Iterator[Finding]:
    with torch.no_grad():
        outputs = model(images)
    clean, chance = interval(~is_fooled(outputs, labels)), _expected_agreement(outputs, labels)
    # Where all are right they are too few to tell, which the verdict says.
    if clean.low <= chance and clean.value < 1:
        message = (
            f"On {counted(len(images), 'clean image')} the model is right on {percent(clean.value)}, which is not "
            f"clearly more than the {percent(chance)} of guessing: a model that ignores its input withstands any "
            "perturbation."
        )
        evidence = {"clean_accuracy": clean.value, "chance": chance}
        yield Finding("no_better_than_chance", "high", message, evidence)


def _expected_agreement(outputs: Tensor, labels: Tensor) -> float:
    """How often answers as common as the model's would be right if they had nothing to do with the image.

    Where all images are of one class that tells nothing, and the chance is that of guessing.

    Reference:
        Cohen, "A Coefficient of Agreement for Nominal Scales", 1960 (p_c).
    """
    num_classes = outputs.shape[1]
    if len(labels.unique()) == 1:
        return 1 / num_classes
    answers, truths = (each.bincount(minlength=num_classes).double() for each in (outputs.argmax(dim=1), labels))
    return (answers @ truths).item() / len(labels) ** 2

"""Named sets of attacks, and which of them a model allows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from smdguard.attacks import (
    APGD,
    BIM,
    FAB,
    FGSM,
    MIM,
    PGD,
    RFGSM,
    Attack,
    MemberReweighing,
    Square,
    TargetedAPGD,
)
from smdguard.auditing.preset_names import PresetName
from smdguard.errors import InvalidInputError
from smdguard.report import Impossible


@dataclass(frozen=True)
class Preset:
    """Which attacks an audit makes.

    Args:
        attacks: Each made on all images, on the model and, if it needs gradients, on every surrogate; but FAB and those
            that need members on the model alone.
        pursuits: Stronger ones, made on the model alone, each on the images that the white-box attacks before it left
            standing; one along gradients on those that the ones along gradients did.
        on_members: Each made on every member of an ensemble alone, the first of them, PGD, at all radii.
    """

    attacks: tuple[Attack, ...]
    pursuits: tuple[Attack, ...] = ()
    on_members: tuple[Attack, ...] = (PGD(),)


def _paper() -> Preset:
    """The paper's five attacks with its settings: ten steps of epsilon / 10, last iterate of every image."""
    fgsm, rfgsm, pgd, bim, mim = (attack(early_stop=False) for attack in (FGSM, RFGSM, PGD, BIM, MIM))
    return Preset((fgsm, rfgsm, pgd, bim, mim), on_members=(pgd, fgsm, rfgsm, bim, mim))


def _quick() -> Preset:
    """One step, ten steps of what transfers best, each image's first success kept, and short runs of three stronger."""
    reweighing = MemberReweighing(num_steps=20, member_shares=(0.5,))
    return Preset((FGSM(), MIM()), (APGD(num_steps=20), reweighing, Square(num_queries=100)))


def _standard() -> Preset:
    """The paper's five, each image's first success kept, and full runs of what is known to be strong."""
    return Preset(_first_successes(), (MemberReweighing(), APGD(), APGD(loss="dlr"), Square(num_queries=1000)))


def _full() -> Preset:
    """All that is at hand, for a release: AutoAttack's standard set and everything else that is known to be strong.

    In the order of what they cost for an image that stands.

    Reference:
        Croce, Hein, "Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse Parameter-free
        Attacks", 2020, section 6 (the standard set: APGD-CE, targeted APGD, FAB-T and Square).
    """
    thorough = [PGD(loss=loss, num_steps=100, step_ratio=0.05, num_restarts=5) for loss in ("ce", "cw")]
    gradual = [APGD(loss=loss) for loss in ("ce", "dlr", "cw")]
    pursuits = (*gradual, *thorough, MemberReweighing(), TargetedAPGD(), FAB(), Square(num_queries=5000))
    return Preset(_first_successes(), pursuits)


def _first_successes() -> tuple[Attack, ...]:
    return (FGSM(), RFGSM(), PGD(), BIM(), MIM())


# What a model has to withstand without gradients before its figures are believed.
LONG_QUERY = Square(num_queries=1000)

PRESETS: dict[PresetName, Callable[[], Preset]] = {
    "quick": _quick,
    "standard": _standard,
    "full": _full,
    "paper": _paper,
}


def find_preset(attacks: PresetName | Sequence[Attack], *, has_gradients: bool) -> Preset:
    """The preset of that name, on a model without gradients with at least 1,000 queries; or just these attacks.

    Raises:
        InvalidInputError: There is no preset of that name.
    """
    if not isinstance(attacks, str):
        return Preset(tuple(attacks))
    if attacks not in PRESETS:
        raise InvalidInputError(f"unknown preset {attacks!r}; known are {', '.join(PRESETS)}")
    preset = PRESETS[attacks]()
    if has_gradients or has_long_query(preset):
        return preset
    return replace(preset, pursuits=(*preset.pursuits, LONG_QUERY))


def has_long_query(preset: Preset) -> bool:
    """Whether one of the attacks on the model asks it at least 1,000 times without gradients."""
    attacks = (*preset.attacks, *preset.pursuits)
    return any(getattr(attack, "num_queries", 0) >= LONG_QUERY.num_queries for attack in attacks)


def impossible_attacks(preset: Preset, *, has_gradients: bool, is_ensemble: bool) -> dict[Attack, Impossible]:
    """Which attacks cannot be made on a model, and why not."""
    impossible = {}
    for attack in (*preset.attacks, *preset.pursuits):
        if attack.needs_members and not is_ensemble:
            impossible[attack] = Impossible(attack.name, "it needs an Ensemble, which averages probabilities")
        elif attack.requires == "gradients" and not has_gradients:
            impossible[attack] = Impossible(attack.name, "it needs input gradients, which the model does not give")
    return impossible

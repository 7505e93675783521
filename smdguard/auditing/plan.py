"""Which attacks are made on which model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from smdguard.attacks import FAB, Attack, Model, Transfer
from smdguard.auditing.crafting import Planned
from smdguard.auditing.gradients import has_gradients
from smdguard.auditing.members import member_models
from smdguard.auditing.preset_names import PresetName
from smdguard.auditing.presets import Preset, find_preset, impossible_attacks
from smdguard.auditing.suspicion import attacks_on_suspicion
from smdguard.ensemble import Ensemble
from smdguard.errors import InvalidInputError
from smdguard.report import Impossible


@dataclass(frozen=True)
class Plan:
    """The attacks of an audit.

    Args:
        model: The audited model.
        name: Its name.
        preset: What is asked for.
        surrogates: Models to make black-box attacks on, by name.
        has_gradients: Whether the model's output carries any.
        impossible: What of the preset the model does not allow.
        members: The members of an ensemble that give gradients, by name.
        suspicion_threshold: Disagreement in nats above which an ensemble flags an image; None where that is not asked.
    """

    model: Model
    name: str
    preset: Preset
    surrogates: Mapping[str, Model]
    has_gradients: bool = True
    impossible: Mapping[Attack, Impossible] = field(default_factory=dict)
    members: Mapping[str, Model] = field(default_factory=dict)
    suspicion_threshold: float | None = None

    @property
    def attacks(self) -> list[Attack]:
        """Made on the model and all images."""
        return [attack for attack in self.preset.attacks if attack not in self.impossible]

    @property
    def pursuits(self) -> list[Attack]:
        """Made on the model and what still stands."""
        return [attack for attack in self.preset.pursuits if attack not in self.impossible]

    @property
    def transfers(self) -> list[Planned]:
        """Made on the surrogates, whatever the model itself allows.

        FAB ends at the surrogate's boundary, from where nothing carries over.
        """
        return [
            Planned(Transfer(source, attack), surrogate, source)
            for source, surrogate in self.surrogates.items()
            for attack in self.preset.attacks
            if attack.requires == "gradients" and not attack.needs_members and not isinstance(attack, FAB)
        ]

    @property
    def on_suspicion(self) -> list[Attack]:
        """Made on an ensemble and its suspicion, which is all members' doing."""
        if self.suspicion_threshold is None or not self.follows_every_member:
            return []
        return attacks_on_suspicion(self.suspicion_threshold)

    @property
    def follows_every_member(self) -> bool:
        """Whether the model is an ensemble all of whose members give gradients."""
        return isinstance(self.model, Ensemble) and len(self.members) == len(self.model.members)

    @property
    def blind_members(self) -> list[str]:
        """The members of an ensemble that give no gradients."""
        every_member = member_models(self.model) if isinstance(self.model, Ensemble) else {}
        return [name for name in every_member if name not in self.members]

    @property
    def left_out(self) -> list[Impossible]:
        """What the model does not allow, for the report."""
        left_out = [*self.impossible.values()]
        if blind := self.blind_members:
            left_out += [Impossible(f"attacks on {name} alone", "it gives no input gradients") for name in blind]
            parts = ["saliency maps", *(["attacks on the suspicion"] if self.suspicion_threshold is not None else [])]
            left_out += [Impossible(part, "they need the input gradients of every member") for part in parts]
        return left_out

    def num_runs(self, num_radii: int, *, with_long_runs: bool) -> int:
        """On all images, at so many radii; at all but the largest perhaps with the probes' long run."""
        at_each = len(self.attacks) + len(self.pursuits) + len(self.transfers)
        on_members = [len(self.on_members(at_largest=at_largest)) * len(self.members) for at_largest in (False, True)]
        return (num_radii - 1) * (at_each + on_members[0] + with_long_runs) + at_each + on_members[1]

    def on_members(self, *, at_largest: bool) -> tuple[Attack, ...]:
        """Made on each of the members alone, at the largest radius or at another."""
        if not self.members:
            return ()
        return self.preset.on_members if at_largest else self.preset.on_members[:1]


def plan_attacks(
    model: Model,
    name: str,
    attacks: PresetName | Sequence[Attack],
    surrogates: Mapping[str, Model],
    images: Tensor,
    suspicion_threshold: float | None,
) -> Plan:
    """Find out which of the attacks the model allows.

    Args:
        model: The audited model.
        name: Its name.
        attacks: A preset's name or the attacks themselves.
        surrogates: Models to make black-box attacks on, by name.
        images: Some that the model takes.
        suspicion_threshold: See Plan.

    Raises:
        InvalidInputError: There is no such preset, or no attack is possible.
    """
    few = images[:2]
    differentiable = has_gradients(model, few)
    is_ensemble = isinstance(model, Ensemble)
    every_member = member_models(model) if is_ensemble else {}
    members = {source: member for source, member in every_member.items() if has_gradients(member, few)}
    preset = find_preset(attacks, has_gradients=differentiable)
    impossible = impossible_attacks(preset, has_gradients=differentiable, is_ensemble=is_ensemble)
    plan = Plan(model, name, preset, surrogates, differentiable, impossible, members, suspicion_threshold)
    if not (plan.attacks or plan.pursuits or plan.transfers):
        reasons = "; ".join(f"{one.name}: {one.reason}" for one in impossible.values())
        elsewhere = "none can be made on a surrogate" if surrogates else "there is no surrogate"
        raise InvalidInputError(f"no attack is possible on this model, and {elsewhere} ({reasons})")
    return plan

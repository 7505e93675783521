"""Which attacks are made on which model."""

from dataclasses import dataclass

from smdguard.attacks import FAB, Attack, Model, Transfer
from smdguard.auditing.crafting import Planned
from smdguard.auditing.presets import Preset
from smdguard.ensemble import Ensemble


@dataclass(frozen=True)
class Plan:
    """The attacks of an audit.

    Args:
        model: The audited model.
        name: Its name.
        preset: What is asked for.
        impossible: What of that the model does not allow.
        surrogates: Models to make black-box attacks on, by name.
    """

    model: Model
    name: str
    preset: Preset
    impossible: frozenset[Attack]
    surrogates: dict[str, Model]

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

    def num_runs(self, num_radii: int) -> int:
        """On all images, at so many radii; at all but the largest with the probe's long run."""
        at_each = len(self.attacks) + len(self.pursuits) + len(self.transfers)
        on_members = [len(self.on_members(at_largest=at_largest)) * self.num_members for at_largest in (False, True)]
        return (num_radii - 1) * (at_each + on_members[0] + 1) + at_each + on_members[1]

    def on_members(self, *, at_largest: bool) -> tuple[Attack, ...]:
        """Made on every member of an ensemble alone, at the largest radius or at another."""
        if not isinstance(self.model, Ensemble):
            return ()
        return self.preset.on_members if at_largest else self.preset.on_members[:1]

    @property
    def num_members(self) -> int:
        """How many of them there are."""
        return len(self.model.members) if isinstance(self.model, Ensemble) else 0

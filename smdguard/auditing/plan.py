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

    @property
    def num_runs(self) -> int:
        """At each radius."""
        return len(self.attacks) + len(self.pursuits) + len(self.transfers)

    @property
    def on_members(self) -> tuple[Attack, ...]:
        """Made on every member of an ensemble alone."""
        return self.preset.on_members if isinstance(self.model, Ensemble) else ()

    @property
    def num_members(self) -> int:
        """How many of them there are."""
        return len(self.model.members) if isinstance(self.model, Ensemble) else 0

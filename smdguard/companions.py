"""Which models of the zoo go with another: to make black-box attacks on, and to compare it with."""

from smdguard.catalogue import is_at_hand, read_audit, read_manifest
from smdguard.manifest import ManifestEntry, ModelConfig


def default_surrogates(config: ModelConfig) -> list[str]:
    """The models at hand to make black-box attacks on a model with: an undefended one, and one of its own kind.

    The undefended one is as much like it as there is, but of another seed if possible.
    """
    others = [entry for entry in _of_its_dataset(config) if entry.name != config.name and is_at_hand(entry)]

    def unlike(entry: ManifestEntry) -> tuple[bool, ...]:
        return (
            entry.architecture.name != config.architecture.name,
            entry.architecture.num_members != config.architecture.num_members,
            entry.training.seed == config.training.seed,
        )

    undefended = sorted(filter(_is_undefended, others), key=unlike)
    own_kind = [
        entry for entry in others if _kind(entry) == _kind(config) and entry.training.seed != config.training.seed
    ]
    return list(dict.fromkeys(entry.name for entry in (*undefended[:1], *own_kind[:1])))


def read_baseline_audit(config: ModelConfig) -> tuple[str, bytes] | None:
    """Name and audit, verified, of an undefended model with a model's architecture, number of members and data set.

    None where none that was audited is at hand, or the model is undefended itself.

    Raises:
        IntegrityError: The audit is not the one that the manifest names.
    """
    if _is_undefended(config):
        return None
    for entry in _of_its_dataset(config):
        if _is_undefended(entry) and _size(entry) == _size(config) and is_at_hand(entry):
            audit = read_audit(entry)
            if audit is not None:
                return entry.name, audit
    return None


def _of_its_dataset(config: ModelConfig) -> list[ManifestEntry]:
    return [entry for entry in read_manifest().models if entry.training.dataset == config.training.dataset]


def _is_undefended(model: ModelConfig | ManifestEntry) -> bool:
    return model.objective.name == "naive" and model.objective.adversarial_training is None


def _kind(model: ModelConfig | ManifestEntry) -> tuple[object, ...]:
    """What models have in common that differ by the seed."""
    adversary = (model.objective.adversarial_training or {}).get("adversary")
    return model.objective.name, adversary, _size(model)


def _size(model: ModelConfig | ManifestEntry) -> tuple[str, int]:
    return model.architecture.name, model.architecture.num_members

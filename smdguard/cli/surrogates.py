"""The models that black-box attacks on an audited one are crafted on."""

from collections.abc import Sequence

from smdguard.attacks import Model
from smdguard.auditing.preset_names import PresetName
from smdguard.backends.torch import Builder
from smdguard.cli.audited_model import AuditedModel, require_fit
from smdguard.cli.foreign_models import find_foreign_model, is_foreign, is_onnx
from smdguard.companions import default_surrogates
from smdguard.ensemble import Ensemble
from smdguard.errors import InvalidInputError
from smdguard.guard import Guard
from smdguard.hub import find_model


def find_surrogates(
    names: Sequence[str], audited: AuditedModel, preset: PresetName, builder: Builder | None
) -> dict[str, Model]:
    """Those named, else the most similar at hand, each by its name and where the audited model computes.

    Raises:
        UnknownModelError: There is no such model.
        InvalidInputError: A model cannot be a surrogate, or not of this one.
        IntegrityError: A file of a model is not what it has to be.
    """
    config = audited.config
    # One surrogate, an undefended one, is enough to see masked gradients.
    at_hand = default_surrogates(config)[: 1 if preset == "quick" else None] if config else []
    return {name: _find_surrogate(name, audited, builder) for name in names or at_hand}


def _find_surrogate(name: str, audited: AuditedModel, builder: Builder | None) -> Model:
    if is_onnx(name):
        raise InvalidInputError(
            f"{name} cannot be a surrogate: an ONNX file gives no gradients, and attacks are crafted along them; name "
            "the PyTorch model that it was exported from, such as package.module:factory"
        )
    if is_foreign(name):  # The audit sees whether it takes these images and has as many classes.
        return find_foreign_model(name, audited.device.type).model
    return _find_ours(name, audited, builder)


def _find_ours(name: str, audited: AuditedModel, builder: Builder | None) -> Ensemble:
    """Of the zoo, a folder or the Hub; the builder of the audited one makes its members if they are of a kind."""
    folder, config = find_model(name), audited.config
    of_a_kind = config is not None and folder.config.architecture.name == config.architecture.name
    guard = Guard(folder, backend="torch", device=audited.device.type, builder=builder if of_a_kind else None)
    require_fit(name, guard.image_shape, guard.config.labels, audited.dataset)
    return guard.ensemble

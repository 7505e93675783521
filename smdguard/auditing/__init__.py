"""Audits: attack a model in every way at hand, count what stands, and say how far the figures can be trusted.

Public names are imported when they are first used: the command line needs the presets' names without torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smdguard.auditing.evaluate import AuditInterrupted as AuditInterrupted
    from smdguard.auditing.evaluate import audit as audit
    from smdguard.auditing.preset_names import PresetName as PresetName
    from smdguard.auditing.presets import PRESETS as PRESETS

_HOME_OF = {
    "PRESETS": "presets",
    "AuditInterrupted": "evaluate",
    "PresetName": "preset_names",
    "audit": "evaluate",
}

__all__ = [*_HOME_OF]  # pyright: ignore[reportUnsupportedDunderAll] - resolved by __getattr__


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

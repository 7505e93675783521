"""Load verified ensembles, predict with them, and audit how hard a classifier is to fool.

Public names are imported when they are first used, so that `import smdguard` costs next to nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smdguard import render as render
    from smdguard.attacks import APGD as APGD
    from smdguard.attacks import BIM as BIM
    from smdguard.attacks import FAB as FAB
    from smdguard.attacks import FGSM as FGSM
    from smdguard.attacks import MIM as MIM
    from smdguard.attacks import PGD as PGD
    from smdguard.attacks import RFGSM as RFGSM
    from smdguard.attacks import MemberReweighing as MemberReweighing
    from smdguard.attacks import Square as Square
    from smdguard.attacks import TargetedAPGD as TargetedAPGD
    from smdguard.attacks import Transfer as Transfer
    from smdguard.attacks import Unsuspicious as Unsuspicious
    from smdguard.auditing import AuditInterrupted as AuditInterrupted
    from smdguard.auditing import audit as audit
    from smdguard.ensemble import Ensemble as Ensemble
    from smdguard.errors import BackendError as BackendError
    from smdguard.errors import HubError as HubError
    from smdguard.errors import ImageError as ImageError
    from smdguard.errors import IntegrityError as IntegrityError
    from smdguard.errors import InvalidInputError as InvalidInputError
    from smdguard.errors import SmdguardError as SmdguardError
    from smdguard.errors import UnknownModelError as UnknownModelError
    from smdguard.errors import UnpinnedRevisionWarning as UnpinnedRevisionWarning
    from smdguard.guard import Guard as Guard
    from smdguard.guard import Prediction as Prediction
    from smdguard.guard import load as load
    from smdguard.report import AuditReport as AuditReport
    from smdguard.report import Finding as Finding
    from smdguard.report import Interval as Interval
    from smdguard.threat import ThreatModel as ThreatModel

_HOMES = {
    "smdguard.attacks": [
        "APGD",
        "BIM",
        "FAB",
        "FGSM",
        "MIM",
        "MemberReweighing",
        "PGD",
        "RFGSM",
        "Square",
        "TargetedAPGD",
        "Transfer",
        "Unsuspicious",
    ],
    "smdguard.auditing": ["AuditInterrupted", "audit"],
    "smdguard.ensemble": ["Ensemble"],
    "smdguard.errors": [
        "BackendError",
        "HubError",
        "ImageError",
        "IntegrityError",
        "InvalidInputError",
        "SmdguardError",
        "UnknownModelError",
        "UnpinnedRevisionWarning",
    ],
    "smdguard.guard": ["Guard", "Prediction", "load"],
    "smdguard.report": ["AuditReport", "Finding", "Interval"],
    "smdguard.threat": ["ThreatModel"],
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [*_HOME_OF, "render"]  # pyright: ignore[reportUnsupportedDunderAll] - resolved by __getattr__
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "render":
        return importlib.import_module("smdguard.render")
    if name in _HOME_OF:
        return getattr(importlib.import_module(_HOME_OF[name]), name)
    raise AttributeError(f"module 'smdguard' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

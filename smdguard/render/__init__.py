"""Reports and predictions as text and JSON: pure functions of the data.

Names are imported when they are first used: reports come with torch, the tables of predictions and models do not.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smdguard.render.documents import json as json
    from smdguard.render.documents import parse_report as parse_report
    from smdguard.render.terminal import audit_view as audit_view
    from smdguard.render.terminal import predictions_view as predictions_view
    from smdguard.render.terminal import text as text
    from smdguard.render.terminal import zoo_view as zoo_view

_HOME_OF = {
    "json": "documents",
    "parse_report": "documents",
    "audit_view": "terminal",
    "predictions_view": "terminal",
    "text": "terminal",
    "zoo_view": "terminal",
}

__all__ = ["audit_view", "json", "parse_report", "predictions_view", "text", "zoo_view"]


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(importlib.import_module(f"smdguard.render.{_HOME_OF[name]}"), name)
    raise AttributeError(f"module 'smdguard.render' has no attribute {name!r}")

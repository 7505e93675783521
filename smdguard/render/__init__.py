"""Reports and predictions as text, JSON, HTML and figures: pure functions of the data.

Names are imported when they are first used: reports come with torch, the tables of predictions and models do not.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smdguard.render.documents import json as json
    from smdguard.render.documents import parse_report as parse_report
    from smdguard.render.documents import read_report as read_report
    from smdguard.render.documents import serialise as serialise
    from smdguard.render.figures import figure_files as figure_files
    from smdguard.render.figures import figure_names as figure_names
    from smdguard.render.page import html as html
    from smdguard.render.terminal import audit_view as audit_view
    from smdguard.render.terminal import predictions_view as predictions_view
    from smdguard.render.terminal import text as text
    from smdguard.render.terminal import zoo_view as zoo_view

_HOME_OF = {
    "json": "documents",
    "parse_report": "documents",
    "read_report": "documents",
    "serialise": "documents",
    "figure_files": "figures",
    "figure_names": "figures",
    "html": "page",
    "audit_view": "terminal",
    "predictions_view": "terminal",
    "text": "terminal",
    "zoo_view": "terminal",
}

__all__ = [*_HOME_OF]  # pyright: ignore[reportUnsupportedDunderAll] - resolved by __getattr__


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(importlib.import_module(f"smdguard.render.{_HOME_OF[name]}"), name)
    raise AttributeError(f"module 'smdguard.render' has no attribute {name!r}")

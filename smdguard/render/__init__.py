"""Reports and predictions as text and JSON: pure functions of the data."""

from smdguard.render.documents import json, parse_report
from smdguard.render.terminal import audit_view, predictions_view, text, zoo_view

__all__ = ["audit_view", "json", "parse_report", "predictions_view", "text", "zoo_view"]

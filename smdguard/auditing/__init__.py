"""Audits: attack a model in every way at hand, count what stands, and say how far the figures can be trusted."""

from smdguard.auditing.evaluate import AuditInterrupted, audit
from smdguard.auditing.presets import PRESETS, PresetName

__all__ = ["PRESETS", "AuditInterrupted", "PresetName", "audit"]

from .evaluate import AuditInterrupted as AuditInterrupted
from .evaluate import audit as audit
from .preset_names import PresetName as PresetName
from .presets import PRESETS as PRESETS

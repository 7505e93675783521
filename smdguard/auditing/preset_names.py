"""What presets are called; their attacks are in `presets`, and cost an import of torch."""

from typing import Literal

PresetName = Literal["quick", "standard", "full", "paper"]

"""Audits: attack a model in every way at hand, count what stands, and say how far the figures can be trusted.

Names are imported when they are first used: the command line needs the presets' names without torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""Load verified ensembles, predict with them, and audit how hard a classifier is to fool.

Public names stand in `__init__.pyi` and are imported when they are first used, so that `import smdguard` costs next to
nothing.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = "0.1.0"

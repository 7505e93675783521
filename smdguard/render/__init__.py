"""Reports and predictions as text, JSON, HTML and figures: pure functions of the data.

Names are imported when they are first used: reports come with torch, the tables of predictions and models do not.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

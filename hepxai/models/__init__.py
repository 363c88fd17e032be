"""Models of each kind of card, and wrappers for models that a user brings."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

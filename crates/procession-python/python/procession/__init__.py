"""Process-based parallelism: ``multiprocessing`` on an engine written in Rust.

``import procession as mp`` takes the place of ``import multiprocessing as mp``.
"""

import sys

from . import context
from ._engine import __version__

__all__ = [name for name in dir(context._default_context) if not name.startswith('_')]
globals().update((name, getattr(context._default_context, name)) for name in __all__)

# Where the standard library has them too.
SUBDEBUG = 5
SUBWARNING = 25

# A program run as `__main__` is `__mp_main__` in its children.
if '__main__' in sys.modules:
    sys.modules['__mp_main__'] = sys.modules['__main__']

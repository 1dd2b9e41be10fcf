"""Process-based parallelism: ``multiprocessing`` on an engine written in Rust.

``import procession as mp`` takes the place of ``import multiprocessing as mp``. The names of the
default context are made at the first use of one, so that a child that needs none of them starts
without.
"""

import sys

from ._engine import __version__

# Where the standard library has them too.
SUBDEBUG = 5
SUBWARNING = 25

_SUBMODULES = ('aio', 'context', 'futures', 'process', 'reduction', 'spawn', 'util')

# A program run as `__main__` is `__mp_main__` in its children.
if '__main__' in sys.modules:
    sys.modules.setdefault('__mp_main__', sys.modules['__main__'])


def _fill():
    __import__('procession.context')
    default = sys.modules['procession.context']._default_context
    names = [name for name in dir(default) if not name.startswith('_')]
    globals().update({name: getattr(default, name) for name in names}, __all__=names)


def __getattr__(name):
    if name in _SUBMODULES:
        # Asked for by `from . import` too, which is no use of the default context.
        __import__(f'{__name__}.{name}')
        return sys.modules[f'{__name__}.{name}']
    if '__all__' not in globals() and (name == '__all__' or not name.startswith('_')):
        _fill()
        if name in globals():
            return globals()[name]
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__():
    if '__all__' not in globals():
        _fill()
    return sorted(globals())

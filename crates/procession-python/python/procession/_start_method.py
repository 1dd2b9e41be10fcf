"""The start method of the default context, which children take over from their parents. Used in any
process, from any thread.

Few children need the contexts, and the others are spared their import: what the default one is to
begin with is kept here until then.
"""

import sys

from ._standard import standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing import context as _standard
    from typing import Any
else:
    _standard = standard('context')

# The default context, once it is imported.
_context: 'Any' = None
# In a child, until then: what it is to begin with.
_forced: 'str | None' = None


def set_default_context(context: '_standard.BaseContext') -> None:
    """Says which is the default context, at its import."""
    global _context
    _context = context
    if _forced is not None:
        _context._force_start_method(_forced)


def default_context() -> '_standard.BaseContext':
    """Returns the default context."""
    if _context is None:
        # The package makes it at the first use of one of the context's names.
        sys.modules[__package__].get_context()
    context: _standard.BaseContext = _context
    return context


def force(method: 'str | None') -> None:
    """In a child: has the default context, here and in the standard library, begin with this start
    method; `None`: with none.
    """
    global _forced
    if _context is None:
        _forced = method
    else:
        _context._force_start_method(method)
    if method is None:
        _standard._default_context.set_start_method(None, force=True)
    else:
        # In one function too, which the standard library's own children call.
        _standard._force_start_method(method)


def chosen() -> 'str | None':
    """Returns the start method that the default context has by now, or `None`."""
    return _forced if _context is None else _context._inherited_start_method()

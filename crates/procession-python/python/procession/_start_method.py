"""The start method of the default context, which children take over from their parents. Used in any
process, from any thread.

Few children need the contexts, and the others are spared their import: what the default one is to
begin with is kept here until then.
"""

import sys

from ._standard import standard

_standard = standard('context')

# The default context, once it is imported.
_context = None
# In a child, until then: what it is to begin with.
_forced = None


def set_default_context(context):
    """Says which is the default context, at its import."""
    global _context
    _context = context
    if _forced is not None:
        context._force_start_method(_forced)


def default_context():
    """Returns the default context."""
    if _context is None:
        # The package makes it at the first use of one of the context's names.
        sys.modules[__package__].get_context()
    return _context


def force(method):
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


def chosen():
    """Returns the start method that the default context has by now, or `None`."""
    return _forced if _context is None else _context.get_start_method(allow_none=True)

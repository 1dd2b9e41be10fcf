"""Processes as their parent and they themselves see them. Used in any process, from any thread.

Which process this is, which parent and which children it has, is kept where the standard library keeps it: there is one
answer, whichever package is asked.
"""

from ._standard import standard

_standard = standard('process')

__all__ = ['BaseProcess', 'current_process', 'active_children', 'parent_process']

AuthenticationString = _standard.AuthenticationString
active_children = _standard.active_children
current_process = _standard.current_process
parent_process = _standard.parent_process


class BaseProcess(_standard.BaseProcess):
    """A process: its arguments, its start, its end."""

    def _bootstrap(self, parent_sentinel=None):
        from . import context

        if self._start_method is not None:
            context._force_start_method(self._start_method)
        return super()._bootstrap(parent_sentinel)


def __getattr__(name):
    # What the standard library's module says now: much of it is bound anew in a child.
    return getattr(_standard, name)

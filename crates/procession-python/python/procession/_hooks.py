"""Replacements that tools have put in the place of the standard library's functions. Used in any
process, from any thread.

Coverage, debuggers and tracers follow ``multiprocessing`` by replacing some of its functions. This
package has its own in their place, and goes by the replacement where there is one.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FunctionType
    from typing import Any


def is_original(function: 'Callable[..., Any]', neighbour: 'FunctionType') -> bool:
    """Returns whether `function` is from the same file as `neighbour`, a function that nobody
    replaces. The names of a replacement say nothing: as a rule it takes over those of the original.
    """
    code = getattr(function, '__code__', None)
    return code is not None and code.co_filename == neighbour.__code__.co_filename

"""See `multiprocessing.reduction`: the standard library's own module, shared with it."""

from ._standard import share

share(__name__)

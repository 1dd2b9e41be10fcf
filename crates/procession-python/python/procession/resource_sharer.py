"""See `multiprocessing.resource_sharer`: the standard library's own module, shared with it."""

from ._standard import share

share(__name__)

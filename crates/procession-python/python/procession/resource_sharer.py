"""See `multiprocessing.resource_sharer`: the standard library's own module, shared with it. Where
that could not listen, its source serves here on our listener, whose address is short.
"""

from procession import _addresses
from procession._standard import adopt, share

if _addresses.are_long():
    adopt(__name__)
else:
    share(__name__)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing.resource_sharer import DupFd as DupFd, stop as stop

    __all__ = ['DupFd', 'stop']

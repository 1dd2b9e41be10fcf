"""See `multiprocessing.dummy.connection`, which serves here on procession's contexts."""

from procession._standard import adopt

adopt(__name__)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing.dummy.connection import (
        Client as Client,
        Connection as Connection,
        Listener as Listener,
        Pipe as Pipe,
    )

    __all__ = ['Client', 'Listener', 'Pipe']

# The standard library's own module, shared with it.
from multiprocessing.connection import *
from multiprocessing.connection import (
    Client as Client,
    Connection as Connection,
    Listener as Listener,
    Pipe as Pipe,
    answer_challenge as answer_challenge,
    deliver_challenge as deliver_challenge,
    wait as wait,
)

__all__ = [
    'Client',
    'Listener',
    'Pipe',
    'wait',
]

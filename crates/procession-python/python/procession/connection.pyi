# The standard library's own module, except for who lets peers in.
from multiprocessing import connection as _standard
from multiprocessing.connection import Client as Client, Connection as Connection, Pipe as Pipe, wait as wait
from typing import Any

__all__ = [
    'Client',
    'Listener',
    'Pipe',
    'wait',
]

class Listener(_standard.Listener):
    def fileno(self) -> int: ...

def deliver_challenge(connection: Connection[Any, Any], authkey: bytes, *terms: Any, **named: Any) -> None: ...
def answer_challenge(connection: Connection[Any, Any], authkey: bytes) -> None: ...
def __getattr__(name: str) -> Any: ...

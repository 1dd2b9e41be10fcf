"""Addresses of sockets that this package makes for itself. Used by whoever is about to listen or to
pickle a connection.

A socket in the file system has a path of at most 107 bytes, and a long TMPDIR leaves no room for
it. Then addresses are abstract: they have no file, and no permissions either. A listener at one of
them must tell by itself whom it lets in.
"""

import os

from ._standard import standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


# With room for the name of the folder that the standard library makes and of the socket in it.
_MAX_FOLDER = 64


def are_long() -> bool:
    """Returns whether the path of the temporary folder is too long for a socket in it."""
    import tempfile

    return len(os.fsencode(tempfile.gettempdir())) > _MAX_FOLDER and standard('util').abstract_sockets_supported


def short(address: 'Any' = None) -> 'Any':
    """Returns `address`; in place of none an abstract one, if those in the file system would be too
    long.
    """
    if address is not None or not are_long():
        return address
    return f'\0procession-{os.getpid()}-{os.urandom(12).hex()}'


def have_long_variable() -> bool:
    """Returns whether the environment may lead to such a folder. A start that asks this first is
    spared the import of `tempfile`.
    """
    return any(len(os.environ.get(name, '')) > _MAX_FOLDER for name in ('TMPDIR', 'TEMP', 'TMP'))

"""Addresses of sockets that this package makes for itself. Used by whoever is about to listen.

A socket in the file system has a path of at most 107 bytes, and a long TMPDIR leaves no room for it.
"""

import os
import tempfile

from . import util

# With room for the name of the folder that the standard library makes and of the socket in it.
_MAX_FOLDER = 64


def short(address=None):
    """Returns `address`; in place of none an abstract one, if the folder for temporary files has a long path."""
    if address is not None or len(os.fsencode(tempfile.gettempdir())) <= _MAX_FOLDER or not util.abstract_sockets_supported:
        return address
    return f'\0procession-{os.getpid()}-{os.urandom(12).hex()}'

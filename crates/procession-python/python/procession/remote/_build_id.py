"""The build id of an executable: the note that the linker has put into it. Used in the bridge
program and in actors.
"""

from __future__ import annotations

import struct

__all__ = ['build_id_of']

_NOTE = 4
_GNU_BUILD_ID = 3
# Tables and notes that are longer are none of a linker's.
_MAX_NOTES = 1 << 20


def build_id_of(path: str) -> bytes:
    """Returns the build id of the executable at `path`; empty if it has none, or is no executable
    of 64 bits.

    :raises OSError: it cannot be read.
    """
    with open(path, 'rb') as file:
        head = file.read(64)
        # Little-endian, of 64 bits: what this package runs on.
        if len(head) < 64 or head[:6] != b'\x7fELF\x02\x01':
            return b''
        (table,) = struct.unpack_from('<Q', head, 32)
        size, count = struct.unpack_from('<HH', head, 54)
        for number in range(count):
            file.seek(table + number * size)
            entry = file.read(size)
            if len(entry) < 40:
                return b''
            (kind,) = struct.unpack_from('<I', entry)
            offset, length = struct.unpack_from('<Q16x8xQ', entry, 8) if len(entry) >= 48 else (0, 0)
            if kind == _NOTE and length <= _MAX_NOTES:
                file.seek(offset)
                if found := _build_id_in(file.read(length)):
                    return found
    return b''


def _build_id_in(notes: bytes) -> bytes:
    at = 0
    while at + 12 <= len(notes):
        name_length, length, kind = struct.unpack_from('<III', notes, at)
        name = at + 12
        content = name + (name_length + 3 & ~3)
        if kind == _GNU_BUILD_ID and notes[name : name + name_length] == b'GNU\0':
            return notes[content : content + length] if content + length <= len(notes) else b''
        at = content + (length + 3 & ~3)
    return b''

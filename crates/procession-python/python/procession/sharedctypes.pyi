# The standard library's source, on our heap and our locks. What takes a lock takes ours by
# `procession.Value` and `Array`.
from multiprocessing.sharedctypes import *
from multiprocessing.sharedctypes import (
    SynchronizedArray as SynchronizedArray,
    SynchronizedBase as SynchronizedBase,
    SynchronizedString as SynchronizedString,
    Synchronized as Synchronized,
)

__all__ = [
    'Array',
    'RawArray',
    'RawValue',
    'Value',
    'copy',
    'synchronized',
]

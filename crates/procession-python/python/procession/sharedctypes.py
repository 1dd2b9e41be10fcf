"""See `multiprocessing.sharedctypes`, which serves here on procession's contexts."""

from procession._standard import adopt

adopt(__name__)

TYPE_CHECKING = False
if TYPE_CHECKING:
    # By these types a lock is the standard library's. `procession.Value` and `Array` take ours.
    from multiprocessing.sharedctypes import (
        Array as Array,
        RawArray as RawArray,
        RawValue as RawValue,
        Synchronized as Synchronized,
        SynchronizedArray as SynchronizedArray,
        SynchronizedBase as SynchronizedBase,
        SynchronizedString as SynchronizedString,
        Value as Value,
        copy as copy,
        synchronized as synchronized,
    )

    __all__ = ['Array', 'RawArray', 'RawValue', 'Value', 'copy', 'synchronized']

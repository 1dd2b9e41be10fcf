"""See `multiprocessing.sharedctypes`, which serves here on procession's contexts."""

from procession._standard import adopt

adopt(__name__)

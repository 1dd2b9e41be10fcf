"""See `multiprocessing.popen_fork`, which serves here on procession's contexts."""

from procession._standard import adopt

adopt(__name__)

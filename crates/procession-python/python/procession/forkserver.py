"""See `multiprocessing.forkserver`, which serves here on procession's contexts."""

from procession._standard import adopt, standard

adopt(__name__)

# The server runs the standard library's module, and what came to a child is there.
get_inherited_fds = standard('forkserver').get_inherited_fds

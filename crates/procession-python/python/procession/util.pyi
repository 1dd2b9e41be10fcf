# The standard library's own module, shared with it.
from multiprocessing.util import *
from multiprocessing.util import (
    DEBUG as DEBUG,
    DEFAULT_LOGGING_FORMAT as DEFAULT_LOGGING_FORMAT,
    INFO as INFO,
    LOGGER_NAME as LOGGER_NAME,
    MAXFD as MAXFD,
    NOTSET as NOTSET,
    SUBDEBUG as SUBDEBUG,
    SUBWARNING as SUBWARNING,
    Finalize as Finalize,
    abstract_sockets_supported as abstract_sockets_supported,
    is_abstract_socket_namespace as is_abstract_socket_namespace,
    spawnv_passfds as spawnv_passfds,
)

__all__ = [
    'Finalize',
    'ForkAwareLocal',
    'ForkAwareThreadLock',
    'SUBDEBUG',
    'SUBWARNING',
    'close_all_fds_except',
    'debug',
    'get_logger',
    'get_temp_dir',
    'info',
    'is_exiting',
    'log_to_stderr',
    'register_after_fork',
    'sub_debug',
    'sub_warning',
]

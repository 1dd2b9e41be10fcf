"""See `multiprocessing.util`: the standard library's own module, shared with it."""

from ._standard import share

share(__name__)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sys
    from collections.abc import Callable
    from logging import Logger
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
        ForkAwareLocal as ForkAwareLocal,
        ForkAwareThreadLock as ForkAwareThreadLock,
        abstract_sockets_supported as abstract_sockets_supported,
        close_all_fds_except as close_all_fds_except,
        debug as debug,
        get_logger as get_logger,
        get_temp_dir as get_temp_dir,
        info as info,
        is_abstract_socket_namespace as is_abstract_socket_namespace,
        is_exiting as is_exiting,
        log_to_stderr as log_to_stderr,
        register_after_fork as register_after_fork,
        spawnv_passfds as spawnv_passfds,
        sub_debug as sub_debug,
        sub_warning as sub_warning,
    )

    if sys.version_info >= (3, 14):
        from multiprocessing.util import warn as warn

    # Names that this package uses besides, and typeshed does not declare.
    _log_to_stderr: bool
    _logger: Logger | None

    _args_from_interpreter_flags: Callable[[], list[str]]
    _exit_function: Callable[[], None]
    _flush_std_streams: Callable[[], None]

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

"""See `multiprocessing.spawn`, which serves here on procession's contexts."""

import os.path

from procession import _alias
from procession._standard import adopt

adopt(__name__)

_adopted_prepare = prepare  # noqa: F821
_adopted_preparation_data = get_preparation_data  # noqa: F821
_FOLDER = os.path.dirname(os.path.dirname(__file__))


def get_command_line(**terms):
    """Returns the command that starts a child, which finds this package also where the environment does not tell of it."""
    call = ', '.join(f'{name}={value!r}' for name, value in terms.items())
    program = f'import sys; sys.path.append({_FOLDER!r}); from procession.spawn import spawn_main; spawn_main({call})'
    flags = util._args_from_interpreter_flags()  # noqa: F821
    return [get_executable(), *flags, '-c', program, '--multiprocessing-fork']  # noqa: F821


def get_preparation_data(name):
    """Returns what a child of this process, of this name, has to know before it can unpickle anything of the program."""
    data = _adopted_preparation_data(name)
    if _alias.installed:
        data['alias'] = True
    return data


def prepare(data):
    """Makes this child ready to unpickle what its parent sent, as `get_preparation_data` told it."""
    if data.get('alias'):
        _alias.install()
    _adopted_prepare(data)

"""Limits of addresses (`ulimit -v`) and of file sizes (`ulimit -f`): what fits goes through, what does not is an exception
of the call or task, and nothing is lost."""

import pathlib
import subprocess
import sys

import pytest
from processes import METHODS

ROLES = [
    'addresses',
    'files',
    'in_an_initializer',
    'in_tasks',
    'files_exhausted',
    'parents_addresses_exhausted',
    'workers_addresses_exhausted',
]


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('role', ROLES)
def test_limit_is_met_or_said(role, method):
    script = pathlib.Path(__file__).with_name('limited.py')
    ended = subprocess.run([sys.executable, script, role, method], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, 'done\n'), ended.stderr

"""The program that mypy checks (`cargo xtask test`, its step `Python types`) also runs."""

import pathlib
import subprocess
import sys


def test_the_typed_program_runs():
    program = pathlib.Path(__file__).with_name('typed_sample.py')
    ended = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=50)
    assert (ended.returncode, ended.stderr) == (0, '')

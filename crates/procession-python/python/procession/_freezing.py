"""The function that PyInstaller calls when it freezes a program. It runs in PyInstaller alone, by
an entry point.
"""

import os


def get_hook_dirs() -> list[str]:
    """Returns the folders in which PyInstaller finds hooks for this package."""
    return [os.path.join(os.path.dirname(__file__), '_pyinstaller')]

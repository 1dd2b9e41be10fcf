"""Tells PyInstaller of the modules that the engine imports, and of those that are executed under
our names. Runs in PyInstaller alone.
"""

from PyInstaller.utils.hooks import collect_submodules  # type: ignore[import-not-found, import-untyped, unused-ignore]

hiddenimports: list[str] = collect_submodules('procession') + collect_submodules('multiprocessing')

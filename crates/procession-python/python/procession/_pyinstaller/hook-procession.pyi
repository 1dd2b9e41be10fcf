# So that PyInstaller need not be installed where stubs are checked.
hiddenimports: list[str]

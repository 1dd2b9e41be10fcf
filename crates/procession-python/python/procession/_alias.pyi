installed: bool

__all__ = ['install', 'installed']

def install() -> None: ...

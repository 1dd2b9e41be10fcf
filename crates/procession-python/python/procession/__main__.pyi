from collections.abc import Sequence

__all__ = ['main']

USAGE: str

def main(arguments: Sequence[str]) -> None: ...

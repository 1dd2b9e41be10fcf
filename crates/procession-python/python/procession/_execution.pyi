from ._engine import Link

def execute(
    holder: object, attribute: str, entry: str, ours: Link, theirs: Link, name: str, daemon: bool
) -> None: ...

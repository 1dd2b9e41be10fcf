from multiprocessing import context as _standard
from typing import Any

from multiprocessing.context import (
    assert_spawning as assert_spawning,
    get_spawning_popen as get_spawning_popen,
    set_spawning_popen as set_spawning_popen,
)

reducer: Any

def set_reducer(other: Any) -> None: ...
def answers_multiprocessing() -> bool: ...
def note_maker(obj: Any, ctx: _standard.BaseContext | None) -> None: ...

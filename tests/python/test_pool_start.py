"""Pools whose workers cannot all be started."""

import procession
import pytest


@pytest.mark.parametrize('started', [0, 3])
def test_a_worker_that_cannot_be_started_is_told_and_none_is_left(ctx, started):
    remaining = started

    class Context(type(ctx)):
        @staticmethod
        def Process(*args, **terms):
            nonlocal remaining
            if remaining == 0:
                raise OSError('no more of these')
            remaining -= 1
            return ctx.Process(*args, **terms)

    before = set(procession.active_children())
    with pytest.raises(OSError, match='^no more of these$'):
        Context().Pool(5)
    assert remaining == 0
    assert set(procession.active_children()) == before

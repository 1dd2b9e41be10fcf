"""`progress=` of maps, and how many results of a lazy map are left."""

import io
import operator
import os
import signal
import subprocess
import sys
import textwrap

import procession
import pytest

# The program shows the stand-ins for tqdm and rich where neither is installed.
PROGRAM = """
    import os
    import sys

    import procession

    for name in {hidden}:
        sys.modules[name] = None

    if __name__ == '__main__':
        if {terminal}:
            sys.stderr.isatty = lambda: True
        with procession.get_context(sys.argv[1]).Pool(2) as pool:
            assert pool.map(abs, range(1000), progress='first') == list(range(1000))
            assert pool.starmap(pow, [(2, 3)] * 10, progress=True) == [8] * 10
            assert list(pool.imap(abs, (x for x in range(100)), progress='lazy')) == list(range(100))
            assert pool.map(abs, range(50), checkpoint='run.db', progress='kept') == list(range(50))
            assert len(list(pool.imap_unordered(abs, range(100), 10, progress=True))) == 100
        print('done')
"""


def identity(x):
    return x


def die_at_7(x):
    if x == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def shown(tmp_path, method, hidden=(), terminal=False):
    (tmp_path / 'program.py').write_text(textwrap.dedent(PROGRAM).format(hidden=hidden, terminal=terminal))
    done = subprocess.run([sys.executable, 'program.py', method], cwd=tmp_path, capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout) == (0, 'done\n'), done.stderr
    return done.stderr


def test_a_line_on_a_terminal_shows_progress(tmp_path, method):
    text = shown(tmp_path, method, ('tqdm', 'tqdm.auto', 'rich', 'rich.progress'), terminal=True)
    # As text, each carriage return is an end of a line.
    assert '\nfirst: 1000/1000, 100 %' in text and '\n10/10, 100 %' in text
    assert '\nkept: 50/50, 100 %' in text and '\nlazy: 100, ' in text and '\n100/100, 100 %' in text


def test_nothing_is_shown_elsewhere(tmp_path, method):
    assert shown(tmp_path, method, ('tqdm', 'tqdm.auto', 'rich', 'rich.progress')) == ''


def test_tqdm_shows_progress(tmp_path, method):
    pytest.importorskip('tqdm')
    text = shown(tmp_path, method)
    assert 'first: 100%' in text and '1000/1000' in text and '50/50' in text and 'lazy: 100it' in text


def test_rich_shows_progress(tmp_path, method):
    pytest.importorskip('rich')
    assert 'first' in shown(tmp_path, method, ('tqdm', 'tqdm.auto'))


def test_an_error_ends_the_bar(ctx, monkeypatch, nothing_left):
    for name in ('tqdm', 'tqdm.auto', 'rich', 'rich.progress'):
        monkeypatch.setitem(sys.modules, name, None)
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, 'stderr', terminal)
    with ctx.Pool(2) as pool:
        with pytest.raises(procession.WorkerLost) as caught:
            pool.map(die_at_7, range(20), 1, progress='killed')
        assert caught.value.index == 7
        assert terminal.getvalue().startswith('\rkilled: ') and terminal.getvalue().endswith(' s\n')
        assert pool.map(identity, [1], progress=True) == [1]
    del caught


def test_a_lazy_map_says_how_many_results_are_left(ctx, nothing_left):
    with ctx.Pool(2) as pool:
        results = pool.imap(identity, range(10), 3)
        assert operator.length_hint(results) == 10
        assert next(results) == 0 and operator.length_hint(results) == 9
        assert list(results) == list(range(1, 10)) and operator.length_hint(results) == 0
        assert operator.length_hint(pool.imap(identity, (x for x in range(3))), -1) == -1


def test_progress_is_a_bool_or_a_text(ctx, nothing_left):
    with ctx.Pool(1) as pool:
        for call in (pool.map, pool.imap):
            with pytest.raises(TypeError, match='progress'):
                call(identity, [1], progress=3)
        assert pool.map(identity, [1]) == [1]

"""The common parts of every test: a watchdog that names a test that hangs; contexts by start
method; the check that nothing is left.

`pytest tests/python` runs the tests on the installed package.
"""

import collections
import faulthandler
import functools
import gc
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import procession
import pytest
import watchdog

pytest.register_assert_rewrite('holders', 'processes', 'waits')

from waits import SCALE  # noqa: E402 - after its assertions are to be rewritten

METHODS = ['fork', 'spawn', 'forkserver']
# Seconds that a test may take, unless `@pytest.mark.limit(seconds)` says otherwise. It finds hangs;
# it does not measure speed.
LIMIT = 60.0 * SCALE
# Seconds in which the things that a test has let go of must be gone.
PATIENCE = 10.0 * SCALE

# Tests that may be skipped where `CI` is set, each with its reason. There any other skip fails.
NOT_ROOT = 'a runner of continuous integration is not root'
NOT_BUILT = 'programs of Rust are built by the step before this one'
LEFT_OUT = 'a library that does not install on a Python is left out there'
NO_TORCH = 'torch is large, and is tested by hand'
MAY_BE_SKIPPED = {
    'test_coverage.py::test_a_worker_that_a_task_ends_is_measured': LEFT_OUT,
    'test_coverage.py::test_children_are_measured_as_those_of_the_standard_library': LEFT_OUT,
    'test_frozen.py::test_a_frozen_program_starts_processes': LEFT_OUT,
    'test_frozen.py::test_a_frozen_program_that_forgets_its_children_says_so_and_ends': LEFT_OUT,
    'test_top_of_rust.py::test_busy_pool_of_a_rust_program_is_seen': NOT_BUILT,
    'test_top_of_rust.py::test_replacement_of_a_killed_worker_of_a_rust_program_is_seen': NOT_BUILT,
    'test_top_of_rust.py::test_stopped_rust_program_is_seen': NOT_BUILT,
    'test_titles.py::test_with_the_package_titles_say_it': LEFT_OUT,
    'test_torch.py::test_an_unedited_program_loads_and_sends_tensors': NO_TORCH,
    'test_torch.py::test_data_loaders_load_in_our_processes': NO_TORCH,
    'test_torch.py::test_tensors_travel_in_shared_memory': NO_TORCH,
    'test_tracers.py::test_a_debugger_stops_in_children': LEFT_OUT,
    'test_tracers.py::test_viztracer_reports_what_children_did': LEFT_OUT,
    'test_containers.py::test_a_child_with_a_manager_or_a_pool_leaves_no_process_behind': NOT_ROOT,
    'test_libraries.py::test_a_library_runs_unedited': LEFT_OUT,
    'test_libraries.py::test_a_server_serves_and_ends': LEFT_OUT,
    'test_long_paths.py::test_a_process_of_another_user_is_turned_away_from_a_listener_without_a_path': NOT_ROOT,
    'test_joblib.py::test_a_grid_search_of_scikit_learn': LEFT_OUT,
    'test_progress.py::test_rich_shows_progress': LEFT_OUT,
    'test_progress.py::test_tqdm_shows_progress': LEFT_OUT,
    'test_share.py::test_frames_and_other_objects': LEFT_OUT,
    'test_share.py::test_tables_of_pyarrow': LEFT_OUT,
    'test_steering.py::test_the_context_of_opentelemetry_goes_with_tasks': LEFT_OUT,
    'test_schedulers.py::test_dask_computes_in_a_pool': LEFT_OUT,
    'test_schedulers.py::test_dask_computes_in_an_executor': LEFT_OUT,
    'test_schedulers.py::test_tqdm_maps_in_our_executor': LEFT_OUT,
    'test_schedulers.py::test_tqdm_shows_the_progress_of_maps': LEFT_OUT,
}

_watchdog = None

# Children of the tests are spared the import of pytest as their main module.
sys.modules['__main__'].__spec__ = None
vars(sys.modules['__main__']).pop('__file__', None)


# A shell lets programs that it runs in the background ignore SIGINT, and so the children of the
# tests.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure():
    global _watchdog
    # A copy of the real stderr: pytest puts a file in its place while a test runs.
    stderr = os.dup(2)
    faulthandler.enable(os.fdopen(stderr, 'w'), all_threads=True)
    script = pathlib.Path(__file__).with_name('watchdog.py')
    _watchdog = subprocess.Popen(
        [sys.executable, '-I', '-S', str(script), str(os.getpid())], stdin=subprocess.PIPE, stderr=stderr, text=True
    )


def pytest_unconfigure():
    _watchdog.stdin.close()
    _watchdog.wait(10)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    mark = item.get_closest_marker('limit')
    _tell(f'{mark.args[0] * SCALE if mark else LIMIT} {item.nodeid}')
    try:
        return (yield)
    finally:
        _tell('0 ')


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.skipped and os.environ.get('CI') and not _may_be_skipped(item):
        report.outcome = 'failed'
        report.longrepr = f'{call.excinfo.value}\nWhere CI is set only tests in MAY_BE_SKIPPED of conftest.py may be skipped.'
    return report


def _may_be_skipped(item):
    return f'{item.path.name}::{item.originalname}' in MAY_BE_SKIPPED


def _tell(line):
    _watchdog.stdin.write(line + '\n')
    _watchdog.stdin.flush()


@pytest.fixture(params=METHODS)
def method(request):
    """Returns the name of each start method in turn."""
    return request.param


@pytest.fixture
def ctx(method):
    """Returns the context of each start method in turn."""
    return procession.get_context(method)


@pytest.fixture
def nothing_left(method):
    """Fails a test that leaves children, file descriptors or names in /dev/shm.

    Things that a process makes once and keeps (a fork server, a resource tracker) are made before
    the first look. A start before each look makes looks alike: pidfds of processes that have ended
    may stay until the next start.
    """
    _begin_supervisor()
    _warm_up(procession.get_context(method))
    before = _kept()
    yield
    gc.collect()
    _warm_up(procession.get_context(method))
    deadline = time.monotonic() + PATIENCE
    while (left := _own(_kept() - before)) and time.monotonic() < deadline:
        gc.collect()
        procession.active_children()
        time.sleep(0.02)
    assert not left, f'left by the test: {dict(left)}'


@functools.cache
def _begin_supervisor():
    """Has the engine make what it waits for workers with, which it keeps."""
    with procession.get_context('fork').Pool(1) as pool:
        pool.apply(abs, (-1,))


def _warm_up(context):
    queue, lock = context.SimpleQueue(), context.Lock()
    process = context.Process(target=_answer, args=(queue, lock))
    process.start()
    process.join()
    assert process.exitcode == 0 and queue.get() == 'here'
    process.close()
    queue.close()


def _answer(queue, lock):
    with lock:
        queue.put('here')


def _kept():
    """Returns what this process holds now. Of descriptors only the kind counts: numbers and inodes
    change.
    """
    kept = collections.Counter(f'child {child}' for child in _children())
    for fd in os.listdir('/proc/self/fd'):
        try:
            target = os.readlink(f'/proc/self/fd/{fd}')
        except FileNotFoundError:
            continue  # the descriptor of the listing itself
        kept['fd to ' + re.sub(r'\d+', 'N', target)] += 1
    kept.update(f'/dev/shm/{name}' for name in os.listdir('/dev/shm'))
    return kept


def _own(left):
    """Leaves out the names in /dev/shm of other programs that the tests use."""
    ours = watchdog.descendants(os.getpid())
    for entry in pathlib.Path('/proc').iterdir() if any(name.startswith('/dev/shm/') for name in left) else ():
        if entry.name.isdigit() and int(entry.name) not in ours and int(entry.name) != os.getpid():
            try:
                mapped = (entry / 'maps').read_text()
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            left -= collections.Counter(name for name in left if name in mapped)
    return left


def _children():
    """Returns the children of every thread of this process."""
    for task in pathlib.Path('/proc/self/task').iterdir():
        yield from (task / 'children').read_text().split()

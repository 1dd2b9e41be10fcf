"""Log records of children go through their parent's handlers."""

import logging
import os
import pickle
import signal
import sys
import threading

import procession
import pytest
from processes import run, started
from procession.futures import ProcessPoolExecutor
from waits import until

APP = 'procession_tests.app'


class Unpicklable:
    """An argument that does not go to another process."""

    def __reduce__(self):
        raise TypeError('it stays here')

    def __repr__(self):
        return 'Unpicklable()'


class Point:
    """An extra that does."""

    def __init__(self, x):
        self.x = x


class Kept(logging.Handler):
    """Keeps the records that it gets."""

    def __init__(self):
        super().__init__()
        self.all = []

    def emit(self, record):
        self.all.append(record)

    def pids(self):
        return {record.process for record in self.all}

    def messages(self):
        return [record.getMessage() for record in self.all]


@pytest.fixture
def kept():
    """Returns a handler of the logger that the tests use, which takes all levels."""
    handler, logger = Kept(), logging.getLogger(APP)
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def log(*message, level=logging.INFO, name=APP, **terms):
    logging.getLogger(name).log(level, *message, **terms)
    return os.getpid()


def log_number(number):
    logging.getLogger(APP).info('number %d', number)
    return os.getpid()


class OfTwo(Exception):
    """An exception that pickles, and does not unpickle."""

    def __init__(self, one, two):
        super().__init__(f'{one}, {two}')


def log_numbers_to(name, count, with_extra=False):
    for number in range(count):
        extra = {'error': OfTwo(1, 2)} if with_extra else None
        logging.getLogger(name).info('number %d', number, extra=extra)


def log_all_kinds():
    logger = logging.getLogger(APP)
    logger.warning('an argument: %r', Unpicklable(), extra={'point': Point(3), 'secret': Unpicklable(), 'worker_count': 2})
    try:
        raise KeyError('lost')
    except KeyError:
        logger.exception('it failed', stack_info=True)
    logger.log(25, 'by a level without a name')


def log_in_thread():
    thread = threading.Thread(target=log, args=('in a thread',), name='its own')
    thread.start()
    thread.join()


def log_numbers(count):
    logger = logging.getLogger(APP)
    for number in range(count):
        logger.info('%d', number)


def log_and_die(count):
    log_numbers(count)
    os.kill(os.getpid(), signal.SIGKILL)


def log_for_ever():
    number = 0
    while True:
        logging.getLogger(APP).info('%d', number)
        number += 1


def log_long():
    logging.getLogger(APP).info('x' * (2 << 20))
    logging.getLogger(APP).info('y' * (900 << 10))


def log_through_a_child():
    process = procession.Process(target=log, args=('of a child of a child',), logs=True)
    process.start()
    process.join()


def fork_and_log():
    pid = os.fork()
    if pid == 0:
        logging.getLogger(APP).error('of a process that nobody reads')
        os._exit(0)
    return os.waitpid(pid, 0)[1]


def handlers():
    root = logging.getLogger()
    return len(root.handlers), len(logging.getLogger(APP).handlers), logging.getLogger(APP).getEffectiveLevel()


def test_records_of_a_process_go_through_the_handlers_of_its_parent(ctx, kept, nothing_left):
    process = started(ctx, log, 'got %s', 'it', name='logger', logs=True)
    pid = process.result()
    (record,) = kept.all
    assert (record.getMessage(), record.name, record.levelname, record.levelno) == ('got it', APP, 'INFO', logging.INFO)
    assert (record.processName, record.process, record.worker) == ('logger', pid, None)
    assert (record.funcName, record.module, record.filename) == ('log', 'test_logs', 'test_logs.py')
    assert record.threadName == 'MainThread' and record.lineno > 0 and record.created > 0
    # The attributes that formatters have added are pytest's.
    known = {*logging.LogRecord('', 0, '', 0, '', (), None).__dict__, 'worker'}
    assert set(record.__dict__) - {'message', 'asctime'} == known
    assert logging.Formatter('%(processName)s %(asctime)s %(message)s').format(record).endswith('got it')
    # It goes on, as by a `QueueHandler`.
    assert pickle.loads(pickle.dumps(record)).msg == 'got it'


def test_records_of_workers_say_which(ctx, kept, nothing_left):
    with ctx.Pool(2, logs=True) as pool:
        ran = pool.map(log_number, range(100), 1)
        slots = {worker['pid']: slot for slot, worker in enumerate(pool.stats()['workers'])}
        pool.close()
        pool.join()
    assert sorted(kept.messages()) == sorted(f'number {number}' for number in range(100))
    for record in kept.all:
        number = int(record.getMessage().split()[1])
        assert (record.process, record.worker) == (ran[number], slots[ran[number]])
        assert 'PoolWorker' in record.processName


def test_an_executor_has_records_too(ctx, kept):
    with ProcessPoolExecutor(2, ctx, logs=True) as executor:
        list(executor.map(log_number, range(10)))
    assert sorted(kept.messages()) == sorted(f'number {number}' for number in range(10))


def test_records_travel_as_a_queue_handler_prepares_them(ctx, kept):
    started(ctx, log_all_kinds, logs=True).result()
    warning, failed, unnamed = kept.all
    assert warning.getMessage() == 'an argument: Unpicklable()' and warning.args is None
    assert (warning.point.x, warning.secret, warning.worker_count) == (3, 'Unpicklable()', 2)
    assert failed.getMessage() == 'it failed' and failed.exc_info is None
    assert failed.exc_text.startswith('Traceback') and failed.exc_text.endswith("KeyError: 'lost'")
    assert 'log_all_kinds' in failed.stack_info
    assert "KeyError: 'lost'" in logging.Formatter().format(failed)
    assert (unnamed.levelno, unnamed.levelname) == (25, 'Level 25')


def test_record_of_a_thread_names_it(ctx, kept):
    started(ctx, log_in_thread, logs=True).result()
    assert [(record.getMessage(), record.threadName) for record in kept.all] == [('in a thread', 'its own')]


def test_records_below_the_level_of_their_logger_do_not_come(ctx, kept):
    logging.getLogger(APP).setLevel(logging.WARNING)
    with ctx.Pool(1, logs=True) as pool:
        pool.apply(log, ('quiet',))
        pool.apply(log, ('loud',), {'level': logging.ERROR})
        until(lambda: kept.messages() == ['loud'])
        # From now on the parent wants less than the worker sends.
        logging.getLogger(APP).setLevel(logging.CRITICAL)
        pool.apply(log, ('no longer wanted',), {'level': logging.ERROR})
    assert kept.messages() == ['loud']


@pytest.mark.parametrize('level', [logging.DEBUG, 'DEBUG'])
def test_level_is_that_of_the_children(ctx, kept, level):
    logging.getLogger(APP).setLevel(logging.NOTSET)
    started(ctx, log, 'detail', kwargs={'level': logging.DEBUG}, logs=level).join()
    assert kept.messages() == ['detail']


def test_handler_of_a_child_is_the_only_one(ctx, kept):
    assert started(ctx, handlers, logs=True).result() == (1, 0, logging.DEBUG)


TWICE = """
    import logging, sys, procession

    logging.basicConfig(format='%(processName)s %(message)s', level=logging.INFO, stream=sys.stdout)
    own = logging.getLogger('own')
    own.addHandler(logging.StreamHandler(sys.stdout))
    own.propagate = False

    def log():
        logging.info('once')
        logging.getLogger('own').info('by its own handler')

    if __name__ == '__main__':
        process = procession.get_context(sys.argv[1]).Process(target=log, name='child', logs=True)
        process.start()
        process.join()
"""


def test_each_record_is_written_once(method, tmp_path):
    ran = run(tmp_path, TWICE, method)
    assert (ran.stdout.splitlines(), ran.stderr) == (['child once', 'by its own handler'], '')


AT_EXIT = """
    import logging, sys, time, procession

    def log(when):
        time.sleep(when)
        logging.warning('late')

    if __name__ == '__main__':
        logging.basicConfig(format='%(message)s', stream=sys.stdout)
        procession.get_context(sys.argv[1]).Process(target=log, args=(0.3,), logs=True).start()
"""


def test_records_come_at_the_exit_of_a_program_that_does_not_join(method, tmp_path):
    ran = run(tmp_path, AT_EXIT, method)
    assert (ran.stdout, ran.stderr) == ('late\n', '')


def test_records_sent_before_a_kill_have_come(ctx, kept):
    process = started(ctx, log_and_die, 5000, logs=True)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert kept.messages() == [str(number) for number in range(5000)]


def test_killed_workers_lose_no_record_before_the_last(ctx, kept, nothing_left):
    with ctx.Pool(2, logs=True) as pool:
        killed = set()
        while len(killed) < 6:
            logging_on = pool.apply_async(log_for_ever)
            # Under fork it is the program's threads that replace workers, as they come by.
            until(lambda: pool._engine.worker_pids() and kept.pids() - killed)
            (pid,) = kept.pids() - killed
            killed.add(pid)
            enough = len(kept.all) + 300
            until(lambda enough=enough: len(kept.all) > enough)
            os.kill(pid, signal.SIGKILL)
            logging_on.wait()
        pool.terminate()
    of_each = {}
    for record in kept.all:
        of_each.setdefault(record.process, []).append(int(record.getMessage()))
    assert killed <= set(of_each)
    for numbers in of_each.values():
        assert all(after in (before + 1, 0) for before, after in zip(numbers, numbers[1:])), 'a record is missing'


def test_records_of_each_worker_come_in_order(ctx, kept):
    with ctx.Pool(2, logs=True) as pool:
        pool.map(log_numbers, [10_000] * 2, 1)
    of_each = {}
    for record in kept.all:
        of_each.setdefault(record.worker, []).append(int(record.getMessage()))
    assert sum(map(len, of_each.values())) == 20_000
    for numbers in of_each.values():
        assert numbers == [*range(10_000)] * (len(numbers) // 10_000)


@pytest.mark.parametrize('raises', [True, False])
def test_handler_that_raises_is_reported_and_loses_no_later_record(ctx, kept, capsys, monkeypatch, raises):
    class Failing(logging.Handler):
        def emit(self, record):
            raise OSError('the disk is full')

    monkeypatch.setattr(logging, 'raiseExceptions', raises)
    failing, logger = Failing(), logging.getLogger(f'{APP}.failing')
    logger.addHandler(failing)
    started(ctx, log, 'lost', kwargs={'name': logger.name}, logs=True).join()
    logger.removeHandler(failing)
    with ctx.Pool(1, logs=True) as pool:
        pool.apply(log, ('kept',))
    assert kept.messages()[-1] == 'kept'
    assert ('OSError: the disk is full' in capsys.readouterr().err) is raises


def test_handler_that_exits_is_reported_and_loses_no_later_record(ctx, kept, monkeypatch):
    class Exiting(logging.Handler):
        def emit(self, record):
            raise SystemExit(1)

    hooked = []
    monkeypatch.setattr(sys, 'unraisablehook', lambda unraisable: hooked.append(unraisable.exc_type))
    exiting = Exiting()
    logging.getLogger(f'{APP}.exiting').addHandler(exiting)
    started(ctx, log_numbers_to, f'{APP}.exiting', 5, logs=True).join()
    logging.getLogger(f'{APP}.exiting').removeHandler(exiting)
    started(ctx, log_numbers_to, APP, 5, logs=True).join()
    assert kept.messages() == [f'number {number}' for number in range(5)]
    assert set(hooked) == {SystemExit}


def test_record_whose_extra_does_not_unpickle_comes_without_it(ctx, kept, monkeypatch):
    hooked = []
    monkeypatch.setattr(sys, 'unraisablehook', lambda unraisable: hooked.append(unraisable.exc_type))
    started(ctx, log_numbers_to, APP, 5, True, logs=True).join()
    assert kept.messages() == [f'number {number}' for number in range(5)]
    assert not any(hasattr(record, 'error') for record in kept.all) and set(hooked) == {TypeError}


def test_record_that_is_too_long_is_cut(ctx, kept):
    started(ctx, log_long, logs=True).result()
    cut, whole = kept.messages()
    assert cut == 'x' * 100_000 + f'... (cut: it had {2 << 20} characters)'
    assert whole == 'y' * (900 << 10)


def test_record_of_a_child_of_a_child_says_whose_it_is(ctx, kept):
    process = started(ctx, log_through_a_child, name='between', logs=True)
    process.join()
    (record,) = kept.all
    assert record.getMessage() == 'of a child of a child'
    assert record.process not in (process.pid, os.getpid()) and 'between' not in record.processName


def test_warning_of_a_process_that_a_child_has_forked_goes_to_stderr(ctx, kept):
    lines = []
    process = started(ctx, fork_and_log, output=lambda line: lines.append((line.stream, line.text)), logs=True)
    assert process.result() == 0
    assert (lines, kept.all) == ([('stderr', 'of a process that nobody reads')], [])


def test_records_and_lines_come_side_by_side(ctx, kept):
    lines = []
    started(ctx, print_and_log, output=lambda line: lines.append(line.text), logs=True).join()
    assert (lines, kept.messages()) == (['printed'], ['logged'])


def print_and_log():
    print('printed')
    logging.getLogger(APP).info('logged')


@pytest.mark.parametrize(
    ('logs', 'error', 'text'),
    [
        ('LOUD', ValueError, "there is no level 'LOUD'"),
        (-1, ValueError, 'a level is a number from 0 on, not -1'),
        (1.5, TypeError, 'logs must be true, or a level such as logging.INFO or "INFO", not 1.5'),
        ([], TypeError, 'logs must be true'),
    ],
)
def test_values_that_are_no_level_are_refused(logs, error, text):
    ctx = procession.get_context('spawn')
    for make in (
        lambda: ctx.Pool(1, logs=logs),
        lambda: ctx.Process(target=print, logs=logs),
        lambda: ProcessPoolExecutor(1, ctx, logs=logs),
    ):
        with pytest.raises(error, match=text):
            make()

"""The programs of examples/python, each under every start method, as a user runs them."""

import pathlib
import re
import subprocess
import sys

import pytest

FOLDER = pathlib.Path(__file__).parents[2] / 'examples' / 'python'

# The output of each.
PRINTS = {
    'hello': (
        r'in main: module __main__, has a parent: False\n'
        r'in hello: module (__main__|__mp_main__), has a parent: True\n'
        r'hello bob\n'
        r'another process: True exit code: 0\n'
    ),
    'pool_map': r'\[1, 2, 3, 4\]\nin [123]\.\d s\n',
    'queue_items': r"\[42, None, 'hello'\]\n0\n1\n4\n",
    'pipe_ends': r"\['HELLO', 'THERE'\]\n",
    'lock_lines': r'(begin (\d)\nend \2\n){5}',
    'shared_values': r'3\.25 \[0, -1, -2, -3, -4\] 200\n',
    'manager_objects': r"\{'one': 1, 'two': \['a', 'list'\]\}\n\[4, 3, 2, 1, 0\]\n",
    'executor_tasks': (
        r'\[0, 1, 4, 9, 16\]\none task is lost: True\nthe others are not: \[0, 1, 4, 9, 16\]\ncancelled: True\nout of time\n'
    ),
    'failed_items': (
        r"2 \['while it ran ratio\(0\), item 2 of map'\]\n"
        r"\[12, 6, ZeroDivisionError\('(integer )?division( or modulo)? by zero'\), 4\]\n3\n"
    ),
    'resumed_map': r'\.{9}\na crash at item 5\n\.\[0, 1, 4, 9, 16, 25, 36, 49, 64, 81\]\n',
    'worker_context': r"hello nobody\n\['hello ann', 'good day ann'\]\na worker leaves\n",
    'async_calls': r'49\n\[0, 1, 4, 9, 16\]\ngiven up, and the only worker is free: 64\nan item\n',
    'worker_places': (
        r'worker 0: device 3, threads 1, port 9000\nworker 1: device 5, threads 1, port 9001\nnot in a worker: None\n'
    ),
    'share_an_array': r'7 KiB are shared\n\[1, 4, 9\]\ncannot modify read-only memory\n',
    'task_limits': r'10 MiB\ntoo much: 200 MiB is the limit\n20 MiB\n',
    'pool_insights': (
        r'a worker is lost, and no time\n +worker +started +tasks .*\n +0 +[12] +5 .*\n +all .*\n\nslowest tasks, in seconds\n'
        r'( +\d.*\n){5}the slowest is nap\(2\), item 3 of its call\ntwo seconds or more of work: True\n'
    ),
    'watch_a_pool': r'worker 0 runs hang, item 0\nFile ".*watch_a_pool.py", line \d+ in hang\n',
    'print_home': (
        r'(\[worker 0\] square of \d: \d\n){3}short-lived, stderr: by C code, without a newline\nshort-lived, stdout: last words\n'
    ),
    'log_home': (
        r'INFO of worker 0: sold apples\nINFO of worker 0: sold nothing\nERROR of worker 0: not in stock\n'
        r'Traceback \(most recent call last\):\n(.*\n)+?LookupError: nothing\n'
    ),
    'process_group': r'the worker has run out of time, and its program has ended\nthe pool has ended, and so has the other program\n',
    'pool_results': (
        r'49\n\[0, 1, 4, 9, 16, 25, 36, 49, 64, 81\]\n\[0, 1, 4, 9, 16\]\n\[0, 1, 4, 9, 16\]\n\[8, 9\]\n400\n'
        r'in workers: True\nnot there yet\nfailed: not today\nthe pool is gone, and the slow task with it\n'
    ),
}


@pytest.mark.parametrize('name', PRINTS)
def test_an_example_under_each_start_method(name, method):
    assert re.fullmatch(PRINTS[name], output_of(name, method))


@pytest.mark.parametrize('name', PRINTS)
def test_an_example_under_the_default_start_method(name):
    assert re.fullmatch(PRINTS[name], output_of(name))


def test_two_start_methods_in_one_program():
    assert output_of('two_contexts') == 'hello from spawn\nhello from fork\n'


@pytest.fixture
def texts(tmp_path):
    """Returns a folder of files with 102,500 words, 40,200 of them "the"."""
    for number in range(201):
        (tmp_path / f'{number:03}.txt').write_text('The cat and the dog\n' * number)
    (tmp_path / 'picture').write_bytes(b'\xff\0'.join([b'Two words', b'and', b'2'] * 500))
    return tmp_path


def test_words_are_counted_alike_by_every_start_method(texts):
    printed = output_of('word_count', texts)
    assert all(f'a pool by {method} ' in printed for method in ('fork', 'spawn', 'forkserver'))
    assert 'all agree: 102500 words; the 40200,' in printed
    assert 'all agree: 0 words' in output_of('word_count', texts, '1')


def test_the_demo_loses_one_task_where_multiprocessing_hangs(texts):
    printed = output_of('demo', texts)
    assert re.search(
        r'procession:\n   task 3: WorkerLost: .*SIGKILL.*\n   19 of 20 tasks are done, and the pool goes on: 6 x 7 = 42\n'
        r'   multiprocessing:\n   hangs; ended after 3 s\n',
        printed,
    )
    assert re.search(r'procession +\d+\.\d ms, sum 4194304\.0\n   multiprocessing +\d+\.\d ms, sum 4194304\.0\n', printed)
    assert 'TaskTimeoutError' in printed
    assert 'all agree: 102500 words' in printed


def test_every_example_is_run():
    assert {path.stem for path in FOLDER.glob('*.py')} == {*PRINTS, 'two_contexts', 'word_count', 'demo'}


def output_of(name, *arguments):
    command = [sys.executable, str(FOLDER / f'{name}.py'), *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert (ran.returncode, ran.stderr) == (0, ''), f'{ran.stdout}\n{ran.stderr}'
    return ran.stdout

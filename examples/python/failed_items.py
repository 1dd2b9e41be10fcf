"""Errors that name their item, partial results, retries. Run `python failed_items.py
[fork|spawn|forkserver]`.
"""

import pathlib
import sys
import tempfile

import procession as mp


def ratio(number):
    return 12 // number


def fetch(path):
    """Fails until it is called for the third time."""
    with open(path, 'a') as file:
        file.write('x')
    if (calls := pathlib.Path(path).stat().st_size) < 3:
        raise ConnectionError('busy')
    return calls


if __name__ == '__main__':
    if sys.argv[1:]:
        mp.set_start_method(sys.argv[1])
    with mp.Pool(2) as pool, tempfile.TemporaryDirectory() as folder:
        numbers = [1, 2, 0, 3]
        try:
            pool.map(ratio, numbers, fail_fast=True)
        except ZeroDivisionError as error:
            print(error.index, error.__notes__)
        print(pool.map(ratio, numbers, return_exceptions=True))
        print(pool.apply(fetch, (f'{folder}/calls',), retries=3, retry_on=OSError, backoff=0.01))

"""A map that goes on after a crash, with progress. Run `python resumed_map.py
[fork|spawn|forkserver]`.
"""

import os
import sys
import tempfile

import procession as mp


def square(item):
    number, marker = item
    if number == 5 and not os.path.exists(marker):
        open(marker, 'w').close()
        raise RuntimeError('a crash')
    os.write(1, b'.')
    return number * number


if __name__ == '__main__':
    if sys.argv[1:]:
        mp.set_start_method(sys.argv[1])
    with mp.Pool(2) as pool, tempfile.TemporaryDirectory() as folder:
        items = [(number, f'{folder}/marker') for number in range(10)]
        bar = 'squares' if sys.stderr.isatty() else False
        try:
            pool.map(square, items, checkpoint=f'{folder}/run.db', progress=bar)
        except RuntimeError as error:
            print(f'\n{error} at item {error.index}', flush=True)
        # Item 5 alone is run.
        print(pool.map(square, items, checkpoint=f'{folder}/run.db', progress=bar))

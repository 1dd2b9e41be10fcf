"""One array for all workers, put into shared memory once. Run
`python share_an_array.py [fork|spawn|forkserver]`.
"""

import array
import sys

import procession as mp


def look_up(table, place):
    return table.value[place]


def overwrite(table):
    table.value[0] = 1


if __name__ == '__main__':
    if sys.argv[1:]:
        mp.set_start_method(sys.argv[1])
    squares = memoryview(array.array('q', [number * number for number in range(1_000_000)]))
    table = mp.share(squares.cast('B')[: 8 * 1000])
    print(f'{table.nbytes >> 10} KiB are shared')
    with mp.Pool(2) as pool:
        print(pool.starmap(look_up, [(table, 8), (table, 16), (table, 24)]))
        try:
            pool.apply(overwrite, (table,))
        except TypeError as error:
            print(error)

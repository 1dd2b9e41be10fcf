"""Numbers in memory that all processes share. Run
`python shared_values.py [fork|spawn|forkserver]`.
"""

import sys

import procession as mp


def change(number, array):
    number.value = 3.25
    for index in range(len(array)):
        array[index] = -array[index]


def count(counter):
    for _ in range(100):
        with counter.get_lock():
            counter.value += 1


if __name__ == '__main__':
    if sys.argv[1:]:
        mp.set_start_method(sys.argv[1])
    number, array, counter = mp.Value('d', 0.0), mp.Array('i', range(5)), mp.Value('i')
    processes = [mp.Process(target=change, args=(number, array))]
    processes += [mp.Process(target=count, args=(counter,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    print(number.value, array[:], counter.value)

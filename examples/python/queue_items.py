"""A queue carries any object from one process to another. Run
`python queue_items.py [fork|spawn|forkserver]`.
"""

import sys

import procession as mp


def produce(queue):
    queue.put([42, None, 'hello'])
    for square in (number * number for number in range(3)):
        queue.put(square)
    queue.put('done')


if __name__ == '__main__':
    if sys.argv[1:]:
        mp.set_start_method(sys.argv[1])
    queue = mp.Queue()
    process = mp.Process(target=produce, args=(queue,))
    process.start()
    for item in iter(queue.get, 'done'):
        print(item)
    process.join()

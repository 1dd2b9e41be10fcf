"""Objects that live in a manager's process and are used from others. Run
`python manager_objects.py [METHOD]`.
"""

import sys

import procession as mp


def change(words, numbers):
    words['one'] = 1
    words['two'] = ['a', 'list']
    numbers.reverse()


if __name__ == '__main__':
    if sys.argv[1:]:
        mp.set_start_method(sys.argv[1])
    with mp.Manager() as manager:
        words = manager.dict()
        numbers = manager.list(range(5))
        process = mp.Process(target=change, args=(words, numbers))
        process.start()
        process.join()
        print(words)
        print(numbers)

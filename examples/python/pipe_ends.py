"""A pipe has two ends, and both send and receive. Run
`python pipe_ends.py [fork|spawn|forkserver]`.
"""

import sys

import procession as mp


def answer(end):
    with end:
        question = end.recv()
        end.send([word.upper() for word in question])


if __name__ == '__main__':
    if sys.argv[1:]:
        mp.set_start_method(sys.argv[1])
    ours, theirs = mp.Pipe()
    process = mp.Process(target=answer, args=(theirs,))
    process.start()
    theirs.close()
    ours.send(['hello', 'there'])
    print(ours.recv())
    process.join()

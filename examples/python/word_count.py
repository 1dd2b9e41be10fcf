"""Counts the words of the files below a folder: sequentially, then by a pool under each start
method.

Run `python word_count.py FOLDER [FILES]`; with FILES, only the first FILES files are counted. A
word is a run of ASCII letters and digits, whatever their case. It fails if two counts differ.
"""

import collections
import os
import pathlib
import re
import sys
import time

import procession as mp

# Tasks for each worker: enough that no worker runs the last one alone for long.
SHARES = 24


def count(paths):
    """The task: counts how often each word occurs in some files."""
    words = collections.Counter()
    for path in paths:
        words.update(re.findall(rb'[a-z0-9]+', path.read_bytes().lower()))
    return words


def files_below(folder, limit):
    """Returns the first `limit` files below a folder with their sizes, in the order of their paths'
    bytes.
    """
    files = [path for path in folder.rglob('*') if path.is_file() and not path.is_symlink()]
    files.sort(key=os.fsencode)
    return [(path, path.stat().st_size) for path in files[:limit]]


def batches(files, wanted):
    """Cuts files into about `wanted` batches of about the same size."""
    share = sum(size for _, size in files) / wanted
    cut, batch, bytes_in = [], [], 0
    for path, size in files:
        batch.append(path)
        bytes_in += size
        if bytes_in >= share:
            cut.append(batch)
            batch, bytes_in = [], 0
    return cut + [batch] if batch else cut


def together(parts):
    """Returns all words of some counts."""
    words = collections.Counter()
    for part in parts:
        words.update(part)
    return words


def by_pool(method, workers, tasks):
    with mp.get_context(method).Pool(workers) as pool:
        return together(pool.imap_unordered(count, tasks))


def timed(how, function, *arguments):
    begun = time.monotonic()
    words = function(*arguments)
    return how, time.monotonic() - begun, words


def main(folder, limit=None):
    workers = len(os.sched_getaffinity(0))
    files = files_below(folder, limit)
    if not files:
        sys.exit(f'no files below {folder}')
    tasks = batches(files, workers * SHARES)
    size = sum(size for _, size in files) / 1e6
    print(f'The words of {len(files)} files, {size:.1f} MB, in {len(tasks)} tasks for {workers} workers.\n')
    for path, _ in files:
        path.read_bytes()  # the first reading is slower than the others

    runs = [timed('one after the other', together, map(count, tasks))]
    for method in mp.get_all_start_methods():
        runs.append(timed(f'a pool by {method}', by_pool, method, workers, tasks))
    for how, seconds, words in runs:
        print(f'   {how:<22} {seconds:>6.2f} s  {runs[0][1] / seconds:>5.2f} x')
        if words != runs[0][2]:
            sys.exit(f'{how} counted otherwise than {runs[0][0]}')
    words = runs[0][2]
    commonest = sorted(words.items(), key=lambda item: (-item[1], item[0]))[:5]
    print(f'\n   all agree: {words.total()} words;', ', '.join(f'{word.decode()} {number}' for word, number in commonest))


if __name__ == '__main__':
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]), int(sys.argv[2]) if sys.argv[2:] else None)

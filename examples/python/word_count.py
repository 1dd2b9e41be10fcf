"""Counts the words of every text file below a folder: sequentially, then by a pool under each start method.

Run `python word_count.py FOLDER`. `cargo xtask demo` does, on the toolchain's own documentation. It fails if two ways count
otherwise.
"""

import collections
import os
import pathlib
import re
import sys
import time

import procession as mp

# Tasks for each worker: enough that no worker is left with the last one for long.
SHARES = 24


def count(paths):
    """The task: how often each word occurs in some files, and the pid of the process that counted."""
    words = collections.Counter()
    for path in paths:
        try:
            words.update(re.findall(r'\w+', path.read_text('utf-8').lower()))
        except UnicodeDecodeError:
            continue  # not text
    return words, os.getpid()


def batches(folder, wanted):
    """Cuts the files below a folder into about so many batches of about the same size."""
    files = [path for path in sorted(folder.rglob('*')) if path.is_file() and not path.is_symlink()]
    sizes = [path.stat().st_size for path in files]
    cut, batch, size = [], [], 0
    for path, length in zip(files, sizes):
        batch.append(path)
        size += length
        if size * wanted >= sum(sizes):
            cut.append(batch)
            batch, size = [], 0
    return cut + [batch] if batch else cut


def together(parts):
    """All words of some parts, and the pids of who counted them."""
    words, pids = collections.Counter(), set()
    for part, pid in parts:
        words.update(part)
        pids.add(pid)
    return words, pids


def by_pool(method, workers, work):
    with mp.get_context(method).Pool(workers) as pool:
        return together(pool.imap_unordered(count, work))


def timed(how, function, *arguments):
    begun = time.monotonic()
    words, pids = function(*arguments)
    return how, time.monotonic() - begun, words, pids


def main(folder):
    workers = len(os.sched_getaffinity(0))
    work = batches(folder, workers * SHARES)
    if not work:
        sys.exit(f'no files below {folder}')
    print(f'Python {sys.version.split()[0]}: {sum(map(len, work))} files below {folder}, {workers} workers\n')
    together(map(count, work[:1]))  # the first reading is slower

    runs = [timed('sequential', together, map(count, work))]
    for method in mp.get_all_start_methods():
        runs.append(timed(f'pool, {method}', by_pool, method, workers, work))
    print(f'{"how":<18} {"seconds":>8} {"speed-up":>9}  worker pids seen')
    for how, seconds, words, pids in runs:
        print(f'{how:<18} {seconds:>8.3f} {runs[0][1] / seconds:>8.2f}x  {" ".join(map(str, sorted(pids)))}')
        if words != runs[0][2]:
            sys.exit(f'{how} counted otherwise than sequentially')
    words = runs[0][2]
    print(f'\nall agree: {words.total()} words')
    print('the commonest:', ', '.join(f'{word} {number}' for word, number in words.most_common(8)))


if __name__ == '__main__':
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]))

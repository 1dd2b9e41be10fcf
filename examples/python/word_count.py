"""Counts the words of every text file below a folder: sequentially, then by a pool under each start method.

Run `python word_count.py FOLDER [MEGABYTES]`; only so much of a larger folder is counted. `cargo xtask demo` does, on the
toolchain's own documentation. It fails if two ways count otherwise.
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


def files_below(folder, limit):
    """The files below a folder with their sizes, up to `limit` bytes."""
    total = 0
    for path in sorted(folder.rglob('*')):
        if path.is_file() and not path.is_symlink() and total < limit:
            size = path.stat().st_size
            total += size
            yield path, size


def batches(files, wanted):
    """Cuts files into about so many batches of about the same size."""
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


def main(folder, limit):
    workers = len(os.sched_getaffinity(0))
    files = list(files_below(folder, limit))
    if not files:
        sys.exit(f'no files below {folder}')
    work = batches(files, workers * SHARES)
    size = sum(size for _, size in files) / 1e6
    print(f'Python {sys.version.split()[0]}: {len(files)} files below {folder}, {size:.1f} MB')
    print(f'{workers} workers, {len(work)} tasks\n')
    for path, _ in files:
        path.read_bytes()  # the first reading is slower than the others

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
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]), float(sys.argv[2]) * 1e6 if sys.argv[2:] else float('inf'))

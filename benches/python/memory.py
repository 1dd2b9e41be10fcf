"""Memory and processor time of a process and its descendants. The sampler is a process of its own,
so that the measured process cannot delay it: `python memory.py PID` samples until its standard
input closes, and prints the peak in bytes.
"""

import os
import pathlib
import select
import subprocess
import sys

PROC = pathlib.Path('/proc')
PERIOD = 0.002


def tree(pid):
    """Returns the process and all below it."""
    pids = [pid]
    for parent in pids:
        for task in _lines(PROC / str(parent) / 'task', lambda task: (task / 'children').read_text()):
            pids.extend(map(int, task.split()))
    return pids


def proportional(pid):
    """Returns the memory of one process in bytes; memory that it shares with others is divided
    among them (PSS).
    """
    try:
        lines = (PROC / str(pid) / 'smaps_rollup').read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith('Pss:')), 0)


def processor_time(pid):
    """Returns the nanoseconds that a process and all below it have run."""
    times = 0
    for each in tree(pid):
        read = _lines(PROC / str(each) / 'task', lambda task: (task / 'schedstat').read_text())
        times += sum(int(text.split()[0]) for text in read)
    return times


class Peak:
    """Measures the peak of this process and all below it while the block runs. `bytes` is how much
    it rose above the memory before the block.
    """

    def __enter__(self):
        # The array is sent in the block; the sampler must not count.
        command = [sys.executable, '-S', '-E', __file__, str(os.getpid())]
        self._sampler = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._before = int(self._sampler.stdout.readline())
        return self

    def __exit__(self, *_):
        peak, _ = self._sampler.communicate()
        self.bytes = int(peak) - self._before


def _lines(folder, read):
    for entry in folder.iterdir() if folder.is_dir() else ():
        try:
            yield read(entry)
        except (FileNotFoundError, ProcessLookupError):
            continue


def _sample(pid):
    def look():
        return {each: proportional(each) for each in tree(pid) if each != os.getpid()}

    def now():
        # Processes are read one after the other. Memory that one gives to another meanwhile would
        # count twice; memory that lasts is there both times.
        first, second = look(), look()
        return sum(min(first.get(each, 0), size) for each, size in second.items())

    peak = now()
    print(peak, flush=True)
    while not select.select([0], [], [], PERIOD)[0]:
        peak = max(peak, now())
    print(peak, flush=True)


if __name__ == '__main__':
    _sample(int(sys.argv[1]))

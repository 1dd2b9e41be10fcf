"""procession beside its rivals: `cargo xtask bench --python [--row NAME]... [--pairs N]`.

Every figure is the median of runs that take turns, one library after the other, each in a process
of its own, so that other work on the machine slows all of them. The ratio counts: the median of the
turns' own ratios to multiprocessing's.
"""

import argparse
import concurrent.futures
import importlib.metadata
import os
import pathlib
import signal
import subprocess
import sys

import libraries
import report
import rows

# Seconds of one measurement.
LIMIT = 90


def main():
    names = [row.name for row in rows.ROWS]
    parser = argparse.ArgumentParser(prog='cargo xtask bench --python', description=__doc__.splitlines()[0])
    parser.add_argument('--row', action='append', metavar='NAME', choices=names, help=f'one of {", ".join(names)}')
    parser.add_argument('--pairs', type=int, metavar='N', help='turns of each row, in place of its own number')
    parser.add_argument('--out', type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    choice = parser.parse_args()
    present, absent = installed()
    for library in absent:
        print(f'left out: {library} is not installed on this Python')
    measured = []
    for row in rows.ROWS:
        if choice.row is None or row.name in choice.row:
            if row.rival not in present:
                print(f'left out: {row.name}: there is no {row.rival} here')
                continue
            print(f'measuring {row.name} ...', file=sys.stderr, flush=True)
            measured.append(take_turns(row, present, choice.pairs or row.pairs))
    report.print_table(measured, present)
    if choice.row is None:
        # A part of the rows must not take the place of all.
        choice.out.mkdir(parents=True, exist_ok=True)
        for path in (report.write(measured, choice.out / 'python.json'), report.plot(measured, choice.out / 'python.png')):
            print(f'written to {path}')


def installed():
    """Returns the libraries that are installed, and those that are not."""
    standard = ['procession', 'multiprocessing']
    standard += [name for name in libraries.STANDARD_EXECUTORS if hasattr(concurrent.futures, name)]
    distributions = {distribution.name.lower() for distribution in importlib.metadata.distributions()}
    present = [name for name in libraries.LIBRARIES if name in standard or name in distributions]
    return present, [name for name in libraries.LIBRARIES if name not in present]


def take_turns(row, present, turns):
    """Runs a row's libraries by turns. A library that fails is left out from then on."""
    runs = {library: [] for library in row.libraries if library in present}
    for turn in range(turns):
        order = list(runs)
        for library in order[turn % len(order) :] + order[: turn % len(order)]:
            figure, problem = run(row, library)
            if problem is None:
                runs[library].append(figure)
            else:
                print(f'left out of {row.name}: {library}: {problem}', flush=True)
                del runs[library]
    return report.Measured(row, runs)


def run(row, library):
    """Measures once: returns the figure, or why there is none."""
    script = pathlib.Path(__file__).with_name('measure.py')
    # A session of its own, so that processes which a hanging library leaves behind can be ended.
    process = subprocess.Popen(
        [sys.executable, script, row.name, library],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return None, f'not done after {LIMIT} s'
    lines = output.split()
    if process.returncode != 0 or not lines:
        return None, (errors.strip().splitlines() or [f'exit code {process.returncode}'])[-1]
    return float(lines[-1]), None


if __name__ == '__main__':
    main()

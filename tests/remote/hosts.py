"""The program of hosts.sh: maps 10,000 tasks over three hosts, to one of which something happens.
Arguments: the retries, a file to make once tasks run on all, and a file for this program's pid.
"""

import collections
import faulthandler
import os
import pathlib
import socket
import sys
import time

import procession

NAME = os.environ['PROCESSION_TEST_CLUSTER']
WORKERS = 5
TASKS = int(os.environ.get('PROCESSION_HOSTS_TASKS', 10_000))


def work(x):
    time.sleep(0.02)
    return x, socket.gethostname()


def main(retries, begun, pid):
    pathlib.Path(pid).write_text(str(os.getpid()))
    faulthandler.dump_traceback_later(400, exit=True)
    ctx = procession.get_context(NAME)
    deadline = time.monotonic() + 60
    while ctx.cpu_count() < WORKERS:
        assert time.monotonic() < deadline, 'the cluster is not complete'
        time.sleep(0.2)
    seen, hosts, lost = collections.Counter(), collections.Counter(), []
    last, gap = time.monotonic(), 0.0
    with ctx.Pool(WORKERS) as pool:
        for found in pool.imap_unordered(work, range(TASKS), retries=retries, return_exceptions=True):
            now = time.monotonic()
            gap, last = max(gap, now - last), now
            if isinstance(found, Exception):
                lost.append(found)
                continue
            seen[found[0]] += 1
            hosts[found[1]] += 1
            if len(hosts) == 3:
                pathlib.Path(begun).touch()
    print(f'{NAME}, retries={retries}: {len(seen)} done, {len(lost)} lost, on {dict(hosts)}, longest gap {gap:.1f} s')
    assert max(seen.values()) == 1 and len(seen) + len(lost) == TASKS
    assert all(isinstance(error, procession.WorkerLost) and error.host == 'host2' for error in lost), lost
    assert len(lost) <= (0 if retries else 2), lost


if __name__ == '__main__':
    main(int(sys.argv[1]), *sys.argv[2:])

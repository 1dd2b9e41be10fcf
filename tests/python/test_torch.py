"""PyTorch's data loaders and shared tensors, in processes of each start method. They need a Python
that has torch, as Debian's own with the package `python3-torch`; CONTRIBUTING says how to run them.
"""

import os
import pathlib
import subprocess
import sys
import textwrap

import procession
import pytest

pytestmark = pytest.mark.limit(180)

PROGRAM = """
    import multiprocessing
    import os
    import signal
    import sys

    import torch
    from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info


    class Squares(Dataset):
        def __init__(self, killed_at=None):
            self.killed_at = killed_at

        def __len__(self):
            return 16

        def __getitem__(self, index):
            if index == self.killed_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return torch.full((1000,), index * index), os.getpid()


    class Stream(IterableDataset):
        def __iter__(self):
            worker = get_worker_info()
            return iter(range(worker.id, 20, worker.num_workers))


    def load(loader):
        total, workers = 0, set()
        for squares, pids in loader:
            total += int(squares[:, 0].sum())
            workers.update(pids.tolist())
        return total, workers


    def loader(context, data=Squares(), **terms):
        return DataLoader(data, batch_size=4, num_workers=2, multiprocessing_context=context, **terms)


    def check_loaders(context):
        total, workers = load(loader(context, shuffle=True))
        print(total, len(workers - {os.getpid()}))
        kept = loader(context, persistent_workers=True)
        print(load(kept) == load(kept))
        print(sorted(number for batch in loader(context, Stream()) for number in batch.tolist()) == list(range(20)))
        # A loop that is left early leaves batches in the queues.
        print(next(iter(loader(context, prefetch_factor=4)))[0].shape)
        try:
            load(loader(context, Squares(killed_at=5)))
        except RuntimeError as error:
            print('exited unexpectedly' in str(error))


    def change(tensors, answers, shared):
        tensor = tensors.get()
        tensor += 1
        shared *= 2
        answers.put(torch.arange(3))
        # The sender has opened the memory of what was put.
        tensors.get()


    def increment(tensor):
        return tensor + 1


    def check_tensors(context):
        tensors, answers = context.Queue(), context.Queue()
        shared, sent = torch.ones(2).share_memory_(), torch.zeros(2).share_memory_()
        process = context.Process(target=change, args=(tensors, answers, shared))
        process.start()
        tensors.put(sent)
        print(answers.get(timeout=60).tolist(), sent.tolist(), shared.tolist())
        tensors.put(None)
        process.join()
        print(process.exitcode)
        with context.Pool(2) as pool:
            print([each.tolist() for each in pool.map(increment, [torch.zeros(1), torch.ones(1)])])


    if __name__ == '__main__':
        if 'OURS' in os.environ:
            import procession as multiprocessing
        torch.multiprocessing.set_sharing_strategy(os.environ['SHARING'])
        context = multiprocessing.get_context(os.environ['METHOD'])
        print(type(context).__module__)
        {'loaders': check_loaders, 'tensors': check_tensors}[sys.argv[1]](context)
"""
LOADERS = '1240 2\nTrue\nTrue\ntorch.Size([4, 1000])\nTrue\n'
TENSORS = '[0, 1, 2] [1.0, 1.0] [2.0, 2.0]\n0\n[[1.0], [2.0]]\n'


@pytest.mark.parametrize('sharing', ['file_descriptor', 'file_system'])
def test_data_loaders_load_in_our_processes(method, sharing, tmp_path):
    _check(tmp_path, [], 'loaders', LOADERS, METHOD=method, SHARING=sharing, OURS='1')


@pytest.mark.parametrize('sharing', ['file_descriptor', 'file_system'])
def test_tensors_travel_in_shared_memory(method, sharing, tmp_path):
    _check(tmp_path, [], 'tensors', TENSORS, METHOD=method, SHARING=sharing, OURS='1')


def test_an_unedited_program_loads_and_sends_tensors(method, tmp_path):
    for part, expected in ('loaders', LOADERS), ('tensors', TENSORS):
        _check(tmp_path, ['-m', 'procession'], part, expected, METHOD=method, SHARING='file_descriptor')


def _check(folder, options, part, expected, **variables):
    pytest.importorskip('torch')
    (folder / 'program.py').write_text(textwrap.dedent(PROGRAM))
    path = os.pathsep.join([str(pathlib.Path(procession.__file__).parents[1]), os.environ.get('PYTHONPATH', '')])
    done = subprocess.run(
        [sys.executable, *options, 'program.py', part],
        env={**os.environ, 'PYTHONPATH': path, **variables},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert (done.returncode, done.stdout) == (0, f'procession.context\n{expected}'), done.stderr

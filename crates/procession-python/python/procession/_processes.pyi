from . import popen_fork, popen_forkserver, popen_spawn_posix
from .process import BaseProcess

class Process(BaseProcess):
    _start_method: str | None
    @staticmethod
    def _Popen(process_obj: BaseProcess) -> popen_fork.Popen: ...

class ForkProcess(BaseProcess):
    _start_method: str
    @staticmethod
    def _Popen(process_obj: BaseProcess) -> popen_fork.Popen: ...

class SpawnProcess(BaseProcess):
    _start_method: str
    @staticmethod
    def _Popen(process_obj: BaseProcess) -> popen_spawn_posix.Popen: ...

class ForkServerProcess(BaseProcess):
    _start_method: str
    @staticmethod
    def _Popen(process_obj: BaseProcess) -> popen_forkserver.Popen: ...

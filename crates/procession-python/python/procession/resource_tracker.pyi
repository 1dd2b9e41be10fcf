from multiprocessing import resource_tracker as _standard

from multiprocessing.resource_tracker import main as main

__all__ = ['ensure_running', 'register', 'unregister']

class ResourceTracker(_standard.ResourceTracker):
    def __init__(self) -> None: ...
    def register(self, name: str, rtype: str) -> None: ...  # type: ignore[override]
    def unregister(self, name: str, rtype: str) -> None: ...  # type: ignore[override]
    def attached(self, name: str) -> None: ...
    def forget(self, name: str, rtype: str) -> None: ...
    def share(self) -> None: ...
    def end_if_unused(self) -> None: ...
    def ensure_running(self) -> None: ...

_resource_tracker: ResourceTracker
ensure_running = _resource_tracker.ensure_running
register = _resource_tracker.register
unregister = _resource_tracker.unregister
getfd = _resource_tracker.getfd

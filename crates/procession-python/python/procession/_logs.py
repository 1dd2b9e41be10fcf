"""Log records of children, which go through their parent's handlers. In a child each logger sends
what it is given; in the parent the engine's thread gives each record to the logger of its name.

A record travels with its message merged and its exception as text, as
`logging.handlers.QueueHandler` prepares it, and as little else as can be. What all records of one
place in the code have in common is sent once, as a *site*: the first record of it is preceded by
its number and attributes, and each record has the number.

| sent, by `marshal` | what it is |
|---|---|
| number, values | a site: the values of attributes whose names the parent has told |
| number, message, created, msecs, relativeCreated | a record |
| the same, exc_text, stack_info, taskName, extra | a record that has any of these |
"""

from __future__ import annotations

import itertools
import logging
import marshal
import operator
from typing import Any

from . import _engine, _errors

# A version that each Python reads and writes.
_VERSION = 4
# The most sites that a child remembers, and the parent of each child beyond them.
_MAX_SITES = 4096
# The most characters of a text of a record that was too long to be sent.
_MAX_CUT = 100_000

_PLAIN = logging.LogRecord('', 0, '', 0, '', (), None).__dict__
# Those of a record that are its own, besides its message.
_TIMES = ('created', 'msecs', 'relativeCreated')
_TEXTS = tuple(name for name in ('exc_text', 'stack_info', 'taskName') if name in _PLAIN)
_OF_SITE = tuple(name for name in _PLAIN if name not in {'msg', 'args', 'exc_info', *_TIMES, *_TEXTS})
# Attributes that are no `extra`, with those that a formatter has left.
_KNOWN = {*_PLAIN, 'message', 'asctime'}

_numbers = itertools.count()

# The number of parts that each record has besides its site.
_PARTS = 4

_Site = tuple[logging.Logger, int, dict[str, Any]]


def wanted(logs: Any) -> tuple[bytes, Receiver]:
    """Returns what a child is told, and what gets its records. `logs` is true, or the lowest level
    that is wanted.

    :raises ValueError: there is no such level.
    :raises TypeError: it is neither.
    """
    root = logging.getLogger()
    levels = {logger.name: logger.level for logger in _all_loggers() if logger.level}
    level = root.level if logs is True else _level(logs)
    return marshal.dumps((level, levels, root.manager.disable, _OF_SITE), _VERSION), Receiver(asks=logs is True)


def _level(given: Any) -> int:
    if isinstance(given, str):
        level = logging.getLevelName(given)
        if not isinstance(level, int):
            raise ValueError(f'logs: there is no level {given!r}; name one as logging.INFO or "INFO"')
        return level
    if isinstance(given, bool) or not isinstance(given, int):
        raise TypeError(f'logs must be true, or a level such as logging.INFO or "INFO", not {given!r}')
    if given < 0:
        raise ValueError(f'logs: a level is a number from 0 on, not {given!r}')
    return int(given)


def _all_loggers() -> list[logging.Logger]:
    known = list(logging.getLogger().manager.loggerDict.values())
    return [logger for logger in known if isinstance(logger, logging.Logger)]


def begin(told: bytes) -> None:
    """In a child, before any code of the program runs there: has its loggers send their records,
    and nothing else. A forked child has its parent's handlers. The engine calls it; an executed
    child calls it again once it has imported the program.
    """
    level, levels, disabled, names = marshal.loads(told)
    sender = _Sender(names)
    root = logging.getLogger()
    for logger in [root, *_all_loggers()]:
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
        if logger is root or not logger.propagate:
            logger.addHandler(sender)
    root.setLevel(level)
    for name, its in levels.items():
        logging.getLogger(name).setLevel(its)
    logging.disable(disabled)


class _Sender(logging.Handler):
    """Sends records to this process's parent, each at once."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self._names = names
        self._pick = operator.itemgetter(*names)
        # The numbers of the sites that were sent, by their values.
        self._sites: dict[tuple[Any, ...], int] = {}

    def handle(self, record: logging.LogRecord) -> bool:
        """Sends a record. The engine has a lock of its own around that."""
        if not self.filters or self.filter(record):
            self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Sends a record. In a process that this one has forked by itself, which has no parent that
        wants records, warnings go to stderr.
        """
        try:
            message = record.getMessage()
            attributes = record.__dict__
            try:
                site = self._sites[self._pick(attributes)]
            except (KeyError, TypeError):
                site = self._send_site(attributes)
            times = record.created, record.msecs, record.relativeCreated
            has_texts = record.exc_info or record.exc_text or record.stack_info or attributes.get('taskName')
            if has_texts or len(attributes) != len(_PLAIN):
                is_sent = self._send((site, message, *times, *_texts_of(attributes), _extra_of(attributes)))
            else:
                is_sent = self._send((site, message, *times))
            if not is_sent and logging.lastResort is not None and record.levelno >= logging.lastResort.level:
                logging.lastResort.handle(record)
        except RecursionError:
            raise
        except Exception:
            self.handleError(record)

    def _send_site(self, attributes: dict[str, Any]) -> int:
        number = next(_numbers)
        values = tuple(map(_sendable, map(attributes.get, self._names)))
        # Before another thread can name it.
        _engine.send_record(marshal.dumps((number, values), _VERSION))
        if len(self._sites) >= _MAX_SITES:
            self._sites.clear()
        self._sites[values] = number
        return number

    def _send(self, sent: tuple[Any, ...]) -> bool:
        try:
            return _engine.send_record(marshal.dumps(sent, _VERSION))
        except ValueError:
            # It is too long, or one of its texts is no text.
            return _engine.send_record(marshal.dumps(tuple(map(_shortened, sent)), _VERSION))


def _texts_of(attributes: dict[str, Any]) -> tuple[Any, ...]:
    exc_text = attributes.get('exc_text')
    if attributes.get('exc_info') and not exc_text:
        exc_text = logging.Formatter().formatException(attributes['exc_info'])
    return exc_text, attributes.get('stack_info'), attributes.get('taskName')


def _extra_of(attributes: dict[str, Any]) -> bytes | None:
    """Pickles attributes that the program has added; of one that does not pickle, its `repr`."""
    extra = {name: value for name, value in attributes.items() if name not in _KNOWN}
    if not extra:
        return None
    try:
        return _dumps(extra)
    except Exception:
        return _dumps({name: value if _is_picklable(value) else repr(value) for name, value in extra.items()})


def _is_picklable(value: Any) -> bool:
    try:
        _dumps(value)
        return True
    except Exception:
        return False


def _dumps(value: Any) -> bytes:
    # Few records need it.
    import pickle

    return pickle.dumps(value)


def _sendable(value: Any) -> Any:
    """A value, if it can be had without the child's classes; else its text or number."""
    if type(value) in (int, float, str, bytes, bool, type(None)):
        return value
    return int(value) if isinstance(value, int) else str(value)


def _shortened(value: Any) -> Any:
    value = _sendable(value)
    if isinstance(value, bytes):
        # A pickle cannot be cut.
        return None
    if isinstance(value, str) and len(value) > _MAX_CUT:
        return f'{value[:_MAX_CUT]}... (cut: it had {len(value)} characters)'
    return value


class Receiver:
    """Gives records of the children of a pool, or of a process, to the loggers of their names. With
    `asks` a logger gets no record that is below its level by now. The engine calls it.
    """

    def __init__(self, asks: bool) -> None:
        self._asks = asks
        # By pid and number: the logger, the level, what a record of the site has.
        self._sites: dict[int, dict[int, _Site]] = {}

    def receive(self, records: list[bytes], name: str, pid: int, slot: int | None) -> None:
        """Takes records that one process has sent one after the other, and gives them to their
        loggers.
        """
        sites = self._sites.setdefault(pid, {})
        malformed: BaseException | None = None
        for sent in records:
            try:
                site, *parts = marshal.loads(sent)
                if len(parts) == 1:
                    self._add_site(sites, site, _site(parts[0], name, pid, slot))
                    continue
                logger, level, common = sites[site]
                if self._asks and not logger.isEnabledFor(level):
                    continue
                record = _record(common, *parts)
            except Exception as error:
                # It comes from code that sends such by itself.
                malformed = malformed or error
                continue
            try:
                if len(parts) > _PARTS and (extra := parts[-1]) is not None:
                    record.__dict__.update(_loads(extra))
            except BaseException as error:
                # The record comes without what does not unpickle here.
                malformed = malformed or error
            try:
                logger.handle(record)
            except Exception:
                # As a handler does it that hears of its own errors: lines on stderr, unless
                # `logging.raiseExceptions` is false.
                logging.Handler().handleError(record)
            except BaseException as error:
                # Nobody is to exit here, and the others are to come.
                malformed = malformed or error
        if malformed is not None:
            raise malformed

    @staticmethod
    def _add_site(sites: dict[int, _Site], number: int, site: _Site) -> None:
        sites[number] = site
        if len(sites) > 2 * _MAX_SITES:
            # The child has forgotten the oldest.
            for oldest in list(itertools.islice(sites, _MAX_SITES)):
                del sites[oldest]

    def forget(self, pid: int) -> None:
        """Lets go of what is kept of a process, which has ended."""
        self._sites.pop(pid, None)


def _record(common: dict[str, Any], message: str, created: float, msecs: float, relative: float, *more: Any) -> logging.LogRecord:
    attributes = common.copy()
    attributes['msg'], attributes['created'], attributes['msecs'], attributes['relativeCreated'] = (
        message,
        created,
        msecs,
        relative,
    )
    if more:
        attributes.update(zip(_TEXTS, more[:-1]))
    record = logging.LogRecord.__new__(logging.LogRecord)
    record.__dict__ = attributes
    return record


def _site(values: tuple[Any, ...], name: str, pid: int, slot: int | None) -> _Site:
    """Returns the logger and the level of a site, and what each record of it has."""
    common: dict[str, Any] = {**_PLAIN, 'args': None}
    common.update(dict.fromkeys(_TEXTS))
    common.update(zip(_OF_SITE, values))
    host, pid = _errors.place_of(pid) or (None, pid)
    if host is not None:
        common['host'] = host
    if common['process'] in (pid, None):
        # Otherwise it is of a child of that process, and has come through it.
        common['processName'], common['process'], common['worker'] = name, pid, slot
    return logging.getLogger(common['name']), common['levelno'], common


def _loads(pickled: bytes) -> dict[str, Any]:
    import pickle

    loaded: dict[str, Any] = pickle.loads(pickled)
    return loaded

"""What a node logs: one structured stream for structlog and `logging`, without passwords and control characters."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, TextIO

import structlog
from structlog.typing import EventDict, Processor

from transport.errors import mask

# C0, DEL and C1 drive terminals; the others break lines or turn the reading order round.
_CODES: Final = (*range(32), *range(127, 160), 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))
_CONTROL: Final = {code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" for code in _CODES}
_BUT_NEWLINES: Final = {code: text for code, text in _CONTROL.items() if chr(code) not in "\n\t"}


def escape(text: str) -> str:
    """`text` in one line, with nothing in it that a terminal obeys."""
    return text.translate(_CONTROL)


def set_up_logs(level: str, form: str, file: TextIO, **always: str) -> None:
    """From `level` on, structlog and `logging` write to `file`, each line with the fields `always`.

    `form` is "console" for people, "json" for machines, or "auto": console where `file` is a terminal.
    """
    threshold = logging.getLevelNamesMapping()[level.upper()]
    render: list[Processor]
    if form == "console" or (form == "auto" and file.isatty()):
        colors = file.isatty() and not os.environ.get("NO_COLOR")
        plain = structlog.dev.plain_traceback
        render = [_escaped, structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)]
    else:
        render = [structlog.processors.JSONRenderer(json.dumps)]  # ASCII: every control character is \u escaped
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            lambda _logger, _method, event: {**always, **_plain(event)},
            *render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(_Lenient(file)),  # type: ignore[arg-type]  # it only writes
    )
    logging.basicConfig(handlers=[_ToStructlog()], level=threshold, force=True)
    logging.captureWarnings(True)


class _Lenient:
    """A file without which life goes on: a line that it does not take (a closed pipe, a full disk) is lost."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        with suppress(OSError):
            self._file.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._file.flush()


class _ToStructlog(logging.Handler):
    """Writes what libraries log with `logging` as everything else is."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001  # a library's faulty log call fails no actor
            text = f"{record.msg} (does not fit its arguments, {record.pathname}:{record.lineno})"
        level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)  # structlog knows no others
        structlog.get_logger().log(level, text, logger=record.name, exc_info=record.exc_info)


def _plain(value: Any) -> Any:
    """The value of a log line as JSON knows it, masked."""
    if isinstance(value, Mapping):
        return {mask(str(key)): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each) for each in value]
    if value is None or isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return mask(value if isinstance(value, str) else repr(value))


def _escaped(_logger: object, _method: str, event: EventDict) -> EventDict:
    return {
        escape(key): value.translate(_BUT_NEWLINES) if key == "exception" else _escape_all(value)
        for key, value in event.items()
    }


def _escape_all(value: Any) -> Any:
    if isinstance(value, dict):
        return {escape(key): _escape_all(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_escape_all(each) for each in value]
    return escape(value) if isinstance(value, str) else value

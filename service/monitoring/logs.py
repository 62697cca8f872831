"""The server's log: plain lines for people, or one JSON object a line for machines.

Queries are personal data. They are logged only if `log_queries` is set.
"""

import logging
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

LogFormat = Literal["text", "json"]

# The request being served; every line that is logged meanwhile carries its id.
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
QUIET = frozenset({"/livez", "/readyz", "/metrics"})  # polled every few seconds

_requests = logging.getLogger("grape.requests")
_queries = logging.getLogger("grape.queries")


def set_up(log_format: LogFormat) -> None:
    """Sends all logging to stderr in one format. A text log has no lines for requests."""
    plain = logging.Formatter("%(message)s")
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonLines() if log_format == "json" else plain)
    logging.basicConfig(handlers=[handler], force=True)
    logging.getLogger("grape").setLevel(logging.INFO)
    _requests.setLevel(logging.INFO if log_format == "json" else logging.WARNING)


class Answered(NamedTuple):
    """A request and its answer, as they are logged."""

    method: str
    route: str
    status: int
    ms: float
    key: str | None = None  # the API key's name


def log_request(answered: Answered) -> None:
    """One line for each response, if the log format has such lines."""
    if answered.route not in QUIET and _requests.isEnabledFor(logging.INFO):
        fields = answered._replace(ms=round(answered.ms, 2))._asdict()
        if answered.key is None:
            del fields["key"]
        _requests.info("%s %s %d", *answered[:3], extra=fields)


def log_queries(queries: list[str]) -> None:
    """Logs what users search for. Call it only if `log_queries` is set."""
    _queries.info("queries: %s", queries, extra={"queries": queries})


class _JsonLines(JsonFormatter):
    """``{time, level, logger, message, request_id?, ..., traceback?}``, one line each."""

    def __init__(self) -> None:
        super().__init__(
            ["asctime", "levelname", "name", "message"],
            rename_fields={
                "asctime": "time",
                "levelname": "level",
                "name": "logger",
                "exc_info": "traceback",
            },
            # vLLM puts its process's name on every record of the process that imports it.
            reserved_attrs=[*RESERVED_ATTRS, "vllm_process_name"],
            json_default=str,
            json_ensure_ascii=False,
        )

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        log_data["level"] = log_data["level"].lower()
        if identity := request_id.get():
            log_data["request_id"] = identity
        return log_data

"""What the server writes down: plain lines for a person, or one JSON object a line for a machine.

A query is personal. It is written down only where `log_queries` asks for it.
"""

import json
import logging
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

LogFormat = Literal["text", "json"]

# Of the request that is at work; every line that is logged meanwhile carries it.
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
QUIET = frozenset({"/livez", "/readyz", "/metrics"})  # asked for every few seconds

_requests = logging.getLogger("grape.requests")
_queries = logging.getLogger("grape.queries")


def set_up(log_format: LogFormat) -> None:
    """Sends all logging to stderr in one form; a text log leaves out the lines for requests."""
    plain = logging.Formatter("%(message)s")
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if log_format == "json" else plain)
    logging.basicConfig(handlers=[handler], force=True)
    logging.getLogger("grape").setLevel(logging.INFO)
    _requests.setLevel(logging.INFO if log_format == "json" else logging.WARNING)


def log_request(method: str, route: str, status: int, milliseconds: float) -> None:
    """One line for an answer, where such lines are wanted."""
    if route not in QUIET and _requests.isEnabledFor(logging.INFO):
        fields = {"method": method, "route": route, "status": status, "ms": round(milliseconds, 2)}
        _requests.info("%s %s %d", method, route, status, extra={"fields": fields})


def log_queries(queries: list[str]) -> None:
    """What is searched for; the caller knows that this was asked for."""
    _queries.info("asked for %s", queries, extra={"fields": {"queries": queries}})


class JsonFormatter(logging.Formatter):
    """``{time, level, logger, message, request_id?, ..., traceback?}``, one line each."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if identity := request_id.get():
            line["request_id"] = identity
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)

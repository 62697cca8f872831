"""Which failed calls are tried again, when, and for how long.

tenacity runs the loop. stamina, its better-known wrapper, logs every retry and counts it in the
process's Prometheus registry, and only a process-wide setting turns that off.
"""

import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
from tenacity import (
    RetryCallState,
    retry_if_exception,
    retry_if_result,
    stop_after_attempt,
    stop_before_delay,
    wait_exponential,
)

OVERLOADED = 429
LOADING = 503
FIRST_PAUSE_S = 0.25  # doubled after every attempt
LONGEST_PAUSE_S = 8.0  # plus what Retry-After asks for

_PASSING_PROBLEMS = (httpx.NetworkError, httpx.ConnectTimeout, httpx.RemoteProtocolError)
_growing = wait_exponential(multiplier=FIRST_PAUSE_S, max=LONGEST_PAUSE_S)


@dataclass(frozen=True)
class RetryPolicy:
    """When a call is tried again.

    Attributes:
        attempts: how often a call is tried in all.
        timeout_s: seconds for all attempts of a call and the pauses between them. An attempt that
            could only start later is not made.
        overload_only: retries an overloaded server (429) alone, and neither one that is still
            loading (503) nor one that cannot be reached.
    """

    attempts: int = 4
    timeout_s: float = 60.0
    overload_only: bool = False

    def deadline(self) -> float:
        """When a call that starts now has to end, on the clock of ``time.monotonic``."""
        return time.monotonic() + self.timeout_s

    def options(self) -> dict[str, Any]:
        """Arguments of tenacity's ``Retrying`` and ``AsyncRetrying``.

        The last response is returned, or the last exception raised, as if it had been the only one.
        """
        return {
            "retry": retry_if_result(self._is_turned_away) | retry_if_exception(self._may_pass),
            "wait": _pause_s,
            "stop": stop_after_attempt(self.attempts) | stop_before_delay(self.timeout_s),
            "retry_error_callback": _last_outcome,
        }

    def _is_turned_away(self, response: httpx.Response) -> bool:
        return response.status_code == OVERLOADED or (
            response.status_code == LOADING and not self.overload_only
        )

    def _may_pass(self, error: BaseException) -> bool:
        # Not a read timeout: a server that was too slow once is not given the same work again.
        return isinstance(error, _PASSING_PROBLEMS) and not self.overload_only


def _pause_s(state: RetryCallState) -> float:
    # Jitter, so that clients that were turned away together do not return together.
    pause: float = _growing(state) * random.uniform(0.5, 1)
    assert state.outcome
    if state.outcome.failed:
        return pause
    return pause + _retry_after_s(state.outcome.result().headers.get("Retry-After", ""))


def _last_outcome(state: RetryCallState) -> Any:
    assert state.outcome
    return state.outcome.result()


def _retry_after_s(header: str) -> float:
    """Reads seconds or an HTTP date; 0 for anything else and for a date in the past."""
    if header.isascii() and header.isdigit():
        return float(header)
    try:
        due = parsedate_to_datetime(header)
    except (ValueError, OverflowError):
        return 0.0
    if due.tzinfo is None:
        due = due.replace(tzinfo=UTC)
    return max((due - datetime.now(UTC)).total_seconds(), 0.0)

"""Sessions of browsers, and how often an address has failed to log in."""

import secrets
import time

from cachetools import TTLCache

_SESSION_S = 7 * 24 * 3600
_MAX_SESSIONS = 10_000  # then the oldest end
_MAX_ADDRESSES = 10_000
_FORGIVEN_AFTER_S = 900
_FREE_FAILURES = 5
_LONGEST_WAIT_S = 60


class Sessions:
    """Who has logged in. Sessions are random, are in memory only, and end with the process."""

    def __init__(self) -> None:
        self._keys: TTLCache[str, str] = TTLCache(_MAX_SESSIONS, _SESSION_S)

    def begin(self, key: str) -> str:
        """A new session of the key with this name."""
        session = secrets.token_urlsafe(32)
        self._keys[session] = key
        return session

    def key(self, session: str) -> str | None:
        """The name of the session's key, or None."""
        return self._keys.get(session)

    def end(self, session: str) -> None:
        self._keys.pop(session, None)


class FailedLogins:
    """Counts failed logins by address. After five, each next one has to wait twice as long."""

    def __init__(self) -> None:
        self._failures: TTLCache[str, tuple[int, float]] = TTLCache(
            _MAX_ADDRESSES, _FORGIVEN_AFTER_S
        )

    def failed(self, address: str) -> None:
        count, _ = self._failures.get(address, (0, 0.0))
        wait = 2 ** (count + 1 - _FREE_FAILURES) if count + 1 >= _FREE_FAILURES else 0
        self._failures[address] = (count + 1, time.monotonic() + min(wait, _LONGEST_WAIT_S))

    def succeeded(self, address: str) -> None:
        self._failures.pop(address, None)

    def wait_s(self, address: str) -> float:
        """Seconds until the address may try again."""
        _, until = self._failures.get(address, (0, 0.0))
        return max(0.0, until - time.monotonic())

"""The error that both clients raise."""

from models.common.errors import GrapeError


class ClientError(GrapeError):
    """A call that got no usable answer.

    Attributes:
        error_type: what the server reported, one of `ErrorType`; or ``unreachable``, ``timeout``,
            ``not_grape`` (the answer is not one of GRAPE's), ``address`` or ``key`` (malformed),
            ``argument`` (of another type) or ``proxy`` (the environment's cannot be used).
        message: one sentence that says what is wrong and what to do next.
        request_id: the request's id in the server's log; None if the server returned none.
        status: the HTTP status; None if there was no response.
    """

    def __init__(
        self,
        error_type: str,
        message: str,
        request_id: str | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.message = message
        self.request_id = request_id
        self.status = status

    @property
    def is_bad_input(self) -> bool:
        """Whether the same request would fail again: the input has to change."""
        refused = self.status is not None and 400 <= self.status < 500
        wrong = self.error_type in ("address", "key", "argument", "proxy")
        return wrong or (refused and self.status != 429)

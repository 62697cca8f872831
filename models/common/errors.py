"""Errors for the user: one sentence that says what is wrong and what to do next."""


class GrapeError(Exception):
    """A valid request that failed; the command line exits with 1."""


class InputError(GrapeError):
    """Input that cannot be used; the command line exits with 2, HTTP answers 4xx."""


class IndexDown(GrapeError):
    """The index cannot be reached now, and may be again soon; HTTP answers 503."""


class IndexMissing(InputError, IndexDown):
    """There is no such index where there may have been one."""


INTERRUPTED = 130  # exit code after Ctrl-C, by shell convention

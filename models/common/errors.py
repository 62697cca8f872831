"""Errors for the user: one sentence that says what is wrong and what to do next."""


class GrapeError(Exception):
    """A valid request that failed; the command line exits with 1."""


class InputError(GrapeError):
    """Input that cannot be used; the command line exits with 2, HTTP answers 4xx."""


INTERRUPTED = 130  # exit code after Ctrl-C, by shell convention

"""Errors that are meant for the user: one sentence that says what is wrong and what to do next."""


class GrapeError(Exception):
    """Something failed that was asked for correctly; the command line leaves with 1."""


class InputError(GrapeError):
    """The user's input cannot be used; the command line leaves with 2, HTTP answers 4xx."""


INTERRUPTED = 130  # exit code after Ctrl-C, as shells give it

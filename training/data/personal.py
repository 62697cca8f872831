"""Queries that look personal, and are not trained on."""

import re

_PERSONAL = re.compile(
    r"[\w.+-]+@[\w-]+\.\w+"  # an e-mail address
    r"|(?:\d[ ./()-]?){7,}"  # a telephone number, an account, a date of birth with more
    r"|https?://|www\.",
    re.IGNORECASE,
)


def is_personal(query: str) -> bool:
    """Whether a query holds an e-mail address, a web address, or a number of 7 digits or more.

    Names of people are not found.
    """
    return _PERSONAL.search(query) is not None

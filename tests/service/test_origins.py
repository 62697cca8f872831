"""Origins and host names as settings."""

import pytest
from pydantic import ValidationError

from service.settings import Settings


def test_they_come_as_text_or_as_a_list() -> None:
    given = Settings(cors_origins="https://A.example/, http://b:81", allowed_hosts=["[::2]", "x.y"])
    assert given.cors_origins == ("https://a.example", "http://b:81")
    assert given.allowed_hosts == ("::2", "x.y")
    assert Settings().cors_origins == Settings().allowed_hosts == ()


@pytest.mark.parametrize("origin", ["*", "null", "a.example", "https://a.example/path", [1]])
def test_what_is_no_origin(origin: object) -> None:
    with pytest.raises(ValidationError, match=r"origin|list"):
        Settings(cors_origins=origin)


@pytest.mark.parametrize("name", ["*", "a.example:8000", "http://a.example", "a/b"])
def test_what_is_no_host_name(name: str) -> None:
    with pytest.raises(ValidationError, match="host name"):
        Settings(allowed_hosts=name)

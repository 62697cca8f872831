"""`python -m tests.support.axe`: fetches axe-core, with which tests look for barriers on the page.

Only tests use it: it is kept in the virtual environment, and no page loads it.
"""

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

VERSION = "4.14.1"
_SHA256 = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"  # of axe.min.js
_FILE = Path(sys.prefix) / f"axe-core-{VERSION}.min.js"


def script() -> str:
    """axe-core's source, fetched with npm when it is first needed.

    Raises:
        AssertionError: npm is missing, or what is there is not this version.
    """
    if not _FILE.exists():
        _fetch()
    content = _FILE.read_bytes()
    assert hashlib.sha256(content).hexdigest() == _SHA256, f"{_FILE} is not axe-core {VERSION}"
    return content.decode()


def _fetch() -> None:
    npm = shutil.which("npm")
    assert npm, "The tests of the page need axe-core: install npm, e.g. `sudo apt install npm`."
    with tempfile.TemporaryDirectory() as folder:
        package = f"axe-core@{VERSION}"
        subprocess.run(
            [npm, "pack", "--silent", package], cwd=folder, check=True, capture_output=True
        )
        with tarfile.open(next(Path(folder).glob("*.tgz"))) as archive:
            member = archive.extractfile("package/axe.min.js")
            assert member
            _FILE.write_bytes(member.read())


def barriers(page: Page) -> list[str]:
    """What axe-core finds on the page as it is now: rule, element and what to do, a line each."""
    if not page.evaluate("typeof axe === 'object'"):
        page.evaluate(f"{script()}; undefined")  # the page's own policy would refuse a script
    page.evaluate("Promise.all(document.getAnimations().map((one) => one.finished.catch(() => 0)))")
    found: dict[str, Any] = page.evaluate("axe.run({ resultTypes: ['violations'] })")
    assert found["passes"], "axe-core checked nothing"
    return [
        f"{rule['id']}: {node['html'][:160]}: {node['failureSummary']}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]


if __name__ == "__main__":
    try:
        script()
    except AssertionError as error:
        sys.exit(str(error))

"""`python -m tests.support.browser`: installs Chromium for the tests of the page, if it is missing.

Playwright's own browser download is not used: it is not available everywhere.
"""

import shutil
import subprocess
import sys


def find() -> str | None:
    """Path of a Chromium or Chrome on this machine."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


def main() -> None:
    if find():
        return
    if shutil.which("apt-get"):
        subprocess.run(["apt-get", "update", "-qq"], check=False)
        subprocess.run(["apt-get", "install", "-y", "-qq", "chromium"], check=False)
    if not find():
        print("The tests of the page need Chromium: install it, e.g. `sudo apt install chromium`.")
        sys.exit(2)


if __name__ == "__main__":
    main()

"""`python -m tests.support.browser`: sees that Debian's Chromium is there for the page's tests.

Playwright's own download of a browser is not used: it is not to be had everywhere.
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
        print("The page's tests need Chromium: install it, e.g. with `sudo apt install chromium`.")
        sys.exit(2)


if __name__ == "__main__":
    main()

"""The container's health check, `python -m service.api.health_probe`: exits 0 when /readyz is 200.

It needs no key and only the standard library. It prints what is not ready. The routes themselves
are in health_routes.py.
"""

import os
import sys
import urllib.error
import urllib.request

TIMEOUT_S = 5


def main() -> int:
    host = os.environ.get("GRAPE_HOST", "127.0.0.1")
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)
    url = f"http://{host}:{os.environ.get('GRAPE_PORT', '8000')}/readyz"
    # Ignore proxies in the environment: the server is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=TIMEOUT_S) as answer:
            print(answer.read().decode())
    except urllib.error.HTTPError as error:
        print(error.read().decode())
        return 1
    except OSError as error:
        print(f"{url}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

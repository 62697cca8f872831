"""Debian's Prometheus scrapes a running server with the repository's rules and settings."""

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx

PORT = 19090
SCRAPED_WITHIN_S = 40


def watched_by_prometheus(
    work: Path, deploy: Path, server_port: int, key: str, say: Callable[[str], None]
) -> None:
    """Checks rules and settings with promtool, then lets Prometheus scrape ``server_port``."""
    if not shutil.which("promtool"):
        say("Prometheus is not installed: rules and scraping were not tested")
        return
    for command in (["check", "rules", "alerts.yml"], ["test", "rules", "alerts.test.yml"],
                    ["check", "config", "--syntax-only", "prometheus.yml"]):  # fmt: skip
        done = subprocess.run(["promtool", *command], cwd=deploy, capture_output=True, text=True,
                              check=False)  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    say("promtool: alerts.yml, alerts.test.yml and prometheus.yml pass")
    here = work / "prometheus"
    shutil.copytree(deploy, here)
    (here / "key").write_text(key)
    settings = (here / "prometheus.yml").read_text()
    settings = settings.replace("grape:8000", f"127.0.0.1:{server_port}")
    settings = settings.replace("/run/secrets/grape-key", str(here / "key"))
    (here / "prometheus.yml").write_text(settings.replace("15s", "2s"))
    command = ["prometheus", f"--config.file={here}/prometheus.yml",
               f"--storage.tsdb.path={here}/tsdb",
               f"--web.listen-address=127.0.0.1:{PORT}"]  # fmt: skip
    with open(here / "log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _check_scrape(say)
    finally:
        process.terminate()
        process.wait(30)


def _check_scrape(say: Callable[[str], None]) -> None:
    deadline = time.monotonic() + SCRAPED_WITHIN_S
    while _ask('sum(grape_ready) and on() up{job="grape"} == 1') != "3":
        assert time.monotonic() < deadline, "Prometheus did not get the server's metrics"
        time.sleep(1)
    rules = httpx.get(f"http://127.0.0.1:{PORT}/api/v1/rules").json()["data"]["groups"][0]["rules"]
    assert all(rule["health"] in ("ok", "unknown") for rule in rules), rules
    rewritten = _ask('sum(grape_queries_total{status="rewritten"})')
    say(f"Prometheus: target up with the key, {len(rules)} rules loaded, {rewritten} rewrites seen")


def _ask(expression: str) -> str | None:
    try:
        answer = httpx.get(f"http://127.0.0.1:{PORT}/api/v1/query", params={"query": expression})
        found = answer.json()["data"]["result"]
    except (httpx.HTTPError, KeyError, ValueError):
        return None
    return str(found[0]["value"][1]) if found else None

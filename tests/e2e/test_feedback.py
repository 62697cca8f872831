"""Feedback with real parts: the commands of docs/feedback.md, and marks on the page."""

import shlex
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from grape import run
from models.client.marks import read_marks
from models.common import paths
from tests.e2e.test_docs import ROOT, shell_lines
from tests.support.grape_server import Server
from training.data.sources import load_rows


def test_people_mark_and_the_marks_become_rows(
    browser: Browser, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, rows = tmp_path / "FEEDBACK", tmp_path / "rows.jsonl"
    serve, curl, data = shell_lines((ROOT / "docs" / "feedback.md").read_text())
    flags = shlex.split(serve.replace("FEEDBACK", str(folder)))[2:]
    server = Server(tmp_path / "log", *flags, "--llm", "none")
    page = browser.new_page(base_url=server.url)
    try:
        server.wait_until_ready()
        curl = curl.replace("http://127.0.0.1:8000", server.url)
        for _ in range(2):
            subprocess.run(curl, shell=True, check=True, capture_output=True)
        page.goto("/?q=red+heart")
        hit = page.locator("#rewritten-hits li").first
        right, wrong = hit.get_by_label("is right"), hit.get_by_label("is not what I meant")
        right.click(timeout=20_000)
        expect(right).to_have_attribute("aria-pressed", "true")
        wrong.click()
        expect(wrong).to_have_attribute("aria-pressed", "true")
        expect(right).to_have_attribute("aria-pressed", "false")
        with page.expect_response("**/feedback"):
            hit.get_by_role("link").click()
    finally:
        page.close()
        server.stop()
    *told, opened = [mark for mark in read_marks(folder) if mark]
    assert [(mark.query, mark.relevant) for mark in told] == [
        ("大象", True), ("大象", True), ("red heart", True), ("red heart", False),
    ]  # fmt: skip
    assert (opened.query, opened.kind) == ("red heart", "opened")
    index = str(paths.index_dir())
    asked = data.replace("FEEDBACK", str(folder)).replace("rows.jsonl", str(rows))
    assert run(shlex.split(asked.replace("INDEX", index))[1:]) == 0
    assert "1 rows (" in capsys.readouterr().out
    (row,) = load_rows(str(rows))
    assert (row.query, row.targets, row.english) == ("大象", ("1F418",), "elephant")

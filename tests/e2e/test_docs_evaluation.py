"""Every command of docs/evaluation.md is run here, on one or two queries of each language."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from models.common.paths import ADAPTER
from models.search.gate import GATE_JSON, Gate
from models.search.mixture import MIXTURE_JSON
from tests.e2e.test_docs import README, shell_lines
from tests.support.grape_server import GRAPE
from training.evaluation.results import ALL, Results
from training.evaluation.systems import SYSTEMS

PAGE = (Path(__file__).parent.parent.parent / "docs" / "evaluation.md").read_text()


def run(line: str, folder: Path, limit: int = 1, **more: str) -> str:
    command = shlex.split(line.replace(".venv/bin/grape", str(GRAPE)))
    environment = {**os.environ, "GRAPE_LIMIT": str(limit), "GRAPE_N": "2", **more}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow  # five minutes; what `make test` runs of `grape eval` is test_languages.py
def test_the_commands_of_the_page(tmp_path: Path) -> None:
    """Every system, with the real model."""
    settings = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert settings
    (tmp_path / "eval.yaml").write_text(settings[1])
    shutil.copytree(ADAPTER, tmp_path / "my-adapter")
    (tmp_path / "my-adapter" / GATE_JSON).unlink()
    (tmp_path / "my-adapter" / MIXTURE_JSON).unlink()
    list_systems, compare, fit_gate, fit_mixture = shell_lines(PAGE)
    listed = run(list_systems, tmp_path)
    compared = run(compare, tmp_path, GRAPE_LANGUAGES='["de", "en"]')
    assert "mean log probability" in run(fit_mixture, tmp_path, limit=2)
    assert "split validation" in (tmp_path / "my-adapter" / MIXTURE_JSON).read_text()
    # Of the same queries, so that every rewrite is known already and no engine starts.
    assert "skips the language model" in run(fit_gate, tmp_path, limit=2)
    assert "split validation" in Gate.for_adapter(tmp_path / "my-adapter").fitted_on
    for name in SYSTEMS:
        assert re.search(rf"^{re.escape(name)} ", listed, re.MULTILINE)
    assert "minus frozen" in compared
    assert (tmp_path / "report" / "report.html").stat().st_size > 100_000
    results = Results.model_validate_json((tmp_path / "report" / "results.json").read_bytes())
    found = {system.name: system for system in results.systems}
    recall = {name: system.metrics[ALL]["R@10"].value for name, system in found.items()}
    assert recall["direct"] < recall["tuned"] < recall["oracle"]
    assert len({found[name].texts[0] for name in ("direct", "tuned", "oracle")}) > 1
    # Rewrites of the same model by different prompts are not mixed up.
    assert found["hyde"].texts != found["frozen"].texts != found["zero-shot"].texts
    assert found["direct"].cost.llm_seconds == 0 < found["tuned"].cost.llm_seconds
    assert found["auto"].cost.written_tokens < found["always"].cost.written_tokens
    assert found["tuned"].cost.written_tokens < found["always"].cost.written_tokens
    assert found["frozen"].cost.prompt_tokens > 10 * found["tuned"].cost.prompt_tokens
    assert any(note.startswith("The gate: ") for note in results.notes)
    assert found["tuned-rrf"].cost.searches > 1.5
    for english in range(len(results.queries)):
        if results.queries[english].gate == "kept":
            assert found["auto"].ranks[english] == found["direct"].ranks[english]
            query = results.queries[english].query
            assert query in found["always"].texts[english]


def test_the_readme_shows_a_command_of_the_page() -> None:
    shown = [line for line in shell_lines(README) if "grape eval" in line]
    assert shown
    assert set(shown) <= set(shell_lines(PAGE))

"""The arithmetic of docs/scale.md, and that the page has what it gives."""

import re
from pathlib import Path

import pytest

from benchmarks.pages import DOCS, PERFORMANCE
from benchmarks.scale import PICTURES, QUERIES_A_SECOND, Measured, measured, need, sources, table

FIGURES = Measured(searches=500.0, rewrites=50.0, index_ms=0.2, encoded=100.0)


def test_each_part_scales_with_what_it_depends_on() -> None:
    small, large = need(10**6, 1_000, FIGURES), need(10**8, 1_000, FIGURES)
    assert small.memory_gb == pytest.approx(1e6 * (512 * 2 + 500) / 1e9)
    assert large.memory_gb == pytest.approx(100 * small.memory_gb)
    assert (small.data_nodes, large.data_nodes) == (1, 3)  # 152.4 GB, 64 a node
    assert (small.search_cores, large.search_cores) == (1, 2)  # 0.2 s, 10 times that
    assert small.serve_processes == large.serve_processes == 2  # 1000 / 500
    assert small.rewriter_machines == large.rewriter_machines == 10  # half of 1000 / 50
    assert small.index_days == pytest.approx(1e6 / 100 / 86_400)
    assert need(10**9, 10, FIGURES).search_cores == 1


def test_a_figure_that_is_missing_is_said(tmp_path: Path) -> None:
    figures = FIGURES._replace(encoded=None)
    assert need(10**6, 10, figures).index_days is None
    assert table(figures).count("not measured") == len(PICTURES) * len(QUERIES_A_SECOND)
    assert "not measured yet" in sources(figures)
    with pytest.raises(AssertionError, match="has no row"):
        measured("nothing")


def test_the_page_has_the_table_of_today() -> None:
    written = re.search(
        r"<!-- scale -->\n(.*?)\n<!-- /scale -->", (DOCS / "scale.md").read_text(), re.DOTALL
    )
    assert written
    figures = measured(PERFORMANCE.read_text())
    assert written[1] == f"{sources(figures)}\n\n{table(figures)}"

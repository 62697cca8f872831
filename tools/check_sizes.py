"""Fails if a file or a function is too long to read in one go; part of `make lint`."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PRODUCT = ("models", "service", "training")
ELSEWHERE = ("benchmarks", "tests", "tools")
FILE_LINES = 300
FILE_LINES_ELSEWHERE = 320
FUNCTION_LINES = 60  # in PRODUCT, decorators not counted


def main() -> None:
    found = [*too_long(PRODUCT, FILE_LINES), *too_long(ELSEWHERE, FILE_LINES_ELSEWHERE)]
    found += [fault for path in sources(PRODUCT) for fault in long_functions(path)]
    for fault in found:
        print(fault)
    sys.exit(bool(found))


def sources(folders: tuple[str, ...]) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def too_long(folders: tuple[str, ...], limit: int) -> Iterator[str]:
    for path in sources(folders):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > limit:
            yield f"{path.relative_to(ROOT)}: {lines} lines, at most {limit}"


def long_functions(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES:
                place = f"{path.relative_to(ROOT)}:{node.lineno}"
                yield f"{place}: {node.name} has {lines} lines, at most {FUNCTION_LINES}"


if __name__ == "__main__":
    main()

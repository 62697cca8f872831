"""GRAPE beside other programs that do a part of the same: ratios, taken in turns on one machine.

    python -m benchmarks.peers [--only infinity clip-retrieval ...] [--rounds 2] [--write]

Each peer has an environment of its own with pinned versions, made on the first run. Nothing else is
fetched, and no peer reports that it was used. All get the same encoder with random weights, each in
its own format, and their vectors are compared with GRAPE's before anything is timed. A server is
asked while all others wait. ``--write`` puts the rows into docs/performance.md; those of peers that
were not run stay as they are.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from benchmarks.pages import PERFORMANCE, write_between
from benchmarks.peers import clip_retrieval, indexing, infinity, plain, rclip, searching, vllm_serve
from benchmarks.peers.environments import PeerError
from benchmarks.peers.indexing import Builder
from benchmarks.peers.programs import Asked
from benchmarks.peers.shared import Shared

SEARCHES: dict[str, Callable[[Shared], AbstractContextManager[Asked]]] = {
    "plain": plain.served,
    "infinity": infinity.served,
    "clip-retrieval": clip_retrieval.served,
}
BUILDS: dict[str, Callable[[Shared], Builder]] = {
    "clip-retrieval": clip_retrieval.Inference,
    "rclip": rclip.Rclip,
}
REWRITES = "vllm"
PEERS = [*dict.fromkeys([*SEARCHES, *BUILDS]), REWRITES]
# By table and peer, so that one peer can be measured again without the others.
KEPT = Path(__file__).with_name("measured.json")
Rows = dict[str, dict[str, list[str]]]
HEADS = {"search": searching.HEAD, "index build": indexing.HEAD}


def measured(given: argparse.Namespace, folder: Path) -> Iterator[tuple[str, str, Iterator[str]]]:
    """Table, peer and rows, of the peers that are asked for."""
    if set(given.only) - {REWRITES}:
        shared = Shared(folder)
        with searching.grape(shared) as ours:
            for name in [name for name in SEARCHES if name in given.only]:
                with SEARCHES[name](shared) as theirs:
                    rows = searching.rows(shared, ours, theirs, given.rounds, given.queries)
                    yield "search", name, rows
        for name in [name for name in BUILDS if name in given.only]:
            builder = BUILDS[name](shared)
            yield "index build", name, indexing.rows(shared, builder, given.rounds, given.pictures)
    if REWRITES in given.only:
        yield "search", REWRITES, vllm_serve.rows(folder, given.rounds)


def page(kept: Rows) -> str:
    """The tables with all rows that have been measured."""
    tables = []
    for table, head in HEADS.items():
        lines = [line for name in PEERS for line in kept.get(table, {}).get(name, [])]
        tables += ["\n".join([*head, *lines])] if lines else []
    return "\n\n".join(tables)


def main() -> int:
    assert __doc__
    parser = argparse.ArgumentParser(prog="peers", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PEERS, default=PEERS)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--queries", type=int, default=searching.QUERIES)
    parser.add_argument("--pictures", type=int, default=indexing.PICTURES)
    parser.add_argument("--write", action="store_true", help="write it to docs/performance.md")
    given = parser.parse_args()
    kept: Rows = json.loads(KEPT.read_text()) if KEPT.is_file() else {}
    with tempfile.TemporaryDirectory() as temporary:
        try:
            for table, name, rows in measured(given, Path(temporary)):
                lines = kept.setdefault(table, {})[name] = []
                for row in rows:
                    print(row, flush=True)
                    lines.append(row)
                if given.write:
                    KEPT.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n")
                    write_between(PERFORMANCE, "peers", page(kept))
        except PeerError as error:
            print(error, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

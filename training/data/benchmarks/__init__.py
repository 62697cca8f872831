"""The benchmarks of the paper and others, read from their official files.

Only XM3600 can be read from the hub, if no folder is given. For the others we found no maintained
copy of the same split, and most require you to agree to their terms first. The docstring of each
loader names its sources. The paper's numbers in them come from a public listing, because we could
not read the whole paper.
"""

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path

from models.common.errors import InputError
from training.data.benchmarks import cirr, cvlue, flickr30k_cn, wikipedia, xm3600
from training.data.benchmarks.benchmark import Benchmark

LOADERS: dict[str, Callable[[Path, bool], Benchmark]] = {
    "flickr30k-cn": flickr30k_cn.load,
    "cvlue": cvlue.load,
    "xm3600": xm3600.load,
    "wikipedia": wikipedia.load,
    "cirr": cirr.load,
}

# Read by name through `datasets`, given a folder for the pictures, and languages.
HUB_COPIES: dict[str, Callable[[Path, Sequence[str]], Benchmark]] = {"xm3600": xm3600.load_hub}

__all__ = ["HUB_COPIES", "LOADERS", "Benchmark", "load"]


def load(name: str, folder: Path, check_counts: bool = True) -> Benchmark:
    """Reads a benchmark from the folder of its official files.

    Args:
        name: a key of ``LOADERS``; case does not matter.
        check_counts: whether an incomplete split is refused.

    Raises:
        InputError: unknown benchmark, a missing or broken file, or wrong counts.
    """
    key = name.casefold()
    if key not in LOADERS:
        close = get_close_matches(key, LOADERS, cutoff=0.5)
        raise InputError(
            f"There is no benchmark {name!r}; "
            + (f"did you mean {' or '.join(close)}?" if close else f"there are {_all_names()}.")
        )
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: name the folder that holds {key}.")
    return LOADERS[key](folder, check_counts)


def _all_names() -> str:
    return ", ".join(LOADERS)

"""The benchmarks of the paper and of others, read from their official files.

From the hub only XM3600 is read, where no folder is named: of the others no copy of the same split
was found that somebody keeps, and most ask for their terms to be agreed to first. Each loader's
docstring says where its facts come from. The paper's numbers in them are those of a public listing;
its own text could not be read whole.
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

# Read by name through `datasets`: a folder that keeps the pictures, and languages.
HUB_COPIES: dict[str, Callable[[Path, Sequence[str]], Benchmark]] = {"xm3600": xm3600.load_hub}

__all__ = ["HUB_COPIES", "LOADERS", "Benchmark", "load"]


def load(name: str, folder: Path, check_counts: bool = True) -> Benchmark:
    """Reads a benchmark from the folder of its official files.

    Args:
        name: a key of ``LOADERS``; capitals do not matter.
        check_counts: whether a split that is not whole is refused.

    Raises:
        InputError: no such benchmark, a file that is missing or broken, or wrong counts.
    """
    key = name.casefold()
    if key not in LOADERS:
        close = get_close_matches(key, LOADERS, cutoff=0.5)
        raise InputError(
            f"There is no benchmark {name!r}; "
            + (f"did you mean {' or '.join(close)}?" if close else f"there are {_all_names()}.")
        )
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: name the one that holds {key}.")
    return LOADERS[key](folder, check_counts)


def _all_names() -> str:
    return ", ".join(LOADERS)

"""The benchmarks of the paper and others, read from their official files.

Only XM3600 can be read from the hub, if no folder is given. For the others we found no maintained
copy of the same split, and most require you to agree to their terms first. The docstring of each
loader names its sources. The paper's numbers in them come from a public listing, because we could
not read the whole paper.
"""

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path

from models.common.errors import InputError
from training.data.benchmarks import (
    bright,
    cirr,
    cvlue,
    flickr30k_cn,
    r2med,
    wikipedia,
    xm3600,
)
from training.data.benchmarks.benchmark import Benchmark

LOADERS: dict[str, Callable[[Path, bool], Benchmark]] = {
    "flickr30k-cn": flickr30k_cn.load,
    "cvlue": cvlue.load,
    "xm3600": xm3600.load,
    "wikipedia": wikipedia.load,
    "cirr": cirr.load,
}

# Corpora of texts. Each domain of BRIGHT and each data set of R2MED is ranked on its own.
TEXT_LOADERS: dict[str, Callable[[Path, bool], Benchmark]] = {
    **{f"bright-{name.replace('_', '-')}": partial(bright.load, name) for name in bright.COUNTS},
    **{f"r2med-{name.casefold()}": partial(r2med.load, name) for name in r2med.COUNTS},
}

# Read by name through `datasets`, given a folder for the pictures, and languages.
HUB_COPIES: dict[str, Callable[[Path, Sequence[str]], Benchmark]] = {"xm3600": xm3600.load_hub}

__all__ = ["HUB_COPIES", "LOADERS", "TEXT_LOADERS", "Benchmark", "load"]


def load(name: str, folder: Path, check_counts: bool = True) -> Benchmark:
    """Reads a benchmark from the folder of its official files.

    Args:
        name: a key of ``LOADERS`` or ``TEXT_LOADERS``; case does not matter.
        check_counts: whether an incomplete split is refused.

    Raises:
        InputError: unknown benchmark, a missing or broken file, or wrong counts.
    """
    key, loaders = name.casefold(), LOADERS | TEXT_LOADERS
    if key not in loaders:
        close = get_close_matches(key, loaders, cutoff=0.5)
        names = ", ".join(loaders)
        hint = f"did you mean {' or '.join(close)}?" if close else f"there are {names}."
        raise InputError(f"There is no benchmark {name!r}; {hint}")
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: name the folder that holds {key}.")
    return loaders[key](folder, check_counts)

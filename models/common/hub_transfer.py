"""Large files of the hub, which are continued where an earlier process left off.

The hub's library begins each file anew in another process, so that a download of gigabytes that was
killed near its end would start from nothing. What is written here is what the library looks for.
"""

import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

LARGE = 8 * 2**20  # bytes; the library fetches smaller files
_SHA256 = len(hashlib.sha256().hexdigest())


def continue_file(name: str, file: Any, blobs: Path, bar: Any) -> None:
    """Downloads one file into the hub's cache, or what is missing of it.

    Two processes may do this at once: the second waits for the first.

    Args:
        name: of the repository.
        file: the library's ``DryRunFileInfo``.
        blobs: folder of the repository's files by checksum.
        bar: class of the progress bar.

    Raises:
        OSError: the hub refuses, or the disk is full.
        DamagedFile: the checksum is another one; the file is deleted.
    """
    from filelock import FileLock
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils._headers import build_hf_headers

    url = hf_hub_url(name, file.filename, revision=file.commit_hash)
    told = get_hf_file_metadata(url)
    if told.etag is None or len(told.etag) != _SHA256:
        return  # the library fetches it
    blobs.mkdir(parents=True, exist_ok=True)
    blob, partial = blobs / told.etag, blobs / f"{told.etag}.continued.incomplete"
    with FileLock(f"{partial}.lock"):
        if blob.exists():
            return
        with open(partial, "ab") as out:
            # A token is for the hub, and for no other host that keeps its files.
            same_host = urlsplit(told.location).netloc == urlsplit(url).netloc
            http_get(
                told.location,
                out,
                resume_size=out.tell(),
                headers=build_hf_headers() if same_host else {},
                expected_size=told.size,
                displayed_filename=file.filename,
                tqdm_class=bar,
            )
        if checksum(partial, told.etag) != told.etag:
            partial.unlink()
            raise DamagedFile(file.filename)
        partial.rename(blob)


class DamagedFile(Exception):
    """The content of a file is not what its checksum says."""


def checksum(path: Path, expected: str) -> str:
    """The checksum of a file, of the kind of the expected one: sha256, or git's."""
    with open(path, "rb") as file:
        if len(expected) == _SHA256:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size)
        while chunk := file.read(2**20):
            digest.update(chunk)
        return digest.hexdigest()

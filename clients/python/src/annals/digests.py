"""SHA-256 of artifacts and data: what a version and a dataset *are*."""

from __future__ import annotations

import hashlib
import os
from typing import TypeAlias

Source: TypeAlias = str | os.PathLike[str] | bytes
"""What is digested: a file by its path, or the bytes themselves."""
_CHUNK_BYTES = 1 << 20


def digest(source: Source) -> str:
    """`sha256:` and 64 hex digits, of a file by its path (read in pieces) or of bytes in memory.

    Raises `OSError` if the file cannot be read; a folder has no digest of its own: pack it first.
    """
    sha = hashlib.sha256()
    if isinstance(source, bytes):
        sha.update(source)
    else:
        with open(source, "rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                sha.update(chunk)
    return f"sha256:{sha.hexdigest()}"

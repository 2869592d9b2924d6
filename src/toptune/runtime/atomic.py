"""Atomic writing: readers see the old file or the whole new one."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from toptune.errors import StorageError


def write_atomically(
    path: str | os.PathLike[str], content: bytes, *, durable: bool = False
) -> None:
    """Write a file through a temporary one beside it, with the permissions of any new file.

    Parameters
    ----------
    path
        File to write; one that exists is replaced.
    content
        All of it.
    durable
        Whether to wait until it is on the disk, so that it survives a power failure.

    Raises
    ------
    StorageError
        If the folder is missing or cannot be written, or the disk is full.
    """
    target = Path(path)
    temporary = target.with_name(f"{target.name}{secrets.token_hex(8)}.part")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        raise StorageError(f"cannot write {target}: {error.strerror}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()

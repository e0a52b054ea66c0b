"""Files that are not on this machine, as pyarrow reaches them: s3://, gs://, hdfs:// and others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import IO, Any, cast

from crb_dspy.errors import UserError, one_line


def filesystem(uri: str) -> tuple[Any, str]:
    """Return the file system of an address, and the path there; UserError if it has none."""
    try:
        from pyarrow import fs
    except ImportError as error:
        raise UserError(f"{uri}: pip install pyarrow, which reads it") from error
    try:
        found: tuple[Any, str] = fs.FileSystem.from_uri(uri)
    except (OSError, ValueError) as error:
        raise UserError(f"{uri}: {one_line(error)}") from error
    return found


def below(uri: str) -> Iterator[tuple[str, str, str]]:
    """Yield address, path and name of a file, or of each file of a folder, sorted by path.

    Hidden files are passed over. UserError for what is not there.
    """
    from pyarrow import fs

    system, root = filesystem(uri)
    scheme = uri.partition("://")[0]
    try:
        found = system.get_file_info(root)
        if found.type == fs.FileType.Directory:
            listed = system.get_file_info(fs.FileSelector(root, recursive=True))
        elif found.type == fs.FileType.File:
            listed = [found]
        else:
            raise UserError(f"{uri}: no such file or folder of reports")
    except OSError as error:
        raise UserError(f"{uri}: cannot be read: {one_line(error)}") from error
    for info in sorted(listed, key=lambda info: info.path):
        path = PurePosixPath(info.path)
        inner = PurePosixPath(path.name) if path == PurePosixPath(root) else path.relative_to(root)
        hidden = any(part.startswith(".") for part in inner.parts)
        if info.type == fs.FileType.File and not hidden:
            yield f"{scheme}://{info.path}", info.path, inner.with_suffix("").as_posix()


def opened(uri: str) -> IO[bytes]:
    """Open a file to be read from any byte on; OSError where that fails."""
    from io import BufferedReader

    system, path = filesystem(uri)
    return cast(IO[bytes], BufferedReader(system.open_input_file(path)))

"""A folder of findings in Parquet: files of a few reports, each written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crb_dspy.data.readers.remote import filesystem
from crb_dspy.errors import RunError, UserError, one_line
from crb_dspy.files import as_json, legible

Line = dict[str, Any]
MANIFEST = "manifest.json"
# Where a file keeps the counts of its reports.
COUNTS = b"crb_dspy"


@dataclass(frozen=True)
class Partitions:
    """A folder, here or where pyarrow reaches, and the categories that every row answers for."""

    folder: str
    keys: tuple[str, ...]

    def path(self, number: int) -> str:
        """Return the name of a file."""
        return f"part-{number:07d}.parquet"

    def write(self, number: int, rows: Sequence[Line], counts: Mapping[str, int]) -> None:
        """Put a file in its place at once, with its rows in order; RunError if that fails."""
        import pyarrow as pa
        from pyarrow import parquet

        table = pa.Table.from_pylist([_flat(row) for row in rows], schema=_schema())
        table = table.replace_schema_metadata({COUNTS: as_json(dict(counts)).encode()})
        system, folder = self._place()
        draft, final = f"{folder}/.{self.path(number)}", f"{folder}/{self.path(number)}"
        try:
            parquet.write_table(table, draft, filesystem=system, compression="zstd")
            system.move(draft, final)
        except OSError as error:
            raise RunError(f"{self.folder}: {one_line(error)}; the same command goes on") from error

    def counts(self, number: int) -> dict[str, int] | None:
        """Return what is in a file, None if it is not there or not whole."""
        import pyarrow as pa
        from pyarrow import parquet

        system, folder = self._place()
        try:
            metadata = parquet.read_schema(
                f"{folder}/{self.path(number)}", filesystem=system
            ).metadata
            found: dict[str, int] = json.loads(metadata[COUNTS])
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
            return None
        return found

    def rows(self, number: int) -> list[Line]:
        """Return the rows of a file as `extract` writes them into JSONL."""
        from pyarrow import parquet

        system, folder = self._place()
        table = parquet.read_table(f"{folder}/{self.path(number)}", filesystem=system)
        return [_row(flat, self.keys) for flat in table.to_pylist()]

    def errors(self, numbers: Iterable[int]) -> Iterator[str]:
        """Yield why cells failed, of the files with these numbers."""
        from pyarrow import parquet

        system, folder = self._place()
        for number in numbers:
            path = f"{folder}/{self.path(number)}"
            column = parquet.read_table(path, columns=["errors"], filesystem=system)["errors"]
            yield from (error["said"] for row in column.to_pylist() for error in row)

    def numbers(self) -> list[int]:
        """Return the numbers of the files that are there, in order."""
        from pyarrow import fs

        system, folder = self._place()
        found = system.get_file_info(fs.FileSelector(folder, allow_not_found=True))
        names = (info.base_name for info in found)
        whole = (name for name in names if name.startswith("part-") and name.endswith(".parquet"))
        return sorted(int(name[len("part-") : -len(".parquet")]) for name in whole)

    def all_rows(self) -> Iterator[Line]:
        """Yield the rows of all files, in the order of the reports."""
        for number in self.numbers():
            yield from self.rows(number)

    def manifest(self) -> dict[str, Any]:
        """Return what the folder holds, {} if nothing was ever begun in it."""
        system, folder = self._place()
        try:
            with system.open_input_stream(f"{folder}/{MANIFEST}") as file:
                found: dict[str, Any] = json.loads(file.read())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise UserError(
                f"{self.folder}/{MANIFEST}: cannot be read: {one_line(error)}"
            ) from error
        return found

    def note(self, manifest: Mapping[str, Any]) -> None:
        """Put a manifest in the place of the one before; UserError if that fails."""
        system, folder = self._place()
        try:
            system.create_dir(folder, recursive=True)
            with system.open_output_stream(f"{folder}/.{MANIFEST}") as file:
                file.write(f"{as_json(manifest, indent=1)}\n".encode())
            system.move(f"{folder}/.{MANIFEST}", f"{folder}/{MANIFEST}")
        except OSError as error:
            raise UserError(f"{self.folder}: cannot be written: {one_line(error)}") from error

    def _place(self) -> tuple[Any, str]:
        from pyarrow import fs

        if "://" in self.folder:
            return filesystem(self.folder)
        return fs.LocalFileSystem(), str(Path(self.folder).resolve())


def _schema() -> Any:
    import pyarrow as pa

    spans = pa.list_(pa.list_(pa.int64()))
    quote = {
        "category": pa.string(),
        "quote": pa.string(),
        "status": pa.string(),
        "start": pa.int64(),
        "end": pa.int64(),
        "section": pa.string(),
        "section_start": pa.int64(),
        "also": spans,
    }
    said = pa.list_(pa.struct({"category": pa.string(), "said": pa.string()}))
    section = pa.struct({"heading": pa.string(), "text": pa.string()})
    return pa.schema(
        {
            "id": pa.string(),
            "source": pa.string(),
            "sections": pa.list_(section),
            "findings": pa.list_(pa.struct(quote)),
            "errors": said,
            "mended": said,
        }
    )


def _flat(row: Mapping[str, Any]) -> Line:
    """Return a row as a table keeps it: lists of records in place of objects by category."""
    return {
        "id": legible(row["id"]),
        "source": legible(row["source"]),
        "sections": [
            {"heading": legible(heading), "text": legible(text)}
            for heading, text in row["sections"].items()
        ],
        "findings": [
            {**found, "category": key, "quote": legible(found["quote"])}
            for key, quotes in row["findings"].items()
            for found in quotes
        ],
        **{name: _said(row[name]) for name in ("errors", "mended")},
    }


def _said(texts: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"category": key, "said": legible(text)} for key, text in texts.items()]


def _row(flat: Mapping[str, Any], keys: Sequence[str]) -> Line:
    findings: dict[str, list[Any]] = {key: [] for key in keys}
    for found in flat["findings"]:
        findings[found["category"]].append({k: v for k, v in found.items() if k != "category"})
    return {
        "id": flat["id"],
        "source": flat["source"],
        "sections": {its["heading"]: its["text"] for its in flat["sections"]},
        "findings": findings,
        **{n: {its["category"]: its["said"] for its in flat[n]} for n in ("errors", "mended")},
    }

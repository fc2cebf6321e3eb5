"""Reads the rows of a list of clips: CSV, JSON Lines or Parquet.

Lists come from spreadsheets and scripts. A CSV file may have commas, semicolons or tabs between its values, as its
header has; a text may be UTF-8 or UTF-16 with a byte order mark, with the line ends of any system. Bytes that are not
UTF-8 are kept as Python's file names keep them, so that they find files of the same bytes. A row that cannot be read
costs no other row.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from preparation.layouts.listing import LayoutError
from runtime.json_text import parse_json

FORMATS = (".csv", ".jsonl", ".parquet")
DELIMITERS = ",;\t"
MOST_LINES = 20  # of one row of a CSV file, whose quoted values may have line breaks
_UNFINISHED = "unexpected end of data"  # Python's csv, for a quotation mark that is not closed

Row = dict[str, Any]


class RowError(Exception):
    """What is wrong with a row."""


def read_rows(path: Path, columns: Sequence[str]) -> tuple[list[Row | RowError], list[str]]:
    """Reads all rows of a list.

    Args:
        path: File whose name ends in one of ``FORMATS``.
        columns: Names of the columns to read. Capitals and blanks in the names of the file do not matter.

    Returns:
        For each row its values that are not empty, or what is wrong with it; and the names of other columns.

    Raises:
        LayoutError: If the file cannot be read, has no row, or no row has the first of ``columns``.
    """
    if path.suffix.lower() not in FORMATS:
        raise LayoutError(f"dataset.list_file={path}: expected a file that ends in {', '.join(FORMATS)}")
    names: dict[str, None] = {}
    try:
        found = {".csv": _csv, ".jsonl": _json_lines, ".parquet": _parquet}[path.suffix.lower()](path, columns)
        rows = [row if isinstance(row, RowError) else _known(row, columns, names) for row in found]
    except (OSError, ValueError, pa.ArrowException) as error:
        raise LayoutError(f"dataset.list_file={path}: cannot be read ({error}); check the file") from error
    if not any(isinstance(row, dict) and columns[0] in row for row in rows):
        wrong = next((str(row) for row in rows if isinstance(row, RowError)), "no rows")
        raise LayoutError(
            f"dataset.list_file={path}: has no column {columns[0]} (found {', '.join(names) or wrong}); add the "
            "videos' paths"
        )
    return rows, [name for name in names if _plain(name) not in columns]


def _plain(name: str) -> str:
    return name.strip().lower()


def _known(row: Row, columns: Sequence[str], names: dict[str, None]) -> Row:
    """Values of the columns that are read; notes the names of all."""
    names.update(dict.fromkeys(row))
    known: Row = {}
    for name, value in row.items():
        plain = _plain(name)
        value = value.strip() if isinstance(value, str) else value
        missing = value is None or value == "" or value != value  # NaN, in tables that have no null
        if plain in columns and not missing:
            known[plain] = value
    return known


def _lines(path: Path) -> list[str]:
    data = path.read_bytes()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = data.decode("utf-16")
    else:
        text = data.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _csv(path: Path, columns: Sequence[str]) -> Iterator[Row | RowError]:
    del columns
    lines, place = _lines(path), 0
    while place < len(lines) and not lines[place].strip():
        place += 1
    delimiter = max(DELIMITERS, key="".join(lines[place : place + 1]).count)
    header: list[str] | None = None
    while place < len(lines):
        values, used = _record(lines[place : place + MOST_LINES], delimiter)
        place += used
        if isinstance(values, RowError):
            yield values
        elif not any(value.strip() for value in values):
            continue
        elif header is None:
            header = values
        elif len(values) != len(header):
            yield RowError(f"has {len(values)} values, expected {len(header)}, one for each column")
        else:
            yield dict(zip(header, values, strict=True))


def _record(lines: Sequence[str], delimiter: str) -> tuple[list[str] | RowError, int]:
    """Values of the row that starts with the first line, or what is wrong with it, and its number of lines."""
    wrong = ""
    for used in range(1, len(lines) + 1):
        text = "\n".join(lines[:used])
        try:
            return next(csv.reader([text], delimiter=delimiter, skipinitialspace=True, strict=True), []), used
        except csv.Error as error:
            unfinished = str(error) == _UNFINISHED
            wrong = wrong or ("a quotation mark that is not closed" if unfinished else str(error))
            if not unfinished:
                break
    return RowError(f"cannot be read: {wrong}"), 1


def _json_lines(path: Path, columns: Sequence[str]) -> Iterator[Row | RowError]:
    del columns
    for line in _lines(path):
        if line.strip():
            try:
                row = parse_json(line)
            except ValueError as error:
                yield RowError(f"is not JSON: {error}")
                continue
            yield row if isinstance(row, dict) else RowError("is no JSON object")


def _parquet(path: Path, columns: Sequence[str]) -> Iterator[Row | RowError]:
    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        wanted = [name for name in names if _plain(name) in columns]
        empty = dict.fromkeys(name for name in names if name not in wanted)  # which may hold gigabytes of sound
        for batch in file.iter_batches(columns=wanted):
            yield from (empty | row for row in batch.to_pylist())

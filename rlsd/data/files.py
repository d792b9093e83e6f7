"""Rows of a .jsonl, .json or .parquet file.

JSONL is read a line at a time and Parquet a batch at a time, so memory does not grow with the file;
JSON is read whole.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from rlsd.data.rows import LocatedRow, Rejection, Rows
from rlsd.errors import ConfigError

MAX_LINE_BYTES = 16 * 2**20
"""A longer line is rejected unread: no prompt has it, a binary file named .jsonl does."""
BATCH_ROWS = 256
"""Parquet rows held at once."""
SUFFIXES = (".jsonl", ".json", ".parquet")


def file_rows(path: Path) -> Rows:
    """The rows of one file, by its suffix.

    A line of a .jsonl file that cannot be decoded is yielded as a rejection.

    Raises:
        ConfigError: another suffix. While rows are drawn: the file is missing or unreadable, a
            .json file is not an array, or a Parquet file comes without pyarrow.
    """
    match path.suffix.lower():
        case ".jsonl":
            return _jsonl_rows(path)
        case ".json":
            return _json_rows(path)
        case ".parquet":
            return _parquet_rows(path)
    raise ConfigError(
        f"data {path}: unknown kind of source; give a {', '.join(SUFFIXES)} file, "
        "reasoning_gym:TASK?size=N or datasets:NAME?split=S"
    )


def _jsonl_rows(path: Path) -> Rows:
    with _readable(path), path.open("rb") as file:
        for line, raw in enumerate(_lines(file), start=1):
            if raw is None:
                reason = f"longer than {MAX_LINE_BYTES} bytes; write one JSON object a line"
                yield Rejection(file=str(path), line=line, reason=reason)
                continue
            raw = raw.strip().removeprefix(codecs.BOM_UTF8).removesuffix(codecs.BOM_UTF8).strip()
            if raw:
                yield _decoded(path, line, raw)


def _lines(file: IO[bytes]) -> Iterator[bytes | None]:
    """Lines; None for one that is too long, of which at most the limit is held."""
    while raw := file.readline(MAX_LINE_BYTES + 1):
        if len(raw) <= MAX_LINE_BYTES:
            yield raw
            continue
        while raw and not raw.endswith(b"\n"):
            raw = file.readline(MAX_LINE_BYTES)
        yield None


def _decoded(path: Path, line: int, raw: bytes) -> LocatedRow | Rejection:
    try:
        return LocatedRow(file=str(path), line=line, values=json.loads(raw.decode("utf-8")))
    except UnicodeDecodeError as cause:
        reason = f"not UTF-8 (byte {raw[cause.start]:#04x}); save the file as UTF-8"
    except json.JSONDecodeError as cause:
        reason = f"not JSON ({cause.msg}, column {cause.colno}); write one JSON object a line"
    except (ValueError, RecursionError):  # a number of thousands of digits, thousands of brackets
        reason = "not usable JSON (a number too long or nested too deep); simplify it"
    return Rejection(file=str(path), line=line, reason=reason)


def _json_rows(path: Path) -> Rows:
    with _readable(path):
        text = path.read_bytes().decode("utf-8-sig")
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as cause:
            raise ConfigError(
                f"data {path}: not JSON ({cause}); a file with one object a line is named .jsonl"
            ) from cause
    if not isinstance(values, list):
        raise ConfigError(f"data {path}: not an array; write [record, ...] or use .jsonl")
    for line, item in enumerate(values, start=1):
        yield LocatedRow(file=str(path), line=line, values=item)


def _parquet_rows(path: Path) -> Rows:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as cause:
        raise ConfigError(
            f"data {path}: Parquet needs pyarrow; run pip install 'rlsd[data]'"
        ) from cause
    line = 0
    causes = (OSError, ValueError, pyarrow.ArrowException)
    with _readable(path, causes), parquet.ParquetFile(path) as table:
        for batch in table.iter_batches(batch_size=BATCH_ROWS):
            rows: list[dict[str, Any]] = batch.to_pylist()
            for values in rows:
                line += 1
                yield LocatedRow(file=str(path), line=line, values=values)


@contextmanager
def _readable(
    path: Path, causes: tuple[type[Exception], ...] = (OSError,)
) -> Generator[None, None, None]:
    """Turn what reading raises into one line with the remedy."""
    try:
        yield
    except FileNotFoundError as cause:
        raise ConfigError(f"data {path}: there is no such file; correct the path") from cause
    except UnicodeDecodeError as cause:
        raise ConfigError(f"data {path}: not UTF-8; save the file as UTF-8") from cause
    except causes as cause:
        what = " ".join(str(getattr(cause, "strerror", None) or cause).split())
        raise ConfigError(
            f"data {path}: cannot be read ({what}); give a readable {path.suffix} file"
        ) from cause

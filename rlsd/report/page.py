"""The page around the numbers: templates, number formats, token texts.

One rule: autoescape is always on; only markup that this package drew itself is exempt.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

TokenTexts = Callable[[Sequence[int]], list[str]]
"""Token ids → one piece of text each."""

_FOLDER = Path(__file__).parent


def render(template: str, **values: Any) -> str:
    """The page; a value that a template asks for and does not get is a programmer's error."""
    style = Markup((_FOLDER / "style.css").read_text(encoding="utf-8"))
    return _environment().get_template(template).render(style=style, **values)


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "count": count,
        "duration": duration,
        "points": points,
    }
    return environment


def write(path: Path, content: str | bytes) -> Path:
    """Write a file in one go: a reader sees the old report or the new one."""
    data = content.encode() if isinstance(content, str) else content
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_bytes(data)
    aside.replace(path)
    return path


def percent(share: float | None, digits: int = 0) -> str:
    """0.954 → "95 %"; a dash when there is no number."""
    return "–" if share is None else f"{share * 100:.{digits}f}\u00a0%"


def points(share: float | None, digits: int = 0) -> str:
    """A signed difference of shares in percentage points: 0.382 → "+38"."""
    if share is None:
        return "–"
    text = f"{share * 100:+.{digits}f}"
    return "0" if float(text) == 0 else text.replace("-", "−")


def count(value: int) -> str:
    """12345 → "12 345" with narrow spaces."""
    return f"{value:,}".replace(",", "\u202f")


def duration(seconds: float | None) -> str:
    """73.2 → "73 s"; longer times in minutes, then hours."""
    if seconds is None:
        return "–"
    if seconds < 120:
        return f"{seconds:.0f}\u00a0s" if seconds >= 10 else f"{seconds:.1f}\u00a0s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes}\u00a0min"
    return f"{minutes // 60}\u00a0h\u00a0{minutes % 60:02d}\u00a0min"


def tokenizer_texts(model: Path) -> TokenTexts | None:
    """Token texts by `tokenizer.json` in the model's folder; None without file or library."""
    file = model / "tokenizer.json"
    if not file.is_file():
        return None
    try:
        from tokenizers import Tokenizer
    except ImportError:
        return None
    tokenizer = Tokenizer.from_file(str(file))
    return lambda ids: [tokenizer.decode([int(i)], skip_special_tokens=False) for i in ids]


def id_texts(ids: Sequence[int]) -> list[str]:
    """Token ids as text, for a run whose tokenizer is not here."""
    return [f"{int(i)} " for i in ids]

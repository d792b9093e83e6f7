"""docs/images/top.svg: what `rlsd top` shows of a run that goes, over a minute.

python scripts/top_image.py runs/RUN
"""

from __future__ import annotations

import asyncio
import io
import re
import sys
from pathlib import Path

from rich.console import Console

from rlsd.cli.status_screen import screen
from rlsd.local.addresses import RunAddresses
from rlsd.watching.health import problems
from rlsd.watching.reading import take_reading
from rlsd.watching.view import View, make_view

_WIDTH = 120
_SPAN_S = 60.0
_REMOTE_FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
_IMAGE = Path("docs/images/top.svg")


async def _watched(folder: Path) -> View:
    known = RunAddresses.read(folder)
    if known is None:
        raise SystemExit(f"{folder}: nothing runs")
    before = await take_reading(known, folder)
    await asyncio.sleep(_SPAN_S)
    return make_view(await take_reading(known, folder), before)


def main() -> None:
    """Watch the run for a minute and draw it."""
    view = asyncio.run(_watched(Path(sys.argv[1])))
    console = Console(record=True, width=_WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(screen(view, problems(view), width=_WIDTH))
    svg = console.export_svg(title="rlsd top")
    _IMAGE.write_text(_REMOTE_FONTS.sub("", svg))  # whoever looks at it fetches nothing


if __name__ == "__main__":
    main()

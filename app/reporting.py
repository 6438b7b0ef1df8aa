"""What a person and what a script sees: results on stdout, progress and notes on stderr.

Text that came from documents, questions or file names is printed as data: control characters are
shown escaped and nothing in it is taken for markup.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from fti.store.progress import ProgressEvent

_PLAIN_EVERY_S = 5.0


def printable(text: str, *, lines: bool = False) -> str:
    """Text with control characters shown as escapes; with ``lines``, newlines and tabs stay."""
    keep = "\n\t" if lines else ""
    return "".join(
        c if c.isprintable() or c in keep else c.encode("unicode_escape").decode("ascii")
        for c in text
    )


def damaged_json(damaged: Mapping[str, str]) -> list[dict[str, str]]:
    """Versions that cannot be read, as lists print them for machines."""
    return [{"ref": ref, "reason": reason} for ref, reason in damaged.items()]


class Reporter:
    """Prints for one command.

    Args:
        json: whether stdout is to carry one JSON object instead of text.
    """

    def __init__(self, *, json: bool = False) -> None:
        self.json = json
        self.out = Console(markup=False, highlight=False, soft_wrap=True)
        self.err = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)

    def result(self, value: Mapping[str, Any]) -> None:
        """Print the command's one JSON object, when JSON was asked for."""
        if self.json:
            sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")
            sys.stdout.flush()

    def say(self, text: str = "", *, style: str | None = None) -> None:
        """A line of the result for people; silent under ``--json``."""
        if not self.json:
            self.out.print(Text(printable(text, lines=True), style=style or ""))

    def note(self, text: str, *, style: str | None = None) -> None:
        """A line beside the result, on stderr."""
        self.err.print(Text(printable(text, lines=True), style=style or "dim"))

    def tell_damaged(self, damaged: Mapping[str, str]) -> bool:
        """End a list that not everything could be in, with why; whether there is such."""
        for reason in damaged.values():
            self.note(reason, style="red")
        if damaged:
            self.note("See what is damaged, and what mends it, with: fti store verify")
        return bool(damaged)

    def table(
        self, columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = ""
    ) -> None:
        """A table for people; numbers to the right. Silent under ``--json``."""
        if self.json:
            return
        cells = [[str(cell) for cell in row] for row in rows]
        table = Table(title=title or None, title_justify="left", title_style="bold")
        for index, column in enumerate(columns):
            numeric = bool(cells) and all(_numeric(line[index]) for line in cells)
            # Wide tables may wrap anywhere but in the column that names the rows; nothing is cut.
            table.add_column(
                column,
                justify="right" if numeric else "left",
                no_wrap=index == 0 and len(columns) > 2,
                overflow="ellipsis" if index == 0 else "fold",
            )
        for line in cells:
            table.add_row(*(Text(printable(cell)) for cell in line))
        self.out.print(table)

    @contextmanager
    def progress(self) -> Iterator[ProgressView]:
        """A listener for progress events: bars on a terminal, a line now and then elsewhere."""
        view = ProgressView(self.err)
        try:
            yield view
        finally:
            view.close()


def _numeric(cell: str) -> bool:
    bare = cell.replace("%", "").replace(",", "").replace("±", " ").replace("–", " ").strip()
    return bool(bare) and all(
        part.lstrip("+-").replace(".", "", 1).isdigit() for part in bare.split()
    )


class ProgressView:
    """Shows progress events; callable as ``fti.store.progress.Progress``."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._tasks: dict[str, TaskID] = {}
        self._last: dict[str, float] = {}
        self._started: dict[str, float] = {}
        self._bars: Progress | None = None
        if console.is_terminal:
            self._bars = Progress(
                SpinnerColumn(),
                TextColumn("{task.description:<12}"),
                BarColumn(bar_width=28),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[detail]}", markup=False),
                console=console,
                refresh_per_second=8,
            )
            self._bars.start()

    def __call__(self, event: ProgressEvent) -> None:
        """Show one event."""
        detail = "  ".join(
            [*(_figure(name, value) for name, value in event.values.items()), event.detail]
        ).strip()
        if self._bars is not None:
            self._show_bar(event, printable(detail))
        else:
            self._show_line(event, printable(detail))

    def _show_bar(self, event: ProgressEvent, detail: str) -> None:
        assert self._bars is not None
        if event.stage not in self._tasks:
            self._tasks[event.stage] = self._bars.add_task(
                event.stage, total=event.total, detail=""
            )
        width = max(10, self._console.width - 84)
        self._bars.update(
            self._tasks[event.stage],
            completed=event.done,
            total=event.total,
            detail=detail[:width],
        )

    def _show_line(self, event: ProgressEvent, detail: str) -> None:
        at = time.monotonic()
        finished = event.total is not None and event.done >= event.total
        self._started.setdefault(event.stage, at)
        last = self._last.get(event.stage)
        if not finished and last is not None and at - last < _PLAIN_EVERY_S:
            return
        if finished and last is not None and last == float("inf"):
            return
        self._last[event.stage] = float("inf") if finished else at
        of = f"/{event.total}" if event.total is not None else ""
        seconds = at - self._started[event.stage]
        line = f"{event.stage} {event.done}{of} {seconds:.0f}s {detail}"
        self._console.print(Text(line.rstrip()))

    def close(self) -> None:
        """Leave the last state on the screen and give the terminal back."""
        if self._bars is not None:
            self._bars.stop()


def _figure(name: str, value: float) -> str:
    if name == "seconds_left":
        return f"{value:.0f}s left"
    return f"{name} {value:.3g}"

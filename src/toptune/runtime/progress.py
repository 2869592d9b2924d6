"""The progress bar: on standard error, and only where somebody looks at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)


@contextmanager
def progress_bar(
    description: str, total: int, *, enabled: bool | None = None
) -> Iterator[Callable[[int], None]]:
    """Show a progress bar while the block runs.

    Parameters
    ----------
    description
        What is being done, in a word or two.
    total
        Number of steps.
    enabled
        By default, whether standard error is a terminal or a notebook.

    Yields
    ------
    advance
        To be called with the number of steps just finished.
    """
    console = Console(stderr=True)
    if enabled is None:
        enabled = console.is_terminal or console.is_jupyter
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TaskProgressColumn(show_speed=False),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=console, disable=not enabled) as progress:
        task = progress.add_task(description, total=total)

        def advance(steps: int) -> None:
            progress.update(task, advance=steps)

        yield advance

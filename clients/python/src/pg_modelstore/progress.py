"""Progress of transfers: a bar by tqdm where it is installed, one line on stderr otherwise."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from typing import Any, TypeAlias, Union

Progress: TypeAlias = Union[bool, Callable[[str, int, int], None]]

# C0, DEL and C1, which move a terminal's cursor or worse; line separators; and what changes the direction of text.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class Silent:
    """Shows nothing."""

    def at(self, position: int) -> None:
        """Takes the number of bytes that are there."""

    def close(self) -> None:
        """Ends it."""


class _Callback(Silent):
    def __init__(self, call: Callable[[str, int, int], None], name: str, total: int) -> None:
        self._call, self._name, self._total = call, name, total

    def at(self, position: int) -> None:
        self._call(self._name, position, self._total)


class _Tqdm(Silent):
    def __init__(self, tqdm: Any, name: str, total: int) -> None:
        self._bar = tqdm(total=total, desc=printable(name), unit="B", unit_scale=True, unit_divisor=1000, leave=False)

    def at(self, position: int) -> None:
        self._bar.update(position - self._bar.n)

    def close(self) -> None:
        self._bar.close()


class _Line(Silent):
    def __init__(self, name: str, total: int) -> None:
        self._name, self._total, self._shown = printable(name), total, 0.0

    def at(self, position: int) -> None:
        now = time.monotonic()
        if now - self._shown > 0.2 and sys.stderr.isatty():
            self._shown = now
            print(
                f"\r{self._name}: {position / 1e6:.1f} of {self._total / 1e6:.1f} MB\x1b[K", end="", file=sys.stderr, flush=True
            )

    def close(self) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Text for a terminal: control characters as in JSON, "\\u001b". Names and errors come from others."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def show(progress: Progress, name: str, total: int) -> Silent:
    """What shows the transfer of one file. `progress`: whether to show a bar, or a function of name, bytes and total."""
    if callable(progress):
        return _Callback(progress, name, total)
    if not progress:
        return Silent()
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return _Line(name, total)
    return _Tqdm(tqdm, name, total)

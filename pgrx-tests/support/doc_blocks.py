"""The SQL blocks in the documentation, each with its expected output."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import textwrap

from harness import ROOT

PIECES = re.compile(
    r"^(?P<indent>[ \t]*)```(?P<info>[^\n`]*)\n(?P<code>.*?)^(?P=indent)```[ \t]*$|^<!--[ \t]+sql[ \t]*\n(?P<hidden>.*?)-->",
    re.MULTILINE | re.DOTALL,
)
ERROR = re.compile(r"^(psql: )?(ERROR|FATAL|PANIC|error):|^invalid command|^\\\w+: ", re.MULTILINE)


@dataclasses.dataclass
class Block:
    path: pathlib.Path
    line: int
    sql: str
    run: bool
    output: str | None = None

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"


def blocks_of(path: pathlib.Path) -> list[Block]:
    """The blocks of one file. An output belongs to the block before it."""
    text, blocks, previous = path.read_text(), [], None
    for match in PIECES.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        words = (match["info"] or "").split() if match["hidden"] is None else ["sql"]
        code = textwrap.dedent(match["code"] if match["hidden"] is None else match["hidden"])
        if words[:1] == ["sql"]:
            previous = Block(path, line, code, run="no-run" not in words)
            blocks.append(previous)
            continue
        if words[:1] == ["output"] and previous is not None:
            previous.output = code
        previous = None
    return blocks

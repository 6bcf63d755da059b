"""The blocks of code in the documentation, each with its expected output."""

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
ERROR = re.compile(r"^(psql: )?(ERROR|FATAL|PANIC|error):|^invalid command|^\\\w+: |row(s)? returned for \\gset", re.MULTILINE)


LANGUAGES = ("sql", "python", "sh")


@dataclasses.dataclass
class Block:
    path: pathlib.Path
    line: int
    sql: str
    run: bool
    output: str | None = None
    language: str = "sql"
    words: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"


def blocks_of(path: pathlib.Path, languages: tuple[str, ...] = ("sql",)) -> list[Block]:
    """The blocks of one file in these languages. An output belongs to the block before it."""
    text, blocks, previous = path.read_text(), [], None
    for match in PIECES.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        words = (match["info"] or "").split() if match["hidden"] is None else ["sql"]
        code = textwrap.dedent(match["code"] if match["hidden"] is None else match["hidden"])
        if words and words[0] in LANGUAGES:
            previous = Block(path, line, code, "no-run" not in words, language=words[0], words=tuple(words[1:]))
            if words[0] in languages:
                blocks.append(previous)
            continue
        if words[:1] == ["output"] and previous is not None:
            previous.output = code
        previous = None
    return blocks


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip("\n").splitlines()]


def matches(expected: list[str], actual: list[str]) -> bool:
    """Whether the output is what was expected, `…` standing for anything."""
    pattern = "".join(
        r"(?:[^\n]*\n)*" if line.strip() == "…" else ".*".join(map(re.escape, line.split("…"))) + r"\n" for line in expected
    )
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in actual)) is not None

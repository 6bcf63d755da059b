"""Statements on a store are such that Citus takes them on a distributed one. docs/decisions.md has the list and the reasons."""

from __future__ import annotations

import re

import pytest
from harness import ROOT

STRING = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
COMMENT = re.compile(r"--[^\n]*")

VOLATILE = r"\b(clock_timestamp|random|gen_random_uuid|statement_timestamp|nextval)\s*\("

RULES = {
    "a volatile function in an UPDATE": lambda s: s.startswith("UPDATE") and re.search(VOLATILE, s),
    "a volatile function in a DELETE": lambda s: s.startswith("DELETE") and re.search(VOLATILE, s),
    "a subquery in the VALUES of an INSERT": lambda s: re.search(r"INSERT INTO .*\bVALUES\b.*\(\s*SELECT\b", s),
    "a function in DO UPDATE SET": lambda s: re.search(r"DO UPDATE SET .*\b(now|current_user|clock_timestamp)\b", s),
    "an INSERT of a SELECT from tables of the store that is not read first, WITH … AS MATERIALIZED": lambda s: (
        re.match(r"INSERT INTO @store@\.\w+[^;]*?\bSELECT\b[^;]*?\b(FROM|JOIN) @(store|from)@", s) and not re.search(r"\b(max|count|unnest)\s*\(", s)
    ),
    "CYCLE": lambda s: re.search(r"\)\s*CYCLE\b", s),
    "columns of a WITH": lambda s: re.search(r"\bWITH (RECURSIVE )?\w+\s*\([^)]*\)\s+AS\b", s),
}


def statements() -> list[tuple[str, str]]:
    """Each text in the sources that has to do with tables of a store: the file and the text on one line."""
    found = []
    for path in sorted((ROOT / "src").rglob("*.rs")):
        for match in STRING.finditer(re.sub(r"^\s*//.*$", "", path.read_text(), flags=re.MULTILINE)):
            text = " ".join(COMMENT.sub("", match[1]).split())
            if "@store@" in text:
                found.append((str(path.relative_to(ROOT)), text))
    return found


@pytest.mark.parametrize("rule", RULES)
def test_no_statement_has(rule: str) -> None:
    assert [f"{path}: {text}" for path, text in statements() if RULES[rule](text)] == []


def test_rows_that_may_be_there_are_counted_as_they_return() -> None:
    """Of INSERT … SELECT … ON CONFLICT, Citus counts the rows that it did not insert: Store::insert counts those that return."""
    found = []
    for path in sorted((ROOT / "src").rglob("*.rs")):
        source = path.read_text()
        for match in STRING.finditer(source):
            text = " ".join(match[1].split())
            if re.search(r"INSERT INTO @store@.*\bSELECT\b.*ON CONFLICT.*RETURNING", text):
                call = re.findall(r"\.(\w+)\(", source[: match.start()])[-1]
                if call not in ("insert", "format"):
                    found.append(f"{path.relative_to(ROOT)}: .{call}({text}")
    assert found == []


def test_statements_are_found() -> None:
    """The texts above are the statements of the project, and the rules find what they name."""
    texts = [text for _, text in statements()]
    assert len(texts) > 250
    assert any(text.startswith("INSERT INTO @store@.tensor_chunks") for text in texts)
    wrong = {
        "a volatile function in an UPDATE": "UPDATE @store@.uploads SET updated_at = clock_timestamp()",
        "a volatile function in a DELETE": "DELETE FROM @store@.uploads WHERE updated_at < clock_timestamp()",
        "a subquery in the VALUES of an INSERT": "INSERT INTO @store@.models VALUES ($1, (SELECT config FROM @store@.models))",
        "a function in DO UPDATE SET": "INSERT INTO @store@.a VALUES ($1) ON CONFLICT (a) DO UPDATE SET updated_at = now()",
        "an INSERT of a SELECT from tables of the store that is not read first, WITH … AS MATERIALIZED": "INSERT INTO @store@.a (b) SELECT b FROM @store@.c",
        "CYCLE": "WITH RECURSIVE l AS (SELECT 1) CYCLE model_id SET c USING p SELECT 1",
        "columns of a WITH": "WITH refers(model_id) AS (SELECT 1) SELECT 1",
    }
    assert wrong.keys() == RULES.keys()
    assert all(RULES[rule](text) for rule, text in wrong.items())


def test_no_table_has_an_identity_or_a_sequence() -> None:
    """Each node of a cluster would have ranges of its own, and the order of creation would be lost."""
    for path in (ROOT / "sql/store").rglob("*.sql"):
        text = COMMENT.sub("", path.read_text())
        assert not re.search(r"\bAS IDENTITY\b|\b(small|big)?serial\b|CREATE SEQUENCE|nextval", text, re.IGNORECASE), path.name

"""Writes docs/api.md from the comments in the catalog.

    scripts/api_docs.py CONNECTION_STRING            writes it
    scripts/api_docs.py CONNECTION_STRING --check    exit code 1 when it is not what would be written

The extension, where it is missing, and a store are made in a transaction that is rolled back.
"""

import difflib
import pathlib
import re
import sys

import psycopg

TARGET = pathlib.Path(__file__).resolve().parent.parent / "docs" / "api.md"
STORE = "api_docs"

COMMENTS = pathlib.Path(__file__).resolve().parent.parent / "sql" / "extension" / "comments"


def topics() -> dict[str, list[str]]:
    """Names of functions by topic: the first line of each file of comments, and its functions in its order."""
    found = {}
    for file in sorted(COMMENTS.glob("*.sql")):
        text = file.read_text()
        names = re.findall(r'^COMMENT ON FUNCTION "?(\w+)"?\(', text, re.M)
        found[text.splitlines()[0].removeprefix("-- ")] = list(dict.fromkeys(names))
    return found


INTRODUCTION = """\
# Reference

Written by `make docs` from the comments in the catalog; `\\df+ modelstore.*` shows the same. Five-character codes are
SQLSTATEs. Functions that act on a store find it through the setting `modelstore.store`, whatever `search_path` says;
without one they raise 3F000, without a privilege on its tables 42501.
"""

MEMBERS = """
    SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
    WHERE e.extname = 'pg_modelstore' AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
"""


def uncommented(cursor: psycopg.Cursor) -> list[str]:
    """Members of the extension, its view's columns and triggers, and relations and columns of the store without a comment."""
    rows = cursor.execute(
        f"""
        SELECT pg_describe_object(classid, objid, 0) FROM ({MEMBERS}) m
        WHERE obj_description(objid, (SELECT relname FROM pg_class WHERE oid = classid)) IS NULL
          -- What comes with another object by itself: array types, the row type of a view.
          AND NOT (classid = 'pg_type'::regclass AND EXISTS (SELECT FROM pg_type t WHERE t.oid = objid AND (t.typelem <> 0 OR t.typrelid <> 0)))
        UNION ALL
        SELECT pg_describe_object('pg_class'::regclass, a.attrelid, a.attnum) FROM pg_attribute a
        JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE a.attnum > 0 AND NOT a.attisdropped AND col_description(a.attrelid, a.attnum) IS NULL
          AND (n.nspname = 'modelstore' AND c.relkind = 'v' OR n.nspname = %(store)s AND c.relkind IN ('r', 'p', 'm') AND NOT c.relispartition)
        UNION ALL
        SELECT pg_describe_object('pg_class'::regclass, c.oid, 0) FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = %(store)s AND c.relkind IN ('r', 'p', 'v', 'm') AND NOT c.relispartition
          AND obj_description(c.oid, 'pg_class') IS NULL
        UNION ALL
        SELECT pg_describe_object('pg_trigger'::regclass, t.oid, 0) FROM pg_trigger t
        JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'modelstore' AND NOT t.tgisinternal AND obj_description(t.oid, 'pg_trigger') IS NULL
        ORDER BY 1
        """,
        {"store": STORE},
    )
    return [row[0] for row in rows]


def cell(text: str) -> str:
    text = " ".join(text.split()).replace("|", "\\|")
    return text if text.startswith("`") else text.replace("*", "\\*")


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell(column) for column in line) + " |\n" for line in lines)


def settings(cursor: psycopg.Cursor) -> str:
    rows = cursor.execute(
        """
        SELECT name, vartype, boot_val, unit, min_val, max_val, short_desc, extra_desc
        FROM pg_settings WHERE name LIKE 'modelstore.%'
        """
    )
    out = []
    for name, kind, default, unit, low, high, short, extra in sorted(rows):
        values = f"{size(low, unit)} to {size(high, unit)}" if kind in ("integer", "real") else kind
        out.append([f"`{name}`", f"`{size(default, unit)}`", values, " ".join(filter(None, (short, extra)))])
    return table(["Setting", "Default", "Values", "Description"], out)


def size(value: str, unit: str | None) -> str:
    if unit == "kB" and value.isdecimal() and int(value) % 1024 == 0:
        return f"{int(value) // 1024}MB"
    return f"{value}{unit or ''}"


def types(cursor: psycopg.Cursor) -> str:
    rows = cursor.execute(
        f"""
        SELECT format_type(t.oid, NULL), obj_description(t.oid, 'pg_type')
        FROM pg_type t JOIN ({MEMBERS}) m ON m.classid = 'pg_type'::regclass AND m.objid = t.oid
        WHERE t.typtype = 'b' AND t.typelem = 0
        """
    )
    return table(["Type", "Description"], [[f"`{name}`", text or ""] for name, text in sorted(rows)])


def functions(cursor: psycopg.Cursor) -> tuple[dict[str, str], str]:
    """A table for each topic, and one of the functions behind other objects."""
    rows = cursor.execute(
        f"""
        SELECT p.proname, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid), obj_description(p.oid, 'pg_proc'),
               p.oid IN (SELECT castfunc FROM pg_cast UNION SELECT oprcode FROM pg_operator UNION SELECT amproc FROM pg_amproc
                         UNION SELECT tgfoid FROM pg_trigger)
               OR EXISTS (SELECT FROM pg_type t WHERE p.oid IN (t.typinput, t.typoutput, t.typreceive, t.typsend, t.typmodin, t.typmodout))
        FROM pg_proc p JOIN ({MEMBERS}) m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
        ORDER BY p.proname, pg_get_function_identity_arguments(p.oid) COLLATE "C"
        """
    ).fetchall()
    found: dict[str, list[list[str]]] = {}
    support = []
    for name, arguments, result, text, is_support in rows:
        # NULL and literals need no type to be understood.
        arguments = re.sub(r"('[^']*'|NULL)::[a-z ]+", r"\1", arguments)
        row = [f"`{name}({arguments})`", f"`{result}`", text or ""]
        if is_support:
            support.append(row[::2])
        else:
            found.setdefault(name, []).append(row)
    tables = {
        topic: table(["Function", "Returns", "Description"], rows)
        for topic, names in topics().items()
        if (rows := [row for name in names for row in found.pop(name, [])])
    }
    if found:
        sys.exit(f"functions without a comment in {COMMENTS}: {', '.join(found)}")
    return tables, table(["Function", "Description"], support)


def operators(cursor: psycopg.Cursor) -> str:
    rows = cursor.execute(
        f"""
        SELECT concat_ws(' ', format_type(nullif(o.oprleft, 0), NULL), o.oprname, format_type(o.oprright, NULL)),
               format_type(o.oprresult, NULL), obj_description(o.oid, 'pg_operator')
        FROM pg_operator o JOIN ({MEMBERS}) m ON m.classid = 'pg_operator'::regclass AND m.objid = o.oid
        """
    ).fetchall()
    classes = cursor.execute(
        f"""
        SELECT c.opcname || ' (' || a.amname || ')', obj_description(c.oid, 'pg_opclass')
        FROM pg_opclass c JOIN pg_am a ON a.oid = c.opcmethod
        JOIN ({MEMBERS}) m ON m.classid = 'pg_opclass'::regclass AND m.objid = c.oid
        """
    ).fetchall()
    return (
        table(["Operator", "Returns", "Description"], [[f"`{o}`", f"`{r}`", t or ""] for o, r, t in sorted(rows)])
        + "\n"
        + table(["Operator class", "Description"], [[f"`{c}`", t or ""] for c, t in sorted(classes)])
    )


def casts(cursor: psycopg.Cursor) -> str:
    rows = cursor.execute(
        f"""
        SELECT format_type(castsource, NULL), format_type(casttarget, NULL), castcontext, obj_description(c.oid, 'pg_cast')
        FROM pg_cast c JOIN ({MEMBERS}) m ON m.classid = 'pg_cast'::regclass AND m.objid = c.oid
        """
    )
    when = {"i": "implicit", "a": "on assignment", "e": "explicit"}
    return table(
        ["From", "To", "When", "Description"], [[f"`{s}`", f"`{t}`", when[c], text or ""] for s, t, c, text in sorted(rows)]
    )


def relations(cursor: psycopg.Cursor, schema: str, kinds: list[str]) -> str:
    rows = cursor.execute(
        """
        SELECT c.oid, c.relname, obj_description(c.oid, 'pg_class') FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = %s AND c.relkind = ANY (%s) AND NOT c.relispartition ORDER BY c.relkind, c.relname
        """,
        (schema, kinds),
    ).fetchall()
    out = []
    for oid, name, text in rows:
        columns = cursor.execute(
            """
            SELECT attname, format_type(atttypid, atttypmod), coalesce(col_description(attrelid, attnum), '')
            FROM pg_attribute WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped ORDER BY attnum
            """,
            (oid,),
        ).fetchall()
        described = any(comment for *_, comment in columns)
        head = ["Column", "Type", "Description"] if described else ["Column", "Type"]
        lines = [[f"`{column}`", f"`{kind}`", comment][: len(head)] for column, kind, comment in columns]
        out.append(f"### {name}\n\n{text or ''}\n\n{table(head, lines)}")
    return "\n".join(out)


def document(cursor: psycopg.Cursor) -> str:
    by_topic, support = functions(cursor)
    sections = {
        "Settings": settings(cursor),
        "Types": types(cursor),
        **by_topic,
        "Operators": operators(cursor),
        "Casts": casts(cursor),
        "The view for uploads": relations(cursor, "modelstore", ["v", "m"]),
        "Tables of a store": relations(cursor, STORE, ["r", "p"]),
        "Views of a store": relations(cursor, STORE, ["v", "m"]),
        "Functions behind types, casts and operators": support,
    }
    contents = "".join(f"- [{title}](#{title.lower().replace(' ', '-').replace(',', '')})\n" for title in sections)
    return f"{INTRODUCTION}\n{contents}" + "".join(f"\n## {title}\n\n{body}" for title, body in sections.items())


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[2:] not in ([], ["--check"]):
        sys.exit(__doc__)
    with psycopg.connect(sys.argv[1]) as connection, connection.cursor() as cursor:
        cursor.execute("SET client_min_messages = error")
        cursor.execute("CREATE EXTENSION IF NOT EXISTS pg_modelstore")
        cursor.execute("SELECT modelstore.create_store(%s, ARRAY['all'])", (STORE,))
        cursor.execute("SET search_path = modelstore")
        missing = uncommented(cursor)
        text = document(cursor)
        connection.rollback()
    if missing:
        sys.exit("without a comment: " + ", ".join(missing))
    if sys.argv[2:]:
        have = TARGET.read_text() if TARGET.exists() else ""
        if have != text:
            sys.stdout.writelines(difflib.unified_diff(have.splitlines(True), text.splitlines(True), "docs/api.md", "catalog"))
            sys.exit("docs/api.md is out of date: make docs")
    else:
        TARGET.parent.mkdir(exist_ok=True)
        TARGET.write_text(text)


main()

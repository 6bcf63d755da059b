"""Writes a stored model into a file, as any client would: COPY of the parts, one in memory at a time.

    scripts/export_model.py CONNECTION_STRING MODEL FILE

MODEL is a name such as minilm, or minilm:1 for a version.
"""

import sys

import psycopg

url, model, path = sys.argv[1:]
query = psycopg.sql.SQL("COPY (SELECT modelstore.export_safetensors({})) TO STDOUT (FORMAT binary)")
with psycopg.connect(url) as connection, open(path, "wb") as file, connection.cursor() as cursor:
    with cursor.copy(query.format(psycopg.sql.Literal(model))) as copy:
        copy.set_types(["bytea"])
        for (part,) in copy.rows():
            file.write(part)

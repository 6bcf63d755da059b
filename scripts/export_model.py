"""Writes a stored model into a file, as any client would: COPY of the parts, one in memory at a time.

    scripts/export_model.py CONNECTION_STRING MODEL_NAME FILE
"""

import sys

import psycopg

url, name, path = sys.argv[1:]
with psycopg.connect(url) as connection, open(path, "wb") as file, connection.cursor() as cursor:
    cursor.execute("SELECT model_id FROM store.models WHERE model_name = %s ORDER BY created_at DESC LIMIT 1", (name,))
    row = cursor.fetchone()
    if row is None:
        sys.exit(f"no model {name}")
    model_id = psycopg.sql.Literal(row[0])
    query = psycopg.sql.SQL("COPY (SELECT * FROM modelstore.export_safetensors({})) TO STDOUT (FORMAT binary)")
    with cursor.copy(query.format(model_id)) as copy:
        copy.set_types(["bytea"])
        for (part,) in copy.rows():
            file.write(part)

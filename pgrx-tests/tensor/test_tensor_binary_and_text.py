"""Binary, text and jsonb forms of tensors: values round-trip bit for bit, and malformed input is refused."""

from __future__ import annotations

import numpy as np
import psycopg
import pytest
from models import random_tensor
from tensors import BITS, NUMPY, fetch, pack, same, unpack, value
from transfer import refusal

pytestmark = pytest.mark.versioned


def test_copy_binary_out_and_in(db) -> None:
    rng = np.random.default_rng(8)
    arrays = [rng.integers(0, 256, (2, 3, 8), dtype="uint8").view(d) for n, (_, d) in NUMPY.items() if n != "bool"]
    arrays += [np.array([True, False]), np.array(1.5), np.zeros((2, 0), "int32"), random_tensor(1, 700, 500), np.ones((1,) * 32, "u1")]
    db.execute("CREATE TABLE t (i integer, v modelstore.tensor); CREATE TABLE back (LIKE t)")
    (oid,) = db.execute("SELECT 'modelstore.tensor'::regtype::oid").fetchone()
    with db.cursor() as cursor:
        with cursor.copy("COPY t FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["int4", "bytea"])  # tensor's binary form is bytes like any
            for row in enumerate(map(pack, arrays)):
                copy.write_row(row)
        with cursor.copy("COPY t TO STDOUT (FORMAT binary)") as copy:
            whole = b"".join(copy)
        with cursor.copy("COPY back FROM STDIN (FORMAT binary)") as copy:
            copy.write(whole)
    for row in db.execute("SELECT i, v FROM t", binary=True):
        assert same(unpack(row[1]), arrays[row[0]])
    assert value(db, "SELECT count(*) FROM t JOIN back USING (i, v)") == len(arrays)
    assert db.execute("SELECT v FROM t", binary=True).description[0].type_code == oid
    text = value(db, "SELECT string_agg(v::text, E'\\n' ORDER BY i) FROM t WHERE i < 12")
    assert len(text.splitlines()) == 12


GOOD = pack(random_tensor(1, 2, 3))
BAD_BINARY = {
    "nothing": b"", "no header": GOOD[:3], "no dimensions": GOOD[:19], "no elements": GOOD[:20], "short": GOOD[:-1], "long": GOOD + b"\0",
    "version 0": b"\0" + GOOD[1:], "version 2": b"\2" + GOOD[1:], "dtype 0": GOOD[:1] + b"\0" + GOOD[2:], "dtype 255": GOOD[:1] + b"\xff" + GOOD[2:],
    "flags": GOOD[:3] + b"\1" + GOOD[4:],
}  # fmt: skip


def test_bad_binary(db) -> None:
    db.execute("CREATE TABLE t (v modelstore.tensor)")

    def receive(data: bytes) -> str:
        with pytest.raises(psycopg.Error) as caught, db.cursor() as cursor, cursor.copy("COPY t FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["bytea"])
            copy.write_row([data])
        return caught.value.sqlstate

    for name, data in BAD_BINARY.items():
        assert receive(data) == "22P03", name
        assert refusal(db, "SELECT %b::bytea::modelstore.tensor", data).sqlstate == "22P03", name
    assert receive(GOOD[:2] + b"\x21" + GOOD[3:]) == "54000"  # 33 dimensions
    assert receive(GOOD[:11] + b"\x80" + GOOD[12:]) == "22023"  # a negative one
    assert receive(GOOD[:10] + b"\xff\x7f" + GOOD[12:]) == "54000"
    assert value(db, "SELECT count(*) FROM t") == 0
    assert same(fetch(db, "SELECT %b::bytea::modelstore.tensor", GOOD), unpack(GOOD))
    assert value(db, "SELECT %b::bytea::modelstore.tensor::bytea", GOOD) == GOOD


@pytest.mark.parametrize("name", NUMPY | BITS)
def test_text_gives_the_same_bits_back(name, db) -> None:
    """Whatever the bits are: payloads of NaN, -0, subnormals."""
    _, dtype = (NUMPY | BITS)[name]
    width = np.dtype(dtype).itemsize
    rng = np.random.default_rng(sum(name.encode()))
    samples = [rng.integers(0, 2 if name == "bool" else 256, 4000 * width, dtype="uint8")]
    if width <= 2 and name != "bool":
        samples.append(np.arange(256**width, dtype=f"<u{width}").view("u1"))  # all there are
    if np.dtype(dtype).kind == "f":
        # Exponents of all ones, of zero, and around.
        bits = np.frombuffer(samples[0].tobytes(), f"<u{width}").copy()
        exponent = {2: 0x7C00, 4: 0x7F80_0000, 8: 0x7FF0 << 48}[width]
        top = np.array(exponent, bits.dtype)
        samples += [(bits | top).view("u1"), (bits & ~top).view("u1")]
        samples.append(np.array([0.0, -0.0, np.inf, -np.inf, 0.1, 1 / 3, np.finfo(dtype).max, np.finfo(dtype).tiny], dtype).view("u1"))
    for sample in samples:
        sent = pack(np.frombuffer(sample.tobytes(), dtype).reshape(2, -1), name)
        row = db.execute("SELECT t::text::modelstore.tensor = t, t::text FROM (SELECT %b::bytea::modelstore.tensor AS t) _", (sent,))
        equal, text = row.fetchone()
        assert equal and text.startswith(f"{name}:[[")


@pytest.mark.parametrize("name", NUMPY | BITS)
def test_jsonb_gives_the_same_bits_back(name, db) -> None:
    _, dtype = (NUMPY | BITS)[name]
    bits = np.random.default_rng(sum(name.encode())).integers(0, 2 if name == "bool" else 256, 16000, dtype="uint8")
    array = np.frombuffer(bits.tobytes(), dtype)
    got = fetch(db, "SELECT %b::bytea::modelstore.tensor::jsonb::modelstore.tensor", pack(array, name))
    different = [(a, b) for a, b in zip(array, got, strict=True) if a.tobytes() != b.tobytes()]
    assert not different, f"{len(different)}, {different[:3]}"


def test_jsonb_keeps_the_sign_of_zero(db) -> None:
    """numeric, and so jsonb, has no -0: it has to be a string, as NaN is."""
    assert value(db, "SELECT 'f64:[-0,0]'::modelstore.tensor::jsonb::modelstore.tensor::text") == "f64:[-0,0]"


def test_text_is_what_numpy_prints(db) -> None:
    """As numbers, for those that both have."""
    for name in ("f16", "f32", "f64", "i64", "u64"):
        dtype = NUMPY[name][1]
        array = np.frombuffer(np.random.default_rng(2).bytes(800), dtype)
        if array.dtype.kind == "f":
            array = array[np.isfinite(array)]
        text = value(db, "SELECT %b::bytea::modelstore.tensor::text", pack(array))
        read = [np.dtype(dtype).type(word) for word in text.split(":")[1].strip("[]").split(",")]
        assert np.array(read, dtype).tobytes() == array.tobytes()
        printed = f"{name}:[" + ",".join(str(x) for x in array) + "]"
        assert same(fetch(db, "SELECT %s::text::modelstore.tensor", printed), array)

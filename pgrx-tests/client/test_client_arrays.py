"""Arrays through each driver: bit for bit, without copies, with and without ml_dtypes and torch."""

from __future__ import annotations

import asyncio
import uuid

import ml_dtypes
import numpy as np
import pg_modelstore
import psycopg
import pytest
import safetensors.numpy
from pg_modelstore import Tensor, dtypes, values
from pg_modelstore.safetensors import TensorsSource, read
from tensors import NUMPY, pack

RNG = np.random.default_rng(12)
SHAPES = [(), (0,), (5,), (0, 3), (2, 3), (1, 2, 3, 2)]
ML = {d.name: np.dtype(getattr(ml_dtypes, d.ml_dtypes)) for d in dtypes.ALL if d.ml_dtypes}
PLAIN = {d.name: np.dtype(d.numpy) for d in dtypes.ALL if d.numpy}


def random_array(dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """Any bits, NaN payloads among them; of bool the two that it has."""
    count = int(np.prod(shape, dtype=int)) * dtype.itemsize
    raw = RNG.integers(0, 2 if dtype == bool else 256, count, "uint8")
    return raw.view(dtype).reshape(shape)


ARRAYS = {f"{name}{list(shape)}": random_array(dtype, shape) for name, dtype in (PLAIN | ML).items() for shape in SHAPES}
LAYOUTS = {
    "Fortran order": np.asfortranarray(np.arange(12, dtype="f4").reshape(3, 4)),
    "big-endian": np.arange(6, dtype=">i4").reshape(2, 3),
    "big-endian, Fortran": np.asfortranarray(np.arange(6, dtype=">f8").reshape(2, 3)),
    "strided": np.arange(24).reshape(4, 6)[::2, ::-3],
    "transposed bf16": np.arange(6, dtype=ml_dtypes.bfloat16).reshape(2, 3).T,
    "read-only broadcast": np.broadcast_to(np.float32(3), (2, 3)),
}


def same(got: np.ndarray, sent: np.ndarray) -> bool:
    sent = np.ascontiguousarray(sent, sent.dtype.newbyteorder("<") if sent.dtype.kind != "V" else sent.dtype).reshape(sent.shape)
    return (got.dtype, got.shape, got.tobytes()) == (sent.dtype, sent.shape, sent.tobytes())


@pytest.fixture
def registered(db) -> psycopg.Connection:
    pg_modelstore.register(db)
    return db


def test_the_list_of_dtypes_is_the_servers(db) -> None:
    """Each code means the same here and there, and there is no dtype that the client does not know."""
    for dtype in dtypes.ALL:
        shape = (dtype.group,)
        value = bytes([1, dtype.code, 1, 0]) + dtype.group.to_bytes(8, "little") + bytes(dtype.width)
        assert db.execute("SELECT modelstore.dtype(%b::bytea::modelstore.tensor)", (value,)).fetchone() == (dtype.name,)
        assert values.layout(Tensor(dtype.name, shape, bytes(dtype.width))) == (dtype, shape)
    for code in set(range(256)) - dtypes.BY_CODE.keys():
        with pytest.raises(psycopg.errors.InvalidBinaryRepresentation):
            db.execute("SELECT %b::bytea::modelstore.tensor", (bytes([1, code, 0, 0]) + bytes(8),))


def test_arrays_come_back(registered) -> None:
    for name, sent in (ARRAYS | LAYOUTS).items():
        got, text = registered.execute("SELECT %s, (%s)::text", (sent, sent), binary=True).fetchone()
        assert same(got, sent), name
        assert text == registered.execute("SELECT (%t)::text", (sent,)).fetchone()[0], (
            f"{name}: text and binary parameters differ"
        )
        assert text.startswith(values.layout(sent)[0].name), name


def test_the_bytes_are_those_that_the_tests_of_the_server_write() -> None:
    for name, (_, dtype) in NUMPY.items():
        array = random_array(np.dtype(dtype), (2, 3))
        assert values.encode(array) == pack(array, name)


def test_received_arrays_are_views_of_what_arrived(registered) -> None:
    got = registered.execute("SELECT %s", (np.arange(100_000.0),), binary=True).fetchone()[0]
    assert not got.flags.owndata and not got.flags.writeable
    buffer = bytes(values.encode(np.arange(1000)))
    assert np.shares_memory(values.decode(buffer), np.frombuffer(buffer, "u1"))


def test_arrays_of_tensors_and_copy(registered) -> None:
    sent = [np.arange(3.0), np.array(1, "u1"), np.asfortranarray(np.ones((2, 3), ">f4"))]
    for placeholder in ("%s", "%b", "%t"):
        got = registered.execute(f"SELECT {placeholder}::modelstore.tensor[]", (sent,), binary=True).fetchone()[0]
        assert all(map(same, got, sent))
    with registered.cursor(binary=True) as cursor:
        cursor.execute("CREATE TEMPORARY TABLE t (n integer, w modelstore.tensor)")
        with cursor.copy("COPY t FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["int4", "tensor"])
            for n, array in enumerate(sent):
                copy.write_row((n, array))
        assert all(map(same, (w for (w,) in cursor.execute("SELECT w FROM t ORDER BY n")), sent))


def test_dtypes_that_numpy_lacks_come_as_tensor(registered) -> None:
    got = registered.execute(r"SELECT 'f4(2,4):\x01234567'::modelstore.tensor", binary=True).fetchone()[0]
    assert got == Tensor("f4", (2, 4), b"\x01\x23\x45\x67") and repr(got) == "Tensor('f4', (2, 4), 4 bytes)"
    assert registered.execute("SELECT (%s)::text", (got,)).fetchone()[0] == r"f4(2,4):\x01234567"
    with pytest.raises(TypeError, match="numpy has no f4"):
        got.numpy()
    with pytest.raises(ValueError, match="takes 18 bytes, not 1"):
        Tensor("q4_0", (32,), b"x")


def test_without_ml_dtypes_bf16_comes_as_tensor(registered, monkeypatch) -> None:
    dtypes.numpy_dtype.cache_clear()
    with monkeypatch.context() as patch:
        patch.setitem(__import__("sys").modules, "ml_dtypes", None)
        got = registered.execute("SELECT 'bf16:[1,2]'::modelstore.tensor", binary=True).fetchone()[0]
        assert got == Tensor("bf16", (2,), b"\x80\x3f\x00\x40")
        with pytest.raises(TypeError, match=r"pip install 'pg-modelstore\[ml_dtypes\]'"):
            got.numpy()
        assert registered.execute("SELECT (%s)::text", (got,)).fetchone()[0] == "bf16:[1,2]"
    dtypes.numpy_dtype.cache_clear()
    assert got.numpy().tolist() == [1, 2]


def test_refusals_say_what_to_do(registered, new_database, connect) -> None:
    with pytest.raises(psycopg.DataError, match="binary=True"):
        registered.execute("SELECT '1'::modelstore.tensor").fetchone()
    for wrong in (np.array(["a"]), np.array([1], "M8[s]"), np.zeros(1, "f4,i4"), np.array([1], "c16")):
        with pytest.raises(TypeError, match="a tensor cannot have numpy dtype"):
            registered.execute("SELECT %s", (wrong,))
    with pytest.raises(psycopg.errors.UndefinedObject, match="CREATE EXTENSION pg_modelstore"):
        pg_modelstore.register(connect(dbname=new_database()))
    with pytest.raises(ValueError, match='"numpy" or "torch"'):
        pg_modelstore.register(registered, returns="jax")
    with pytest.raises(ValueError, match="version 2"):
        values.decode(b"\x02\x0e\x00\x00")


def test_psycopg_async(url: str) -> None:
    async def run() -> None:
        async with await psycopg.AsyncConnection.connect(url) as connection:
            await pg_modelstore.register(connection)
            for sent in (ARRAYS | LAYOUTS).values():
                cursor = await connection.execute("SELECT %s", (sent,), binary=True)
                assert same((await cursor.fetchone())[0], sent)

    asyncio.run(run())


def asyncpg_arguments(home, dbname: str) -> dict[str, object]:
    return {"host": home.server.socket, "port": home.server.port, "user": home.user, "database": dbname}


def test_asyncpg(home, dbname: str) -> None:
    asyncpg = pytest.importorskip("asyncpg")

    async def run() -> None:
        async with asyncpg.create_pool(
            **asyncpg_arguments(home, dbname), min_size=1, max_size=1, init=pg_modelstore.register_asyncpg
        ) as pool:
            for sent in (ARRAYS | LAYOUTS).values():
                assert same(await pool.fetchval("SELECT $1::modelstore.tensor", sent), sent)
            # asyncpg takes a numpy array in a list for a dimension of the list.
            sent = [np.arange(3.0), np.array(1, "u1")]
            assert all(map(same, await pool.fetchval("SELECT $1::modelstore.tensor[]", [Tensor.of(array) for array in sent]), sent))
            with pytest.raises(asyncpg.DataError):
                await pool.fetchval("SELECT $1::modelstore.tensor[]", [np.arange(3.0), np.arange(3.0)])
            assert (await pool.fetchval(r"SELECT 'f4(2,4):\x01234567'::modelstore.tensor")).dtype == "f4"

    asyncio.run(run())


def test_names_of_models_are_arguments(registered, home, dbname: str) -> None:
    """regmodel takes a UUID and text; psycopg sends text without a type, asyncpg as the text form of regmodel."""
    asyncpg = pytest.importorskip("asyncpg")
    (model,) = registered.execute("SELECT modelstore.register_model('m', '1')").fetchone()
    for given in ("m", "m:1", str(model), model):
        for binary in (False, True):
            assert registered.execute("SELECT modelstore.model_label(%s)", (given,), binary=binary).fetchone() == ("m:1",)
            assert registered.execute("SELECT (%s)::text::modelstore.regmodel", (str(given),), binary=binary).fetchone() == (
                model,
            )

    async def run() -> None:
        connection = await asyncpg.connect(**asyncpg_arguments(home, dbname))
        await pg_modelstore.register_asyncpg(connection)
        for given in ("m", "m:1", str(model), model, uuid.UUID(str(model))):
            assert await connection.fetchval("SELECT modelstore.model_label($1)", given) == "m:1"
            assert await connection.fetchval("SELECT $1::modelstore.regmodel", given) == model
        await connection.close()

    asyncio.run(run())


@pytest.mark.parametrize("driver", ["psycopg", "psycopg_async", "asyncpg"])
def test_sqlalchemy(driver: str, home, dbname: str) -> None:
    sa = pytest.importorskip("sqlalchemy")
    from pg_modelstore.sqlalchemy import TensorType, register_engine
    from sqlalchemy import orm
    from sqlalchemy.ext.asyncio import create_async_engine

    class Base(orm.DeclarativeBase):
        pass

    class Sample(Base):
        __tablename__ = "samples"
        id = orm.mapped_column(sa.Integer, primary_key=True)
        name = orm.mapped_column(sa.Text)
        weights = orm.mapped_column(TensorType("f32", None, 3))

    address = sa.URL.create(
        f"postgresql+{driver}",
        username=home.user,
        database=dbname,
        query={"host": str(home.server.socket), "port": str(home.server.port)},
    )
    sent = np.arange(6, dtype="f4").reshape(2, 3)

    def work(session: orm.Session) -> None:
        Base.metadata.create_all(session.connection())
        session.add_all([Sample(id=1, name="a", weights=sent), Sample(id=2, name="b", weights=None)])
        session.commit()
        one = session.get(Sample, 1)
        assert same(one.weights, sent) and one.name == "a"
        assert session.get(Sample, 2).weights is None
        one.weights = sent + 1
        session.commit()
        assert same(session.scalar(sa.select(Sample.weights).where(Sample.id == 1)), sent + 1)
        with pytest.raises(sa.exc.DBAPIError, match="f32"):
            session.execute(sa.insert(Sample).values(id=3, weights=np.arange(3)))
        session.rollback()
        columns = sa.inspect(session.connection()).get_columns("samples")
        assert [type(c["type"]) for c in columns] == [sa.INTEGER, sa.TEXT, TensorType]

    if driver == "psycopg":
        engine = sa.create_engine(address)
        register_engine(engine)
        with orm.Session(engine) as session:
            work(session)
        engine.dispose()
        return

    async def run() -> None:
        from sqlalchemy.ext.asyncio import AsyncSession

        engine = create_async_engine(address)
        register_engine(engine)
        async with AsyncSession(engine) as session:
            await session.run_sync(work)
        await engine.dispose()

    asyncio.run(run())


def test_column_types() -> None:
    pytest.importorskip("sqlalchemy")
    from pg_modelstore.sqlalchemy import TensorType

    assert TensorType("f32", None, 768).get_col_spec() == "modelstore.tensor(f32,'*',768)"
    assert TensorType("bf16").get_col_spec() == "modelstore.tensor(bf16)" and TensorType().get_col_spec() == "modelstore.tensor"
    a, b = np.array([np.nan, 1.0]), np.array([np.nan, 2.0])
    assert (
        TensorType().compare_values(a, a.copy())
        and not TensorType().compare_values(a, b)
        and not TensorType().compare_values(a, None)
    )


def test_a_state_dict_becomes_the_file_that_safetensors_writes() -> None:
    arrays = {
        f"layer.{i}.{name} ü": array
        for i, (name, array) in enumerate(ARRAYS.items())
        if not name.endswith("fnuz") and "fnuz" not in name
    }
    source = TensorsSource(arrays)
    data = source.tobytes()
    assert data == safetensors.numpy.save(arrays) and len(data) == source.size
    assert all(same(array, arrays[name]) for name, array in read(data).items())
    for offset, end, part in ((0, 10, 3), (7, len(data), 1000), (len(data) - 5, len(data), 2), (100, 5000, 64)):
        assert b"".join(source.parts(offset, end, part)) == data[offset:end]
    with pytest.raises(TypeError, match="'step'"):
        TensorsSource({"step": 3})


def test_torch(registered) -> None:
    torch = pytest.importorskip("torch")
    tensors = [
        torch.frombuffer(bytearray(RNG.integers(0, 2, 6 * d.width, "uint8")), dtype=torch.uint8)
        .view(getattr(torch, d.torch))
        .reshape(2, 3)
        for d in dtypes.ALL
        if d.torch and hasattr(torch, d.torch)
    ]
    tensors += [
        torch.arange(6.0).reshape(2, 3).T,
        torch.nn.Parameter(torch.ones(3)),
        torch.tensor(3.5),
        torch.zeros(0, 3),
        torch.tensor([1 + 2j]).conj(),
    ]
    pg_modelstore.register(registered, returns="torch")
    for sent in tensors:
        got = registered.execute("SELECT %s", (sent,), binary=True).fetchone()[0]
        assert got.dtype == sent.dtype and got.shape == sent.shape
        assert bytes(values.elements(got)) == bytes(values.elements(sent)), sent.dtype
    with pytest.raises(TypeError, match="torch dtype"):
        registered.execute("SELECT %s", (torch.zeros(1, dtype=torch.complex128),))
    from safetensors.torch import save

    state = {"a": torch.arange(6.0), "b": torch.ones(2, dtype=torch.bfloat16)}
    assert TensorsSource(state).tobytes() == save(state, {"format": "pt"})

"""README.md of a model: license, tags and words from it, whatever is in it, and searches for them."""

from __future__ import annotations

import random
import uuid

import pytest
from checkpoints import checkpoint, register
from folders import WAYS, add, export
from models import random_tensor, safetensors_bytes
from observe import problems
from psycopg.types.json import Jsonb
from transfer import import_model, refusal

CARD = """---
license: apache-2.0
language:
- en
- no
tags:
- sentence-transformers
- 'feature extraction'
- 2024
pipeline_tag: sentence-similarity
datasets: [s2orc, org/pairs]
base_model: org/base
---
# MiniLM

Maps sentences to a dense vector space; useful for clustering.
"""
FIELDS = {
    "license": "apache-2.0",
    "language": ["en", "no"],
    "tags": ["sentence-transformers", "feature extraction", 2024],
    "pipeline_tag": "sentence-similarity",
    "datasets": ["s2orc", "org/pairs"],
    "base_model": "org/base",
}
COLUMNS = "SELECT license, tags, card FROM store.models WHERE model_id = %s"


@pytest.fixture
def warnings(db) -> list[str]:
    told: list[str] = []
    db.add_notice_handler(lambda diag: told.append(f"{diag.severity_nonlocalized}: {diag.message_primary}"))
    return told


def search(db, **arguments: object) -> list[str]:
    """The versions found, in order."""
    named = ", ".join(f"{name} => %s" for name in arguments)
    rows = db.execute(f"SELECT model_name, version FROM modelstore.search_models({named})", tuple(arguments.values())).fetchall()
    return [":".join(row) for row in rows]


@pytest.mark.parametrize("way", WAYS)
def test_a_card_sets_what_it_names(db, way, warnings) -> None:
    model = register(db)
    way(db, model, "docs/README.md", CARD.encode())
    way(db, model, "readme.md", CARD.encode())
    assert db.execute(COLUMNS, (model,)).fetchone() == (None, [], None)
    way(db, model, "README.md", CARD.encode())
    assert db.execute(COLUMNS, (model,)).fetchone() == ("apache-2.0", ["sentence-transformers", "feature extraction", "2024"], FIELDS)
    assert export(db, model, "README.md") == CARD.encode()
    assert search(db, words="clustering sentences") == ["model:1"] and search(db, words="apache") == []
    # Replaced by one that says less, after something was set by hand.
    db.execute("SELECT modelstore.delete_file(%s, 'README.md')", (model,))
    assert db.execute(COLUMNS, (model,)).fetchone() == (None, [], None)
    assert search(db, words="clustering") == []
    db.execute("UPDATE store.models SET license = 'mit', tags = '{mine}'")
    way(db, model, "README.md", b"---\ntags: [a]\n---\n")
    assert db.execute(COLUMNS, (model,)).fetchone() == ("mit", ["a"], {"tags": ["a"]})
    db.execute("SELECT modelstore.delete_file(%s, 'README.md')", (model,))
    assert db.execute(COLUMNS, (model,)).fetchone() == ("mit", [], None)
    way(db, model, "README.md", b"# No front matter\n")
    db.execute("SELECT modelstore.delete_file(%s, 'docs/README.md')", (model,))
    assert db.execute(COLUMNS, (model,)).fetchone() == ("mit", [], None) and search(db, words="matter") == ["model:1"]
    assert warnings == [] and problems(db) == []


def test_a_card_of_a_folder_on_the_server(server, db) -> None:
    path = server.scratch / "card"
    path.mkdir()
    path.chmod(0o755)
    (path / "README.md").write_text(CARD)
    (path / "model.safetensors").write_bytes(safetensors_bytes({"w": random_tensor(1, 9)}))
    (model,) = db.execute("SELECT model_id FROM modelstore.import_folder('m', '1', %s)", (str(path),)).fetchone()
    assert db.execute(COLUMNS, (model,)).fetchone() == ("apache-2.0", ["sentence-transformers", "feature extraction", "2024"], FIELDS)
    assert search(db, words="clustering") == ["m:1"]


def test_a_version_made_of_another_has_its_card(db) -> None:
    """As it has its README.md; one without it has nothing of either."""
    weights = {"w": random_tensor(1, 40)}
    model = import_model(db, safetensors_bytes(weights), "m").model_id
    add(db, model, "README.md", CARD.encode())
    taken = checkpoint(db, model, safetensors_bytes(weights), 1)
    (restored,) = db.execute("SELECT modelstore.restore_checkpoint(%s, NULL, '2')", (taken.checkpoint_id,)).fetchone()
    assert export(db, restored, "README.md") == CARD.encode()
    assert db.execute(COLUMNS, (restored,)).fetchone() == db.execute(COLUMNS, (model,)).fetchone()
    assert search(db, words="clustering") == ["m:2", "m:1"]
    db.execute("SELECT modelstore.delete_file(%s, 'README.md')", (model,))
    db.execute("UPDATE store.models SET license = 'mit' WHERE model_id = %s", (model,))
    (bare,) = db.execute("SELECT modelstore.restore_checkpoint(%s, NULL, '3')", (taken.checkpoint_id,)).fetchone()
    assert db.execute(COLUMNS, (bare,)).fetchone() == (None, [], None)


HOSTILE = {
    "bomb": (b"---\na: &a [x]\nb: [*a, *a]\n---\nwords", "line 3 of front matter: aliases are not read"),
    "twice": (b"---\nlicense: mit\nlicense: gpl\n---\nwords", 'line 3 of front matter: duplicate key "license"'),
    "list": (b"---\n- a\n---\nwords", "line 2 of front matter: no keys with values"),
    "python": (b"---\na: !!python/object/apply:os.system [x]\n---\nwords", "unknown tag"),
    "nul": (b'---\na: "\\0"\n---\nwords', "line 2 of front matter: a zero character"),
    "open": (b"---\na: [1\n---\nwords", "of front matter: "),
    "deep": (b"---\na: " + b"[" * 5000 + b"\n---\nwords", "recursion limit"),
    "deeper": (b"---\na: " + b"[" * 70 + b"\n---\nwords", "in one another"),
    "wide": (b"---\na: [" + b"x," * 200_000 + b"]\n---\nwords", "more than 100000 values"),
    "long": (b"---\na: " + b"x" * (1 << 20) + b"\n---\nwords", "more than 1048576 bytes"),
    "unclosed": (b"---\n" + b"a: x\n" * 500_000 + b"---\n", "more than 1048576 bytes"),
    "latin1": ("---\nlicense: mit\n---\nModèle".encode("latin1"), "file is not UTF-8"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_card_that_cannot_be_read_is_a_file(db, warnings, name) -> None:
    data, reason = HOSTILE[name]
    model = register(db)
    add(db, model, "README.md", data)
    assert export(db, model, "README.md") == data
    (told,) = warnings
    assert told.startswith('WARNING: front matter of file "README.md" was not read: ') and reason in told
    assert db.execute(COLUMNS, (model,)).fetchone() == (None, [], None)
    assert search(db, words="words") == (["model:1"] if data.endswith(b"words") else [])


def test_odd_cards_that_are_read(db, warnings) -> None:
    deep = "[" * 60 + "]" * 60
    odd = {
        "empty": ("", (None, [], None)),
        "bare": ("---\n---", (None, [], {})),
        "crlf": ("\ufeff---\r\nlicense: MIT\r\n---\r\n", ("MIT", [], {"license": "MIT"})),
        "one": ("---\nlicense: [mit]\ntags: x\n---\n", ("mit", ["x"], {"license": ["mit"], "tags": "x"})),
        "many": ("---\nlicense: [mit, gpl]\n---\n", (None, [], {"license": ["mit", "gpl"]})),
        "numbers": ("---\na: [1e400, -1e-400, 99999999999999999999, .nan]\n---\n", (None, [], {"a": ["1e400", 0.0, "99999999999999999999", ".nan"]})),
        "rule": ("Text\n---\nlicense: mit\n---\n", (None, [], None)),
    }
    for name, (text, expected) in odd.items():
        model = register(db, name)
        add(db, model, "README.md", text.encode())
        assert db.execute(COLUMNS, (model,)).fetchone() == expected, name
    add(db, register(db, "deep"), "README.md", f"---\na: {deep}\n---\n".encode())
    # A file of weights with that name is no card.
    add(db, register(db, "weights"), "README.md", safetensors_bytes({"w": random_tensor(1, 9)}))
    assert warnings == []


def test_any_text_fits(db, warnings) -> None:
    """A tsvector is limited to a megabyte: words that take much of it, and what is no word."""
    chance = random.Random(1)

    def word(size: int) -> str:
        return "".join(chance.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=size))

    texts = [
        "-".join(word(4) for _ in range(300_000)),
        " ".join(f"{word(3)}-{word(3)}-{word(3)}" for _ in range(100_000)),
        " ".join(f"{word(2)}.io/{word(2)}" for _ in range(150_000)),
        " ".join(f"{word(1)}@{word(2)}.de" for _ in range(150_000)),
        " ".join(str(n) for n in range(200_000)),
        " ".join(f"/{word(1)}/{word(2)}" for _ in range(200_000)),
        "<x " + "y" * 5000 + ">" + "z" * 3000 + " " + "QUJD" * 200_000,
        "字" * 500_000,
        " ".join(chr(0x4E00 + n % 20000) + chr(0x4E00 + n // 7 % 20000) for n in range(100_000)),
        "x\0y",
        "".join(chr(chance.randrange(1, 0xD7FF)) for _ in range(200_000)),
    ]
    for n, text in enumerate(texts):
        add(db, register(db, str(n)), "README.md", text.encode())
    (size,) = db.execute("SELECT max(pg_column_size(card_words)) FROM store.models").fetchone()
    assert size > 100_000 and warnings == []


def test_search(db) -> None:
    for name, license, tags, text in (
        ("org/all-MiniLM_L6", "apache-2.0", "[embedding, small]", "Sentences to vectors."),
        ("llama", "Llama3", "[chat]", "A chat model. It knows of sentences, and cites minilm."),
        ("bare", None, "[]", ""),
    ):
        model = register(db, name)
        lines = [f"license: {license}"] * (license is not None) + [f"tags: {tags}", "language: en", "pipeline_tag: text-generation"] * bool(text)
        add(db, model, "README.md", ("---\n" + "\n".join(lines) + f"\n---\n{text}\n").encode())
    register(db, "llama", "2")
    everything = ["bare:1", "llama:2", "llama:1", "org/all-MiniLM_L6:1"]
    assert search(db) == everything == search(db, words="  ", tags=[])
    # The name counts more than the text.
    assert search(db, words="minilm") == ["org/all-MiniLM_L6:1", "llama:1"]
    assert search(db, words="all-minilm_l6") == ["org/all-MiniLM_L6:1"]
    assert search(db, words="sentence -chat") == ["org/all-MiniLM_L6:1"]
    assert search(db, words="embedding") == ["org/all-MiniLM_L6:1"]
    assert search(db, words='"vectors sentences"') == [] and search(db, words="the") == []
    assert search(db, tags=["chat"]) == ["llama:1"] and search(db, tags=["chat", "small"]) == []
    assert search(db, tags=["en", "text-generation", None]) == ["llama:1", "org/all-MiniLM_L6:1"]
    assert search(db, license="llama3") == ["llama:1"] and search(db, license="mit") == []
    assert search(db, name_pattern="llama") == ["llama:2", "llama:1"] and search(db, name_pattern="%M_ni%") == ["org/all-MiniLM_L6:1"]
    db.execute("UPDATE store.models SET created_at = '2020-01-01' WHERE model_name = 'bare'")
    assert search(db, until="2020-01-02") == ["bare:1"] == search(db, since="2020-01-01", until="2020-01-02")
    assert "bare:1" not in search(db, since="2020-01-02") and search(db, until="2020-01-01") == []
    db.execute("SELECT modelstore.archive_model('llama:2')")
    assert search(db) == ["bare:1", "llama:1", "org/all-MiniLM_L6:1"]
    (license, tags) = db.execute("SELECT license, tags FROM modelstore.list_models('llama') WHERE version = '1'").fetchone()
    assert (license, tags) == ("Llama3", ["chat"])
    # Each word is looked up in each card: there is a limit.
    assert search(db, words="ab " * 3333) == []
    assert refusal(db, "SELECT * FROM modelstore.search_models(repeat('ab ', 3334))").sqlstate == "54000"
    (rank,) = db.execute("SELECT rank > 0 FROM modelstore.search_models('chat')").fetchone()
    assert rank is True


def test_search_by_metrics(db) -> None:
    logged = {
        "a": [("sst2", {"accuracy": 0.9, "eval_loss": 0.3}), ("mrpc", {"accuracy": 0.5})],
        "b": [("sst2", {"accuracy": 0.7}), ("sst2", {"accuracy": 0.95, "eval_loss": 0.4, "lossless": 2})],
        "c": [("sst2", {"accuracy": "NaN", "lossless": 1})],
        "d": [],
    }
    for name, evaluations in logged.items():
        register(db, name)
        for dataset, metrics in evaluations:
            db.execute("SELECT modelstore.log_evaluation(%s, %s, %s)", (name, dataset, Jsonb(metrics)))

    def values(**arguments: object) -> list[tuple[str, float | None]]:
        named = ", ".join(f"{name} => %s" for name in arguments)
        return db.execute(f"SELECT model_name, metric FROM modelstore.search_models({named})", tuple(arguments.values())).fetchall()

    assert values(metric="accuracy") == [("b", 0.95), ("a", 0.5)]
    assert values(metric="accuracy", dataset="sst2") == [("b", 0.95), ("a", 0.9)]
    assert values(metric="accuracy", lowest_first=True) == [("a", 0.5), ("b", 0.95)]
    assert values(metric="eval_loss") == [("a", 0.3), ("b", 0.4)]
    assert values(metric="lossless") == [("b", 2.0), ("c", 1.0)]
    assert values(dataset="sst2") == [("a", None), ("b", None), ("c", None)]
    assert values(dataset="mrpc", words="a") == [] and values(metric="f1") == []
    # What is no number of double precision is no metric, and breaks no search.
    for number in ("1e400", "-1e-4000", "1e-320"):
        db.execute("SELECT modelstore.log_evaluation('d', 'x', %s::jsonb)", (f'{{"accuracy": {number}}}',))
        db.execute("SELECT * FROM modelstore.search_models(metric => 'accuracy')")
    assert values(metric="accuracy", dataset="x") == [("d", pytest.approx(1e-320))]
    db.execute("""UPDATE store.models SET evaluations = '[3, null, "x", {"metrics": 3, "dataset": {}}]' WHERE model_name = 'd'""")
    assert values(metric="accuracy", dataset="x") == []


def test_a_hostile_card_does_not_break_the_search_of_others(db) -> None:
    add(db, register(db, "good"), "README.md", CARD.encode())
    tags = ", ".join(uuid.UUID(int=n).hex + "x" * 60 for n in range(9000))
    add(db, register(db, "bad"), "README.md", (f"---\ntags: [{tags}]\n---\n" + " ".join(str(n) for n in range(50_000))).encode())
    assert search(db, words="clustering") == ["good:1"]

"""What a push sends: the files of a folder, one file, a file by torch.save, or a state_dict."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import pathlib
import pickle
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Union
from uuid import UUID

from .safetensors import FileSource, Source, TensorsSource
from .values import ArrayLike, need_torch

PushSource = Union[str, "os.PathLike[str]", Mapping[str, ArrayLike]]

STATE = ".pg_modelstore-push.json"
# Files up to this size are sent with the statement that adds them; larger ones by an upload.
SMALL = 1 << 20
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_BIN = re.compile(r"pytorch_model(-\d{5}-of-\d{5})?\.bin")
_BIN_INDEX = "pytorch_model.bin.index.json"
# The rank of an index.
LAST = 2


@dataclass
class File:
    """A file of a push."""

    name: str
    source: Source
    stamp: list[int]
    small: bool
    upload_id: UUID | None = None
    sha256: bytes = b""
    data: bytes = b""

    @property
    def rank(self) -> int:
        """Where it comes in the transaction that makes the model: the config first, as it says what the names of the weights do
        not; an index last, as it is checked against its shards."""
        index = ".index." in self.name and self.name.endswith(".json")
        return 0 if self.name == "config.json" else LAST if index else 1

    def read(self) -> None:
        """Takes a small file into memory."""
        # Copies: a part is valid until the next one.
        self.data = b"".join(bytes(part) for part in self.source.parts(0, self.source.size, SMALL))
        self.sha256 = hashlib.sha256(self.data).digest()


Files = list[File]


def files_of(source: PushSource, exclude: Sequence[str]) -> Files:
    """The files of a source, in their order in the folder."""
    if isinstance(source, Mapping):
        if not source:
            raise ValueError("a state_dict without tensors is no model")
        tensors = TensorsSource(source)
        return [File("model.safetensors", tensors, [tensors.size], small=False)]
    path = pathlib.Path(source)
    if path.is_dir():
        return list(_folder(path, exclude))
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}; a push reads a folder or a file of this machine")
    if path.suffix in (".npz", ".npy"):
        raise ValueError(f"{path.name} is a file of numpy: load it, and push a mapping of names to arrays")
    if path.suffix in PICKLES:
        return [_converted(path, "model.safetensors")]
    return [_file(path, path.name)]


def _folder(folder: pathlib.Path, exclude: Sequence[str]) -> Iterator[File]:
    names = []
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        ours = relative.name == STATE or (relative.name.startswith(".") and relative.name.endswith((STATE, ".part")))
        hidden = any(part.startswith(".") for part in relative.parts[:-1])
        name = relative.as_posix()
        if ours or hidden or any(fnmatch.fnmatch(name, pattern) for pattern in exclude):
            continue
        if path.is_symlink() and not path.is_file():
            # As in a cache that is incomplete. What is left out silently would be missed later.
            what = "a folder, which a push does not follow" if path.is_dir() else "a file that is missing"
            raise FileNotFoundError(f"{path} is a symbolic link to {what}; `exclude` leaves it out")
        if path.is_file():
            _check_name(path, name)
            names.append(name)
    if not names:
        raise FileNotFoundError(f"{folder} has no files to push")
    convert = not any(name.endswith(".safetensors") for name in names) and any(_BIN.fullmatch(name) for name in names)
    for name in names:
        if convert and _BIN.fullmatch(name):
            yield _converted(folder / name, _renamed(name))
        elif convert and name == _BIN_INDEX:
            index = renamed_index((folder / name).read_bytes())
            yield File("model.safetensors.index.json", _Bytes(index), [], small=True)
        else:
            yield _file(folder / name, name)


def _check_name(path: pathlib.Path, name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the name of {os.fsencode(path)!r} is not UTF-8; rename the file, or leave it out by `exclude`") from None


def _renamed(name: str) -> str:
    return name.removeprefix("pytorch_").removesuffix(".bin") + ".safetensors"


def renamed_index(data: bytes) -> bytes:
    """The index of shards by torch.save, for the safetensors files that they become."""
    index = json.loads(data)
    index["weight_map"] = {weight: _renamed(shard) for weight, shard in index["weight_map"].items()}
    return json.dumps(index, indent=2).encode()


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self.data, self.size = data, len(data)

    def parts(self, offset: int, end: int, part_bytes: int) -> Iterator[memoryview]:
        yield memoryview(self.data)[offset:end]


def _file(path: pathlib.Path, name: str) -> File:
    stat = path.stat()
    return File(name, FileSource(path), [stat.st_size, stat.st_mtime_ns], small=stat.st_size <= SMALL)


def _converted(path: pathlib.Path, name: str) -> File:
    """A file by torch.save as a safetensors file. Only tensors are unpickled, never code."""
    torch = need_torch(f"{path.name} was written by torch.save; converting it")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(f"{path.name} holds something other than tensors, which only running its code would read") from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping):
        raise TypeError(f"{path.name} holds a {type(state).__name__}, not a state_dict")
    source = TensorsSource(state)
    return File(name, source, [source.size, path.stat().st_mtime_ns], small=False)


def state_path(source: PushSource, state: os.PathLike[str] | str | bool) -> pathlib.Path | None:
    """The file that remembers the uploads of a push: in the folder, or hidden beside the file."""
    if state is False:
        return None
    if state is not True:
        return pathlib.Path(state)
    if isinstance(source, Mapping):
        return None
    path = pathlib.Path(source)
    if path.is_dir():
        return path / STATE
    name = path.name if len(os.fsencode(path.name)) < 200 else hashlib.sha256(os.fsencode(path.name)).hexdigest()
    return path.with_name(f".{name}{STATE}")

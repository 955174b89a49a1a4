"""What stores in object services have in common: addresses, one client a process, batches in flight, the probe.

The calls of a service are coroutines of an fsspec file system, run on fsspec's own loop, so a thousand small reads are
in flight at once without a thread for each. What is here calls fsspec only, which is enough for services whose
file system creates with a condition (`mode="create"`); `s3` says its own.

Nothing is cached: a listing or record is asked for each time. A client belongs to the process that made it; a
forked child makes its own. Credentials are the service's usual ones (environment, files, instance roles) and are never
part of an address.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, BinaryIO, ClassVar, TypeVar, cast

from penstock.errors import ConfigurationError, StoreError, StoreNotWritable, StoreRefused, StoreUnreachable
from penstock.storage.stores.base import MAX_RECORD_BYTES, Conditions, Listed, Reach, check_name, check_record
from penstock.storage.stores.deadlines import Deadlines
from penstock.storage.stores.indexing import IndexedReads, LookupIndex, closing_name
from penstock.storage.stores.locations import parse_location
from penstock.storage.stores.probing import VERDICT_NAME, probe, read_verdict, written_verdict

IN_FLIGHT = 64
"""Requests of one batch that are under way at the same time."""
CALL_SECONDS = 20.0
"""A service that says nothing for so long has not answered."""

_Answer = TypeVar("_Answer")
_Records = list[bytes | None]
Page = list[tuple[str, int, float]]
_log = logging.getLogger("penstock.store")


class ObjectStore(ABC):
    """A `Store` in a bucket, or in a folder of one. Subclasses say how to reach their service and what it answers.

    Safe for threads and after a fork; pickles to its address. With `trusted=true` in the address whoever can write
    to the bucket is trusted like one's own code, so that pickles are read (penstock.storage.stores.base).
    """

    options: ClassVar[Sequence[str]] = ("trusted",)
    """What may follow the `?` of an address."""
    extra: ClassVar[str] = ""
    """Of this package, with what the service needs."""
    variables: ClassVar[str] = ""
    """The beginning of the environment variables that the service's client reads."""

    def __init__(self, address: str) -> None:
        self._location = parse_location(address, known=self.options)
        self._conditions: Conditions | None = None
        self._indexed: IndexedReads | None = None
        self._deadlines = Deadlines(self._location.url)

    def use_index(self, index: LookupIndex) -> None:
        """From now on large batches of records are asked of the index first, and new ones are told to it.

        Of this object only: it does not travel with a pickle.
        """
        self._indexed = IndexedReads(self, index)

    @property
    def url(self) -> str:
        return self._location.url

    @property
    def reach(self) -> Reach:
        return "network"

    @property
    def trusted(self) -> bool:
        return self._location.option("trusted") in ("true", "1", "yes")

    def local_path(self, name: str) -> str | None:
        check_name(name)
        return None

    # -- records

    def get(self, name: str) -> bytes | None:
        return self.read_many((name,))[0]

    def get_many(self, names: Sequence[str]) -> list[bytes | None]:
        return self.read_many(names) if self._indexed is None else self._indexed.get_many(names)

    def read_many(self, names: Sequence[str]) -> list[bytes | None]:
        """As `get_many`, of the service itself."""
        keys = [self._key(name) for name in names]
        return self._call(lambda fs: self._read_many(fs, keys)) if keys else []

    def note_closing(self, name: str) -> None:
        closing = closing_name(name)
        if closing is not None:
            self.put(closing, b"{}")

    def put_if_absent(self, name: str, data: bytes) -> bool:
        written = self._put_if_absent(name, data)
        if written and self._indexed is not None:
            self._indexed.wrote(name, data)
        return written

    def _put_if_absent(self, name: str, data: bytes) -> bool:
        key = self._key(name, data)
        if not self.conditions().enforced:
            # The best that is left. Whatever must exclude has asked `conditions` itself.
            if self.get(name) is not None:
                return False
            self.put(name, data)
            return True
        return self._call(lambda fs: self._create(fs, key, data), commits=True)

    def put(self, name: str, data: bytes, *, durable: bool = True) -> None:
        key = self._key(name, data)
        self._call(lambda fs: self._write(fs, key, data))

    def delete(self, name: str) -> None:
        key = self._key(name)
        self._call(lambda fs: self._remove(fs, key))

    def list(self, prefix: str) -> Iterator[Listed]:
        if prefix:
            check_name(prefix.removesuffix("/"))
        return self._listed(prefix)

    def _listed(self, prefix: str) -> Iterator[Listed]:
        root, mark = self._location.prefix, None
        while True:
            page, mark = self._call(functools.partial(self._page, prefix=root + prefix, mark=mark))
            for key, size, modified in page:
                name = key[len(root) :]
                # What begins with a dot is the store's own; a "folder" some tools make is an empty object.
                if not name.startswith(".") and "/." not in name and not name.endswith("/"):
                    yield Listed(name, size, modified)
            if mark is None:
                return

    # -- payloads

    @contextmanager
    def create(self, name: str) -> Iterator[BinaryIO]:
        upload = self._upload(self._key(name))
        try:
            yield cast(BinaryIO, upload)
            upload.finish()
        except BaseException:
            upload.abandon()
            raise

    def open(self, name: str) -> BinaryIO:
        return self._download(self._key(name))

    def _download(self, key: str) -> BinaryIO:
        fs = self._filesystem(commits=False)
        try:
            return cast(BinaryIO, fs.open(f"{self._location.bucket}/{key}", "rb"))
        except FileNotFoundError:
            raise
        except Exception as error:
            raise self._meaning(error, "reading", key) from error

    # -- the probe

    def conditions(self, *, afresh: bool = False) -> Conditions:
        found = self._conditions
        if found is None or afresh:
            found = None if afresh else self._remembered()
            if found is None:
                found = self._probed()
            self._conditions = found
            if not found.enforced:
                _log.warning(
                    "%s does not enforce conditional writes (%s%s): two runs that compute the same key at the same "
                    "time may see different results, and keys cannot be locked",
                    self.url,
                    found.verdict,
                    ", the bucket is versioned" if found.versioned else "",
                )
        return found

    def _remembered(self) -> Conditions | None:
        data = self._call(lambda fs: self._read(fs, self._location.prefix + VERDICT_NAME))
        return None if data is None else read_verdict(data, now=time.time())

    def _probed(self) -> Conditions:
        root = self._location.prefix
        verdict = probe(
            create=lambda name, data: self._call(lambda fs: self._create(fs, root + name, data), commits=True),
            put=lambda name, data: self._call(lambda fs: self._write(fs, root + name, data)),
            get=lambda name: self._call(lambda fs: self._read(fs, root + name)),
            delete=lambda name: self._call(lambda fs: self._remove(fs, root + name)),
        )
        found = Conditions(verdict, self._call(self._versioned), time.time())
        self._call(lambda fs: self._write(fs, root + VERDICT_NAME, written_verdict(found)))
        return found

    # -- calls of the service, for subclasses to replace

    @abstractmethod
    def _new_filesystem(self, *, commits: bool) -> Any:
        """An fsspec file system without caches. With `commits` it repeats a request once at the most."""

    def _twin(self, *, commits: bool) -> Any:
        """The file system of this service with the other value of `commits`, if this process has it already."""
        return _filesystems.get(self._client_key(not commits))

    def _meaning(self, error: BaseException, doing: str, key: str) -> StoreError:
        """What an exception of the service's client says about the store."""
        if isinstance(error, StoreError):
            return error
        where, because = self._location.path(key), f"{type(error).__name__}: {error}"
        if isinstance(error, PermissionError):
            kind = StoreRefused if doing in ("reading", "listing") else StoreNotWritable
            return kind(f"{doing} was refused", where=where, because=because)
        return StoreUnreachable(f"{doing} failed", where=where, because=because)

    async def _read(self, fs: Any, key: str) -> bytes | None:
        """At most a byte more than a record may have, None if there is no such object."""
        try:
            data: bytes = await self._in_time(fs._cat_file(self._location.path(key)), "reading", key)
        except FileNotFoundError:
            return None
        except Exception as error:
            raise self._meaning(error, "reading", key) from error
        return data[: MAX_RECORD_BYTES + 1]

    async def _write(self, fs: Any, key: str, data: bytes) -> None:
        try:
            await self._in_time(fs._pipe_file(self._location.path(key), data), "writing", key, len(data))
        except Exception as error:
            raise self._meaning(error, "writing", key) from error

    async def _create(self, fs: Any, key: str, data: bytes) -> bool:
        """Write on the condition that nothing is there; False if something is."""
        try:
            request = fs._pipe_file(self._location.path(key), data, mode="create")
            await self._in_time(request, "writing", key, len(data))
        except FileExistsError:
            return False
        except Exception as error:
            raise self._meaning(error, "writing", key) from error
        return True

    async def _remove(self, fs: Any, key: str) -> None:
        try:
            await self._in_time(fs._rm_file(self._location.path(key)), "deleting", key)
        except FileNotFoundError:
            return
        except Exception as error:
            raise self._meaning(error, "deleting", key) from error

    async def _page(self, fs: Any, prefix: str, mark: Any) -> tuple[Page, Any]:
        """Keys with size and time from `mark` on, in order, and the mark of the next page."""
        folder, stem = self._location.path(prefix).rstrip("/"), f"{self._location.bucket}/"
        try:
            found = await fs._find(folder, detail=True)
        except FileNotFoundError:
            return [], None
        except Exception as error:
            raise self._meaning(error, "listing", prefix) from error
        page = [(path.removeprefix(stem), int(info["size"]), modified_of(info)) for path, info in found.items()]
        return sorted(entry for entry in page if entry[0].startswith(prefix)), None

    async def _versioned(self, fs: Any) -> bool | None:
        return None

    def _upload(self, key: str) -> Any:
        """A file to write to with `finish` and `abandon`."""
        return _FileUpload(self, self._filesystem(commits=False), key)

    # -- running them

    async def _in_time(self, request: Awaitable[_Answer], doing: str, key: str, size: int = 0) -> _Answer:
        """The answer to one request; raises `StoreUnreachable` at its deadline."""
        return await self._deadlines.keep(request, doing, self._location.path(key), size=size)

    def _key(self, name: str, data: bytes | None = None) -> str:
        if data is not None:
            check_record(name, data)
        return self._location.prefix + check_name(name)

    async def _read_many(self, fs: Any, keys: Sequence[str]) -> _Records:
        found: _Records = [None] * len(keys)
        todo = iter(enumerate(keys))

        async def reader() -> None:
            for i, key in todo:
                found[i] = await self._read(fs, key)

        readers = [asyncio.ensure_future(reader()) for _ in range(min(IN_FLIGHT, len(keys)))]
        try:
            await asyncio.gather(*readers)
        finally:
            for each in readers:
                each.cancel()
        return found

    def _call(self, make: Callable[[Any], Coroutine[Any, Any, _Answer]], *, commits: bool = False) -> _Answer:
        """Run a coroutine on fsspec's loop and wait for it."""
        fs = self._filesystem(commits=commits)  # first: it names the extra to install if the packages are missing
        from fsspec.asyn import sync  # on use: only buckets need it

        answer: _Answer = sync(fs.loop, make, fs)
        return answer

    def _filesystem(self, *, commits: bool) -> Any:
        key = self._client_key(commits)
        # Of two threads that are here at once one makes a client that nobody uses and that has opened nothing.
        found = _filesystems.get(key)
        if found is None:
            found = _filesystems.setdefault(key, self._made_filesystem(commits))
        return found

    def _client_key(self, commits: bool) -> tuple[Any, ...]:
        mine = {name: value for name, value in os.environ.items() if self.variables and name.startswith(self.variables)}
        return os.getpid(), type(self), self._location.options, commits, _fingerprint(mine)

    def _made_filesystem(self, commits: bool) -> Any:
        try:
            return self._new_filesystem(commits=commits)
        except ImportError as error:
            raise ConfigurationError(
                f"{self._location.scheme}:// needs a package that is not installed",
                where=self.url,
                because=str(error),
                hint=f"pip install 'penstock[{self.extra}]'",
            ) from error
        except Exception as error:
            raise self._meaning(error, "reading", "") from error

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.url,)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"


# A client is a pool of connections and takes a tenth of a second to make: a process has one for each service, whatever
# number of runs opens the store. Another process's are left alone, and changed variables lead to another client.
_filesystems: dict[tuple[Any, ...], Any] = {}


def _fingerprint(variables: Mapping[str, str]) -> str:
    return hashlib.sha256(repr(sorted(variables.items())).encode()).hexdigest()


def modified_of(info: Mapping[str, Any]) -> float:
    """When an object was written, of what fsspec's file systems say about it."""
    for name in ("LastModified", "last_modified", "mtime", "updated"):
        moment = info.get(name)
        if isinstance(moment, datetime):
            return moment.timestamp()
    return 0.0


class _FileUpload:
    """A payload by way of fsspec's own file, which is visible only once it was committed."""

    def __init__(self, store: ObjectStore, fs: Any, key: str) -> None:
        self._store, self._key = store, key
        self._path = f"{store._location.bucket}/{key}"
        self._file = self._do(lambda: fs.open(self._path, "xb"))

    def write(self, data: Any) -> int:
        return self._do(lambda: int(self._file.write(data)))

    def finish(self) -> None:
        self._do(self._file.close)

    def abandon(self) -> None:
        self._file.discard()
        self._file.closed = True  # or fsspec would commit what it holds when the object goes

    def _do(self, step: Callable[[], _Answer]) -> _Answer:
        try:
            return step()
        except FileExistsError as error:
            raise taken(self._store._location.path(self._key)) from error
        except Exception as error:
            raise self._store._meaning(error, "writing", self._key) from error


def taken(where: str) -> StoreError:
    """A payload's name that is not free."""
    return StoreError("a payload is written once", where=where, because="the name is taken")

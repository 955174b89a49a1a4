"""The common base of stores in object services: addresses, one client per process, concurrent batches, the probe.

Calls of a service are coroutines of an fsspec file system that run on fsspec's own loop, so that many small reads are
concurrent without a thread for each. This module only uses fsspec, which is enough for services whose file system
supports conditional creation (`mode="create"`); `s3` has its own implementation.

Nothing is cached: every listing and record is requested from the service. A client belongs to the process that created
it; a forked child creates its own. Credentials are found in the service's usual ways (environment, files, instance
roles) and are never part of an address.
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
from penstock.storage.stores.locations import TRUSTED, parse_location
from penstock.storage.stores.probing import VERDICT_NAME, probe, read_verdict, written_verdict

IN_FLIGHT = 64
"""The number of concurrent requests of a batch."""
CALL_SECONDS = 20.0
"""The timeout for silence of a service."""

_Answer = TypeVar("_Answer")
_Records = list[bytes | None]
Page = list[tuple[str, int, float]]
_log = logging.getLogger("penstock.store")


class ObjectStore(ABC):
    """A `Store` in a bucket or a folder of one. Subclasses implement the access to their service.

    Safe for use by several threads and after a fork. Pickled as its address. With `trusted=true` in the address,
    everyone who can write to the bucket is trusted like one's own code, so that pickles are read.
    """

    options: ClassVar[Sequence[str]] = ("trusted",)
    """The options that an address may have after the `?`."""
    extra: ClassVar[str] = ""
    """The extra of Penstock with the packages for the service."""
    variables: ClassVar[str] = ""
    """The prefix of the environment variables that the service's client reads."""

    def __init__(self, address: str) -> None:
        self._location = parse_location(address, known=self.options)
        self._conditions: Conditions | None = None
        self._indexed: IndexedReads | None = None
        self._deadlines = Deadlines(self._location.url)

    def use_index(self, index: LookupIndex) -> None:
        """Use an index for large batches of records, and add new records to it.

        Applies to this object only; the index is not pickled.
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
        return TRUSTED.get(self._location.option("trusted") or "", False)

    def local_path(self, name: str) -> str | None:
        check_name(name)
        return None

    # -- records

    def get(self, name: str) -> bytes | None:
        return self.read_many((name,))[0]

    def get_many(self, names: Sequence[str]) -> list[bytes | None]:
        return self.read_many(names) if self._indexed is None else self._indexed.get_many(names)

    def read_many(self, names: Sequence[str]) -> list[bytes | None]:
        """Return what `get_many` returns, reading from the service itself."""
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
            # Not atomic. Callers that need mutual exclusion check `conditions` themselves.
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
                # Names with a dot are the store's own. Some tools create empty objects as "folders".
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

    # -- calls of the service, which subclasses may override

    @abstractmethod
    def _new_filesystem(self, *, commits: bool) -> Any:
        """Create an fsspec file system without caches. With `commits`, it repeats requests at most once."""

    def _twin(self, *, commits: bool) -> Any:
        """Return the file system with the other value of `commits`, if this process already has one."""
        return _filesystems.get(self._client_key(not commits))

    def _meaning(self, error: BaseException, doing: str, key: str) -> StoreError:
        """Translate an exception of the service's client to an error of the store."""
        if isinstance(error, StoreError):
            return error
        where, because = self._location.path(key), f"{type(error).__name__}: {error}"
        if isinstance(error, PermissionError):
            kind = StoreRefused if doing in ("reading", "listing") else StoreNotWritable
            return kind(f"{doing} was refused", where=where, because=because)
        return StoreUnreachable(f"{doing} failed", where=where, because=because)

    async def _read(self, fs: Any, key: str) -> bytes | None:
        """Read at most one byte more than a record may have. Returns None if the object does not exist."""
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
        """Write an object if it does not exist. Return False if it does."""
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
        """Return keys with sizes and times from `mark` on, in order, and the mark of the next page."""
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
        """Return a file to write to with the methods `finish` and `abandon`."""
        return _FileUpload(self, self._filesystem(commits=False), key)

    # -- running calls

    async def _in_time(self, request: Awaitable[_Answer], doing: str, key: str, size: int = 0) -> _Answer:
        """Return the answer to a request. Raises `StoreUnreachable` at its deadline."""
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
        # Two concurrent threads may create a client each; the unused one has no connections.
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
                f"stores at {self._location.scheme}:// need a package that is not installed",
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


# A client is a pool of connections and takes a tenth of a second to create, so a process has one for each service,
# whatever number of runs open the store. Clients of a parent process are not used, and changed variables lead to
# another client.
_filesystems: dict[tuple[Any, ...], Any] = {}


def _fingerprint(variables: Mapping[str, str]) -> str:
    return hashlib.sha256(repr(sorted(variables.items())).encode()).hexdigest()


def modified_of(info: Mapping[str, Any]) -> float:
    """Return the modification time in fsspec's information about an object."""
    for name in ("LastModified", "last_modified", "mtime", "updated"):
        moment = info.get(name)
        if isinstance(moment, datetime):
            return moment.timestamp()
    return 0.0


class _FileUpload:
    """A payload written through fsspec's own file, which becomes visible only when it is committed."""

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
        self._file.closed = True  # otherwise fsspec would commit its buffer when the object is deleted

    def _do(self, step: Callable[[], _Answer]) -> _Answer:
        try:
            return step()
        except FileExistsError as error:
            raise taken(self._store._location.path(self._key)) from error
        except Exception as error:
            raise self._store._meaning(error, "writing", self._key) from error


def taken(where: str) -> StoreError:
    """Return the error for a payload whose name is taken."""
    return StoreError("cannot write a payload twice", where=where, because="the name is taken")

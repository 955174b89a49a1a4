"""Lazy inputs: a parameter annotated as a pyarrow Dataset receives a stored table that is scanned, not loaded.

    @task
    def total(table: pyarrow.dataset.Dataset) -> float: ...

    total(large())      # `large` may return a table of any size: no worker ever holds all of it

The same applies to `list[Dataset]`, `dict[str, Dataset]`, `Dataset | None` and `*tables: Dataset`. The annotation does
not change keys, which contain the digest of the value.
"""

from __future__ import annotations

import importlib
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from penstock.digests.python import register_digest
from penstock.digests.refs import Ref
from penstock.errors import DamagedResult, is_a
from penstock.graph.arguments import taken, walk
from penstock.objects.chains import links_of
from penstock.objects.texts import text_of
from penstock.storage.records.records import ResultRecord
from penstock.storage.results.store import ResultStore
from penstock.storage.results.stored import StoredResult
from penstock.worker.messages import Call, Input

# A stored result has the digest of its value, wherever it is stored.


def _digest_of(stored: StoredResult) -> str:
    return stored.record.digest


register_digest(StoredResult, _digest_of)  # a function with a name is short in messages to workers

_WRITTEN = r"\b(?:pyarrow\.dataset|ds|pads|pa_ds)\.Dataset\b"
"""Matches annotations that cannot be evaluated because their imports are for type checkers only."""


_WRONG = "checksum verification failed"
_MISSING = "No such file"
"""Messages of pyarrow for a damaged page and a removed file, also inside errors of other libraries such as DuckDB."""


def lazy_parameters(fn: Callable[..., Any]) -> frozenset[str]:
    """Return the parameters of a function that are annotated as pyarrow Datasets or containers of them."""
    annotations = _annotations(fn)
    return frozenset(name for name, each in annotations.items() if name != "return" and _is_lazy(each, fn))


def _annotations(fn: Callable[..., Any]) -> Mapping[str, Any]:
    try:
        return getattr(fn, "__annotations__", None) or {}
    except NameError:  # since Python 3.14 they are evaluated here, and names may exist for type checkers only
        library: Any = importlib.import_module("annotationlib")
        found: Mapping[str, Any] = library.get_annotations(fn, format=library.Format.STRING)
        return found


def _is_lazy(annotation: Any, fn: Callable[..., Any]) -> bool:
    if isinstance(annotation, str):
        if "Dataset" not in annotation:
            return False
        try:
            annotation = eval(annotation, getattr(fn, "__globals__", {}))
        except Exception:  # noqa: BLE001 (annotations are the user's code)
            return re.search(_WRITTEN, annotation) is not None
    return _names_dataset(annotation)


def _names_dataset(annotation: Any) -> bool:
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return any(base.__name__ == "Dataset" and base.__module__.startswith("pyarrow") for base in annotation.__mro__)
    return any(map(_names_dataset, typing.get_args(annotation)))


def filled_lazily(argument: Any, scan_input: Callable[[int], Any]) -> Any:
    """Return an argument with results of other nodes and stored results opened as Datasets."""

    def leaf(value: Any) -> Any:
        if type(value) is Ref:
            return scan_input(value.node)
        return value.scan() if type(value) is StoredResult else taken(value)

    return walk(argument, leaf)


def scanned(source: Input, open_results: Callable[[str | None], ResultStore], fetch: Callable[[Any], Any]) -> Any:
    """Open an input as a Dataset: over its files if it is stored, else over the value in memory.

    Raises `DamagedResult`, and `SerializationError` if it is not a table.
    """
    if source.record is not None:
        return open_results(source.store).scan(source.record)
    from penstock.storage.formats.parts.scanning import dataset_of_value  # imports pyarrow

    return dataset_of_value(fetch(source.handle))


def lost_input(
    call: Call, error: BaseException, lazy: bool, open_results: Callable[[str | None], ResultStore]
) -> tuple[int, ResultRecord] | None:
    """Return the input whose stored bytes a task found missing or damaged while reading them itself, or None.

    This concerns values that pyarrow, Dask and Ray read while they are used: datasets, and with `lazy` all tables.
    """
    errors = list(_chain(error))
    stored = [(n, source, source.record) for n, source in call.inputs.items() if source.record is not None]
    for each in errors:
        if is_a(each, DamagedResult):
            where: str = each.where
            return next(((node, record) for node, _, record in stored if where.startswith(record.files)), None)
    # Pyarrow reports a missing file, wrong checksum or corrupt page without our error, so the files must be checked.
    corrupt = any(_of_arrow(each) or _WRONG in text_of(each) for each in errors)
    if not corrupt and not any(map(_of_missing_file, errors)):
        return None
    for node, source, record in stored:
        if (lazy or record.lazy) and _is_damaged(open_results(source.store), record, whole=corrupt):
            return node, record
    return None


def _is_damaged(results: ResultStore, record: ResultRecord, *, whole: bool) -> bool:
    """Return whether a file is missing or has the wrong size; with `whole`, or any wrong byte."""
    from penstock.storage.formats.parts.manifests import value_files

    try:
        files = value_files(results.store, record)
        for file in files:
            file.open().close()
        for file in files if whole else ():
            file.verify()
    except DamagedResult:
        return True
    return False


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error and its causes."""
    for _ in range(8):
        if error is None:
            return
        yield error
        links = links_of(error)
        error = links.context if links.cause is None else links.cause


def _of_missing_file(error: BaseException) -> bool:
    return is_a(error, FileNotFoundError) or _MISSING in text_of(error)


def _of_arrow(error: BaseException) -> bool:
    """Return whether pyarrow raised the error about data it read."""
    if not issubclass(type(error), OSError | ValueError):
        return False
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code.co_filename.replace("\\", "/").startswith("pyarrow/")

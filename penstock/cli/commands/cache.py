"""`penstock cache`: list, read about, remove, collect and verify stored results."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import click
import msgspec

from penstock.cli.failures import FAILED
from penstock.cli.options import Invocation, as_seconds_or_number, json_option, shared_options
from penstock.cli.output import confirmed, duration, moment, print_document, say, size, table
from penstock.cli.stored import find_result, find_task
from penstock.errors import UsageError
from penstock.objects.texts import clean
from penstock.storage.records.records import RedirectRecord, ResultRecord
from penstock.storage.results import copying, maintenance, purging
from penstock.storage.results.maintenance import Summary
from penstock.storage.results.store import ResultStore
from penstock.storage.stores.base import DiskStore


@click.group()
@shared_options
def cache() -> None:
    """Inspect, copy and remove the results of a store."""


@cache.command()
@click.argument("task", required=False)
@json_option
@shared_options
@click.pass_obj
def ls(invocation: Invocation, task: str | None) -> None:
    """List the current results of a store, or of one TASK (with or without its module)."""
    results = _results(invocation)
    summaries = list(maintenance.ls(results, task=find_task(results, task) if task else None))
    total = sum(summary.size for summary in summaries)
    if invocation.json:
        facts = [_plain(summary) for summary in summaries]
        print_document("cache-ls", {"store": results.store.url, "bytes": total, "results": facts})
        return
    rows = [
        (each.task, each.key[:16], size(each.size), each.codec, moment(each.created), _expiry(each.expires))
        for each in summaries
    ]
    if rows:
        say(table(("task", "key", "size", "codec", "created", "expires"), rows, right=("size",)))
    say(f"{len(rows)} results, {size(total)}, in {results.store.url}")


@cache.command()
@click.argument("key")
@json_option
@shared_options
@click.pass_obj
def show(invocation: Invocation, key: str) -> None:
    """Show the record of one result, the place of its value, and how to read it without Penstock.

    KEY is a cache key or its beginning.
    """
    results = _results(invocation)
    found = find_result(results, key)
    slots = maintenance.show(results, found.task, found.key)
    record = next(slot for slot in reversed(slots) if isinstance(slot, ResultRecord))
    path = _path(results, record)
    reading = _reading(record, path)
    if invocation.json:
        facts = {"record": record, "generations": slots, "path": path, "read_with": reading}
        print_document("cache-show", {"store": results.store.url, **facts})
        return
    rows = dict([*_described(record), *_signature(results, record)])
    width = max(map(len, rows))
    for name, value in rows.items():
        say(f"{name:<{width}}  {value}")
    for slot in slots:
        if isinstance(slot, RedirectRecord):
            say(f"{f'generation {slot.generation}':<{width}}  closed ({slot.reason}) {moment(slot.created)}")
    if path:
        say(f"\n{path}")
    for line in reading:
        say(f"  {line}")


@cache.command()
@click.argument("key", required=False)
@click.option("--task", help="Remove all results of this task.")
@click.option("--expired", is_flag=True, help="Remove all expired results.")
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@json_option
@shared_options
@click.pass_obj
def rm(invocation: Invocation, key: str | None, task: str | None, expired: bool, dry_run: bool, yes: bool) -> int:
    """Remove the result of KEY (or of its beginning), all results of a task, or all expired results."""
    if sum((key is not None, task is not None, expired)) != 1:
        raise UsageError("it is not clear what to remove", hint="give either a KEY, or --task, or --expired")
    results = _results(invocation)
    doomed = _doomed(results, key, task)
    if dry_run:
        if invocation.json:
            print_document("cache-rm", {"store": results.store.url, "dry_run": True, "removed": len(doomed)})
        for each in () if invocation.json else doomed:
            say(f"would remove {each.key} of {each.task} ({size(each.size)})")
        return 0
    if not yes and doomed:
        what = f"{doomed[0].key} of {doomed[0].task}" if len(doomed) == 1 else f"{len(doomed)} results"
        if not confirmed(clean(f"Remove {what} ({size(sum(each.size for each in doomed))})?")):
            say("nothing was removed", err=True)
            return FAILED
    removed = sum(maintenance.rm(results, each.task, each.key) for each in doomed)
    if invocation.json:
        print_document("cache-rm", {"store": results.store.url, "removed": removed})
    else:
        say(f"removed {removed} result{'' if removed == 1 else 's'}")
    return 0


def _doomed(results: ResultStore, key: str | None, task: str | None) -> list[Summary]:
    if key is not None:
        return [find_result(results, key, for_all="--task")]
    if task is not None:
        return list(maintenance.ls(results, task=find_task(results, task)))
    return [each for each in maintenance.ls(results) if each.expires is not None and each.expires <= time.time()]


@cache.command()
@click.option(
    "--grace",
    callback=as_seconds_or_number,
    default=f"{maintenance.DAY}",
    metavar="AGE",
    help="Keep files younger than this: 12h, 30d; a number counts seconds. By default a day.",
)
@click.option("--purge", is_flag=True, help="Also forget results that were removed or replaced more than 30 days ago.")
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
@json_option
@shared_options
@click.pass_obj
def gc(invocation: Invocation, grace: float, purge: bool, dry_run: bool) -> None:
    """Delete expired results and files that no lookup can reach any more. Safe beside running flows."""
    results = _results(invocation)
    report = maintenance.gc(results, grace_seconds=grace, dry_run=dry_run)
    purged = purging.purge(results, dry_run=dry_run) if purge else None
    if invocation.json:
        more = {} if purged is None else {"purged": _plain(purged)}
        print_document("cache-gc", {"store": results.store.url, "dry_run": dry_run, **_plain(report), **more})
        return
    verb = "would remove" if dry_run else "removed"
    say(f"{verb} {report.payloads} files ({size(report.bytes)}) and {report.leftovers} leftovers")
    if report.closed:
        ended = "1 result that" if report.closed == 1 else f"{report.closed} results that"
        say(f"{verb} {ended} expired or whose writer is gone")
    if purged is not None:
        what = f"{purged.records} old records, {purged.recipes} recipes and {purged.closings} closings"
        say(f"{'would purge' if dry_run else 'purged'} {what} ({size(purged.bytes)})")


@cache.command()
@json_option
@shared_options
@click.pass_obj
def verify(invocation: Invocation) -> int:
    """Verify every record and every byte of every result; exit with 1 if anything is damaged or wrongly signed."""
    results = _results(invocation)
    report = maintenance.verify(results)
    if invocation.json:
        print_document("cache-verify", {"store": results.store.url, **_plain(report)})
    else:
        for problem in report.problems:
            say(f"{problem.name}\n  {problem.what}")
        say(f"{report.records} records, {len(report.problems)} problems, {report.orphans} orphaned files")
        if report.problems:
            say("damaged results are computed again by the next run that needs them; results with a wrong or", err=True)
            say("missing signature stay refused until you remove or refresh them", err=True)
    return FAILED if report.problems else 0


@cache.command()
@json_option
@shared_options
@click.pass_obj
def du(invocation: Invocation) -> None:
    """Show the size of the files of each task, including closed generations and orphans."""
    results = _results(invocation)
    usage = maintenance.du(results)
    if invocation.json:
        print_document(
            "cache-du", {"store": results.store.url, "tasks": {name: _plain(u) for name, u in usage.items()}}
        )
        return
    ordered = sorted(usage.items(), key=lambda entry: -entry[1].bytes)
    if ordered:
        rows = [(name, str(each.results), size(each.bytes), _on_disk(each.disk)) for name, each in ordered]
        say(table(("task", "results", "size", "on disk"), rows, right=("results", "size", "on disk")))
    say(f"{size(sum(each.bytes for each in usage.values()))} in {results.store.url}")
    if isinstance(results.store, DiskStore):
        say(f"{size(results.store.disk_bytes(''))} on disk, with records, recipes, runs and folders")


def _on_disk(taken: int | None) -> str:
    return "-" if taken is None else size(taken)


@cache.command()
@click.argument("target", metavar="STORE")
@click.option("--task", help="Copy only the results of this task.")
@json_option
@shared_options
@click.pass_obj
def copy(invocation: Invocation, target: str, task: str | None) -> int:
    """Copy results to another STORE (a folder or a URL), so that they are hits there.

    Results that the other store already has are skipped.
    """
    results = _results(invocation)
    to = invocation.environment().results(target)
    if to.store.url == results.store.url:
        raise UsageError("a store cannot be copied into itself", where=to.store.url)
    report = copying.copy(results, to, task=find_task(results, task) if task else None)
    if invocation.json:
        print_document("cache-copy", {"store": results.store.url, "target": to.store.url, **_plain(report)})
    else:
        say(f"copied {report.results} results ({size(report.bytes)}), {report.kept} already existed")
        for number, what in ((report.damaged, "are damaged"), (report.refused, "have no valid signature")):
            if number:
                say(f"skipped {number} that {what}: `penstock cache verify` lists them", err=True)
    return FAILED if report.damaged or report.refused else 0


# -- shared -----------------------------------------------------------------------------------------------------------


def _results(invocation: Invocation) -> ResultStore:
    results: ResultStore = invocation.results()
    return results


def _plain(value: Any) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(value)
    return plain


def _expiry(at: float | None) -> str:
    if at is None:
        return "never"
    return moment(at) if at > time.time() else "expired"


def _path(results: ResultStore, record: ResultRecord) -> str | None:
    """Where the value lies: a path where it is on this machine, else its address; a pattern if it is in parts."""
    pattern = "*.parquet" if record.lazy else "*"
    name = f"{record.files}{pattern}" if record.in_parts else record.payload_name
    if name is None:
        return None
    if record.in_parts:
        folder, _, pattern = name.rpartition("/")
        return f"{results.store.local_path(folder) or _address(results, folder)}/{pattern}"
    return results.store.local_path(name) or _address(results, name)


def _address(results: ResultStore, name: str) -> str:
    return f"{results.store.url.partition('?')[0].rstrip('/')}/{name}"


def _described(record: ResultRecord) -> Iterator[tuple[str, str]]:
    yield "task", record.task
    yield "key", record.key
    parts = f" in {record.payload.parts} parts" if record.payload and record.in_parts else ""
    rows = f", {record.about.rows} rows" if record.about.rows else ""
    yield "value", f"{record.codec}, {size(record.size)}{parts}{rows}"
    for column, kind in record.about.columns.items():
        yield f"  {column}", kind
    if record.payload is None:
        yield "  as JSON", bytes(record.inline).decode()
    yield "digest", record.digest
    if record.payload is not None:
        yield "checksum", f"blake3 {record.payload.checksum}"
    yield "generation", str(record.generation)
    yield "created", f"{moment(record.created)}, in {duration(record.seconds)}"
    yield "expires", _expiry(record.expires)
    yield "by", f"run {record.producer.run_id} of {record.producer.flow}, {record.producer.host} {record.producer.pid}"
    yield "with", f"Python {record.producer.python}, Penstock {record.producer.penstock}"
    for name, component in record.key_parts.items():
        if isinstance(component, dict):
            for parameter, digest in component.items():
                yield f"  {name}.{parameter}", str(digest)
        else:
            yield f"  {name}", str(component)


def _signature(results: ResultStore, record: ResultRecord) -> Iterator[tuple[str, str]]:
    signatures = results.trust.signatures
    if record.signature is not None:
        verdict = "no keys to check it with" if signatures is None else signatures.verdict(record)
        yield "signature", f"key {record.signature.key}: {verdict}"


def _reading(record: ResultRecord, path: str | None) -> list[str]:
    """How others read the value."""
    if path is None:
        return []
    if record.in_parts and not record.lazy:
        return [f"penstock.stored({record.task!r}, {record.key!r}).load()"]
    if record.in_parts:
        return [f"duckdb -c \"SELECT * FROM '{path}'\"", f"penstock.stored({record.task!r}, {record.key!r}).scan()"]
    kind = record.codec.partition("/")[0]
    ways = {
        "parquet": [f"duckdb -c \"SELECT * FROM '{path}'\"", f"pyarrow.parquet.read_table({path!r})"],
        "arrow": [f"pyarrow.ipc.open_file({path!r}).read_all()"],
        "npy": [f"numpy.load({path!r})"],
        "json": [f"json.load(open({path!r}))"],
        "pickle": [f"cloudpickle.load(open({path!r}, 'rb'))  # runs code that its writer chose"],
    }
    return ways.get(kind, [])

"""From the TPC-H tables on disk to cleaned order lines, one partition at a time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import polars as pl

from penstock import INPUTS, TASK_CODE, Files, task

# A task of this example is keyed by its inputs and by all the code it reaches: edit a helper or a constant
# two calls away and exactly what depends on it runs again.
BY_INPUTS = INPUTS + TASK_CODE

# A reading task is keyed by the bytes of the file, not by its name: the same data in another folder is a hit,
# new data under the old name is not.
BY_CONTENT = INPUTS - "path" + Files(parameter="path") + TASK_CODE

ORDER_COLUMNS = ("o_orderkey", "o_custkey", "o_orderdate")
LINE_COLUMNS = (
    "l_orderkey",
    "l_linenumber",
    "l_quantity",
    "l_extendedprice",
    "l_discount",
    "l_returnflag",
    "l_receiptdate",
)
CUSTOMER_COLUMNS = ("c_custkey", "c_mktsegment")


@task(cache_policy=BY_CONTENT, retries=2, retry_delay_seconds=[1, 5])
def read(path: str, columns: tuple[str, ...]) -> pl.DataFrame:
    """The raw partition: the named columns of one Parquet file, as they were delivered."""
    return pl.read_parquet(path, columns=list(columns))


@task(cache_policy=BY_INPUTS)
def clean(orders: pl.DataFrame, lines: pl.DataFrame) -> pl.DataFrame:
    """One row per order line: types settled, rows delivered twice dropped, orders joined, returns flagged.

    Money is counted in whole cents: sums of integers are the same in any order, so that a result does not depend
    on how many threads added it up.
    """
    orders = orders.unique("o_orderkey", keep="first", maintain_order=True)
    lines = lines.unique(["l_orderkey", "l_linenumber"], keep="first", maintain_order=True)
    price_cents = (pl.col("l_extendedprice") * 100).cast(pl.Int64)
    discount_percent = (pl.col("l_discount") * 100).cast(pl.Int64)
    return (
        lines.join(orders, left_on="l_orderkey", right_on="o_orderkey", how="inner")
        .select(
            order="l_orderkey",
            line="l_linenumber",
            customer="o_custkey",
            ordered="o_orderdate",
            received="l_receiptdate",
            quantity=pl.col("l_quantity").cast(pl.Int64),
            revenue_cents=(price_cents * (100 - discount_percent) + 50) // 100,
            returned=pl.col("l_returnflag") == "R",
        )
        .sort("order", "line")
    )


def clean_partitions(folder: str) -> list[pl.DataFrame]:
    """The cleaned order lines of all partitions of `folder`; in a flow: their futures."""
    return [clean(read(orders, ORDER_COLUMNS), read(lines, LINE_COLUMNS)) for orders, lines in partitions(folder)]


def read_customers(folder: str) -> pl.DataFrame:
    """Key and market segment of every customer; in a flow: a future."""
    return read(str(Path(folder, "customer.parquet")), CUSTOMER_COLUMNS)


def partitions(folder: str) -> list[tuple[str, str]]:
    """The (orders, lineitem) files of each partition, a range of order keys, in the order of their numbers."""
    pairs = [
        (orders, Path(folder, "lineitem", orders.name.replace("orders", "lineitem")))
        for orders in Path(folder, "orders").glob("orders.*.parquet")
    ]
    if not pairs:
        raise FileNotFoundError(f"no files orders/orders.<number>.parquet in {folder}")
    pairs.sort(key=lambda pair: int(pair[0].name.split(".")[1]))
    return [(str(orders), str(lines)) for orders, lines in pairs]


def generate(folder: Path, *, scale: float, parts: int = 8) -> Path:
    """Generate the tables in `folder` with `tpchgen-cli`, unless they are there; returns the folder.

    `scale` is TPC-H's scale factor: at 1 there are 1.5 million orders with 6 million lines, about 250 MB.
    The folder appears complete or not at all, also when two processes generate it at once.
    """
    if folder.exists():
        return folder
    beside_python = Path(sys.executable).with_name("tpchgen-cli")
    program = str(beside_python) if beside_python.exists() else shutil.which("tpchgen-cli")
    if program is None:
        raise FileNotFoundError("the data generator is missing: pip install tpchgen-cli")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".generating-") as scratch:
        common = [program, "parquet", "--quiet", f"--scale-factor={scale}", f"--output-dir={scratch}/tables"]
        subprocess.run([*common, "--tables=customer"], check=True)
        subprocess.run([*common, "--tables=orders,lineitem", f"--parts={parts}"], check=True)
        try:
            os.rename(f"{scratch}/tables", folder)
        except OSError:
            if not folder.exists():
                raise
    return folder

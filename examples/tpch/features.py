"""What is known about a customer on a given day: the feature table both pipelines share."""

from __future__ import annotations

import datetime as dt

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock import task, unmapped

from .data import BY_INPUTS

# Models are judged on customers as they were at the cut, and learn from customers as they were half a year earlier.
CUT = dt.date(1998, 2, 1)
LEARNING_MONTHS = 6

# The trend compares this many days before the cut with as many days before those.
TREND_DAYS = 180

NUMERIC = (
    "recency_days",
    "tenure_days",
    "frequency",
    "monetary",
    "order_value",
    "basket_size",
    "return_rate",
    "trend",
)
SEGMENTS = ("AUTOMOBILE", "BUILDING", "FURNITURE", "HOUSEHOLD", "MACHINERY")


@task(cache_policy=BY_INPUTS)
def partition_features(lines: pl.DataFrame, as_of: dt.date) -> pl.DataFrame:
    """What one partition adds to each customer's features: counts, sums, first and last day.

    Only what was known at the start of the day `as_of` counts: orders placed before it, and returns of goods that
    had arrived before it. Everything here is a sum, a minimum or a maximum, so partitions combine exactly.
    """
    trend_starts = as_of - dt.timedelta(days=TREND_DAYS)
    before_starts = as_of - dt.timedelta(days=2 * TREND_DAYS)
    ordered, arrived = pl.col("ordered"), pl.col("received") < as_of
    revenue = pl.col("revenue_cents")
    return (
        lines.filter(ordered < as_of)
        .group_by("customer")
        .agg(
            first=ordered.min(),
            last=ordered.max(),
            orders=pl.col("order").n_unique().cast(pl.Int64),
            quantity=pl.col("quantity").sum(),
            arrived=arrived.sum().cast(pl.Int64),
            returned=(arrived & pl.col("returned")).sum().cast(pl.Int64),
            revenue_cents=revenue.sum(),
            recent_cents=revenue.filter(ordered >= trend_starts).sum(),
            earlier_cents=revenue.filter(ordered.is_between(before_starts, trend_starts, closed="left")).sum(),
        )
        .sort("customer")
    )


@task(cache_policy=BY_INPUTS)
def customer_features(parts: list[pl.DataFrame], customers: pl.DataFrame, as_of: dt.date) -> pl.DataFrame:
    """One row per customer who ordered before `as_of`: recency, frequency, money, returns, basket, trend.

    `trend` goes from -1 (bought only in the earlier period) to 1 (only in the recent one). Account balances are left
    out on purpose: TPC-H gives them as of today, not as of the cut.
    """
    sums = (
        pl.concat(parts)
        .group_by("customer")
        .agg(pl.col("first").min(), pl.col("last").max(), pl.exclude("first", "last").sum())
    )
    both_periods = pl.col("recent_cents") + pl.col("earlier_cents")
    return (
        sums.join(customers, left_on="customer", right_on="c_custkey", how="left")
        .select(
            "customer",
            as_of=pl.lit(as_of),
            segment="c_mktsegment",
            recency_days=(pl.lit(as_of) - pl.col("last")).dt.total_days(),
            tenure_days=(pl.lit(as_of) - pl.col("first")).dt.total_days(),
            frequency="orders",
            monetary=pl.col("revenue_cents") / 100,
            order_value=pl.col("revenue_cents") / 100 / pl.col("orders"),
            basket_size=pl.col("quantity") / pl.col("orders"),
            return_rate=pl.when(pl.col("arrived") > 0).then(pl.col("returned") / pl.col("arrived")).otherwise(0.0),
            trend=pl.when(both_periods > 0)
            .then((pl.col("recent_cents") - pl.col("earlier_cents")) / both_periods)
            .otherwise(0.0),
        )
        .sort("customer")
    )


def features_at(as_of: dt.date, partitions: list[pl.DataFrame], customers: pl.DataFrame) -> pl.DataFrame:
    """The feature table of one cut; in a flow: its future."""
    parts = partition_features.map(partitions, unmapped(as_of))
    return customer_features(parts, customers, as_of)


def matrix(features: pl.DataFrame) -> npt.NDArray[np.float64]:
    """The feature table as scikit-learn reads it: numbers, then one column per market segment."""
    segments = [(pl.col("segment") == segment).cast(pl.Float64).alias(segment) for segment in SEGMENTS]
    return features.select(*(pl.col(name).cast(pl.Float64) for name in NUMERIC), *segments).to_numpy()


def months_later(day: dt.date, months: int) -> dt.date:
    """The first of a month, `months` months later (or earlier, if negative).

    Only for days that every month has: the day of the month stays, so `day` should be the 28th or before.
    """
    years, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return day.replace(year=years, month=month + 1)

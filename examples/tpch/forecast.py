"""What will each customer spend in the next quarter? A regression, compared with 'the same as last quarter'."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl

from penstock import flow, task, unmapped

from .data import BY_INPUTS, clean_partitions, read_customers
from .features import CUT, LEARNING_MONTHS, features_at, matrix, months_later

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

QUARTER_MONTHS = 3
CANDIDATES = [1.0, 30.0, 1000.0]  # penalties to choose from


@task(cache_policy=BY_INPUTS)
def revenue_between(lines: pl.DataFrame, start: dt.date, end: dt.date) -> pl.DataFrame:
    """What each customer of one partition ordered from `start` until before `end`, in cents."""
    placed = lines.filter(pl.col("ordered").is_between(start, end, closed="left"))
    return placed.group_by("customer").agg(pl.col("revenue_cents").sum()).sort("customer")


@task(cache_policy=BY_INPUTS)
def customer_revenue(features: pl.DataFrame, parts: list[pl.DataFrame]) -> pl.DataFrame:
    """For each customer of the feature table, in its order: the revenue over all partitions, 0 if there is none."""
    sums = pl.concat(parts).group_by("customer").agg(pl.col("revenue_cents").sum())
    return features.select("customer").join(sums, on="customer", how="left", maintain_order="left").fill_null(0)


@task(cache_policy=BY_INPUTS)
def score_regressor(penalty: float, features: pl.DataFrame, revenue: pl.DataFrame) -> float:
    """Mean squared error of one regularisation over three folds, negated: more is better."""
    from sklearn.model_selection import cross_val_score

    scoring = "neg_mean_squared_error"
    scores = cross_val_score(regressor(penalty), matrix(features), dollars(revenue), scoring=scoring, cv=3)
    return float(scores.mean())


@task(cache_policy=BY_INPUTS)
def train_forecast(
    penalties: list[float], scores: list[float], features: pl.DataFrame, revenue: pl.DataFrame
) -> Pipeline:
    """The model with the best regularisation, fitted on the whole training period."""
    best = penalties[scores.index(max(scores))]
    return regressor(best).fit(matrix(features), dollars(revenue))


@task(cache_policy=BY_INPUTS)
def evaluate_forecast(
    model: Pipeline, features: pl.DataFrame, actual: pl.DataFrame, last_quarter: pl.DataFrame
) -> dict[str, float]:
    """Mean absolute error per customer in dollars, of the model and of repeating the last quarter."""
    truth = dollars(actual)
    return {
        "mae": round(float(np.abs(model.predict(matrix(features)) - truth).mean()), 2),
        "mae_naive": round(float(np.abs(dollars(last_quarter) - truth).mean()), 2),
        "customers": len(truth),
    }


def regressor(penalty: float) -> Pipeline:
    """A linear regression; the larger `penalty`, the less a single feature can say."""
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), Ridge(alpha=penalty))


def dollars(revenue: pl.DataFrame) -> npt.NDArray[np.float64]:
    """The revenue column as an array in dollars."""
    return revenue["revenue_cents"].to_numpy() / 100


@flow
def forecast(folder: str, cut: dt.date = CUT) -> dict[str, float]:
    """Train on the quarter after an earlier cut, evaluate on the quarter after `cut`; returns the metrics.

    The cuts are those of the churn pipeline, and so are the features: whichever flow runs first computes them.
    """
    partitions, customers = clean_partitions(folder), read_customers(folder)
    earlier_cut = months_later(cut, -LEARNING_MONTHS)
    features = features_at(earlier_cut, partitions, customers)
    revenue = quarter_revenue(features, partitions, earlier_cut)
    scores = score_regressor.map(CANDIDATES, unmapped(features), unmapped(revenue))
    model = train_forecast(CANDIDATES, scores, features, revenue)

    later_features = features_at(cut, partitions, customers)
    actual = quarter_revenue(later_features, partitions, cut)
    last_quarter = quarter_revenue(later_features, partitions, months_later(cut, -QUARTER_MONTHS))
    return evaluate_forecast(model, later_features, actual, last_quarter)


def quarter_revenue(features: pl.DataFrame, partitions: list[pl.DataFrame], start: dt.date) -> pl.DataFrame:
    """The revenue of each customer in the quarter from `start` on; in a flow: a future."""
    end = months_later(start, QUARTER_MONTHS)
    return customer_revenue(features, revenue_between.map(partitions, unmapped(start), unmapped(end)))

"""Which customers will not order in the next six months? A classifier, judged on a later period than it learnt from."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import polars as pl

from penstock import flow, task, unmapped

from .data import BY_INPUTS, clean_partitions, read_customers
from .features import CUT, LEARNING_MONTHS, features_at, matrix, months_later

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

# scikit-learn takes seconds to load, so it is imported where a model is made: a run whose models are all in the
# store never loads it.

QUIET_MONTHS = 6
CANDIDATES = [0.001, 0.01, 0.1, 1.0]  # strengths to choose from


@task(cache_policy=BY_INPUTS)
def active_customers(lines: pl.DataFrame, start: dt.date, end: dt.date) -> pl.DataFrame:
    """The customers of one partition who placed an order from `start` until before `end`."""
    placed = lines.filter(pl.col("ordered").is_between(start, end, closed="left"))
    return placed.select("customer").unique().sort("customer")


@task(cache_policy=BY_INPUTS)
def churn_labels(features: pl.DataFrame, active: list[pl.DataFrame]) -> pl.DataFrame:
    """For each customer of the feature table, in its order: did no partition see an order in the period?"""
    churned = ~pl.col("customer").is_in(pl.concat(active)["customer"].to_list())
    return features.select("customer", churned=churned)


@task(cache_policy=BY_INPUTS)
def score_classifier(strength: float, features: pl.DataFrame, labels: pl.DataFrame) -> float:
    """Mean AUC of one regularisation over three folds of the training period."""
    from sklearn.model_selection import cross_val_score

    churned = labels["churned"].to_numpy()
    scores = cross_val_score(classifier(strength), matrix(features), churned, scoring="roc_auc", cv=3)
    return float(scores.mean())


@task(cache_policy=BY_INPUTS)
def train_churn(strengths: list[float], scores: list[float], features: pl.DataFrame, labels: pl.DataFrame) -> Pipeline:
    """The model with the best regularisation, fitted on the whole training period."""
    best = strengths[scores.index(max(scores))]
    return classifier(best).fit(matrix(features), labels["churned"].to_numpy())


@task(cache_policy=BY_INPUTS)
def evaluate_churn(model: Pipeline, features: pl.DataFrame, labels: pl.DataFrame) -> dict[str, float]:
    """AUC on the later period, the share of customers who churned, and how many there were."""
    from sklearn.metrics import roc_auc_score

    churned = labels["churned"].to_numpy()
    risk = model.predict_proba(matrix(features))[:, 1]
    return {
        "auc": round(float(roc_auc_score(churned, risk)), 4),
        "churn_rate": round(float(churned.mean()), 4),
        "customers": len(churned),
    }


def classifier(strength: float) -> Pipeline:
    """A logistic regression; the smaller `strength`, the less a single feature can say."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=strength))


@flow
def churn(folder: str, cut: dt.date = CUT) -> dict[str, float]:
    """Train on the customers as of half a year before `cut`, evaluate on those as of `cut`; returns the metrics.

    The model stays in the store: it is the result of `train_churn`, and no driver needs to load it for a metric.
    """
    partitions, customers = clean_partitions(folder), read_customers(folder)
    tables = []
    for as_of in (months_later(cut, -LEARNING_MONTHS), cut):
        features = features_at(as_of, partitions, customers)
        period = unmapped(as_of), unmapped(months_later(as_of, QUIET_MONTHS))
        tables.append((features, churn_labels(features, active_customers.map(partitions, *period))))
    (features, labels), (later_features, later_labels) = tables
    scores = score_classifier.map(CANDIDATES, unmapped(features), unmapped(labels))
    model = train_churn(CANDIDATES, scores, features, labels)
    return evaluate_churn(model, later_features, later_labels)

"""Both pipelines as one flow: one graph in which the features they share exist once."""

from __future__ import annotations

from penstock import flow

from .churn import churn
from .forecast import forecast


@flow
def nightly(folder: str) -> dict[str, dict[str, float]]:
    """The metrics of both models; a flow called in a flow joins its graph, so the two run side by side."""
    return {"churn": churn(folder), "forecast": forecast(folder)}

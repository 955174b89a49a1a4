"""The functions of the TPC-H example as plain functions: exact, reproducible, and without data from the future."""

from __future__ import annotations

import datetime as dt
import random
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pytest

pl = pytest.importorskip("polars")

from polars.testing import assert_frame_equal  # noqa: E402  (polars may be missing)

from examples.tpch import churn, data, demo, features, forecast  # noqa: E402  (they import polars)

pytestmark = pytest.mark.needs("sklearn")
CUT = features.CUT
HALF_YEAR_LATER = features.months_later(CUT, 6)


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tables at scale 0.01: 15 000 orders in 8 partitions."""
    return str(data.generate(tmp_path_factory.mktemp("tpch") / "tables", scale=0.01))


@pytest.fixture(scope="session")
def raw(tables: str) -> list[tuple[pl.DataFrame, pl.DataFrame]]:
    read = data.read.fn
    return [(read(o, data.ORDER_COLUMNS), read(li, data.LINE_COLUMNS)) for o, li in data.partitions(tables)]


@pytest.fixture(scope="session")
def cleaned(raw: list[tuple[pl.DataFrame, pl.DataFrame]]) -> list[pl.DataFrame]:
    return [data.clean.fn(orders, lines) for orders, lines in raw]


@pytest.fixture(scope="session")
def customers(tables: str) -> pl.DataFrame:
    return data.read.fn(f"{tables}/customer.parquet", data.CUSTOMER_COLUMNS)


def feature_table(partitions: list[pl.DataFrame], customers: pl.DataFrame, as_of: dt.date = CUT) -> pl.DataFrame:
    parts = [features.partition_features.fn(lines, as_of) for lines in partitions]
    return features.customer_features.fn(parts, customers, as_of)


def labels(table: pl.DataFrame, partitions: list[pl.DataFrame], start: dt.date, end: dt.date) -> pl.DataFrame:
    return churn.churn_labels.fn(table, [churn.active_customers.fn(lines, start, end) for lines in partitions])


def revenue(table: pl.DataFrame, partitions: list[pl.DataFrame], start: dt.date) -> pl.DataFrame:
    end = features.months_later(start, 3)
    return forecast.customer_revenue.fn(table, [forecast.revenue_between.fn(p, start, end) for p in partitions])


class TestData:
    def test_partitions_come_in_numerical_order(self, tmp_path: Path) -> None:
        (tmp_path / "orders").mkdir()
        for number in (10, 2, 1):
            (tmp_path / "orders" / f"orders.{number}.parquet").touch()
        assert [Path(orders).name for orders, _ in data.partitions(str(tmp_path))] == [
            "orders.1.parquet",
            "orders.2.parquet",
            "orders.10.parquet",
        ]
        assert [Path(lines).name for _, lines in data.partitions(str(tmp_path))][-1] == "lineitem.10.parquet"

    def test_a_folder_without_tables_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="no files orders/orders"):
            data.partitions(str(tmp_path))

    def test_existing_tables_are_not_generated_again(self, tables: str) -> None:
        before = {path: path.stat().st_mtime_ns for path in Path(tables).rglob("*.parquet")}
        assert len(before) == 17
        data.generate(Path(tables), scale=0.01)
        assert {path: path.stat().st_mtime_ns for path in Path(tables).rglob("*.parquet")} == before

    def test_the_generator_leaves_no_other_files(self, tables: str) -> None:
        assert [path.name for path in Path(tables).parent.iterdir()] == ["tables"]

    def test_the_error_for_a_missing_generator_says_how_to_get_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(data.sys, "executable", str(tmp_path / "python"))
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(FileNotFoundError, match="pip install tpchgen-cli"):
            data.generate(tmp_path / "tables", scale=0.01)

    def test_rows_delivered_twice_count_once(self, raw: list[tuple[pl.DataFrame, pl.DataFrame]]) -> None:
        orders, lines = raw[0]
        twice = data.clean.fn(pl.concat([orders, orders]), pl.concat([lines, lines.reverse()]))
        assert_frame_equal(twice, data.clean.fn(orders, lines))

    def test_lines_without_an_order_are_omitted(self, raw: list[tuple[pl.DataFrame, pl.DataFrame]]) -> None:
        orders, lines = raw[0]
        kept = data.clean.fn(orders.tail(-1), lines)
        assert set(kept["order"]) == set(orders["o_orderkey"]) - {orders["o_orderkey"][0]}

    def test_revenue_is_exact_to_the_cent(self, raw: list[tuple[pl.DataFrame, pl.DataFrame]]) -> None:
        orders, lines = raw[0]
        cents = data.clean.fn(orders, lines)["revenue_cents"].to_list()
        exact = [
            int((price * (1 - discount) * 100).quantize(Decimal(1), rounding=ROUND_HALF_UP))
            for price, discount in lines.sort("l_orderkey", "l_linenumber")
            .select("l_extendedprice", "l_discount")
            .iter_rows()
        ]
        assert cents == exact

    def test_only_lines_flagged_r_are_returns(self, raw: list[tuple[pl.DataFrame, pl.DataFrame]]) -> None:
        orders, lines = raw[0]
        expected = lines.filter(pl.col("l_returnflag") == "R").height
        assert data.clean.fn(orders, lines)["returned"].sum() == expected > 0


class TestFeatures:
    def test_the_features_of_one_customer_equal_a_manual_count(self) -> None:
        day, rows = dt.date, []
        rows.append((1, 1, 7, day(1996, 1, 1), day(1996, 1, 20), 10, 100_00, True))
        rows.append((1, 2, 7, day(1996, 1, 1), day(1996, 1, 25), 20, 200_00, False))
        rows.append((2, 1, 7, day(1997, 12, 1), day(1998, 3, 1), 30, 600_00, True))  # not yet returned at the cut
        rows.append((3, 1, 7, day(1997, 6, 1), day(1997, 6, 9), 20, 200_00, False))
        rows.append((4, 1, 7, day(1998, 2, 1), day(1998, 2, 9), 99, 999_00, True))  # on the day of the cut
        names = ["order", "line", "customer", "ordered", "received", "quantity", "revenue_cents", "returned"]
        lines = pl.DataFrame(rows, schema=names, orient="row")
        customers = pl.DataFrame({"c_custkey": [7, 8], "c_mktsegment": ["BUILDING", "MACHINERY"]})
        assert feature_table([lines.head(2), lines.tail(3)], customers).to_dicts() == [
            {
                "customer": 7,
                "as_of": CUT,
                "segment": "BUILDING",
                "recency_days": (CUT - day(1997, 12, 1)).days,
                "tenure_days": (CUT - day(1996, 1, 1)).days,
                "frequency": 3,
                "monetary": 1100.0,
                "order_value": 1100 / 3,
                "basket_size": 80 / 3,
                "return_rate": 1 / 3,
                "trend": (600 - 200) / 800,
            }
        ]

    def test_features_do_not_change_when_later_orders_do(
        self, cleaned: list[pl.DataFrame], customers: pl.DataFrame
    ) -> None:
        later = pl.col("ordered") >= CUT
        altered = [
            lines.with_columns(
                customer=pl.when(later).then(pl.col("customer") + 1).otherwise("customer"),
                quantity=pl.when(later).then(pl.col("quantity") * 7).otherwise("quantity"),
                revenue_cents=pl.when(later).then(pl.col("revenue_cents") * 5).otherwise("revenue_cents"),
                returned=pl.when(later).then(~pl.col("returned")).otherwise("returned"),
            ).filter(~later | (pl.col("order") % 2 == 0))
            for lines in cleaned
        ]
        assert sum(lines.height for lines in altered) < sum(lines.height for lines in cleaned)
        assert_frame_equal(feature_table(altered, customers), feature_table(cleaned, customers))

    def test_features_ignore_returns_of_goods_that_have_not_arrived(
        self, cleaned: list[pl.DataFrame], customers: pl.DataFrame
    ) -> None:
        cut = dt.date(1995, 1, 1)  # only goods that had arrived by the middle of 1995 were returned
        on_the_way = pl.col("received") >= cut
        altered = [lines.with_columns(returned=pl.col("returned") ^ on_the_way) for lines in cleaned]
        table = feature_table(cleaned, customers, cut)
        assert table["return_rate"].max() > 0
        assert_frame_equal(feature_table(altered, customers, cut), table)

    def test_features_do_change_when_earlier_orders_do(
        self, cleaned: list[pl.DataFrame], customers: pl.DataFrame
    ) -> None:
        """Without this, the tests above could pass on features that ignore their input."""
        altered = [lines.with_columns(revenue_cents=pl.col("revenue_cents") + 1) for lines in cleaned]
        assert not feature_table(altered, customers).equals(feature_table(cleaned, customers))

    def test_the_number_and_order_of_partitions_and_rows_do_not_matter(
        self, cleaned: list[pl.DataFrame], customers: pl.DataFrame
    ) -> None:
        shuffled = [lines.sample(fraction=1.0, shuffle=True, seed=1) for lines in cleaned]
        random.Random(1).shuffle(shuffled)
        expected = feature_table(cleaned, customers)
        assert_frame_equal(feature_table(shuffled, customers), expected, check_exact=True)
        assert_frame_equal(feature_table([pl.concat(shuffled)], customers), expected, check_exact=True)

    def test_the_table_has_one_complete_row_per_customer(
        self, cleaned: list[pl.DataFrame], customers: pl.DataFrame
    ) -> None:
        table = feature_table(cleaned, customers)
        assert table["customer"].n_unique() == table.height > 900
        assert sum(table.null_count().row(0)) == 0
        assert table["return_rate"].is_between(0, 1).all()
        assert table["trend"].is_between(-1, 1).all()
        assert (table["recency_days"] > 0).all()

    def test_the_model_matrix_has_a_column_per_number_and_segment(
        self, cleaned: list[pl.DataFrame], customers: pl.DataFrame
    ) -> None:
        table = feature_table(cleaned, customers)
        matrix = features.matrix(table)
        assert matrix.shape == (table.height, len(features.NUMERIC) + len(features.SEGMENTS))
        assert (matrix[:, len(features.NUMERIC) :].sum(axis=1) == 1).all()

    @pytest.mark.parametrize(
        ("day", "months", "expected"),
        [
            (dt.date(1998, 2, 1), -6, dt.date(1997, 8, 1)),
            (dt.date(1998, 2, 1), -2, dt.date(1997, 12, 1)),
            (dt.date(1997, 12, 1), 1, dt.date(1998, 1, 1)),
            (dt.date(1997, 12, 28), 0, dt.date(1997, 12, 28)),
            (dt.date(1997, 11, 1), 13, dt.date(1998, 12, 1)),
        ],
    )
    def test_months_are_counted_across_years(self, day: dt.date, months: int, expected: dt.date) -> None:
        assert features.months_later(day, months) == expected


class TestLabels:
    def test_customers_who_ordered_in_the_period_did_not_churn(
        self, cleaned: list[pl.DataFrame], customers: pl.DataFrame
    ) -> None:
        table = feature_table(cleaned, customers)
        lines = pl.concat(cleaned)
        ordered = set(lines.filter((pl.col("ordered") >= CUT) & (pl.col("ordered") < HALF_YEAR_LATER))["customer"])
        churned = labels(table, cleaned, CUT, HALF_YEAR_LATER)
        assert churned["customer"].to_list() == table["customer"].to_list()
        assert churned["churned"].to_list() == [customer not in ordered for customer in table["customer"]]
        assert 0.2 < churned["churned"].mean() < 0.5

    def test_the_revenue_of_a_quarter_adds_up(self, cleaned: list[pl.DataFrame], customers: pl.DataFrame) -> None:
        table = feature_table(cleaned, customers)
        sums = revenue(table, cleaned, CUT)
        assert sums["customer"].to_list() == table["customer"].to_list()
        in_quarter = (pl.col("ordered") >= CUT) & (pl.col("ordered") < dt.date(1998, 5, 1))
        known = pl.col("customer").is_in(table["customer"].to_list())
        assert sums["revenue_cents"].sum() == pl.concat(cleaned).filter(in_quarter & known)["revenue_cents"].sum()
        assert (sums["revenue_cents"] == 0).any()


@pytest.mark.slow
class TestModels:
    def test_the_churn_model_learns_only_what_the_data_holds(
        self, cleaned: list[pl.DataFrame], customers: pl.DataFrame
    ) -> None:
        """Half of the customers order twice as often as the others: an AUC above 0.64 is chance or a leak."""
        model, table, truth = self.train_churn(cleaned, customers)
        metrics = churn.evaluate_churn.fn(model, table, truth)
        assert metrics["customers"] == table.height
        assert 0.53 < metrics["auc"] < 0.68

    def test_training_twice_gives_the_same_churn_model(
        self, cleaned: list[pl.DataFrame], customers: pl.DataFrame
    ) -> None:
        (first, table, _), (second, _, _) = (self.train_churn(cleaned, customers) for _ in range(2))
        matrix = features.matrix(table)
        assert (first.predict_proba(matrix) == second.predict_proba(matrix)).all()

    def test_the_forecast_beats_repeating_the_last_quarter(
        self, cleaned: list[pl.DataFrame], customers: pl.DataFrame
    ) -> None:
        earlier = features.months_later(CUT, -6)
        early_table, table = feature_table(cleaned, customers, earlier), feature_table(cleaned, customers)
        early_revenue = revenue(early_table, cleaned, earlier)
        candidates = forecast.CANDIDATES
        scores = [forecast.score_regressor.fn(candidate, early_table, early_revenue) for candidate in candidates]
        model = forecast.train_forecast.fn(candidates, scores, early_table, early_revenue)
        last_quarter = revenue(table, cleaned, features.months_later(CUT, -3))
        metrics = forecast.evaluate_forecast.fn(model, table, revenue(table, cleaned, CUT), last_quarter)
        assert 0 < metrics["mae"] < metrics["mae_naive"]

    @staticmethod
    def train_churn(cleaned: list[pl.DataFrame], customers: pl.DataFrame) -> tuple[Any, pl.DataFrame, pl.DataFrame]:
        earlier = features.months_later(CUT, -6)
        early_table, table = feature_table(cleaned, customers, earlier), feature_table(cleaned, customers)
        early_labels = labels(early_table, cleaned, earlier, CUT)
        scores = [churn.score_classifier.fn(candidate, early_table, early_labels) for candidate in churn.CANDIDATES]
        model = churn.train_churn.fn(churn.CANDIDATES, scores, early_table, early_labels)
        return model, table, labels(table, cleaned, CUT, HALF_YEAR_LATER)


class TestEdits:
    @pytest.mark.parametrize("edit", [demo.NEW_DEFINITION, demo.REFACTORING], ids=lambda edit: edit.module)
    def test_an_edit_changes_exactly_one_line(self, edit: demo.Edit, tmp_path: Path) -> None:
        copy = demo.working_copy(tmp_path)
        original = (copy / "examples" / "tpch" / edit.module).read_text().splitlines()
        demo.make_edit(copy, edit)
        edited = (copy / "examples" / "tpch" / edit.module).read_text().splitlines()
        assert len(edited) == len(original)
        assert sum(before != after for before, after in zip(original, edited, strict=True)) == 1

    def test_an_edit_that_changes_nothing_is_reported(self, tmp_path: Path) -> None:
        copy = demo.working_copy(tmp_path)
        demo.make_edit(copy, demo.NEW_DEFINITION)
        with pytest.raises(SystemExit, match="no longer finds"):
            demo.make_edit(copy, demo.NEW_DEFINITION)

    def test_a_folder_that_is_not_a_store_is_never_deleted(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.tex").write_text("years of work")
        with pytest.raises(SystemExit, match="does not look like a store"):
            demo.empty_store(tmp_path)
        assert (tmp_path / "thesis.tex").exists()

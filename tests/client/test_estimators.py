"""The estimators against a real stack: scikit-learn's own checks, and its numbers."""

from __future__ import annotations

import ast
import hashlib
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.base import clone
from sklearn.datasets import make_classification, make_regression
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import estimators
from client import Client, InvalidRequestError, NotFoundError, RowcastError
from estimators import LoadedModel, RowcastClassifier, RowcastRegressor
from rowcast.signatures import public_text
from rowcast.store import JobRef, documents, signing
from rowcast.tables import columns, dates
from tests.support import ROOT
from tests.support.columns import infer
from tests.support.signing import new_key, sign_with
from tests.support.spellings import SPELLINGS, Spelling
from tests.support.stack import Stack

ESTIMATORS = [RowcastClassifier, RowcastRegressor]
# As scikit-learn checks its own boosting: with leaves small enough that the checks' few rows grow
# trees.
CHECKED = {"max_iter": 5, "min_samples_leaf": 5}
EXPECTED_FAILURES = {
    "check_sample_weight_equivalence_on_dense_data": "The learner, scikit-learn's boosting, "
    "fails it "
    "too: it bins the rows without their weights, so that a weight of two is not the same as "
    "two rows.",
}


@pytest.fixture(autouse=True)
def _service(stack: Stack, monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    monkeypatch.setenv("ROWCAST_URL", stack.url)


# scikit-learn's own checks


@pytest.mark.filterwarnings("ignore::FutureWarning")
@parametrize_with_checks(
    [kind(params=CHECKED) for kind in ESTIMATORS],
    expected_failed_checks=lambda _: EXPECTED_FAILURES,
)
def test_check_of_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


def test_guide_lists_the_checks_that_cannot_apply() -> None:
    guide = (ROOT / "docs/client.md").read_text()
    assert all(f"| `{name}` |" in guide for name in EXPECTED_FAILURES)


# The same numbers as in this process

X_CLASSES, CLASSES = make_classification(
    300, 6, n_informative=4, n_classes=3, random_state=0
)
X_VALUES, VALUES = make_regression(300, 6, n_informative=4, noise=10, random_state=0)
X_CLASSES[::7, 2] = X_VALUES[::7, 2] = np.nan
SMALL = {"max_iter": 20}
PAIRS = {
    "classifier": (
        RowcastClassifier,
        HistGradientBoostingClassifier,
        X_CLASSES,
        CLASSES,
        "neg_log_loss",
    ),
    "regressor": (
        RowcastRegressor,
        HistGradientBoostingRegressor,
        X_VALUES,
        VALUES,
        "r2",
    ),
}


@pytest.fixture(params=[*PAIRS.values()], ids=[*PAIRS])
def pair(
    request: pytest.FixtureRequest,
) -> tuple[Any, Any, np.ndarray, np.ndarray, str]:
    """Return a remote and a local estimator with equal parameters, rows for both, a scoring."""
    remote, local, x, y, scoring = request.param
    return remote(params=SMALL), local(**SMALL, random_state=0), x, y, scoring


def test_search_finds_the_best_parameters_that_a_local_one_finds(pair: Any) -> None:
    remote, local, x, y, scoring = pair
    grid = {"max_depth": np.array([1, 3])}
    far = GridSearchCV(
        remote, {f"params__{k}": v for k, v in grid.items()}, scoring=scoring, cv=3
    ).fit(x, y)
    near = GridSearchCV(local, grid, scoring=scoring, cv=3).fit(x, y)
    assert far.best_params_ == {
        f"params__{name}": value for name, value in near.best_params_.items()
    }
    for split in ("split0", "split1", "split2", "mean"):
        name = f"{split}_test_score"
        np.testing.assert_allclose(
            far.cv_results_[name], near.cv_results_[name], rtol=0, atol=1e-9
        )


def test_cross_validation_gives_the_scores_of_a_local_one(pair: Any) -> None:
    remote, local, x, y, scoring = pair
    far, near = (
        cross_val_score(each, x, y, cv=3, scoring=scoring) for each in (remote, local)
    )
    np.testing.assert_allclose(far, near, rtol=0, atol=1e-9)


def test_weights_and_pipelines_give_the_numbers_of_local_ones(pair: Any) -> None:
    remote, local, x, y, _ = pair
    weights = np.linspace(0, 2, len(y))
    far, near = (
        make_pipeline(StandardScaler(), clone(each)) for each in (remote, local)
    )
    for pipeline in (far, near):
        pipeline.fit(x, y, **{f"{pipeline.steps[-1][0]}__sample_weight": weights})
    np.testing.assert_array_equal(far.predict(x), near.predict(x))
    assert far.score(x, y) == near.score(x, y)


@pytest.mark.parametrize(
    "class_weight", ["balanced", {0: 1.0, 1: np.float64(20), 2: 1.0}]
)
def test_class_weights_give_the_numbers_of_local_ones(class_weight: Any) -> None:
    far = RowcastClassifier(params=SMALL, class_weight=class_weight).fit(
        X_CLASSES, CLASSES
    )
    near = HistGradientBoostingClassifier(
        **SMALL, random_state=0, class_weight=class_weight
    )
    near.fit(X_CLASSES, CLASSES)
    np.testing.assert_allclose(
        far.predict_proba(X_CLASSES), near.predict_proba(X_CLASSES), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("learner", ["boosting", "linear", "forest"])
def test_class_weights_are_weights_of_rows(learner: str) -> None:
    y = np.array(["a", "b", "c"])[CLASSES]
    weights = np.where(y == "b", 5.0, 1.0)
    x, one = (
        np.nan_to_num(X_CLASSES),
        RowcastClassifier(learner=learner, class_weight={"b": 5}),
    )
    other = RowcastClassifier(learner=learner).fit(x, y, sample_weight=weights)
    np.testing.assert_allclose(
        one.fit(x, y).predict_proba(x), other.predict_proba(x), rtol=0, atol=1e-9
    )


# Tables and labels


def mixed_table(n_rows: int = 240) -> pd.DataFrame:
    """Return targets, a constant, an identifier, and a column of each kind, most with gaps."""
    rng = np.random.default_rng(0)
    number = rng.normal(size=n_rows)
    colour = rng.choice(["red", "green", "blue"], n_rows)
    days = pd.Timestamp("2024-01-01") + pd.to_timedelta(
        rng.integers(0, 700, n_rows), unit="D"
    )
    words = np.array(
        [
            f"a text of {a} words and {b} more"
            for a, b in rng.integers(0, 99, (n_rows, 2))
        ]
    )
    table = pd.DataFrame(
        {
            "number": number,
            "count": rng.integers(0, 9, n_rows),
            "colour": pd.Series(colour, dtype="str"),
            "declared": pd.Categorical(rng.choice(["a", "b"], n_rows)),
            "words": pd.Series(words, dtype="str"),
            "day": days,
            "zoned": days.tz_localize("Europe/Berlin")
            + pd.to_timedelta(number, unit="h").floor("us"),
            "day as text": pd.Series(days.strftime("%d.%m.%Y"), dtype="str"),
            "flag": rng.random(n_rows) < 0.5,
            "flag as text": pd.Series(rng.choice(["Yes", "no"], n_rows), dtype="str"),
            "took": pd.to_timedelta(rng.integers(1, 10**6, n_rows), unit="s"),
            "constant": 1.0,
            "row id": np.arange(n_rows),
        }
    )
    for place, name in enumerate(
        ["number", "colour", "words", "day", "zoned", "day as text", "took"]
    ):
        table.loc[place::11, name] = None
    table["price"] = 3 * table["number"].fillna(0) + (colour == "red") + table["flag"]
    return table.assign(
        kind=np.where(table["price"] > table["price"].median(), "dear", "cheap")
    )


TARGETS = {"classification": "kind", "regression": "price"}


def features_of(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop(columns=["price", "kind"])


def test_dataframes_are_sent_as_they_are() -> None:
    table = mixed_table()
    x = features_of(table)
    model = RowcastClassifier().fit(x, table["kind"])
    assert list(model.feature_names_in_) == list(x.columns)
    assert model.n_features_in_ == x.shape[1]
    assert model.score(x, table["kind"]) > 0.9
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(x.rename(columns={"number": "another"}))


def test_columns_that_the_service_leaves_out_break_nothing() -> None:
    x = pd.DataFrame({"id": np.arange(60), "constant": 1, "x": np.arange(60) % 7})
    model = RowcastRegressor(params=CHECKED).fit(x, x["x"])
    assert model.score(x, x["x"]) > 0.3
    assert RowcastRegressor.from_model(model.model_id_).n_features_in_ == 3


def test_whole_numbers_of_an_array_are_not_identifiers() -> None:
    x = np.arange(200).reshape(-1, 1)
    model = RowcastRegressor().fit(np.hstack([x, x % 2]), x.ravel())
    assert model.score(np.hstack([x, x % 2]), x.ravel()) > 0.9


def test_columns_may_be_named_like_the_target_and_the_weights() -> None:
    x = pd.DataFrame(
        {"y": X_VALUES[:, 0], "sample_weight": X_VALUES[:, 1], 3: X_VALUES[:, 2]}
    )
    x.columns = x.columns.astype(str)
    model = RowcastRegressor(params=SMALL).fit(x, VALUES, sample_weight=np.ones(len(x)))
    same = RowcastRegressor(params=SMALL).fit(x.to_numpy(), VALUES)
    np.testing.assert_array_equal(model.predict(x), same.predict(x.to_numpy()))


LABELS = {
    "integers": np.array([3, 1]),
    "small integers": np.array([3, 1], np.int8),
    "booleans": np.array([True, False]),
    "floats": np.array([2.0, 1.0]),
    "text": np.array(["yes", "a longer no"]),
    "text as objects": np.array(["2", "10"], object),
}


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_labels_come_back_as_they_were(labels: np.ndarray) -> None:
    y = labels[(X_CLASSES[:100, 0] > 0).astype(int)]
    weights = dict.fromkeys(labels.tolist(), 1.0)
    model = RowcastClassifier(class_weight=weights).fit(X_CLASSES[:100], y)
    again = RowcastClassifier.from_model(model.model_id_)
    np.testing.assert_array_equal(model.classes_, np.unique(y))
    assert again.classes_.tolist() == model.classes_.tolist()
    assert again.class_weight == weights
    for each in (model, again):
        assert set(each.predict(X_CLASSES[:100]).tolist()) == set(labels.tolist())
    assert model.predict(X_CLASSES[:100]).dtype == y.dtype


def test_target_as_a_column_is_accepted_with_a_warning() -> None:
    with pytest.warns(DataConversionWarning, match="column-vector"):
        RowcastRegressor(params=CHECKED).fit(X_VALUES, VALUES.reshape(-1, 1))


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (X_CLASSES[:9], CLASSES[:9], "at least 10 rows.*n_samples=9"),
        (X_CLASSES, np.ones(300), "only one class"),
        (X_CLASSES, np.linspace(0, 1, 300), "Unknown label type"),
        (pd.DataFrame({"x": []}), [], "0 sample"),
    ],
)
def test_what_cannot_be_fitted_is_refused_before_anything_is_sent(
    x: Any, y: Any, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        RowcastClassifier(url="http://127.0.0.1:1").fit(x, y)


def test_parameter_that_the_learner_does_not_have_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="no parameter 'depth'") as raised:
        RowcastRegressor(params={"depth": 3}).fit(X_VALUES, VALUES)
    assert isinstance(raised.value, InvalidRequestError)


# Parameters


def test_parameters_of_the_learner_are_set_one_by_one() -> None:
    model = RowcastClassifier(params={"max_iter": 9}).set_params(
        params__max_depth=3, seed=1
    )
    assert model.params == {"max_iter": 9, "max_depth": 3}
    assert model.get_params()["params__max_depth"] == 3
    assert clone(model).get_params() == model.get_params()
    with pytest.raises(ValueError, match="Invalid parameter"):
        model.set_params(depth=3)


def test_setting_a_parameter_leaves_the_mapping_that_was_given() -> None:
    given = {"max_iter": 9}
    RowcastClassifier(params=given).set_params(params__max_iter=3)
    assert given == {"max_iter": 9}


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_key_is_not_shown(kind: Any) -> None:
    model = kind(api_key="a-secret")
    shown = [
        repr(model),
        model._repr_html_(),
        repr(make_pipeline(StandardScaler(), model)),
    ]
    assert not [text for text in shown if "a-secret" in text]
    assert clone(model).api_key == "a-secret"


# Other processes and models


def test_fitted_estimator_survives_pickle() -> None:
    model = RowcastClassifier(params=SMALL).fit(X_CLASSES, CLASSES)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(
        again.predict_proba(X_CLASSES), model.predict_proba(X_CLASSES)
    )


@pytest.mark.parametrize("as_frame", [True, False])
def test_fitted_estimator_is_rebuilt_in_another_process(
    pair: Any, tmp_path: Path, as_frame: bool
) -> None:
    remote, _, x, y, _ = pair
    x = pd.DataFrame(x, columns=list("abcdef")) if as_frame else x
    model = remote.set_params(seed=3).fit(x, y)
    (tmp_path / "x").write_bytes(pickle.dumps(x))
    code = f"""
import sys, pandas, estimators
model = estimators.{type(model).__name__}.from_model(sys.argv[1])
predictions = model.predict(pandas.read_pickle("x"))
pandas.to_pickle((model.get_params(), vars(model), predictions), "answer")
"""
    command = [sys.executable, "-W", "error", "-c", code, model.model_id_]
    environment = {"PYTHONPATH": str(ROOT), "ROWCAST_URL": Client().url}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=60)
    params, attributes, predictions = pd.read_pickle(tmp_path / "answer")
    assert params == model.get_params()
    assert {name for name in attributes if name.endswith("_")} == {
        name for name in vars(model) if name.endswith("_")
    }
    np.testing.assert_array_equal(predictions, model.predict(x))


def test_model_of_the_other_task_is_refused() -> None:
    model = RowcastRegressor(params=SMALL).fit(X_VALUES, VALUES)
    with pytest.raises(RowcastError, match="is a regression"):
        RowcastClassifier.from_model(model.model_id_)


def test_deleted_model_is_not_found() -> None:
    model = RowcastRegressor(params=SMALL).fit(X_VALUES, VALUES)
    with Client() as client:
        client.delete(model.model_id_)
    with pytest.raises(NotFoundError):
        model.predict(X_VALUES)


def test_estimator_that_is_not_fitted_says_so() -> None:
    with pytest.raises(NotFittedError):
        RowcastClassifier().predict(X_CLASSES)


# Downloaded models


@pytest.mark.parametrize("learner", ["boosting", "linear", "forest", "baseline"])
@pytest.mark.parametrize("task", TARGETS)
def test_downloaded_model_predicts_what_the_service_predicts(
    task: str, learner: str
) -> None:
    table = mixed_table()
    unseen = features_of(mixed_table(300)).assign(colour="mauve", flag=np.nan)
    with Client() as client:
        x = features_of(table)
        target = TARGETS[task]
        fitted = client.fit(
            x.assign(**{target: table[target]}),
            None,
            target=target,
            learner=learner,
            validation="none",
        )
        model = client.download_model(fitted)
        for rows in (x, unseen, x.iloc[:1]):
            expected = client.predict_table(rows, fitted)[target]
            np.testing.assert_array_equal(model.predict(rows), expected)
        if task == "classification":
            assert model.classes_.tolist() == ["cheap", "dear"]
            probabilities = client.predict_table(
                unseen, fitted, output="probabilities"
            ).iloc[:, 1:]
            np.testing.assert_array_equal(model.predict_proba(unseen), probabilities)
    assert {feature["kind"] for feature in model.features} == set(READ)
    assert {"constant", "row id"}.isdisjoint(model.feature_names_in_)


def test_downloaded_model_accepts_arrays() -> None:
    far = RowcastRegressor(params=SMALL).fit(X_VALUES, VALUES)
    with Client() as client:
        near = client.download_model(far.model_id_)
    np.testing.assert_array_equal(near.predict(X_VALUES), far.predict(X_VALUES))


def test_downloaded_model_names_every_column_that_it_cannot_read() -> None:
    x = features_of(mixed_table())
    with Client() as client:
        model = client.download_model(
            client.fit(x.assign(y=x["number"].fillna(0)), None, validation="none")
        )
    wrong = x.drop(columns="colour").assign(number="one", took=np.inf)
    wrong["day as text"] = "one day"
    with pytest.raises(ValueError, match="'number' has the type") as raised:
        model.predict(wrong)
    for said in (
        "'colour' appears 0 times",
        "'took' holds infinite values",
        "'day as text' holds values",
    ):
        assert said in str(raised.value)
    assert "one day" not in str(raised.value)


class Bomb:
    """Creates a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_file_that_was_changed_is_not_loaded(stack: Stack, tmp_path: Path) -> None:
    far = RowcastRegressor(params=SMALL).fit(X_VALUES, VALUES)
    storage, loaded = stack.storage(), tmp_path / "loaded"
    (name,) = [
        n
        for n in storage.names("models", "default", far.model_id_)
        if n.endswith("model.joblib")
    ]
    bomb = pickle.dumps(Bomb(loaded))
    pickle.loads(bomb)
    loaded.unlink()
    storage.write("models", "default", far.model_id_, name, bomb)
    with Client() as client:
        with pytest.raises(RowcastError, match="not the one that its manifest names"):
            client.download_model(far.model_id_)
        with pytest.raises(RowcastError, match="not the one that its manifest names"):
            client.download_model(far.model_id_, tmp_path / "model.joblib")
    assert list(tmp_path.iterdir()) == []


def test_model_that_somebody_put_into_the_store_is_not_loaded_by_the_client(
    stack: Stack, tmp_path: Path
) -> None:
    far = RowcastRegressor(params=SMALL).fit(X_VALUES, VALUES)
    storage, loaded = stack.storage(), tmp_path / "loaded"
    bomb = pickle.dumps(Bomb(loaded))
    place = JobRef("default", "fit", far.model_id_).place
    manifest = documents.parsed(storage.read(*place, "1/manifest.json"), "manifest")
    manifest["file"] = {
        "sha256": hashlib.sha256(bomb).hexdigest(),
        "size": len(bomb),
    }
    attacker = new_key()
    job = JobRef("default", "fit", far.model_id_)
    by_attacker = signing.signed(signing.members(manifest), sign_with(attacker, job))
    unsigned = signing.members(manifest)
    storage.write(*place, "1/model.joblib", bomb)
    by_hmac = {**unsigned, "signature": "0" * 64}
    for forged in (manifest, by_attacker, unsigned, by_hmac):
        storage.write(*place, "1/manifest.json", documents.as_json(forged))
        with Client() as client:
            for path in (None, tmp_path / "model.joblib"):
                with pytest.raises(RowcastError) as raised:
                    client.download_model(far.model_id_, path)
                assert raised.value.code == "model_untrusted"
    # What only workers can verify has no other remedy.
    assert raised.value.hint.startswith("Fit it again")
    assert list(tmp_path.iterdir()) == []


def test_pinned_key_decides_which_models_are_loaded(stack: Stack) -> None:
    far = RowcastRegressor(params=SMALL).fit(X_VALUES, VALUES)
    own = public_text(stack.private_key().public_bytes)
    other = public_text(new_key().public_bytes)
    with Client(verify_keys=[other, own]) as client:
        near = client.download_model(far.model_id_)
    np.testing.assert_array_equal(near.predict(X_VALUES), far.predict(X_VALUES))
    with (
        Client(verify_keys=[other]) as client,
        pytest.raises(RowcastError, match="verify_keys") as raised,
    ):
        client.download_model(far.model_id_)
    assert raised.value.code == "model_untrusted"


def test_file_of_a_model_is_saved_and_loads(tmp_path: Path) -> None:
    far = RowcastRegressor(params=SMALL).fit(X_VALUES, VALUES)
    with Client() as client:
        path = client.download_model(far.model_id_, tmp_path / "model.joblib")
        about = client.model(far.model_id_)
        signed = client.download_model(about).manifest
    assert about.manifest == {**signed, "expires_at": None}
    with path.open("rb") as file:
        near = estimators.load(file, about.manifest)
    np.testing.assert_array_equal(near.predict(X_VALUES), far.predict(X_VALUES))


def test_other_versions_are_named(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(b"no pickle at all")
    manifest = {
        "id": "m1",
        "features": [],
        "versions": {"scikit-learn": "0.9", "numpy": np.__version__},
    }
    with (
        path.open("rb") as file,
        pytest.warns(UserWarning, match=r"other versions: scikit-learn 0\.9, here"),
        pytest.raises(
            RowcastError, match="Install the versions that made it: scikit-learn"
        ),
    ):
        estimators.load(file, manifest)


READ = {
    "numeric": [
        pa.array([1.5, None]),
        pa.array([True, None]),
        pa.array([3, None]),
        pa.nulls(2),
    ],
    "boolean": [
        pa.array([True, None]),
        pa.array([" YES", "", "no", "maybe", None]),
        pa.array([0, 1, 2, None]),
        pa.array([0.5, 1.0]),
    ],
    "category": [
        pa.array(["a", "zz", None]),
        pa.array(["1", "a"]).dictionary_encode(),
        pa.array([1, 2]),
        pa.nulls(2),
        pa.array([True, False]),
        pa.array([1, None], pa.date32()),
    ],
    "text": [
        pa.array(["some text", None, ""]),
        pa.array([1, 2]),
        pa.array([1.5, None]),
    ],
    "datetime": [
        pa.array(
            [
                "2024-02-29",
                " 2024-01-01T10:00:00.5",
                "2024-01-01 10:00:00+02:00",
                "",
                None,
            ]
        ),
        pa.array([1, None], pa.timestamp("ns")),
        pa.array([10**15 + 1, None], pa.timestamp("us", "Europe/Berlin")),
        pa.array([3, None], pa.date32()),
        pa.nulls(2),
    ],
    "duration": [
        pa.array([1500, None], pa.duration("ms")),
        pa.array([1500, None], pa.time32("ms")),
        pa.array([2.5, None]),
    ],
}


@pytest.mark.parametrize(
    ("kind", "column"),
    [(kind, column) for kind, found in READ.items() for column in found],
    ids=str,
)
def test_columns_are_read_as_the_service_reads_them(kind: Any, column: Any) -> None:
    feature = columns.Feature(
        "x", kind, categories=["1", "a", "true"], date_format=dates.ISO
    )
    typed = pa.table({"x": column}).to_pandas(types_mapper=pd.ArrowDtype)["x"]
    expected = columns.read(feature, column).array
    found = estimators._read(feature.as_dict(), typed)
    pd.testing.assert_series_equal(
        pd.Series(found), pd.Series(expected), check_names=False
    )


@pytest.mark.parametrize(
    "spelling",
    [each for each in SPELLINGS if each.kind not in ("category", "text")],
    ids=lambda each: each.written,
)
def test_spellings_are_read_as_the_service_reads_them(spelling: Spelling) -> None:
    feature = infer(spelling.column)
    expected = columns.read(feature, pa.array(spelling.column)).array
    found = estimators._read(feature.as_dict(), pd.Series(spelling.column))
    pd.testing.assert_series_equal(pd.Series(found), pd.Series(expected))


def test_infinite_numbers_are_missing_where_the_feature_says_so() -> None:
    feature = columns.Feature("x", "numeric", infinite="missing")
    found = estimators._read(feature.as_dict(), pd.Series([1.5, np.inf, -np.inf]))
    assert np.array_equal(found, [1.5, np.nan, np.nan], equal_nan=True)


def test_dates_in_whole_numbers_are_read_as_the_service_reads_them() -> None:
    feature = columns.Feature("x", "datetime", date_format=dates.COMPACT)
    found = estimators._read(feature.as_dict(), pd.Series([20240131.0, None]))
    assert found.tolist() == [pd.Timestamp("2024-01-31"), pd.NaT]


@pytest.mark.parametrize("written", ["€5", "5 kg", "1.234,5", "(5)", "--5", "x", "5K"])
def test_value_that_is_spelled_in_another_way_is_refused(written: str) -> None:
    feature = infer(["$1,234", "?", "$7", "$8"])
    with pytest.raises(estimators._Unreadable, match="not numbers"):
        estimators._read(feature.as_dict(), pd.Series(["$5", written]))


def test_source_is_that_of_python_3_9() -> None:
    ast.parse((ROOT / "estimators.py").read_text(), feature_version=(3, 9))


def test_loaded_model_is_what_the_client_returns() -> None:
    far = RowcastRegressor(params=SMALL).fit(X_VALUES, VALUES)
    with Client() as client:
        assert isinstance(client.download_model(far.model_id_), LoadedModel)

"""scikit-learn estimators that a Rowcast service fits, and downloaded models that predict locally.

    model = RowcastClassifier(url="http://127.0.0.1:8080").fit(X, y)
    model.predict(X)
    same = RowcastClassifier.from_model(model.model_id_, url="http://127.0.0.1:8080")

Needs scikit-learn 1.6 or newer, pandas, pyarrow, and client.py in the same folder.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, Callable, ClassVar

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    check_array,
    check_is_fitted,
    check_X_y,
    validate_data,
)

if TYPE_CHECKING:
    import client
else:
    # In the installed package the client is the package itself, else a file in the same folder.
    client = importlib.import_module(__package__ or "client")

MIN_ROWS = 10
PREFIX = "params__"
LIBRARIES = ("scikit-learn", "skrub", "numpy", "pandas", "pyarrow", "joblib")


class _Key(str):
    """A key that stays hidden when an estimator prints its parameters, as in a notebook."""

    def __repr__(self) -> str:
        return "'***'"


def _hidden(key: str | None) -> str | None:
    # clone() requires that a parameter it passes is stored unchanged.
    if key is None or isinstance(key, _Key):
        return key
    return _Key(key)


class _Remote(BaseEstimator):
    """What both estimators share; each lists its own parameters, as scikit-learn requires."""

    _task: ClassVar[str]
    learner: str
    params: Mapping[str, Any] | None
    seed: int
    validation: str
    url: str | None
    api_key: str | None

    @classmethod
    def from_model(
        cls, model_id: str, *, url: str | None = None, api_key: str | None = None
    ) -> Any:
        """Return a fitted estimator for the model with this id.

        Raises RowcastError if the model is for the other task, and what Client.model() raises.
        """
        with client.Client(url, api_key=api_key) as service:
            about = service.model(model_id).manifest
        if about["task"] != cls._task:
            raise client.RowcastError(
                f"Model {model_id} is a {about['task']}; {cls.__name__} needs a {cls._task}."
            )
        model = cls(url=url, api_key=api_key)
        model.learner = about["learner"]
        model.params = about["params"] or None
        model.seed = about["seed"]
        method = about["validation"]["method"]
        model.validation = method if method in ("none", "cv") else "auto"
        model._take(about)
        return model

    def _take(self, about: Mapping[str, Any]) -> None:
        """Become the model that a manifest describes."""
        self.model_id_ = about["id"]
        names = [column["name"] for column in about["columns"]]
        self.n_features_in_ = len(names)
        if names != _names_of_arrays(len(names)):
            self.feature_names_in_ = np.array(names, object)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters; those of the learner also appear as params__<name>."""
        found: dict[str, Any] = super().get_params(deep)
        if deep and isinstance(self.params, Mapping):
            for name, value in self.params.items():
                found[f"{PREFIX}{name}"] = value
        return found

    def set_params(self, **given: Any) -> Any:
        """Set parameters; params__<name> sets one of the learner's and keeps the others."""
        own, nested = {}, {}
        for name, value in given.items():
            if name.startswith(PREFIX):
                nested[name[len(PREFIX) :]] = value
            else:
                own[name] = value
        super().set_params(**own)
        if nested:
            self.params = {**(self.params or {}), **nested}
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def _fit(
        self, table: pd.DataFrame, y: np.ndarray, sample_weight: Any, **more: Any
    ) -> None:
        if len(table) < MIN_ROWS:
            raise ValueError(
                f"A fit needs at least {MIN_ROWS} rows, and there are n_samples={len(table)}."
            )
        target = _free_name("y", table)
        columns = {target: y}
        if sample_weight is not None:
            weight = _free_name("sample_weight", table)
            columns[weight] = _weights(sample_weight, len(table))
            more["sample_weight"] = weight
        # The names of an array's columns do not show whether they are identifiers.
        has_names = hasattr(self, "feature_names_in_")
        params = dict(self.params or {})
        for name, value in params.items():
            params[name] = _plain(value)
        with self._connected() as service:
            self.model_id_ = service.fit(
                table.assign(**columns),
                timeout=None,
                target=target,
                task=self._task,
                learner=self.learner,
                params=params,
                seed=_plain(self.seed),
                validation=self.validation,
                identifiers="leave_out" if has_names else "use",
                **more,
            )

    def _predicted(self, X: Any, output: str = "labels") -> pd.DataFrame:
        check_is_fitted(self, "model_id_")
        table = self._table(X, reset=False)
        with self._connected() as service:
            return service.predict_table(table, self.model_id_, output=output)

    def _connected(self) -> client.Client:
        return client.Client(self.url, api_key=self.api_key)

    def _table(self, X: Any, *, reset: bool) -> pd.DataFrame:
        """Return the table to send: a DataFrame as it is, else columns x0, x1, ... of float64."""
        if not isinstance(X, pd.DataFrame):
            X = validate_data(
                self, X, reset=reset, dtype=np.float64, ensure_all_finite="allow-nan"
            )
            return pd.DataFrame(X, columns=_names_of_arrays(X.shape[1]))
        validate_data(self, X, reset=reset, skip_check_array=True)
        if not len(X):
            raise ValueError(
                f"Found array with 0 sample(s) (shape={X.shape}) while a minimum of 1 is required."
            )
        names = [str(name) for name in X.columns]
        return X.set_axis(names, axis="columns")


class RowcastClassifier(ClassifierMixin, _Remote):
    """A classifier that fits and predicts on a Rowcast service.

    `learner`, `params`, `seed`, `class_weight` and `validation` are options of the service's /fit,
    described in docs/models.md; `url` and `api_key` are those of Client. `model_id_` is the model's
    id after fit().
    """

    _task = "classification"

    def __init__(
        self,
        *,
        learner: str = "boosting",
        params: Mapping[str, Any] | None = None,
        seed: int = 0,
        class_weight: Mapping[Any, float] | str | None = None,
        validation: str = "none",
        url: str | None = None,
        api_key: str | None = None,
    ) -> None:
        self.learner = learner
        self.params = params
        self.seed = seed
        self.class_weight = class_weight
        self.validation = validation
        self.url = url
        self.api_key = _hidden(api_key)

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> RowcastClassifier:
        """Fit on X (n_rows, n_features), a DataFrame or numeric array, and labels y (n_rows,).

        Raises ValueError for input that scikit-learn rejects, and what Client.fit() raises.
        """
        table = self._table(X, reset=True)
        y = _checked(self, table, y)
        check_classification_targets(y)
        self.classes_ = np.unique(y)
        if len(self.classes_) < 2:
            raise ValueError("A classifier cannot be fitted when y has only one class.")
        self._fit(table, y, sample_weight, class_weight=self._class_weight())
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the labels (n_rows,), in the type that y had."""
        table = self._predicted(X)
        labels: np.ndarray = table.iloc[:, 0].to_numpy()
        return labels.astype(self.classes_.dtype, copy=False)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return probabilities (n_rows, n_classes), in the order of classes_."""
        table = self._predicted(X, "probabilities")
        return table.iloc[:, 1:].to_numpy(np.float64)

    def _class_weight(self) -> Any:
        """Return the weights for JSON, without those of classes that y does not have."""
        if not isinstance(self.class_weight, Mapping):
            return self.class_weight
        classes = self.classes_.tolist()
        return {
            _text(label): _plain(weight)
            for label, weight in self.class_weight.items()
            if label in classes
        }

    def _take(self, about: Mapping[str, Any]) -> None:
        super()._take(about)
        self.classes_ = _typed(about["classes"], about["target_type"])
        self.class_weight = about["class_weight"]
        if isinstance(self.class_weight, Mapping):
            labels = {_text(label): label for label in self.classes_.tolist()}
            self.class_weight = {
                labels[name]: weight for name, weight in self.class_weight.items()
            }

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.poor_score = self.learner == "baseline"
        return tags


class RowcastRegressor(RegressorMixin, _Remote):
    """A regressor that fits and predicts on a Rowcast service.

    Its parameters are those of RowcastClassifier, without `class_weight`.
    """

    _task = "regression"

    def __init__(
        self,
        *,
        learner: str = "boosting",
        params: Mapping[str, Any] | None = None,
        seed: int = 0,
        validation: str = "none",
        url: str | None = None,
        api_key: str | None = None,
    ) -> None:
        self.learner = learner
        self.params = params
        self.seed = seed
        self.validation = validation
        self.url = url
        self.api_key = _hidden(api_key)

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> RowcastRegressor:
        """Fit on X (n_rows, n_features), a DataFrame or numeric array, and numbers y (n_rows,).

        Raises ValueError for input that scikit-learn rejects, and what Client.fit() raises.
        """
        table = self._table(X, reset=True)
        y = _checked(self, table, y, y_numeric=True)
        self._fit(table, y.astype(np.float64), sample_weight)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the predictions (n_rows,), float64."""
        table = self._predicted(X)
        return table.iloc[:, 0].to_numpy(np.float64)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = self.learner == "baseline"
        return tags


def _names_of_arrays(n_features: int) -> list[str]:
    return [f"x{place}" for place in range(n_features)]


def _checked(
    estimator: _Remote, table: pd.DataFrame, y: Any, **checks: Any
) -> np.ndarray:
    """Return y as an array (n_rows,) after scikit-learn's checks, such as for missing values."""
    X = np.zeros((len(table), 1))
    _, y = check_X_y(X, y, estimator=estimator, **checks)
    return np.asarray(y)


def _weights(sample_weight: Any, n_rows: int) -> np.ndarray:
    if np.isscalar(sample_weight):
        sample_weight = np.full(n_rows, sample_weight)
    weights: np.ndarray = check_array(
        sample_weight,
        ensure_2d=False,
        allow_nd=True,
        dtype=np.float64,
        input_name="sample_weight",
    )
    if weights.shape != (n_rows,):
        raise ValueError(
            f"sample_weight.shape == {weights.shape}, expected {(n_rows,)}!"
        )
    if (weights < 0).any() or not weights.any():
        raise ValueError(
            "sample_weight must not be negative anywhere, nor zero everywhere."
        )
    return weights


def _free_name(wanted: str, table: pd.DataFrame) -> str:
    while wanted in table.columns:
        wanted += "_"
    return wanted


def _plain(value: Any) -> Any:
    """Return a value that JSON supports; hyperparameter searches pass numpy's numbers."""
    return value.item() if isinstance(value, np.generic) else value


def _text(label: Any) -> str:
    """Return a label as the service writes it."""
    if isinstance(label, (bool, np.bool_)):
        return str(label).lower()
    return str(label)


def _typed(classes: Sequence[str], type_name: str) -> np.ndarray:
    """Return a manifest's classes in the target's type, as text if pyarrow cannot convert them."""
    try:
        typed = pa.array(classes).cast(pa.type_for_alias(type_name))
    except (pa.ArrowException, ValueError):
        return np.array(classes, object)
    found: np.ndarray = typed.to_numpy(zero_copy_only=False)
    return found


# Downloaded models


def load(file: BinaryIO, manifest: Mapping[str, Any]) -> LoadedModel:
    """Load a model's file, which runs the code in it: first check that it is the manifest's.

    Warns if the installed libraries differ from those that made it. Raises RowcastError if it
    cannot be loaded with the installed ones.
    """
    model_id = manifest["id"]
    different = ", ".join(_differences(manifest.get("versions", {})))
    if different:
        warning = (
            f"Model {model_id} was made by other versions: {different}. Its predictions "
            "may differ."
        )
        warnings.warn(warning, stacklevel=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InconsistentVersionWarning)
        try:
            return LoadedModel(joblib.load(file), manifest)
        except Exception as error:
            message = f"Model {model_id} cannot be loaded: {error}."
            if different:
                message += f" Install the versions that made it: {different}."
            raise client.RowcastError(message) from error


def _differences(made_by: Mapping[str, str]) -> Iterator[str]:
    for name in LIBRARIES:
        try:
            here = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            # Only tables with dates or text need skrub; for those, loading reports what is missing.
            continue
        if made_by.get(name, here) != here:
            yield f"{name} {made_by[name]}, here {here}"


class LoadedModel:
    """A downloaded model, whose predictions equal the service's.

    `pipeline` is scikit-learn's part. `feature_names_in_` are the columns it needs; others are
    ignored.
    """

    def __init__(self, pipeline: Any, manifest: Mapping[str, Any]) -> None:
        self.pipeline = pipeline
        self.manifest = manifest
        self.features: list[dict[str, Any]] = list(manifest["features"])
        names = [feature["name"] for feature in self.features]
        self.feature_names_in_ = np.array(names, object)

    @property
    def classes_(self) -> np.ndarray:
        """The labels (n_classes,), sorted."""
        return np.asarray(self.pipeline.classes_)

    def predict(self, X: Any) -> np.ndarray:
        """Return labels or numbers (n_rows,) for a DataFrame or an array.

        An array holds all columns of the training table. Raises ValueError with every column that
        is missing or cannot be read.
        """
        frame = self._frame(X)
        return np.asarray(self.pipeline.predict(frame))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return probabilities (n_rows, n_classes), in the order of classes_; X as in predict()."""
        frame = self._frame(X)
        return np.asarray(self.pipeline.predict_proba(frame), np.float64)

    def _frame(self, X: Any) -> pd.DataFrame:
        """Return the features for the pipeline, read in the same way as by the service."""
        if not isinstance(X, pd.DataFrame):
            trained = [column["name"] for column in self.manifest["columns"]]
            X = pd.DataFrame(X, columns=trained)
        names = [str(name) for name in X.columns]
        columns = {}
        problems = []
        for feature in self.features:
            name = feature["name"]
            try:
                if names.count(name) != 1:
                    raise _Unreadable(f"appears {names.count(name)} times")
                values = X.iloc[:, names.index(name)]
                columns[name] = _read(feature, values)
            except (_Unreadable, pa.ArrowException) as error:
                problems.append(f"The column {name!r} {error}.")
        if problems:
            raise ValueError(" ".join(problems))
        return pd.DataFrame(columns, copy=False)


class _Unreadable(Exception):
    """A column cannot be read as its feature's kind; the message follows the column's name."""


_FAMILIES: tuple[tuple[Callable[[Any], bool], str], ...] = (
    (pt.is_null, "nothing"),
    (pt.is_boolean, "boolean"),
    (pt.is_integer, "numeric"),
    (pt.is_floating, "numeric"),
    (pt.is_decimal, "numeric"),
    (pt.is_string, "text"),
    (pt.is_large_string, "text"),
    (pt.is_date, "datetime"),
    (pt.is_timestamp, "datetime"),
    (pt.is_duration, "duration"),
    (pt.is_time, "duration"),
)
# The families of types that each kind can be read from, as in rowcast/tables/columns.py.
_READABLE = {
    "numeric": {"numeric", "boolean"},
    "boolean": {"boolean", "numeric", "text"},
    "category": {"text", "numeric", "boolean", "datetime", "duration"},
    "text": {"text", "numeric", "boolean"},
    "datetime": {"datetime", "text"},
    "duration": {"duration", "numeric"},
}
_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
_WORDS = {
    "true": 1.0,
    "yes": 1.0,
    "1": 1.0,
    "1.0": 1.0,
    "false": 0.0,
    "no": 0.0,
    "0": 0.0,
    "0.0": 0.0,
}


def _read(feature: Mapping[str, Any], values: pd.Series) -> Any:
    """Return the values (n_rows,) of a column in the form that the feature's kind needs."""
    frame = pd.DataFrame({"": values})
    table = pa.Table.from_pandas(frame, preserve_index=False)
    column = table.column(0).combine_chunks()
    if pt.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    families = [family for test, family in _FAMILIES if test(column.type)]
    family = families[0] if families else ""
    reading = feature.get("reading")
    if family == "text" and reading is not None:
        reader = _SPELLED[feature["kind"]]
        return reader(_usual(column), reading)
    if family == "numeric" and feature.get("date_format") == "%Y%m%d":
        column = column.cast(pa.int64()).cast(pa.string())
        family = "text"
    if family not in _READABLE[feature["kind"]] | {"nothing"}:
        raise _Unreadable(
            f"has the type {column.type}, and the model needs {feature['kind']}"
        )
    return _READERS[feature["kind"]](feature, column, family)


def _numbers(feature: Mapping[str, Any], column: Any, family: str) -> np.ndarray:
    if family == "duration":
        per_second = _PER_SECOND[column.type.unit]
        integer = pa.int32() if pt.is_time32(column.type) else pa.int64()
        column = column.cast(integer).cast(pa.float64(), safe=False)
        column = pc.divide(column, per_second)
    column = column.cast(pa.float64(), safe=False)
    values: np.ndarray = column.to_numpy(zero_copy_only=False)
    if feature.get("infinite") == "missing":
        values = np.where(np.isinf(values), np.nan, values)
    is_too_large = np.abs(values) > np.finfo(np.float32).max
    if is_too_large.any():
        raise _Unreadable("holds infinite values, or numbers over 3.4e38")
    return values


# Numbers as people write them, as in rowcast/tables/spellings.py.
_SCALES = {
    **dict.fromkeys(("k", "K"), 3),
    **dict.fromkeys(("M", "m", "mn", "Mn", "mio", "Mio", "million", "MM"), 6),
    **dict.fromkeys(("B", "b", "bn", "Bn", "Mrd", "billion"), 9),
    **dict.fromkeys(("T", "tn", "trillion"), 12),
}
_PARTS = (
    "^(?P<open>\\(?) *(?P<sign>[+-]?) *"
    "(?P<before>[A-Za-z]{1,3}\\.?|[A-Za-z]{0,2}[^0-9A-Za-z .,()'+-]|) *(?P<inner>[+-]?) *"
    "(?P<body>[0-9][0-9.,'_ ]*|[.,][0-9]+)(?P<exponent>[eE][+-]?[0-9]{1,3}|) *"
    "(?P<after>[^0-9 .,()'+_-][^0-9()]{0,15}|) *(?P<close>\\)?)(?P<trailing>-?)$"
)
_BODY = (
    "^([0-9]*|[1-9][0-9]{0,2}(_[0-9]{3})+|[1-9][0-9]?(_[0-9]{2})+_[0-9]{3})"
    "([.][0-9]*)?$"
)


def _usual(text: Any) -> Any:
    """Return text with usual blanks, minus signs and apostrophes."""
    text = _trimmed(text.cast(pa.string()))
    text = pc.replace_substring_regex(text, "[\u00a0\u2007\u2009\u202f]", " ")
    for written, usual in (("\u2212", "-"), ("\u2019", "'")):
        text = pc.replace_substring(text, written, usual)
    return text


def _without_marks(text: Any, reading: Mapping[str, Any]) -> Any:
    """Return text without the marks that stand for missing values."""
    marks = pa.array(reading.get("missing", []), pa.string())
    is_mark = pc.is_in(pc.utf8_lower(text), marks)
    return pc.if_else(is_mark, pa.scalar(None, pa.string()), text)


def _spelled(text: Any, reading: Mapping[str, Any]) -> np.ndarray:
    """Return the numbers (n_rows,) of text that is written as a feature's reading says."""
    known = _without_marks(text, reading)
    powers = _powers(reading)

    def value(whole: str | None, part: Mapping[str, str] | None) -> float | None:
        return np.nan if whole is None else _number(part or {}, reading, powers)

    parts = pc.extract_regex(known, _PARTS)
    values = list(map(value, known.to_pylist(), parts.to_pylist()))
    if None in values:
        raise _Unreadable("holds values that are not numbers")
    return np.array(values, np.float64)


def _powers(reading: Mapping[str, Any]) -> dict[str, int]:
    """Return the words that may follow a number, and by which power of ten they multiply."""
    currencies = _currency_words(reading)
    unit = reading.get("unit", "")
    powers = dict.fromkeys([*currencies, unit, unit and f"{unit}s"], 0)
    if reading.get("scales"):
        for scale, power in _SCALES.items():
            powers.update(
                dict.fromkeys([f"{scale}{word}" for word in currencies], power)
            )
            powers.update(
                dict.fromkeys([f"{scale} {word}" for word in currencies], power)
            )
    return powers


def _currency_words(reading: Mapping[str, Any]) -> list[str]:
    currency = reading.get("currency", "")
    return ["", currency, currency.upper(), currency.capitalize()]


def _number(
    part: Mapping[str, str],
    reading: Mapping[str, Any],
    powers: Mapping[str, int],
) -> float | None:
    """Return the number that these parts of text stand for, None if they stand for none."""
    part = {name: value.strip() for name, value in part.items()}
    if (
        part.get("before") not in _currency_words(reading)
        or part["after"] not in powers
    ):
        return None
    sign = part["sign"] + part["inner"] + part["trailing"] + part["open"]
    is_closed = bool(part["open"]) == bool(part["close"])
    if len(sign) > 1 or not is_closed or (part["open"] and not reading.get("brackets")):
        return None
    decimal = reading.get("decimal", ".")
    thousands = reading.get("thousands", "")
    body = part["body"] if thousands == "_" else part["body"].replace("_", "?")
    body = body.replace(thousands, "_") if thousands else body
    if decimal != ".":
        body = body.replace(".", "?").replace(decimal, ".")
    if not re.fullmatch(_BODY, body):
        return None
    exponent = part["exponent"] or f"e{powers[part['after']]}"
    value = float(body.replace("_", "") + exponent)
    return -value if sign in ("-", "(") else value


def _booleans(feature: Mapping[str, Any], column: Any, family: str) -> np.ndarray:
    if family == "text":
        words = pa.array(list(_WORDS), column.type)
        places = _places(_trimmed(pc.utf8_lower(column)), words)
        # Place -1 is the last value: words that mean neither are missing.
        meanings = np.array([*_WORDS.values(), np.nan])
        values: np.ndarray = meanings[places]
        return values
    values = _numbers(feature, column, family)
    is_boolean = (values == 0) | (values == 1)
    return np.where(is_boolean, values, np.nan)


def _categories(feature: Mapping[str, Any], column: Any, _: str) -> pd.Categorical:
    known = list(feature["categories"])
    text = column.cast(pa.string())
    codes = _places(text, pa.array(known, pa.string()))
    categories = pd.Index(known, dtype="str")
    return pd.Categorical.from_codes(codes, categories=categories)


def _places(column: Any, known: Any) -> np.ndarray:
    """Return the position (n_rows,) of each value in `known`, -1 for other values."""
    places = pc.index_in(column, value_set=known)
    places = pc.fill_null(places, -1)
    found: np.ndarray = places.to_numpy(zero_copy_only=False)
    return found


def _texts(_: Mapping[str, Any], column: Any, __: str) -> pd.Series:
    text = _known(column.cast(pa.string()))
    found: pd.Series = text.to_pandas().astype("str")
    return found


def _dates(feature: Mapping[str, Any], column: Any, family: str) -> pd.Series:
    if family == "text":
        return _dates_in_text(column, feature.get("date_format", ""))
    if family != "nothing":
        zone = column.type.tz if pt.is_timestamp(column.type) else None
        exact = pc.CastOptions(pa.timestamp("us", tz=zone), allow_time_truncate=True)
        column = column.cast(options=exact).cast(pa.int64())
    found: pd.Series = column.cast(pa.timestamp("us")).to_pandas()
    return found


def _dates_in_text(column: Any, date_format: str) -> pd.Series:
    text = _usual(column)
    times = _times(text, [date_format])
    if times.isna().sum() > text.null_count:
        raise _Unreadable(f"holds values that are not dates ({date_format})")
    return times


def _spelled_dates(text: Any, reading: Mapping[str, Any]) -> pd.Series:
    """Return the times (n_rows,) of text that is written as a feature's reading says."""
    text = _without_marks(text, reading)
    times = _times(text, reading["formats"])
    if times.isna().sum() > text.null_count and not reading.get("skips_text"):
        raise _Unreadable("holds values that are not dates")
    return times


def _times(text: Any, formats: Sequence[str]) -> pd.Series:
    """Return times (n_rows,), NaT where text is in none of the formats."""
    found = pd.Series(pd.NaT, range(len(text)), "datetime64[us]")
    for date_format in formats:
        for form in _with_full_names(date_format):
            values = _as_pandas_reads(text, date_format)
            times = pd.to_datetime(values, format=form, errors="coerce", utc=True)
            found = found.fillna(times.dt.tz_localize(None).astype(found.dtype))
    return found


def _with_full_names(date_format: str) -> list[str]:
    if date_format in ("ISO 8601", "quarter"):
        return ["ISO8601"]
    months = (date_format, date_format.replace("%b", "%B"))
    days = [each.replace("%a", "%A") for each in months]
    return list(dict.fromkeys((*months, *days)))


def _as_pandas_reads(text: Any, date_format: str) -> pd.Series:
    if date_format == "quarter":
        text = pc.replace_substring_regex(
            text, "^[Qq]([1-4])[ /-]?([0-9]{4})$", "\\2Q\\1"
        )
        text = pc.replace_substring_regex(
            text, "^([0-9]{4})[ -]?[Qq]([1-4])$", "\\1Q\\2"
        )
        for quarter, first_day in enumerate(("01-01", "04-01", "07-01", "10-01"), 1):
            text = pc.replace_substring(text, f"Q{quarter}", f"-{first_day}")
    elif date_format != "ISO 8601":
        text = pc.replace_substring_regex(text, "([0-9])(?:st|nd|rd|th)\\b", "\\1")
        text = pc.replace_substring_regex(text, "(?i)\\bsept\\b", "Sep")
        text = pc.replace_substring_regex(text, _MONTH_WITH_POINT, "\\1")
        text = pc.replace_substring_regex(text, "(?i)\\b([ap])\\.m\\.", "\\1m")
        text = pc.replace_substring_regex(text, " (?:GMT|UTC|UT)$", " +0000")
    values: pd.Series = text.to_pandas()
    return values


_MONTH_WITH_POINT = "(?i)\\b(jan|feb|mar|apr|jun|jul|aug|sep|oct|nov|dec)\\."
_CLOCK = (
    "^(?P<sign>-?)(?:(?P<days>[0-9]{1,6}) days?,? [+]?)?"
    "(?P<first>[0-9]{1,4}):(?P<second>[0-5][0-9])(?::(?P<third>[0-5][0-9]))?"
    "(?P<fraction>[.][0-9]{1,9})?(?: ?(?P<half>[AaPp])[.]?[Mm][.]?)?$"
)


def _spelled_durations(text: Any, reading: Mapping[str, Any]) -> np.ndarray:
    """Return the seconds (n_rows,) of text that is written as a feature's reading says."""
    known = _without_marks(text, reading)
    parts = pc.extract_regex(known, _CLOCK).to_pylist()

    def value(whole: str | None, part: Mapping[str, str] | None) -> float | None:
        if whole is None or part is None:
            return np.nan if whole is None else None
        return _seconds(part, reading["clock"])

    values = list(map(value, known.to_pylist(), parts))
    if None in values:
        raise _Unreadable("holds values that are not durations")
    return np.array(values, np.float64)


def _seconds(part: Mapping[str, str], clock: str) -> float | None:
    """Return the seconds that these parts of text stand for, None if they stand for none."""
    first, second, third = (
        float(part[name] or 0) for name in ("first", "second", "third")
    )
    if clock == "m:s" and not part["third"]:
        first, second, third = 0.0, first, second
    found = 3600.0 * first + 60.0 * second + third + float(part["fraction"] or 0)
    half = part["half"].lower()
    if half:
        if not 1 <= first <= 12:
            return None
        found += 43200.0 * ((half == "p") - (first == 12))
    sign = -1.0 if part["sign"] else 1.0
    if part["days"]:
        return sign * 86400.0 * float(part["days"]) + found
    return sign * found


def _trimmed(text: Any) -> Any:
    """Return text without surrounding white space; empty text becomes missing."""
    return _known(pc.utf8_trim_whitespace(text))


def _known(text: Any) -> Any:
    """Return text with missing values in place of empty ones."""
    missing = pa.scalar(None, text.type)
    return pc.if_else(pc.equal(text, ""), missing, text)


_READERS: dict[str, Callable[[Mapping[str, Any], Any, str], Any]] = {
    "numeric": _numbers,
    "boolean": _booleans,
    "category": _categories,
    "text": _texts,
    "datetime": _dates,
    "duration": _numbers,
}
_SPELLED: dict[str, Callable[[Any, Mapping[str, Any]], Any]] = {
    "numeric": _spelled,
    "datetime": _spelled_dates,
    "duration": _spelled_durations,
}

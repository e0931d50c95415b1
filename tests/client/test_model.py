"""Model: attributes, summary, plots, and loading it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

import client as module
from client import Client, ConflictError, Model, RowcastError
from tests.support.fake_service import MANIFEST, Reply, Server
from tests.support.stack import Stack
from tests.support.tables import table as numbers

REGRESSION = {
    **MANIFEST,
    "task": "regression",
    "validation": {
        "method": "cv",
        "n_rows": 9,
        "scores": {"r2": 0.5, "residual_quantiles": {"0.05": -1, "0.95": 2}},
    },
}
NOT_VALIDATED = {
    **MANIFEST,
    "validation": {"method": "none"},
    "importances": None,
    "notes": [],
}


def test_model_has_attributes_of_its_manifest(known: Model) -> None:
    assert known.id == "m1"
    assert known.task == "classification"
    assert known.target == "<b>kind</b>"
    assert known.learner == "boosting"
    assert known.scores["accuracy"] == 0.91
    assert known.baseline == {"accuracy": 0.5}
    assert list(known.importances.values()) == [0.25, None]
    assert known.notes == MANIFEST["notes"]
    assert known.manifest == MANIFEST


def test_scores_are_shown_with_their_errors() -> None:
    errors = {"standard_errors": {"r2": 0.0321}}
    validation = {"scores": {"r2": 0.5}, "uncertainty": errors}
    lines = str(Model({**REGRESSION, "validation": validation})).splitlines()
    assert any(line.split() == ["r2", "0.5", "±", "0.032"] for line in lines)


def test_model_prints_as_a_summary(known: Model) -> None:
    lines = str(known).splitlines()
    assert dict(re.split(r"  +", line, maxsplit=1) for line in lines) == {
        "model": "m1",
        "target": "<b>kind</b> (classification)",
        "learner": 'boosting {"max_iter": 9}',
        "rows": "900, 3 left out without a target",
        "validation": "split, on 180 rows",
        "accuracy": "0.91 (baseline 0.5)",
        "importances": "<script>alert(1)</script> 0.25",
        "note": "The column 'id' was left out: an identifier.",
    }


def test_model_is_a_table_in_a_notebook_with_escaped_names(known: Model) -> None:
    page = known._repr_html_()
    assert page.startswith("<table><tr><th>model</th><td>m1</td></tr>")
    assert "&lt;script&gt;alert(1)&lt;/script&gt; 0.25" in page
    assert not re.search("<(?!/?(table|tr|th|td)>)", page)


@pytest.mark.parametrize("manifest", [MANIFEST, REGRESSION, NOT_VALIDATED])
def test_model_plots_importances_and_errors(manifest: Any, tmp_path: Path) -> None:
    import matplotlib.pyplot

    matplotlib.use("Agg")
    figure = module.Model(manifest).plot()
    figure.savefig(tmp_path / "plot.png")
    titles = [axes.get_title() for axes in figure.axes[:2]]
    shown = {"split": "confusion matrix", "cv": "residuals", "none": "not validated"}
    assert titles == ["importances", shown[manifest["validation"]["method"]]]
    matplotlib.pyplot.close(figure)


def test_plot_without_matplotlib_says_what_to_install(
    known: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(RowcastError, match="pip install matplotlib"):
        known.plot()


@pytest.mark.parametrize("missing", ["estimators", "sklearn"])
def test_loading_a_model_names_what_is_missing_before_the_download(
    client: Client, service: Server, monkeypatch: pytest.MonkeyPatch, missing: Any
) -> None:
    service.queued["/models/m1"] = [Reply(200, MANIFEST)]
    monkeypatch.delitem(sys.modules, "estimators", raising=False)
    for name in list(sys.modules):
        if name == missing or name.startswith(f"{missing}."):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    hints = {
        "estimators": f"{service.url}/estimators.py",
        "sklearn": "pip install 'scikit-learn",
    }
    with pytest.raises(RowcastError, match=re.escape(hints[missing])):
        client.download_model("m1")
    assert service.requests == []


def test_checking_a_signature_names_the_missing_package(
    live: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_id = live.fit(numbers(60, 3), None)
    monkeypatch.setitem(sys.modules, "Crypto.Signature.eddsa", None)
    with pytest.raises(RowcastError, match="pip install 'pycryptodome"):
        live.download_model(model_id, tmp_path / "model.joblib")
    assert list(tmp_path.iterdir()) == []


def test_service_that_answers_another_model_or_no_signature_is_not_believed(
    client: Client, service: Server
) -> None:
    other = {"id": "m2", "signature": "", "manifest": "{}", "owner": "ann"}
    answers: list[dict[str, Any]] = [
        other,
        {},
        {**other, "signature": None},
        {**other, "manifest": 1},
    ]
    answers += [{**other, "signature": 7}, {**other, "owner": {}, "attempt": "x"}]
    for found in answers:
        answer = {**found, "url": service.url}
        service.queued["/signing_keys"] = [Reply(200, {"keys": []})]
        service.queued["/models/m1/file"] = [Reply(200, answer)]
        with pytest.raises(RowcastError) as raised:
            client.download_model("m1")
        assert raised.value.code == "model_untrusted"


@pytest.mark.parametrize("key", ["ed25519-private-" + "A" * 43, "AAAA", "*", 1, b"x"])
def test_malformed_verify_key_is_refused(key: Any) -> None:
    with pytest.raises(RowcastError, match="ed25519-public-"):
        Client(verify_keys=[key])


@pytest.mark.parametrize("keys", [[], [""], ""])
def test_pins_without_a_key_are_refused(keys: Any) -> None:
    with pytest.raises(RowcastError, match="holds no key"):
        Client(verify_keys=keys)


def test_pins_may_be_one_text(monkeypatch: pytest.MonkeyPatch) -> None:
    key = "ed25519-public-" + "A" * 43
    assert Client(verify_keys=f"{key}, {key}")._keys_of_models() == [key, key]
    monkeypatch.setenv("ROWCAST_VERIFY_KEYS", key)
    assert Client()._keys_of_models() == [key]


def test_model_of_a_real_service_has_a_summary(live: Client) -> None:
    frame = numbers(200, 3).rename(columns={"col_0": "<script>"})
    known = live.model(live.fit(frame, None))
    assert known.scores["accuracy"] > known.baseline["accuracy"]
    assert "<script>" in str(known)
    assert "<script>" in known.importances
    assert "<script>" not in known._repr_html_()


def test_model_whose_fit_has_not_finished_is_a_conflict(
    live: Client, stack: Stack
) -> None:
    with stack.frozen():
        model_id = live.fit(numbers(50, 2))
        with pytest.raises(ConflictError):
            live.model(model_id)
    live.wait(model_id)

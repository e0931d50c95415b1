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


def test_summary_lists_what_was_tried_and_why_it_was_chosen() -> None:
    cost = {"fit_s": 0.123, "predict_us_per_row": 4.567, "loss": "log_loss"}
    tried = [
        {"name": "linear", "mean": 0.41234, "std": 0.02, "size_bytes": 1_234, **cost},
        # As a version that measured no sizes wrote it.
        {"name": "forest", "mean": None, "std": None, **cost},
    ]
    about = {**MANIFEST, "leaderboard": tried, "chosen": [], "why": "It is the best."}
    lines = str(Model(about)).splitlines()
    assert [line.split("  ")[-1].strip() for line in lines if "tried" in line] == [
        "linear: 0.4123 ± 0.02, fit 0.12 s, 4.57 µs a row, 1 kB",
        "forest: fit 0.12 s, 4.57 µs a row",
    ]
    assert "It is the best." in str(Model(about))


def test_points_of_plots_are_plain_and_what_matters_has_a_line() -> None:
    curve = {
        "label": "yes",
        "thresholds": [None, 0.8, 0.25, 0.1],
        "precision": [None, 1.0, 0.75, 0.5],
        "recall": [0.0, 0.4, 0.9, 1.0],
        "false_positive_rate": [0.0, 0.0, 0.3, 1.0],
    }
    points = [
        {"share": 0.5, "n_rows": 80, "mean": 0.5},
        {"share": 1.0, "n_rows": 1_160, "mean": 0.25},
    ]
    found = Model(
        {
            **MANIFEST,
            "sets": {"coverage": {"level": 0.9, "share": 0.914, "mean_size": 1.25}},
            "plots": {
                "positive_class": "yes",
                "curves": [curve],
                "learning_curve": {"loss": "log_loss", "points": points},
            },
        }
    )
    assert found.curves == {"yes": curve}
    assert (found.positive_class, found.residuals) == ("yes", {})
    assert found.learning_curve["points"] == points
    lines = dict(re.split(r"  +", line, maxsplit=1) for line in str(found).splitlines())
    assert lines["sets"] == (
        "those of 90% hold the true class in 91%, 1.25 classes on average"
    )
    assert lines["threshold"] == "0.25 finds 90% of 'yes' with a precision of 75%"
    assert lines["learning curve"] == "log loss 0.5 by 80 rows, 0.25 by 1,160 rows"


def test_model_is_a_card_in_a_notebook_with_escaped_names(known: Model) -> None:
    page = known._repr_html_()
    assert "<th" in page
    assert ">m1</td>" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert not re.search("<(?!/?(div|p|b|table|tr|th|td)[ >])", page)


EFFECTS = {
    **MANIFEST,
    "verdict": "Better than <nothing>.",
    "leaderboard": [
        {"name": "a<b", "loss": "log_loss", "mean": 0.5, "std": 0.1, "weight": 1.0},
        {"name": "c", "loss": "log_loss", "mean": None, "failure": "ValueError"},
    ],
    "effects": {
        "classes": ["no", "<yes>"],
        "features": [
            {
                "name": "<day>",
                "kind": "datetime",
                "values": ["2020-01-01", "2020-01-02T12:00:00", "2020-03-01"],
                "predictions": [[0.9, 0.8, 0.1], [0.1, 0.2, 0.9]],
            },
            {
                "name": "<city>",
                "kind": "category",
                "values": ["<Ulm>", None],
                "predictions": [[0.5, 0.5], [0.5, 0.5]],
            },
            {"name": "text", "kind": "text", "left_out": "text"},
        ],
    },
}


def test_card_shows_verdict_leaderboard_and_effects_without_scripts() -> None:
    model = Model(EFFECTS)
    page = model._repr_html_()
    tags = "div|p|b|table|tr|th|td|span|svg|path|polyline|text"
    assert not re.search(f"<(?!/?({tags})[ >])", page)
    shown = re.sub("<[^>]*>", "|", page)
    for text in ("Better than &lt;nothing&gt;.", "a&lt;b", "0.5 ± 0.1", "ValueError"):
        assert text in shown
    for text in ("&lt;day&gt;", "2020-03-01", "&lt;Ulm&gt;", "missing", "&lt;yes&gt;"):
        assert text in shown
    # The probability of the second class grows, so its line rises.
    (line,) = re.findall('points="([^"]*)"', page)
    heights = [float(point.partition(",")[2]) for point in line.split()]
    assert heights == sorted(heights, reverse=True)
    assert list(model.effects) == ["<day>", "<city>", "text"]
    assert model.effect_classes == ["no", "<yes>"]


def test_columns_without_importance_have_no_bars() -> None:
    features = [
        {"name": name, "mean": mean} for name, mean in (("a", -1e-3), ("b", -1))
    ]
    page = Model({**EFFECTS, "importances": {"features": features}})._repr_html_()
    assert page.count("width:0.00em") == 2


def test_comparison_shows_only_what_differs(client: Client) -> None:
    other = {
        **MANIFEST,
        "id": "m2",
        "params": {"max_iter": 20},
        "selection": {"drop": ["x"]},
        "why": "The best of 3.",
        "verdict": "Good.",
        "validation": {"method": "cv", "scores": {"accuracy": 0.95, "f1": None}},
        "features": [{"name": "<x>", "kind": "numeric"}],
        "chosen": [{"name": "boosting", "weight": 1.0}],
    }
    found = client.compare([Model(MANIFEST), Model(other)])
    assert found.differences == {
        "options": {
            "params": [{"max_iter": 9}, {"max_iter": 20}],
            "selection": [None, {"drop": ["x"]}],
            "validation": ["split", "cv"],
        },
        "scores": {"accuracy": [0.91, 0.95]},
        "learners": {"boosting": [None, 1.0]},
        "features": {"<x>": [None, "numeric"]},
    }
    lines = [re.split(r"  +", line) for line in str(found).splitlines()]
    assert lines[0] == ["model", "m1", "m2"]
    assert ["score accuracy", "0.91", "0.95"] in lines
    assert ["feature <x>", "-", "numeric"] in lines
    page = found._repr_html_()
    assert "feature &lt;x&gt;" in page
    assert not re.search("<(?!/?(table|tr|th|td)[ >])", page)


def test_comparison_needs_two_models_and_says_if_nothing_differs(
    client: Client, known: Model
) -> None:
    assert "no difference" in str(client.compare([known, known]))
    with pytest.raises(RowcastError, match="at least two"):
        client.compare("m1")


def test_comparison_is_a_command(
    service: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("m1", "m2"):
        service.queued[f"/models/{name}"] = [Reply(200, {**MANIFEST, "seed": name})]
    assert module.main(["--url", service.url, "compare", "m1", "m2"]) == 0
    assert re.search("seed +m1 +m2", capsys.readouterr().out)


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

"""The arithmetic of `python -m benchmarks.learners`: division, losses, standings, cache, page."""

from __future__ import annotations

import argparse
import math
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import coverage, learners, learners_page, real_tables, standings, trials
from benchmarks.real_tables import TABLES
from benchmarks.standings import BEST, Judged, Score
from benchmarks.trials import Divided, Predicted, Trial, Verdict

BY_NAME = {table.name: table for table in TABLES}
TRIAL = Trial("iris", "linear", 0, "code")
NOWHERE = Path("nowhere")


def verdict(
    learner: str = "linear", loss: float | None = 0.5, seed: int = 0, note: str = ""
) -> Verdict:
    trial = Trial("iris", learner, seed, "code")
    return Verdict(trial, 150, loss, baseline=1.0, cpu_s=2.0, notes=[note])


def classes(n_rows: int = 40) -> pd.DataFrame:
    labels = ["a"] * (n_rows // 2) + ["b"] * (n_rows // 2)
    return pd.DataFrame({"x": range(n_rows), "y": labels})


def test_there_are_many_tables_of_all_sizes_with_names_of_their_own() -> None:
    assert len(BY_NAME) == len(TABLES) >= 60
    assert {table.package for table in TABLES} >= {"ISLP", "statsmodels", "sklearn"}


def test_tables_can_be_sent_to_other_processes() -> None:
    assert pickle.loads(pickle.dumps(TABLES)) is not None


def test_table_has_at_most_so_many_rows_and_text_for_classes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(real_tables, "MAX_ROWS", 100)
    iris = BY_NAME["iris"].load(NOWHERE)
    assert len(iris) == 100
    assert set(iris["species"]) == {"0", "1", "2"}
    assert iris.equals(BY_NAME["iris"].load(NOWHERE))


# Rows


def test_quarter_is_held_back_with_the_shares_of_the_classes() -> None:
    divided = trials.divide(classes(), "y", "classification", seed=0)
    assert dict(divided.truth.value_counts()) == {"a": 5, "b": 5}
    assert "y" not in divided.held
    assert len(divided.training) == 30


def test_at_least_ten_rows_are_held_back() -> None:
    divided = trials.divide(classes(24), "y", "classification", seed=0)
    assert len(divided.held) == 10


def test_rows_without_a_target_and_single_classes_are_learned_from() -> None:
    frame = classes()
    frame.loc[[0, 1], "y"] = [None, "single"]
    divided = trials.divide(frame, "y", "classification", seed=0)
    assert set(divided.truth) == {"a", "b"}
    assert len(divided.known) == len(divided.training) - 1
    assert "single" in set(divided.known["y"])


def test_seed_decides_which_rows_are_held_back() -> None:
    first, same, other = [
        list(trials.divide(classes(), "y", "regression", seed).held["x"])
        for seed in (0, 0, 1)
    ]
    assert first == same != other


# Losses


def test_loss_of_quantities_is_compared_with_the_mean_of_the_training_rows() -> None:
    training = pd.DataFrame({"y": [1.0, 3.0, None]})
    divided = Divided(training, pd.DataFrame(), pd.Series([2.0, 6.0], name="y"))
    predicted = Predicted(np.array([2.0, 4.0]), cpu_s=1.0)
    loss, baseline = trials.losses(divided, "regression", predicted)
    assert loss == pytest.approx(math.sqrt(2))
    assert baseline == pytest.approx(math.sqrt(8))


def test_loss_of_classes_is_compared_with_their_shares_in_the_training_rows() -> None:
    training = pd.DataFrame({"y": ["a", "a", "a", "b", None]})
    divided = Divided(training, pd.DataFrame(), pd.Series(["a", "b"], name="y"))
    probabilities = np.array([[0.5, 0.5], [0.0, 1.0]])
    predicted = Predicted(probabilities, cpu_s=1.0, classes=["b", "a"])
    loss, baseline = trials.losses(divided, "classification", predicted)
    assert loss == pytest.approx(-(math.log(0.5) + math.log(1e-15)) / 2)
    assert baseline == pytest.approx(-(math.log(0.75) + math.log(0.25)) / 2)


@pytest.mark.parametrize("name", ["iris", "linnerud"])
def test_baseline_is_as_good_as_the_baseline(name: str) -> None:
    table = BY_NAME[name]
    found = trials.run(table, Trial(name, "baseline", 0, ""), NOWHERE)
    assert not found.error
    assert standings.ratio_of(found) == pytest.approx(1)


def test_former_default_has_the_parameters_of_scikit_learn() -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier

    defaults = HistGradientBoostingClassifier().get_params()
    assert trials.FORMER.items() <= defaults.items()


def test_learner_that_fails_says_why() -> None:
    found = trials.run(BY_NAME["iris"], replace(TRIAL, learner="nonsense"), NOWHERE)
    assert found.error == "KeyError: 'nonsense'"


# Standings


@pytest.mark.parametrize(
    ("loss", "ratio"), [(0.5, 0.5), (1.5, 1.5), (7.0, 5.0), (None, 5.0)]
)
def test_ratio_is_bounded_and_a_failure_has_the_bound(
    loss: float | None, ratio: float
) -> None:
    assert standings.ratio_of(verdict(loss=loss)) == ratio


def test_best_of_three_is_chosen_by_means_over_the_seeds() -> None:
    found = [verdict("linear", 0.1), verdict("linear", 0.9, seed=1)]
    found += [verdict("forest", 0.4), verdict("forest", 0.4, seed=1)]
    found += [verdict("former", 0.6), verdict("former", 0.8, seed=1)]
    (judged,) = standings.judge(found)
    assert judged.scores[BEST].ratio == pytest.approx(0.4)
    assert judged.scores[BEST].cpu_s == 6.0


def test_table_that_a_learner_was_not_tried_on_is_left_out() -> None:
    other = verdict()
    other = replace(other, trial=replace(other.trial, table="wine"))
    found = standings.judge([verdict(), verdict("forest"), other])
    assert [each.name for each in found] == ["iris"]


def judged(*ratios: tuple[float, float]) -> list[Judged]:
    """Return a table for each pair of ratios of the former default and the new learner."""
    return [
        Judged(str(place), 100, {"former": Score(one, 1.0), "auto": Score(two, 3.0)})
        for place, (one, two) in enumerate(ratios)
    ]


def test_standing_counts_tables_that_are_worse_or_behind() -> None:
    tables = judged((0.5, 0.4), (0.5, 0.51), (0.5, 0.53), (1.5, 1.4))
    found = standings.standing("auto", tables)
    assert found.median == pytest.approx(0.52)
    assert found.mean == pytest.approx(0.71)
    assert (found.worse, found.behind, found.cpu_s) == (1, 1, 3.0)


def test_former_default_is_not_compared_with_itself() -> None:
    assert standings.standing("former", judged((0.5, 0.4))).behind is None


def test_worse_models_are_noted_only_if_each_of_them_says_so() -> None:
    note = "It is no better than the baseline."
    noted = [verdict(loss=2.0, note=note), verdict(loss=0.9, seed=1)]
    unnoted = [verdict(loss=2.0, note=note), verdict(loss=1.1, seed=1)]
    counts = [
        standings.standing("linear", standings.judge(each)).unnoted
        for each in (noted, unnoted)
    ]
    assert counts == [0, 1]


def test_sizes_hold_each_table_in_one_class_and_in_the_totals() -> None:
    tables = [
        replace(judged((0.5, 0.4))[0], n_rows=n_rows) for n_rows in (49, 99, 2_501)
    ]
    found = standings.standings(tables)
    sizes = ["below 50", "50 to 99", "over 2,500", "up to 2,500", "all"]
    assert list(found) == sizes
    assert [found[size][0].n_tables for size in sizes] == [1, 1, 1, 2, 3]


def test_total_of_a_single_class_is_left_out() -> None:
    assert list(standings.standings(judged((0.5, 0.4)))) == ["100 to 299"]


# Cache


def options(cache: Path, *keep: str) -> argparse.Namespace:
    return argparse.Namespace(cache=cache, packages=NOWHERE, processes=1, keep=keep)


def test_verdict_is_read_as_it_was_written(tmp_path: Path) -> None:
    found = verdict(note="a note")
    (tmp_path / "lines").write_text(found.to_json() + "\n")
    assert learners.read_cache(tmp_path / "lines") == {found.trial.key: found}


def test_known_verdicts_are_not_computed_again(tmp_path: Path) -> None:
    code = trials.code_of("linear")
    known = replace(verdict(), trial=replace(TRIAL, code=code))
    (tmp_path / "verdicts.jsonl").write_text(known.to_json() + "\n")
    tables = [BY_NAME["iris"]]
    assert learners.verdicts(tables, ["linear"], [0], options(tmp_path)) == [known]


def test_verdicts_of_other_code_count_for_learners_to_keep(tmp_path: Path) -> None:
    old = verdict(loss=0.25)
    (tmp_path / "verdicts.jsonl").write_text(old.to_json() + "\n")
    kept = options(tmp_path, "linear")
    assert learners.verdicts([BY_NAME["iris"]], ["linear"], [0], kept) == [old]


def test_code_of_a_learner_of_others_does_not_depend_on_ours() -> None:
    assert trials.code_of("linear") == trials.code_of("forest")
    assert "skrub" in trials.code_of("skrub")


# Page


def test_page_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "quality.md"
    path.write_text("# Quality\n\nTen tables.\n")
    page = learners_page.Page(
        [BY_NAME["iris"]],
        {"iris": (150, 5)},
        standings.judge([verdict("former"), verdict("linear", 1.5)]),
        n_seeds=1,
        flaml=[],
        flaml_s=60,
    )
    for _ in range(2):
        learners_page.write(path, learners_page.HEADING, page.text())
    text = path.read_text()
    assert text.startswith(
        "# Quality\n\nTen tables.\n\n## Real tables\n\n1 of the 138 tables"
    )
    assert text.count("| iris | sklearn | 150 | 5 | `species` | 0.500 | 1.500 |") == 1
    assert "| 100 to 299 | 1 | `linear` | 1.500 | 1.500 | 1 (1) | 1 | 2.00 |" in text


def test_part_of_a_page_leaves_the_later_ones(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("# Page\n\n## One\n\nold\n\n## Two\n\nkept\n")
    learners_page.write(path, "\n## One\n", "\n## One\n\nnew\n")
    assert path.read_text() == "# Page\n\n## One\n\nnew\n\n## Two\n\nkept\n"


# Coverage


def test_tables_serve_in_turn_with_rows_of_their_class() -> None:
    found = coverage.repetitions((30, 49), 8, NOWHERE, "synthetic")
    assert [each.table for each in found] == 2 * list(coverage.SYNTHETIC)
    assert {30 <= each.n_rows <= 49 for each in found} == {True}
    assert len({each.n_rows for each in found}) > 1


def test_judged_rows_are_others_than_those_learned_from() -> None:
    divided = coverage.draw(coverage.Repetition("diabetes", (100, 299), 1), NOWHERE)
    assert 100 <= len(divided.training) <= 299
    assert len(divided.training) + len(divided.held) == 442
    assert "progress" not in divided.held


def test_coverage_of_a_class_is_the_mean_over_its_tables() -> None:
    shares = {"normal": 0.8, "diabetes": 0.9}
    found = [
        coverage.Covered(coverage.Repetition(name, (30, 49), 0), share)
        for name, share in shares.items()
    ]
    failed = coverage.Covered(coverage.Repetition("skewed", (30, 49), 0), None, "no")
    _, _, of_all, *_ = coverage.coverage_lines([*found, failed])
    assert of_all == "| 30 to 49 | all | 2 | 85.0 % | 5.0 % | 81.0 % | 89.0 % |"

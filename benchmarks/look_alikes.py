"""Synthetic look-alikes of known public tables, with a signal, noise and missing values.

They are made with a fixed seed, so they are always the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

_SEED = 7

_ZONES = {"RL": 0.77, "RM": 0.16, "FV": 0.05, "RH": 0.01, "C (all)": 0.01}
_STYLES = {"1Story": 0.5, "2Story": 0.3, "1.5Fin": 0.13, "SLvl": 0.07}
_GARAGES = {"Attchd": 0.6, "Detchd": 0.3, "BuiltIn": 0.07, "Basment": 0.03}


def house_prices() -> pd.DataFrame:
    """Return 2,930 sales like the Ames housing data: a skewed price, many categories."""
    rng = np.random.default_rng(_SEED)
    n = 2_930
    worth = dict(zip(_names("Nbhd", 28), rng.normal(0, 0.22, 28), strict=True))
    houses = pd.DataFrame(
        {
            "Order": np.arange(1, n + 1),
            "Neighborhood": rng.choice(list(worth), n, p=_falling(28)),
            "MS Zoning": _drawn(rng, _ZONES, n),
            "House Style": _drawn(rng, _STYLES, n),
            "Lot Area": rng.lognormal(9.1, 0.4, n).round().astype(int),
            "Overall Qual": np.clip(rng.normal(6.1, 1.4, n).round(), 1, 10).astype(int),
            "Year Built": rng.integers(1900, 2010, n),
            "Gr Liv Area": rng.lognormal(7.25, 0.33, n).round().astype(int),
            "Garage Cars": rng.choice([0, 1, 2, 3], n, p=[0.05, 0.27, 0.55, 0.13]),
            "Garage Type": _drawn(rng, _GARAGES, n),
            "Central Air": rng.choice(["Y", "N"], n, p=[0.93, 0.07]),
            "Mo Sold": rng.integers(1, 13, n),
            "Yr Sold": rng.integers(2006, 2011, n),
        }
    )
    quality = houses["Overall Qual"] + rng.normal(0, 0.8, n)
    houses["Lot Frontage"] = np.sqrt(houses["Lot Area"]) * rng.normal(0.68, 0.1, n)
    houses["Kitchen Qual"] = _graded(quality, [4.5, 6.0, 8.0], ["Fa", "TA", "Gd", "Ex"])
    grades = ["Po", "Fa", "TA", "Gd", "Ex"]
    houses["Fireplace Qu"] = _graded(quality, [4.5, 5.5, 7.0, 8.5], grades)
    log_price = _log_price(houses, quality) + houses["Neighborhood"].map(worth)
    log_price += rng.normal(0, 0.11, n)
    houses["SalePrice"] = np.exp(log_price).round(-2).astype(int)
    gaps = {
        "Lot Frontage": 0.17,
        "Kitchen Qual": 0.03,
        "Fireplace Qu": 0.4,
        "Garage Type": 0.05,
    }
    categories = [
        "Neighborhood",
        "MS Zoning",
        "House Style",
        "Kitchen Qual",
        "Fireplace Qu",
        "Garage Type",
    ]
    types = {**dict.fromkeys(categories, "category"), "Garage Cars": "Int64"}
    return _with_gaps(houses, rng, gaps).astype(types)


def _log_price(houses: pd.DataFrame, quality: pd.Series) -> pd.Series:
    return (
        11.6
        + 0.1 * (quality - 6)
        + 0.55 * (np.log(houses["Gr Liv Area"]) - 7.25)
        + 0.1 * (np.log(houses["Lot Area"]) - 9.1)
        + 0.0025 * (houses["Year Built"] - 1970)
        + 0.07 * houses["Garage Cars"]
        + 0.1 * (houses["Central Air"] == "Y")
    )


def bike_sharing() -> pd.DataFrame:
    """Return 17,379 hours like Washington's bike sharing data: rentals by time and weather."""
    rng = np.random.default_rng(_SEED)
    n = 17_379
    time = pd.Series(pd.date_range("2011-01-01", periods=n, freq="h"))
    days = time.dt.normalize()
    is_holiday = days.isin(days.drop_duplicates().sample(22, random_state=_SEED))
    is_working = (time.dt.day_of_week < 5) & ~is_holiday
    clouds = 4 * _slow(rng, n, halflife=6)
    weather = _graded(clouds.rank(pct=True), [0.66, 0.92], ["clear", "mist", "rain"])
    warmth = _warmth(time) + 25 * _slow(rng, n, halflife=48)
    rentals = _rentals(time, is_working, warmth) * weather.map(
        {"clear": 1.0, "mist": 0.85, "rain": 0.45}
    )
    seasons = ["winter", "spring", "summer", "fall", "winter"]
    hours = pd.DataFrame(
        {
            "datetime": time.dt.strftime("%Y-%m-%d %H:%M:%S"),
            "season": _graded(time.dt.day_of_year, [80, 172, 264, 355], seasons),
            "holiday": np.where(is_holiday, "true", "false"),
            "workingday": np.where(is_working, "true", "false"),
            "weather": weather,
            "temp": (warmth + rng.normal(0, 1, n)).round(2),
            "humidity": np.clip(
                55 + 12 * clouds + rng.normal(0, 10, n), 5, 100
            ).round(),
            "windspeed": rng.gamma(2.5, 5, n).round(1),
            "count": rng.poisson(rentals * rng.gamma(25, 1 / 25, n)),
        }
    )
    return _with_gaps(
        hours, rng, {"weather": 0.03, "humidity": 0.05, "windspeed": 0.12}
    )


def _warmth(time: pd.Series) -> pd.Series:
    """Return the usual temperature of a day and hour, in degrees Celsius."""
    by_day = 12 * np.cos(2 * np.pi * (time.dt.day_of_year - 20) / 365)
    return 14 - by_day - 4 * np.cos(2 * np.pi * (time.dt.hour - 3) / 24)


def _rentals(time: pd.Series, is_working: pd.Series, warmth: pd.Series) -> pd.Series:
    hour = time.dt.hour
    commuting = np.exp(-((hour - 8) ** 2) / 3) + 1.2 * np.exp(-((hour - 17.5) ** 2) / 5)
    leisure = np.exp(-((hour - 14) ** 2) / 22)
    by_hour = 12 + np.where(is_working, 330 * commuting + 70 * leisure, 260 * leisure)
    growth = 1 + 0.6 * (time.dt.year == 2012)
    return by_hour * growth * np.clip(0.25 + warmth / 28, 0.1, 1.3)


# What each part of a title adds to the logarithm of the pay.
_GRADES = {"": 0.0, "Senior ": 0.18, "Principal ": 0.34, "Assistant ": -0.16}
_LEVELS = {"": 0.0, " I": -0.05, " II": 0.03, " III": 0.12, " (Shift)": 0.04}
_TRADES = {
    "Police Officer": 4.2,
    "Firefighter Rescuer": 4.15,
    "Bus Operator": 3.85,
    "Office Services Coordinator": 3.9,
    "Community Health Nurse": 4.3,
    "Information Technology Specialist": 4.5,
    "Librarian": 4.1,
    "Crossing Guard": 2.9,
    "Correctional Officer": 4.1,
    "Equipment Operator": 3.95,
    "Social Worker": 4.2,
    "Program Manager": 4.65,
    "Planning Specialist": 4.35,
    "Accountant Auditor": 4.3,
    "Liquor Store Clerk": 3.6,
    "Attorney": 4.75,
}


def employee_salaries() -> pd.DataFrame:
    """Return 9,228 employees like those of Montgomery County.

    Titles are free text, hire dates are strings.
    """
    rng = np.random.default_rng(_SEED)
    n = 9_228
    grade, trade, level = (
        pd.Series(rng.choice(list(words), n, p=_falling(len(words))))
        for words in (_GRADES, _TRADES, _LEVELS)
    )
    # Each department employs people of a few trades.
    department = (
        trade.map({word: i for i, word in enumerate(_TRADES)}) * 2
        + rng.integers(0, 7, n)
    ) % 37
    days = pd.Series(rng.gamma(2, 2_200, n).clip(30, 16_000).round())
    is_full_time = rng.random(n) < 0.9
    log_pay = grade.map(_GRADES) + trade.map(_TRADES) + level.map(_LEVELS)
    log_pay += (
        0.018 * (days / 365).clip(upper=30)
        - 0.45 * ~is_full_time
        + rng.normal(0, 0.09, n)
    )
    title = grade + trade + level
    divisions = pd.Series(_names("Division of ", 37 * 9))
    employees = pd.DataFrame(
        {
            "gender": rng.choice(["F", "M"], n, p=[0.4, 0.6]),
            "department": department.map(dict(enumerate(_names("D", 37)))),
            "division": divisions[department * 9 + rng.integers(0, 9, n)].to_numpy(),
            "assignment_category": np.where(
                is_full_time, "Fulltime-Regular", "Parttime-Regular"
            ),
            "employee_position_title": title,
            "underfilled_job_title": title.sample(
                frac=1, random_state=_SEED
            ).to_numpy(),
            "date_first_hired": (
                pd.Timestamp("2016-12-31") - pd.to_timedelta(days, "D")
            ).dt.strftime("%m/%d/%Y"),
            "current_annual_salary": (np.exp(log_pay) * 1_000).round(2),
        }
    )
    return _with_gaps(
        employees, rng, {"gender": 0.03, "division": 0.1, "underfilled_job_title": 0.4}
    )


# What each value adds to the risk.
_ACCOUNTS = {
    "überzogen": 1.4,
    "unter 200 €": 0.6,
    "ab 200 €": -0.3,
    "kein Girokonto": -1.3,
}
_SAVINGS = {"unter 100 €": 0.4, "100 bis 500 €": 0.0, "über 500 €": -0.9}
_EMPLOYED = {
    "arbeitslos": 0.9,
    "unter 1 Jahr": 0.5,
    "1 bis 4 Jahre": 0.0,
    "über 4 Jahre": -0.5,
}
_PURPOSES = {
    "Kauf eines Gebrauchtwagens": 0.2,
    "Kauf eines Neuwagens": -0.2,
    "Möbel für die Küche": 0.1,
    "Umschulung": 0.6,
    "Reparatur des Daches": 0.1,
    "Gründung eines Geschäfts": 0.7,
    "Fernseher und Radio": -0.4,
    "Urlaub": 0.4,
}


def german_credit() -> pd.DataFrame:
    """Return 5,000 loans like the German credit data, in German as a bank would export them."""
    rng = np.random.default_rng(_SEED)
    n = 5_000
    applied = pd.Series(
        pd.Timestamp("2019-01-01") + pd.to_timedelta(rng.integers(0, 1_460, n), "D")
    )
    age = pd.Series(rng.gamma(6, 6, n).clip(0, 57) + 18)
    months = rng.choice(
        [6, 12, 18, 24, 36, 48, 60], n, p=[0.1, 0.2, 0.15, 0.25, 0.15, 0.1, 0.05]
    )
    purpose = pd.Series(rng.choice(list(_PURPOSES), n))
    loans = pd.DataFrame(
        {
            "Kundennummer": [
                f"K-{number}"
                for number in rng.permutation(np.arange(10_000, 10_000 + n))
            ],
            "Antragsdatum": applied.dt.strftime("%d.%m.%Y"),
            "Geburtsdatum": (
                applied - pd.to_timedelta((age * 365.25).round(), "D")
            ).dt.strftime("%d.%m.%Y"),
            "Girokonto": rng.choice(list(_ACCOUNTS), n),
            "Sparguthaben": rng.choice(list(_SAVINGS), n, p=[0.6, 0.2, 0.2]),
            "Beschäftigt seit": rng.choice(
                list(_EMPLOYED), n, p=[0.06, 0.2, 0.4, 0.34]
            ),
            "Laufzeit in Monaten": months,
            "Kredithöhe": (rng.lognormal(7.2, 0.6, n) * np.sqrt(months / 12)).round(2),
            "Zinssatz": rng.normal(5.5, 1.2, n).clip(1.5).round(2),
            "Verwendungszweck": purpose
            + ", "
            + pd.Series(rng.choice(_names("Ort ", 60), n)),
            "Telefon": rng.choice(["ja", "nein"], n, p=[0.4, 0.6]),
        }
    )
    risk = _risk(loans) + purpose.map(_PURPOSES) - 0.02 * (age - 36)
    is_bad = rng.random(n) < 1 / (1 + np.exp(-1.4 * risk))
    gaps = {
        "Beschäftigt seit": 0.03,
        "Zinssatz": 0.1,
        "Girokonto": 0.2,
        "Sparguthaben": 0.4,
    }
    return _with_gaps(
        loans.assign(Rückzahlung=np.where(is_bad, "schlecht", "gut")), rng, gaps
    )


def _risk(loans: pd.DataFrame) -> pd.Series:
    return (
        -1.3
        + loans["Girokonto"].map(_ACCOUNTS)
        + loans["Sparguthaben"].map(_SAVINGS)
        + loans["Beschäftigt seit"].map(_EMPLOYED)
        + 0.03 * (loans["Laufzeit in Monaten"] - 20)
        + 0.5 * (np.log(loans["Kredithöhe"]) - 7.3)
    )


def _names(start: str, count: int) -> list[str]:
    """Return names that differ in their letters, like codes of places and departments."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return [
        f"{start}{letters[i * 7 % 26]}{letters[i * 11 % 26]}{letters[i // 26]}"
        for i in range(count)
    ]


def _drawn(rng: np.random.Generator, shares: dict[str, float], n: int) -> np.ndarray:
    return rng.choice(list(shares), n, p=list(shares.values()))


def _falling(count: int) -> np.ndarray:
    """Return shares of categories (count,), the last a quarter as frequent as the first."""
    shares = np.linspace(1, 0.25, count)
    return np.asarray(shares / shares.sum())


def _graded(
    values: pd.Series, limits: Sequence[float], names: Sequence[str]
) -> pd.Series:
    """Return the name of the interval that each value is in."""
    return pd.Series(np.array(names)[np.searchsorted(limits, values)])


def _slow(rng: np.random.Generator, n: int, *, halflife: float) -> pd.Series:
    """Return a series (n,) around 0 that changes slowly, like weather."""
    noise = pd.Series(rng.normal(size=n + 1_000))
    return noise.ewm(halflife=halflife).mean()[1_000:].reset_index(drop=True)


def _with_gaps(
    table: pd.DataFrame, rng: np.random.Generator, shares: dict[str, float]
) -> pd.DataFrame:
    """Return the table with a share of each of these columns missing."""
    masked = {
        name: table[name].mask(rng.random(len(table)) < share)
        for name, share in shares.items()
    }
    return table.assign(**masked)

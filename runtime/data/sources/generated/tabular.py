"""People and their incomes: numbers and categories with an interaction, for wide and deep networks."""

from __future__ import annotations

import numpy as np

from ...table import Array, Table, from_arrays
from .core import draws, row_count, source_of

EDUCATIONS = np.array(["school", "college", "bachelor", "master", "doctor"])
JOBS = np.array(["engineer", "nurse", "teacher", "clerk", "cook", "driver"])
STUDIED_JOBS = 3  # so many of the first
REGIONS = np.array(["centre", "coast", "north", "south"])
HIGH = 40_000
MISSING = 0.02


def tabular(rows: int | None, seed: int) -> Table:
    """People and their incomes, where what an education is worth depends on the job.

    `age` is a whole number from 18 to 69, `hours` a week are normal around 38 (10 to 70); `education`
    (school, college, bachelor, master, doctor), `job` and `region` are drawn evenly and apart. The
    logarithm of the income is that of 38,000, plus 0.22 for each level of education above bachelor for
    an engineer, nurse or teacher and *minus* as much for a clerk, cook or driver (below bachelor the
    other way round), so that education alone tells nothing; plus 0.02 for each hour above 38, minus
    0.00025 times the square of the years from 48, plus 0.15 on the coast, minus 0.1 in the south, plus
    normal noise (0.12). `income` is rounded to hundreds, and `high` is `yes` where it is above 40,000.
    Two per cent of the cells of `hours` and of `job`, drawn at random, are missing.
    """
    rows = row_count("tabular", rows, default=5_000, most=1_000_000)
    rng = draws(seed, "tabular")
    age = rng.integers(18, 70, rows)
    hours = np.clip(np.rint(rng.normal(38, 8, rows)), 10, 70)
    education, job, region = (rng.integers(0, len(names), rows) for names in (EDUCATIONS, JOBS, REGIONS))
    income = np.round(_income(rng, age, hours, education, job, region), -2)
    hours[rng.random(rows) < MISSING] = np.nan
    jobs = JOBS[job].astype(object)
    jobs[rng.random(rows) < MISSING] = None
    columns = {
        "age": age,
        "hours": hours,
        "education": EDUCATIONS[education],
        "job": jobs,
        "region": REGIONS[region],
        "income": income,
        "high": np.where(income > HIGH, "yes", "no"),
    }
    return from_arrays(columns, source_of("tabular"))


def _income(rng: np.random.Generator, age: Array, hours: Array, education: Array, job: Array, region: Array) -> Array:
    worth = np.where(job < STUDIED_JOBS, 0.22, -0.22) * (education - 2)
    place = np.array([0.0, 0.15, 0.0, -0.1])[region]
    logarithm = worth + 0.02 * (hours - 38) - 0.00025 * (age - 48) ** 2 + place
    return np.asarray(38_000 * np.exp(logarithm + 0.12 * rng.standard_normal(len(age))))

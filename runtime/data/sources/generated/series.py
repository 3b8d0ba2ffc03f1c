"""An hourly series that depends on its past, on the clock and on the weather, for forecasting."""

from __future__ import annotations

from itertools import accumulate

import numpy as np

from ...table import Array, Mask, Table, from_arrays
from .core import draws, row_count, source_of

START = np.datetime64("2022-01-01T00", "h")
HOLIDAYS = ("01-01", "01-06", "05-01", "08-15", "10-03", "11-01", "12-25", "12-26")
COMFORT = 18.0  # degrees Celsius


def series(rows: int | None, seed: int) -> Table:
    """The load of a power grid in MW, hour by hour from the start of 2022; a year by default.

    `temperature` (°C) is 11, plus a yearly wave of 10 that is lowest on 20 January, a daily wave of 4
    that is highest at 15:00, and a first-order autoregression (coefficient 0.98, noise 0.6).

    `load` is 500, plus a daily curve (70 cos 2π(h - 18)/24 + 35 cos 4π(h - 9)/24), plus 60 on working
    days from 7:00 to 18:59, plus 6 for each degree that the felt temperature is below 18 °C or 10 for
    each degree above, plus a first-order autoregression (0.9, noise 8). The felt temperature follows
    the temperature with a lag: each hour it moves by a twelfth of the difference. No working days
    are Saturdays, Sundays and the days of `holiday` = 1, which are the same eight dates every year.
    """
    rows = row_count("series", rows, default=8_760, most=500_000)
    rng = draws(seed, "series")
    times = START + np.arange(rows)
    hour = np.arange(rows) % 24
    days = times.astype("datetime64[D]")
    holiday = _holidays(days)
    year_day = (times - np.datetime64("2022-01-20", "h")).astype(np.int64) / 24
    temperature = 11 - 10 * np.cos(2 * np.pi * year_day / 365.25) + 4 * np.cos(2 * np.pi * (hour - 15) / 24)
    temperature = np.round(temperature + _autoregression(rng, rows, 0.98, 0.6), 1)
    distance = _felt(temperature) - COMFORT
    working = np.is_busday(days) & ~holiday & (hour >= 7) & (hour < 19)
    daily = 70 * np.cos(2 * np.pi * (hour - 18) / 24) + 35 * np.cos(4 * np.pi * (hour - 9) / 24)
    load = 500 + daily + 60 * working + np.where(distance < 0, -6 * distance, 10 * distance)
    columns = {
        "time": np.datetime_as_string(times, unit="m"),
        "load": np.round(load + _autoregression(rng, rows, 0.9, 8.0), 1),
        "temperature": temperature,
        "holiday": holiday,
    }
    return from_arrays(columns, source_of("series"))


def _holidays(days: Array) -> Mask:
    """Which days, given as dates, are holidays."""
    return np.isin([day[5:] for day in np.datetime_as_string(days).tolist()], HOLIDAYS)


def _felt(temperature: Array) -> Array:
    """The temperature as buildings follow it."""
    return np.fromiter(accumulate(temperature.tolist(), lambda felt, now: felt + (now - felt) / 12), np.float64)


def _autoregression(rng: np.random.Generator, rows: int, keep: float, noise: float) -> Array:
    """x[t] = keep * x[t-1] + noise, started in its long-run distribution."""
    steps = noise * rng.standard_normal(rows)
    steps[0] /= np.sqrt(1 - keep**2)
    return np.fromiter(accumulate(steps.tolist(), lambda last, step: keep * last + step), np.float64)

"""Data in, numbers out: data, training, evaluation, checkpoints, runs.

Importing this package registers sources, cleaning steps, splits, encodings, metrics, schedules and averages, so that
specs that name them can be read.
"""

from __future__ import annotations

from . import averages, data, metrics, schedules

__all__ = ["averages", "data", "metrics", "schedules"]

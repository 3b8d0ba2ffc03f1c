"""Data in, numbers out: data, training, evaluation, checkpoints, runs.

Importing this package registers sources, cleaning steps, splits, encodings, metrics and schedules, so that specs that
name them can be read.
"""

from __future__ import annotations

from . import data, metrics, schedules

__all__ = ["data", "metrics", "schedules"]

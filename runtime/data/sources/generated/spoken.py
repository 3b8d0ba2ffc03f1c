"""Digits spoken in a made-up way, for the recognition of speech."""

from __future__ import annotations

from functools import cache

import numpy as np

from .....compiler.structs import Struct
from ...table import Array, Column, Rows, Table, as_column, make_table, ragged_column
from .core import draws, row_count, source_of

RATE = 8_000
SPEAKERS = 20
LONGEST = 4  # digits in a sequence
SEGMENT = 0.11  # seconds, at a usual speed
HIGHEST = 3_000  # hertz: no harmonic lies above
WIDTH = 110  # hertz: how sharply harmonics near a formant stand out
# The formants, in hertz, of the segments of each digit; several digits share a segment.
VOWELS = {
    "a": (750, 1250), "e": (520, 1850), "i": (300, 2300), "o": (480, 900), "u": (320, 750), "y": (360, 1500),
}  # fmt: skip
DIGITS = ("io", "ua", "yu", "iie", "oa", "aie", "ei", "eae", "ey", "ai")


def spoken(rows: int | None, seed: int) -> Table:
    """One digit in each row, by one of 20 speakers (`audio` at 8,000 samples a second, `rate`, `speaker`, `digit`).

    A digit is a fixed sequence of two or three segments out of six, such as `io` for 0. A segment is a
    sum of harmonics of the pitch, strongest near the segment's two formants (750 and 1,250 hertz for
    `a`), for 0.11 seconds, with 15 milliseconds of rise and fall. A speaker has a pitch (90 to 240
    hertz), a factor on the formants (0.88 to 1.14), a speed (0.85 to 1.2) and a loudness; in each row
    pitch, speed (normal on a logarithmic scale, 0.06) and loudness (0.2) differ a little, and the pitch
    falls by a tenth within a digit. Before and after are 0.02 to 0.15 seconds of silence, and over all
    of it lies white noise, 3 to 25 decibels below the rest. Samples lie between -1 and 1.
    """
    rows = row_count("spoken", rows, default=1_000, most=20_000)
    rng = draws(seed, "spoken")
    digits = rng.integers(0, 10, rows)
    columns = _columns(rng, seed, [digits[i : i + 1] for i in range(rows)], "digit")
    return make_table(columns, source_of("spoken"))


def spoken_sequences(rows: int | None, seed: int) -> Table:
    """One to four digits in each row, such as `text` 407 (`audio` at 8,000 samples a second, `rate`, `speaker`).

    Digits and speakers are those of `spoken` with the same seed. Between two digits are 0.02 to 0.15
    seconds of silence. Lengths and digits are drawn evenly, so a digit may follow itself.
    """
    rows = row_count("spoken_sequences", rows, default=1_000, most=10_000)
    rng = draws(seed, "spoken_sequences")
    lengths = rng.integers(1, LONGEST + 1, rows)
    digits = rng.integers(0, 10, (rows, LONGEST))
    columns = _columns(rng, seed, [row[:n] for row, n in zip(digits, lengths, strict=True)], "text")
    return make_table(columns, source_of("spoken_sequences"))


class Voice(Struct):
    """How a speaker, or one row of theirs, sounds."""

    pitch: float  # hertz
    tract: float  # a factor on every formant
    speed: float
    loudness: float

    def varied(self, rng: np.random.Generator) -> Voice:
        """The same voice as one row has it."""
        pitch, speed, loudness = np.exp(rng.normal(0, (0.06, 0.06, 0.2))).tolist()
        return Voice(self.pitch * pitch, self.tract, self.speed * speed, self.loudness * loudness)


def _columns(rng: np.random.Generator, seed: int, digits: list[Rows], name: str) -> dict[str, Column]:
    """The columns of rows in which these digits are spoken; `name` is the column that says which."""
    voices = _voices(seed)
    speakers = rng.integers(0, SPEAKERS, len(digits)).tolist()
    audio = [_row(rng, voices[s].varied(rng), row) for s, row in zip(speakers, digits, strict=True)]
    source = source_of("spoken")
    return {
        "audio": ragged_column(audio),
        "rate": as_column("rate", np.full(len(digits), RATE), source),
        "speaker": as_column("speaker", [f"speaker {s}" for s in speakers], source),
        name: as_column(name, ["".join(map(str, row.tolist())) for row in digits], source),
    }


def _voices(seed: int) -> list[Voice]:
    rng = draws(seed, "voices")
    low, high = (90, 0.88, 0.85, 0.05), (240, 1.14, 1.2, 0.2)
    return [Voice(*rng.uniform(low, high).tolist()) for _ in range(SPEAKERS)]


def _row(rng: np.random.Generator, voice: Voice, digits: Rows) -> Array:
    """The samples of one row: digits with silence before, between and after, and noise over all of it."""
    parts = [_silence(rng)]
    for digit in digits.tolist():
        parts += [say(voice, DIGITS[digit]), _silence(rng)]
    clean = np.concatenate(parts)
    level = np.sqrt(np.square(clean).mean()) * 10 ** (-rng.uniform(3, 25) / 20)
    noisy = clean + level * rng.standard_normal(len(clean), np.float32)
    return np.asarray(np.clip(noisy, -1, 1), np.float32)


def _silence(rng: np.random.Generator) -> Array:
    return np.zeros(int(rng.uniform(0.02, 0.15) * RATE), np.float32)


def say(voice: Voice, segments: str) -> Array:
    """The samples of a digit, with a pitch that falls by a tenth."""
    length = int(SEGMENT / voice.speed * RATE)
    falling = np.linspace(1, 0.9, length * len(segments))
    phases = np.cumsum(2 * np.pi * voice.pitch / RATE * falling).reshape(len(segments), length)
    harmonics = voice.pitch * np.arange(1, max(2, int(HIGHEST / voice.pitch) + 1))
    gains = np.stack([_gains(harmonics, vowel, voice.tract) for vowel in segments])
    sound = voice.loudness * _sum_of_sines(gains, phases) * _envelope(length)
    return np.asarray(sound.reshape(-1), np.float32)


def _sum_of_sines(gains: Array, phases: Array) -> Array:
    """The sum over h of gains[:, h] * sin((h + 1) * phases), by Clenshaw's recurrence: it needs no sine for each h."""
    twice = 2 * np.cos(phases)
    now, before, following = np.zeros_like(phases), np.zeros_like(phases), np.empty_like(phases)
    for gain in gains.T[::-1, :, None]:
        np.multiply(twice, now, out=following)
        following -= before
        following += gain
        now, before, following = following, now, before
    return np.asarray(now * np.sin(phases))


def _gains(frequencies: Array, vowel: str, tract: float) -> Array:
    """How strong each harmonic is: resonances at the formants, together of power one."""
    first, second = (1 / (1 + ((frequencies - tract * formant) / WIDTH) ** 2) for formant in VOWELS[vowel])
    strength = first + 0.6 * second
    return np.asarray(strength / np.sqrt(np.square(strength).sum()))


@cache
def _envelope(length: int) -> Array:
    """Up and down within 15 milliseconds."""
    edge = int(0.015 * RATE)
    rise = np.minimum(1, np.arange(1, length + 1) / edge)
    return np.asarray(rise * rise[::-1])

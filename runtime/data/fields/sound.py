"""Fields of sound: spectrograms and samples, every row as long as the others."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from ....compiler.spec.kinds import NonNegative, Of, Positive, PositiveFloat, Word
from ....compiler.spec.registry import AUGMENTATIONS, ENCODERS, Call
from ....compiler.structs import Struct
from ..augmentation import augmented
from ..table import Array, Column, DataError, Table, counted, numeric
from .core import Encoder, FieldError, Fitted, State
from .numbers import standard

FRAMES = 1024
"""So many frames are transformed at a time."""

MOST = 1 << 26
"""The largest number of samples of a row."""

LONGEST = 1 << 16
"""The largest number of samples of a frame."""

BANDS = 512
"""The largest number of bands."""

FLOOR = 1e-6


@ENCODERS.register
def spectrogram(
    *,
    column: Word = "audio",
    rate: Positive,
    seconds: PositiveFloat,
    window: PositiveFloat = 0.025,
    hop: PositiveFloat = 0.010,
    mels: Positive = 40,
    low: NonNegative = 20.0,
    high: PositiveFloat | None = None,
    delta: bool = False,
    scale: Literal["none", "standard"] = "standard",
    axes: Literal["image", "sequence"] = "image",
    augment: list[Annotated[Call, Of(AUGMENTATIONS)]] | None = None,
) -> Encoder:
    """The log-mel spectrogram of sounds as float32: how loud each band of frequencies is in each short frame.

    A frame has `window` seconds, and the next starts `hop` seconds later; none reaches past the end. A periodic Hann
    window weights it, and zeros fill it up to the next power of two: |X|^2 of the Fourier transform X is its power.
    A band sums the power under a triangle of height 1 that rises and falls linearly in Hz; the corners of the triangles
    are evenly spaced on the mel scale, 2595 log10(1 + f / 700). The field is log(sum + 0.000001), scaled.

    column: the column of sounds, samples in each row.
    rate: samples per second. Where the data have a column `rate`, it must say the same.
    seconds: how long every row is: what is longer is cut off, what is shorter goes on in silence.
    window: the length of a frame in seconds.
    hop: how far one frame starts after the other, in seconds.
    mels: the number of bands.
    low: where the lowest band begins, in Hz.
    high: where the highest band ends, in Hz; half of `rate` where nothing is said.
    delta: whether the slopes of the bands over five frames follow, as many numbers again.
    scale: `standard` subtracts from each band its mean and divides by its standard deviation, over all frames of
      training rows.
    axes: `image` makes [1, mels, frames] (with slopes [2, mels, frames]), `sequence` [frames, mels] (or 2 * mels).
    augment: how they are changed at random in training, as images: `[{crop: {pad: 3}}, erase]`.
    Example: sound: {encode: spectrogram, rate: 16000, seconds: 1}
    """
    top = rate / 2 if high is None else high
    bands = MelBands(rate, window, hop, mels, low, top, delta)
    return Spectrogram(Clip(column, rate, seconds), bands, scale, axes, tuple(augment or ()))


@ENCODERS.register
def waveform(
    *,
    column: Word = "audio",
    rate: Positive,
    seconds: PositiveFloat,
    scale: Literal["none", "peak"] = "none",
) -> Encoder:
    """The samples of sounds as float32 [1, samples].

    column: the column of sounds, samples in each row.
    rate: samples per second. Where the data have a column `rate`, it must say the same.
    seconds: how long every row is: what is longer is cut off, what is shorter goes on in silence.
    scale: `peak` divides each row by its own largest magnitude.
    Example: sound: {encode: waveform, rate: 16000, seconds: 0.5, scale: peak}
    """
    return Waveform(Clip(column, rate, seconds), scale == "peak")


# ------------------------------------------------------------------------------------------ clips


class Clip(Struct):
    """Sounds of a column, brought to one length."""

    column: str
    rate: int
    seconds: float

    def __post_init__(self) -> None:
        if not 1 <= self.samples <= MOST:
            raise FieldError(
                f"`seconds` of {self.seconds:g} at a `rate` of {self.rate} are {self.seconds * self.rate:g} samples; "
                f"a row has 1 to {MOST}"
            )

    @property
    def samples(self) -> int:
        return round(min(self.seconds * self.rate, float(MOST + 1)))

    def rows(self, table: Table) -> Iterator[Array]:
        """Each row's samples [samples] in float64; raises `DataError`."""
        column = self._sounds(table)
        self._check_rate(table)
        for row, values in enumerate(column.values):
            out = np.zeros(self.samples)
            kept = values[: self.samples]
            out[: len(kept)] = kept
            if not np.abs(out).max() <= np.finfo(np.float32).max:  # false for NaN too
                raise DataError(
                    f"{table.place(self.column)} has a sample at row {table.rows[row]} that is no finite number "
                    "of float32; mend the sound or drop the row"
                )
            yield out

    def _sounds(self, table: Table) -> Column:
        """The column, of one-dimensional rows of numbers."""
        column, place = table.column(self.column), table.place(self.column)
        wanted = "a sound is a sequence of numbers in each row"
        if not column.ragged and (column.is_text or len(column.shape) != 1):
            found = (
                "text" if column.is_text else f"an array {list(column.shape)}" if column.shape else "a single number"
            )
            raise DataError(f"{place} has {found} in each row; {wanted}")
        if column.missing.any():
            raise DataError(
                f"{place} has {counted(int(column.missing.sum()), 'missing value')}, first at row "
                f"{table.first(column.missing)}: `clean: [{{drop_rows: {{missing: {self.column}}}}}]` drops those rows"
            )
        if column.ragged:
            odd = np.asarray(
                [values.ndim != 1 or values.dtype.kind not in "biuf" for values in column.values], np.bool_
            )
            if odd.any():
                values = column.values[np.argmax(odd)]
                found = "words" if values.dtype == object else f"an array {list(values.shape)}"
                raise DataError(f"{place} has {found} at row {table.first(odd)}; {wanted}")
        return column

    def _check_rate(self, table: Table) -> None:
        if "rate" not in table.columns or self.column == "rate":
            return
        rates = numeric(table, "rate", "the rate of a sound")
        if rates.shape:
            return
        other = ~rates.missing & (rates.values != self.rate)
        if other.any():
            raise DataError(
                f"{table.place(self.column)} has {counted(int(other.sum()), 'sound')} of another rate, first at row "
                f"{table.first(other)}: {rates.values[np.argmax(other)]:g} samples per second in the column `rate`, "
                f"{self.rate} in the field; say `rate` as the data have it, or resample the sounds"
            )


# ----------------------------------------------------------------------------------- spectrograms


class MelBands(Struct):
    """The log power of mel bands, by frame. `window` and `hop` are in seconds, `low` and `high` in Hz."""

    rate: int
    window: float
    hop: float
    mels: int
    low: float
    high: float
    delta: bool

    def __post_init__(self) -> None:
        if self.stride < 1:
            raise FieldError(f"`hop` of {self.hop:g} seconds at a `rate` of {self.rate} is less than one sample")
        if not 2 <= self.width <= LONGEST:
            raise FieldError(
                f"`window` of {self.window:g} seconds at a `rate` of {self.rate} is {self.window * self.rate:g} "
                f"samples; a frame has 2 to {LONGEST}"
            )
        if self.high > self.rate / 2:
            raise FieldError(
                f"`high` is {self.high:g} Hz; at a `rate` of {self.rate} there is nothing above {self.rate / 2:g} Hz"
            )
        if self.low >= self.high:
            raise FieldError(f"the bands begin at {self.low:g} Hz (`low`) and end at {self.high:g} Hz (`high`)")
        if self.mels > BANDS or (self.filters.sum(0) == 0).any():
            raise FieldError(
                f"{self.mels} bands (`mels`) are too many for a Fourier transform of {self.transform} samples: one "
                f"lies between two frequencies and is always empty; make `window` longer or `mels` less, "
                f"at most {BANDS}"
            )

    @property
    def width(self) -> int:
        """The samples of a frame."""
        return round(min(self.window * self.rate, float(LONGEST + 1)))

    @property
    def count(self) -> int:
        """How many bands there are, slopes counted."""
        return self.mels * (1 + self.delta)

    @property
    def stride(self) -> int:
        return round(min(self.hop * self.rate, float(MOST)))

    @property
    def transform(self) -> int:
        """The samples of a Fourier transform."""
        return 1 << (self.width - 1).bit_length()

    @cached_property
    def hann(self) -> Array:
        return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.width) / self.width)

    @cached_property
    def filters(self) -> Array:
        """The weight of each frequency in each band, [frequencies, mels]."""
        first, last = (2595 * math.log10(1 + end / 700) for end in (self.low, self.high))
        corners = 700 * (10 ** (np.linspace(first, last, self.mels + 2) / 2595) - 1)
        frequencies = np.arange(self.transform // 2 + 1)[:, None] * (self.rate / self.transform)
        left, middle, right = corners[:-2], corners[1:-1], corners[2:]
        rising = (frequencies - left) / (middle - left)
        falling = (right - frequencies) / (right - middle)
        return np.asarray(np.maximum(np.minimum(rising, falling), 0.0))

    def frames(self, samples: int) -> int:
        return 1 + (samples - self.width) // self.stride

    def of(self, sound: Array) -> Array:
        """The bands of a sound, [frames, bands] in float64; slopes are bands that follow."""
        cut = np.lib.stride_tricks.sliding_window_view(sound, self.width)[:: self.stride]
        parts = [self._bands(cut[start : start + FRAMES]) for start in range(0, len(cut), FRAMES)]
        bands = np.concatenate(parts)
        return np.concatenate([bands, _slopes(bands)], axis=1) if self.delta else bands

    def _bands(self, frames: Array) -> Array:
        spectrum = np.fft.rfft(frames * self.hann, self.transform)
        power = np.square(spectrum.real) + np.square(spectrum.imag)
        return np.asarray(np.log(power @ self.filters + FLOOR))


def _slopes(bands: Array) -> Array:
    """The slope of the line that fits five frames best; the first and the last frame go on past the ends."""
    padded = np.pad(bands, ((2, 2), (0, 0)), mode="edge")
    near, far = padded[3:-1] - padded[1:-3], padded[4:] - padded[:-4]
    return np.asarray((near + 2 * far) / 10)


class Spectrogram(Encoder):
    clip: Clip
    bands: MelBands
    scale: str
    axes: str
    augment: tuple[Call, ...] = ()

    def __post_init__(self) -> None:
        if self.bands.width > self.clip.samples:
            raise FieldError(
                f"`window` of {self.bands.window:g} seconds is longer than the sounds: "
                f"`seconds` is {self.clip.seconds:g}"
            )

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.clip.column,)

    def fit(self, table: Table) -> FittedSpectrogram:
        if self.scale == "none":
            return FittedSpectrogram(self.clip, self.bands, self.axes, np.zeros(()), np.ones(()), self.augment)
        found = np.empty((len(table), self.bands.frames(self.clip.samples), self.bands.count), np.float32)
        for out, sound in zip(found, self.clip.rows(table), strict=True):
            out[:] = self.bands.of(sound)
        shift, divisor = standard(found.reshape(-1, self.bands.count))
        shift, divisor = (_laid_out(each[None], self.bands, self.axes) for each in (shift, divisor))
        return FittedSpectrogram(self.clip, self.bands, self.axes, shift, divisor, self.augment)


def _laid_out(bands: Array, plan: MelBands, axes: str) -> Array:
    """Bands [frames, bands] with the axes of the field."""
    if axes == "sequence":
        return bands
    return np.moveaxis(bands.reshape(len(bands), -1, plan.mels), 0, -1)


class FittedSpectrogram(Fitted):
    """(bands - shift) / divisor."""

    encode: ClassVar[str] = "spectrogram"

    # Arrays have no equality that is true or false.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    clip: Clip
    bands: MelBands
    axes: str
    shift: Array
    divisor: Array
    augment: tuple[Call, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.clip.column,)

    @property
    def varies(self) -> bool:
        return bool(self.augment)

    def vary(self, name: str, arrays: Mapping[str, Array], rng: np.random.Generator) -> Array:
        return augmented(arrays[name], self.augment, rng)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one row."""
        return _laid_out(
            np.zeros((self.bands.frames(self.clip.samples), self.bands.count)), self.bands, self.axes
        ).shape

    def transform(self, table: Table) -> Array:
        found = np.empty((len(table), *self.shape), np.float32)
        for out, sound in zip(found, self.clip.rows(table), strict=True):
            out[:] = (_laid_out(self.bands.of(sound), self.bands, self.axes) - self.shift) / self.divisor
        return found

    def inverse(self, array: Array) -> Array:
        return array.astype(np.float64) * self.divisor + self.shift

    def arguments(self) -> State:
        scaling = {"shift": self.shift.tolist(), "divisor": self.divisor.tolist()}
        return {**asdict(self.clip), **asdict(self.bands), "axes": self.axes, **scaling}

    @classmethod
    def from_arguments(cls, state: Mapping[str, Any]) -> FittedSpectrogram:
        clip = Clip(**{each.name: state[each.name] for each in fields(Clip)})
        bands = MelBands(**{each.name: state[each.name] for each in fields(MelBands)})
        shift, divisor = (np.asarray(state[key], np.float64) for key in ("shift", "divisor"))
        found = cls(clip, bands, state["axes"], shift, divisor)
        if np.broadcast_shapes(found.shape, shift.shape, divisor.shape) != found.shape:
            raise ValueError(f"its scaling is not of rows {list(found.shape)}")
        return found


# ---------------------------------------------------------------------------------------- samples


class Waveform(Encoder):
    clip: Clip
    peak: bool

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.clip.column,)

    def fit(self, table: Table) -> FittedWaveform:
        return FittedWaveform(self.clip, self.peak)


class FittedWaveform(Fitted):
    """Samples, divided by the largest magnitude of their row if `peak`."""

    encode: ClassVar[str] = "waveform"

    clip: Clip
    peak: bool

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.clip.column,)

    def transform(self, table: Table) -> Array:
        found = np.empty((len(table), 1, self.clip.samples), np.float32)
        for out, sound in zip(found, self.clip.rows(table), strict=True):
            largest = np.abs(sound).max() if self.peak else 1.0
            out[0] = sound / (largest or 1.0)
        return found

    def arguments(self) -> State:
        return {**asdict(self.clip), "peak": self.peak}

    @classmethod
    def from_arguments(cls, state: Mapping[str, Any]) -> FittedWaveform:
        return cls(Clip(**{each.name: state[each.name] for each in fields(Clip)}), bool(state["peak"]))

"""Fields of sound, beside SciPy's transform, the published formulas, and sounds whose pitch is known."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.signal
import trine
from trine.runtime.data import DataError, from_arrays
from trine.runtime.data import fields as f
from trine.runtime.data.table import Table, ragged_column

Array = Any
RNG = np.random.default_rng(0)
RATE = 8000


def sounds(*lengths: int) -> list[Array]:
    return [RNG.normal(0, 0.3, length).astype(np.float32) for length in lengths]


def table(rows: Any, **columns: Any) -> Table:
    return from_arrays({"audio": rows, **columns}, "rows.csv")


def restored(fitted: f.Fitted) -> f.Fitted:
    return f.restore(json.loads(json.dumps(fitted.state())))


def filterbank(rate: int, size: int, mels: int, low: float, high: float) -> Array:
    """Triangles by the formulas of the HTK book, one frequency at a time."""

    def mel(hz: float) -> float:
        return 2595 * math.log10(1 + hz / 700)

    step = (mel(high) - mel(low)) / (mels + 1)
    corners = [700 * (10 ** ((mel(low) + i * step) / 2595) - 1) for i in range(mels + 2)]
    out = np.zeros((mels, size // 2 + 1))
    for band in range(mels):
        left, middle, right = corners[band : band + 3]
        for bin in range(size // 2 + 1):
            hz = bin * rate / size
            if left <= hz <= middle:
                out[band, bin] = (hz - left) / (middle - left)
            elif middle < hz <= right:
                out[band, bin] = (right - hz) / (right - middle)
    return out


def log_mel(sound: Array, samples: int, width: int, hop: int, size: int, filters: Array) -> Array:
    """[mels, frames] by SciPy's short-time transform."""
    padded = np.zeros(samples)
    padded[: len(sound)] = sound[:samples]
    window = scipy.signal.get_window("hann", width, fftbins=True)
    _, _, found = scipy.signal.stft(
        padded, window=window, nperseg=width, noverlap=width - hop, nfft=size, boundary=None, padded=False
    )
    # SciPy divides by the sum of the window
    power = np.abs(found * window.sum()) ** 2
    return np.log(filters @ power + 1e-6)


@pytest.mark.parametrize(
    ("window", "hop", "mels", "low", "high", "size"),
    [(0.025, 0.010, 40, 20.0, None, 256), (0.032, 0.008, 20, 0.0, 3000.0, 256), (0.0131, 0.01, 7, 300.0, 4000.0, 128)],
)
def test_the_spectrogram_by_scipy(
    window: float, hop: float, mels: int, low: float, high: float | None, size: int
) -> None:
    rows = sounds(4000, 5000, 1234, 0)
    fitted = f.spectrogram(
        rate=RATE, seconds=0.5, window=window, hop=hop, mels=mels, low=low, high=high, scale="none"
    ).fit(table(rows))
    found = fitted.transform(table(rows))
    filters = filterbank(RATE, size, mels, low, high or RATE / 2)
    want = [log_mel(row, 4000, round(window * RATE), round(hop * RATE), size, filters) for row in rows]
    assert found.shape == (4, 1, *want[0].shape) and found.dtype == np.float32
    # float64 inside: what differs is the last rounding, and the order of sums where power is near nothing
    np.testing.assert_allclose(found[:, 0], want, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found[3], math.log(1e-6), rtol=1e-6)


def test_long_sounds_are_transformed_in_parts() -> None:
    """More frames than are taken at a time."""
    row = sounds(10 * RATE)
    fitted = f.spectrogram(rate=RATE, seconds=10, hop=0.005, scale="none").fit(table(row))
    want = log_mel(row[0], 10 * RATE, 200, 40, 256, filterbank(RATE, 256, 40, 20, 4000))
    found = fitted.transform(table(row))[0, 0]
    assert found.shape[1] == 1996
    np.testing.assert_allclose(found, want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("hz", [200, 700, 1500, 3100])
def test_a_tone_is_loudest_in_its_band(hz: int) -> None:
    tone = np.sin(2 * np.pi * hz * np.arange(RATE) / RATE)
    found = f.spectrogram(rate=RATE, seconds=1, mels=20, scale="none").fit(table([tone])).transform(table([tone]))
    edges = 700 * (10 ** (np.linspace(2595 * np.log10(1 + 20 / 700), 2595 * np.log10(1 + 4000 / 700), 22) / 2595) - 1)
    band = int(found[0, 0].mean(-1).argmax())
    assert edges[band] < hz < edges[band + 2]


def test_bands_are_standardised_by_training_rows() -> None:
    train, rest = sounds(RATE, RATE // 2, RATE), sounds(2 * RATE, 100)
    arguments = {"rate": RATE, "seconds": 1, "mels": 12}
    fitted = f.spectrogram(**arguments).fit(table(train))
    plain = f.spectrogram(**arguments, scale="none").fit(table(train))
    raw = plain.transform(table(train)).astype(np.float64)
    mean, std = raw.mean((0, 3), keepdims=True), raw.std((0, 3), keepdims=True)
    for rows in (train, rest):
        want = (plain.transform(table(rows)) - mean) / std
        found = fitted.transform(table(rows))
        # `want` begins from float32
        np.testing.assert_allclose(found, want, atol=1e-5)
        np.testing.assert_allclose(fitted.inverse(found), plain.transform(table(rows)), atol=1e-4)
        assert np.array_equal(restored(fitted).transform(table(rows)), found)


@pytest.mark.parametrize("scale", ["none", "standard"])
def test_axes_of_sequences_and_slopes(scale: Any) -> None:
    rows = sounds(RATE, 700)

    def made(**more: Any) -> Array:
        fitted = f.spectrogram(rate=RATE, seconds=1, mels=9, scale=scale, **more).fit(table(rows))
        assert np.array_equal(restored(fitted).transform(table(rows)), fitted.transform(table(rows)))
        return fitted.transform(table(rows))

    image, both = made(), made(delta=True)
    assert image.shape == (2, 1, 9, 98) and both.shape == (2, 2, 9, 98)
    assert np.array_equal(image[:, 0], both[:, 0])
    sequence = made(axes="sequence", delta=True)
    assert sequence.shape == (2, 98, 18) and made(axes="sequence").shape == (2, 98, 9)
    assert np.array_equal(sequence, np.concatenate([both[:, 0], both[:, 1]], axis=1).swapaxes(1, 2))


def test_slopes_are_those_of_the_best_line() -> None:
    rows = sounds(RATE)
    fitted = f.spectrogram(rate=RATE, seconds=1, mels=9, scale="none", delta=True).fit(table(rows))
    bands, slopes = fitted.transform(table(rows))[0].astype(np.float64)
    padded = np.concatenate([bands[:, :1]] * 2 + [bands] + [bands[:, -1:]] * 2, axis=1)
    want = [[np.polyfit(range(5), band[i : i + 5], 1)[0] for i in range(98)] for band in padded]
    # `bands` are rounded to float32
    np.testing.assert_allclose(slopes, want, atol=1e-5)


def test_a_band_that_never_varies_is_not_blown_up() -> None:
    silent = [np.zeros(RATE, np.float32)] * 3
    found = f.spectrogram(rate=RATE, seconds=1).fit(table(silent)).transform(table(silent))
    assert np.abs(found).max() <= 1e-6


def test_waveforms_are_cut_and_padded() -> None:
    rows = [np.array([0.5, -1.0, 0.25], np.float32), np.array([0.2, 0.1, -0.4, 0.3, 9.0], np.float32), np.zeros(0)]
    plain = f.waveform(rate=8, seconds=0.5).fit(table(rows))
    want = np.float32([[[0.5, -1, 0.25, 0]], [[0.2, 0.1, -0.4, 0.3]], [[0, 0, 0, 0]]])
    assert plain.transform(table(rows)).dtype == np.float32
    assert np.array_equal(plain.transform(table(rows)), want)
    peak = f.waveform(rate=8, seconds=0.5, scale="peak").fit(table(rows))
    # what was cut off has no say
    np.testing.assert_allclose(peak.transform(table(rows))[:, 0, :2], [[0.5, -1], [0.5, 0.25], [0, 0]], rtol=1e-6)
    assert np.array_equal(restored(peak).transform(table(rows)), peak.transform(table(rows)))
    # sounds of one length, of whole numbers
    assert plain.transform(table(np.array([[1, 2], [3, 4]], np.int16))).tolist() == [[[1, 2, 0, 0]], [[3, 4, 0, 0]]]


@pytest.mark.parametrize("encoder", [f.spectrogram(rate=RATE, seconds=0.1), f.waveform(rate=RATE, seconds=0.1)])
def test_columns_that_are_no_sounds(encoder: f.Encoder) -> None:
    row = np.zeros(9)
    for rows, part in (
        (["a", "b"], "has text in each row; a sound is a sequence of numbers"),
        ([1.0, 2.0], "has a single number in each row"),
        (np.zeros((2, 3, 4)), "has an array [3, 4] in each row"),
        ([np.zeros((2, 3)), np.zeros((4, 3))], "has an array [2, 3] at row 1"),
        ([["a", "b"], ["c"]], "has words at row 1"),
        ([row, None, np.zeros(3)], "has 1 missing value, first at row 2: `clean: [{drop_rows: {missing: audio}}]`"),
        ([row, np.array([0, np.nan])], "has a sample at row 2 that is no finite number"),
        ([row, np.array([0, np.inf])], "has a sample at row 2 that is no finite number"),
        ([row, np.array([0, 1e300])], "has a sample at row 2 that is no finite number of float32"),
    ):
        with pytest.raises(DataError) as caught:
            encoder.fit(table(rows)).transform(table(rows))
        assert part in str(caught.value) and "column `audio` of rows.csv" in str(caught.value)
    with pytest.raises(DataError, match="has no column `audio`"):
        encoder.fit(from_arrays({"sound": [1]})).transform(from_arrays({"sound": [1]}))


def test_the_rate_of_the_data_is_that_of_the_field() -> None:
    rows = sounds(900, 900)
    fitted = f.waveform(rate=RATE, seconds=0.1).fit(table(rows, rate=[RATE, RATE]))
    assert fitted.transform(table(rows, rate=[RATE, None])).shape == (2, 1, 800)
    with pytest.raises(DataError) as caught:
        fitted.transform(table(rows, rate=[RATE, 16000]))
    assert "1 sound of another rate, first at row 2: 16000 samples per second" in str(caught.value)
    assert "8000 in the field" in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"seconds": 0.02}, "`window` of 0.025 seconds is longer than the sounds: `seconds` is 0.02"),
        ({"high": 5000.0}, "`high` is 5000 Hz; at a `rate` of 8000 there is nothing above 4000 Hz"),
        ({"low": 4000.0}, "begin at 4000 Hz (`low`) and end at 4000 Hz (`high`)"),
        ({"hop": 0.00001}, "`hop` of 1e-05 seconds at a `rate` of 8000 is less than one sample"),
        ({"window": 0.0001}, "is 0.8 samples; a frame has 2"),
        ({"window": 1e9, "seconds": 1e3}, "is 8e+12 samples; a frame has 2"),
        ({"seconds": 1e300}, "samples; a row has 1 to"),
        ({"seconds": 1e-9}, "samples; a row has 1 to"),
        ({"mels": 128}, "128 bands (`mels`) are too many for a Fourier transform of 256 samples"),
        ({"mels": 10**9}, "too many"),
    ],
)
def test_arguments_that_do_not_go_together(arguments: dict[str, Any], part: str) -> None:
    with pytest.raises(f.FieldError) as caught:
        f.spectrogram(**{"rate": RATE, "seconds": 1, **arguments})
    assert part in str(caught.value)


def test_saved_fields_that_cannot_be_read() -> None:
    state = f.spectrogram(rate=RATE, seconds=1).fit(table(sounds(RATE))).state()
    lost = {k: v for k, v in state.items() if k != "hop"}
    for wrong in (lost, {**state, "rate": "x"}, {**state, "window": -1}, {**state, "shift": [1, 2, 3]}):
        with pytest.raises(DataError, match="the saved field of encoding `spectrogram` cannot be read"):
            f.restore(wrong)


def test_a_network_tells_tones_apart(tmp_path: Path) -> None:
    """Two tones in noise, of lengths that differ, through a run and its bundle."""
    time = np.arange(1600) / RATE
    tones = {"low": 400, "high": 1100}
    names = ["low", "high"] * 12
    whole = [np.sin(2 * np.pi * tones[name] * time + RNG.uniform(0, 6)) + RNG.normal(0, 0.3, 1600) for name in names]
    rows = [sound[: RNG.integers(900, 1600)] for sound in whole]
    (tmp_path / "net.yaml").write_text(
        "spec: 1\nname: net\ndata:\n  source: npz:given\n  fields:\n"
        "    sound: {encode: spectrogram, rate: 8000, seconds: 0.2, mels: 16}\n"
        "    pitch: {column: pitch, encode: ids}\n"
        "model:\n  inputs: {sound: 'float[1, 16, 18]'}\n"
        "  layers: [{conv: 4}, relu, flatten, {linear: $pitch.size, as: logits}]\n"
        "train:\n  loss: {cross_entropy: [logits, pitch]}\n  optimizer: {adam: {lr: 0.01}}\n  epochs: 20\n"
    )
    trained = trine.train(tmp_path / "net.yaml", tmp_path / "run", data={"train": {"audio": rows, "pitch": names}})
    bundle = trine.compile(tmp_path / "run", tmp_path / "net.trine")
    found = trine.load(bundle).predict({"audio": rows})["pitch"]
    assert np.array_equal(found, trained.model.predict({"audio": rows})["pitch"])
    assert list(found) == names


def test_ragged_float32_columns_of_sources() -> None:
    column = ragged_column(sounds(RATE, 100))
    given = Table({"audio": column}, "clips", np.array([1, 2]))
    assert f.waveform(rate=RATE, seconds=1).fit(given).transform(given).shape == (2, 1, RATE)

"""Sources of images and of recordings, beside Pillow, PyTorch, SciPy and the wave module."""

from __future__ import annotations

import random
import struct
import sys
import tarfile
import wave
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from scipy.signal import resample_poly
from trine.compiler.spec import reader
from trine.runtime.data import DataError, load_dataset
from trine.runtime.data import sources as s
from trine.runtime.data.table import Array, Table

MODEL = "spec: 1\nmodel: {inputs: {x: float}, layers: [{linear: 1}]}\n"
RED = (200, 10, 30)
AUDIO = sys.modules["trine.runtime.data.sources.audio"]  # the function has taken the module's name in its package


def fails(function: Callable[[], object], *parts: str) -> None:
    with pytest.raises(DataError) as caught:
        function()
    for part in parts:
        assert part in str(caught.value), str(caught.value)


def one(found: Table | dict[str, Table]) -> Table:
    assert isinstance(found, Table)
    return found


def splits(found: Table | dict[str, Table]) -> dict[str, Table]:
    assert isinstance(found, dict)
    return found


def noise(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def save(folder: Path, name: str, pixels: Any = RED, **options: Any) -> Path:
    """A file of these pixels; one colour is an image of 4 × 6."""
    image = Image.new("RGB", (6, 4), pixels) if isinstance(pixels, tuple) else pixels
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def pixels(folder: Path, name: str, **options: Any) -> Array:
    """What the source makes of one file."""
    return one(s.images(name, folder, **options)).column("image").values[0]


# ----------------------------------------------------------------------------------------- images


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "tiff", "webp", "PNG"])
def test_pixels_are_those_of_the_file(tmp_path: Path, suffix: str) -> None:
    image = noise(5, 7, 3)
    save(tmp_path, f"a.{suffix}", image, **({"lossless": True} if suffix == "webp" else {}))
    table = one(s.images(f"a.{suffix}", tmp_path))
    assert list(table.columns) == ["image", "file"]
    assert table.column("image").values.dtype == np.uint8
    assert np.array_equal(table.column("image").values, image.transpose(2, 0, 1)[None])
    assert table.column("file").values.tolist() == [f"a.{suffix}"]


def test_gray_jpeg_gif_and_palettes(tmp_path: Path) -> None:
    gray = noise(5, 7)
    save(tmp_path, "g.png", gray)
    assert np.array_equal(pixels(tmp_path, "g.png", mode="gray"), gray[None])
    assert np.array_equal(pixels(tmp_path, "g.png"), np.stack([gray] * 3))
    save(tmp_path, "a.jpg", RED)
    assert np.abs(pixels(tmp_path, "a.jpg").astype(int) - np.array(RED)[:, None, None]).max() <= 3, "JPEG is lossy"
    save(tmp_path, "b.png", RED)
    luma = 0.299 * RED[0] + 0.587 * RED[1] + 0.114 * RED[2]  # of ITU-R BT.601
    assert np.abs(pixels(tmp_path, "b.png", mode="gray") - luma).max() <= 0.5
    frames = [Image.new("RGB", (6, 4), colour) for colour in (RED, (0, 0, 255))]
    frames[0].save(tmp_path / "c.gif", save_all=True, append_images=frames[1:])
    assert np.array_equal(pixels(tmp_path, "c.gif")[:, 0, 0], RED), "the first frame"
    save(tmp_path, "d.png", Image.new("RGB", (6, 4), RED).convert("P", palette=Image.Palette.ADAPTIVE))
    assert np.array_equal(pixels(tmp_path, "d.png")[:, 0, 0], RED)
    save(tmp_path, "e.png", Image.fromarray(gray > 127))
    assert np.array_equal(pixels(tmp_path, "e.png", mode="gray"), np.where(gray > 127, 255, 0)[None])


def test_cameras_turn_images(tmp_path: Path) -> None:
    image = noise(5, 7, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees to the right
    save(tmp_path, "a.png", image, exif=exif)
    assert np.array_equal(pixels(tmp_path, "a.png"), np.rot90(image, -1).transpose(2, 0, 1))


def test_what_is_transparent_lies_on_white(tmp_path: Path) -> None:
    image = noise(5, 7, 4)
    save(tmp_path, "a.png", image)
    alpha = image[..., 3:] / 255
    expected = image[..., :3] * alpha + 255 * (1 - alpha)
    found = pixels(tmp_path, "a.png").transpose(1, 2, 0)
    assert np.abs(found - expected).max() <= 1, "rounded twice"
    save(tmp_path, "b.png", Image.new("L", (6, 4), 7), transparency=7)
    assert (pixels(tmp_path, "b.png") == 255).all()
    palette = Image.new("RGB", (6, 4), RED).convert("P", palette=Image.Palette.ADAPTIVE)
    save(tmp_path, "c.png", palette, transparency=palette.getpixel((0, 0)))
    assert (pixels(tmp_path, "c.png") == 255).all()
    save(tmp_path, "d.png", Image.new("LA", (6, 4), (100, 0)))
    assert (pixels(tmp_path, "d.png", mode="gray") == 255).all()


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    deep = np.array([[0, 257, 65535], [128 * 257, 100, 40000]], np.uint16)
    expected = np.rint(deep / 257).astype(np.uint8)
    for suffix in ("png", "tif"):
        save(tmp_path, f"a.{suffix}", deep)
        assert np.array_equal(pixels(tmp_path, f"a.{suffix}", mode="gray")[0], expected)
        assert np.array_equal(pixels(tmp_path, f"a.{suffix}"), np.stack([expected] * 3))
    for dtype in (np.int32, np.float32):
        save(tmp_path, "b.tif", deep.astype(dtype))
        fails(lambda: s.images("b.tif", tmp_path), "b.tif` has pixels of 32 bits", "save it with 8 or 16 bits")


def test_resizing(tmp_path: Path) -> None:
    image = noise(40, 60, 3)
    save(tmp_path, "a.png", image)
    tensor = torch.from_numpy(image.transpose(2, 0, 1)[None].astype(np.float32))

    def torched(part: torch.Tensor, size: tuple[int, int]) -> Array:
        return torch.nn.functional.interpolate(part, size, mode="bilinear", antialias=True)[0].numpy()

    # Pillow rounds to whole numbers after each of two axes.
    assert np.abs(pixels(tmp_path, "a.png", size=[9, 17]) - torched(tensor, (9, 17))).max() <= 1.01
    cropped = pixels(tmp_path, "a.png", size=16, fit="crop") - torched(tensor[..., 10:50], (16, 16))
    assert np.abs(cropped[..., 1:-1]).max() <= 1.01, "the border is smoothed with what is cut off"
    padded = pixels(tmp_path, "a.png", size=18, fit="pad")
    assert np.abs(padded[:, 3:15] - torched(tensor, (12, 18))).max() <= 1.01
    assert not padded[:, :3].any() and not padded[:, 15:].any()
    assert np.array_equal(pixels(tmp_path, "a.png", size=[40, 60]), image.transpose(2, 0, 1))
    fails(lambda: s.images("a.png", tmp_path, size=[1, 2, 3]), "`size` is one number or two, height and width; found 3")


def test_folders_are_labels(tmp_path: Path) -> None:
    for row, name in enumerate(("cat/1.png", "cat/2.png", "dog/x/3.png")):
        save(tmp_path, f"set/{name}", (row, 0, 0))
    (tmp_path / "set/cat/notes.txt").write_text("no image")
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for path in sorted((tmp_path / "set").rglob("*.*"), reverse=True):
            archive.write(path, path.relative_to(tmp_path / "set"))
    for target in ("set", "set.zip"):
        table = one(s.images(target, tmp_path))
        assert table.column("label").values.tolist() == ["cat", "cat", "dog"]
        assert table.column("file").values.tolist() == ["cat/1.png", "cat/2.png", "dog/x/3.png"]
        assert table.column("image").values[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert "label" not in one(s.images("set/cat", tmp_path)).columns
    assert len(one(s.images("set.zip/cat", tmp_path))) == 2
    save(tmp_path, "set/loose.png")
    fails(lambda: s.images("set", tmp_path), "such as `cat/1.png`, and files in none, such as `loose.png`")


def test_folders_are_splits(tmp_path: Path) -> None:
    for row, name in enumerate(("test/1.png", "train/cat/1.png", "train/dog/2.png", "val/cat/3.png")):
        save(tmp_path, f"set/{name}", (row, 0, 0))
    tables = splits(s.images("set", tmp_path))
    assert {name: table.column("file").values.tolist() for name, table in tables.items()} == {
        "test": ["test/1.png"], "train": ["train/cat/1.png", "train/dog/2.png"], "valid": ["val/cat/3.png"],
    }  # fmt: skip
    assert tables["train"].column("label").values.tolist() == ["cat", "dog"]
    assert tables["train"].column("image").values[:, 0, 0, 0].tolist() == [1, 2]
    assert "label" not in tables["test"].columns
    save(tmp_path, "set/extra/4.png")
    fails(lambda: s.images("set", tmp_path), "`test`, `train`, `val`, and files beside them: `extra/4.png`")
    (tmp_path / "set/extra").rename(tmp_path / "set/valid")
    fails(lambda: s.images("set", tmp_path), "two folders for one split, `val` and `valid`")
    save(tmp_path, "half/test/1.png")
    fails(lambda: s.images("half", tmp_path), "has a folder `test` and none called `train`", "as in `half/test`")
    for name in ("train", "bus"):
        save(tmp_path, f"traffic/{name}/1.png")
    assert one(s.images("traffic", tmp_path)).column("label").values.tolist() == ["bus", "train"]


def test_images_that_differ_in_size(tmp_path: Path) -> None:
    save(tmp_path, "set/a.png", noise(4, 6, 3))
    save(tmp_path, "set/b.png", noise(6, 4, 3))
    fails(lambda: s.images("set", tmp_path), "`a.png` is 4 × 6 and `b.png` 6 × 4 (height × width); set `size")
    assert one(s.images("set", tmp_path, size=5)).column("image").values.shape == (2, 3, 5, 5)


def test_masks(tmp_path: Path) -> None:
    classes = np.random.default_rng(0).integers(0, 4, (8, 12), np.uint8)
    palette = Image.fromarray(classes)
    palette.putpalette(bytes(range(12)))
    assert palette.mode == "P"
    for split in ("train", "test"):
        save(tmp_path, f"set/images/{split}/a.jpg", noise(8, 12, 3))
        save(tmp_path, f"set/images/{split}/b.png", noise(8, 12, 3))
        save(tmp_path, f"set/classes/{split}/a.png", palette)
        save(tmp_path, f"set/classes/{split}/b.tif", classes.astype(np.uint16) * 1000)
    tables = splits(s.images("set/images", tmp_path, masks="classes"))
    mask = tables["test"].column("mask").values
    assert mask.dtype == np.int64
    assert np.array_equal(mask, np.stack([classes, classes.astype(np.int64) * 1000]))
    small = splits(s.images("set/images", tmp_path, masks="classes", size=[4, 6]))["train"].column("mask").values
    assert np.array_equal(small[0], classes[1::2, 1::2]), "the pixel whose middle is nearest"
    padded = splits(s.images("set/images", tmp_path, masks="classes", size=12, fit="pad"))["train"]
    assert np.array_equal(padded.column("mask").values[0, 2:10], classes)
    assert not padded.column("mask").values[0, :2].any()
    single = one(s.images("set/images/train/b.png", tmp_path, masks="../classes/train"))
    assert np.array_equal(single.column("mask").values[0], mask[1])
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for path in (tmp_path / "set").rglob("*.*"):
            archive.write(path, path.relative_to(tmp_path / "set"))
    assert np.array_equal(
        splits(s.images("set.zip/images", tmp_path, masks="classes"))["test"].column("mask").values, mask
    )


def test_masks_that_do_not_fit(tmp_path: Path) -> None:
    save(tmp_path, "images/photo1.png", noise(4, 6, 3))
    fails(lambda: s.images("images", tmp_path, masks="mask"), "there is no file")
    mask = save(tmp_path, "masks/photo2.png", noise(4, 6))
    fails(
        lambda: s.images("images", tmp_path, masks="masks"),
        "no mask for `photo1.png`: expected `photo1.png`; did you mean `photo2`",
    )
    mask.unlink()
    save(tmp_path, "masks/photo1.png", noise(6, 4))
    fails(lambda: s.images("images", tmp_path, masks="masks"), "photo1.png` is 6 × 4, its image `photo1.png` 4 × 6")
    save(tmp_path, "masks/photo1.png", noise(4, 6, 3))
    fails(
        lambda: s.images("images", tmp_path, masks="masks"), "has pixels of the mode RGB; a mask has one whole number"
    )
    save(tmp_path, "masks/photo1.bmp", noise(4, 6))
    fails(lambda: s.images("images", tmp_path, masks="masks"), "two masks for one image: `photo1.bmp` and `photo1.png`")


def test_images_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fails(lambda: s.images("set", tmp_path), "there is no file")
    (tmp_path / "set").mkdir()
    fails(lambda: s.images("set", tmp_path), "has no images: no file there ends in .png, .jpg")
    (tmp_path / "set/a.png").write_text("<svg/>")
    fails(lambda: s.images("set", tmp_path), "set/a.png` is no image, or none of PNG, JPEG")
    (tmp_path / "set/a.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    fails(lambda: s.images("set", tmp_path), "set/a.png` is no image")
    for suffix in ("png", "jpg", "gif", "webp", "tif", "bmp"):
        path = save(tmp_path, f"b.{suffix}", noise(40, 40, 3))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        fails(lambda suffix=suffix: s.images(f"b.{suffix}", tmp_path), f"b.{suffix}` is not a complete image")
    bomb = save(tmp_path, "c.png", noise(4, 4)).read_bytes()
    head = struct.pack(">4sII", b"IHDR", 15_000, 15_000) + bomb[24:29]
    (tmp_path / "c.png").write_bytes(bomb[:12] + head + struct.pack(">I", zlib.crc32(head)) + bomb[33:])
    fails(lambda: s.images("c.png", tmp_path), f"c.png` has more than {Image.MAX_IMAGE_PIXELS} pixels")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 15)
    save(tmp_path, "d.png", noise(4, 4))
    fails(lambda: s.images("d.png", tmp_path), "d.png` has more than 15 pixels")
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    fails(lambda: s.images("d.png", tmp_path), "pip install 'trine[images]'")


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp", "tif", "bmp"])
def test_damaged_images_are_told(tmp_path: Path, suffix: str) -> None:
    """Any damage gives an image or a `DataError` that names the file, and no warning."""
    path = save(tmp_path, f"a.{suffix}", noise(12, 12, 3))
    whole, rng = path.read_bytes(), random.Random(0)
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(3):
            damaged[rng.randrange(len(whole))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            s.images(path.name, tmp_path, size=8)
        except DataError as error:
            assert path.name in str(error)


def test_a_spec_reads_images(tmp_path: Path) -> None:
    for kind in ("train", "test"):
        for row in range(10):
            save(tmp_path, f"set/{kind}/{'cat' if row % 2 else 'dog'}/{row}.png", noise(4 + row, 6, 3, seed=row))
    text = (
        "  source: images:set\n  options: {size: [8, 9], fit: crop, mode: gray}\n"
        "  fields: {x: {column: image, scale: unit}, y: {column: label, encode: ids}}\n"
    )
    found = load_dataset(reader.read_string(f"{MODEL}data:\n{text}", tmp_path / "spec.yaml"))
    assert found.counts == {"train": 9, "valid": 1, "test": 10}
    assert found.splits["test"].arrays["x"].shape == (10, 1, 8, 9)
    assert found.sizes == {"y.size": 2}


# ------------------------------------------------------------------------------------- recordings


def sound(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(-(2**15), 2**15, shape).astype(np.int16)


def record(folder: Path, name: str, samples: Array | None = None, rate: int = 8000) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound(50) if samples is None else samples, rate)
    return path


def test_recordings_of_a_folder(tmp_path: Path) -> None:
    rows = {"one/a.wav": sound(30), "one/b.FLAC": sound(40, seed=1), "two/c.wav": sound(20, 2, seed=2)}
    for name, samples in rows.items():
        record(tmp_path, f"set/{name}", samples)
    (tmp_path / "set/README.md").write_text("no recording")
    table = one(s.audio("set", tmp_path))
    assert list(table.columns) == ["audio", "rate", "file", "label"]
    assert table.column("file").values.tolist() == list(rows)
    assert table.column("label").values.tolist() == ["one", "one", "two"]
    assert table.column("rate").values.tolist() == [8000] * 3
    assert table.column("audio").ragged
    assert all(row.dtype == np.float32 for row in table.column("audio").values)
    for row, samples in zip(table.column("audio").values, rows.values(), strict=True):
        mono = samples if samples.ndim == 1 else samples.mean(axis=1)
        assert np.array_equal(row, (mono / 2**15).astype(np.float32)), "16 bits are exact in float32"


def test_a_wave_file_of_another_writer_and_ogg(tmp_path: Path) -> None:
    samples = sound(100)
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(samples.tobytes())
    table = one(s.audio("a.wav", tmp_path))
    assert np.array_equal(table.column("audio").values[0] * 2**15, samples)
    assert "label" not in table.columns and len(table) == 1
    tone = np.sin(np.arange(8000) / 20).astype(np.float32) / 2
    record(tmp_path, "b.ogg", tone)
    found = one(s.audio("b.ogg", tmp_path)).column("audio").values[0]
    assert len(found) == 8000 and np.corrcoef(found, tone)[0, 1] > 0.99, "Vorbis is lossy"


def test_resampled_recordings(tmp_path: Path) -> None:
    record(tmp_path, "set/a.wav", sound(900), 44100)
    record(tmp_path, "set/b.wav", sound(800), 8000)
    fails(lambda: s.audio("set", tmp_path), "`a.wav` has 44100 samples per second and `b.wav` 8000; set `rate`")
    table = one(s.audio("set", tmp_path, rate=8000))
    assert table.column("rate").values.tolist() == [8000, 8000]
    first, second = table.column("audio").values
    assert np.array_equal(second, sound(800) / np.float32(2**15))
    np.testing.assert_allclose(first, resample_poly(sound(900) / 2**15, 80, 441), atol=1e-5)  # in float64
    tone = 2 * np.pi * 440 / 44100 * np.arange(44100)
    record(tmp_path, "tone.wav", np.sin(tone) / 2, 44100)
    heard = one(s.audio("tone.wav", tmp_path, rate=8000)).column("audio").values[0]
    assert np.argmax(np.abs(np.fft.rfft(heard))) == 440, "one second: the tone stays where it was"


def test_names_say_what_recordings_are(tmp_path: Path) -> None:
    """As the Free Spoken Digit Dataset is packed: all in one sub-folder of a compressed archive, unsorted."""
    names = ["7_jackson_32.wav", "0_theo_4.wav", "7_yweweler_0.5.wav"]
    with tarfile.open(tmp_path / "set.tar.xz", "w:xz") as tar:
        for row, name in enumerate(names):
            tar.add(record(tmp_path, f"loose/{name}", sound(10 + row)), f"recordings/{name}")
        tar.add(record(tmp_path, "loose/README.md.wav").rename(tmp_path / "README.md"), "README.md")
    table = one(s.audio("set.tar.xz", tmp_path, names="{digit}_{speaker}_{index}"))
    assert list(table.columns) == ["audio", "rate", "file", "digit", "speaker", "index"]
    assert table.column("digit").values.tolist() == [0, 7, 7]
    assert table.column("speaker").values.tolist() == ["theo", "jackson", "yweweler"]
    assert table.column("index").values.tolist() == [4, 32, 0.5]
    assert table.column("audio").lengths.tolist() == [11, 10, 12]
    fails(
        lambda: s.audio("set.tar.xz", tmp_path, names="{digit}-{speaker}"),
        "the file `recordings/0_theo_4.wav` is not called as `names` says: `{digit}-{speaker}`",
    )
    record(tmp_path, "a/train/1-x.wav")
    record(tmp_path, "a/test/2-y.wav")
    tables = splits(s.audio("a", tmp_path, names="{n}-{who}"))
    assert {split: table.column("who").values.tolist() for split, table in tables.items()} == {
        "test": ["y"],
        "train": ["x"],
    }


@pytest.mark.parametrize(
    ("pattern", "stem", "values"),
    [
        ("{a}_{b}", "x_y_z", ["x", "y_z"]),
        ("{a}_{b}", "_y_z", ["_y", "z"]),
        ("{a}_{b}", "x_", None),
        ("{a}_{b}", "xy", None),
        ("take.{a}(+)", "take.7(+)", ["7"]),
        ("take.{a}", "takes7", None),
        ("{a}end", "end", None),
        ("{a}.*{b}-x", "1.*2-x", ["1", "2"]),
        ("{a}", "anything at all", ["anything at all"]),
        ("s{a}s", "s", None),
    ],
)
def test_patterns(pattern: str, stem: str, values: list[str] | None) -> None:
    assert AUDIO._pattern(pattern).match(stem) == values


@pytest.mark.parametrize(
    ("pattern", "part"),
    [
        ("abc", "expected names in braces, as in `{digit}_{speaker}_{index}`"),
        ("", "expected names in braces"),
        ("{a}_{b", "expected names in braces"),
        ("{a b}", "expected names in braces"),
        ("{a}{b}", "two names touch"),
        ("{a}_{a}", "there is twice a column `a`"),
        ("{a}_{file}", "there is already a column `file`"),
    ],
)
def test_patterns_that_say_nothing(tmp_path: Path, pattern: str, part: str) -> None:
    record(tmp_path, "a_b.wav")
    fails(lambda: s.audio(".", tmp_path, names=pattern), f"`names` is `{pattern}`", part)


def test_recordings_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fails(lambda: s.audio("set", tmp_path), "there is no file")
    (tmp_path / "set").mkdir()
    fails(lambda: s.audio("set", tmp_path), "has no recordings: no file there ends in .wav, .flac, .ogg")
    for content in (b"", b"RIFF", b"junk" * 50):
        (tmp_path / "set/a.wav").write_bytes(content)
        fails(lambda: s.audio("set", tmp_path), "set/a.wav` is not a complete recording")
    whole = record(tmp_path, "set/a.wav", sound(100)).read_bytes()
    for name, field in (("slow", 0), ("fast", 2**30)):
        (tmp_path / f"{name}.wav").write_bytes(whole[:24] + struct.pack("<I", field) + whole[28:])
        fails(lambda name=name: s.audio(f"{name}.wav", tmp_path, rate=8000), f"{name}.wav`")
    samples = np.zeros(50, np.float32)
    samples[7] = np.nan
    soundfile.write(tmp_path / "nan.wav", samples, 8000, subtype="FLOAT")
    fails(lambda: s.audio("nan.wav", tmp_path), "nan.wav` has samples that are not finite numbers")
    monkeypatch.setattr(AUDIO, "MAX_SIZE", 4 * 99)
    fails(lambda: s.audio("set", tmp_path), "is longer than what is read: 100 samples in 1 channel")
    monkeypatch.setitem(sys.modules, "soundfile", None)
    fails(lambda: s.audio("set", tmp_path), "pip install 'trine[audio]'")


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
def test_damaged_recordings_are_told(tmp_path: Path, suffix: str) -> None:
    path = record(tmp_path, f"a.{suffix}", sound(500))
    whole, rng = path.read_bytes(), random.Random(0)
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[rng.randrange(min(len(whole), 400))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            s.audio(path.name, tmp_path, rate=4000)
        except DataError as error:
            assert path.name in str(error)


def test_a_spec_reads_recordings(tmp_path: Path) -> None:
    for row in range(10):
        record(tmp_path, f"set/{row % 3}_anna_{row}.wav")
    text = (
        "  source: audio:set\n  options: {names: '{digit}_{who}_{take}', rate: 4000}\n"
        "  fields: {x: {column: take}, y: {column: digit, encode: ids}}\n"
    )
    found = load_dataset(reader.read_string(f"{MODEL}data:\n{text}", tmp_path / "spec.yaml"))
    assert found.counts == {"train": 8, "valid": 1, "test": 1}
    assert found.sizes == {"y.size": 3}
    assert found.splits["test"].table.column("audio").lengths.tolist() == [25]

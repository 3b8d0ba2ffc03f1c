"""Bundles: the same bytes each time, the same predictions everywhere, and nothing taken on trust."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import trine
from trine.runtime.bundles import MANIFEST, MEMBERS, read_bundle
from trine.runtime.compiling import compile_source


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "wine"
    trine.train("zoo:tabular/wine", out=folder, set={"train.epochs": 5})
    return folder


@pytest.fixture(scope="module")
def bundle(run: Path) -> Path:
    return trine.compile(run, run.parent / "wine.trine")


def features() -> np.ndarray:
    from sklearn.datasets import load_wine

    return load_wine().data


def test_two_builds_are_the_same_bytes(run: Path, bundle: Path, tmp_path: Path) -> None:
    assert trine.compile(run, tmp_path / "again.trine").read_bytes() == bundle.read_bytes()
    assert trine.compile(bundle, tmp_path / "copy.trine").read_bytes() == bundle.read_bytes()


def test_a_bundle_predicts_what_its_run_does(run: Path, bundle: Path) -> None:
    rows = {"features": features()}
    a, b = trine.load(run).predict(rows), trine.load(bundle).predict(rows)
    assert all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("backend", ["torch", "onnx"])
def test_backends_agree(bundle: Path, backend: str) -> None:
    """Probabilities in float32 agree to rounding; the classes are the same."""
    rows = {"features": features()}
    a, b = trine.load(bundle).predict(rows), trine.load(bundle, backend=backend).predict(rows)
    assert np.array_equal(a["cultivar"], b["cultivar"])
    np.testing.assert_allclose(a["cultivar/probability"], b["cultivar/probability"], rtol=1e-5)


def test_its_examples_are_what_it_predicts(bundle: Path) -> None:
    members, manifest = read_bundle(bundle)
    assert manifest["name"] == "wine"
    examples = json.loads(members["examples.json"])
    inputs = {name: np.asarray(rows, np.float32) for name, rows in examples["inputs"].items()}
    found = trine.load(bundle).predict_arrays(inputs)
    for name, rows in examples["predictions"].items():
        np.testing.assert_allclose(found[name], rows, rtol=1e-6)


def test_eval_and_predict_take_bundles(bundle: Path) -> None:
    whole = trine.evaluate(bundle)["splits"]["test"]["accuracy"]
    assert 0 < whole <= 1


@pytest.mark.parametrize("at", np.linspace(0, 1, 60, endpoint=False))
def test_a_flipped_byte_is_refused_or_harmless(bundle: Path, tmp_path: Path, at: float) -> None:
    """Nowhere does a changed byte change a prediction: it is refused, or it is one that nothing reads."""
    data = bytearray(bundle.read_bytes())
    data[int(at * len(data))] ^= 0x10
    broken = tmp_path / "broken.trine"
    broken.write_bytes(data)
    rows = {"features": features()[:5]}
    try:
        found = trine.load(broken).predict(rows)
    except trine.ArtefactError:
        return
    expected = trine.load(bundle).predict(rows)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def rebuilt(bundle: Path, change: Callable[[dict[str, bytes]], None], fix: bool = True) -> bytes:
    """The bundle with its members changed, and a manifest that fits them."""
    with zipfile.ZipFile(bundle) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    if fix:
        import hashlib

        manifest = json.loads(members[MANIFEST])
        for name in MEMBERS:
            if name in members:
                manifest["members"][name] = {
                    "bytes": len(members[name]),
                    "sha256": hashlib.sha256(members[name]).hexdigest(),
                }
        members[MANIFEST] = json.dumps(manifest).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return buffer.getvalue()


def huge_header(members: dict[str, bytes]) -> None:
    members["weights.safetensors"] = struct.pack("<Q", 1 << 40) + members["weights.safetensors"][8:]


def other_spec(members: dict[str, bytes]) -> None:
    members["resolved.yaml"] = members["resolved.yaml"].replace(b"dropout: 0.2", b"dropout: 0.3")


def other_shape(members: dict[str, bytes]) -> None:
    members["weights.safetensors"] = members["weights.safetensors"].replace(b"[32,13]", b"[13,32]")


def no_fields(members: dict[str, bytes]) -> None:
    about = json.loads(members["data.json"])
    members["data.json"] = json.dumps({**about, "fields": {"measurements": {"encode": "os.system"}}}).encode()


HOSTILE: dict[str, Callable[[dict[str, bytes]], None]] = {
    "zip slip": lambda m: m.update({"../../evil.py": b"evil"}),
    "absolute path": lambda m: m.update({"/evil.py": b"evil"}),
    "a member too many": lambda m: m.update({"pickle.pkl": b"cos\nsystem\n"}),
    "a member too few": lambda m: m.pop("data.json") and None,
    "oversized tensor header": huge_header,
    "another spec": other_spec,
    "another shape": other_shape,
    "an unknown encoding": no_fields,
    "a spec that is not one": lambda m: m.update({"resolved.yaml": b"!!python/object/apply:os.system [ls]"}),
    "json that is not": lambda m: m.update({"data.json": b"{"}),
    "nested json": lambda m: m.update({"data.json": b"[" * 100_000}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bundles_are_refused(bundle: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / "hostile.trine"
    path.write_bytes(rebuilt(bundle, HOSTILE[name]))
    with pytest.raises(trine.ArtefactError):
        trine.load(path)
    assert [p.name for p in tmp_path.iterdir()] == ["hostile.trine"]


def test_a_bomb_is_refused(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "bomb.trine"
    with zipfile.ZipFile(bundle) as archive, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        for name in archive.namelist():
            bomb.writestr(name, bytes(50_000_000) if name == "graph.txt" else archive.read(name))
    with pytest.raises(trine.ArtefactError, match="compressed"):
        trine.load(path)


def test_a_link_is_refused(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "link.trine"
    with zipfile.ZipFile(bundle) as archive, zipfile.ZipFile(path, "w") as out:
        for name in archive.namelist():
            info = zipfile.ZipInfo(name)
            info.external_attr = (0o120777 if name == "graph.txt" else 0o100644) << 16
            out.writestr(info, b"/etc/passwd" if name == "graph.txt" else archive.read(name))
    with pytest.raises(trine.ArtefactError, match="plain file"):
        trine.load(path)


def test_the_command_line_says_so_with_code_5(tmp_path: Path) -> None:
    (tmp_path / "broken.trine").write_bytes(b"PK\x03\x04 nonsense")
    script = "from trine.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, "predict", "broken.trine"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 5
    assert "cannot be read as a bundle" in done.stderr


def test_only_a_run_becomes_a_bundle(tmp_path: Path) -> None:
    with pytest.raises(trine.UsageError, match="not trained"):
        compile_source("zoo:tabular/wine", tmp_path / "wine.trine")


@pytest.mark.parametrize("backend", ["numpy", "torch", "onnx"])
def test_eight_threads_predict_what_one_does(bundle: Path, backend: str) -> None:
    model = trine.load(bundle, backend=backend)
    data = features()
    sizes = (1, 2, 3, 5, 8, 13, 21, 34)
    expected = {n: model.predict({"features": data[:n]})["cultivar/probability"] for n in sizes}
    wrong: list[int] = []

    def work(n: int) -> None:
        for _ in range(10):
            if not np.array_equal(model.predict({"features": data[:n]})["cultivar/probability"], expected[n]):
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(n,)) for n in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong

"""Files in folders, archives and compressed files, as sources read them."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import random
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from trine.runtime.data import DataError
from trine.runtime.data import sources as s
from trine.runtime.data.sources import files as f

ROWS = b"a,b\n1,2\n3,4\n"
PACK: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress}
TARS = {".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.xz": "w:xz", ".tar.bz2": "w:bz2"}


def fails(function: Callable[[], object], *parts: str) -> None:
    with pytest.raises(DataError) as caught:
        function()
    for part in parts:
        assert part in str(caught.value)


def pack(path: Path, members: dict[str, bytes]) -> Path:
    """An archive of the kind that its name tells."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return path
    with tarfile.open(path, TARS["".join(path.suffixes)]) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("suffix", PACK)
def test_compressed_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows.csv{suffix}"
    path.write_bytes(PACK[suffix](ROWS[:6]) + PACK[suffix](ROWS[6:]))  # two streams are one file
    assert f.read_file(path) == ROWS
    assert s.csv(path.name, tmp_path).column("b").values.tolist() == [2, 4]
    with f.open_file(path) as stream:
        assert stream.read() == ROWS
    kind = {".gz": "gzip", ".xz": "xz", ".bz2": "bzip2"}[suffix]
    path.write_bytes(PACK[suffix](ROWS)[:-7])
    fails(lambda: f.read_file(path), f"rows.csv{suffix}` is not a complete {kind} file")
    path.write_bytes(b"plain")
    fails(lambda: f.read_file(path), f"rows.csv{suffix}`")


@pytest.mark.parametrize("suffix", [".zip", *TARS])
def test_members_of_archives(tmp_path: Path, suffix: str) -> None:
    pack(tmp_path / f"all{suffix}", {"./rows.csv": ROWS, "sub/more.csv.gz": gzip.compress(ROWS), ".hidden": b"x"})
    assert len(s.csv(f"all{suffix}/rows.csv", tmp_path)) == 2
    assert f.read_file(tmp_path / f"all{suffix}" / "sub/more.csv.gz") == ROWS
    assert f.read_file(tmp_path / f"all{suffix}" / ".hidden") == b"x"
    fails(
        lambda: s.csv(f"all{suffix}/row.csv", tmp_path),
        f"all{suffix}` holds no file `row.csv`: did you mean `rows.csv`",
    )
    fails(lambda: s.csv(f"all{suffix}/zebra", tmp_path), "expected one of `rows.csv`, `sub/more.csv.gz`")
    fails(lambda: s.csv(f"all{suffix}", tmp_path), f"has 2 files; name one of them, as in `all{suffix}/rows.csv`")
    fails(lambda: s.csv(f"all{suffix}/sub", tmp_path), "has 1 file; name one of them, as in `sub/more.csv.gz`")
    fails(lambda: s.csv(f"al{suffix}/rows.csv", tmp_path), "there is no file")
    pack(tmp_path / f"one{suffix}", {"rows.csv": ROWS, "__MACOSX/._rows.csv": b"x"})
    assert len(s.csv(f"one{suffix}", tmp_path)) == 2


def test_the_one_folder_of_an_archive_may_be_left_out(tmp_path: Path) -> None:
    pack(tmp_path / "a.zip", {"top/rows.csv": ROWS, "top/sub/x": b"x", "__MACOSX/._top": b""})
    assert f.read_file(tmp_path / "a.zip/rows.csv") == f.read_file(tmp_path / "a.zip/top/rows.csv") == ROWS
    with f.open_files(tmp_path / "a.zip/sub") as files:
        assert files.names == ["x"]
    fails(lambda: f.read_file(tmp_path / "a.zip/row.csv"), "did you mean `top/rows.csv`?")
    pack(tmp_path / "b.zip", {"top/rows.csv": ROWS, "other": b""})
    fails(lambda: f.read_file(tmp_path / "b.zip/rows.csv"), "holds no file `rows.csv`")
    pack(tmp_path / "c.zip", {"rows.csv": ROWS})
    fails(lambda: f.read_file(tmp_path / "c.zip/row.csv"), "holds no file `row.csv`: did you mean `rows.csv`?")
    pack(tmp_path / "d.zip", {})
    fails(lambda: f.read_file(tmp_path / "d.zip/row.csv"), "holds no file `row.csv`")
    fails(lambda: f.read_file(tmp_path / "d.zip"), "has 0 files")


def test_what_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f, "MAX_SIZE", 2**20)
    big = bytes(2**20 + 1)
    for suffix, compress in PACK.items():
        (tmp_path / f"a{suffix}").write_bytes(compress(big))
        fails(lambda suffix=suffix: f.read_file(tmp_path / f"a{suffix}"), "unpacks to more than 0.000976562 GiB")
        (tmp_path / f"b{suffix}").write_bytes(compress(big[1:]))
        assert len(f.read_file(tmp_path / f"b{suffix}")) == 2**20
    for suffix in (".zip", *TARS):
        path = pack(tmp_path / f"c{suffix}", {"big": big, "small": b"x"})
        fails(lambda path=path: f.read_file(path / "big"), "unpacks to more than")
    half = pack(tmp_path / "d.zip", {"a": big[: 2**19], "b": big[: 2**19], "c": b"x"})
    with f.open_files(half) as files:
        assert len(files.read("a") + files.read("b")) == 2**20
        fails(lambda: files.read("c"), "unpacks to more than")
    (tmp_path / "plain").write_bytes(big)
    assert len(f.read_file(tmp_path / "plain")) == len(big), "a file that is not packed may be of any size"


def test_files_of_a_folder(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/1.PNG", "a.png", ".hidden/x.png", "b/.x.png", "notes.txt", "c.png.gz"):
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(b"c") if name.endswith("gz") else name.encode())
    (tmp_path / "set/link.png").symlink_to("a.png")
    (tmp_path / "set/.away").symlink_to("/etc")
    with f.open_files(tmp_path / "set") as files:
        assert files.names == ["a.png", "b/1.PNG", "b/2.png", "c.png.gz", "link.png", "notes.txt"]
        assert files.ending_in((".png",)) == ["a.png", "b/1.PNG", "b/2.png", "c.png.gz", "link.png"]
        assert not files.single
        assert [files.read(name) for name in ("b/2.png", "link.png", "c.png.gz")] == [b"b/2.png", b"a.png", b"c"]
    with f.open_files(tmp_path / "set/a.png") as files:
        assert files.names == ["a.png"] and files.single
    (tmp_path / "way").symlink_to(tmp_path / "set/b")
    with f.open_files(tmp_path / "way") as files:
        assert files.names == ["1.PNG", "2.png"], "the folder itself may be reached by a link"
    with pytest.raises(DataError, match=r"there is no file.*did you mean `set`"), f.open_files(tmp_path / "sett"):
        pass


@pytest.mark.parametrize(
    ("link", "target", "part"),
    [
        ("out.png", "../secret.png", "`out.png` is a link that leads out of the folder"),
        ("b/out", "/etc", "`b/out` is a link that leads out of the folder"),
        ("again", "b", "`again` is a link to a folder, which is not followed"),
        ("loop", "loop", "`loop` is a link to no file"),
        ("gone.png", "nothing.png", "`gone.png` is a link to no file"),
    ],
)
def test_links_in_folders(tmp_path: Path, link: str, target: str, part: str) -> None:
    (tmp_path / "set/b").mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(b"")
    (tmp_path / "set" / link).symlink_to(target)
    with pytest.raises(DataError) as caught, f.open_files(tmp_path / "set"):
        pass
    assert part in str(caught.value)


def test_links_and_odd_members_of_archives(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, kind in (("soft", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE), ("pipe", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        tar.addfile(tarfile.TarInfo("../outside.csv"))
        tar.addfile(tarfile.TarInfo("rows.csv"))
    fails(lambda: f.read_file(tmp_path / "a.tar/soft"), "`soft` is a link, which is not followed; pack the file itself")
    fails(lambda: f.read_file(tmp_path / "a.tar/hard"), "`hard` is a link")
    fails(lambda: f.read_file(tmp_path / "a.tar/pipe"), "holds no file `pipe`")
    fails(lambda: f.read_file(tmp_path / "a.tar"), "`soft` is a link")
    assert f.read_file(tmp_path / "a.tar/rows.csv") == b""
    link = zipfile.ZipInfo("soft")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
        archive.writestr("sub/", "")
    fails(lambda: f.read_file(tmp_path / "a.zip/soft"), "`soft` is a link")


def test_encrypted_and_unreadable_members(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", {"rows.csv": ROWS})
    whole = bytearray(path.read_bytes())
    for start, field in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        whole[whole.index(start) + field] |= 1
    path.write_bytes(whole)
    fails(lambda: f.read_file(path), "cannot read", "encrypted")
    if os.geteuid():  # root may read everything
        (tmp_path / "b").write_bytes(b"")
        (tmp_path / "b").chmod(0)
        fails(lambda: f.read_file(tmp_path / "b"), "cannot read", "Permission denied")


@pytest.mark.parametrize("suffix", [".zip", *TARS])
def test_damaged_archives_are_told(tmp_path: Path, suffix: str) -> None:
    """Any damage gives the content or a `DataError`; a cut-off file and one of other bytes always the latter."""
    path = pack(tmp_path / f"a{suffix}", {"a.csv": ROWS * 50, "b.csv": os.urandom(3000)})
    whole, rng = path.read_bytes(), random.Random(0)
    for content in (b"", b"junk" * 300, whole[: len(whole) // 3]):
        path.write_bytes(content)
        fails(lambda: f.read_file(path / "b.csv"), f"a{suffix}")
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(3):
            damaged[rng.randrange(len(whole))] = rng.randrange(256)
        path.write_bytes(damaged)
        with contextlib.suppress(DataError):
            f.read_file(path / "b.csv")

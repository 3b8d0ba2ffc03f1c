"""Every command and every output shown in the README and the docs is run.

In ```console blocks, `$` lines are run in a shell and what stands below is compared; `…` fits anything. In ```pycon
blocks, sessions run as doctests. A ```yaml block whose first line is `# file: name` is that file. Numbers may differ
by two per cent: other processors round sums differently, and training carries that on.
"""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import trine
from trine.reference import pages

ROOT = Path(trine.__file__).parent
GUIDES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)


@pytest.mark.parametrize("guide", GUIDES, ids=lambda p: p.name)
def test_what_a_guide_shows_is_so(guide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for language, text in BLOCK.findall(guide.read_text(encoding="utf-8")):
        if language == "yaml" and text.startswith("# file: "):
            head, _, body = text.partition("\n")
            (tmp_path / head.removeprefix("# file: ")).write_text(body, encoding="utf-8")
        elif language == "console":
            for command, expected in commands(text):
                compare(command, expected, run(command, tmp_path))
        elif language == "pycon":
            session(text, guide.name, names)


def commands(text: str) -> list[tuple[str, str]]:
    parts = re.split(r"^\$ ", text, flags=re.M)[1:]
    return [(command, expected) for command, _, expected in (part.partition("\n") for part in parts)]


def run(command: str, folder: Path) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        command, shell=True, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    return done.stdout


def compare(command: str, expected: str, found: str) -> None:
    want = [line.rstrip() for line in expected.rstrip().splitlines()]
    have = [line.rstrip() for line in found.rstrip().splitlines()]
    assert fits(want, have), f"$ {command}\n--- shown\n{expected}\n--- found\n{found}"


def fits(want: list[str], have: list[str]) -> bool:
    if not want:
        return not have
    if want[0] == "…":
        return any(fits(want[1:], have[i:]) for i in range(len(have) + 1))
    return bool(have) and line_fits(want[0], have[0]) and fits(want[1:], have[1:])


def line_fits(want: str, have: str) -> bool:
    words, found = want.split(), have.split()
    if words and words[-1] == "…":
        words, found = words[:-1], found[: len(words) - 1]
    return len(words) == len(found) and all(map(word_fits, words, found))


def word_fits(want: str, have: str) -> bool:
    if want in (have, "…"):
        return True
    a, b = (re.fullmatch(r"\[?(\d+\.\d+)[\],]?", word) for word in (want, have))
    return bool(a and b) and abs(float(a[1]) - float(b[1])) <= 0.02 * max(1.0, abs(float(a[1])))


def session(text: str, name: str, names: dict[str, object]) -> None:
    test = doctest.DocTestParser().get_doctest(text, names, name, name, 0)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False)
    lines: list[str] = []
    runner.run(test, out=lines.append, clear_globs=False)
    names.update(test.globs)
    assert not runner.failures, "".join(lines)


def test_the_readme_shows_the_shipped_spec() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = next(body for language, body in BLOCK.findall(text) if language == "yaml")
    assert shown.partition("\n")[2] == (ROOT / "specs/vision/digits-mlp.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(pages()))
def test_reference_pages_are_current(name: str) -> None:
    path = ROOT / "docs" / "reference" / name
    assert path.exists(), "run `make docs`"
    assert path.read_text(encoding="utf-8") == pages()[name], "run `make docs`"


def test_links_lead_somewhere() -> None:
    for guide in [*GUIDES, *(ROOT / "docs" / "reference").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", guide.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (guide.parent / target).exists(), f"{guide}: {target}"

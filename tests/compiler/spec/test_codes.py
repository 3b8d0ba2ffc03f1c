"""Every code has a page, and the page tells the truth."""

import re
from pathlib import Path

import pytest
import trine
from trine.compiler.spec.codes import CODES, page
from trine.compiler.spec.diagnostics import SpecError
from trine.compiler.spec.reader import read_string
from trine.runtime.specs import check_spec

ROOT = Path(trine.__file__).parent


def codes_in_sources():
    found = set()
    for folder in ("compiler", "runtime", "backends"):
        for path in (ROOT / folder).rglob("*.py"):
            if path.name != "codes.py":
                found |= set(re.findall(r'"(E\d{3})"', path.read_text()))
    return found


def codes_of(text, overrides=()):
    try:
        check_spec(read_string(text, "spec.yaml", overrides))
    except SpecError as error:
        return {d.code for d in error.diagnostics}
    return set()


def test_pages_are_those_of_the_codes_in_the_sources():
    assert set(CODES) == codes_in_sources()


@pytest.mark.parametrize("code", [code for code, entry in CODES.items() if not entry.command])
def test_the_wrong_example_has_this_error_alone_and_the_right_one_none(code):
    assert codes_of(CODES[code].wrong) == {code}
    assert codes_of(CODES[code].right) == set()


def test_the_wrong_override_has_its_error_and_the_right_one_none():
    overrides = [[text.split("--set ")[1].strip()] for text in (CODES["E110"].wrong, CODES["E110"].right)]
    base = "spec: 1\nmodel: {inputs: {x: float}, layers: [tanh]}\n"
    assert [codes_of(base, each) for each in overrides] == [{"E110"}, set()]


@pytest.mark.parametrize("code", CODES)
def test_a_page_shows_both_examples(code):
    text = page(code)
    assert text.startswith(f"# {code}: {CODES[code].title}\n")
    assert CODES[code].wrong in text
    assert CODES[code].right in text
    assert text.count("```") == 4


def test_an_unknown_code_has_no_page():
    with pytest.raises(KeyError):
        page("E999")

"""The README in both languages: the printed block, commands that parse, files that exist."""
import re

import pytest
from conftest import SCRIPT

import lstm_sine
import tables


@pytest.fixture(params=["README.md", ".github/zh-CN.md"])
def readme(request):
    return SCRIPT.parent / request.param


def test_the_printed_block_is_what_the_script_prints(readme, article):
    text = readme.read_text(encoding="utf-8")
    block = text[text.index("    data: 0.1"):].split("\n\n")[0].splitlines()
    printed = [line for line in article[1].splitlines() if not line.startswith("saved")]
    for ours, theirs in zip(block[:-1], printed, strict=True):
        for our, their in zip(ours.split(), theirs.split(), strict=True):
            if our != their and float(their) > 5e-7:  # what is smaller is rounding
                assert float(our) == pytest.approx(float(their), rel=1e-4)


def test_commands_parse_and_files_exist(readme, monkeypatch, tmp_path):
    text = readme.read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^    python lstm_sine.py(.*)$", text, flags=re.M)
    rows = re.findall(r"^\| `(--.*?)`", text, flags=re.M)
    assert len(commands) == 2 and len(rows) == 4
    for options in commands + rows:
        lstm_sine.read_options(options.split())
    for path in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        assert (readme.parent / path).is_file() and (readme.parent / path).stat().st_size < 200_000
    assert all((SCRIPT.parent / path).is_file() for path in re.findall(r"tests/\w+\.py", text))
    assert set(re.findall(r"tests/tables.py ([a-z-]+)", text)) <= {*tables.TABLES, "own"}

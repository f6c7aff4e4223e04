"""The README in both languages: the printed block, commands that parse, files that exist."""
import re

import pytest
from conftest import SCRIPT

import lstm_sine

PATHS = {"English": SCRIPT.parent / "README.md", "Chinese": SCRIPT.parent / ".github" / "zh-CN.md"}


@pytest.fixture(params=PATHS)
def readme(request):
    return PATHS[request.param]


def test_the_printed_block_is_what_the_script_prints(readme, article):
    text = readme.read_text(encoding="utf-8")
    block = text[text.index("    data: 0.1"):].split("\n\n")[0].splitlines()
    printed = [line for line in article[1].splitlines() if not line.startswith("saved")]
    number = r"\d+\.\d+(?:e-\d+)?|\d\.\d+e-\d+"
    for ours, theirs in zip(block[:-1], printed, strict=True):
        assert re.sub(number, "#", ours.strip()).split() == re.sub(number, "#", theirs).split()
        for our, their in zip(re.findall(number, ours), re.findall(number, theirs)):
            rounding = 1e-6 if "by hand" in theirs or float(their) < 1e-12 else 0
            assert float(our) == pytest.approx(float(their), rel=1e-4, abs=rounding)


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
    for path in re.findall(r"tests/\w+\.py", text):
        assert (SCRIPT.parent / path).is_file()
    tables = (SCRIPT.parent / "tests" / "tables.py").read_text(encoding="utf-8")
    for name in re.findall(r"tests/tables.py ([a-z-]+)", text):
        assert f'"{name}"' in tables

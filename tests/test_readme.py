"""The README: what it prints, its commands, its pictures, its module example."""

import re
import runpy
from pathlib import Path

import pytest

import lstm_sine

ROOT = Path(lstm_sine.__file__).parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_printed_block_is_what_the_script_prints(run_main):
    lines = run_main("--lang en")[1].splitlines()[:-1]
    blocks = re.findall(r"(?m)^    (data: 0.1[^`]*?)\n    saved", README)
    assert len(blocks) == 2  # English, Chinese
    table = re.search(r"(?s)one step ahead.*?(?=\n\n)", lstm_sine.__doc__)[0]
    for block, printed in zip([*blocks, table], [lines, lines, lines[7:12]]):
        for our, their in zip(block.split(), " ".join(printed).split(), strict=True):
            if our != their and float(their) > 1e-9:  # the rest is rounding
                assert float(our) == pytest.approx(float(their), rel=1e-4)


def test_the_commands_parse():
    commands = re.findall(r"(?m)^    python lstm_sine.py (.*)$", README)
    for options in commands + re.findall(r"(?m)^\| `(--[^`]*)`", README):
        lstm_sine.make_parser().parse_args(options.split())


def test_the_pictures_exist():
    for path in re.findall(r"\]\((\.github/.*?)\)", README):
        assert (ROOT / path).stat().st_size <= 200_000


def test_the_module_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    example = re.search(r"(?s)```python\n(.*?)```", README)[1]
    (tmp_path / "example.py").write_text(example)
    runpy.run_path("example.py")

"""The README held against the script: options, tests, links, the printed block, both languages."""
import io
import re
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from conftest import SCRIPT
from test_training import TOLERANCE

import lstm_sine

ROOT = SCRIPT.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
ENGLISH, CHINESE = README.split("\n# 中文说明\n")


def commands(text):
    """The indented lines of the README that start a program or belong to one in Python."""
    starts = ("python", "py ", ".venv", "import", "lstm_sine", "model", "from", "co2", "train")
    return [line.strip() for line in text.splitlines()
            if line.startswith("    ") and line.strip().startswith(starts)]


def sections(text, *titles):
    """The text of those sections whose heading begins with one of `titles`."""
    parts = re.split(r"^## ", text, flags=re.M)[1:]
    return "\n".join(part for part in parts if part.startswith(titles))


IN_BOTH = sections(ENGLISH, "The two commands", "What you see", "One change", "Where no straight",
                   "The memory picture", "Your own series", "When something")


def test_every_option_the_readme_names_exists_and_every_option_is_named():
    known = set(lstm_sine.command_line()._option_string_actions) - {"-h", "--help"}
    foreign = {"--help", "--seeds"}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", README)) - foreign
    assert named <= known
    options = sections(ENGLISH, "Options")
    assert known <= set(re.findall(r"--[a-z][a-z-]*", options))


def test_the_defaults_in_the_table_of_options_are_the_scripts():
    args = vars(lstm_sine.read_options([]))
    for name, value in re.findall(r"`--([a-z-]+) ([\w.]+)`", sections(ENGLISH, "Options")):
        if value not in ("FILE", "C", "STEPS", "en"):
            assert str(args[name.replace("-", "_")]).removesuffix(":0") in (value, "cpu", "cuda")


def test_every_command_of_the_script_in_the_readme_is_understood(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    found = [line for line in commands(README) if "lstm_sine.py" in line]
    assert len(found) > 8
    for line in found:
        lstm_sine.read_options(line.split("lstm_sine.py")[1].split())


def test_every_test_the_readme_names_exists():
    defined = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("*.py"))
    named = set(re.findall(r"\btest_[a-z0-9_]+\b(?!\.py)", README))
    assert len(named) > 20
    for name in named:
        assert f"def {name}(" in defined, name


def test_every_sentence_of_the_article_that_is_tested_stands_in_the_table():
    code = (ROOT / "tests" / "test_article.py").read_text(encoding="utf-8")
    for name in re.findall(r"^def (test_\w+)", code, flags=re.M):
        if name != "test_model_and_data_move_to_any_device":
            assert f"`{name}`" in README, name


def test_every_file_the_readme_links_or_names_exists():
    links = re.findall(r"\]\((?!https?:|#)([^)]+)\)", README)
    named = re.findall(r"tests/\w+\.py", README)
    assert len(links) >= 6 and named
    for path in links + named:
        assert (ROOT / path).is_file(), path


def test_the_pictures_are_small():
    for path in (ROOT / ".github").glob("*.png"):
        assert path.stat().st_size <= 200_000, path.name


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """The lines that the default run prints."""
    output = io.StringIO()
    path = tmp_path_factory.mktemp("default") / "lstm_sine.png"
    with redirect_stdout(output):
        lstm_sine.main(["--no-show", "--device", "cpu", "--lang", "en", "--output", str(path)])
    return [line.replace(str(path), path.name) for line in output.getvalue().splitlines()]


@pytest.mark.parametrize("text", [ENGLISH, CHINESE], ids=["English", "Chinese"])
def test_the_block_of_the_default_run_is_what_the_script_prints(text, printed):
    block = text[text.index("    device: cpu"):].split("\n\n")[0]
    shown = [line.strip() for line in block.splitlines()]
    number = r"\d\.\d+e-\d+"
    for ours, theirs in zip(shown, printed, strict=True):
        assert re.sub(number, "#", ours) == re.sub(number, "#", theirs)
        for our_number, their_number in zip(re.findall(number, ours), re.findall(number, theirs)):
            rounding = float(their_number) < (1e-5 if "by hand" in theirs else 1e-10)
            assert float(our_number) == pytest.approx(
                float(their_number), rel=TOLERANCE, abs=1e-5 if rounding else 0)


def test_both_languages_have_the_same_commands():
    assert commands(IN_BOTH) == commands(CHINESE) and len(commands(CHINESE)) > 10


def test_both_languages_have_the_same_numbers_in_the_same_tables():
    def cells(text):
        return [re.findall(r"`[^`]*`|\d[\d.,e-]*", line) for line in text.splitlines()
                if line.startswith("|") and re.search(r"\d", line)]

    def numbers(text):
        rows = cells(text)
        return [[part for part in row if not part.startswith("`") or "--" in part] for row in rows]

    english, chinese = numbers(IN_BOTH), numbers(CHINESE)
    assert len(english) == len(chinese) > 40
    for ours, theirs in zip(english, chinese):
        assert sorted(ours) == sorted(theirs)


def test_both_languages_have_the_same_pictures():
    def pictures(text):
        return [Path(path).stem.removesuffix("_zh")
                for path in re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)]

    assert pictures(ENGLISH) == pictures(CHINESE) == ["wave", "article", "memory"]

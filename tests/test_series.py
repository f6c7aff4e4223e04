"""Series: the made ones, and what is read from files, or refused."""

import numpy as np
import pytest
import torch

import lstm_sine
from lstm_sine import load_series, make_parser, read_column


def load(options):
    return load_series(make_parser().parse_args(options.split()))


GOOD = {
    "a column with a name": ("level\n1.5\n-2\n30\n", None, "column level"),
    "quotes": ('"a, b", l\n"x, y","1.5"\n"u, v",-2\nw,30\n', "l", "column l"),
    "a text of two lines": ('a,b\n1.5,"x\ny"\n-2,x\n30,x\n\n', "a", "column a"),
    "an index of pandas": (",0\n0,1.5\n1,-2\n2,30\n", "2", "column 0"),
    "names of pandas": ("0,1,2\n7,8,1.5\n7,8,-2\n7,8,30\n", "2", "column 2"),
    "a first line of numbers": ("2;1.5\nx;-2\nx;30\n", "2", "column 2, which has no"),
    "Chinese": ("日期\t收盘价\n1\t1.5\n1\t-2\n1\t30\n", "收盘价", "column 收盘价"),
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gbk"])
@pytest.mark.parametrize("text, column, called", GOOD.values(), ids=GOOD)
def test_a_series_is_read_from(tmp_path, text, column, called, encoding):
    path = tmp_path / "series.csv"
    path.write_bytes(text.encode(encoding))
    values, found = read_column(path, column)
    assert values.tolist() == [1.5, -2, 30]
    assert found.startswith(called)


REFUSED = {
    "no choice among columns": ("a,b\nx,1\n", "", "choose a --column .* 'a, b' .tabs"),
    "a name that stands twice": ("a,a\n1,2\n", "--column a", "choose .* 'a, a'"),
    "a preamble": ("lat,lon\n1,2\n\na,t\n", "--column t", "choose .* 'lat, lon'"),
    "decimal commas": ("15,1\n16,9\n", "", "write decimal points"),
    "gaps": ("a,b\n,9\n,inf\n\n1,5,9\n", "--column b", "3 lines .* 2 of 2; .* ',inf'"),
    "every second line empty": ("a\r\r\n1\r\r\n2\n", "", "2 lines .* first is '':"),
    "a number over several lines": ('1\n2\n"3\n4"\n', "", r"is '3\\n4'"),
    "one line": ("1,2,3\n", "", "a series goes down a column"),
    "neither UTF-8 nor GBK": ("\udcff", "", "not text in UTF-8 or GBK: save it as CSV"),
    "a late change": (f"7\n{7 + 1e-15}\n" * 40 + "1\n2\n" * 10, "", "constant over"),
    "huge numbers": ("1e200\n-1e200\n" * 20, "", "too large"),
    "few points": ("1\n2\n" * 7, "", "14 points are too few"),
    "long windows": ("1\n2\n" * 10**5, "--seq-length 2000", "do not fit in memory"),
    "no such file": ("", "--data nothing.csv", "No such file .* 'nothing.csv'"),
    "its own forecast": ("", "--data a_forecast.csv --output a.png", "would overwrite"),
    "an empty batch": ("", "--batch-size 0", "--batch-size must lie between 1 and"),
    "a huge cell": ("1\n" + 140_000 * "1", "", "field larger than field limit"),
    "a strange ending": ("", "--output a.doc", "must be a file that ends in .png"),
    "no folder": ("", "--output nowhere/a.png", "nowhere"),
    "no test part": ("", "--forecast 5 --split random", "is checked on the last 20%"),
    "two models": ("", "--by-hand --subtract-last", "--by-hand needs --no-subtract"),
    "no device": ("", "--device cuda", "PyTorch finds no CUDA device here"),
}


@pytest.mark.parametrize("content, more, message", REFUSED.values(), ids=REFUSED)
def test_one_line_refuses(content, more, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", bool)  # bool() is False
    (tmp_path / "series.csv").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(SystemExit, match=message) as stop:
        lstm_sine.main(f"--data series.csv --no-show --device cpu {more}".split())
    assert "\n" not in str(stop.value) + capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["series.csv"]


def test_mackey_glass_is_that_of_a_loop():
    x = dict.fromkeys(range(-170, 1), 1.2)
    for k in range(5480):
        growth = 0.2 * x[k - 170] / (1 + x[k - 170] ** 10)
        x[k + 1] = x[k] + 0.1 * growth - 0.01 * x[k]
    series = load("--data mackey-glass --length 7 --seq-length 2 --forecast 2")
    found = [*series.values, *series.future]
    np.testing.assert_allclose(found, [x[k] for k in range(5000, 5481, 60)], rtol=1e-9)


def test_the_sine_is_not_scaled_but_goes_on():
    series = load("--length 300 --freq 5 --forecast 40")
    angles = 2 * np.pi * 5 / 299 * np.arange(340)
    np.testing.assert_allclose(series.scaled(), np.sin(angles[:300]), atol=1e-9)
    np.testing.assert_allclose(series.future, np.sin(angles[300:]), atol=1e-9)


@pytest.mark.parametrize("option, order", [("--subtract-last", 1), ("", 0)])
def test_the_unit_of_a_file_is_a_typical_change_or_value(wave, option, order):
    early = load(f"--data {wave[0]} {option}").scaled()[:160]
    assert np.mean(np.diff(early, order) ** 2) == pytest.approx(1)
    assert early.mean() == pytest.approx(0, abs=1e-9)

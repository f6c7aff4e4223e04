"""Series: Mackey-Glass by a loop, and what is read from files, or refused."""
import csv

import numpy as np
import pytest

from lstm_sine import mackey_glass, read_series


def test_mackey_glass_is_euler_in_tenths_of_a_unit_from_500_on_every_6():
    x = {tenth: 1.2 for tenth in range(-170, 1)}
    for tenth in range(5420):
        delayed = x[tenth - 170]
        x[tenth + 1] = x[tenth] + (0.2 * delayed / (1 + delayed**10) - 0.1 * x[tenth]) / 10
    np.testing.assert_allclose(mackey_glass(8), [x[5000 + 60 * k] for k in range(8)], rtol=1e-9)


GOOD = {
    "empty lines at the end": ("1.5\n-2\n3e1\n\n\n", None, "column 1 (no name in the first line)"),
    "a name": ("level (m)\n 1.5 \n -2\n30 \n", None, "column level (m)"),
    "a byte-order mark, Windows": ("\ufefflevel\r\n1.5\r\n-2\r\n30\r\n", None, "column level"),
    "by number": ("1,1.5\nx,-2\nx,30\n", "2", "column 2 (no name in the first line)"),
    "quotes": ('"a, b","level"\n"x, y","1.5"\n"u, v",-2\nw,30\n', "level", "column level"),
    "by a Chinese name": ("时间,水位,other\n1,1.5,0\n2,-2,0\n3,30,0\n", "水位", "column 水位"),
    "numbers as names": ("a;b,0,1990\n1,1.5,\n2,-2,\n3,30,\n", "0", "column 0"),
    "semicolons": ("day;level\n1;1.5\n2;-2\n3;30\n", "level", "column level"),
    "tabs, with commas in the text": ("day\tlevel\n1,2\t1.5\n2\t-2\n3\t30\n", "2", "column level"),
}


@pytest.mark.parametrize("text, column, called", GOOD.values(), ids=GOOD)
def test_a_series_is_read_from(tmp_path, text, column, called):
    path = tmp_path / "series.csv"
    path.write_bytes(text.encode())
    values, name = read_series(path, column)
    assert values.tolist() == [1.5, -2, 30] and values.dtype == np.float64
    assert name == f"series.csv, {called}"


BAD = {
    "an empty file": ("", None, "a series goes down a column, and this file has one line"),
    "all values on one line": ("112, 118, 132", None, "down a column, and this file has one line"),
    "Chinese in GBK": ("温度\n1\n2\n".encode("gbk"), None, "'utf-8' codec can't decode"),
    "no choice among columns": ("a,b,c\nx,1,2\n", None, "first line is taken for names: a, b, c$"),
    "a name that stands twice": ("a,a\n1,2\n", "a", "fits just one; .*: a, a"),
    "what is a name and a number": ("0,1,2\n15,100,3\n", "2", "fits just one; .*: 0, 1, 2"),
    "a decimal comma": ("15,1\n16,9\n", None, "commas, even decimal ones, separate columns"),
    "a decimal comma, by number": ("15,1\n16,9\n", "1", "even decimal ones, separate columns"),
    "a decimal comma below a name": ("level\n1,5\n", None, "line 2 reads '1,5'.* decimal points"),
    "spaces": ("0e+0 1\n1 2\n", "2", "only tabs, semicolons and commas, .* names: 0e.0 1$"),
    "gaps": ("a\n9\nnull\n\nx\n", None, "line 3 reads 'null', and 2 more are wrong; .*: fill gaps"),
    "a gap at the start": ("\n1\n2\n3\n", None, "line 1 reads ''"),
    "a line too short": ("a,b\n3,4\n5\n6,7\n", "2", "line 3 reads '5'.* 2 columns"),
    "nan first": ("nan\n1\n2\n", None, "line 1 reads 'nan'"),
    "infinity": ("1\n2\ninf\n", None, "line 3 reads 'inf'"),
    "a quote over several lines": ('1\n2\n"3\n4\n5"\n6', None, "a quote goes over several lines"),
    "a quote inside a cell": ('1\n2\n"3"4\n', None, "expected after"),
    "another line end": ("1\n2\u20283\n4", None, "line 2 reads"),
}


@pytest.mark.parametrize("content, column, message", BAD.values(), ids=BAD)
def test_a_message_says_what_is_wrong_with(tmp_path, content, column, message):
    path = tmp_path / "series.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises((ValueError, csv.Error), match=message) as error:
        read_series(path, column)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300
    assert "take" not in str(error.value).replace("taken", "")  # never advises to take lines out

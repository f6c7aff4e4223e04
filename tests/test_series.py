"""The series, its windows, its split, and series from files."""
import numpy as np
import pytest
import torch
from torch.utils.data import random_split

from lstm_sine import create_sequences, generate_sequence, leakage, read_series, split_windows


def test_the_sine_runs_through_freq_cycles_from_zero():
    series = generate_sequence(1001, freq=10)
    assert series.shape == (1001,) and series.dtype == np.float64
    for k in (0, 1, 25, 500, 1000):
        assert series[k] == pytest.approx(np.sin(2 * np.pi * 10 * k / 1000), abs=1e-12)


def test_the_article_series_is_a_rising_arc_up_to_the_sine_of_36_degrees():
    series = generate_sequence(1000)
    assert np.all(np.diff(series) > 0)
    assert (series[0], series[-1]) == (0, pytest.approx(np.sin(np.radians(36))))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_windows_equal_those_of_a_brute_force_loop_for_every_small_length(dtype):
    for length in range(2, 14):
        data = np.random.default_rng(length).integers(-99, 99, length).astype(dtype)
        for seq_length in range(1, length):
            expected = [data[i:i + seq_length] for i in range(length - seq_length)]
            for source in (data, torch.from_numpy(data)):
                x, y = create_sequences(source, seq_length)
                assert x.shape == (length - seq_length, seq_length) and y.shape == (length - seq_length,)
                np.testing.assert_array_equal(x, expected)
                np.testing.assert_array_equal(y, data[seq_length:])
                assert x.dtype == y.dtype == source.dtype


def test_the_first_and_the_last_window_are_where_they_should_be():
    x, y = create_sequences(np.arange(1000), 10)
    assert (x[0].tolist(), y[0]) == (list(range(10)), 10)
    assert (x[-1].tolist(), y[-1]) == (list(range(989, 999)), 999)


@pytest.mark.parametrize("data", [np.zeros(100), torch.zeros(100)])
def test_windows_and_targets_are_views_of_the_series(data):
    x, y = create_sequences(data, 10)
    data[50] = 7
    assert (x == 7).sum() == 10 and (y == 7).sum() == 1


@pytest.mark.parametrize("seq_length", [-1, 0, 5, 6])
def test_a_window_that_does_not_fit_is_refused(seq_length):
    with pytest.raises(ValueError, match=f"window of {seq_length} .*5 points.*1 to 4"):
        create_sequences(np.zeros(5), seq_length)


def test_the_random_split_draws_what_pytorch_draws():
    torch.manual_seed(42)
    train, test = split_windows(990)
    torch.manual_seed(42)
    theirs = random_split(range(990), [792, 198])
    assert [train.tolist(), test.tolist()] == [list(part.indices) for part in theirs]


@pytest.mark.parametrize("count", [2, 3, 990, 1001])
@pytest.mark.parametrize("split", ["random", "time"])
def test_a_split_uses_every_window_once_and_leaves_no_side_empty(split, count):
    train, test = split_windows(count, split)
    assert len(train) == int(0.8 * count) and sorted([*train.tolist(), *test.tolist()]) == list(range(count))


def test_one_window_cannot_be_split():
    with pytest.raises(ValueError, match="single window"):
        split_windows(1)


def test_in_a_split_in_time_training_never_sees_a_test_target():
    _, y = create_sequences(np.arange(500), 7)
    x = create_sequences(np.arange(500), 7)[0]
    train, test = split_windows(len(x), "time")
    assert y[train].max() < y[test].min()
    assert not set(y[test]) & (set(y[train]) | set(x[train].ravel()))
    assert leakage(train, test, 7) == 0


@pytest.mark.parametrize("seq_length, count", [(1, 40), (3, 40), (10, 40), (10, 990)])
@pytest.mark.parametrize("split", ["random", "time"])
def test_leakage_is_what_a_search_through_all_training_windows_finds(split, seq_length, count):
    torch.manual_seed(0)
    train, test = split_windows(count, split)
    seen = {start + k for start in train.tolist() for k in range(seq_length)}
    assert leakage(train, test, seq_length) == pytest.approx(np.mean([t + seq_length in seen for t in test.tolist()]))


def test_every_test_target_of_the_article_stands_inside_its_training_windows():
    torch.manual_seed(42)
    assert leakage(*split_windows(990), 10) == 1


GOOD = {
    "a number a line": ("1.5\n-2\n3e1\n", None),
    "no newline at the end, empty lines after it": ("1.5\n-2\n30\n\n\n", None),
    "a header": ("level\n1.5\n-2\n30\n", None),
    "a byte-order mark and Windows line ends": ("\ufefflevel\r\n1.5\r\n-2\r\n30\r\n", None),
    "dates beside it": ("2024-01-01,1.5\n2024-01-02,-2\n2024-01-03,30\n", None),
    "quoted text with commas": ('"a, b","level"\n"x, y","1.5"\n"u, v",-2\nw,30\n', None),
    "chosen by name": ("时间,level,other\n1,1.5,0\n2,-2,0\n3,30,0\n", "level"),
    "chosen by number": ("1,1.5,0\n2,-2,0\n3,30,0\n", "2"),
    "years as names": ("id,1990,1991\n1,1.5,\n2,-2,\n3,30,\n", "1990"),
    "a column of text with a number in it": ("note,level\nx,1.5\n7,-2\ny,30\n", None),
    "gaps in another column": ("level,other\n1.5,\n-2,\n30,4\n", "level"),
}


@pytest.mark.parametrize("text, column", GOOD.values(), ids=GOOD)
def test_a_series_is_read_from(tmp_path, text, column):
    path = tmp_path / "series.csv"
    path.write_bytes(text.encode())
    values, name = read_series(path, column)
    assert values.tolist() == [1.5, -2, 30] and values.dtype == np.float64
    assert name == ("level" if "level" in text else "1990" if "1990" in text else "2" if "," in text else "1")


BAD = {
    "an empty file": (b"", None, "no columns of numbers"),
    "text": (b"to be\nor not\n", None, "no columns of numbers"),
    "a binary file": (bytes(range(256)), None, "UTF-8"),
    "zeros": (bytes(100), None, "no columns of numbers"),
    "several columns": (b"a,b,c\nx,1,2\ny,3,4\n", None, "2 columns of numbers.*--column: b, c"),
    "an unknown column": (b"a,b,c\nx,1,2\ny,3,4\n", "d", "no columns 'd'.*--column: b, c"),
    "a column number too high": (b"1,2\n3,4\n", "3", "no columns '3'.*--column: 1, 2"),
    "a missing line": (b"1\n2\n\n4\n", None, "line 3: no number"),
    "a missing cell": (b"a,b\nx,1\ny,\nz,3\n", None, "line 3: no number in column b .'y,'"),
    "a gap at the start": (b"\n1\n2\n3\n", None, "line 1: no number"),
    "nan": (b"a\n1\n2\nnan\n", None, "line 4: no number in column a .'nan'"),
    "inf": (b"1\n2\ninf\n", None, "line 3: no number"),
    "text in the column": (b"1\n2\n3\nN/A\n5\n", None, "line 4: no number.*'N/A'.*fill the gap"),
    "a column of text": (b"a,b\nx,1\ny,2\n", "a", "line 2: no number in column a"),
    "a line too short": (b"1,2\n3,4\n5\n6,7\n", "2", "columns changed from 2 to 1 at row 3"),
}


@pytest.mark.parametrize("content, column, message", BAD.values(), ids=BAD)
def test_a_message_says_what_is_wrong_with(tmp_path, content, column, message):
    path = tmp_path / "series.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read_series(path, column)
    assert "\n" not in str(error.value)


def test_a_missing_file_and_a_folder_are_refused_by_the_system(tmp_path):
    for path in (tmp_path, tmp_path / "none.csv"):
        with pytest.raises(OSError):
            read_series(path)

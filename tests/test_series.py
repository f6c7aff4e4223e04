"""Series, windows, split, batches, and series from files: against loops, formulas and PyTorch."""
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset, random_split

from lstm_sine import (create_sequences, generate_sequence, mackey_glass, make_loader, read_series,
                       scale_of, split_windows)


def test_the_sine_runs_through_freq_cycles_from_zero():
    series = generate_sequence(1001, freq=10)
    assert series.shape == (1001,) and series.dtype == np.float64
    for k in (0, 1, 25, 500, 1000):
        assert series[k] == pytest.approx(np.sin(2 * np.pi * 10 * k / 1000), abs=1e-12)


def test_the_article_series_is_a_rising_arc_up_to_the_sine_of_36_degrees():
    series = generate_sequence(1000)
    assert np.all(np.diff(series) > 0)
    assert (series[0], series[-1]) == (0, pytest.approx(np.sin(np.radians(36))))


def test_the_sine_goes_on_where_it_ends():
    series = generate_sequence(60, 3, future=200)
    assert series.shape == (260,)
    np.testing.assert_allclose(series, np.sin(2 * np.pi * 3 * np.arange(260) / 59), atol=1e-9)
    np.testing.assert_array_equal(series[:60], generate_sequence(60, 3))


def heun_mackey_glass(points, h=0.05):
    """The same equation by Heun's method, which is of second order, in half the steps."""
    def slope(x, delayed):
        return 0.2 * delayed / (1 + delayed**10) - 0.1 * x

    delay = round(17 / h)
    x = [1.2] * (delay + 1)
    for _ in range(round((500 + 6 * (points - 1)) / h)):
        before = slope(x[-1], x[-delay - 1])
        after = slope(x[-1] + h * before, x[-delay])
        x.append(x[-1] + h / 2 * (before + after))
    return np.array(x[delay:])[round(500 / h)::round(6 / h)]


def test_mackey_glass_agrees_with_another_scheme_before_chaos_parts_them():
    """A delay of 16.9 moves these points by 0.12, a start at 499 by 0.06, steps of 5.9 by 0.022."""
    series = mackey_glass(10)
    assert series.shape == (10,) and series.dtype == np.float64
    np.testing.assert_allclose(series[:8], heun_mackey_glass(10)[:8], atol=0.02)


def test_mackey_glass_is_euler_in_tenths_of_a_unit_from_500_on_every_6():
    x = {tenth: 1.2 for tenth in range(-170, 1)}
    for tenth in range(5060):
        delayed = x[tenth - 170]
        slope = 0.2 * delayed / (1 + delayed**10) - 0.1 * x[tenth]
        x[tenth + 1] = x[tenth] + slope / 10
    np.testing.assert_allclose(mackey_glass(2), [x[5000], x[5060]], rtol=1e-9)


def test_a_longer_mackey_glass_series_begins_with_the_shorter():
    np.testing.assert_array_equal(mackey_glass(30)[:20], mackey_glass(20))
    assert 0.2 < mackey_glass(500).min() < 0.6 and 1.2 < mackey_glass(500).max() < 1.4


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_windows_equal_those_of_a_brute_force_loop_for_every_small_length(dtype):
    for length in range(2, 14):
        data = np.random.default_rng(length).integers(-99, 99, length).astype(dtype)
        for seq_length in range(1, length):
            windows, targets = create_sequences(data, seq_length)
            assert windows.shape == (length - seq_length, seq_length)
            assert targets.shape == (length - seq_length,)
            assert windows.dtype == targets.dtype == data.dtype
            expected = [data[i:i + seq_length] for i in range(length - seq_length)]
            np.testing.assert_array_equal(windows, expected)
            np.testing.assert_array_equal(targets, data[seq_length:])


def test_the_first_and_the_last_window_are_where_they_should_be():
    windows, targets = create_sequences(np.arange(1000), 10)
    assert (windows[0].tolist(), targets[0]) == (list(range(10)), 10)
    assert (windows[-1].tolist(), targets[-1]) == (list(range(989, 999)), 999)


def test_windows_and_targets_are_views_of_the_series():
    data = np.zeros(100)
    windows, targets = create_sequences(data, 10)
    data[50] = 7
    assert (windows == 7).sum() == 10 and (targets == 7).sum() == 1


@pytest.mark.parametrize("seq_length", [-1, 0, 5, 6])
def test_a_window_that_does_not_fit_is_refused(seq_length):
    with pytest.raises(ValueError, match=f"no window of {seq_length} points .* into 5"):
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
    assert len(train) == int(0.8 * count)
    assert sorted([*train.tolist(), *test.tolist()]) == list(range(count))


def test_one_window_cannot_be_split_and_another_split_is_refused():
    with pytest.raises(ValueError, match="single window"):
        split_windows(1)
    with pytest.raises(ValueError, match="no split is called 'shuffle'; take random or time"):
        split_windows(10, "shuffle")


def test_in_a_split_in_time_training_never_sees_a_test_target():
    windows, targets = create_sequences(np.arange(500), 7)
    train, test = split_windows(len(windows), "time")
    seen = set(targets[train]) | set(windows[train].ravel())
    assert targets[train].max() < targets[test].min() and not set(targets[test]) & seen


def test_batches_are_those_of_a_plain_loader_and_shuffled_anew_each_epoch():
    data = np.random.default_rng(0).normal(size=110)
    windows, targets = create_sequences(data, 10)
    numbers = np.random.default_rng(1).permutation(100)[:75]
    dataset = TensorDataset(torch.FloatTensor(windows[numbers]).unsqueeze(-1),
                            torch.FloatTensor(targets[numbers]).unsqueeze(-1))
    for shuffle in (True, False):
        torch.manual_seed(3)
        plain = [batch for _ in range(2) for batch in DataLoader(dataset, 32, shuffle=shuffle)]
        torch.manual_seed(3)
        loader = make_loader(windows, targets, numbers, 32, shuffle)
        ours = [batch for _ in range(2) for batch in loader]
        assert len(loader) == 3 and [len(inputs) for inputs, _ in ours] == 2 * [32, 32, 11]
        for (inputs, expected), (their_inputs, theirs) in zip(ours, plain):
            assert torch.equal(inputs, their_inputs) and torch.equal(expected, theirs)
        assert torch.equal(ours[0][0], ours[3][0]) != shuffle


def test_the_scale_is_that_of_the_first_80_percent():
    series = np.append(np.arange(80.0), np.full(20, 1e6))
    assert scale_of(series) == (pytest.approx(39.5), pytest.approx(np.sqrt((80**2 - 1) / 12)))


def test_the_scale_of_changes_makes_a_typical_one_of_the_first_80_percent_1():
    series = np.append(np.cumsum([0.0, 3, -4, 5, 3, -5, 4, 3]), [1e6, -1e6])
    squares = [9, 16, 25, 9, 25, 16, 9]
    assert scale_of(series, of_changes=True) == (
        pytest.approx(sum([0, 3, -1, 4, 7, 2, 6, 9]) / 8), pytest.approx(np.sqrt(sum(squares) / 7)))


GOOD = {
    "a number a line": ("1.5\n-2\n3e1\n", None, "1"),
    "no newline at the end": ("1.5\n-2\n30", None, "1"),
    "empty lines at the end": ("1.5\n-2\n30\n\n\n", None, "1"),
    "spaces around": (" 1.5 \n -2\n30 \n", None, "1"),
    "a header": ("level\n1.5\n-2\n30\n", None, "level"),
    "a header with spaces and a bracket": ("level (m)\n1.5\n-2\n30\n", None, "level (m)"),
    "a byte-order mark and Windows line ends":
        ("\ufefflevel\r\n1.5\r\n-2\r\n30\r\n", None, "level"),
    "old Mac line ends": ("level\r1.5\r-2\r30\r", None, "level"),
    "dates beside it, by number": ("2024-01-01,1.5\n2024-01-02,-2\n2024-01-03,30\n", "2", "2"),
    "quoted text with commas":
        ('"a, b","level"\n"x, y","1.5"\n"u, v",-2\nw,30\n', "level", "level"),
    "chosen by name": ("时间,水位,other\n1,1.5,0\n2,-2,0\n3,30,0\n", "水位", "水位"),
    "chosen by number, with a header": ("a,level\n1,1.5\n2,-2\n3,30\n", "2", "level"),
    "chosen by number, without one": ("1,1.5,0\n2,-2,0\n3,30,0\n", "2", "2"),
    "years as names": ("id,1990,1991\n1,1.5,\n2,-2,\n3,30,\n", "1990", "1990"),
    "numbers as names, by number": ("1,1.5\n2,-2\n3,30\n", "2", "2"),
    "semicolons": ("day;level\n1;1.5\n2;-2\n3;30\n", "level", "level"),
    "tabs, with commas in the text": ("day\tlevel\n1,2\t1.5\n2\t-2\n3\t30\n", "level", "level"),
    "gaps in another column": ("level,other\n1.5,\n-2,\n30,4\n", "level", "level"),
}


@pytest.mark.parametrize("text, column, name", GOOD.values(), ids=GOOD)
def test_a_series_is_read_from(tmp_path, text, column, name):
    path = tmp_path / "series.csv"
    path.write_bytes(text.encode())
    values, found = read_series(path, column)
    assert values.tolist() == [1.5, -2, 30] and values.dtype == np.float64 and found == name


BAD = {
    "an empty file": (b"", None, "choose one of its 0 columns"),
    "a binary file": (bytes(range(256)), None, "not UTF-8 text; save the series as CSV in UTF-8"),
    "Chinese in GBK": ("温度\n1\n2\n".encode("gbk"), None, "not UTF-8 text"),
    "text": (b"to be\nor not\n", None, "line 2: could not convert string to float: 'or not'"),
    "several columns": (b"a,b,c\nx,1,2\n", None,
                        "choose one of its 3 columns by --column: a, b, c$"),
    "an unknown column": (b"a,b,c\nx,1,2\n", "d", "choose one of its 3 columns .*: a, b, c"),
    "a column number too high": (b"1,2\n3,4\n", "3", "choose one of its 2 columns .*: 1, 2"),
    "a column number 0": (b"1,2\n3,4\n", "0", "choose one of its 2 columns"),
    "a name that stands twice": (b"a,a\n1,2\n", "a", "choose one of its 2 columns .*: a, a"),
    "all values on one line": (b"1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22\n", None,
                               "choose one of its 22 columns by --column: 1, .*, 20, [.][.][.]$"),
    "values parted by spaces": (b"1 2\n3 4\n", None, "line 2: .*'3 4'"),
    "a missing line": (b"1\n2\n\n4\n", None,
                       "line 3: 0 columns where the first line has 1; fill gaps"),
    "a gap at the start": (b"\n1\n2\n3\n", None, "choose one of its 0 columns"),
    "a missing cell": (b"a,b\nx,1\ny,\nz,3\n", "b", "line 3: could not convert .*''; fill gaps"),
    "a missing first cell": (b"1,\n2,3\n", "2", "line 1: could not convert .*''"),
    "nan": (b"a\n1\n2\nnan\n", None, "line 4: no finite number: 'nan'; fill gaps"),
    "nan first": (b"nan\n1\n2\n", None, "line 1: no finite number: 'nan'"),
    "inf": (b"1\n2\ninf\n", None, "line 3: no finite number: 'inf'"),
    "text in the column": (b"1\n2\n3\nN/A\n5\n", None, "line 4: .*'N/A'; fill gaps, write"),
    "a column of text": (b"a,b\nx,1\ny,2\n", "a", "line 2: .*'x'"),
    "a line too short": (b"1,2\n3,4\n5\n6,7\n", "2", "line 3: 1 columns where the first .* 2"),
    "a decimal comma": (b"level\n1,5\n2,5\n", None, "line 2: .*'1,5'.*write decimal points"),
    "a decimal comma beside commas": (b"day,level\n1,1,5\n2,2,7\n", "level",
                                      "line 2: 3 columns where the first .* 2.*decimal points"),
    "a decimal comma without a name": (b"1,5\n2,5\n", None, "choose one of its 2 columns"),
    "a decimal comma beside semicolons": (b"day;level\n1;1,5\n2;2,5\n", "level", "line 2: .*'1,5'"),
    "a thousands comma": (b"999\n1,000\n", None, "line 2: .*'1,000'.*no other signs"),
    "a stray quote": (b'1\n2\n"3\n4\n5\n', None, "line 3: .*end of data"),
    "a quote behind a number": (b'1\n2\n3"\n4\n', None, "line 3: .*'3\"'"),
    "a counter beside a column that does not parse":
        (b"n,level\n1,1.5 m\n2,2.5 m\n", "level", "line 2: .*'1.5 m'"),
}


@pytest.mark.parametrize("content, column, message", BAD.values(), ids=BAD)
def test_a_message_says_what_is_wrong_with(tmp_path, content, column, message):
    path = tmp_path / "series.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read_series(path, column)
    assert "\n" not in str(error.value) and len(str(error.value)) < 250


def test_a_missing_file_and_a_folder_are_refused_by_the_system(tmp_path):
    for path in (tmp_path, tmp_path / "none.csv"):
        with pytest.raises(OSError):
            read_series(path)

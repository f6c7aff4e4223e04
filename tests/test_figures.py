"""The figures: every line's x and y, the memory map against nn.LSTM, and the labels."""
import string
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib import font_manager
from matplotlib.text import Text

import lstm_sine
from lstm_sine import (CHINESE, FONTS, LSTMModel, SubtractLast, label_figure, plot_memory,
                       plot_predictions, what_is_left)

rng = np.random.default_rng(0)
SERIES = np.cumsum(rng.normal(size=2600))
TEST_STEPS = rng.permutation(np.arange(10, 2600))[:700]  # shuffled, most of them among the last
PREDICTED = {"LSTM": SERIES[TEST_STEPS] + 0.5,
             "persistence": SERIES[TEST_STEPS - 1],
             "linear autoregression": SERIES[TEST_STEPS] + 1e-9}
LOSSES = [1.0, 0.1, 0.01]
FUTURE = np.arange(50) / 10
TRUE_FUTURE = np.full(50, 7.0)


def predictions_figure(name="noise", series=SERIES, test_steps=TEST_STEPS, predicted=PREDICTED,
                       **future):
    return plot_predictions(plt.Figure(figsize=(12, 9), layout="constrained"), name, series,
                            test_steps, predicted, LOSSES, 0.04, **future)


def lines(panel):
    return {line.get_label(): line for line in panel.lines}


@pytest.fixture(scope="module")
def panels():
    return predictions_figure(future=FUTURE, true_future=TRUE_FUTURE).axes


LATE = TEST_STEPS >= 600
STEPS = TEST_STEPS[LATE]


def in_time(values):
    """What stands at each of the last 2,000 steps, by a loop; nan where no test step is."""
    at = dict(zip(TEST_STEPS.tolist(), values.tolist()))
    return [at.get(step, np.nan) for step in range(600, 2600)]


def test_the_articles_panel_shows_the_late_test_windows_in_the_order_of_the_split(panels):
    drawn = lines(panels[0])
    assert list(drawn) == ["Actual Values", "Predicted Values"]
    assert len(STEPS) > 500 and not np.array_equal(STEPS, np.sort(STEPS))
    np.testing.assert_array_equal(drawn["Actual Values"].get_ydata(), SERIES[STEPS])
    np.testing.assert_array_equal(drawn["Predicted Values"].get_ydata(), SERIES[STEPS] + 0.5)
    assert panels[0].get_title(loc="left") == "LSTM prediction results"
    assert panels[0].get_title(loc="right") == "noise"
    assert (panels[0].get_xlabel(), panels[0].get_ylabel()) == ("sample", "value")


def test_the_losses_stand_beside_the_loss_of_persistence_on_a_log_axis(panels):
    drawn = lines(panels[1])
    assert list(drawn) == ["training loss, last 1.0e-02", "persistence's loss, 4.0e-02"]
    loss, persistence = drawn.values()
    assert loss.get_xdata().tolist() == [1, 2, 3] and list(loss.get_ydata()) == LOSSES
    assert set(persistence.get_ydata()) == {0.04}
    assert panels[1].get_yscale() == "log"
    assert panels[1].get_title() == "below the line: beats persistence"
    assert (panels[1].get_xlabel(), panels[1].get_ylabel()) == ("epoch", "mean squared error")


def test_the_panel_in_time_shows_the_last_2000_steps_and_the_free_run_after_them(panels):
    drawn = lines(panels[2])
    assert list(drawn) == ["training part", "test part", "one-step prediction",
                           "true continuation", "free run"]
    for label, expected in {"training part": SERIES[600:],
                            "test part": in_time(SERIES[TEST_STEPS]),
                            "one-step prediction": in_time(SERIES[TEST_STEPS] + 0.5)}.items():
        np.testing.assert_array_equal(drawn[label].get_xdata(), np.arange(600, 2600))
        np.testing.assert_array_equal(drawn[label].get_ydata(), expected)
    for label, expected in (("true continuation", TRUE_FUTURE), ("free run", FUTURE)):
        np.testing.assert_array_equal(drawn[label].get_xdata(), np.arange(2600, 2650))
        np.testing.assert_array_equal(drawn[label].get_ydata(), expected)
    assert panels[2].get_title() == "the same predictions in time"
    assert panels[2].get_ylabel() == "value"


def test_neighbouring_test_steps_are_joined_by_a_line_and_lonely_ones_are_points(panels):
    for label in ("test part", "one-step prediction"):
        line = lines(panels[2])[label]
        assert line.get_marker() == "." and line.get_linestyle() in ("-", "--")


def test_the_errors_are_drawn_down_to_a_ten_thousandth_of_the_largest(panels):
    drawn = lines(panels[3])
    assert list(drawn) == ["LSTM", "persistence", "linear autoregression", "free run"]
    steps_before = abs(SERIES[STEPS - 1] - SERIES[STEPS])
    lowest = 1e-4 * max(0.5, steps_before.max())
    for label, expected in {"LSTM": np.full(len(STEPS), 0.5), "persistence": steps_before,
                            "linear autoregression": np.zeros(len(STEPS))}.items():
        np.testing.assert_array_equal(drawn[label].get_xdata(), STEPS)
        np.testing.assert_allclose(drawn[label].get_ydata(), np.maximum(expected, lowest))
    np.testing.assert_array_equal(drawn["free run"].get_xdata(), np.arange(2600, 2650))
    np.testing.assert_allclose(drawn["free run"].get_ydata(), abs(FUTURE - TRUE_FUTURE))
    assert panels[3].get_yscale() == "log" and "ten-thousandth" in panels[3].get_title()
    assert (panels[3].get_xlabel(), panels[3].get_ylabel()) == ("time step", "absolute error")
    assert panels[3].get_xlim() == panels[2].get_xlim()
    colours = [line.get_color() for line in panels[3].lines]
    assert len(set(colours)) == len(colours)


def test_the_articles_panel_is_wide_and_the_log_axes_have_few_ticks(panels):
    assert panels[0].get_gridspec().get_width_ratios() == (2, 1)
    assert len(panels[1].yaxis.get_minorticklocs()) == 0
    assert len(panels[3].yaxis.get_minorticklocs()) == 0


def test_the_legend_of_the_losses_lies_on_no_line_though_persistence_be_the_highest():
    figure = plot_predictions(lstm_sine.new_figure(False), "noise", SERIES, TEST_STEPS, PREDICTED,
                              [0.6, 1e-2, 1e-4], 1.0)
    figure.draw_without_rendering()
    panel = figure.axes[1]
    legend = panel.get_legend().get_window_extent()
    for line in panel.lines:
        heights = panel.transData.transform([(0, y) for y in line.get_ydata()])[:, 1]
        assert heights.max() < legend.y0


def test_every_panel_has_a_legend_of_all_its_lines(panels):
    for panel in panels:
        names = [text.get_text() for text in panel.get_legend().get_texts()]
        assert names == list(lines(panel))


def test_without_a_forecast_and_without_its_truth_their_lines_are_missing():
    labels = [lines(panel) for panel in predictions_figure().axes]
    assert "free run" not in labels[2] and "free run" not in labels[3]
    labels = [lines(panel) for panel in predictions_figure(future=FUTURE).axes]
    assert "free run" in labels[2] and "true continuation" not in labels[2]
    assert "free run" not in labels[3]


def test_a_single_test_window_and_errors_of_zero_can_be_seen(tmp_path):
    series, step = np.arange(20.0), np.array([15])
    figure = predictions_figure(series=series, test_steps=step, predicted={"LSTM": series[step]})
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        warnings.filterwarnings("error", message="Attempt to set non-positive|Data has no positive")
        figure.savefig(tmp_path / "figure.png")
    for panel, label in ((0, "Predicted Values"), (2, "one-step prediction"), (3, "LSTM")):
        line = lines(figure.axes[panel])[label]
        assert line.get_marker() == "." and np.isfinite(line.get_ydata()).sum() == 1
    low, high = figure.axes[3].get_ylim()
    assert low < lines(figure.axes[3])["LSTM"].get_ydata()[0] < high


def test_a_name_with_dollars_is_not_taken_for_a_formula(tmp_path):
    predictions_figure(name="price_$_a$.csv, column x_{").savefig(tmp_path / "figure.png")


def trained_model(kind=LSTMModel, layers=1):
    torch.manual_seed(1)
    return kind(hidden_size=6, num_layers=layers)


WINDOW = torch.randn(1, 9, 1, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind, layers", [(LSTMModel, 1), (LSTMModel, 2), (SubtractLast, 1)])
def test_the_columns_of_the_map_add_up_to_the_cell_states_of_pytorch(kind, layers):
    model = trained_model(kind, layers)
    panels = plot_memory(plt.Figure(), model, WINDOW).axes
    read = WINDOW - WINDOW[:, -1:] if kind is SubtractLast else WINDOW
    opened = trained_model(kind, layers).lstm
    with torch.no_grad():
        getattr(opened, f"bias_hh_l{layers - 1}")[6:12] += 5
        out, _ = model.lstm(read)
        unit = (model.fc.weight[0] * out[0, -1]).abs().argmax().item()
        for column, lstm in ((0, model.lstm), (1, opened)):
            states = [lstm(read[:, :t + 1])[1] for t in range(9)]
            c = np.array([c[-1, 0, unit].item() for _, c in states])
            h = np.array([h[-1, 0, unit].item() for h, _ in states])
            left = panels[6 + column].images[0].get_array().filled(np.nan)
            np.testing.assert_allclose(np.nansum(left, axis=0), c, atol=1e-6)
            assert np.isnan(left).tolist() == [[t < s for t in range(9)] for s in range(9)]
            drawn = lines(panels[4 + column])
            assert list(drawn) == ["cell state c", "hidden state h"]
            np.testing.assert_allclose(drawn["cell state c"].get_ydata(), c, atol=1e-6)
            np.testing.assert_allclose(drawn["hidden state h"].get_ydata(), h, atol=1e-6)
            drawn, = lines(panels[column]).values()
            np.testing.assert_array_equal(drawn.get_ydata(), read[0, :, 0])
            np.testing.assert_array_equal(drawn.get_xdata(), np.arange(1, 10))


def test_both_sides_of_the_memory_picture_have_the_gates_and_the_same_axes_and_colours():
    model = trained_model()
    figure = plot_memory(plt.Figure(), model, WINDOW)
    panels = figure.axes
    with torch.no_grad():
        gates = lstm_sine.lstm_by_hand(model.lstm, WINDOW)
    unit = (model.fc.weight[0] * gates["h"][0, -1]).abs().argmax().item()
    drawn = lines(panels[2])
    assert list(drawn) == ["input gate i", "forget gate f", "output gate o"]
    for letter, line in zip("ifo", drawn.values()):
        np.testing.assert_allclose(line.get_ydata(), gates[letter][0, :, unit], atol=1e-6)
    before, after = (lines(panels[k])["forget gate f"].get_ydata() for k in (2, 3))
    assert (after > before).all() and after.min() > 0.98
    f, left = gates["f"][0, :, unit], panels[6].images[0].get_array()
    assert panels[6].get_title() == (f"f is {f.mean():.3f} on average: {f[1:].prod():.1%} of what "
                                     "entered first is left")
    assert left[0, -1] / left[0, 0] == pytest.approx(f[1:].prod().item(), rel=1e-4)
    assert f"unit {unit + 1} of 6" in figure.get_suptitle()
    assert (panels[0].get_title(), panels[1].get_title()) == (
        "as trained", "forget gate forced open, rest kept")
    assert [panels[k].get_ylabel() for k in (0, 2, 4, 6)] == [
        "value", "gates", "states", "step at which it entered"]
    assert panels[6].get_xlabel() == panels[7].get_xlabel() == "time step"
    assert figure.axes[8].get_ylabel() == "what is left of it" and "column adds up to c" in (
        figure.get_supxlabel())
    for k in (0, 2, 4, 6):
        assert panels[k].get_ylim() == panels[k + 1].get_ylim()
        assert panels[k].get_xlim() == panels[k + 1].get_xlim() == (0.5, 9.5)
    assert panels[6].get_ylim() == (9.5, 0.5)  # what entered first on top
    assert panels[2].get_ylim()[0] < 0 and panels[2].get_ylim()[1] > 1
    colours = [panels[k].images[0].get_clim() for k in (6, 7)]
    assert colours[0] == colours[1] and colours[0][0] == -colours[0][1]
    strongest = max(abs(panels[k].images[0].get_array()).max() for k in (6, 7))
    assert colours[0][1] == pytest.approx(strongest)
    assert all(panel.get_legend() for panel in panels[:6])


def test_pushing_the_forget_gate_open_leaves_the_model_as_it_was():
    model = trained_model()
    before = {name: values.clone() for name, values in model.state_dict().items()}
    plot_memory(plt.Figure(), model, WINDOW)
    assert all(torch.equal(before[name], values) for name, values in model.state_dict().items())


def test_with_all_gates_open_what_entered_stays_as_it_is():
    gates = {"i": np.ones(4), "f": np.ones(4), "g": np.array([1.0, 2, 3, 4])}
    expected = [[1, 1, 1, 1], [np.nan, 2, 2, 2], [np.nan, np.nan, 3, 3], 3 * [np.nan] + [4]]
    np.testing.assert_array_equal(what_is_left(gates), expected)


def all_figures():
    return [predictions_figure("0.1 cycles of a sine", future=FUTURE, true_future=TRUE_FUTURE),
            predictions_figure("Mackey-Glass series, chaotic: any forecast leaves it after a "
                               "while"),
            plot_memory(plt.Figure(figsize=(12, 9), layout="constrained"), trained_model(), WINDOW)]


def texts(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def test_every_label_but_the_articles_own_is_translated_and_keeps_its_numbers():
    for figure in all_figures():
        english = texts(figure)
        label_figure(figure, "zh", "Some Font")
        for before, after in zip(english, texts(figure)):
            if before[0] in string.ascii_letters and before not in (
                    "LSTM", "Actual Values", "Predicted Values"):
                assert not after.isascii(), before
                for number in ("0.1", "1.0e-02", "4.0e-02"):
                    assert (number in before) == (number in after)
    assert "第 1 个单元" in label_after("What unit 1 of 50, the one that weighs most in the "
                                    "prediction, remembers of the last window")


def label_after(label, language="zh", font="Some Font"):
    figure = plt.Figure()
    figure.suptitle(label)
    label_figure(figure, language, font)
    return figure.get_suptitle()


def test_labels_of_ones_own_and_english_ones_stay():
    assert label_after("温度.csv, column value") == "温度.csv, column value"
    assert label_after("value") == "值" and label_after("value", "en") == "value"
    assert label_after("12.5 cycles of a sine") == "12.5 个周期的正弦波"
    assert label_after("1e-06 cycles of a sine") == "1e-06 个周期的正弦波"


def test_without_a_font_no_box_is_drawn():
    assert label_after("value", font=None) == "value"
    assert label_after("温度", font=None) == label_after("温度", "en", None) == r"\u6e29\u5ea6"


def test_numbers_and_braces_match_in_every_translation():
    for english, chinese in CHINESE.items():
        assert english.isascii() and not chinese.isascii()
        assert english.count("#") == chinese.count("{}")
        assert english.count("\n") == chinese.count("\n")


def test_chinese_labels_are_drawn_without_a_missing_glyph(tmp_path):
    installed = [font for font in FONTS if font in font_manager.fontManager.get_font_names()]
    if not installed:
        pytest.skip("no font for Chinese on this machine")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Glyph")
        for figure in all_figures():
            label_figure(figure, "zh", installed[0])
            figure.savefig(tmp_path / "figure.png")

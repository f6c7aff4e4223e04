"""The figures: what is drawn against what was computed, the memory map against PyTorch's cell."""
import copy
import warnings

import numpy as np
import pytest
import torch
from conftest import run_main
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.testing import assert_allclose, assert_array_equal

import lstm_sine

FONTS = set(lstm_sine.FONTS) & set(font_manager.fontManager.get_font_names())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose split is random, with a forecast and the memory, in English."""
    return run_main(tmp_path_factory.mktemp("figures"), "--length 300 --freq 3 --epochs 4 "
                    "--num-layers 2 --forecast 30 --memory --subtract-last --lang en")[0]


def lines(panel):
    return {line.get_label().split(" | ")[-1]: line.get_xydata() for line in panel.lines}


def test_the_panels_show_what_was_computed(run):
    article, loss, in_time, error = run.figures[run.args.files[0]].axes
    assert_array_equal(lines(article)["Actual Values"][:, 1], run.actual)
    assert_array_equal(lines(article)["Predicted Values"][:, 1], run.predictions["LSTM"])
    assert "shuffled" in article.get_xlabel()
    assert_array_equal(lines(loss)["LSTM"], np.stack([range(1, 5), run.losses], axis=1))
    assert set(lines(loss)["persistence"][:, 1]) == {run.persistence_loss}
    steps, ahead = run.test + 10, np.arange(300, 330)
    expected = {"series": (range(300), run.data.series), "test part": (steps, run.actual),
                "one step ahead": (steps, run.predictions["LSTM"]),
                "free run": (ahead, run.forecast),
                "true continuation": (ahead, lstm_sine.generate_sequence(300, 3, 30)[300:])}
    assert set(lines(in_time)) == set(expected)
    for label, columns in expected.items():
        assert_allclose(lines(in_time)[label], np.stack(columns, axis=1))
    for name, values in run.predictions.items():
        assert_array_equal(lines(error)[name][:, 1], abs(values - run.actual))
    misses = abs(run.forecast - expected["true continuation"][1])
    assert_allclose(lines(error)["free run"][:, 1], misses)
    assert error.get_xlim() == in_time.get_xlim() and error.get_ylim()[0] == 0
    edges = in_time.collections[0].get_paths()[0].vertices  # of the band: two RMSE on each side
    for step in (0, 7, 29):
        ends = edges[edges[:, 0] == 300 + step, 1]
        assert np.ptp(ends) == pytest.approx(4 * run.check.errors["LSTM"][step])
        assert (ends.min() + ends.max()) / 2 == pytest.approx(run.forecast[step])


def test_a_forecast_that_runs_away_does_not_squash_the_series(run):
    changed = copy.copy(run)
    changed.forecast = np.linspace(0, 500, 30)
    figure = Figure()
    lstm_sine.plot_predictions(figure, changed)
    bottom, top = figure.axes[2].get_ylim()
    low, high = run.data.series.min(), run.data.series.max()
    assert top == pytest.approx(2 * high - low) and 2 * low - high <= bottom < low


def test_a_column_of_the_memory_map_adds_up_to_pytorchs_cell_state(run):
    panels = run.figures[run.args.files[1]].axes
    x = torch.FloatTensor(run.windows[-1:] - run.windows[-1:, -1:]).unsqueeze(-1)
    trained, opened = run.model.lstm, copy.deepcopy(run.model.lstm)
    with torch.no_grad():
        opened.bias_ih_l1[50:100] += 5  # of the last layer
        unit = (run.model.fc.weight[0] * trained(x)[0][0, -1]).abs().argmax().item()
        for column, lstm in enumerate((trained, opened)):
            c = np.array([lstm(x[:, :t + 1])[1][1][-1, 0, unit].item() for t in range(10)])
            left = panels[4 + column].images[0].get_array().filled(np.nan)
            assert_allclose(np.nansum(left, axis=0), c, atol=1e-6)
            assert np.isnan(left).tolist() == [[t < s for t in range(10)] for s in range(10)]
            gates, states = lines(panels[column]), lines(panels[2 + column])
            assert_array_equal(states["input x"][:, 1], x[0, :, 0])
            assert_allclose(states["cell state c"][:, 1], c, atol=1e-6)
            assert_allclose(states["hidden state h"][:, 1], lstm(x)[0][0, :, unit], atol=1e-6)
            history = lstm_sine.lstm_by_hand(lstm, x)
            for label in ("input i", "forget f", "output o"):
                assert_allclose(gates[label][:, 1], history[label[-1]][0, :, unit], atol=1e-6)
            f = gates["forget f"][:, 1]
            assert f"{f[1:].prod():.1%} of the first" in panels[4 + column].get_title()
            assert (f > 0.97).all() == bool(column)
    assert f"unit {unit} " in panels[0].figure.get_suptitle()


@pytest.mark.parametrize("lang, fonts", [
    ("", lstm_sine.FONTS), ("--lang en", lstm_sine.FONTS), ("", ())])
def test_a_figure_speaks_one_language_and_draws_no_box(lang, fonts, tmp_path, monkeypatch):
    monkeypatch.setattr(lstm_sine, "FONTS", fonts)
    path = tmp_path / "温度_$_.csv"
    np.savetxt(path, np.sin(np.arange(60)), header=f"a | {'b' * 99}", comments="")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Glyph")
        run, _ = run_main(tmp_path, f"--data {path} --epochs 1 --memory {lang}")
    texts = [label.get_text() for figure in run.figures.values() for label in figure.findobj(Text)]
    is_chinese = not lang and bool(FONTS.intersection(fonts))
    assert any("预测结果" in label for label in texts) == is_chinese
    assert any("prediction results" in label for label in texts) != is_chinese
    assert not any(" | " in label for label in texts)
    name = "温度" if FONTS.intersection(fonts) else r"\u6e29\u5ea6"
    assert f"{name}_$_.csv, column a {'b' * 49}" in texts  # a long name is cut

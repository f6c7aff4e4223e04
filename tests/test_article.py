"""The article's checkable sentences, one test each, in its order; a docstring quotes each in part.

The gates are driven to their ends by setting the biases of an `nn.LSTM`, and what is tested is what
that `nn.LSTM` then puts out; `lstm_by_hand` only says how far each gate is open.
"""
import numpy as np
import pytest
import torch
from conftest import series_tensors
from tables import remember
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from lstm_sine import (LSTMModel, baselines, create_sequences, evaluate_model, generate_sequence,
                       lstm_by_hand, mackey_glass, rmse, scale_of, split_windows, train_model)

OPEN, SHUT = 50.0, -50.0  # as biases: their sigmoids are 1 - 2e-22 and 2e-22
H = 8


def lstm_with(seed=0, **biases):
    """An `nn.LSTM` in float64 with random weights; a gate named i, f or o is held by its bias."""
    torch.manual_seed(seed)
    lstm = nn.LSTM(1, H, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        for gate, bias in biases.items():
            first = "ifgo".index(gate) * H
            lstm.bias_ih_l0[first:first + H] = bias
    return lstm.requires_grad_(False)


def waves(length, batch=4):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, length, 1, dtype=torch.float64, generator=generator)


def cell_states(lstm, x, h=None, c=None):
    """The cell state of PyTorch's LSTM after each step (B, T, H), started from h and c."""
    state = None if c is None else (h, c)
    states = []
    for step in x.split(1, dim=1):
        _, state = lstm(step, state)
        states.append(state[1][-1])
    return torch.stack(states, dim=1)


def train(series, seq_length=10, split="random", seed=42, lr=0.001, **options):
    """Trains as the article does on any series; returns model, inputs, targets and the split."""
    torch.manual_seed(seed)
    x, y = series_tensors(series, seq_length)
    sides = split_windows(len(x), split)
    model = LSTMModel()
    dataset = TensorDataset(x[sides[0]], y[sides[0]])
    loader = DataLoader(dataset, batch_size=32, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    train_model(model, loader, nn.MSELoss(), optimizer, **options)
    return model, x, y, sides


def test_every_gate_lies_between_0_and_1():
    """二: 「每个门控单元通过 sigmoid 激活函数输出 0 到 1 之间的数值」"""
    for scale in (0.01, 1, 100):
        gates = lstm_by_hand(lstm_with(), scale * waves(50))
        for letter in "ifo":
            assert 0 <= gates[letter].min() < gates[letter].max() <= 1
    assert gates["i"].min() < 0.01 and gates["i"].max() > 0.99  # large inputs move it all the way


def test_the_cell_state_changes_only_by_forgetting_and_admitting():
    """二.1: 「遗忘门决定删除哪些旧信息，输入门决定添加哪些新信息」"""
    lstm, x = lstm_with(), waves(20)
    gates, c = lstm_by_hand(lstm, x), cell_states(lstm, x)
    kept, admitted = gates["f"][:, 1:] * c[:, :-1], (gates["i"] * gates["g"])[:, 1:]
    torch.testing.assert_close(c[:, 1:], kept + admitted, rtol=0, atol=1e-12)
    assert kept.abs().max() > 0.01 and admitted.abs().max() > 0.01


def test_the_cell_state_is_a_highway_while_nothing_is_forgotten_or_admitted():
    """二.1: 「记忆细胞状态就像一条信息传输的“高速公路”……可以相对稳定地保留较长时间」"""
    h, c = torch.randn(2, 1, 4, H, dtype=torch.float64)
    after = cell_states(lstm_with(f=OPEN, i=SHUT), waves(1000), h, c)[:, -1]
    torch.testing.assert_close(after, c[0], rtol=0, atol=1e-12)


def test_the_input_gate_admits_or_shuts_out_the_candidate():
    """二.2: 「将 sigmoid 函数的输出与 tanh 函数生成的候选值向量相乘」"""
    x = waves(1)
    candidate = lstm_by_hand(lstm_with(), x)["g"]
    torch.testing.assert_close(cell_states(lstm_with(i=OPEN), x), candidate, rtol=0, atol=1e-12)
    assert cell_states(lstm_with(i=SHUT), x).abs().max() < 1e-12 < candidate.abs().max()


def test_the_forget_gate_near_1_keeps_the_old_state_and_near_0_clears_it():
    """二.3: 「数值越接近 1，表示……保留的程度越高；数值越接近 0，则表示……遗忘的程度越高」"""
    h, c = torch.randn(2, 1, 4, H, dtype=torch.float64)
    for bias in (OPEN, 2.0, 0.0, -2.0, SHUT):
        lstm = lstm_with(f=bias, i=SHUT)
        lstm.weight_hh_l0[H:2 * H] = lstm.weight_ih_l0[H:2 * H] = lstm.bias_hh_l0[H:2 * H] = 0
        kept = cell_states(lstm, waves(3), h, c)[:, -1]
        f = torch.sigmoid(torch.tensor(bias, dtype=torch.float64))
        torch.testing.assert_close(kept, c[0] * f**3)


def test_the_forget_gate_reads_the_last_hidden_state_and_the_new_input():
    """二.3: 「它接收上一时刻的隐藏状态和当前时刻的输入」"""
    h = torch.zeros(1, 4, H, dtype=torch.float64)
    c = torch.ones(1, 4, H, dtype=torch.float64)
    lstm, x = lstm_with(i=SHUT), waves(1)
    base = cell_states(lstm, x, h, c)
    assert (cell_states(lstm, x + 1, h, c) - base).abs().max() > 0.01
    assert (cell_states(lstm, x, h + 1, c) - base).abs().max() > 0.01


def test_the_output_gate_lets_the_cell_state_through_or_not():
    """二.4: 「对记忆细胞状态进行 tanh 处理，……与 sigmoid 函数的输出向量相乘」"""
    x = waves(1)
    for bias, share in ((OPEN, 1), (SHUT, 0)):
        out, (h, c) = lstm_with(o=bias)(x)
        torch.testing.assert_close(h, share * c.tanh(), rtol=0, atol=1e-12)
        assert c.abs().max() > 0.01


def test_the_four_inputs_are_linear_combinations_of_the_same_data_with_different_weights():
    """二.4: 「这四个输入也就是对同一组输入数据的线性组合，只是组合了不同参数」 (biases: 0 here)"""
    lstm = lstm_with(i=0, f=0, g=0, o=0)
    lstm.bias_hh_l0.zero_()

    def four(x):  # what goes into the squashing functions, undone from what comes out
        gates = lstm_by_hand(lstm, x)
        return torch.stack([gates[k].atanh() if k == "g" else gates[k].logit() for k in "ifgo"])

    x, y = waves(1), waves(1).flip(0)
    torch.testing.assert_close(four(0.3 * x - 2 * y), 0.3 * four(x) - 2 * four(y))
    assert all((four(x)[k] - four(x)[j]).abs().max() > 0.01 for k in range(4) for j in range(k))


@pytest.mark.parametrize("inputs, width, layers", [(1, 50, 1), (3, 7, 2), (10, 64, 3)])
def test_an_lstm_has_four_times_the_parameters_of_a_plain_rnn(inputs, width, layers):
    """二.4: 「相较于传统的网络结构，LSTM具有四倍的参数量」"""
    lstm, rnn = (sum(p.numel() for p in kind(inputs, width, layers).parameters())
                 for kind in (nn.LSTM, nn.RNN))
    assert lstm == 4 * rnn
    if (inputs, width, layers) == (1, 50, 1):
        assert (lstm, rnn) == (10_600, 2_650)


def reach(kind, length, forget_bias=None):
    """How much of the gradient reaches the first of `length` inputs, over that at the last input.

    Geometric mean over five seeds; 50 units; PyTorch's start, with the forget bias if given.
    """
    logs = []
    for seed in range(5):
        torch.manual_seed(seed)
        net = kind(1, 50, batch_first=True, dtype=torch.float64)
        if forget_bias is not None:
            with torch.no_grad():
                net.bias_ih_l0[50:100], net.bias_hh_l0[50:100] = forget_bias, 0
        x = torch.randn(8, length, 1, dtype=torch.float64, requires_grad=True)
        gradient, = torch.autograd.grad(net(x)[0][:, -1].pow(2).sum(), x)
        logs.append((gradient[:, 0].norm() / gradient[:, -1].norm()).log10())
    return 10 ** torch.stack(logs).mean().item()


def test_with_an_open_forget_gate_the_gradient_reaches_100_steps_back():
    """三.1: 「避免梯度消失和梯度爆炸问题」: holds when the forget gate starts open."""
    assert 0.1 < reach(nn.LSTM, 100, forget_bias=3) < 10
    assert reach(nn.RNN, 100) < 1e-20


def test_with_pytorchs_initialisation_the_gradient_fades_within_20_steps_as_in_an_rnn():
    """三.1: not so as `nn.LSTM` starts: 5e-3 is left at 10 steps, 2e-5 at 20, 7e-21 at 100."""
    assert 1 < reach(nn.LSTM, 10) / reach(nn.RNN, 10) < 10
    assert reach(nn.LSTM, 20) < 1e-3 and reach(nn.LSTM, 100) < 1e-15


def test_only_an_lstm_whose_forget_gate_starts_open_learns_to_remember_40_steps():
    """三.1: 「从而学习到长距离的依赖关系」: by training, the first of 40 numbers; 1 is guessing."""
    errors = {kind: remember(kind, 40, steps=200)
              for kind in ("RNN", "LSTM", "LSTM, open forget gate")}
    assert errors["LSTM, open forget gate"] < 0.4
    assert errors["RNN"] > 0.8 and errors["LSTM"] > 0.8


def test_a_step_of_an_lstm_costs_four_times_the_operations_of_an_rnns():
    """三.2: 「训练过程通常需要更多的计算资源和时间」: in matrix products, forward and backward."""
    def operations(kind):
        cell, x = kind(1, 50), torch.randn(32, 1, requires_grad=True)
        with FlopCounterMode(display=False) as counter:
            out = cell(x)
            (out[0] if isinstance(out, tuple) else out).sum().backward()
        return counter.get_total_flops()

    assert operations(nn.LSTMCell) == 4 * operations(nn.RNNCell) > 0


def test_few_noisy_points_are_learned_by_heart():
    """三.2: 「容易出现过拟合问题」: holds where a series is short and noisy."""
    noise = np.random.default_rng(0).normal(size=60)
    model, x, y, sides = train(noise, epochs=300, lr=0.01)
    learned, unseen = (rmse(*evaluate_model(model, [(x[side], y[side])])) for side in sides)
    assert learned < 0.01 * unseen


def test_on_the_article_series_nothing_is_overfitted(article):
    """三.2: 「容易出现过拟合问题」: not here, where training and test windows are neighbours."""
    learned = evaluate_model(article["model"], DataLoader(article["train"], batch_size=32))
    assert rmse(article["predictions"], article["actuals"]) < 1.1 * rmse(*learned)


def test_on_the_article_series_traditional_methods_are_more_accurate(article):
    """四.2: 「相比传统方法，它可以更准确地预测」: not here: 1.03e-3, 5.84e-4 and 2e-15."""
    windows, targets = create_sequences(generate_sequence(1000), 10)
    test = article["test"].indices
    predicted = baselines(windows, targets, article["train"].indices, test)
    persistence, linear = (rmse(values, targets[test]) for values in predicted.values())
    lstm = rmse(article["predictions"], article["actuals"])
    assert lstm == pytest.approx(1.031e-3, rel=0.01)
    assert persistence == pytest.approx(5.838e-4, rel=1e-4)
    assert linear < 1e-10 < persistence < lstm


def test_on_a_series_with_a_non_linear_rule_the_lstm_is_more_accurate():
    """四.2: the same sentence holds on the Mackey-Glass series: a tenth of the linear error."""
    series = mackey_glass(1000)
    mean, std = scale_of(series)
    model, x, y, (side, test) = train((series - mean) / std, 10, "time", epochs=33, lr=0.02,
                                      schedule="one-cycle")
    predictions, actuals = evaluate_model(model, [(x[test], y[test])])
    predicted = baselines(x[:, :, 0].numpy(), y[:, 0].numpy(), side, test)
    assert rmse(predictions[:, 0], actuals[:, 0]) < 0.1 * rmse(
        predicted["linear autoregression"], actuals[:, 0])


def test_the_trained_network_forgets_within_its_window(article):
    """二.1: the "highway" is not what this network learned: f is about 0.6, and little is left."""
    x, _ = series_tensors(generate_sequence(1000), 10)
    with torch.no_grad():
        f = lstm_by_hand(article["model"].lstm, x)["f"]          # (990, 10, 50)
    assert 0.45 < f.mean() < 0.65
    assert f[:, 1:].prod(dim=1).mean() < 0.02                   # of what entered at step 1


def test_one_run_over_the_whole_series_in_place_of_windows_ruins_the_predictions(article):
    """五: trained from zero for 10 steps, the LSTM does not predict beyond; many try it."""
    model, series = article["model"], generate_sequence(1000)
    whole = torch.FloatTensor(series[:-1]).view(1, -1, 1)
    with torch.no_grad():
        out, _ = model.lstm(whole)
        predictions = model.fc(out)[0, :, 0].numpy()
    test = np.array(article["test"].indices) + 9                # the last step that is read
    error = rmse(predictions[test], series[test + 1])
    assert error > 100 * rmse(article["predictions"], article["actuals"])


def test_the_printed_loss_hides_that_the_model_is_worse_than_repeating_the_last_value(article):
    """五: "Loss: 0.0000" is what `{loss:.4f}` prints at all five epochs, and for persistence."""
    assert {f"{loss:.4f}" for loss in article["losses"][9::10]} == {"0.0000"}
    windows, targets = create_sequences(generate_sequence(1000), 10)
    assert np.mean((windows[:, -1] - targets) ** 2) < article["losses"][-1]


@pytest.mark.parametrize("seq_length, width, layers",
                         [(1, 50, 1), (25, 50, 1), (10, 5, 1), (10, 20, 3)])
def test_sequence_length_width_and_layers_can_be_changed(seq_length, width, layers):
    """五: 「可以通过修改参数如seq_length、hidden_size、num_layers等来调整模型」"""
    torch.manual_seed(0)
    x, y = series_tensors(generate_sequence(200), seq_length)
    model = LSTMModel(hidden_size=width, num_layers=layers)
    loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = train_model(model, loader, nn.MSELoss(), optimizer, 10)
    assert model.lstm.num_layers == layers and model.lstm.hidden_size == width
    assert losses[-1] < losses[0] / 4


def test_the_same_functions_learn_another_series():
    """五: 「也可以将此框架应用于其他序列预测任务」: a logistic map, where no line can win."""
    series = [0.3]
    while len(series) < 600:
        series.append(3.9 * series[-1] * (1 - series[-1]))
    model, x, y, (side, test) = train(np.array(series), 3, "time", epochs=60, lr=0.02,
                                      schedule="one-cycle")
    predictions, actuals = evaluate_model(model, [(x[test], y[test])])
    predicted = baselines(x[:, :, 0].numpy(), y[:, 0].numpy(), side, test)
    assert rmse(predictions[:, 0], actuals[:, 0]) < rmse(
        predicted["linear autoregression"], actuals[:, 0]) / 5


def test_model_and_data_move_to_any_device():
    """五: `torch.device('cuda' if ...)`: tried on "meta", a device without numbers."""
    inputs = torch.zeros(4, 10, 1, device="meta")
    assert LSTMModel().to("meta")(inputs).device.type == "meta"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cpu_and_cuda_give_the_same_prediction():
    """五: `torch.device('cuda' if torch.cuda.is_available() else 'cpu')`"""
    torch.manual_seed(0)
    model, x = LSTMModel(), torch.randn(8, 10, 1)
    on_cpu = model(x)
    on_cuda = model.to("cuda")(x.to("cuda")).cpu()
    torch.testing.assert_close(on_cuda, on_cpu, rtol=0, atol=1e-5)

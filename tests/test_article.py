"""The article's checkable sentences, one test each, in its order; a docstring quotes each in part.

Gates are driven to their ends by the biases of an `nn.LSTM`, whose own output is then tested.
"""
import io
from contextlib import redirect_stdout

import numpy as np
import pytest
import torch
from tables import remember
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lstm_sine import evaluate_model, lstm_by_hand, main, rmse

OPEN, SHUT = 50.0, -50.0  # as biases: their sigmoids are 1 - 2e-22 and 2e-22
H = 8


def lstm_with(**biases):
    """An `nn.LSTM` in float64 with random weights; a gate named i, f or o is held by its bias."""
    torch.manual_seed(0)
    lstm = nn.LSTM(1, H, batch_first=True, dtype=torch.float64).requires_grad_(False)
    for gate, bias in biases.items():
        lstm.bias_ih_l0["ifgo".index(gate) * H:][:H] = bias
    return lstm


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def cell_states(lstm, x, h=None, c=None):
    """The cell state of PyTorch's LSTM after each time step (B, T, H), started from h and c."""
    state, states = None if c is None else (h, c), []
    for step in x.split(1, dim=1):
        _, state = lstm(step, state)
        states.append(state[1][-1])
    return torch.stack(states, dim=1)


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_every_gate_lies_between_0_and_1():
    """二: 「每个门控单元通过 sigmoid 激活函数输出 0 到 1 之间的数值」"""
    gates = lstm_by_hand(lstm_with(), 100 * random(4, 50, 1))
    for letter in "ifo":
        assert 0 <= gates[letter].min() < 0.01 and 0.99 < gates[letter].max() <= 1


def test_the_cell_state_changes_only_by_forgetting_and_admitting():
    """二.1: 「遗忘门决定删除哪些旧信息，输入门决定添加哪些新信息」"""
    lstm, x = lstm_with(), random(4, 20, 1)
    gates, c = lstm_by_hand(lstm, x), cell_states(lstm, x)
    close(c[:, 1:], gates["f"][:, 1:] * c[:, :-1] + (gates["i"] * gates["g"])[:, 1:])


def test_the_cell_state_is_a_highway_while_nothing_is_forgotten_or_admitted():
    """二.1: 「记忆细胞状态就像一条信息传输的“高速公路”」"""
    h, c = random(2, 1, 4, H)
    close(cell_states(lstm_with(f=OPEN, i=SHUT), random(4, 1000, 1), h, c)[:, -1], c[0])


def test_the_trained_network_forgets_within_its_window(article):
    """二.1: the "highway" is not what this network learned: f is about 0.6, and little is left."""
    run, _ = article
    with torch.no_grad():
        x = torch.FloatTensor(run.windows).unsqueeze(-1)
        f = lstm_by_hand(run.model.cpu().lstm, x)["f"]
    assert 0.45 < f.mean() < 0.65 and f[:, 1:].prod(dim=1).mean() < 0.02


def test_the_input_gate_admits_or_shuts_out_the_candidate():
    """二.2: 「将 sigmoid 函数的输出与 tanh 函数生成的候选值向量相乘」"""
    x = random(4, 1, 1)
    candidate = lstm_by_hand(lstm_with(), x)["g"]
    close(cell_states(lstm_with(i=OPEN), x), candidate)
    assert cell_states(lstm_with(i=SHUT), x).abs().max() < 1e-12 < candidate.abs().max()


def test_the_forget_gate_near_1_keeps_the_old_state_and_near_0_clears_it():
    """二.3: 「数值越接近 1，……保留的程度越高；数值越接近 0，……遗忘的程度越高」"""
    h, c = random(2, 1, 4, H)
    for bias in (OPEN, 2.0, 0.0, -2.0, SHUT):
        lstm = lstm_with(f=bias, i=SHUT)
        for weight in (lstm.weight_hh_l0, lstm.weight_ih_l0, lstm.bias_hh_l0):
            weight[H:2 * H] = 0
        f = torch.sigmoid(torch.tensor(bias, dtype=torch.float64))
        close(cell_states(lstm, random(4, 3, 1), h, c)[:, -1], c[0] * f**3)


def test_the_forget_gate_reads_the_last_hidden_state_and_the_new_input():
    """二.3: 「它接收上一时刻的隐藏状态和当前时刻的输入」"""
    h, c, x, lstm = random(1, 4, H), torch.ones(1, 4, H).double(), random(4, 1, 1), lstm_with(i=SHUT)
    base = cell_states(lstm, x, h, c)
    for changed in (cell_states(lstm, x + 1, h, c), cell_states(lstm, x, h + 1, c)):
        assert (changed - base).abs().max() > 0.01


def test_the_output_gate_lets_the_cell_state_through_or_not():
    """二.4: 「将处理后的记忆细胞状态与 sigmoid 函数的输出向量相乘」"""
    for bias, share in ((OPEN, 1), (SHUT, 0)):
        _, (h, c) = lstm_with(o=bias)(random(4, 1, 1))
        close(h, share * c.tanh())


def test_the_output_gate_does_not_read_the_cell_state():
    """二.4: 「输出门根据当前记忆细胞状态和隐藏状态」: not in `nn.LSTM`, where it reads x and h."""
    lstm, x, h = lstm_with(), random(4, 1, 1), random(1, 4, H)
    outputs = [lstm(x, (h, c)) for c in (random(1, 4, H), 3 + random(1, 4, H))]
    first, second = (out[:, 0] / c[0].tanh() for out, (_, c) in outputs)  # o = h / tanh(c)
    torch.testing.assert_close(first, second)
    assert (outputs[0][0] - outputs[1][0]).abs().max() > 0.1


def test_the_four_inputs_are_linear_combinations_of_the_same_data_with_different_weights():
    """二.4: 「这四个输入也就是对同一组输入数据的线性组合，只是组合了不同参数」 (biases: 0 here)"""
    lstm = lstm_with(i=0, f=0, g=0, o=0)
    lstm.bias_hh_l0.zero_()

    def four(x):  # what goes into the squashing functions, undone from what comes out
        gates = lstm_by_hand(lstm, x)
        return torch.stack([gates[k].atanh() if k == "g" else gates[k].logit() for k in "ifgo"])

    x, y = random(4, 1, 1), random(4, 1, 1).flip(0)
    torch.testing.assert_close(four(0.3 * x - 2 * y), 0.3 * four(x) - 2 * four(y))
    assert all((four(x)[k] - four(x)[j]).abs().max() > 0.01 for k in range(4) for j in range(k))


def test_an_lstm_has_four_times_the_parameters_and_the_operations_of_a_plain_rnn():
    """二.4: 「LSTM具有四倍的参数量」, 三.2: 「需要更多的计算资源」: in matrix products"""
    sizes, operations = [], []
    for layer, cell in ((nn.LSTM, nn.LSTMCell), (nn.RNN, nn.RNNCell)):
        sizes.append(sum(p.numel() for p in layer(1, 50).parameters()))
        with FlopCounterMode(display=False) as counter:
            cell(1, 50)(torch.randn(32, 1))
        operations.append(counter.get_total_flops())
    assert sizes == [10_600, 2_650] and operations[0] == 4 * operations[1] > 0


def reach(layer, length, forget_bias=None, recurrent=1):
    """How much of the gradient reaches the first of `length` inputs, over that at the last one."""
    logs = []
    for seed in range(5):
        torch.manual_seed(seed)
        net = layer(1, 50, batch_first=True, dtype=torch.float64)
        with torch.no_grad():
            net.weight_hh_l0 *= recurrent
            if forget_bias is not None:
                net.bias_ih_l0[50:100], net.bias_hh_l0[50:100] = forget_bias, 0
        x = torch.randn(8, length, 1, dtype=torch.float64, requires_grad=True)
        gradient, = torch.autograd.grad(net(x)[0][:, -1].pow(2).sum(), x)
        logs.append((gradient[:, 0].norm() / gradient[:, -1].norm()).log10())
    return 10 ** torch.stack(logs).mean().item()


def test_the_gradient_reaches_100_steps_back_where_the_forget_gate_starts_open_and_only_there():
    """三.1: 「避免梯度消失」: 20 steps back, PyTorch's start leaves some 2e-5, an RNN 3e-6."""
    assert 0.1 < reach(nn.LSTM, 100, forget_bias=3) < 10
    assert reach(nn.RNN, 100) < 1e-20 and reach(nn.LSTM, 100) < 1e-15
    assert 1 < reach(nn.LSTM, 10) / reach(nn.RNN, 10) < 10 and reach(nn.LSTM, 20) < 1e-3


def test_an_exploding_gradient_is_not_avoided():
    """三.1: 「避免……梯度爆炸问题」: with large recurrent weights it explodes in an LSTM too."""
    assert reach(nn.LSTM, 30, forget_bias=3, recurrent=12) > 1e3


def test_what_remembers_is_a_gate_that_starts_open_in_an_lstm_and_in_a_gru():
    """三.1: 「从而学习到长距离的依赖关系」: the first of 30 numbers after training; 1 is guessing."""
    for name in ("LSTM", "GRU"):
        opened = {"LSTM": "LSTM, forget gate", "GRU": "GRU, update gate"}[name]
        assert remember(f"{opened} starts open (bias 3)", 30, steps=200) < 0.5
        assert remember(f"{name} as PyTorch starts it", 30, steps=200) > 0.8


def test_few_noisy_points_are_learned_by_heart_and_the_articles_series_is_not(article, tmp_path):
    """三.2: 「容易出现过拟合问题」: holds for 60 points of noise, not for the article's series."""
    np.savetxt(tmp_path / "noise.csv", np.random.default_rng(0).normal(size=60))
    with redirect_stdout(io.StringIO()):
        noise = main(["--data", str(tmp_path / "noise.csv"), "--no-subtract-last", "--epochs", "300",
                      "--lr", "0.01", "--no-show", "--output", str(tmp_path / "noise.png")])
    assert noise.losses[-1] ** 0.5 * noise.data.scale < 0.1 * noise.errors["LSTM"]
    run, _ = article
    learned = evaluate_model(run.model, [(run.x_tensor[run.train], run.y_tensor[run.train])])
    assert run.errors["LSTM"] < 1.1 * rmse(*learned)


def test_on_the_articles_series_traditional_methods_are_more_accurate(article):
    """四.2: 「相比传统方法，它可以更准确地预测」: not here, where the printed loss is 0.0000."""
    errors = article[0].errors
    assert errors["linear autoregression"] < 1e-10 < errors["persistence"] < errors["LSTM"]
    assert {f"{loss:.4f}" for loss in article[0].losses[9::10]} == {"0.0000"}


def test_where_the_rule_is_not_linear_the_lstm_is_more_accurate(tmp_path):
    """四.2, 五: 「也可以将此框架应用于其他序列预测任务」: a tenth of the linear error, and less."""
    with redirect_stdout(io.StringIO()):
        run = main(["--series", "mackey-glass", "--split", "time", "--epochs", "33", "--lr", "0.02",
                    "--schedule", "one-cycle", "--no-show", "--output", str(tmp_path / "a.png")])
    assert run.errors["LSTM"] < 0.1 * run.errors["linear autoregression"]


@pytest.mark.parametrize("options", ["--seq-length 25", "--hidden-size 5", "--num-layers 2"])
def test_sequence_length_width_and_layers_can_be_changed(options, tmp_path):
    """五: 「可以通过修改参数如seq_length、hidden_size、num_layers等来调整模型」"""
    with redirect_stdout(io.StringIO()):
        run = main([*options.split(), "--length", "200", "--epochs", "10", "--lr", "0.01",
                    "--no-show", "--output", str(tmp_path / "a.png")])
    assert run.losses[-1] < run.losses[0] / 4


def test_what_keeps_the_lstm_from_the_line_is_a_smooth_error_more_than_trembling(article):
    """The error of the article's run has few zero crossings in time; noise would have about 99."""
    run, _ = article
    miss = (run.predictions["LSTM"] - run.actual)[run.test.argsort()]
    assert (np.diff(np.sign(miss)) != 0).sum() < 10


def test_one_run_over_the_whole_series_in_place_of_windows_ruins_the_predictions(article):
    """五: trained from zero for 10 steps, the LSTM does not predict beyond; many try it."""
    run, _ = article
    with torch.no_grad():
        out, _ = run.model.cpu().lstm(torch.FloatTensor(run.data.series[:-1]).view(1, -1, 1))
        predictions = run.model.fc(out)[0, :, 0].numpy()
    assert rmse(predictions[run.test + 9], run.actual) > 100 * run.errors["LSTM"]

"""The article's checkable sentences, in its order and in part quoted, tested on `nn.LSTM`."""
import numpy as np
import torch
from conftest import run_main
from tables import LAYERS, jitter, remember, with_layer
from torch import nn

from lstm_sine import lstm_by_hand, rmse

H, OPEN, SHUT = 8, 50.0, -50.0  # biases that hold a gate: their sigmoids are 1 - 2e-22 and 2e-22
RNN, _, GRU, LSTM, OPEN_GRU, OPEN_LSTM = LAYERS


def lstm_with(**biases):
    """An `nn.LSTM` in float64 with random weights; a gate named i, f or o is held by its bias."""
    torch.manual_seed(0)
    lstm = nn.LSTM(1, H, batch_first=True, dtype=torch.float64).requires_grad_(False)
    for gate, bias in biases.items():
        lstm.bias_ih_l0["ifgo".index(gate) * H:][:H] = bias
    return lstm


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def cell_state(lstm, x, state=None):
    return lstm(x, state)[1][1][0]  # (B, H), after the last time step


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_gates_lie_between_0_and_1_and_the_cell_state_only_forgets_and_admits_or_is_a_highway():
    """二: 「每个门控单元……输出 0 到 1 之间的数值」, 「删除哪些旧信息」, 「高速公路」"""
    gates = lstm_by_hand(lstm_with(), 100 * draw(4, 50, 1))
    for letter in "ifo":
        assert 0 <= gates[letter].min() < 0.01 and 0.99 < gates[letter].max() <= 1
    lstm, x, (h, c) = lstm_with(), draw(4, 20, 1), draw(2, 1, 4, H)
    gates = lstm_by_hand(lstm, x)
    for k in range(1, 20):
        kept = gates["f"][:, k] * cell_state(lstm, x[:, :k])
        close(cell_state(lstm, x[:, :k + 1]), kept + gates["i"][:, k] * gates["g"][:, k])
    close(cell_state(lstm_with(f=OPEN, i=SHUT), draw(4, 1000, 1), (h, c)), c[0])


def test_the_forget_gate_keeps_or_clears_the_old_state_by_the_last_hidden_state_and_the_input():
    """二.3: 「数值越接近 1，……保留的程度越高」, 「它接收上一时刻的隐藏状态和当前时刻的输入」"""
    (h, c), x, lstm = draw(2, 1, 4, H), draw(4, 3, 1), lstm_with(i=SHUT)
    base = cell_state(lstm, x[:, :1], (h, c))
    for new_x, new_h in ((x + 1, h), (x, h + 1)):
        assert (cell_state(lstm, new_x[:, :1], (new_h, c)) - base).abs().max() > 0.01
    for weight in (lstm.weight_hh_l0, lstm.weight_ih_l0, lstm.bias_hh_l0):
        weight[H:2 * H] = 0
    for bias in (OPEN, 2.0, 0.0, -2.0, SHUT):
        lstm.bias_ih_l0[H:2 * H] = bias
        f = torch.sigmoid(torch.tensor(bias, dtype=torch.float64))
        close(cell_state(lstm, x, (h, c)), c[0] * f**3)


def test_the_input_and_the_output_gate_let_all_through_or_nothing_and_read_no_cell_state():
    """二.2, 二.4: 「将 sigmoid 函数的输出与 tanh 函数生成的候选值向量相乘」, 「输出门根据……」"""
    lstm, x, h = lstm_with(), draw(4, 1, 1), draw(1, 4, H)
    candidate = lstm_by_hand(lstm, x)["g"][:, 0]
    for bias, share in ((OPEN, 1), (SHUT, 0)):
        close(cell_state(lstm_with(i=bias), x), share * candidate)
        _, (out, c) = lstm_with(o=bias)(x)
        close(out, share * c.tanh())
    outputs = [lstm(x, (h, c)) for c in (draw(1, 4, H), 3 + draw(1, 4, H))]
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

    x, y = draw(4, 1, 1), draw(4, 1, 1).flip(0)
    torch.testing.assert_close(four(0.3 * x - 2 * y), 0.3 * four(x) - 2 * four(y))
    assert all((four(x)[k] - four(x)[j]).abs().max() > 0.01 for k in range(4) for j in range(k))


def test_an_lstm_has_four_times_the_parameters_and_products_of_a_plain_rnn():
    """二.4: 「LSTM具有四倍的参数量」, 三.2: 「需要更多的计算资源」: a product for each weight"""
    lstm, rnn = ([p.numel() for p in layer(1, 50).parameters()] for layer in (nn.LSTM, nn.RNN))
    assert sum(lstm) == 10_600 and sum(rnn) == 2_650
    assert sum(lstm[:2]) == 4 * sum(rnn[:2])  # without the biases


def reach(kind, length, recurrent=1):
    """How much of the gradient reaches the first of `length` inputs, over that at the last one."""
    logs = []
    for seed in range(5):
        torch.manual_seed(seed)
        net = with_layer(kind).lstm.double().requires_grad_(False)
        net.weight_hh_l0 *= recurrent
        x = torch.randn(8, length, 1, dtype=torch.float64, requires_grad=True)
        gradient, = torch.autograd.grad(net(x)[0][:, -1].pow(2).sum(), x)
        logs.append((gradient[:, 0].norm() / gradient[:, -1].norm()).log10())
    return 10 ** torch.stack(logs).mean().item()


def test_the_gradient_reaches_100_steps_back_only_from_an_open_forget_gate_and_can_explode():
    """三.1: 「避免梯度消失和梯度爆炸问题」: 20 steps back, PyTorch's start leaves some 2e-5."""
    assert 0.1 < reach(OPEN_LSTM, 100) < 10 and reach(OPEN_LSTM, 30, recurrent=12) > 1e3
    assert reach(RNN, 100) < 1e-20 and reach(LSTM, 100) < 1e-15
    assert 1 < reach(LSTM, 10) / reach(RNN, 10) < 10 and reach(LSTM, 20) < 1e-3


def test_what_remembers_is_a_gate_that_starts_open_in_an_lstm_and_in_a_gru():
    """三.1: 「从而学习到长距离的依赖关系」: the first of 20 numbers; 1 is guessing."""
    for opened, started in ((OPEN_LSTM, LSTM), (OPEN_GRU, GRU)):
        assert remember(opened, 20, steps=150) < 0.5 and remember(started, 20, steps=150) > 0.8


def test_noise_is_learned_by_heart_and_the_articles_series_is_not(article, tmp_path, undrawn):
    """三.2: 「容易出现过拟合问题」: holds for 60 points of noise, not for the article's series."""
    path = tmp_path / "noise.csv"
    np.savetxt(path, np.random.default_rng(0).normal(size=60))
    noise, _ = run_main(tmp_path, f"--data {path} --no-subtract-last --epochs 200 --lr 0.01")
    assert noise.losses[-1] ** 0.5 * noise.data.scale < 0.1 * noise.errors["LSTM"]
    run, _ = article
    learned = rmse(run.rules["LSTM"](run.windows[run.train]), run.targets[run.train])
    assert run.errors["LSTM"] < 1.1 * learned


def test_where_the_rule_is_not_linear_the_lstm_is_more_accurate(tmp_path, undrawn):
    """四.2, 五: 「也可以将此框架应用于其他序列预测任务」: a tenth of the linear error, and less."""
    run, _ = run_main(tmp_path, "--series mackey-glass --split time --epochs 33 --lr 0.02 "
                      "--schedule one-cycle")
    assert run.errors["LSTM"] < 0.1 * run.errors["linear autoregression"]


def test_sequence_length_width_and_layers_can_be_changed(tmp_path, undrawn):
    """五: 「可以通过修改参数如seq_length、hidden_size、num_layers等来调整模型」"""
    run, _ = run_main(tmp_path, "--seq-length 25 --hidden-size 5 --num-layers 2 --epochs 1")
    assert run.model.lstm(run.x_tensor)[1][0].shape == (2, 975, 5)  # h: layers, 1000 - 25, width


def test_the_articles_network_is_no_highway_and_less_accurate_than_traditional_methods(article):
    """四.2: 「相比传统方法，它可以更准确地预测」: not here; noise would cross zero 99 times."""
    run, _ = article
    linear, last = run.errors["linear autoregression"], run.errors["persistence"]
    assert linear < 1e-10 < last < run.errors["LSTM"]
    f = lstm_by_hand(run.model.lstm, run.x_tensor)["f"]
    assert 0.45 < f.mean() < 0.65 and f[:, 1:].prod(dim=1).mean() < 0.02
    miss = (run.predictions["LSTM"] - run.actual)[run.test.argsort()]
    assert (np.diff(np.sign(miss)) != 0).sum() < 10
    assert jitter(run)[1] > 1.5 * last  # without the jitter of the weights it is still off

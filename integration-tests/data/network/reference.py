"""Fifty steps of small networks with PyTorch, for ml-ops/src/kernels/network/tests.rs.

    pip install torch && python integration-tests/data/network/reference.py > integration-tests/data/network/torch.json

Run from the root of the repository. The data are the first 1,600 rows of digits.csv, in batches of 32 in the
order of the file; inputs are (x - 8) / 8. Weights start at reach * sin(i * i % 1009 + 31 l + 1) for entry i of
layer l, row by row of [in, out], with reach = sqrt(6 / (in + out)); biases start at zero. Everything is computed
in double precision.
"""

import csv
import json
import math

import torch

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)

with open("examples/data/digits.csv") as file:
    table = [[float(cell) for cell in row] for row in list(csv.reader(file))[1:1601]]
X = (torch.tensor([row[:64] for row in table]) - 8.0) * 0.125
digit = torch.tensor([int(row[64]) for row in table])
number = (torch.tensor([row[64] for row in table]) - 4.5) * 0.25


def network(activation, outputs):
    layers, inputs = [], 64
    for l, units in enumerate([48, 24, outputs]):
        linear = torch.nn.Linear(inputs, units)
        reach = math.sqrt(6 / (inputs + units))
        start = [reach * math.sin(i * i % 1009 + 31 * l + 1) for i in range(inputs * units)]
        with torch.no_grad():
            linear.weight.copy_(torch.tensor(start).reshape(inputs, units).T)
            linear.bias.zero_()
        layers += [linear, activation()]
        inputs = units
    return torch.nn.Sequential(*layers[:-1])


def run(name, activation, optimizer, l2=0.0, regression=False):
    net = network(activation, 1 if regression else 10)
    optimizer = optimizer(net)
    losses = []
    for t in range(50):
        rows = slice(32 * t, 32 * t + 32)
        z = net(X[rows])
        if regression:
            loss = ((z[:, 0] - number[rows]) ** 2).mean() / 2
        else:
            loss = torch.nn.functional.cross_entropy(z, digit[rows])
        penalty = sum((p**2).sum() for n, p in net.named_parameters() if n.endswith("weight"))
        optimizer.zero_grad()
        (loss + l2 / 2 * penalty).backward()
        optimizer.step()
        losses.append(loss.item())
    return {"name": name, "losses": losses}


def adamw(net):
    weights = [p for n, p in net.named_parameters() if n.endswith("weight")]
    biases = [p for n, p in net.named_parameters() if n.endswith("bias")]
    groups = [{"params": weights, "weight_decay": 0.1}, {"params": biases, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=0.01)


def sgd(nesterov):
    return lambda net: torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, nesterov=nesterov)


def adam(net):
    return torch.optim.Adam(net.parameters(), lr=0.01)


runs = [
    run("relu sgd nesterov", torch.nn.ReLU, sgd(True), l2=0.001),
    run("tanh sgd momentum", torch.nn.Tanh, sgd(False)),
    run("sigmoid adam", torch.nn.Sigmoid, adam),
    run("gelu adamw", torch.nn.GELU, adamw),
    run("regression relu adam", torch.nn.ReLU, adam, regression=True),
]
print(json.dumps({"torch": torch.__version__.split("+")[0], "runs": runs}, indent=1))

"""Training steps of recurrent language models, and of the adaptive softmax: from ids to updated weights."""

from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np

from benchmarks.harness import Product, Step, Workload


@dataclass(frozen=True)
class Model:
    """A language model, and how it is trained.

    Attributes:
        kind: of the recurrence: "RNN", "LSTM" or "GRU".
        vocab: how many words or characters.
        embed: size of their vectors; None for one-hot vectors.
        hidden: size of the state.
        batch: sequences in a batch.
        steps: of each.
        layers: of the recurrence.
        dropout: before, between and behind them.
        tied: whether the table of the embedding is the weight of the scores.
        lr: learning rate.
        clip: norm to which gradients are clipped.
    """

    kind: str
    vocab: int
    embed: int | None
    hidden: int
    batch: int
    steps: int
    layers: int = 1
    dropout: float = 0.0
    tied: bool = False
    lr: float = 1.0
    clip: float = 1.0

    @property
    def gates(self) -> int:
        """Rows of the weights, as many times `hidden`."""
        return {"RNN": 1, "GRU": 3, "LSTM": 4}[self.kind]


def _ids(model: Model) -> np.ndarray:
    """Ids (batch, steps + 1), int64, as frequent as words are: Zipf's law."""
    weights = 1 / np.arange(1, model.vocab + 1)
    size = model.batch, model.steps + 1
    return np.random.default_rng(0).choice(model.vocab, size=size, p=weights / weights.sum())


def ours(m: Model) -> Step:
    """The step with tinygrad_nlp; the state is carried on from batch to batch, as in truncated back-propagation."""
    import tinygrad_nlp as tn
    from tinygrad_nlp import nn, optim

    class LanguageModel(nn.Module):
        def __init__(self) -> None:
            self.embed = nn.Embedding(m.vocab, m.embed) if m.embed else None
            self.drop = nn.Dropout(m.dropout)
            recurrence = {"RNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}[m.kind]
            self.recurrence = recurrence(m.embed or m.vocab, m.hidden, m.layers, dropout=m.dropout)
            self.out = nn.Linear(m.hidden, m.vocab)
            if m.tied and self.embed is not None:
                self.out.weight = self.embed.weight

        def forward(self, ids: np.ndarray, targets: np.ndarray, state: object) -> tuple[tn.Variable, object]:
            x = tn.one_hot(ids, m.vocab) if self.embed is None else self.drop(self.embed(ids))
            hs, state = self.recurrence(x, state)
            loss = nn.functional.linear_cross_entropy(
                self.drop(hs), self.out.weight, targets, linear_bias=self.out.bias
            )
            return loss, state

    tn.manual_seed(0)
    model = LanguageModel()
    optimizer = optim.SGD(model.parameters(), lr=m.lr)
    ids = _ids(m)
    state = None

    def step() -> None:
        nonlocal state
        optimizer.zero_grad()
        loss, state = model(ids[:, :-1], ids[:, 1:], state)
        loss.backward()
        state = state.detach()
        optim.clip_grad_norm_(model.parameters(), m.clip)
        optimizer.step()

    return step


def pytorch(m: Model, compiled: bool = False) -> Step:
    """The step with PyTorch."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    class LanguageModel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(m.vocab, m.embed) if m.embed else None
            self.drop = nn.Dropout(m.dropout)
            recurrence = {"RNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}[m.kind]
            self.recurrence = recurrence(m.embed or m.vocab, m.hidden, m.layers, dropout=m.dropout, batch_first=True)
            self.out = nn.Linear(m.hidden, m.vocab)
            if m.tied and self.embed is not None:
                self.out.weight = self.embed.weight

        def forward(self, ids: torch.Tensor, targets: torch.Tensor, state: object) -> tuple[torch.Tensor, object]:
            x = F.one_hot(ids, m.vocab).float() if self.embed is None else self.drop(self.embed(ids))
            hs, state = self.recurrence(x, state)
            return F.cross_entropy(self.out(self.drop(hs)).flatten(0, 1), targets.flatten()), state

    torch.manual_seed(0)
    model = LanguageModel()
    loss_of = torch.compile(model) if compiled else model
    optimizer = torch.optim.SGD(model.parameters(), lr=m.lr)
    ids = torch.from_numpy(_ids(m))
    state = None

    def step() -> None:
        nonlocal state
        optimizer.zero_grad()
        loss, state = loss_of(ids[:, :-1], ids[:, 1:], state)
        loss.backward()
        state = tuple(part.detach() for part in state) if m.kind == "LSTM" else state.detach()
        torch.nn.utils.clip_grad_norm_(model.parameters(), m.clip)
        optimizer.step()

    return step


def floor(m: Model) -> list[Product]:
    """Recurrence, layer by layer, and scores, forward and backward."""
    rows, size = m.batch * m.steps, m.gates * m.hidden
    products = []
    for layer in range(m.layers):
        features = m.hidden if layer else m.embed or m.vocab
        products += [
            Product(rows, features, size),  # inputs, all steps at once
            Product(m.batch, m.hidden, size, count=m.steps),  # recurrent, step by step
            Product(m.batch, size, m.hidden, count=m.steps),  # gradient of each step's state
            Product(size, rows, m.hidden),  # gradient of the recurrent weights, all steps at once
            Product(size, rows, features),  # gradient of the input weights
        ]
        if layer or m.embed:
            products.append(Product(rows, size, features))  # gradient of the inputs
    return [
        *products,
        Product(rows, m.hidden, m.vocab),
        Product(m.vocab, rows, m.hidden),
        Product(rows, m.vocab, m.hidden),
    ]


def _workload(name: str, text: str, model: Model) -> Workload:
    return Workload(
        name=name,
        text=f"one training step of {text}, gradient clipping, SGD",
        ours=partial(ours, model),
        torch=partial(pytorch, model),
        floor=partial(floor, model),
    )


# --- generation -------------------------------------------------------------------------------------------------------

TOKENS, GENERATOR = 1000, Model("LSTM", 10_000, 100, 100, batch=1, steps=1)


def ours_generation() -> Step:
    """Greedy generation with tinygrad_nlp, token by token."""
    import tinygrad_nlp as tn
    from tinygrad_nlp import nn
    from tinygrad_nlp.decoding import greedy

    class LanguageModel(nn.Module):
        def __init__(self) -> None:
            self.embed = nn.Embedding(GENERATOR.vocab, GENERATOR.embed or 0)
            self.lstm = nn.LSTM(GENERATOR.embed or 0, GENERATOR.hidden)
            self.out = nn.Linear(GENERATOR.hidden, GENERATOR.vocab)

        def forward(self, ids: np.ndarray, state: object) -> tuple[tn.Variable, object]:
            hs, state = self.lstm(self.embed(ids[:, None]), state)
            return self.out(hs[:, 0]), state

    tn.manual_seed(0)
    model = LanguageModel().eval()
    return lambda: greedy(model, None, [0], TOKENS)


def pytorch_generation(compiled: bool = False) -> Step:
    """The same with PyTorch."""
    import torch
    from torch import nn

    class LanguageModel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(GENERATOR.vocab, GENERATOR.embed or 0)
            self.lstm = nn.LSTM(GENERATOR.embed or 0, GENERATOR.hidden, batch_first=True)
            self.out = nn.Linear(GENERATOR.hidden, GENERATOR.vocab)

        def forward(self, ids: torch.Tensor, state: object) -> tuple[torch.Tensor, object]:
            hs, state = self.lstm(self.embed(ids), state)
            return self.out(hs[:, -1]), state

    torch.manual_seed(0)
    model = LanguageModel().eval()
    scores_of = torch.compile(model) if compiled else model

    @torch.inference_mode()
    def step() -> list[int]:
        ids, state, written = torch.zeros((1, 1), dtype=torch.int64), None, []
        for _ in range(TOKENS):
            scores, state = scores_of(ids, state)
            ids = scores.argmax(dim=-1, keepdim=True)
            written.append(ids.item())
        return written

    return step


# --- adaptive softmax -------------------------------------------------------------------------------------------------

ROWS, FEATURES, WORDS, CUTOFFS = 700, 256, 100_000, [2_000, 20_000]


def _rows() -> tuple[np.ndarray, np.ndarray]:
    """Vectors (ROWS, FEATURES) float32 and word ids (ROWS,) int64."""
    model = Model("RNN", WORDS, None, FEATURES, ROWS, 0)
    return np.random.default_rng(0).standard_normal((ROWS, FEATURES), dtype=np.float32), _ids(model)[:, 0]


def ours_adaptive() -> Step:
    """Loss and gradients of the adaptive softmax with tinygrad_nlp."""
    import tinygrad_nlp as tn
    from tinygrad_nlp import nn

    loss = nn.AdaptiveSoftmaxLoss(FEATURES, WORDS, CUTOFFS)
    x, targets = _rows()

    def step() -> None:
        loss.zero_grad()
        loss(tn.Variable(x, requires_grad=True), targets).backward()

    return step


def pytorch_adaptive(compiled: bool = False) -> Step:
    """The same with PyTorch."""
    import torch

    loss = torch.nn.AdaptiveLogSoftmaxWithLoss(FEATURES, WORDS, CUTOFFS)
    loss_of = torch.compile(loss) if compiled else loss
    x, targets = map(torch.from_numpy, _rows())
    x.requires_grad_()

    def step() -> None:
        loss.zero_grad()
        x.grad = None
        loss_of(x, targets).loss.backward()

    return step


def floor_adaptive() -> list[Product]:
    """Head, and each cluster for the rows whose target lies there."""
    _, targets = _rows()
    edges = [*CUTOFFS, WORDS]
    sizes = [(ROWS, FEATURES, CUTOFFS[0] + len(CUTOFFS))]
    for k, (start, end) in enumerate(pairwise(edges)):
        rows, width = int(((targets >= start) & (targets < end)).sum()), FEATURES // 4 ** (k + 1)
        sizes += [(rows, FEATURES, width), (rows, width, end - start)]
    return [p for m, k, n in sizes for p in (Product(m, k, n), Product(n, m, k), Product(m, n, k))]


WORKLOADS = [
    _workload(
        "rnnlm",
        "a language model of 10,000 words: embedding 100, LSTM 100, 35 steps, batch 20",
        Model("LSTM", 10_000, 100, 100, batch=20, steps=35, lr=20.0, clip=0.25),
    ),
    _workload(
        "better_rnnlm",
        "a language model of 10,000 words: embedding 650, two LSTMs 650, dropout 0.5, tied weights, 35 steps, batch 20",
        Model("LSTM", 10_000, 650, 650, batch=20, steps=35, layers=2, dropout=0.5, tied=True, lr=20.0, clip=0.25),
    ),
    _workload(
        "char_rnn",
        "a language model of 28 characters: one-hot, RNN 32, 32 steps, batch 1,024",
        Model("RNN", 28, None, 32, batch=1024, steps=32),
    ),
    _workload(
        "gru_lm",
        "a language model of 28 characters: one-hot, GRU 256, 32 steps, batch 1,024",
        Model("GRU", 28, None, 256, batch=1024, steps=32),
    ),
    Workload(
        name="generation",
        text="a token of 1,000 that a language model of 10,000 words writes: embedding 100, LSTM 100, batch 1, greedy",
        ours=ours_generation,
        torch=pytorch_generation,
        floor=lambda: [],
        operations=TOKENS,
    ),
    Workload(
        name="adaptive",
        text="loss and gradients of the adaptive softmax over 100,000 words from 256 features, 700 rows, cutoffs at "
        "2,000 and 20,000",
        ours=ours_adaptive,
        torch=pytorch_adaptive,
        floor=floor_adaptive,
    ),
]

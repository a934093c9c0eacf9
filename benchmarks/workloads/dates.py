"""A full training step of the date translator, an LSTM encoder and decoder with attention."""

import numpy as np

from benchmarks.harness import Product, Step, Workload

BATCH, VOCAB, EMBED, HIDDEN = 128, 59, 16, 256
IN_STEPS, OUT_STEPS = 29, 10
LEARNING_RATE, MAX_NORM = 1e-3, 5.0


def _batch() -> tuple[np.ndarray, np.ndarray]:
    """Source ids (BATCH, IN_STEPS) and target ids (BATCH, 1 + OUT_STEPS), a start mark first; int64."""
    rng = np.random.default_rng(0)
    return rng.integers(VOCAB, size=(BATCH, IN_STEPS)), rng.integers(VOCAB, size=(BATCH, 1 + OUT_STEPS))


def ours() -> Step:
    """The step with tinygrad_nlp."""
    from examples.models.attention_seq2seq import AttentionSeq2seq
    from tinygrad_nlp import optim

    model = AttentionSeq2seq(VOCAB, EMBED, HIDDEN)
    optimizer = optim.Adam(model.parameters(), lr=LEARNING_RATE)
    x, t = _batch()

    def step() -> None:
        optimizer.zero_grad()
        model(x, t).backward()
        optim.clip_grad_norm_(model.parameters(), MAX_NORM)
        optimizer.step()

    return step


def pytorch(compiled: bool = False) -> Step:
    """The step with PyTorch."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    class AttentionSeq2seq(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder_embedding = nn.Embedding(VOCAB, EMBED)
            self.encoder = nn.LSTM(EMBED, HIDDEN, batch_first=True)
            self.decoder_embedding = nn.Embedding(VOCAB, EMBED)
            self.decoder = nn.LSTM(EMBED, HIDDEN, batch_first=True)
            self.output = nn.Linear(2 * HIDDEN, VOCAB)

        def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            hs, (h, _) = self.encoder(self.encoder_embedding(x.flip(1)))
            h, _ = self.decoder(self.decoder_embedding(t[:, :-1]), (h, torch.zeros_like(h)))
            weights = torch.softmax(torch.bmm(h, hs.transpose(1, 2)), dim=2)
            context = torch.bmm(weights, hs)
            logits = self.output(torch.cat([context, h], dim=2))
            return F.cross_entropy(logits.flatten(0, 1), t[:, 1:].flatten())

    torch.manual_seed(0)
    model = AttentionSeq2seq()
    loss_of = torch.compile(model) if compiled else model
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    x, t = map(torch.from_numpy, _batch())

    def step() -> None:
        optimizer.zero_grad()
        loss_of(x, t).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
        optimizer.step()

    return step


def _lstm(steps: int) -> list[Product]:
    """Products of an LSTM over `steps` time steps, forward and backward; its four gates are one matrix."""
    rows, gates = steps * BATCH, 4 * HIDDEN
    return [
        Product(rows, EMBED, gates),  # inputs, all steps at once
        Product(BATCH, HIDDEN, gates, count=steps),  # recurrent, step by step
        Product(BATCH, gates, HIDDEN, count=steps),  # gradient of each step's state
        Product(gates, rows, HIDDEN),  # gradient of the recurrent weights, all steps at once
        Product(gates, rows, EMBED),  # gradient of the input weights
        Product(rows, gates, EMBED),  # gradient of the inputs
    ]


def floor() -> list[Product]:
    """Encoder, decoder, attention (a small product for each example of the batch) and output layer."""
    rows = OUT_STEPS * BATCH
    attention = [
        Product(OUT_STEPS, HIDDEN, IN_STEPS, count=2, batch=BATCH),  # scores; gradient of the weights
        Product(OUT_STEPS, IN_STEPS, HIDDEN, count=2, batch=BATCH),  # context; gradient of the decoder's states
        Product(IN_STEPS, OUT_STEPS, HIDDEN, count=2, batch=BATCH),  # gradients of the encoder's states
    ]
    output = [
        Product(rows, 2 * HIDDEN, VOCAB),
        Product(VOCAB, rows, 2 * HIDDEN),
        Product(rows, VOCAB, 2 * HIDDEN),
    ]
    return [*_lstm(IN_STEPS), *_lstm(OUT_STEPS), *attention, *output]


WORKLOAD = Workload(
    name="dates",
    text="one training step of the date translator: LSTM (256) encoder and decoder with attention, 29 and 10 "
    "steps, batch 128, gradient clipping, Adam",
    ours=ours,
    torch=pytorch,
    floor=floor,
)

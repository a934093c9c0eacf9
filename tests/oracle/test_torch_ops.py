"""Every operation on the inputs that PyTorch tests its own with: values, dtypes and gradients are PyTorch's."""

import warnings

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("torch", reason="the oracle needs PyTorch: `make oracle` installs it")
    pytest.importorskip("expecttest", reason="PyTorch's samples need expecttest: `make oracle` installs it")
    import torch
    from torch.testing._internal.common_methods_invocations import op_db

from tests.oracle.compare import Otherwise, compare, outputs, tally_of, tensors, to_ours
from tests.oracle.torch_map import NOT_ASKED, ROWS
from tinygrad_nlp.autograd import ops
from tinygrad_nlp.nn import functional

OP_DB = {f"{info.name}.{info.variant_test_name}".rstrip("."): info for info in op_db}


def find(name):
    """The operation of this name, or the function of `nn.functional`; None where there is none yet."""
    module = ops if name in ops.__all__ else functional if name in functional.__all__ else None
    return None if module is None else getattr(module, name)


def samples(row, dtype):
    for name in row.samples:
        for sample in OP_DB[name].sample_inputs("cpu", dtype, requires_grad=OP_DB[name].supports_autograd):
            yield Call(name, sample)


class Call:
    """A sample, and whose it is."""

    def __init__(self, name, sample):
        self.name = name
        self.input, self.args, self.kwargs = sample.input, sample.args, sample.kwargs


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_values_and_gradients_are_those_of_pytorch(row, dtype, record_property):
    op = find(row.name)
    if op is None:
        record_property("oracle: not here yet", row.name)
        pytest.skip("not here yet")

    def run(call):
        leaves = []
        x, args, kwargs = (to_ours(part, leaves) for part in (call.input, call.args, call.kwargs))
        ours = row.call(op, x, *args, **kwargs)
        theirs = OP_DB[call.name].op(call.input, *call.args, **call.kwargs)
        compare(tensors(theirs)[: row.outputs], outputs(ours), leaves)

    torch.manual_seed(0)
    tally = tally_of(row.name, samples(row, dtype), run)
    record_property("oracle tally", vars(tally))
    assert not tally.wrong, f"{len(tally.wrong)} of {tally.samples} samples:\n" + "\n".join(tally.wrong[:5])
    assert tally.agree, f"no sample of {row.samples} is asked"


def test_every_operation_has_a_row_or_a_reason():
    """A new operation needs a row in `torch_map.py`, or a reason there why PyTorch is not asked about it."""
    public = (set(ops.__all__) | set(functional.__all__)) - {"METHODS", "OPERATORS"}
    mapped = {row.name for row in ROWS}
    assert sorted(public - mapped - NOT_ASKED.keys()) == []
    assert sorted(mapped & NOT_ASKED.keys()) == []


def test_every_row_names_samples_that_pytorch_has():
    assert [name for row in ROWS for name in row.samples if name not in OP_DB] == []


def test_a_wrong_operation_is_found():
    def wrong(call):
        leaves = []
        x = to_ours(call.input, leaves)
        compare(tensors(torch.exp(call.input)), outputs(ops.exp(x) * 1.001), leaves)

    def refused(call):
        raise Otherwise("no")

    calls = [Call("exp", sample) for sample in OP_DB["exp"].sample_inputs("cpu", torch.float64, requires_grad=True)]
    assert len(tally_of("exp", calls, wrong).wrong) == len([call for call in calls if call.input.numel()])
    assert tally_of("exp", calls, refused).otherwise == ["no"] * len(calls)

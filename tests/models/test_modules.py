"""Torch modules of users: wrappers, devices, types and what they return."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hepxai.models.network import evaluating
from hepxai.models.wrappers.modules import as_logits, cast_like, naming_inputs, plain_module


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))


def test_wrappers_are_taken_off() -> None:
    plain = net()
    for wrapped in (torch.compile(plain, backend="eager"), nn.DataParallel(plain)):
        assert plain_module(wrapped) is plain
    assert plain_module(torch.compile(nn.DataParallel(plain), backend="eager")) is plain
    assert plain_module(plain) is plain


def test_hooks_are_called_inside_compiled_parts() -> None:
    module = nn.Sequential(torch.compile(net(), backend="eager"), nn.Identity())
    module.compile(backend="eager")
    x, calls = torch.ones(4, 2), []
    expected = module(x)
    handle = module.get_submodule("0._orig_mod.0").register_forward_hook(lambda *_: calls.append(1))
    with evaluating(module):
        assert torch.equal(module(x), expected)
    handle.remove()
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (net().to("meta"), r"parameter 0\.weight of Sequential has no value: load the trained weights"),
        (nn.Sequential(nn.LazyLinear(2)), r"parameter 0\.weight of Sequential has no value"),
        (max, r"builtin_function_or_method is no torch\.nn\.Module"),
    ],
)
def test_modules_that_cannot_be_asked(module: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        plain_module(module)


def test_another_device() -> None:
    far = net()
    far.register_buffer("scale", _Elsewhere(torch.ones(1)))
    with pytest.raises(ValueError, match=r"parameter scale of Sequential is on the device cuda:0.*\.cpu\(\)"):
        plain_module(far)


class _Elsewhere(Tensor):
    """A tensor that says it is on a graphics card."""

    @staticmethod
    def __new__(cls, data: Tensor) -> _Elsewhere:
        return torch.Tensor._make_subclass(cls, data)

    @property
    def device(self) -> torch.device:
        return torch.device("cuda:0")


def test_the_type_of_the_parameters() -> None:
    module, x = net().double(), torch.ones(4, 2, requires_grad=True)
    same = cast_like(x, nn.Identity())
    assert same.dtype == x.dtype
    assert same.data_ptr() != x.data_ptr()  # a module may change it in place
    module(cast_like(x, module)).sum().backward()
    expected = (module[2].weight * (module[0](torch.ones(2).double()) > 0)) @ module[0].weight
    assert x.grad is not None
    assert x.grad.dtype == torch.float32
    np.testing.assert_allclose(x.grad[0], expected.detach()[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("returned", "message", "remedy"),
    [
        ((torch.ones(5), torch.ones(5, 9)), r"tuple \{0: \(5,\), 1: \(5, 9\)\}", "module(batch)[0]"),
        ({"score": torch.ones(5, 1)}, r"dict \{'score': \(5, 1\)\}", "module(batch)['score']"),
        (np.ones(5), "a ndarray", "module(batch)."),
        (torch.ones(5, dtype=torch.int64), r"torch\.int64 \(5,\).*logits are needed", ""),
        (
            torch.ones(5, 2),
            r"\(5, 2\) for 5 events and \('signal',\): name each of the 2",
            "('class_0', 'class_1')",
        ),
        (torch.ones(1, 5), r"\(1, 5\) for 5 events", ""),
        (torch.tensor(1.0), r"\(\) for 5 events", ""),
    ],
)
def test_what_is_no_logits(returned: Any, message: str, remedy: str) -> None:
    with pytest.raises(ValueError, match=message) as refusal:
        as_logits(returned, 5, ("signal",), "batch")
    assert remedy in str(refusal.value)


def test_logits() -> None:
    for shape in ((5,), (5, 1), (5, 1, 1)):
        assert as_logits(torch.ones(shape), 5, ("signal",)).shape == (5, 1)
    assert as_logits(torch.ones(0, 3), 0, ("a", "b", "c")).shape == (0, 3)


def test_failures_name_the_inputs() -> None:
    with (
        pytest.raises(ValueError, match=r"failed on 3 columns.*mat1 and mat2.*in this order"),
        naming_inputs("3 columns"),
    ):
        net()(torch.ones(4, 3))

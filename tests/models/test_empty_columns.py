"""The mean over the columns that differ is the mean over all; so are its gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hepxai.models.image.skip_empty_columns import column_mean, kept_columns


def convolutions(kernel: int, layers: int, channels: int = 1) -> nn.Sequential:
    torch.manual_seed(3)
    steps: list[nn.Module] = []
    for i in range(layers):
        layer = nn.Conv2d(channels if i == 0 else 3, 3, kernel, padding=kernel // 2)
        steps += [layer, nn.ReLU()]
    return nn.Sequential(*steps).double()


def lit(columns: list[list[int]], width: int, channels: int = 1) -> Tensor:
    x = torch.zeros(len(columns), channels, 4, width, dtype=torch.float64)
    for image, own in zip(x, columns, strict=True):
        for i, c in enumerate(own):
            image[i % channels, (3 * c) % 4, c] = 1
    return x


CASES = [
    [[]],
    [[0]],
    [[49]],
    [[25], [], [0, 49]],
    [[3, 4, 5, 30], [24], [7, 8, 40]],
    [list(range(50)), [1]],
    [[i] for i in range(50)],
]


@pytest.mark.parametrize(("kernel", "layers"), [(3, 1), (3, 3), (5, 2), (1, 2)])
@pytest.mark.parametrize("case", range(len(CASES)))
def test_mean_and_gradients_are_those_of_the_whole_image(case: int, kernel: int, layers: int) -> None:
    maps = convolutions(kernel, layers)
    x = lit(CASES[case], 50)
    whole = maps(x).mean((2, 3))
    found = column_mean(x, maps, layers * (kernel // 2))
    torch.testing.assert_close(found.double(), whole, rtol=1e-6, atol=1e-7)
    signs = torch.randn_like(whole)
    expected = torch.autograd.grad((whole * signs).sum(), list(maps.parameters()))
    gradients = torch.autograd.grad((found * signs).sum(), list(maps.parameters()))
    torch.testing.assert_close(gradients, expected, rtol=1e-5, atol=1e-7)


def test_channels_count_as_one_image() -> None:
    maps, x = convolutions(3, 2, channels=2), lit([[3, 30], [20]], 50, channels=2)
    torch.testing.assert_close(column_mean(x, maps, 2).double(), maps(x).mean((2, 3)), rtol=1e-6, atol=1e-7)


def test_which_columns_are_kept() -> None:
    """Three to each side of the hit and the edges; the first of every stretch of others."""
    keep = kept_columns(lit([[20]], 50), 3)[0]
    expected = [*range(4), *range(17, 25), *range(47, 50)]
    assert keep.nonzero().flatten().tolist() == expected


def test_a_narrow_image_is_whole() -> None:
    assert kept_columns(lit([[], [4]], 7), 3).all()


def test_a_reach_too_short_would_be_wrong() -> None:
    """The test above can fail: with a shorter reach the mean is another."""
    maps, x = convolutions(3, 3), lit([[25]], 50)
    assert not torch.allclose(column_mean(x, maps, 0).double(), maps(x).mean((2, 3)), rtol=1e-6)

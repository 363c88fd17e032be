"""Networks of padded particles as users write them: encoders with a mask, a small Particle Transformer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Encoder(nn.Module):
    """Encoder layer of torch, then attention whose weights nobody asks for, then a mean over the particles.

    Smooth, so that few quadrature nodes are exact. ``x [B, M, F]``, ``padding [B, M]`` true for padding.
    """

    def __init__(self, inputs: int, outputs: int = 1, width: int = 8) -> None:
        super().__init__()
        self.embed = nn.Linear(inputs, width)
        self.layer = nn.TransformerEncoderLayer(
            width, 2, dim_feedforward=12, activation="gelu", batch_first=True, dropout=0.3
        )
        self.attend = nn.MultiheadAttention(width, 2, batch_first=True)
        self.last = nn.Linear(width, outputs)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        h = torch.tanh(self.embed(x / 20))
        h = self.layer(h, src_key_padding_mask=padding)
        h = h + self.attend(h, h, h, key_padding_mask=padding)[0]
        real = ~padding[..., None]
        return self.last((h * real).sum(1) / real.sum(1).clamp(min=1))


class SoftmaxAttention(nn.Module):
    """Attention written by hand."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.project, self.drop = heads, nn.Linear(width, 3 * width), nn.Dropout(0.3)

    def forward(self, h: Tensor, mask: Tensor) -> Tensor:
        parts = self.project(h).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = parts
        score = (q @ k.transpose(-1, -2)).masked_fill(~mask[:, None, None], -torch.inf)
        return (self.drop(score.softmax(dim=-1)) @ v).transpose(1, 2).flatten(2)


class HandWritten(nn.Module):
    """One layer of `SoftmaxAttention`; ``x [B, M, F]``, ``mask [B, M]`` true for particles."""

    def __init__(self, inputs: int, width: int = 8) -> None:
        super().__init__()
        self.embed, self.attn = nn.Linear(inputs, width), SoftmaxAttention(width, 2)
        self.last = nn.Linear(width, 1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        h = torch.tanh(self.embed(x / 20))
        h = h + self.attn(h, mask)
        return self.last((h * mask[..., None]).sum(1))


class Block(nn.Module):
    """Pre-norm block with a pair bias, on the heads of ``F.scaled_dot_product_attention``."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.norm = heads, nn.LayerNorm(width)
        self.q, self.kv, self.out = (
            nn.Linear(width, width),
            nn.Linear(width, 2 * width),
            nn.Linear(width, width),
        )

    def forward(self, query: Tensor, x: Tensor, bias: Tensor) -> Tensor:
        q, (k, v) = self.q(self.norm(query)), self.kv(self.norm(x)).chunk(2, dim=-1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (q, k, v))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return query + torch.tanh(self.out(mixed.transpose(1, 2).flatten(2)))


class ParT(nn.Module):
    """Particle Transformer: attention with a bias of the pairs, and a class token that reads the particles.

    ``x [B, F, M]``, ``pairs [B, C, M, M]``, ``mask [B, M]`` true for particles. ``token``: a class token
    stands before the particles in every layer instead.
    """

    def __init__(
        self, inputs: int, pairs: int, outputs: int = 3, width: int = 8, *, token: bool = False
    ) -> None:
        super().__init__()
        heads, self.token = 2, token
        self.embed, self.scale = nn.Linear(inputs, width), nn.BatchNorm1d(inputs)
        self.pair_embed = nn.Sequential(nn.Conv2d(pairs, 6, 1), nn.GELU(), nn.Conv2d(6, heads, 1))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(2))
        self.cls_block, self.cls = Block(width, heads), nn.Parameter(torch.randn(1, 1, width))
        self.last = nn.Linear(width, outputs)

    def forward(self, x: Tensor, pairs: Tensor, mask: Tensor) -> Tensor:
        h = torch.tanh(self.embed(self.scale(x / 20).transpose(1, 2)))
        cls, padding = self.cls.expand(len(h), 1, -1), torch.zeros(len(h), 1, 1, mask.shape[1])
        padding = padding.to(h).masked_fill(~mask[:, None, None], -torch.inf)
        bias, with_cls = self.pair_embed(pairs / 5), F.pad(padding, (1, 0))
        if self.token:
            h, bias, padding = torch.cat([cls, h], dim=1), F.pad(bias, (1, 0, 1, 0)), with_cls
        for block in self.blocks:
            h = block(h, h, bias + padding)
        cls = h[:, :1] if self.token else self.cls_block(cls, torch.cat([cls, h], dim=1), with_cls)
        return self.last(cls[:, 0])

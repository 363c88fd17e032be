# networks.py
from itertools import pairwise

import torch
from torch import nn
from torch_geometric.nn import EdgeConv, GATv2Conv, global_add_pool, global_mean_pool

from hepxai.models import knn_edges


class Standardise(nn.Module):
    """Physical values in, values of mean 0 and spread 1 out."""

    def __init__(self, x):
        super().__init__()
        self.register_buffer("mean", x.mean(0))
        self.register_buffer("scale", x.std(0) + 1e-6)

    def forward(self, x):
        return (x - self.mean) / self.scale


class EdgeBlock(nn.Module):
    """EdgeConv of ParticleNet (arXiv:1902.08570): MLP with batch normalisation, mean, shortcut."""

    def __init__(self, inputs, width):
        super().__init__()
        sizes, layers = [2 * inputs, width, width], []
        for a, b in pairwise(sizes):
            layers += [nn.Linear(a, b, bias=False), nn.BatchNorm1d(b), nn.ReLU()]
        self.conv = EdgeConv(nn.Sequential(*layers), aggr="mean")
        self.shortcut = nn.Sequential(nn.Linear(inputs, width, bias=False), nn.BatchNorm1d(width))

    def forward(self, x, edges):
        return torch.relu(self.conv(x, edges) + self.shortcut(x))


class ParticleNet(nn.Module):
    """Neighbours in η and φ first, then in the space of the features that the first block has learned."""

    def __init__(self, x, k=4, width=16):
        super().__init__()
        self.k, self.standardise = k, Standardise(x)
        self.first, self.second = EdgeBlock(x.shape[1], width), EdgeBlock(width, width)
        self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(width, 1))

    def forward(self, batch):
        x = self.standardise(batch.x)
        x = self.first(x, knn_edges(batch, self.k, ("eta", "phi")))
        x = self.second(x, knn_edges(batch, self.k, x))
        return self.head(global_mean_pool(x, batch.batch, batch.num_graphs))


class GATv2(nn.Module):
    """Attention with heads, concatenated and averaged, and features of the edges (arXiv:2105.14491)."""

    def __init__(self, x, edge_dim=2, width=8, heads=4):
        super().__init__()
        self.standardise = Standardise(x)
        self.concat = GATv2Conv(x.shape[1], width, heads=heads, edge_dim=edge_dim)
        self.mean = GATv2Conv(heads * width, width, heads=2, concat=False, edge_dim=edge_dim)
        self.last = nn.Linear(width, 1)

    def forward(self, batch):
        x = self.standardise(batch.x)
        x = torch.relu(self.concat(x, batch.edge_index, batch.edge_attr))
        x = torch.relu(self.mean(x, batch.edge_index, batch.edge_attr))
        return self.last(global_mean_pool(x, batch.batch, batch.num_graphs))


class DeepSets(nn.Module):
    """Sum over the particles of a network of each (arXiv:1703.06114): no messages."""

    def __init__(self, x, width=16):
        super().__init__()
        self.standardise = Standardise(x)
        self.each = nn.Sequential(nn.Linear(x.shape[1], width), nn.ReLU(), nn.Linear(width, width))
        self.all = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, batch):
        each = self.each(self.standardise(batch.x))
        return self.all(global_add_pool(each, batch.batch, batch.num_graphs))

"""Jets in the layout of JetClass, with a data config and networks as users of weaver have them."""

from __future__ import annotations

from pathlib import Path

import awkward as ak
import numpy as np
import uproot

CLASSES = ("label_QCD", "label_Hbb", "label_Hcc", "label_Tbqq", "label_Wqq")
DATA = """\
treename: tree
selection: (jet_pt > 400) & (np.abs(jet_eta) < 2)
new_variables:
   part_mask: ak.ones_like(part_energy)
   part_pt: np.hypot(part_px, part_py)
   part_pt_log: np.log(part_pt)
   part_e_log: np.log(part_energy)
   part_logptrel: np.log(part_pt/jet_pt)
   part_deltaR: np.hypot(part_deta, part_dphi)
   part_d0: np.tanh(part_d0val)
preprocess:
  method: manual
  data_fraction: 0.5
inputs:
   pf_points:
      length: 12
      pad_mode: wrap
      vars:
         - [part_deta, null]
         - [part_dphi, null]
   pf_features:
      length: 12
      pad_mode: wrap
      vars:
         - [part_pt_log, 1.7, 0.7]
         - [part_e_log, 2.0, 0.7]
         - [part_logptrel, -4.7, 0.7, -1, 1, 2]
         - [part_deltaR, 0.2, 4.0]
         - [part_charge, null]
         - part_isElectron
         - [part_d0, null]
         - [part_deta, null]
         - [part_dphi, null]
   pf_vectors:
      length: 12
      pad_mode: wrap
      vars:
         - [part_px, null]
         - [part_py, null]
         - [part_pz, null]
         - [part_energy, null]
   pf_mask:
      length: 12
      pad_mode: constant
      vars:
         - [part_mask, null]
labels:
   type: simple
   value: [label_QCD, label_Hbb, label_Hcc, label_Tbqq, label_Wqq]
observers:
   - jet_pt
   - jet_eta
weights:
"""
PARTICLE_TRANSFORMER = """\
import torch
from torch import nn
from weaver.nn.model.ParticleTransformer import ParticleTransformer


class Wrapper(nn.Module):
    def __init__(self, **kwargs):
        super().__init__()
        self.mod = ParticleTransformer(**kwargs)

    def forward(self, points, features, lorentz_vectors, mask):
        return self.mod(features, v=lorentz_vectors, mask=mask)


def get_model(data_config, **kwargs):
    inputs, classes = len(data_config.input_dicts["pf_features"]), len(data_config.label_value)
    model = Wrapper(
        input_dim=inputs, num_classes=classes, embed_dims=[16, 16], pair_embed_dims=[8], num_heads=2,
        num_layers=2, num_cls_layers=1, fc_params=[], block_params=None, weight_init=None, fix_init=False,
    )
    return model, {"input_names": list(data_config.input_names), "output_names": ["softmax"]}
"""
PARTICLE_NET = """\
from torch import nn
from weaver.nn.model.ParticleNet import ParticleNet


class Wrapper(nn.Module):
    def __init__(self, **kwargs):
        super().__init__()
        self.mod = ParticleNet(**kwargs)

    def forward(self, points, features, lorentz_vectors, mask):
        return self.mod(points, features, mask)


def get_model(data_config, **kwargs):
    inputs, classes = len(data_config.input_dicts["pf_features"]), len(data_config.label_value)
    model = Wrapper(input_dims=inputs, num_classes=classes, conv_params=[(3, (8, 8)), (3, (8, 8))],
                    fc_params=[(8, 0.1)])
    return model, {}
"""
PLAIN = """\
from torch import nn


class DeepSets(nn.Module):
    def __init__(self, inputs, classes):
        super().__init__()
        self.one, self.last = nn.Conv1d(inputs, 8, 1), nn.Linear(8, classes)

    def forward(self, points, features, lorentz_vectors, mask):
        return self.last((self.one(features).tanh() * mask).sum(-1))


def get_model(data_config, **kwargs):
    return DeepSets(len(data_config.input_dicts["pf_features"]), len(data_config.label_value)), {}
"""


def write_jets(path: Path, jets: int = 60, seed: int = 0) -> Path:
    """Toy jets of 2 to 15 particles, five classes; the third number is large enough for ``length: 12``."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(2, 16, jets)
    size = int(counts.sum())
    pt, deta, dphi = rng.exponential(30, size) + 1, rng.normal(0, 0.2, size), rng.normal(0, 0.2, size)
    jet = np.repeat(np.arange(jets), counts)
    jet_eta, jet_phi = rng.uniform(-2.2, 2.2, jets), rng.uniform(-3, 3, jets)
    eta, phi = jet_eta[jet] + deta, jet_phi[jet] + dphi
    columns = {
        "px": pt * np.cos(phi),
        "py": pt * np.sin(phi),
        "pz": pt * np.sinh(eta),
        "energy": np.hypot(pt * np.cosh(eta), 0.14),
        "deta": deta,
        "dphi": dphi,
        "d0val": rng.normal(0, 1, size),
        "charge": rng.choice([-1.0, 0.0, 1.0], size),
        "isElectron": rng.random(size) < 0.1,
    }
    particles = {
        f"part_{n}": ak.unflatten(c if c.dtype == bool else c.astype(np.float32), counts)
        for n, c in columns.items()
    }
    label = np.arange(jets) % len(CLASSES)
    labels = {name: (label == i).astype(np.float32) for i, name in enumerate(CLASSES)}
    jet_pt = rng.uniform(380, 1000, jets).astype(np.float32)
    with uproot.recreate(path) as file:
        file["tree"] = {
            **particles,
            **labels,
            "jet_pt": jet_pt,
            "jet_eta": jet_eta.astype(np.float32),
        }
    return path

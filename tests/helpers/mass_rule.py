"""The rule "m(μμ) > X" as a model whose logit is monotone in the pair mass, and its exact optimum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from torch import Tensor

from hepxai.core.jagged import offsets_from_counts
from hepxai.events import Events, Schema
from hepxai.events.pair_features import pair_features
from hepxai.models.graph.cloud import Cloud

MUON = 0.10566
X = 90.0
RESOLUTIONS = {
    "muon": {"pt": "0.02 * pt + 0.5", "eta": 0.03, "phi": 0.03, "max_eta": 3.0},
    "jet": {"pt": "0.1 * pt + 1", "eta": 0.05, "phi": 0.05},
    "met": {"pt": 0, "eta": 0, "phi": 0},
}


@dataclass
class MassRule:
    """Logit ``slope log(m(μμ) / X)`` from the momenta of the first two particles of an event."""

    slope: float = 5.0
    view: str = "graph"
    outputs: tuple[str, ...] = ("signal",)

    def logits(self, events: Events) -> np.ndarray:
        return self.forward_cloud(Cloud.of(events)).double().numpy()

    def forward_cloud(self, cloud: Cloud, neighbours: object = None) -> Tensor:
        first = cloud.ptr[:-1]
        mass = pair_features(cloud.p4[first].double(), cloud.p4[first + 1].double(), ("mass",))
        return self.slope * (mass / X).log()

    def neighbour_lists(self, cloud: Cloud) -> dict[str, object]:
        return {}


@dataclass
class FeatureMassRule(MassRule):
    """The same rule from the features energy, px, py, pz."""

    def forward_cloud(self, cloud: Cloud, neighbours: object = None) -> Tensor:
        first = cloud.ptr[:-1]
        total = (cloud.x[first] + cloud.x[first + 1])[:, :4].double()
        square = total[:, 0] ** 2 - (total[:, 1:] ** 2).sum(1)
        return self.slope * (square.clamp(min=1e-6).sqrt() / X).log()[:, None]


@dataclass
class PtRule(MassRule):
    """Logit ``Σ_i w_i pt_i - threshold`` with w = 1, or +1 and -1 for the first two particles."""

    threshold: float = 0.0
    difference: bool = False

    def forward_cloud(self, cloud: Cloud, neighbours: object = None) -> Tensor:
        pt = cloud.p4[:, :1]
        if self.difference:
            first = cloud.ptr[:-1]
            return pt[first] - pt[first + 1] - self.threshold
        return cloud.event_sum(pt) - self.threshold


def dimuon_events(n: int = 240, seed: int = 0, *, jets: int = 2) -> Events:
    """Two muons of 40 to 160 GeV together, jets and missing momentum; label from the rule."""
    rng = np.random.default_rng(seed)
    size = 3 + jets
    pt = rng.uniform(20, 90, (n, size))
    eta, phi = rng.uniform(-2, 2, (n, size)), rng.uniform(-np.pi, np.pi, (n, size))
    mass = np.zeros((n, size))
    mass[:, :2] = MUON
    mass[:, 2 : 2 + jets] = rng.uniform(5, 15, (n, jets))
    eta[:, -1] = 0
    delta = np.sqrt(((eta[:, 0] - eta[:, 1]) ** 2) + np.abs(phi[:, 0] - phi[:, 1]) ** 2)
    phi[:, 1] = np.where(delta < 0.6, phi[:, 0] + 1.0, phi[:, 1])  # not collinear
    phi = np.remainder(phi + np.pi, 2 * np.pi) - np.pi
    p4 = np.stack([pt, eta, phi, mass], axis=-1).reshape(-1, 4).astype(np.float32)
    x = features_of(p4.astype(np.float64))
    kind = np.tile([0, 0, *[1] * jets, 2], n)
    schema = Schema(
        features=("energy", "px", "py", "pz", "log_pt", "charge"),
        units=("GeV",) * 4 + ("", ""),
        types=("muon", "jet", "met"),
        classes=("background", "signal"),
    )
    index = np.where(kind == 2, -1, np.tile([0, 1, *range(jets), 0], n))
    charge = np.where(kind == 0, rng.choice([-1, 1], n * size), 0)
    whole = np.zeros(n, dtype=np.int64)
    return Events(
        schema=schema,
        offsets=offsets_from_counts(np.full(n, size)),
        particles=np.column_stack([x, charge]).astype(np.float32),
        p4=p4,
        type=kind,
        index=index,
        label=(masses(p4.reshape(n, size, 4)) > X).astype(np.int64),
        weight=rng.choice([1.0, -0.5], n, p=[0.9, 0.1]),
        globals=np.zeros((n, 0), dtype=np.float32),
        run=whole,
        luminosity_block=whole,
        event=np.arange(n),
        file=whole,
        entry=np.arange(n),
        split=whole,
        files=("memory",),
        file_entries=(n,),
    )


def features_of(p4: np.ndarray) -> np.ndarray:
    """energy, px, py, pz, log_pt of momenta ``[N, 4]``."""
    pt, eta, phi, mass = p4.T
    energy = np.sqrt((pt * np.cosh(eta)) ** 2 + mass**2)
    return np.stack([energy, pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), np.log(pt)], axis=1)


def masses(p4: np.ndarray) -> np.ndarray:
    """m(μμ) ``[E]`` of the first two of ``p4 [E, M, 4]``."""
    total = sum(features_of(p4[:, k].astype(np.float64))[:, :4] for k in (0, 1))
    return np.sqrt(np.maximum(total[:, 0] ** 2 - (total[:, 1:] ** 2).sum(1), 0))


def square_and_slope(p4: np.ndarray) -> tuple[float, np.ndarray]:
    """m² of two particles ``p4 [2, 4]``, and its derivatives by pt, η and φ of both, ``[2, 3]``.

    m² = m1² + m2² + 2 (E1 E2 - pz1 pz2 - pt1 pt2 cos Δφ), with E² = (pt cosh η)² + m² and pz = pt sinh η.
    """
    (pt, eta, phi, mass), other = p4.T, [1, 0]
    energy, z, delta = np.sqrt((pt * np.cosh(eta)) ** 2 + mass**2), pt * np.sinh(eta), phi - phi[other]
    square = np.sum(mass**2) + 2 * (np.prod(energy) - np.prod(z) - np.prod(pt) * np.cos(delta[0]))
    by_pt = (
        pt * np.cosh(eta) ** 2 / energy * energy[other] - np.sinh(eta) * z[other] - pt[other] * np.cos(delta)
    )
    by_eta = pt**2 * np.cosh(eta) * np.sinh(eta) / energy * energy[other] - pt * np.cosh(eta) * z[other]
    return float(square), 2 * np.stack([by_pt, by_eta, np.prod(pt) * np.sin(delta)], axis=1)


def exact_chi2(p4: np.ndarray, sigma: np.ndarray, goal: float = X, most: float = 3.0) -> float:
    """Minimal χ² with m = goal for two muons ``p4 [2, 4]``, ``sigma [2, 3]``: one event, by SLSQP.

    Stationary points of χ² + λ (m² - goal²), from several starts.
    """
    p4 = p4.astype(np.float64)

    def constraint(u: np.ndarray) -> tuple[float, np.ndarray]:
        moved = p4.copy()
        moved[:, :3] += sigma * u.reshape(2, 3)
        square, slope = square_and_slope(moved)
        return square / goal**2 - 1, (slope * sigma).ravel() / goal**2

    low = np.stack([-0.999 * p4[:, 0], -most - p4[:, 1], [-np.pi] * 2], axis=1) / sigma
    high = np.stack([[np.inf] * 2, most - p4[:, 1], [np.pi] * 2], axis=1) / sigma
    value, slope = constraint(np.zeros(6))
    linear = -value * slope / (slope @ slope)
    best = np.inf
    for start in (linear, 0.3 * linear):
        end = minimize(
            lambda u: (u @ u, 2 * u),
            np.clip(start, low.ravel(), high.ravel()),
            jac=True,
            bounds=np.stack([low.ravel(), high.ravel()], axis=1),
            constraints={"type": "eq", "fun": lambda u: constraint(u)[0], "jac": lambda u: constraint(u)[1]},
            options={"maxiter": 300, "ftol": 1e-10},
        )
        if end.success and abs(constraint(end.x)[0]) < 1e-5:
            best = min(best, float(end.fun))
    return best

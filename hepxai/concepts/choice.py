"""Number of concepts: reconstruction error, fidelity and stability against it, and a rule that chooses."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from hepxai.concepts.factorisation import check_number, nonnegative_directions
from hepxai.concepts.fidelity import reconstruction
from hepxai.concepts.ice import POSITIONS, split
from hepxai.concepts.layers import layer_of, position_sample
from hepxai.concepts.result import estimate_from_json, estimate_to_json
from hepxai.core.estimate import Estimate
from hepxai.core.fingerprint import fingerprint
from hepxai.core.resume import ResumableState
from hepxai.events import Events
from hepxai.explainers.base import CheckWarning
from hepxai.explainers.guards import check_scores
from hepxai.models.protocols import HasLayerCut
from hepxai.models.target import decides_classes

Array = NDArray[np.float64]
NUMBERS = (2, 5, 10, 15, 20, 30)
RULE = "smallest number of concepts whose fidelity is within one standard error of the best"


@dataclass(frozen=True)
class ConceptChoice:
    """Quality of several numbers of concepts.

    Attributes
    ----------
    layer : str
    merit : str
        "equal decisions", or "R²" of a regression (mean over the outputs).
    numbers, seeds : tuple of int
        Lengths N and S.
    error, fidelity : Estimate, shape [N, S]
        Relative error of the layer and fidelity on the test events, with the statistical errors of these
        events, which are the same for all.
    similarity : ndarray, shape [N, S (S - 1) / 2]
        Mean cosine of the directions of two seeds, matched one to one.
    chance : ndarray, shape [N]
        The same of random non-negative directions.
    settings : mapping
        Everything needed to repeat it (JSON values).
    """

    layer: str
    merit: str
    numbers: tuple[int, ...]
    seeds: tuple[int, ...]
    error: Estimate
    fidelity: Estimate
    similarity: Array
    chance: Array
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<ConceptChoice: {self.number} of {', '.join(map(str, self.numbers))} concepts>"

    @property
    def mean_fidelity(self) -> Estimate:
        """Mean over the seeds, ``[N]``, with the statistical error and that of the mean in quadrature."""
        return mean_over_seeds(self.fidelity)

    @property
    def best(self) -> int:
        """Position of the number with the largest mean fidelity.

        Raises
        ------
        ValueError
            If no number has one.
        """
        value = self.mean_fidelity.value
        if not np.isfinite(value).any():
            raise ValueError(
                f"the {self.merit} is undefined for every number of concepts: the outputs do not vary over "
                "the test events; give others as test="
            )
        return int(np.nanargmax(value))

    @property
    def threshold(self) -> float:
        """Best mean fidelity less its standard error."""
        mean, best = self.mean_fidelity, self.best
        return float(mean.value[best] - np.nan_to_num(mean.error[best]))

    @property
    def number(self) -> int:
        """Chosen number: the smallest whose mean fidelity reaches `threshold` (one-standard-error rule).

        See Breiman et al., Classification and Regression Trees (1984), sec. 3.4.3.
        """
        return self.numbers[int(np.argmax(self.mean_fidelity.value >= self.threshold))]

    @property
    def reason(self) -> str:
        """Reason of the choice in one sentence."""
        mean = self.mean_fidelity
        values = {n: mean.at((i,)) for i, n in enumerate(self.numbers)}
        best = self.numbers[self.best]
        return (
            f"{self.number} concepts ({self.merit} {values[self.number]}): the {RULE} "
            f"({values[best]} with {best}){f'. {self.limit}' if self.limit else ''}"
        )

    @property
    def limit(self) -> str:
        """Remark if the best number is the largest that was tried, and the layer can have more; or empty."""
        largest, most = self.numbers[-1], self.settings.get("most", 0)
        if self.numbers[self.best] < largest or largest >= most:
            return ""
        return (
            f"The best number is the largest that was tried, {largest}: the {self.merit} may still rise; try "
            f"larger ones, up to {most}, by numbers=[…], or by --concepts on the command line"
        )

    def to_json(self) -> dict[str, Any]:
        """Numbers, lists and texts."""
        return {
            "layer": self.layer,
            "merit": self.merit,
            "numbers": list(self.numbers),
            "seeds": list(self.seeds),
            "error": estimate_to_json(self.error),
            "fidelity": estimate_to_json(self.fidelity),
            "similarity": self.similarity.tolist(),
            "chance": self.chance.tolist(),
            "settings": dict(self.settings),
        }

    @staticmethod
    def from_json(stored: Mapping[str, Any]) -> ConceptChoice:
        """Choice from the output of `to_json`, possibly read from JSON."""
        return ConceptChoice(
            stored["layer"],
            stored["merit"],
            tuple(stored["numbers"]),
            tuple(stored["seeds"]),
            estimate_from_json(stored["error"]),
            estimate_from_json(stored["fidelity"]),
            np.asarray(stored["similarity"], dtype=np.float64).reshape(len(stored["numbers"]), -1),
            np.asarray(stored["chance"], dtype=np.float64),
            stored["settings"],
        )


def mean_over_seeds(values: Estimate) -> Estimate:
    """Mean over the last axis; the statistical errors of the seeds are fully correlated."""
    seeds = values.value.shape[-1]
    spread = values.value.std(axis=-1, ddof=1) / np.sqrt(seeds) if seeds > 1 else 0.0
    error = np.hypot(values.error.mean(axis=-1), spread)
    return Estimate(values.value.mean(axis=-1), np.asarray(error), values.n_eff)


def choose_concepts(
    model: HasLayerCut,
    events: Events,
    numbers: Sequence[int] | None = None,
    *,
    test: Events | None = None,
    layer: str | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    positions: int = POSITIONS,
    progress: bool = False,
    unfinished: str | Path | None = None,
) -> ConceptChoice:
    """Compare numbers of concepts, and choose one by a rule that is stated.

    Every number is factorised with each seed, which draws other positions and another start; see
    `hepxai.concepts.ice.ice` for the parameters that both share. The directions of two seeds are matched one
    to one so that the sum of their cosines is largest [Kuhn, Nav. Res. Logist. Q. 2 (1955) 83]: a mean near 1
    says that the concepts do not depend on the seed.

    Parameters
    ----------
    numbers : sequence of int, optional
        Numbers of concepts; by default those of 2, 5, 10, 15, 20, 30 that are at most the number of channels.
    seeds : sequence of int
    unfinished : path, optional
        File for the state of an interrupted comparison, which resumes there.

    Returns
    -------
    ConceptChoice

    Raises
    ------
    CannotExplainError, ValueError
        As `hepxai.concepts.ice.ice`.

    Warns
    -----
    CheckWarning
        If the best number is the largest that was tried, and the layer can have more.
    """
    layer = layer_of(model, layer)
    check_scores(model, events)
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds={list(seeds)}: one or more different seeds are needed")
    train, test = split(events, test)
    vectors = {seed: position_sample(model, train, layer, positions, seed) for seed in seeds}
    shape = min(v.shape for v in vectors.values())
    chosen = sorted({n for n in NUMBERS if n <= min(shape)} if numbers is None else set(numbers)) or [1]
    for number in chosen:
        check_number(number, shape, layer)
    tried = [(number, seed) for number in chosen for seed in seeds]
    directions = np.zeros((len(tried), chosen[-1], shape[1]))
    quality = np.zeros((len(tried), 2, 3))  # of error and fidelity: value, error, effective number
    settings = {"layer": layer, "positions": positions, "events": len(train), "test_events": len(test)}
    key = "" if unfinished is None else fingerprint([settings, tried], model, train, test)
    state = ResumableState(unfinished, key, {"directions": directions, "quality": quality})
    for block in state.blocks("numbers of concepts", len(tried), 1, progress=progress):
        number, seed = tried[block.start]
        rows = nonnegative_directions(vectors[seed], number, seed, layer).values
        result = reconstruction(model, test, layer, rows)
        directions[block, : len(rows)] = rows
        quality[block] = [
            [float(e.value), float(e.error), e.n_eff] for e in (result.error, result.figure_of_merit)
        ]
    fits = [rows[rows.any(axis=1)] for rows in directions]  # those that vanish are left out
    pairs = [fits[i : i + len(seeds)] for i in range(0, len(fits), len(seeds))]
    values, errors, effective = quality.reshape(len(chosen), len(seeds), 2, 3).transpose(3, 2, 0, 1)
    n_eff = float(effective.min())
    error, fidelity = (Estimate(values[i], errors[i], n_eff) for i in (0, 1))
    choice = ConceptChoice(
        layer,
        "equal decisions" if decides_classes(model.outputs, test.schema) else "R²",
        tuple(chosen),
        tuple(seeds),
        error,
        fidelity,
        np.array([[similarity(a, b) for a, b in combinations(p, 2)] for p in pairs]),
        np.array([_chance(n, shape[1]) for n in chosen]),
        settings | {"most": min(shape)},
    )
    if np.isfinite(fidelity.value).any() and choice.limit:
        warnings.warn(choice.limit, CheckWarning, stacklevel=2)
    return choice


def similarity(one: Array, other: Array) -> float:
    """Mean cosine of two sets of directions ``[K, c]`` of length 1, matched one to one."""
    cosines = one @ other.T
    matched = linear_sum_assignment(-cosines)
    return float(cosines[matched].mean())


def _chance(number: int, channels: int, draws: int = 20) -> float:
    rng = np.random.default_rng(0)
    sets = np.abs(rng.normal(size=(draws, 2, number, channels)))
    sets /= np.linalg.norm(sets, axis=3, keepdims=True)
    return float(np.mean([similarity(a, b) for a, b in sets]))

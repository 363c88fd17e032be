"""Maps of single events: with and without low-pass filter, baselines, masks, gradients, Shapley values, CAM.

For one network of each data set with images of many classes. Events are the first of their class that the
network classifies rightly. See ``--help``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from image_networks import CASES, EVENTS, JETS, MUONS, Case, case_maps, networks_and_events
from pixel_maps import stored_map

from hepxai import Attribution, Events, plots
from hepxai.attribution.residuals import relative_residual
from hepxai.core.estimate import Estimate
from hepxai.core.formatting import general
from hepxai.metrics.averages import median
from hepxai.metrics.pixels import dark_share, hit_rank_agreement
from hepxai.plots.class_maps import class_mean_maps
from hepxai.report.study import StudyPage, study_options
from hepxai.studies.comparison.figures import convergence_figure

SHOWN = ("shower", "top")
"""Cases whose first event is drawn."""
RISE = ((20_000, 13, 0), (100, 13, 0), (20_000, 13, 1), (10_000, 2, 0))
"""Masks, grid and seed."""
GRADIENTS: Mapping[str, Mapping[str, Any]] = {
    "saliency": {"method": "saliency"},
    "capped saliency": {"method": "capped_saliency"},
    "SmoothGrad": {"method": "smoothgrad", "samples": 20},
    "IG": {"method": "image_ig"},
}
MUON_CLASSES = ("high_plus", "two_muons", "hot_strips")
CAMS: Mapping[str, Mapping[str, Any]] = {
    "Grad-CAM": {"method": "grad_cam"},
    "Eigen-CAM": {"method": "eigen_cam"},
    "Ablation-CAM, 10 %": {"method": "ablation_cam", "ratio_channels_to_ablate": 0.1},
    "Ablation-CAM, all": {"method": "ablation_cam", "ratio_channels_to_ablate": 1.0},
}
LAYERS = 2
"""Layers of the class activation maps, from the last one."""


@dataclass(frozen=True)
class Examples:
    """Events and one network of each data set, and the page that is drawn on."""

    page: StudyPage
    events: Mapping[str, Events]
    models: Mapping[str, Any]
    quick: bool

    def maps(self, key: str, names: Sequence[str]) -> dict[str, Attribution]:
        """Maps of `METHODS` for a case."""
        data, folder = CASES[key].dataset, self.page.folder / "maps"
        return case_maps(folder, self.models[data], CASES[key], self.events[data], names, self.quick)

    def map(self, dataset: str, events: Events, target: str, settings: Mapping[str, Any]) -> Attribution:
        """Map of a method with given settings."""
        folder = self.page.folder / "maps"
        return stored_map(folder, self.models[dataset], events, target=target, **settings)

    def draw(self, name: str, key: str, maps: Mapping[str, Attribution], text: str) -> None:
        """Maps of the first event of a case that the network classifies rightly."""
        case = CASES[key]
        event, right = first_right(self.models[case.dataset], next(iter(maps.values())).events)
        state = "classified rightly" if right else "none is classified rightly: the first of all"
        text += f" Target {case.target}; hits of `{case.truth}` are framed. First event of the case, {state}."
        self.page.figure(name, convergence_figure(maps, event, truth=case.truth), text)


def main() -> None:
    """Train a network of each data set and draw; write ``image_examples.md``."""
    options = study_options(__file__, __doc__, dataset=MUONS, quick="small networks, few events and masks")
    page = StudyPage(options.out, "image_examples")
    events, models = networks_and_events(page, options.quick, trainings=1)
    examples(page, events, {name: m[0] for name, m in models.items()}, options.quick)
    print(page.write("# Maps of single events"))


def examples(page: StudyPage, events: Mapping[str, Events], models: Mapping[str, Any], quick: bool) -> None:
    """All figures."""
    study = Examples(page, events, models, quick)
    for part in (smoothing, baselines, masks, gradients, selections, activation_maps):
        part(study)


def first_right(model: Any, events: Events) -> tuple[int, bool]:
    """First event that a network classifies rightly, and True; 0 and False if there is none."""
    right = model.logits(events).argmax(1) == events.label
    return int(right.argmax()), bool(right.any())


def smoothing(study: Examples) -> None:
    """Integrated Gradients and occlusion, with and without low-pass filter."""
    page = study.page
    page.heading("With and without FORGrad")
    for key in SHOWN:
        names = ("IG", "IG, FORGrad", "occlusion", "occlusion, FORGrad")
        maps, removed = study.maps(key, names), []
        for name in names[1::2]:
            power = page.facts[f"power removed, {name}, {key}"] = (
                f"{100 * maps[name].checks['power_removed']:.1f} %"
            )
            removed.append(f"{name} {power}")
        waves = maps[names[-1]].settings["shortest_wave"]
        study.draw(f"forgrad_{key}", key, maps, f"{key}, with and without FORGrad.")
        page.text(
            f"{key}: waves shorter than {waves:.3g} pixels are removed, with this share of the power of the "
            f"maps of {len(maps['IG'].events)} events: {', '.join(removed)}. What that does to the "
            "faithfulness: see below."
        )


def baselines(study: Examples) -> None:
    """Integrated Gradients from two baselines."""
    study.page.heading("Integrated Gradients: baseline 0 and 0.5")
    rows = []
    for key in SHOWN:
        maps = study.maps(key, ("IG", "IG, baseline 0.5"))
        study.draw(f"baseline_{key}", key, maps, f"{key}, two baselines.")
        for name, attribution in maps.items():
            cells = {
                f"residual, {name}, {key}": median(relative_residual(attribution)),
                f"on dark pixels, {name}, {key}": dark_share(attribution),
            }
            study.page.numbers |= {k: e for k, e in cells.items() if e.error > 0}
            rows.append([key, name, *map(str, cells.values())])
    study.page.table(
        ("case", "map", "relative residual", "share of the |map| on dark pixels"),
        rows,
        "Residual: median, of the sum of the map from the change of the output. Pixels at 0 are dark: from "
        "a baseline of 0 they cannot contribute.",
    )


def masks(study: Examples) -> None:
    """RISE with four settings."""
    page, case = study.page, CASES["top"]
    page.heading("RISE: masks and grids")
    chosen, maps, rows = case.events(study.events[JETS], EVENTS[study.quick])[:2], {}, []
    for number, grid, seed in RISE:
        number = number // 20 if study.quick else number
        settings = {"method": "rise", "samples": number, "grid": grid, "seed": seed, "tolerance": 0.0}
        name = f"{number:,} masks, {grid} × {grid}{', again' if seed else ''}"
        maps[name] = study.map(JETS, chosen, case.target, settings)
        rows.append([name, general(maps[name].checks["relative_error"], 3)])
        page.facts[f"relative error of RISE, {name}"] = rows[-1][-1]
    first, *others = maps.values()
    few, again = (float(hit_rank_agreement(first, other).mean.value) for other in others[:2])
    page.facts["RISE with other masks"] = f"{again:.3f}"
    study.draw("rise", "top", maps, "RISE with four settings, cells shown with a probability of 0.5.")
    page.table(
        ("setting", "error of a value / spread of the map"),
        rows,
        f"Mean of {len(chosen)} events. Near 1 a map is noise. Rank correlation over the lit pixels of the "
        f"first setting with the same setting and other masks: {again:.3f}; with the second one: {few:.3f}."
        + (" A quick run has a twentieth of the masks." if study.quick else ""),
    )


def gradients(study: Examples) -> None:
    """One event of several classes, and class-wise means."""
    study.page.heading("Gradients, class by class")
    number = 10 if study.quick else 40
    for dataset, classes in ((MUONS, MUON_CLASSES), (JETS, study.events[JETS].schema.classes)):
        model, maps = study.models[dataset], {}
        for name in classes:
            case = Case(dataset, (name,), f"{name}-rest", "")
            chosen = case.events(study.events[dataset], len(study.events[dataset]))
            chosen = chosen[np.unique([first_right(model, chosen)[0], *range(min(len(chosen), number))])]
            maps[name] = {m: study.map(dataset, chosen, case.target, s) for m, s in GRADIENTS.items()}
            if dataset == MUONS:
                truth = "fromFault" if name == "hot_strips" else "fromMuon"
                figure = convergence_figure(maps[name], first_right(model, chosen)[0], truth=truth)
                caption = f"One event of `{name}`, target {case.target}."
                study.page.figure(f"gradients_{name}", figure, caption)
        if dataset == JETS:
            jets_of_each_class(study.page, maps, model)
        for m in ("saliency", "IG"):
            figure = class_mean_maps({name: of[m] for name, of in maps.items()}, scale="own")
            caption = (
                f"Mean {m} of `NAME-rest` over {len(chosen)} test events of each class or fewer, `{dataset}`."
            )
            study.page.figure(f"class_means_{dataset}_{m.lower()}", figure, caption)


def jets_of_each_class(page: StudyPage, maps: Mapping[str, Mapping[str, Attribution]], model: Any) -> None:
    """Image and maps of one jet of each class."""
    caption = "One jet of each class that is classified rightly, if any: energies, and maps of `CLASS-rest`."
    with page.panels("gradients_jets", caption, len(GRADIENTS) + 1, len(maps), (4.0, 3.4)) as frames:
        for column, (name, of_class) in enumerate(maps.items()):
            chosen = of_class["saliency"].events
            row, _ = first_right(model, chosen)
            plots.energy_image(chosen, row, ax=frames[column])
            frames[column].set_title(name, loc="left", fontsize="small")
            for line, (method, attribution) in enumerate(of_class.items(), start=1):
                ax = frames[line * len(maps) + column]
                plots.attribution_image(attribution, row, title=f"{method}, {name}", ax=ax)
        for i, ax in enumerate(frames):
            ax.label_outer() if i % len(maps) else None


def selections(study: Examples) -> None:
    """Shapley values and the patches of L2X."""
    page = study.page
    page.heading("Shapley values and L2X")
    rows = []
    for key in SHOWN:
        maps = study.maps(key, ("GradientSHAP", "PartitionSHAP", "L2X"))
        study.draw(f"shap_{key}", key, maps, f"{key}, Shapley values and probabilities of L2X.")
        checks = maps["L2X"].checks
        gain = Estimate(
            *map(np.asarray, (checks["gain_over_random"], checks["gain_over_random_error"])), np.nan
        )
        shares = [general(checks[f"{what}_accuracy"], 3) for what in ("post_hoc", "random", "constant")]
        settings = maps["L2X"].settings
        sizes = f"{settings['k']} of {settings['patch'][0]} × {settings['patch'][1]} pixels"
        rows.append([key, sizes, *shares, page.number(f"gain of L2X over random patches, {key}", gain)])
    page.table(
        ("case", "patches", "same decision", "random patches", "constant answer", "gain over random patches"),
        rows,
        "Decision of the network between the classes of the target for the selected patches alone, the rest "
        "at 0: share of the training events held out from L2X for which it is that for the whole image. "
        "Constant answer: share of the most frequent decision.",
    )


def activation_maps(study: Examples) -> None:
    """Class activation maps at two layers."""
    page = study.page
    page.heading("Class activation maps at two layers")
    for key in SHOWN:
        case = CASES[key]
        layers = study.models[case.dataset].feature_layers[-LAYERS:]
        chosen = case.events(study.events[case.dataset], EVENTS[study.quick])
        maps = {
            f"{name}, {layer}": study.map(case.dataset, chosen, case.target, {"layer": layer, **settings})
            for layer in layers
            for name, settings in CAMS.items()
        }
        study.draw(f"cam_{key}", key, maps, f"{key}, class activation maps.")
        for layer in layers:
            few, every = (maps[f"Ablation-CAM, {part}, {layer}"] for part in ("10 %", "all"))
            pair = hit_rank_agreement(few, every).mean
            if float(pair.error) > 0:
                text = page.number(f"Ablation-CAM, a tenth and all channels, {key}, {layer}", pair)
                page.text(
                    f"{key}, layer {layer}: a tenth of the channels has "
                    f"{100 * few.checks['ablated_activation']:.0f} % of the activation; rank correlation of "
                    f"that map with the one of all channels, over the lit pixels: {text}."
                )


if __name__ == "__main__":
    main()

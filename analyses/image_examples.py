"""Maps of single events: with and without low-pass filter, baselines, masks, gradients, Shapley values, CAM.

For one network of each data set with images of many classes. Events are the first of their class that the
network classifies rightly. See ``--help``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from image_networks import CASES, EVENTS, JETS, MUONS, Case, case_maps, networks_and_events
from pixel_maps import stored_map

from hepxai import Attribution, Events, plots
from hepxai.attribution.residuals import relative_residual
from hepxai.core.estimate import Estimate
from hepxai.core.formatting import general
from hepxai.metrics.averages import mean, median
from hepxai.metrics.pixels import LitPixels, hit_rank_agreement
from hepxai.plots.class_maps import class_mean_maps
from hepxai.report.study import StudyPage, study_options
from hepxai.studies.comparison.figures import convergence_figure

Models = Mapping[str, Any]
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
LAYERS = 2
"""Layers of the class activation maps, from the last one."""


def main() -> None:
    """Train a network of each data set and draw; write ``image_examples.md``."""
    options = study_options(__file__, __doc__, dataset=MUONS, quick="small networks, few events and masks")
    page = StudyPage(options.out, "image_examples")
    events, models = networks_and_events(page, options.quick, trainings=1)
    examples(page, events, {name: m[0] for name, m in models.items()}, options.quick)
    print(page.write("# Maps of single events"))


def examples(page: StudyPage, events: Mapping[str, Events], models: Models, quick: bool) -> None:
    """All figures."""
    smoothing(page, events, models, quick)
    baselines(page, events, models, quick)
    masks(page, events[JETS], models[JETS], quick)
    gradients(page, events, models, quick)
    selections(page, events, models, quick)
    activation_maps(page, events, models, quick)


def of_case(
    page: StudyPage,
    case: Case,
    events: Mapping[str, Events],
    models: Models,
    quick: bool,
    names: Sequence[str],
) -> dict[str, Attribution]:
    """Maps of `METHODS` for a case."""
    return case_maps(page.folder / "maps", models[case.dataset], case, events[case.dataset], names, quick)


def draw(
    page: StudyPage, key: str, case: Case, maps: Mapping[str, Attribution], models: Models, text: str
) -> None:
    """Maps of the first event of a case that the network classifies rightly."""
    chosen = next(iter(maps.values())).events
    right = models[case.dataset].logits(chosen).argmax(1) == chosen.label
    event = int(np.flatnonzero(right)[0]) if right.any() else 0
    state = "classified rightly" if right.any() else "none is classified rightly: the first of all"
    figure = convergence_figure(maps, event, truth=case.truth)
    frames = f"Target {case.target}; hits of `{case.truth}` are framed. First event of the case, {state}."
    page.figure(key, figure, f"{text} {frames}")


def smoothing(page: StudyPage, events: Mapping[str, Events], models: Models, quick: bool) -> None:
    """Integrated Gradients and occlusion, with and without low-pass filter."""
    page.heading("With and without FORGrad")
    for key in SHOWN:
        names = ("IG", "IG, FORGrad", "occlusion", "occlusion, FORGrad")
        maps, removed = of_case(page, CASES[key], events, models, quick, names), []
        for name in names[1::2]:
            checks, waves = maps[name].checks, maps[name].settings["shortest_wave"]
            page.facts[f"power removed, {name}, {key}"] = f"{100 * checks['power_removed']:.1f} %"
            removed.append(f"{name} {page.facts[f'power removed, {name}, {key}']}")
        draw(page, f"forgrad_{key}", CASES[key], maps, models, f"{key}, with and without FORGrad.")
        page.text(
            f"{key}: waves shorter than {waves:.3g} pixels are removed, with this share of the power of the "
            f"maps of {len(maps['IG'].events)} events: {', '.join(removed)}. What that does to the "
            "faithfulness: see below."
        )


def baselines(page: StudyPage, events: Mapping[str, Events], models: Models, quick: bool) -> None:
    """Integrated Gradients from two baselines."""
    page.heading("Integrated Gradients: baseline 0 and 0.5")
    rows = []
    for key in SHOWN:
        maps = of_case(page, CASES[key], events, models, quick, ("IG", "IG, baseline 0.5"))
        draw(page, f"baseline_{key}", CASES[key], maps, models, f"{key}, two baselines.")
        for name, attribution in maps.items():
            residual = median(relative_residual(attribution))
            cells = {
                f"residual, {name}, {key}": residual,
                f"on dark pixels, {name}, {key}": on_dark(attribution),
            }
            page.numbers |= {k: e for k, e in cells.items() if e.error > 0}
            rows.append([key, name, *map(str, cells.values())])
    page.table(
        ("case", "map", "relative residual", "share of the |map| on dark pixels"),
        rows,
        "Residual: median, of the sum of the map from the change of the output. Pixels at 0 are dark: from "
        "a baseline of 0 they cannot contribute.",
    )


def on_dark(attribution: Attribution) -> Estimate:
    """Share of the |map| on dark pixels."""
    lit, values = LitPixels.lit(attribution.events), np.abs(attribution.values)
    total = values.reshape(len(values), -1).sum(1)
    on_lit = np.bincount(lit.event, lit.of(attribution), minlength=len(values))
    return mean(1 - on_lit / np.where(total > 0, total, np.nan))


def masks(page: StudyPage, events: Events, model: Any, quick: bool) -> None:
    """RISE with four settings."""
    page.heading("RISE: masks and grids")
    case, maps, rows = CASES["top"], {}, []
    chosen = case.events(events, EVENTS[quick])[:2]
    for number, grid, seed in RISE:
        number = number // 20 if quick else number
        settings = {"samples": number, "grid": grid, "seed": seed, "tolerance": 0.0}
        name = f"{number:,} masks, {grid} × {grid}{', again' if seed else ''}"
        maps[name] = stored_map(page.folder / "maps", model, chosen, "rise", case.target, **settings)
        rows.append([name, general(maps[name].checks["relative_error"], 3)])
        page.facts[f"relative error of RISE, {name}"] = rows[-1][-1]
    names = list(maps)
    again = float(hit_rank_agreement(maps[names[0]], maps[names[2]]).mean.value)
    few = float(hit_rank_agreement(maps[names[0]], maps[names[1]]).mean.value)
    page.facts["RISE with other masks"] = f"{again:.3f}"
    draw(
        page,
        "rise",
        case,
        maps,
        {JETS: model},
        "RISE with four settings, cells shown with a probability of 0.5.",
    )
    page.table(
        ("setting", "error of a value / spread of the map"),
        rows,
        f"Mean of {len(chosen)} events. Near 1 a map is noise. Rank correlation over the lit pixels of the "
        f"first setting with the same setting and other masks: {again:.3f}; with the second one: {few:.3f}."
        + (" A quick run has a twentieth of the masks." if quick else ""),
    )


def gradients(page: StudyPage, events: Mapping[str, Events], models: Models, quick: bool) -> None:
    """One event of several classes, and class-wise means."""
    page.heading("Gradients, class by class")
    for dataset, classes in ((MUONS, MUON_CLASSES), (JETS, events[JETS].schema.classes)):
        test, model = events[dataset].where("test"), models[dataset]
        maps: dict[str, dict[str, Attribution]] = {}
        for name in classes:
            chosen = test[np.flatnonzero(test.label == test.schema.classes.index(name))]
            right = np.flatnonzero(model.logits(chosen).argmax(1) == chosen.label)
            first = int(right[0]) if len(right) else 0
            chosen = chosen[np.unique([first, *range(min(len(chosen), 10 if quick else 40))])]
            maps[name] = {
                m: stored_map(page.folder / "maps", model, chosen, target=f"{name}-rest", **s)
                for m, s in GRADIENTS.items()
            }
            row = int(np.flatnonzero(model.logits(chosen).argmax(1) == chosen.label)[0]) if len(right) else 0
            if dataset == MUONS:
                case = Case(
                    MUONS, (name,), f"{name}-rest", "fromFault" if name == "hot_strips" else "fromMuon"
                )
                figure = convergence_figure(maps[name], row, truth=case.truth)
                page.figure(f"gradients_{name}", figure, f"One event of `{name}`, target {name}-rest.")
        if dataset == JETS:
            jets_of_each_class(page, maps, model)
        for m in ("saliency", "IG"):
            figure = class_mean_maps({name: of[m] for name, of in maps.items()}, scale="own")
            caption = (
                f"Mean {m} of `NAME-rest` over {len(chosen)} test events of each class or fewer, `{dataset}`."
            )
            page.figure(f"class_means_{dataset}_{m.lower()}", figure, caption)


def jets_of_each_class(page: StudyPage, maps: Mapping[str, Mapping[str, Attribution]], model: Any) -> None:
    """Image and maps of one jet of each class."""
    caption = "One jet of each class that is classified rightly, if any: energies, and maps of `CLASS-rest`."
    with page.panels("gradients_jets", caption, len(GRADIENTS) + 1, len(maps), (4.0, 3.4)) as frames:
        for column, (name, of_class) in enumerate(maps.items()):
            chosen = of_class["saliency"].events
            right = np.flatnonzero(model.logits(chosen).argmax(1) == chosen.label)
            row = int(right[0]) if len(right) else 0
            plots.energy_image(chosen, row, ax=frames[column])
            frames[column].set_title(name, loc="left", fontsize="small")
            for line, (method, attribution) in enumerate(of_class.items(), start=1):
                ax = frames[line * len(maps) + column]
                plots.attribution_image(attribution, row, title=f"{method}, {name}", ax=ax)
        for i, ax in enumerate(frames):
            ax.label_outer() if i % len(maps) else None


def selections(page: StudyPage, events: Mapping[str, Events], models: Models, quick: bool) -> None:
    """Shapley values and the patches of L2X."""
    page.heading("Shapley values and L2X")
    rows = []
    for key in SHOWN:
        names = ("GradientSHAP", "PartitionSHAP", "L2X")
        maps = of_case(page, CASES[key], events, models, quick, names)
        draw(
            page, f"shap_{key}", CASES[key], maps, models, f"{key}, Shapley values and probabilities of L2X."
        )
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


def activation_maps(page: StudyPage, events: Mapping[str, Events], models: Models, quick: bool) -> None:
    """Class activation maps at two layers."""
    page.heading("Class activation maps at two layers")
    for key in SHOWN:
        case, maps = CASES[key], {}
        model, chosen = models[case.dataset], case.events(events[case.dataset], EVENTS[quick])
        for layer in model.feature_layers[-LAYERS:]:
            for name, settings in {
                "Grad-CAM": {"method": "grad_cam"},
                "Eigen-CAM": {"method": "eigen_cam"},
                "Ablation-CAM, 10 %": {"method": "ablation_cam", "ratio_channels_to_ablate": 0.1},
                "Ablation-CAM, all": {"method": "ablation_cam", "ratio_channels_to_ablate": 1.0},
            }.items():
                maps[f"{name}, {layer}"] = stored_map(
                    page.folder / "maps", model, chosen, target=case.target, layer=layer, **settings
                )
        draw(page, f"cam_{key}", case, maps, models, f"{key}, class activation maps.")
        for layer in model.feature_layers[-LAYERS:]:
            pair = hit_rank_agreement(
                maps[f"Ablation-CAM, 10 %, {layer}"], maps[f"Ablation-CAM, all, {layer}"]
            ).mean
            if float(pair.error) > 0:
                text = page.number(f"Ablation-CAM, a tenth and all channels, {key}, {layer}", pair)
                share = maps[f"Ablation-CAM, 10 %, {layer}"].checks["ablated_activation"]
                page.text(
                    f"{key}, layer {layer}: a tenth of the channels has {100 * share:.0f} % of the "
                    "activation; rank correlation of that map with the one of all channels, over the lit "
                    f"pixels: {text}."
                )


if __name__ == "__main__":
    main()

"""What a user types after --over."""

from __future__ import annotations

import pytest
from optuna.distributions import FloatDistribution

from hepxai.cards import CardError
from hepxai.scan import ScanError
from hepxai.scan.space import Choices, Range, Space, folder_name, label


def test_choices_keep_their_order_and_types() -> None:
    space = Space.parse(["edge_dropout=0.4,0.05", "dense=[64,64],[32]", "training.monitor=auc,loss"])
    assert [a.key for a in space.axes] == ["model.edge_dropout", "model.dense", "model.training.monitor"]
    assert [a.values for a in space.axes] == [(0.4, 0.05), ([64, 64], [32]), ("auc", "loss")]  # type: ignore[union-attr]
    assert space.size == 8
    assert not space.reads_anew


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x=0.05..0.4", Range("model.x", 0.05, 0.4)),
        ("x=1e-4..1e-2:log", Range("model.x", 1e-4, 1e-2, log=True)),
        ("model.x=8..128:log", Range("model.x", 8, 128, log=True)),
        ("dataset.split.seed=0..9", Range("dataset.split.seed", 0, 9)),
        ("x=../a,../b", Choices("model.x", ("../a", "../b"))),
        ("x=..", Choices("model.x", ("..",))),
        ("x=true,null", Choices("model.x", (True, None))),
    ],
)
def test_ranges_and_what_only_looks_like_one(text: str, expected: object) -> None:
    assert Space.parse([text]).axes == (expected,)


def test_a_mapping_says_the_same() -> None:
    typed = Space.parse(["edge_dropout=0.1,0.2", "training.learning_rate=1e-4..1e-2:log"])
    given = {"edge_dropout": [0.1, 0.2], "model.training.learning_rate": "1e-4..1e-2:log"}
    assert Space.parse(given) == typed
    assert Space.from_json(typed.to_json()) == typed


@pytest.mark.parametrize(
    ("over", "message"),
    [
        (["edge_dropout"], r"--over edge_dropout: expected KEY=VALUE"),
        (["=1,2"], "expected KEY=VALUE"),
        (["x=0.1,0.1"], r"x: 0\.1 is listed twice"),
        (["x="], "no values to scan"),
        (["x=0.4..0.1"], r"x: 0\.4\.\.0\.1 is no range"),
        (["x=0..1:log"], "a logarithmic range starts above 0, not at 0"),
        (["x=1,2", "model.x=3"], "x is scanned twice"),
        (["training.seed=1,2"], "what --seeds is for"),
    ],
)
def test_mistakes_say_what_would_be_right(over: list[str], message: str) -> None:
    with pytest.raises(ScanError, match=message):
        Space.parse(over)


def test_broken_yaml_names_the_option() -> None:
    with pytest.raises(CardError, match=r"--over x=\[1,2"):
        Space.parse(["x=[1,2"])


def test_the_grid_has_every_point_once_the_last_axis_fastest() -> None:
    points = list(Space.parse(["a=1,2", "b=x,y"]).grid())
    assert [tuple(p.values()) for p in points] == [(1, "x"), (1, "y"), (2, "x"), (2, "y")]


def test_numbers_have_neighbours_where_that_matters() -> None:
    axes = Space.parse(["a=0.4,0.1", "b=1e-4,1e-3,1e-2", "c=x,y", "d=true,false", "e=1..5"]).axes
    numbers = FloatDistribution(0.1, 0.4), FloatDistribution(1e-4, 1e-2, log=True)
    assert tuple(a.ordered() for a in axes[:2]) == numbers
    assert all(a.ordered() == a.distribution() for a in axes[2:])


def test_overrides_are_yaml() -> None:
    space = Space.parse(["dense=[64,64],[32]", "training.monitor=auc,loss", "edge_dropout=1e-5,0.1"])
    point = next(space.grid())
    assert space.overrides(point, 3) == [
        "model.dense=[64, 64]",
        'model.training.monitor="auc"',
        "model.edge_dropout=1e-05",
        "model.training.seed=3",
    ]


def test_names_of_folders() -> None:
    assert folder_name({"model.edge_dropout": 0.05}, 1) == "edge_dropout=0.05,seed=1"
    assert folder_name({"model.dense": "[64, 64]", "dataset.units": "GeV"}, 2) == (
        "dense=64-64,dataset.units=GeV,seed=2"
    )
    assert "/" not in folder_name({"dataset.folder": "../a b"}, 1)
    long = {f"model.{'key' * 20}{i}": i for i in range(9)}
    names = {folder_name(long, seed) for seed in range(5)}
    assert len(names) == 5
    assert max(map(len, names)) < 200
    assert label({"model.edge_dropout": 0.05, "model.heads": 2}) == "edge_dropout=0.05, heads=2"


def test_drawn_numbers_are_rounded_and_stay_inside() -> None:
    (axis,) = Space.parse(["x=0.123456..0.2"]).axes
    assert axis.rounded(0.1571234) == 0.1571
    assert axis.rounded(0.1234561) == 0.1235
    assert axis.rounded(0.1999999) == 0.2
    (narrow,) = Space.parse(["x=0.123456..0.1236"]).axes
    assert narrow.rounded(0.1235999) == 0.1236
    assert narrow.rounded(0.123457) == 0.1235
    (edge,) = Space.parse(["x=0.12346..0.2"]).axes
    assert edge.rounded(0.123462) == 0.1235
    (low,) = Space.parse(["x=0.12344..0.2"]).axes
    assert low.rounded(0.123441) == 0.12344  # 0.1234 would lie outside
    (whole,) = Space.parse(["x=1..9999999"]).axes
    assert whole.rounded(1234567) == 1234567

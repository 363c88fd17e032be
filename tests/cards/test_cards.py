"""Cards: where errors point, what they suggest, and that a dumped card comes back equal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from hepxai.cards import Card, CardError, dump_card, find_card, list_cards, load_card, nearest


class Layer(Card):
    width: int = Field(default=8, ge=1)
    names: tuple[str, ...] = ()
    act: Literal["relu", "selu"] = "relu"


class Model(Card):
    rate: float
    mode: Literal["mean", "sum"] = "mean"
    first: Layer = Layer()
    layers: tuple[Layer, ...] = ()
    extra: dict[str, float] = Field(default_factory=dict)
    note: str | None = None


TEXT = """\
rate: 1e-3
mode: sum
first:
  width: 4
layers:
  - width: 2
  - {width: 3, names: [a, "no", on]}
note: no
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "model.yaml").write_text(TEXT)
    return tmp_path / "model.yaml"


def failing(path: Path, text: str | None = None, *overrides: str) -> str:
    if text is not None:
        path.write_text(text)
    with pytest.raises(CardError) as error:
        load_card(path, Model, overrides)
    return str(error.value).replace(f"{path}", "model.yaml")


def test_yaml_is_read_as_people_mean_it(path: Path) -> None:
    card = load_card(path, Model)
    assert card.rate == 1e-3  # YAML 1.1 would give a text
    assert card.note == "no"  # and here False
    assert card.layers[1].names == ("a", "no", "on")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rate: 1\nmoda: sum\n", "model.yaml:2: moda: unknown key (did you mean 'mode'?); the keys here"),
        (
            "rate: 1\nlayers: [{width: 2},\n{widht: 3}]\n",
            "model.yaml:3: layers.1.widht: unknown key (did you",
        ),
        (
            "rate: 1\nlayers: [{width: 2}, {widht: 3}]\n",
            "widht: unknown key (did you mean 'width'?); the keys",
        ),
        ("mode: sum\n", "model.yaml:1: rate: missing; add this key"),
        ("rate: fast\n", "model.yaml:1: rate: found 'fast'; should be a valid number"),
        ("rate: 1\nmode: maen\n", "mode: found 'maen' (did you mean 'mean'?); should be 'mean' or 'sum'"),
        ("rate: 1\nfirst:\n  width: 0\n", "model.yaml:3: first.width: found 0; should be greater than"),
        ("rate: 1\nfirst: 3\n", "model.yaml:2: first: found 3; should be a mapping, `key: value`; the keys"),
        ("rate: 1\n\nrate: 2\n", "model.yaml:3: rate: written twice, first at model.yaml:1; keep one"),
        ("rate: [1\n", "model.yaml:2: not valid YAML"),
        ("- rate\n", "model.yaml:1: found ['rate']; a card is a mapping"),
        ("", "model.yaml: rate: missing"),
        ("rate: 1\nfirst: {width: f(a, b)}\n", "inside { } text with a comma needs quotes"),
        ("rate: &a [*a]\n", "model.yaml:1: an anchor refers to itself; write the value out"),
    ],
)
def test_errors_say_where_what_and_what_instead(path: Path, text: str, message: str) -> None:
    assert message in failing(path, text)


def test_every_problem_has_a_line(path: Path) -> None:
    assert failing(path, "rate: fast\nmode: slow\n").count("\n") == 1


def test_missing_card(tmp_path: Path) -> None:
    with pytest.raises(CardError, match=r"gone.yaml: cannot be read: No such file"):
        load_card(tmp_path / "gone.yaml", Model)


def test_merge_keys_and_anchors(path: Path) -> None:
    path.write_text("rate: 1\nfirst: &f {width: 5}\nlayers:\n  - *f\n  - {<<: *f, names: [x]}\n")
    card = load_card(path, Model)
    assert [layer.width for layer in card.layers] == [5, 5]


def test_overrides_replace_entries(path: Path) -> None:
    card = load_card(path, Model, ["layers.1.width=7", "rate=2", "extra.b=1e2", "layers.0.names=[u, v]"])
    assert (card.layers[1].width, card.rate, card.extra) == (7, 2.0, {"b": 100.0})
    assert card.layers[0].names == ("u", "v")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("rate", "override 'rate': not of the form dotted.key=value; write for example split.seed=3"),
        ("moda=sum", "override 'moda=sum': moda: unknown key (did you mean 'mode'?)"),
        ("rate=fast", "override 'rate=fast': rate: found 'fast'"),
        ("layers.2.width=1", "layers has no item '2'; items are numbered 0 to 1"),
        ("rate.x=1", "rate is 0.001; it has no entry 'x'"),
        ("rate=[1", "'[1' is not valid YAML; quote it"),
        ("first=[]", "override 'first=[]': first: found []; should be a mapping, `key: value`; the keys"),
        ("first=selu", "first: found 'selu'; should be a mapping, `key: value`, as in `act: selu`; the keys"),
        ("rate=", "override 'rate=': rate: found nothing; should be a valid number"),
        ("width=3", "override 'width=3': width: unknown key (did you mean first.width?); the keys here"),
    ],
)
def test_errors_of_overrides_name_them(path: Path, override: str, message: str) -> None:
    assert message in failing(path, None, override)


numbers = st.floats(allow_nan=False, allow_infinity=False)
layers = st.builds(Layer, width=st.integers(1, 10**12), names=st.lists(st.text()).map(tuple))
models = st.builds(
    Model,
    rate=numbers,
    mode=st.sampled_from(["mean", "sum"]),
    first=layers,
    layers=st.lists(layers, max_size=3).map(tuple),
    extra=st.dictionaries(st.text(), numbers, max_size=3),
    note=st.none() | st.text(),
)


@given(models)
def test_a_dumped_card_comes_back_equal(tmp_path_factory: pytest.TempPathFactory, card: Model) -> None:
    path = tmp_path_factory.getbasetemp() / "dumped.yaml"
    path.write_text(dump_card(card), encoding="utf-8", newline="")
    assert load_card(path, Model) == card


@pytest.mark.parametrize(
    "text", ["1e-3", "no", "null", "~", "0x1", "012", "1:30", "2020-01-01", "a: b", "<<"]
)
def test_texts_that_look_like_something_else_stay_texts(tmp_path: Path, text: str) -> None:
    card = Model(rate=1, note=text)
    (tmp_path / "dumped.yaml").write_text(dump_card(card))
    assert load_card(tmp_path / "dumped.yaml", Model).note == text


def test_a_folder_with_a_card_wins_over_a_packaged_one_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = list_cards("datasets")["charged_higgs"]
    (tmp_path / "charged_higgs").mkdir()
    assert find_card("datasets", "charged_higgs") == shipped
    (tmp_path / "charged_higgs" / "card.yaml").write_text("name: mine\n")
    with pytest.warns(
        UserWarning, match=r"charged_higgs/card\.yaml in the working folder is used, not the card"
    ):
        assert find_card("datasets", "charged_higgs") == Path("charged_higgs/card.yaml")
    assert find_card("datasets", "./charged_higgs") == Path("charged_higgs/card.yaml")
    monkeypatch.chdir(shipped.parents[1])  # where the folder of that name holds the packaged card itself
    assert find_card("datasets", "charged_higgs").samefile(shipped)


def test_a_stray_file_is_no_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for kind, name in (("datasets", "charged_higgs"), ("models", "transformer_edgeconv")):
        (tmp_path / name).write_text("some notes\n")
        assert find_card(kind, name) == list_cards(kind)[name]
    (tmp_path / "mine").write_text("name: mine\n")
    assert find_card("datasets", "mine") == Path("mine")


def test_unknown_cards_are_listed() -> None:
    with pytest.raises(CardError, match=r"no card 'charged_higs' .*did you mean 'charged_higgs'"):
        find_card("datasets", "charged_higs")
    with pytest.raises(CardError, match=r"there/card.yaml: no such file"):
        find_card("datasets", "there/card.yaml")


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("muon_PTT", ["Muon_pt", "Jet_pt"], " (did you mean 'Muon_pt'?)"),
        ("charge", ["Charge", "mass"], " (did you mean 'Charge'? Names are case-sensitive)"),
        ("charge", ["Charge", "charge"], " (did you mean 'Charge'? Names are case-sensitive)"),
        ("charge", ["charge"], ""),
        ("x", ["Muon_pt"], ""),
    ],
)
def test_nearest_ignores_case_and_never_repeats_the_name(name: str, known: list[str], hint: str) -> None:
    assert nearest(name, known) == hint


# --- cards that would take memory or time out of proportion ------------------------------------------


def aliases(first: str, join: str) -> str:
    levels = [f"x{i}: &x{i} {join % ', '.join([f'*x{i - 1}'] * 10)}" for i in range(1, 10)]
    return "\n".join([f"x0: &x0 {first}", *levels])


BOMBS = {
    "aliases of aliases": (
        aliases("[lol, lol]", "[%s]"),
        "model.yaml:5: more than 20,000 entries, with what",
    ),
    "merged aliases": (aliases("{a: 1, b: 2}", "{<<: [%s]}"), "model.yaml:5: more than 20,000 entries"),
    "brackets": (
        "rate: 1\nnote: " + "[" * 50_000,
        "model.yaml:2: more than 40 levels; put text with brackets in",
    ),
    "dashes": ("rate: 1\nnote:\n  " + "- " * 5_000 + "1", "model.yaml:3: more than 40 levels"),
    "digits": ("rate: 1\nnote: " + "9" * 5_000, "model.yaml:2: found '9999"),
    "a large number": (
        "rate: 1e999",
        "model.yaml:1: found '1e999'; whole numbers have 64 bits, others are below",
    ),
    "no number": ("rate: !!int abc", "model.yaml:1: found 'abc'; whole numbers have 64 bits"),
    "a list as key": ("rate: 1\n? [a]\n: 1", "model.yaml:2: a key is text, not a list or mapping; put it in"),
    "a long list": ("rate: 1\nnote: [" + "1, " * 25_000 + "1]", "model.yaml:2: more than 20,000 entries"),
    "a large file": ("rate: 1\nnote: " + "a" * 600_000, "model.yaml: larger than 524,288 bytes"),
}
PROBE = """
import resource, sys, time
from hepxai.cards import CardError, load_card
from test_cards import Model
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
try:
    load_card(sys.argv[1], Model)
except CardError as problem:
    print(time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, problem)
"""


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused(path: Path, name: str) -> None:
    text, message = BOMBS[name]
    assert message in failing(path, text)


def test_bombs_take_no_time_and_no_memory(path: Path) -> None:
    path.write_text(BOMBS["aliases of aliases"][0])
    command = [sys.executable, "-c", PROBE, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
    seconds, kilobytes, *message = done.stdout.split()
    assert float(seconds) < 1
    assert int(kilobytes) < 200_000
    assert "entries," in message


@pytest.mark.parametrize(
    "text", ["note: '[[[[1]]]]'", "note: '" + "9" * 5_000 + "'", "extra: {a: 1e20, b: 9223372036854775807}"]
)
def test_remedies_for_bombs_work(path: Path, text: str) -> None:
    path.write_text(f"rate: 1\n{text}\n")
    assert load_card(path, Model).rate == 1

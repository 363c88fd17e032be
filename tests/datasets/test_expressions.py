"""The vocabulary of expressions, against loops in plain Python; and what it refuses."""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

import awkward as ak
import numpy as np
import pytest
from ntuples import jagged

from hepxai.datasets.columns import ExpressionError
from hepxai.datasets.evaluation import evaluate
from hepxai.datasets.expressions import parse
from hepxai.datasets.vocabulary import attribute

COUNTS = np.array([2, 0, 3, 1])
X = jagged(COUNTS, np.array([1.0, -2.0, 3.0, 0.5, 4.0, 7.0]))
Q = jagged(COUNTS, np.array([1, -1, 1, 1, -1, -1]))
LEP = ak.zip(
    {
        "pt": jagged(COUNTS, np.array([40.0, 30, 50, 20, 10, 60])),
        "eta": jagged(COUNTS, np.array([0.1, -1.0, 2.0, 0.5, 0.0, 1.0])),
        "phi": jagged(COUNTS, np.array([0.0, 3.0, -3.0, 1.0, 2.0, -1.0])),
        "mass": jagged(COUNTS, np.full(6, 0.1)),
        "charge": Q,
    }
)
NAMES: dict[str, Any] = {
    "x": X,
    "q": Q,
    "lep": LEP,
    "none": LEP[LEP.pt > 1000],
    "a": np.array([1.0, 2.0, 3.0, 4.0]),
    "n": np.array([0, 1, 2, 3]),
    "ok": np.array([True, False, True, False]),
    "kind": ak.Array(["GG", "TT", "GG", "GT"]),
    "nan": np.array([np.nan, 1.0, np.inf, 2.0]),
    "at": jagged(COUNTS, np.array([1, -1, 0, 2, -1, 0])),
    "far": jagged(COUNTS, np.array([1, -1, 0, 3, -1, 0])),
    "flag": jagged(COUNTS, np.array([True, False, True, True, False, True])),
    "big": jagged(COUNTS, np.array([2**53 + 1, 1, 2, 3, 4, 5])),
    "lists": ak.Array([[[1, 2, 3.0], []], [], [[4.0], [5, 6], []], [[7.0]]]),
    "id": np.array([1, 2, 3, 2**62]),
    "unsigned": np.array([1, 2, 3, 2**64 - 1], dtype=np.uint64),
}


class Names:
    """Names of a file without cuts; event 0 is entry 100."""

    def place(self, row: int) -> str:
        return f"a.root:Events: entry {row + 100}"

    def __call__(self, name: str) -> Any:
        head, *attributes = name.split(".")
        return reduce(attribute, attributes, NAMES[head])

    in_file = __call__


lookup = Names()


def value(text: str) -> Any:
    result = evaluate(text, lookup)
    return result.to_list() if isinstance(result, ak.Array) else np.asarray(result).tolist()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 + 2 * 3 - 2**3 / 4", 5.0),
        ("a // 2", [0, 1, 1, 2]),
        ("-a % 3", [2, 1, 0, 2]),
        ("x * 2", [[2, -4], [], [6, 1, 8], [14]]),
        ("x > a", [[False, False], [], [False, False, True], [True]]),
        ("1 < a <= 3", [False, True, True, False]),
        ("a > 1 and not ok", [False, True, False, True]),
        ("(a > 1) & ~ok | (a == 1)", [True, True, False, True]),
        ("n and ok", [False, False, True, False]),
        ("n & 1", [0, 1, 0, 1]),
        ("kind == 'GG'", [True, False, True, False]),
        ("isin(n, 1, 3)", [False, True, False, True]),
        ("where(ok, a, -a)", [1, -2, 3, -4]),
        ("where(x > 2, x, 0)", [[0, 0], [], [3, 0, 4], [7]]),
        ("clip(a, 2, 3)", [2, 2, 3, 3]),
        ("isfinite(nan)", [False, True, False, True]),
        ("hypot(3, 4)", 5.0),
        ("sum(x)", [-1, 0, 7.5, 7]),
        ("count(x)", [2, 0, 3, 1]),
        ("count(x > 1)", [0, 0, 2, 1]),
        ("count(lep)", [2, 0, 3, 1]),
        ("any(x > 3)", [False, False, True, True]),
        ("all(x > 0)", [False, True, True, True]),
        ("argmax(x)", [0, -1, 2, 0]),
        ("argmin(x)", [1, -1, 1, 0]),
        ("x[x > 1]", [[], [], [3, 4], [7]]),
        ("lep[lep.charge > 0].pt", [[40], [], [50, 20], []]),
        ("count(pairs(lep))", [1, 0, 3, 0]),
        ("n & 2**1", [0, 0, 2, 2]),
        ("a * 10**20 / 10**20", [1, 2, 3, 4]),
        ("9223372036854775807 + 1 == 2.0**63", True),
        ("1**999999999 + (-1)**3 + 2**-1", 0.5),
        ("count(pairs(lep, lep))", [4, 0, 9, 1]),
        ("take(x, at, 0)", [[-2, 0], [], [3, 4, 0], [7]]),
        ("take(flag, at)", [[False, False], [], [True, False, False], [True]]),
        ("take(big, at, 0)", [[1, 0], [], [2, 4, 0], [5]]),
        ("take(big, argmax(big), 0)", [2**53 + 1, 0, 4, 5]),
        ("sum(take(x, at, 0)) == sum(x[at >= 0])", [False, True, False, True]),
        ("x[take(flag, at)]", [[], [], [3], [7]]),
        ("count(lists)", [[3, 0], [], [1, 2, 0], [1]]),
        ("count(lists > 2)", [[1, 0], [], [1, 2, 0], [1]]),
        ("sum(lists)", [[6, 0], [], [4, 11, 0], [7]]),
        ("sum(sum(lists))", [6, 0, 15, 7]),
        ("any(lists > 5)", [[False, False], [], [False, True, False], [True]]),
        ("argmax(lists)", [[2, -1], [], [0, 1, -1], [0]]),
        ("lists[x > 2]", [[], [], [[4], []], [[7]]]),
        ("ok + (a > 1)", [1, 1, 2, 1]),
        ("id - 2**62", [1 - 2**62, 2 - 2**62, 3 - 2**62, 0]),
        ("unsigned % 1000003", [1, 2, 3, (2**64 - 1) % 1000003]),
        ("where(unsigned < 2**63, unsigned, 0) - 5", [-4, -3, -2, -5]),
        ("unsigned == 3", [False, False, True, False]),
        ("pairs(lep).first.charge", [[1], [], [1, 1, 1], []]),
        ("abs(-2) + maximum(1, 2) + sqrt(16)", 8.0),
        ("nearest(none, lep)", [[], [], [], []]),
        ("nearest(lep, none)", [[math.inf] * 2, [], [math.inf] * 3, [math.inf]]),
    ],
)
def test_vocabulary(text: str, expected: Any) -> None:
    assert value(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max(x)", [1, math.nan, 4, 7]),
        ("min(x)", [-2, math.nan, 0.5, 7]),
        ("mean(x)", [-0.5, math.nan, 2.5, 7]),
        ("first(x)", [1, math.nan, 3, 7]),
        ("nth(x, 1)", [-2, math.nan, 0.5, math.nan]),
        ("nth(x, argmax(x))", [1, math.nan, 4, 7]),
        ("first(lep).charge", [1, math.nan, 1, -1]),
        ("system(none).pt", [0, 0, 0, 0]),
        ("max(x[x > 100])", [math.nan] * 4),
        ("first(take(x, at))", [-2, math.nan, 3, 7]),
        ("take(x, argmax(x))", [1, math.nan, 4, 7]),
        ("nth(take(lep, at).pt, 1)", [math.nan, math.nan, 10, math.nan]),
        ("first(max(lists))", [3, math.nan, 4, 7]),
        ("nth(nth(lists, 1), 1)", [math.nan, math.nan, 6, math.nan]),
        ("first(nth(lists, argmin(lists)))", [1, math.nan, 4, 7]),
    ],
)
def test_events_without_particles_answer_nan(text: str, expected: list[float]) -> None:
    np.testing.assert_equal(np.array(value(text), dtype=float), np.array(expected, dtype=float))


def momentum(event: int, i: int) -> tuple[float, float, float, float]:
    p = LEP[event, i]
    px, py, pz = p.pt * math.cos(p.phi), p.pt * math.sin(p.phi), p.pt * math.sinh(p.eta)
    return math.sqrt(px**2 + py**2 + pz**2 + p.mass**2), px, py, pz


def mass(*momenta: tuple[float, ...]) -> float:
    e, px, py, pz = (sum(c) for c in zip(*momenta, strict=True))
    return math.sqrt(max(e**2 - px**2 - py**2 - pz**2, 0))


def separation(event: int, i: int, j: int) -> float:
    a, b = LEP[event, i], LEP[event, j]
    return math.hypot(a.eta - b.eta, math.remainder(a.phi - b.phi, 2 * math.pi))


def test_pairs_against_loops() -> None:
    which = [[(0, 1)], [], [(0, 1), (0, 2), (1, 2)], []]
    masses = [[mass(momentum(e, i), momentum(e, j)) for i, j in ij] for e, ij in enumerate(which)]
    apart = [[separation(e, i, j) for i, j in ij] for e, ij in enumerate(which)]
    np.testing.assert_allclose(np.concatenate(value("pairs(lep).mass")), np.concatenate(masses), rtol=1e-9)
    np.testing.assert_allclose(np.concatenate(value("pairs(lep).delta_r")), np.concatenate(apart), rtol=1e-9)


def test_systems_and_separations_against_loops() -> None:
    three = mass(*(momentum(2, i) for i in range(3)))
    assert value("system(lep).mass")[2] == pytest.approx(three, rel=1e-9)
    assert value("system(lep, lep).mass")[2] == pytest.approx(2 * three, rel=1e-9)
    assert value("delta_r(nth(lep, 0), nth(lep, 1))")[0] == pytest.approx(separation(0, 0, 1), rel=1e-9)
    closest = min(separation(2, 0, 1), separation(2, 0, 2))
    assert value("nearest(lep, lep[lep.pt < 50])")[2][0] == pytest.approx(closest, rel=1e-9)
    a, b = LEP[0, 0], LEP[0, 1]
    expected = math.sqrt(2 * a.pt * b.pt * (1 - math.cos(a.phi - b.phi)))
    assert value("transverse_mass(nth(lep, 0), nth(lep, 1))")[0] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "found nothing"),
        ("a > 1 && ok", "found '&&'; write 'and'"),
        ("!ok", "found '!'; write 'not'"),
        ("a >", "syntax not understood"),
        ("(a", "syntax not understood"),
        ("a > 1 & x < 2", "'1 & x' is grouped before the comparison; write `and`/`or`"),
        ("a if ok else 1", "'a if ok else 1' is not allowed; write where(condition, a, b)"),
        ("a ^ 2", "'BitXor' is not allowed; powers are written **"),
        ("a in x", "'In' is not allowed; write isin(x, 1, 2)"),
        ("sqr(a)", "no function 'sqr' (did you mean 'sqrt'?)"),
        ("len(a) > 1", "no function 'len' (did you mean 'count'?)"),
        ("np.sqrt(a)", "'np.sqrt(a)' is not allowed; write sqrt(...)"),
        ("a = 2", "found '='; write '=='"),
        ("where(a, 1)", "where() takes 3 arguments, found 2"),
        ("system()", "system() takes at least 1 arguments, found 0"),
        ("[1, 2]", "'[1, 2]' is not allowed"),
        ("lambda: 1", "is not allowed"),
        ("(a := 2)", "is not allowed"),
        ("x.__class__()", "is not allowed; write function(a, b)"),
        ("__import__('os')", "no function '__import__'"),
        ("sum(x=x)", "is not allowed; write function(a, b)"),
        ("f'{a}'", "is not allowed"),
        ("1j", "'1j' is not allowed"),
        ("[e for e in x]", "is not allowed"),
        ("'a' * 3000000000", "text has no arithmetic; compare it, as in kind == 'GG'"),
        ("9 * 'a'", "text has no arithmetic"),
        ("'%3000000000d' % 1", "text has no arithmetic"),
        ("9223372036854775808", "whole numbers have 64 bits; write 1e20"),
        *((digits * "9", "9...': whole numbers have 64 bits; write 1e20") for digits in (1000, 5000)),
        ("a * 1e999", "a number beyond 1.8e308"),
        ("-" * 9000 + "a", "nested too deeply; write it in parts, as new_variables:"),
        ("not " * 200 + "ok", "more than 100 levels of nesting; write it in parts"),
        ("+".join("a" * 4000), "nested too deeply"),
        ("abs(" * 150 + "a" + ")" * 150, "more than 100 levels of nesting"),
        ("(" * 3000 + "a" + ")" * 3000, "syntax not understood"),
        ("a == " * 4000 + "a", "20,001 characters; write it in parts"),
    ],
)
def test_what_is_refused_before_anything_is_read(text: str, message: str) -> None:
    with pytest.raises(ExpressionError) as error:
        parse(text)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a and ok", "in 'a and ok': should be true or false, not a number; compare it with something"),
        ("sum(a)", "in 'sum(a)': needs one value per particle; this has one per event"),
        ("x + lep[lep.pt > 30].pt", "in 'x + lep[lep.pt > 30].pt': cannot broadcast nested list"),
        ("first(lep).btag", "no attribute 'btag'; there are pt, eta, phi, mass, charge, energy"),
        ("pairs(lep).charge", "pairs have no attribute 'charge'; there are first, second, delta_r"),
        ("first(lep).__class__", "no attribute '__class__'"),
        ("pairs(x)", "pairs() needs particles, such as muon"),
        ("x[0]", "[ ] takes a condition per particle"),
        ("x[at]", "[ ] takes a condition per particle, not numbers; for positions write take(x, positions)"),
        ("x[ok]", "[ ] takes a condition per particle, as in jet[jet.pt > 30]"),
        ("x[lists > 1]", "[ ] takes a condition per particle, as in jet[jet.pt > 30]"),
        ("x[lep[lep.pt > 30].pt > 0]", "a.root:Events: entry 100: in 'x[lep"),
        ("x[lep[lep.pt > 30].pt > 0]", "the condition has 1 values for 2 particles"),
        ("take(x, far)", "a.root:Events: entry 102: in 'take(x, far)': position 3 among 3 particles (1 such"),
        ("take(x, at - 2)", "entry 100: in 'take(x, at - 2)': position -3 among 2 particles"),
        ("take(x, 0)", "position 0 among 0 particles (1 such in this chunk); write nth("),
        ("take(x, flag)", "needs whole numbers, the positions, as i; for a condition write x[condition]"),
        ("take(x, x)", "needs whole numbers, the positions"),
        ("take(a, n)", "take(x, i) needs one value per particle as x"),
        ("take(lists, at)", "for lists write for example take(sum(x), i)"),
        ("take(lep, at, 0)", "is for numbers; write for example take(x, i).pt"),
        ("take(big, at)", "a whole number for missing values, as in take(x, argmax(x), 0)"),
        ("first(big)", "beyond 2^53 would be rounded"),
        ("max(big)", "beyond 2^53 would be rounded"),
        ("nth(x, 0.5)", "in 'nth(x, 0.5)': a position is a whole number, 0 for the first"),
        ("nth(x, at)", "takes one position per event; for one per particle write take(x, i)"),
        ("sum(lep)", "needs numbers, not particles; write for example muon.pt"),
        ("lep.pt.pt", "in 'lep.pt.pt': no attribute 'pt'"),
        ("n % 0", "in 'n % 0': a whole number divided by 0; write for example x % maximum(y, 1)"),
        ("a // 1 + n // n", "in 'n // n': a whole number divided by 0; write for example x // maximum(y, 1)"),
        ("id * 4", "in 'id * 4': the result does not fit into 64 bits; write 1.0 * x"),
        ("id ** 2", "does not fit into 64 bits"),
        ("unsigned - 5", "numbers from 2^63 on, which do not fit into signed 64-bit integers; write event"),
        ("-unsigned", "write event % 1000000007, say, or where(event < 2**63, event, 0)"),
        ("maximum(unsigned, id)", "numbers from 2^63 on"),
        ("where(ok, unsigned, -1)", "numbers from 2^63 on"),
        ("kind + 1", "in 'kind + 1': "),
        ("a & 1", "in 'a & 1': "),
        ("system(x)", "needs particles, such as muon or first(muon)"),
        ("where(ok, 'a', 'b') + 9**9**9", "in '9 ** 9 ** 9': the number is too large"),
        ("9**9**9", "in '9 ** 9 ** 9': the number is too large"),
        ("a * (-9)**999999999", "the number is too large"),
        ("10**300 * 10**300 - 10**999", "in '10 ** 999': the number is too large"),
        ("0**-1", "in '0 ** (-1)': "),
        ("1 / 0", "in '1 / 0': division by zero"),
        ("(-1)**0.5", "the result is not a real number"),
        ("where(ok, 'a', 'b') * 3", "in \"where(ok, 'a', 'b') * 3\": "),
        ("(where(1 == 1, 'a', 'b') + where(1 == 1, 'c', 'd')) * 3", "text has no arithmetic"),
    ],
)
def test_what_is_refused_when_the_types_are_known(text: str, message: str) -> None:
    with pytest.raises(ExpressionError) as error:
        evaluate(text, lookup)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("remedy", "expected"),
    [
        ("n % maximum(n, 1)", [0, 0, 0, 0]),
        ("1.0 * id * 4", [4, 8, 12, 2.0**64]),
        ("unsigned % 1000000007", [1, 2, 3, 582344007]),
        ("take(sum(lists), at, 0)", [[0, 0], [], [4, 0, 0], [7]]),
        ("sum(lep.pt)", [70, 0, 80, 60]),
    ],
)
def test_remedies_work(remedy: str, expected: Any) -> None:
    assert value(remedy) == expected

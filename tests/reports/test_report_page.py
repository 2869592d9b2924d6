"""The page of a report: whole, alone, safe with any name, for few and for many classes."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from page_checks import Page
from toptune.evaluation.classification import evaluate_probabilities
from toptune.reports.model import FeatureMap, Report, report_page
from toptune.reports.model.page import DISTINCT, MATRIX_CLASSES, mark_of, named_classes

HOSTILE = '<script>alert("1")</script>&$x_1$'


@pytest.fixture
def report(on_data: Report) -> Report:
    return on_data


def of_many(report: Report, c: int) -> Report:
    """A report with as many classes as that, whose names are hostile."""
    rng = np.random.default_rng(0)
    classes = [f"{HOSTILE} {k}" for k in range(c)]
    y = np.arange(6 * c) % c
    P = rng.dirichlet(np.ones(c), size=len(y))
    wrong = P.argmax(axis=1) != y
    return replace(
        report,
        evaluation=evaluate_probabilities(np.array(classes)[y], P, classes),
        recalls=dict.fromkeys(classes, (0.1, 0.9)),
        errors=(replace(report.suspected[0], id=HOSTILE, label=HOSTILE, file=None),),
        feature_map=FeatureMap(
            points=rng.normal(size=(len(y), 2)),
            shares=(0.3, 0.2),
            ids=tuple(map(str, y)),
            labels=[classes[k] for k in y],
            right=~wrong,
        ),
    )


def test_report_page_holds_numbers_and_pictures(report: Report) -> None:
    text = report_page(report, model="digits.toptune")
    page = Page(text)
    page.check_alone()
    assert page.tags.count("svg") == 3
    assert "Report on digits.toptune" in page.text
    assert f"{100 * report.evaluation.accuracy:.1f} %" in page.text
    low, high = (f"{100 * end:.1f}" for end in report.interval)
    assert f"95 % interval {low} to {high} %; 24 images" in page.text
    for row in (*report.errors, *report.suspected):
        assert row.id in page.text
    assert page.tags.count("img") == len(report.errors) + len(report.suspected)
    assert report.provenance["weights_sha256"] in page.text
    counts = re.findall(r'<td class="[^"]*" style="--part: \d+">(\d+)</td>', text)
    assert list(map(int, counts)) == report.evaluation.confusion_matrix.ravel().tolist()


def test_report_page_colours_are_variables(report: Report) -> None:
    text = report_page(report)
    body = text[text.index("<body>") :]
    assert re.findall(r"(?:fill|stroke): #[0-9a-f]{3,6}", body) == []
    assert set(re.findall(r"var\(--([a-z]+)\)", text)) <= set(re.findall(r"--([a-z]+):", text))


@pytest.mark.parametrize("c", [MATRIX_CLASSES, MATRIX_CLASSES + 1, 60])
def test_report_page_hostile_names_are_escaped(report: Report, c: int) -> None:
    text = report_page(of_many(report, c))
    page = Page(text)
    page.check_alone()
    assert f"{HOSTILE} {c - 1}" in page.text
    assert ('class="matrix"' in text) == (c <= MATRIX_CLASSES)
    assert "Most frequent confusions" in page.text
    assert "file not there" in page.text
    assert f"{c - DISTINCT} other classes" in page.text


def test_mark_of_classes_are_distinct() -> None:
    marks = [mark_of(code) for code in range(DISTINCT)]
    assert len(set(marks)) == DISTINCT
    assert len({color for color, _ in marks[:6]}) == len({mark for _, mark in marks[:6]}) == 6


def test_named_classes_most_errors_first() -> None:
    labels = [f"class {k:02d}" for k in range(30) for _ in range(2)]
    right = np.ones(60, dtype=bool)
    right[[50, 51, 59]] = False
    found = FeatureMap(np.zeros((60, 2)), (0.5, 0.5), tuple(labels), labels, right)
    names = named_classes(found)
    assert len(names) == DISTINCT
    assert {"class 25", "class 29"} <= set(names)
    assert names == sorted(names)


def test_report_page_empty_parts_are_in_words(report: Report) -> None:
    perfect = evaluate_probabilities(["0", "1", "4"], np.eye(3), ["0", "1", "4"])
    plain = replace(
        report,
        evaluation=perfect,
        errors=(),
        n_errors=0,
        suspected=(),
        n_suspected=0,
        curve=None,
        no_curve="it was not asked for",
        energy_kwh=None,
        recalls={"0": None, "1": (0.5, 1.0), "4": (0.5, 1.0)},
    )
    page = Page(report_page(plain))
    page.check_alone()
    for sentence in (
        "There are no errors.",
        "No learning curve: it was not asked for.",
        "No label of a training image is suspect.",
    ):
        assert sentence in page.text
    assert "energy" not in page.text
    with_energy = Page(report_page(replace(plain, energy_kwh=0.0012))).text
    assert "1.2 Wh" in with_energy

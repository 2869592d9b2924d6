"""Reports: whole and partial studies, hostile names, the same bytes for the same records."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from study_records import failed_record, make_record, make_study

from page_checks import Page
from toptune.errors import DataError, StorageError
from toptune_study import report
from toptune_study.analysis import compare_methods
from toptune_study.figures import FIGURES
from toptune_study.frames import Method, records_frame
from toptune_study.records import Record, read_records, write_record
from toptune_study.report import write_report
from toptune_study.summary import Missing, Summary
from toptune_study.tables import Table, all_tables, latex_text, markdown_text, shown

HOSTILE = "<b>&_%$#{}|*`^~\\"
LITE0 = "efficientnet_lite0"
TABLES = list(all_tables(Summary(records_frame(make_study(["one"])))))


def write_study(folder: Path, records: list[Record]) -> Path:
    (folder / "records").mkdir(parents=True)
    for row in records:
        # The ids of synthetic records are words; those of real ones are names of files.
        words = hashlib.sha256(row["id"].encode()).hexdigest()[:16]
        write_record(folder, row | {"id": words if "/" in row["id"] else row["id"]})
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(files)}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    records = [*make_study(), failed_record(dataset="set0", head="knn")]
    folder = write_study(tmp_path_factory.mktemp("whole") / "study", records)
    write_report(folder)
    return folder


# ------------------------------------------------------------------------------------ whole studies


def test_write_report_whole_study_writes_every_file(study: Path) -> None:
    files = contents(study / "report")
    expected = {"index.html"}
    expected |= {f"tables/{name}.{kind}" for name in TABLES for kind in ("md", "csv", "tex")}
    expected |= {f"figures/{name}.{kind}" for name in FIGURES for kind in ("svg", "png")}
    assert files.keys() == expected
    for name in FIGURES:
        assert ElementTree.fromstring(files[f"figures/{name}.svg"]).tag.endswith("svg")
        with Image.open(io.BytesIO(files[f"figures/{name}.png"])) as picture:
            picture.load()
            assert picture.width == 1280
    assert len(read_records(study)) == len(make_study()) + 1
    assert (study / "results.parquet").is_file()


def test_report_page_links_nothing_but_its_own_files(study: Path) -> None:
    text = (study / "report" / "index.html").read_text()
    page = Page(text)
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    links = [v for name, v in page.attributes if name in ("src", "href", "xlink:href", "srcset")]
    assert links
    for link in links:
        local = link.startswith("#") or (study / "report" / link).is_file()
        assert local, link
    assert "@import" not in text
    assert re.findall(r"url\((?!#)", text) == []
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {v[1:] for v in links if v.startswith("#")} <= set(ids)
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(ids)
    assert page.tags.count("svg") == len(FIGURES)
    assert "prefers-color-scheme: dark" in text


def test_report_page_figures_have_colours_of_the_page(study: Path) -> None:
    text = (study / "report" / "index.html").read_text()
    body = text[text.index("<body>") :]
    assert re.findall(r"(?:fill|stroke): #[0-9a-f]{3,6}", body) == []


def test_report_page_headline_is_that_of_the_analysis(study: Path) -> None:
    records = make_study()
    full = Method(LITE0, None, "full", (("epochs", 10), ("learning_rate", 0.001)))
    found = compare_methods(records_frame(records), Method(LITE0, "auto", "gaussian"), full)
    text = (study / "report" / "index.html").read_text().replace("−", "-")
    page = Page(text)
    assert f'<span class="value">{len(records)}</span>' in text
    assert f'<span class="value">{100 * found.mean:+.1f}</span>' in text
    assert found.interval is not None
    low, high = (100 * end for end in found.interval)
    assert f"95 % interval {low:+.1f} to {high:+.1f}; 7 data sets" in page.text
    rows = list(csv.DictReader((study / "report/tables/differences.csv").open()))
    last = rows[-1]
    assert last["minus"].startswith("fine-tuning full")
    assert float(last["mean"]) == pytest.approx(100 * found.mean, rel=1e-12)
    assert float(last["95 % interval high"]) == pytest.approx(high, rel=1e-12)
    assert "MemoryError: too large" in page.text


def test_write_report_same_records_gives_the_same_bytes(study: Path, tmp_path: Path) -> None:
    records = [*make_study(), failed_record(dataset="set0", head="knn")]
    again = write_study(tmp_path / "study", records[::-1])
    page = write_report(again, tmp_path / "elsewhere")
    assert page == tmp_path / "elsewhere" / "index.html"
    assert contents(page.parent) == contents(study / "report")
    assert (again / "results.parquet").read_bytes() == (study / "results.parquet").read_bytes()
    write_report(again, tmp_path / "elsewhere")  # now from both kinds of files
    assert contents(page.parent) == contents(study / "report")


# ---------------------------------------------------------------------------------- partial studies


PARTIAL = {
    "one record": [make_record()],
    "without fine-tuning": make_study(fine_tuning=False),
    "fine-tuning alone": [r for r in make_study() if r["head"] == "full"],
    "without the last layer": [r for r in make_study() if r["layers"] != "last"],
    "without other networks": [r for r in make_study() if r["backbone"] == LITE0],
    "without parts": [r for r in make_study() if r["size"] == 1],
    "parts alone": [r for r in make_study() if r["size"] < 1],
    "one data set": make_study(["alone"]),
    "no times": [r | {"seconds": {"fit": None}} for r in make_study()],
    "another head": [r for r in make_study() if r["head"] == "svc"],
}


@pytest.fixture
def _no_png(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the slowest of what is drawn, which is drawn from the same figures."""
    monkeypatch.setattr(report, "png_bytes", lambda figure: b"")


@pytest.mark.usefixtures("_no_png")
@pytest.mark.parametrize("case", PARTIAL)
def test_write_report_partial_study_says_what_is_missing(case: str, tmp_path: Path) -> None:
    folder = write_study(tmp_path / "study", PARTIAL[case])
    page = Page(write_report(folder).read_text())
    summary = Summary(records_frame(PARTIAL[case]))
    gone = [table.why for table in all_tables(summary).values() if isinstance(table, Missing)]
    assert gone
    for why in gone:
        assert f"Not here yet: {why}." in page.text or why == "no cell failed"


def test_summary_backbones_line_with_another_network_is_left_out() -> None:
    """Found in use: heads with as many networks, but others, shared one line of names."""
    records = make_study()
    for name in {row["dataset"] for row in records}:
        records += [
            make_record(name, "ridge", backbone=backbone, n_test=40, classes=("a", "b", "c"))
            for backbone in (LITE0, "efficientnet_lite1", "resnet18.a1_in1k")
        ]
    found = Summary(records_frame(records)).backbones
    assert found.table.columns.tolist() == [LITE0, "efficientnet_lite1", "efficientnet_lite2"]
    assert {method.head for method in found.table.index} == {"gaussian", "logistic"}


@pytest.mark.usefixtures("_no_png")
def test_write_report_removes_tables_of_an_earlier_report(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "study", PARTIAL["one data set"])
    write_report(folder)
    assert (folder / "report/tables/times.csv").is_file()
    (folder / "report/own.txt").write_text("kept")
    for path in (folder / "records").glob("*.json"):
        if json.loads(path.read_text())["head"] == "full":
            path.unlink()
    (folder / "results.parquet").unlink()
    write_report(folder)
    assert not (folder / "report/tables/times.csv").exists()
    assert not (folder / "report/figures/times.svg").exists()
    assert (folder / "report/own.txt").is_file()


def test_write_report_without_records_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no records: run the study first"):
        write_report(tmp_path)
    folder = write_study(tmp_path / "failed", [failed_record()])
    with pytest.raises(DataError, match="no cell of the study has ended well: all 1 failed"):
        write_report(folder)


def test_write_report_into_a_file_is_refused(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "study", [make_record()])
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write the report to"):
        write_report(folder, tmp_path / "file")


def test_write_report_records_of_other_plans_are_left_out(tmp_path: Path) -> None:
    from toptune_study.plan import read_plan

    (tmp_path / "study").mkdir()
    plan = tmp_path / "study" / "plan.yaml"
    plan.write_text("name: two heads\nparts: [{datasets: [digits], heads: [gaussian, svc]}]\n")
    cells = read_plan(plan).cells()
    records = [make_record("digits", id=cells[0].id), make_record("digits", "knn")]
    page = write_report(_add(plan, records))
    text = Page(page.read_text()).text
    assert "Study two heads" in text
    assert "1 done, 0 failed, 1 still to run; 1 records that the plan does not ask for" in text
    assert "knn" not in text


def _add(plan: Path, records: list[Record]) -> Path:
    write_study(plan.parent / "new", records)
    (plan.parent / "new" / "records").rename(plan.parent / "records")
    return plan.parent


# ------------------------------------------------------------------------------------ hostile names


@pytest.mark.usefixtures("_no_png")
def test_write_report_hostile_names_stay_text(tmp_path: Path) -> None:
    names = [f"{HOSTILE}{k}" for k in range(7)]
    records = [
        row | {"recalls": {HOSTILE: 1.0}, "processor": HOSTILE, "versions": {HOSTILE: HOSTILE}}
        for row in make_study(names)
    ]
    records.append(failed_record(dataset=names[0], head="knn") | {"error": f"E: {HOSTILE}"})
    folder = write_study(tmp_path / "study", records)
    page = Page(write_report(folder).read_text())
    assert "b" not in page.tags
    for name in names:
        assert name in page.text
    files = contents(folder / "report")
    svg = ElementTree.fromstring(files["figures/accuracy.svg"])
    assert names[0] in "".join(svg.itertext())
    latex = files["tables/datasets.tex"].decode()
    body = latex[latex.index("midrule") :].replace(latex_text(HOSTILE), "")
    assert not set("$#%_") & set(re.sub(r"\$-\$", "", body))
    markdown = files["tables/datasets.md"].decode().splitlines()
    bars = {len(re.findall(r"(?<!\\)\|", line)) for line in markdown if line.startswith("|")}
    assert len(bars) == 1
    rows = list(csv.reader(io.StringIO(files["tables/datasets.csv"].decode())))
    assert [row[0] for row in rows[1:]] == sorted(names)


@pytest.mark.parametrize(
    ("text", "latex", "markdown"),
    [
        ("a_b", r"a\_b", "a_b"),
        ("_a", r"\_a", r"\_a"),
        ("50 % & more", r"50 \% \& more", "50 % &amp; more"),
        ("{x}~^", r"\{x\}\textasciitilde{}\textasciicircum{}", r"{x}\~^"),
        ("a\\b", r"a\textbackslash{}b", r"a\\b"),
        ("-1.5 to -0.2", "$-$1.5 to $-$0.2", "-1.5 to -0.2"),
        ("lp-ft 2026-01-02", "lp-ft 2026-01-02", "lp-ft 2026-01-02"),
        ("two\nlines | bar", "two lines | bar", r"two lines \| bar"),
        ("<b>", r"\textless{}b\textgreater{}", "&lt;b&gt;"),
    ],
)
def test_latex_and_markdown_text_escape(text: str, latex: str, markdown: str) -> None:
    assert latex_text(text) == latex
    assert markdown_text(text) == markdown


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (None, "points", "–"),
        (float("nan"), "score", "–"),
        (0.8634, "score", "0.863"),
        (-0.04, "points", "0.0"),
        (1.25, "points", "+1.2"),
        ((-0.31, 1.26), "points range", "-0.3 to +1.3"),
        ((9.5, 123.4), "range", "9.50 to 123"),
        (0.0004, "p", "< 0.001"),
        (0.0312, "p", "0.031"),
        (12.34, "seconds", "12.3"),
        (7, "count", "7"),
    ],
)
def test_shown_formats_values(value: Any, kind: Any, expected: str) -> None:
    assert shown(value, kind) == expected


def test_table_csv_keeps_precision_and_splits_ranges() -> None:
    table = Table("T", ("data set", "95 % interval"), [("a", (1 / 3, 2.0)), ("b", None)])
    lines = ["data set,95 % interval low,95 % interval high", f"a,{1 / 3!r},2.0", "b,,", ""]
    assert table.csv() == "\n".join(lines)


def test_methods_table_other_ways_to_fine_tune_are_timed_on_their_data_sets() -> None:
    records = make_study()
    for name in ("set0", "set1", "set2"):
        records.append(
            make_record(
                name,
                "full",
                layers=None,
                settings={"learning_rate": "auto"},
                right=40,
                n_test=40,
                classes=("a", "b", "c"),
                seconds={"decode": 1.0, "select": 100.0, "fit": 59.0},
            )
        )
    methods = all_tables(Summary(records_frame(records)))["methods"]
    assert isinstance(methods, Table)
    ratios = {row[0]: row[-1] for row in methods.rows}
    tuned = ratios["fine-tuning full (learning_rate auto), efficientnet_lite0"]
    assert tuned == pytest.approx((1 + 100 + 59) / (3 + 1))
    assert ratios["gaussian, many layers, efficientnet_lite0"] is None

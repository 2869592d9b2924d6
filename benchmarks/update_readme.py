"""Write results.md and the table of the README, from records of the study and JSON files.

python benchmarks/update_readme.py

The study is studies/main; what the benchmarks leave lies in benchmarks/results.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import common

from toptune_study.frames import Method, score_table
from toptune_study.inference import bootstrap_interval
from toptune_study.records import RECORDS, RESULTS
from toptune_study.report import interval_text, open_study
from toptune_study.summary import Missing, Summary, attempt
from toptune_study.tables import Table, method_title, shown

HERE = Path(__file__).parent
STUDY = HERE.parent / "studies" / "main"
STUDY_MARKS = ("<!-- study: written by benchmarks/update_readme.py -->", "<!-- end of study -->")
MARKS = ("<!-- results: written by benchmarks/update_readme.py -->", "<!-- end of results -->")


def accuracy_table() -> list[str]:
    found = common.read_json("layers")
    summary, rate = found["summary"], found["rate"]
    n = len({record["dataset"] for record in found["records"]})
    lines = [
        f"Test accuracy of EfficientNet-Lite 0 with the kernel head, mean over {n} image data sets "
        "(their own split, else three random ones of 70/30), everything chosen on the training "
        "part:",
        "",
        "| features | accuracy |",
        "|---|---|",
        f"| **many layers** (the default) | {summary['auto']:.3f} |",
        f"| last layer | {summary['last']:.3f} |",
        "",
        f"Leave-one-out promises what the test part shows to {100 * summary['loo_error']:.1f} "
        f"points on average. All layers are extracted at {100 * rate['ratio']['auto']:.0f} % of "
        "the speed of the last one.",
    ]
    return [*lines, "", *heads_table()]


def heads_table() -> list[str]:
    found = common.read_json("accuracy")
    n = len({record["dataset"] for record in found["records"]})
    lines = [
        f"Heads on the same features, mean over {n} sets (the last layer; the pixels of "
        "scikit-learn's digits), all tuned on the training part:",
        "",
        "| method | accuracy |",
        "|---|---|",
    ]
    for method, accuracy in found["mean"].items():
        name = f"**{method}** (this package)" if method == "kernel head" else method
        lines.append(f"| {name} | {accuracy:.3f} |")
    return lines


def other_lines() -> list[str]:
    head, extraction = common.read_json("head")["mean"], common.read_json("extraction")
    rate, decoding = extraction["rate"], extraction["decoding"]
    lines = [
        "",
        f"Measured on {extraction['measured_on']['cpus']} cores of an "
        f"{extraction['measured_on']['processor'] or 'x86 processor'}:",
        "",
        f"- from JPEG files to features {rate['files to features']:.0f} images per second, "
        f"{rate['times PyTorch eager']:.1f} times the usual PyTorch loop "
        f"({rate['PyTorch eager, batch 32']:.0f} per second, its images decoded beforehand);",
        f"- JPEGs of 12 megapixels are decoded {decoding['times faster']:.1f} times faster than in "
        f"full (cosine of the features at least {decoding['feature cosine, least']:.3f});",
        f"- a head on the last layer of the demo's images: {head['seconds']:.1f} s for selection "
        f"and training on 1,968 images, {head['times_faster']:.0f} times faster than a 3 x 3 x 3 "
        f"grid search of an SVC, held-out accuracy {head['accuracy']:.3f} against "
        f"{head['svc_accuracy']:.3f}.",
    ]
    solver = common.read_json("solver")
    direct, million, growth = solver["direct"], solver["million"], solver["growth"]
    lines[-1] = lines[-1][:-1] + ";"
    lines += [
        "- 20,000 samples, 2,000 centers, 10 classes: a fit whose penalty is chosen by exact "
        f"leave-one-out takes {direct['ratio']:.2f} times as long as its kernel matrix, two "
        "products and one eigendecomposition alone; "
        f"{growth_in_words(growth['exponent'])} up to 320,000 samples;",
        f"- 1,000,000 samples of float16 in a file of 2.6 GB, 4,000 centers: "
        f"{million['seconds'] / 60:.0f} minutes at "
        f"{100 * million['share_of_matmul_rate']:.0f} % of the speed of a matrix product, "
        f"{million['peak_bytes'] / 1e9:.1f} GB of memory at most;",
        updating_line(),
    ]
    return [*lines, *trust_lines()]


def trust_lines() -> list[str]:
    """Say how far probabilities, prediction sets, and what is called unknown or suspect hold."""
    found = common.read_json("trust")
    every, like = found["means"]["all"], found["means"]["exchangeable"]
    n = len(found["datasets"])
    m = sum(row["exchangeable"] for row in found["datasets"])
    return [
        "",
        f"What answers are worth, means over {n} data sets, where it says so over the {m} whose "
        "test images are of the same kind as the training images:",
        "",
        f"- calibration error {like['ece']:.3f} on those {m} (softmax of the scores "
        f"{like['ece_uncalibrated']:.3f}, logistic regression {like['ece_logistic_untuned']:.3f}, "
        f"{like['ece_logistic']:.3f} with its C tuned), {every['ece']:.3f} on all;",
        f"- prediction sets for 90 % and 95 % hold the true class in "
        f"{100 * like['coverage 90%']:.1f} % and {100 * like['coverage 95%']:.1f} %;",
        f"- images of other data sets are told apart with an AUROC of {every['auroc']:.3f};",
        f"- of labels changed at random, 5 % of all, {100 * every['found']:.0f} % are among the 5 "
        f"% most suspected (cleanlab on logistic regression: "
        f"{100 * every['found_cleanlab_self_confidence']:.0f} %).",
    ]


def updating_line() -> str:
    """Say what changes of a trained head take."""
    found = common.read_json("updating")
    last, many = found["widths"]

    def percent(name: str) -> str:
        return f"{many[name]:.1f} % ({last[name]:.1f} % with the last layer alone)"

    return (
        f"- {found['changed']} images added to {found['n']:,} with {found['m']:,} centers in "
        f"{percent('add_percent')} of the time of a refit with the same centers, "
        f"{found['changed']} forgotten in {percent('forget_percent')}; leave-one-out after that "
        f"takes {percent('leave_one_out_percent')} when it is asked for."
    )


def growth_in_words(exponent: float) -> str:
    """Say how time grows; a fitted exponent below one is that of fixed costs."""
    if exponent <= 1.05:
        return "time grows no faster than n"
    return f"time grows as n to the power {exponent:.2f}"


def study_lines() -> list[str]:
    """Return what the main study found; nothing where it has no records."""
    if not (STUDY / RESULTS).is_file() and not any((STUDY / RECORDS).glob("*.json")):
        return []
    return study_text(STUDY).splitlines()


def study_text(study: Path) -> str:
    """Return the headline and the main methods of a study as Markdown."""
    summary, provenance = open_study(study)
    methods = [
        *summary.heads(),
        *([summary.last] if summary.has(summary.last) else []),
        *(m for m in [attempt(lambda: summary.full)] if isinstance(m, Method)),
    ]
    return (
        f"A study of {provenance.done:,} training processes on {len(summary.datasets)} data sets. "
        f"{headline_sentence(summary)}\n\n{other_ways(summary)}{common_table(summary, methods)}"
    )


def headline_sentence(summary: Summary) -> str:
    """Compare top-tuning with fine-tuning of all weights."""
    versus = attempt(lambda: summary.versus_full)
    times = attempt(lambda: summary.times_full)
    title = method_title(summary.reference, summary)
    if isinstance(versus, Missing) or isinstance(times, Missing):
        return f"Top-tuning is the {title}."
    given = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in summary.full.settings)
    ratio = interval_text(times.interval, 1, "range").rstrip("; ")
    return (
        f"Top-tuning ({title}) against fine-tuning all weights of the same network"
        + (f" ({given}; no search for better ones)" if given else "")
        + f" on {len(versus.differences)} of them: {shown(100 * versus.mean, 'points')} points of "
        f"accuracy ({interval_text(versus.interval, 100, 'points range')}Wilcoxon p "
        f"{shown(versus.p_value, 'p')}), better on {versus.wins} and worse on {versus.losses}, "
        f"trained {shown(times.geometric_mean, 'ratio')} times faster"
        + (f" ({ratio})" if ratio else "")
        + "."
    )


def other_ways(summary: Summary) -> str:
    """List what other ways to fine-tune gave, each on the data sets that it was run on."""
    lines, full = [], attempt(lambda: summary.full)
    for method in summary.tuned:
        versus = attempt(partial(summary.versus, method))
        times = attempt(partial(summary.times, method))
        if method == full or isinstance(versus, Missing) or isinstance(times, Missing):
            continue
        between = interval_text(versus.interval, 100, "points range").rstrip("; ")
        lines.append(
            f"- {method_title(method, summary)}, on {len(versus.differences)} data sets: "
            f"{shown(100 * versus.mean, 'points')} points{f' ({between})' if between else ''}, and "
            f"it took {shown(times.geometric_mean, 'ratio')} times as long as top-tuning\n"
        )
    return "Top-tuning minus other ways to fine-tune:\n\n" + "".join(lines) + "\n" if lines else ""


def common_table(summary: Summary, methods: list[Method]) -> str:
    """Accuracy of methods on the data sets that all of them have, and what top-tuning gains."""
    if summary.reference not in methods:
        return f"No records of {method_title(summary.reference, summary)} yet.\n"
    scores = score_table(summary.frame, methods).scores.dropna()
    if scores.empty:
        return "No data set has records of all methods yet.\n"
    rows = []
    for method in methods:
        row = [method_title(method, summary), float(scores[method].mean()), None, None]
        if method != summary.reference:
            gain = 100 * (scores[summary.reference] - scores[method])
            row[2:] = float(gain.mean()), bootstrap_interval(gain)
        rows.append(row)
    accuracy = f"accuracy, mean of {len(scores)} data sets"
    columns = ("method", accuracy, "top-tuning minus it, points", "95 % interval")
    return Table("", columns, rows).markdown()


def replaced(text: str, marks: tuple[str, str], lines: list[str]) -> str:
    """Replace what is between the marks."""
    pattern = re.escape(marks[0]) + ".*?" + re.escape(marks[1])
    if not re.search(pattern, text, flags=re.DOTALL):
        raise SystemExit(f"there are no lines {marks[0]} and {marks[1]}")
    new = "\n".join([marks[0], *lines, marks[1]])
    return re.sub(pattern, lambda _: new, text, flags=re.DOTALL)


def readme_table() -> list[str]:
    """Return the main results, each with the command that measured it."""
    layers, heads = common.read_json("layers"), common.read_json("accuracy")
    means, summary = heads["mean"], layers["summary"]
    trust, rate = common.read_json("trust")["means"], common.read_json("extraction")["rate"]
    n_layers = len({record["dataset"] for record in layers["records"]})
    n_heads = len({record["dataset"] for record in heads["records"]})
    rows = [
        (
            f"test accuracy, many layers against the last one, {n_layers} data sets",
            f"{summary['auto']:.3f} against {summary['last']:.3f}",
            "layers.py",
        ),
        ("leave-one-out against test", f"{100 * summary['loo_error']:.1f} points", "layers.py"),
        (
            f"kernel classifier against logistic regression and SVC, same features, {n_heads} sets",
            f"{means['kernel head']:.3f} against {means['LogisticRegression']:.3f}, "
            f"{means['SVC']:.3f}",
            "accuracy.py",
        ),
        (
            "calibration error of the probabilities",
            f"{trust['exchangeable']['ece']:.3f}",
            "trust.py",
        ),
        (
            "images per second from JPEG files, against the usual PyTorch loop",
            f"{rate['files to features']:.0f}, {rate['times PyTorch eager']:.1f} times as many",
            "extraction.py",
        ),
    ]
    lines = [f"| {what} | {result} | `benchmarks/{by}` |" for what, result, by in rows]
    return ["| measured | result | command |", "|---|---|---|", *lines]


def main() -> None:
    """Replace what is between the marks."""
    results, readme = HERE / "results.md", HERE.parent / "README.md"
    study = study_lines()
    text = results.read_text(encoding="utf-8")
    if study:
        text = replaced(text, STUDY_MARKS, study)
    text = replaced(text, MARKS, [*accuracy_table(), *other_lines()])
    results.write_text(text, encoding="utf-8")
    headline = [study[0], "", "Measured by `toptune study run studies/main`.", ""] if study else []
    text = replaced(readme.read_text(encoding="utf-8"), MARKS, [*headline, *readme_table()])
    readme.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

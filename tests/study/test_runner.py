"""Studies end whole, whatever happens: kills, full disks, changed images, two runs at a time."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from study_records import failed_record, make_record

from toptune.errors import DataError, StorageError
from toptune_study import worker
from toptune_study.plan import read_plan
from toptune_study.records import (
    forget_failed,
    read_records,
    unpack_results,
    write_record,
    write_results,
)
from toptune_study.runner import divided, run_study, study_status

MakeStudy = Callable[..., Path]

FAST = ["gaussian", "ridge", "knn", "centroid"]
PART = {"datasets": ["monkeys10", "animals3"], "heads": FAST, "sizes": [0.5, 1.0], "seeds": [0, 1]}
TUNING = {
    "datasets": ["animals3"],
    "heads": [{"name": "head-only", "settings": {"epochs": 2, "learning_rate": 0.01}}],
}


def scores(study: Path) -> dict[str, Any]:
    """What does not change from one run to another."""
    names = ("accuracy", "log_loss", "predicted", "recalls", "n_train", "chosen", "error")
    return {i: [record[name] for name in names] for i, record in read_records(study).items()}


def start_run(study: Path) -> subprocess.Popen[bytes]:
    """Run a study in another process, in a group of its own that can be killed as a whole."""
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from toptune.cli import main; main()",
            "study",
            "run",
            str(study),
            "--workers",
            "1",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, process.stderr and process.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def run_here(study: Path) -> None:
    """Run a study in this process, as a worker does."""
    worker.work(study, read_plan(study / "plan.yaml").cells())


@pytest.mark.slow
def test_run_study_killed_resumes_to_the_same_records(data: Path, make_study: MakeStudy) -> None:
    whole = make_study(PART, name="whole")
    status = run_study(whole, workers=1)
    assert not status.waiting
    assert not status.failed
    assert len(status.records) == len(read_plan(whole / "plan.yaml").cells()) == 28

    broken = make_study(PART, name="broken")
    process = start_run(broken)
    wait_for(lambda: len(list((broken / "records").glob("*.json"))) >= 3, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = {path: path.read_bytes() for path in (broken / "records").glob("*.json")}
    assert 3 <= len(before) < 28
    run_study(broken, workers=1)
    assert all(path.read_bytes() == content for path, content in before.items())  # not run twice
    assert scores(broken) == scores(whole)


@pytest.mark.slow
def test_run_study_twice_at_a_time_divides_the_cells(data: Path, make_study: MakeStudy) -> None:
    study = make_study(PART | {"seeds": [0]})
    other = start_run(study)
    run_study(study, workers=1)
    assert other.wait(timeout=300) == 0
    assert not study_status(study).waiting
    assert not study_status(study).failed
    leftovers = [path.name for path in (study / "claims").glob("worker-*")]
    assert leftovers == []


@pytest.mark.slow
def test_run_study_killed_worker_fails_its_cell_only(data: Path, make_study: MakeStudy) -> None:
    study = make_study(TUNING, PART | {"datasets": ["animals3"], "seeds": [0], "sizes": [1.0]})
    (tuning,) = (cell for cell in read_plan(study / "plan.yaml").cells() if cell.fine_tuning)
    process = start_run(study)

    def at_work() -> list[str]:
        notes = (study / "claims").glob("worker-*")
        return [note.name for note in notes if note.read_text() == tuning.id]

    wait_for(lambda: bool(at_work()), process)
    os.kill(int(at_work()[0].rsplit("-", 1)[1]), signal.SIGKILL)
    assert process.wait(timeout=300) == 0
    status = study_status(study)
    assert not status.waiting
    (failed,) = status.failed
    assert failed["id"] == tuning.id
    assert failed["error"] == "its process died: signal 9"

    status = run_study(study, workers=1, again=True)
    assert not status.failed
    assert not status.waiting


def test_worker_failed_cell_does_not_stop_the_others(data: Path, make_study: MakeStudy) -> None:
    part = {"datasets": ["animals3"], "heads": ["centroid", "ridge"]}
    study = make_study(part, part | {"backbones": ["no_such_net.in1k"]})
    run_here(study)
    status = study_status(study)
    assert not status.waiting
    assert sorted(record["head"] for record in status.failed) == ["centroid", "ridge"]
    assert all("no_such_net" in record["error"] for record in status.failed)
    assert status.counts("backbone").to_dict("index") == {
        "efficientnet_lite0": {"done": 2, "failed": 0, "cells": 2},
        "no_such_net.in1k": {"done": 0, "failed": 2, "cells": 2},
    }
    old = {path: path.read_bytes() for path in (study / "records").iterdir()}
    run_here(study)  # what failed stays failed until it is asked for
    assert {path: path.read_bytes() for path in (study / "records").iterdir()} == old
    # A wrong word does not cost records.
    with pytest.raises(DataError, match="the plan has no head 'svm'"):
        run_study(study, heads=["svm"], again=True)
    failed = [record["id"] for record in study_status(study).failed]
    assert forget_failed(study, failed[:1]) == 1
    assert [cell.id for cell in study_status(study).waiting] == failed[:1]
    assert forget_failed(study, failed) == 1
    assert forget_failed(study, failed) == 0


def test_run_study_changed_images_are_refused(data: Path, make_study: MakeStudy) -> None:
    part = {"datasets": ["animals3"], "heads": ["centroid"]}
    study = make_study(part)
    run_here(study)
    make_study(part | {"seeds": [0, 1]})
    Image.new("RGB", (48, 40)).save(data / "animals3" / "dark" / "3.png")
    with pytest.raises(DataError, match="images of the data set animals3 have changed since 1 "):
        run_study(study, workers=1)


def test_study_status_larger_plan_waits_for_what_is_new(data: Path, make_study: MakeStudy) -> None:
    part = {"datasets": ["animals3"], "heads": ["centroid"]}
    study = make_study(part)
    run_here(study)
    make_study(part | {"heads": ["ridge"]})
    status = study_status(study)
    assert (len(status.waiting), len(status.records), status.other) == (1, 0, 1)


def test_run_study_absent_data_sets_are_named(data: Path, make_study: MakeStudy) -> None:
    study = make_study({"datasets": ["animals3", "brain_mri"], "heads": ["centroid"]})
    run_here(study)
    status = run_study(study)  # which finds nothing to do
    assert status.absent == ("brain_mri",)
    assert [cell.dataset for cell in status.waiting] == ["brain_mri"]
    with pytest.raises(DataError, match="none of the plan's data sets is on this machine"):
        run_study(make_study({"datasets": ["brain_mri"], "heads": ["ridge"]}, name="b"))
    with pytest.raises(DataError, match="the plan has no head 'svc'; it has centroid"):
        run_study(study, heads=["svc"])


def test_worker_full_disk_stops_and_resumes(
    data: Path, make_study: MakeStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study({"datasets": ["animals3"], "heads": FAST})
    replace, written = Path.replace, []

    def full(path: Path, target: Path) -> Path:
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        written.extend([target] if target.suffix == ".json" else [])
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(StorageError, match="No space left on device"):
        run_here(study)
    assert len(read_records(study)) == 2  # nothing half written
    monkeypatch.setattr(Path, "replace", replace)
    run_here(study)
    assert len(read_records(study)) == 4


def test_run_study_without_storage_ends(data: Path, make_study: MakeStudy) -> None:
    study = make_study({"datasets": ["animals3"], "heads": ["centroid"]})
    (study / "records").write_text("a file where the folder of records has to be")
    with pytest.raises(StorageError, match=r"the study stops, and can be resumed: .*records"):
        run_study(study, workers=1)


def test_write_results_records_survive_parquet(tmp_path: Path) -> None:
    first = {
        "id": "a" * 16,
        "settings": {"epochs": 3},
        "recalls": {"x.y": 0.5, "": 1.0},
        "seconds": {"fit": 1.5},
        "versions": {"torch": "2"},
        "predicted": [0, 1],
        "log_loss": None,
        "layers": None,
        "error": None,
    }
    second = first | {"id": "b" * 16, "log_loss": 0.25, "layers": "auto", "settings": {}}
    write_results(tmp_path, [second, first])
    packed = read_records(tmp_path)
    assert packed == {"a" * 16: first, "b" * 16: second}
    unpack_results(tmp_path)
    assert read_records(tmp_path) == packed
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["records"]
    newer = second | {"log_loss": 0.125}
    write_record(tmp_path, newer)
    unpack_results(tmp_path)  # which leaves what is there
    assert read_records(tmp_path)["b" * 16] == newer
    (tmp_path / "records" / f"{'b' * 16}.json").unlink()
    assert read_records(tmp_path).keys() == {"a" * 16}  # it was deleted, and is to run again


def test_worker_copy_with_the_table_alone_goes_on(data: Path, make_study: MakeStudy) -> None:
    part = {"datasets": ["animals3"], "heads": ["centroid"]}
    study = make_study(part)
    run_here(study)
    write_results(study, read_records(study).values())
    before = read_records(study)
    shutil.rmtree(study / "records")
    make_study(part | {"heads": ["centroid", "ridge"]})
    assert len(study_status(study).waiting) == 1
    run_here(study)
    after = read_records(study)
    assert len(after) == 2
    assert before.items() <= after.items()


def test_read_records_damaged_files_are_named(tmp_path: Path) -> None:
    write_record(tmp_path, {"id": "a" * 16, "error": None})
    path = tmp_path / "records" / f"{'a' * 16}.json"
    path.write_text(path.read_text()[:10])
    with pytest.raises(DataError, match=f"{'a' * 16}.json is damaged.*delete it"):
        read_records(tmp_path)
    path.write_text(json.dumps({"id": "b" * 16}))
    with pytest.raises(DataError, match="it is of the cell b"):
        read_records(tmp_path)
    shutil.rmtree(tmp_path / "records")
    (tmp_path / "results.parquet").write_bytes(b"PAR1 and nothing")
    with pytest.raises(DataError, match=r"results\.parquet is damaged"):
        read_records(tmp_path)


def test_divided_processors_are_even_or_shared() -> None:
    have = [2, 3, 5, 7]
    assert divided(have, 2) == [[2, 5], [3, 7]]
    assert divided(have, 3) == [[2, 7], [3], [5]]
    assert divided(have, 5) == [[2], [3], [5], [7], [2]]
    with pytest.raises(ValueError, match="workers must be >= 1, got 0"):
        divided(have, 0)


def test_write_results_failed_record_first_takes_nothing_from_the_others(tmp_path: Path) -> None:
    records = [failed_record(dataset="a"), make_record("b", energy_kwh=0.5), make_record("c")]
    write_results(tmp_path, records)
    found = read_records(tmp_path)
    for record in records:
        assert record.items() <= found[record["id"]].items()

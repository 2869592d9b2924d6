"""A plan is the product it says, cells are named by what they are, and faults are named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toptune.errors import DataError
from toptune_study.plan import Cell, Plan, read_plan

PART = {"datasets": ["animals3"], "heads": ["gaussian"]}


def cells(*parts: dict[str, object]) -> list[Cell]:
    return Plan.model_validate({"name": "a", "parts": parts}).cells()


def test_plan_part_is_a_product() -> None:
    part = {
        "datasets": ["animals3", "brain_mri"],
        "heads": ["gaussian", "ridge", "svc"],
        "layers": ["last", "auto"],
        "sizes": [0.5, 1.0],
        "seeds": [0, 1, 2],
    }
    found = cells(part)
    assert len(found) == 2 * 3 * 2 * 2 * 3
    assert len({cell.id for cell in found}) == len(found)


def test_plan_cell_of_two_parts_is_run_once() -> None:
    assert len(cells(PART, {**PART, "seeds": [0, 1]})) == 2


def test_plan_own_split_is_not_repeated_where_nothing_is_drawn() -> None:
    part = {"datasets": ["monkeys10", "animals3"], "heads": ["ridge"], "seeds": [0, 1, 2]}
    assert [(c.dataset, c.seed) for c in cells(part)] == [
        ("monkeys10", 0),
        *(("animals3", seed) for seed in (0, 1, 2)),
    ]
    assert len(cells({**part, "sizes": [0.5]})) == 6  # the part of the images is drawn
    assert len(cells({**part, "heads": ["full"]})) == 6  # batches are drawn


def test_plan_layers_do_not_multiply_fine_tuning() -> None:
    found = cells({**PART, "heads": ["full", "ridge"], "layers": ["last", "auto"]})
    assert [(c.head, c.layers) for c in found] == [
        ("ridge", "auto"),
        ("ridge", "last"),
        ("full", None),
    ]


@given(
    size=st.floats(0.01, 1.0),
    seed=st.integers(0, 99),
    epochs=st.integers(1, 50),
    other=st.integers(1, 50),
)
def test_cell_id_differs_with_the_specification(
    size: float, seed: int, epochs: int, other: int
) -> None:
    def cell(n: int) -> Cell:
        return Cell(
            dataset="animals3",
            backbone="efficientnet_lite0",
            layers=None,
            head="full",
            settings=(("epochs", n),),
            size=size,
            seed=seed,
        )

    assert (cell(epochs).id == cell(other).id) == (epochs == other)
    assert cell(epochs).id == Cell.model_validate(cell(epochs).model_dump()).id


def test_cell_id_is_that_of_earlier_versions() -> None:
    cell = Cell(dataset="animals3", backbone="efficientnet_lite0", layers="auto", head="gaussian")
    assert cell.id == "628dbda869a137dd"


def tuned(**settings: object) -> dict[str, object]:
    return {"heads": [{"name": "full", "settings": settings}]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"datasets": ["animals4"]}, "unknown data set 'animals4'; known are .*animals3"),
        ({"heads": ["gausian"]}, "unknown head 'gausian'; known are kernel, gaussian"),
        ({"backbones": ["lite9"]}, "unknown backbone 'lite9'; embedded are efficientnet_lite0"),
        ({"heads": [{"name": "full", "settings": {"epoch": 3}}]}, "no setting 'epoch'.*epochs"),
        ({"heads": [{"name": "svc", "settings": {"C": 3}}]}, "svc has no setting 'C'"),
        (tuned(learning_rate="1e-3"), "learning_rate must be a number > 0, got '1e-3'; in YAML"),
        (tuned(learning_rate=-1), "learning_rate must be a number > 0, got -1"),
        (tuned(epochs="ten"), "epochs must be a whole number >= 1, got 'ten'"),
        (tuned(epochs=0), "epochs must be a whole number >= 1, got 0"),
        (tuned(epochs=True), "epochs must be a whole number >= 1, got True"),
        (tuned(layer_decay=1.5), "layer_decay must be a number > 0 and <= 1, got 1.5"),
        (tuned(ema=1), "ema must be true or false, got 1"),
        ({"layers": ["first"]}, "'last' or 'auto'"),
        ({"sizes": [0]}, "greater than 0"),
        ({"sizes": [1.5]}, "less than or equal to 1"),
        ({"seeds": [-1]}, "greater than or equal to 0"),
        ({"seeds": []}, "at least 1"),
        ({"colour": ["red"]}, "colour"),
    ],
)
def test_read_plan_wrong_value_is_refused_by_name(
    change: dict[str, object], message: str, make_study: Callable[..., Path]
) -> None:
    study = make_study(PART | change)
    with pytest.raises(DataError, match=message) as raised:
        read_plan(study / "plan.yaml")
    assert "\n" not in str(raised.value)
    assert "at least 1 item" not in str(raised.value) or change.get("seeds") == []


@pytest.mark.parametrize("text", ["", "name: a", "- 1", "name: a\nparts: []", "{", "\x00"])
def test_read_plan_other_content_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(text)
    with pytest.raises(DataError, match=r"plan\.yaml is no"):
        read_plan(tmp_path / "plan.yaml")


def test_read_plan_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read the plan .*plan\.yaml: No such file"):
        read_plan(tmp_path / "plan.yaml")


def test_read_plan_plans_of_this_project_are_valid() -> None:
    plans = list((Path(__file__).parents[2] / "studies").glob("*/plan.yaml"))
    assert plans
    for path in plans:
        assert read_plan(path).cells()


def test_plan_settings_within_their_ranges_are_accepted() -> None:
    given = {"epochs": 3, "learning_rate": "auto", "layer_decay": 1, "ema": True, "patience": 2}
    (cell,) = cells({**PART, "heads": [{"name": "full", "settings": given}]})
    assert dict(cell.settings) == given


def test_plan_setting_of_several_types_is_sorted() -> None:
    """Found in use: a plan with `learning_rate: auto` beside a number could not be ordered."""
    heads = [{"name": "full", "settings": {"learning_rate": rate}} for rate in (0.001, "auto")]
    assert len(cells({**PART, "heads": heads})) == 2

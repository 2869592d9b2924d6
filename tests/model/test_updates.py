"""Changed image classifiers: as if trained on the changed images; refusals change nothing."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from toptune import DataError, Features, TopTuner
from toptune.errors import DataWarning, ModelFileError, NotKeptError
from toptune.images import from_arrays
from toptune.runtime.tensor_file import load_tensors, save_tensors

#: Of scores, which are of size 1, where all is computed in float64; and in float32.
CLOSE, NEAR = 1e-6, 2e-3

_digits = load_digits(n_class=4)
PIXELS = np.repeat(np.repeat((_digits.images * 15.9).astype(np.uint8), 4, axis=1), 4, axis=2)
NAMES = np.array(["zero", "one", "two", "three"])[_digits.target]
THREE = np.flatnonzero(NAMES != "three")
FIRST, SECOND = THREE[:60], THREE[60:90]
FRESH = np.flatnonzero(NAMES == "three")[:10]
PROBE = np.arange(210, 230)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _one_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPTUNE_CACHE", str(cache))


@pytest.fixture(scope="module")
def make(tiny_name: str) -> Callable[..., TopTuner]:
    """A tuner whose hyperparameters are given, so that refits have the same."""
    networks: list[Any] = []  # loaded once

    def tuner(**options: Any) -> TopTuner:
        given = {"kernel": "gaussian", "bandwidth": 0.5, "penalty": 1e-4, "layers": "last"}
        made = TopTuner(backbone=tiny_name, precision="float32", **(given | options))
        if networks:
            made.extractor_ = networks[0]
        else:
            networks.append(made.prepare().extractor_)
        return made

    return tuner


@pytest.fixture(scope="module")
def all_features(tiny_name: str, tmp_path_factory: pytest.TempPathFactory) -> Features:
    """Features of all images, named by their number."""
    tuner = TopTuner(backbone=tiny_name, precision="float32", layers="last", cache=None)
    found = tuner.extract(from_arrays(list(PIXELS[:230]), NAMES[:230].tolist()))
    return replace(found, ids=tuple(f"digit {k}" for k in range(230)))


@pytest.fixture
def of(all_features: Features) -> Callable[..., Features]:
    """Features of some images, with groups if they are named."""

    def features(rows: np.ndarray, groups: Any = None) -> Features:
        found = all_features.subset(rows)
        return found if groups is None else replace(found, groups=np.array(groups))

    return features


def scores(tuner: TopTuner, features: Features) -> np.ndarray:
    """Scores by the definition, in float64."""
    X, Z = (
        tuner.normalizer_.transform(A.astype(np.float64))
        for A in (features.X, tuner.center_features_)
    )
    squares = ((X[:, None, :] - Z[None, :, :]) ** 2).sum(-1)
    out: np.ndarray = np.exp(-0.5 * squares / tuner.head_.bandwidth_**2) @ tuner.head_.dual_coef_
    return out


def state(tuner: TopTuner) -> dict[str, Any]:
    return {name: value for name, value in vars(tuner).items() if name != "extractor_"}


def assert_same(one: TopTuner, other: TopTuner, probe: Features, atol: float = CLOSE) -> None:
    """Same images, same answers, same leave-one-out."""
    assert one.classes_.tolist() == other.classes_.tolist()
    order = [one.ids_.index(name) for name in other.ids_]
    assert len(order) == len(one.ids_)
    assert one.codes_[order].tolist() == other.codes_.tolist()
    assert np.abs(scores(one, probe) - scores(other, probe)).max() < atol
    left_out = one.head_.loo_decision_function_[order] - other.head_.loo_decision_function_
    assert np.abs(left_out).max() < 10 * atol
    assert one.loo_.log_loss == pytest.approx(other.loo_.log_loss, abs=100 * atol)


# --------------------------------------------------------------------------------------- adding


def test_images_and_a_class_are_added(make: Callable[..., TopTuner], of: Any) -> None:
    tuner = make().fit_features(of(FIRST))
    before, kept = tuner.head_.dual_coef_, tuner.head_.dual_coef_.copy()
    assert tuner.partial_fit_features(of(np.r_[SECOND, FRESH])) is tuner
    assert_same(tuner, make().fit_features(of(np.r_[FIRST, SECOND, FRESH])), of(PROBE))
    assert tuner.classes_.tolist() == ["one", "three", "two", "zero"]
    assert tuner.head_.n_centers_ == 100  # all images are centers, as before
    assert tuner.head_.dual_coef_ is not before
    assert np.array_equal(before, kept)
    assert tuner.loo_.n == 100


def test_images_are_added_in_all_the_ways_that_fit_takes(
    make: Callable[..., TopTuner], tmp_path: Path
) -> None:
    def folder(root: str, rows: np.ndarray) -> Path:
        for k in rows:
            path = tmp_path / root / str(NAMES[k]) / f"{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(PIXELS[k]).save(path)
        return tmp_path / root

    tuner = make().partial_fit(folder("first", FIRST[:20]))  # the first call is a fit
    tuner.partial_fit(folder("second", FIRST[20:30]))
    paths = sorted(folder("third", FIRST[30:35]).rglob("*.png"))
    tuner.partial_fit(paths, labels=[path.parent.name for path in paths])
    tuner.partial_fit(list(PIXELS[FIRST[35:38]]), labels=NAMES[FIRST[35:38]])
    tuner.partial_fit(list(PIXELS[FIRST[38:40]]), NAMES[FIRST[38:40]])
    assert tuner.ids_[0].endswith(".png")
    folders = [str(tmp_path / "first"), str(tmp_path / "second")]
    assert tuner.provenance_["image_folders"][:2] == folders
    assert tuner.ids_[-5:] == tuple(f"image-{k:06d}" for k in range(5))  # numbered on
    whole = make().fit(list(PIXELS[FIRST[:40]]), labels=NAMES[FIRST[:40]])
    assert sorted(tuner.codes_.tolist()) == sorted(whole.codes_.tolist())
    probe = list(PIXELS[PROBE])
    assert np.abs(tuner.predict_proba(probe) - whole.predict_proba(probe)).max() < 1e-4
    assert tuner.seconds_.keys() == {"decode_extract", "select", "fit"}


def test_labels_stay_of_the_type_they_were(make: Callable[..., TopTuner], of: Any) -> None:
    tuner = make().fit(list(PIXELS[FIRST]), labels=_digits.target[FIRST])
    named = np.array([str(t) for t in _digits.target[SECOND]])
    tuner.partial_fit_features(replace(of(SECOND), labels=named))
    assert tuner.classes_.tolist() == [0, 1, 2]
    assert tuner.classes_[tuner.codes_].tolist() == _digits.target[np.r_[FIRST, SECOND]].tolist()
    tuner.partial_fit(list(PIXELS[FRESH]), labels=_digits.target[FRESH])
    assert tuner.classes_.tolist() == [0, 1, 2, 3]


def test_groups_are_left_out_whole_after_a_change(make: Callable[..., TopTuner], of: Any) -> None:
    first = [f"writer {k // 4}" for k in range(60)]
    second = [f"writer {k // 4}" for k in range(58, 88)]  # two of them are of a known writer
    tuner = make().fit_features(of(FIRST, first)).partial_fit_features(of(SECOND, second))
    whole = make().fit_features(of(np.r_[FIRST, SECOND], first + second))
    assert_same(tuner, whole, of(PROBE))
    single = make().fit_features(of(np.r_[FIRST, SECOND]))
    assert abs(single.loo_.log_loss - tuner.loo_.log_loss) > 1e-3  # groups matter
    assert tuner.groups_ is not None
    tuner.forget(tuner.ids_[:2])
    assert tuner.groups_.tolist() == (first + second)[2:]
    whole = make().fit_features(of(np.r_[FIRST, SECOND][2:], (first + second)[2:]))
    assert_same(tuner, whole, of(PROBE))


def test_images_without_groups_join_those_with_them(make: Callable[..., TopTuner], of: Any) -> None:
    groups = [f"writer {k // 4}" for k in range(30)]
    tuner = make().fit_features(of(FIRST)).partial_fit_features(of(SECOND, groups))
    assert tuner.groups_ is not None
    assert tuner.groups_.tolist() == [*tuner.ids_[:60], *groups]


# ----------------------------------------------------------------------------------- forgetting


def test_the_name_of_a_forgotten_image_is_not_given_again(
    make: Callable[..., TopTuner], tmp_path: Path
) -> None:
    """Found in use: the next image in memory got the name that was just forgotten."""
    tuner = make().fit(list(PIXELS[FIRST[:20]]), labels=NAMES[FIRST[:20]])
    tuner.forget("image-000019").save(tmp_path / "m")
    for model in (tuner, TopTuner.load(tmp_path / "m")):
        model.partial_fit(list(PIXELS[FIRST[20:21]]), labels=NAMES[FIRST[20:21]])
        assert model.ids_[-1] == "image-000020"


def test_forgotten_images_leave_nothing(make: Callable[..., TopTuner], of: Any) -> None:
    tuner = make().fit_features(of(np.r_[FIRST, SECOND]))
    gone = [f"digit {k}" for k in FIRST[::3]]
    assert tuner.forget(gone[1:]).forget(gone[0]) is tuner
    kept = np.r_[np.setdiff1d(FIRST, FIRST[::3]), SECOND]
    assert_same(tuner, make().fit_features(of(kept)), of(PROBE))
    assert tuner.center_features_.shape[0] == len(kept)
    assert not set(gone) & set(tuner.ids_)


def test_forgotten_centers_are_told(make: Callable[..., TopTuner], of: Any) -> None:
    tuner = make(n_centers=20).fit_features(of(FIRST))
    center = int(tuner.head_.center_indices_[0])
    other = next(k for k in range(60) if k not in tuner.head_.center_indices_)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        tuner.forget(f"digit {FIRST[other]}")
    with pytest.warns(DataWarning, match=r"1 of the forgotten images are centers: .* drop_centers"):
        tuner.forget(f"digit {FIRST[center]}")
    left = np.delete(FIRST, [center, other])
    like = make().fit_features(of(left), centers=tuner)
    assert_same(tuner, like, of(PROBE), NEAR)


def test_forgotten_centers_can_go_too(
    make: Callable[..., TopTuner], of: Any, tmp_path: Path
) -> None:
    tuner = make(n_centers=20).fit_features(of(FIRST))
    gone = np.r_[tuner.head_.center_indices_[:4], 1]
    stays = ~np.isin(tuner.head_.center_indices_, gone)
    expected = tuner.center_features_[stays]
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        tuner.forget([f"digit {FIRST[k]}" for k in gone], drop_centers=True)
    tuner.save(tmp_path / "m", keep="rows")
    found = TopTuner.load(tmp_path / "m")
    assert 15 <= len(expected) <= 16
    later = make(n_centers=20).fit_features(of(FIRST))
    with pytest.warns(DataWarning, match="drop_centers=True"):
        later.forget([f"digit {FIRST[k]}" for k in gone])
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        later.forget([]).forget([], drop_centers=True)  # found in use: they stayed for good
    assert np.array_equal(later.center_features_, expected)
    assert np.array_equal(found.center_features_, expected)
    like = make().fit_features(of(np.delete(FIRST, gone)), centers=found)
    assert_same(found, like, of(PROBE), NEAR)


# -------------------------------------------------------------------------------------- merging


@pytest.fixture
def sites(make: Callable[..., TopTuner], of: Any) -> tuple[TopTuner, TopTuner, TopTuner]:
    """A model of public images, and two sites that use its centers."""
    public = make().fit_features(of(THREE[90:115]))
    north = make(penalty=1e-4).fit_features(of(FIRST), centers=public)
    south = make(penalty=1e-3).fit_features(of(SECOND), centers=public)
    return public, north, south


def test_sites_become_the_model_of_all_images(
    sites: tuple[TopTuner, ...], make: Callable[..., TopTuner], of: Any
) -> None:
    public, north, south = sites
    whole = make().fit_features(of(np.r_[FIRST, SECOND]), centers=public)
    untouched = state(south)
    assert north.merge(south) is north
    assert_same(north, whole, of(PROBE), NEAR)
    assert north.head_.n_centers_ == 25
    assert north.head_.penalty_ == 1e-4
    assert all(state(south)[name] is value for name, value in untouched.items())
    north.merge([public])  # the images of the centers too
    everything = make().fit_features(of(THREE[:115]), centers=public)
    assert np.abs(scores(north, of(PROBE)) - scores(everything, of(PROBE))).max() < NEAR


def test_models_of_sites_do_not_say_where_their_images_are(
    make: Callable[..., TopTuner], of: Any, tmp_path: Path
) -> None:
    """Found in use: the path of the folder went to the other sites."""
    for k, row in enumerate(FIRST[:12]):
        path = tmp_path / ("more" if k > 7 else "north") / str(NAMES[row]) / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(PIXELS[row]).save(path)
    north = make().fit(tmp_path / "north", centers=make().fit_features(of(THREE[90:115])))
    north.partial_fit(tmp_path / "more")
    assert len(north.ids_) == 12
    north.save(tmp_path / "m")
    assert str(tmp_path).encode() not in (tmp_path / "m").read_bytes()


def test_files_of_sites_hold_sums_and_no_images(
    sites: tuple[TopTuner, ...], make: Callable[..., TopTuner], of: Any, tmp_path: Path
) -> None:
    public, north, south = sites
    whole = make().fit_features(of(np.r_[FIRST, SECOND]), centers=public)
    south.save(tmp_path / "south")
    tensors, _ = load_tensors(tmp_path / "south", kind="model", format_version=3, required=())
    assert np.array_equal(tensors["center_features"], public.center_features_)
    per_image = {name for name, tensor in tensors.items() if tensor.shape[:1] == (len(SECOND),)}
    assert per_image == {"codes", "loo_scores"}
    north.merge(TopTuner.load(tmp_path / "south"), prefixes=["north/", "south/"])
    assert np.abs(scores(north, of(PROBE)) - scores(whole, of(PROBE))).max() < NEAR
    assert north.ids_[0] == f"north/digit {FIRST[0]}"
    assert north.ids_[-1] == f"south/digit {SECOND[-1]}"
    with pytest.raises(NotKeptError, match="without kernel rows"):
        north.loo_  # noqa: B018
    with pytest.raises(NotKeptError, match="penalty cannot be chosen again"):
        north.partial_fit_features(of(FRESH), reselect=True)
    north.save(tmp_path / "merged")  # what is not known is not in it
    again = TopTuner.load(tmp_path / "merged")
    assert np.array_equal(scores(again, of(PROBE)), scores(north, of(PROBE)))
    assert again.head_.temperature_ == north.head_.temperature_
    assert not hasattr(again.head_, "loo_decision_function_")


def test_groups_of_sites_are_told_apart_by_prefixes(
    sites: tuple[TopTuner, ...], make: Callable[..., TopTuner], of: Any
) -> None:
    public, _, south = sites
    writers = [f"writer {k // 4}" for k in range(60)]
    north = make().fit_features(of(FIRST, writers), centers=public)
    north.merge(south, prefixes=["n ", "s "])
    assert north.groups_ is not None
    assert north.groups_.tolist() == [f"n {w}" for w in writers] + list(north.ids_[60:])


def test_the_penalty_is_chosen_again_when_asked(
    sites: tuple[TopTuner, ...], make: Callable[..., TopTuner], of: Any
) -> None:
    public, north, south = sites
    chosen = make(penalty="auto").fit_features(of(np.r_[FIRST, SECOND]), centers=public)
    assert chosen.head_.penalty_ not in (1e-4, 1e-3)
    north.merge(south, reselect=True)
    assert north.head_.penalty_ == chosen.head_.penalty_
    assert_same(north, chosen, of(PROBE), NEAR)
    tuner = make().fit_features(of(FIRST))
    tuner.partial_fit_features(of(SECOND), reselect=True)
    chosen = make(penalty="auto").fit_features(of(np.r_[FIRST, SECOND]))
    assert tuner.head_.penalty_ == chosen.head_.penalty_
    assert tuner.seconds_["select"] > 0


# ---------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("n_centers", ["auto", 20])
def test_a_model_changes_after_it_was_stored(
    n_centers: Any, make: Callable[..., TopTuner], of: Any, tmp_path: Path
) -> None:
    groups = [f"writer {k // 4}" for k in range(60)]
    tuner = make(n_centers=n_centers, class_weight="balanced").fit_features(of(FIRST, groups))
    tuner.save(tmp_path / "m", keep="rows")
    found = TopTuner.load(tmp_path / "m")
    for model in (tuner, found):
        model.partial_fit_features(of(np.r_[SECOND, FRESH])).forget(f"digit {SECOND[0]}")
    assert_same(found, tuner, of(PROBE), CLOSE if n_centers == "auto" else NEAR)
    assert found.groups_ is not None
    assert tuner.groups_ is not None
    assert found.groups_.tolist() == tuner.groups_.tolist()
    found.save(tmp_path / "again")  # with rows, as the file it came from
    TopTuner.load(tmp_path / "again").forget(f"digit {SECOND[1]}")


def test_a_stored_model_that_does_not_change_stays_whole(
    make: Callable[..., TopTuner], of: Any, tmp_path: Path
) -> None:
    """Found in use: nothing to forget, or to merge, ended in an AttributeError."""
    make().fit_features(of(FIRST)).save(tmp_path / "m")
    tuner = TopTuner.load(tmp_path / "m")
    before = tuner.head_.dual_coef_
    assert np.array_equal(tuner.forget([]).merge([]).head_.dual_coef_, before)
    assert tuner.seconds_["select"] == 0.0


def test_a_file_without_rows_says_what_is_missing(
    make: Callable[..., TopTuner], of: Any, tmp_path: Path
) -> None:
    make(n_centers=20).fit_features(of(FIRST)).save(tmp_path / "m")
    tuner = TopTuner.load(tmp_path / "m")
    assert tuner.loo_.n == 60
    before = state(tuner)
    with pytest.raises(NotKeptError, match=r'taken away: .* kernel rows, which keep="rows" adds'):
        tuner.forget(tuner.ids_[3])
    assert all(state(tuner)[name] is value for name, value in before.items())
    make(n_centers=20).fit_features(of(FIRST)).save(tmp_path / "none", keep="nothing")
    with pytest.raises(NotKeptError, match=r'cannot be changed: .* written with keep="nothing"'):
        TopTuner.load(tmp_path / "none").partial_fit_features(of(SECOND))
    with pytest.raises(ValueError, match="keep must be one of nothing, sums, rows, got 'all'"):
        tuner.save(tmp_path / "m", keep="all")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda document: document.pop("updates"), "before models kept sums"),
        (lambda document: document["updates"].update(version=9), "sums in version 9, .* reads 1"),
    ],
)
def test_files_of_other_versions_still_predict(
    change: Callable[[Any], Any],
    why: str,
    make: Callable[..., TopTuner],
    of: Any,
    tmp_path: Path,
) -> None:
    def other_version(n_centers: Any) -> TopTuner:
        make(n_centers=n_centers).fit_features(of(FIRST)).save(tmp_path / "m")
        tensors, document = load_tensors(
            tmp_path / "m", kind="model", format_version=3, required=()
        )
        del document["kind"], document["format_version"]
        change(document)
        save_tensors(tmp_path / "m", tensors, document, kind="model", format_version=3)
        return TopTuner.load(tmp_path / "m")

    tuner = other_version(20)
    assert tuner.loo_.n == 60
    assert scores(tuner, of(PROBE)).shape == (20, 3)
    with pytest.raises(NotKeptError, match=why):
        tuner.partial_fit_features(of(SECOND))
    exact = other_version("auto").partial_fit_features(of(SECOND))  # all it takes is there
    assert_same(exact, make().fit_features(of(np.r_[FIRST, SECOND])), of(PROBE))


# ------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("n_centers", ["auto", 20])
@pytest.mark.parametrize(
    ("wrong", "error", "why"),
    [
        (lambda t, _: t.forget("cat.png"), DataError, "not trained on cat.png: ids_, or"),
        # Found in use: a bare TypeError.
        (lambda t, _: t.forget([3]), DataError, "names of images are text, as in ids_, got 3"),
        (lambda t, _: t.forget(f"{t.ids_[5]}x"), DataError, "on digit .*x, but on digit"),
        (
            lambda t, _: t.forget(["a", "b", "c", "d", t.ids_[0]]),
            DataError,
            "not trained on a, b, c and 1 more",
        ),
        (
            lambda t, _: t.forget(np.array(t.ids_)[t.codes_ == 1].tolist()),
            DataError,
            "nothing would be left of two",
        ),
        (
            lambda t, of: t.partial_fit_features(of(np.r_[SECOND, FIRST[:1]])),
            DataError,
            "digit 0 are in the model already, or twice here: a name stands for one image",
        ),
        (
            lambda t, of: t.partial_fit_features(of(np.r_[SECOND, SECOND])),
            DataError,
            "and 27 more are in the model already, or twice here",
        ),
        (
            lambda t, of: t.partial_fit_features(replace(of(SECOND), labels=None)),
            DataError,
            "no labels",
        ),
        (
            lambda t, of: t.partial_fit_features(
                replace(of(SECOND), X=np.full_like(of(SECOND).X, np.nan))
            ),
            DataError,
            "hold NaN or infinity",
        ),
        (
            lambda t, of: t.partial_fit_features(other_origin(of(SECOND), "weights_sha256", "0")),
            ModelFileError,
            "these features came from the network",
        ),
        (
            lambda t, of: t.partial_fit_features(other_origin(of(SECOND), "preprocessing", {})),
            ModelFileError,
            "these features came from other layers, another view or another resolution",
        ),
        (
            lambda t, _: t.partial_fit(list(PIXELS[:2]), ["zero", "one"], groups="near-duplicates"),
            DataError,
            "needs all images at once",
        ),
        (lambda t, _: t.merge(t), DataError, "nothing to merge|in several of the models"),
        (lambda t, _: t.merge([], prefixes=["a", "b"]), DataError, "1 models need as many prefix"),
    ],
)
def test_what_is_refused_changes_nothing(
    wrong: Callable[..., Any],
    error: type[Exception],
    why: str,
    n_centers: Any,
    make: Callable[..., TopTuner],
    of: Any,
) -> None:
    tuner = make(n_centers=n_centers).fit_features(of(FIRST))
    before, dual = state(tuner), tuner.head_.dual_coef_.copy()
    with pytest.raises(error, match=why):
        wrong(tuner, of)
    assert all(state(tuner)[name] is value for name, value in before.items())
    assert np.array_equal(tuner.head_.dual_coef_, dual)


def other_origin(features: Features, name: str, value: Any) -> Features:
    return replace(features, provenance=features.provenance | {name: value})


def test_models_that_do_not_fit_are_not_merged(
    sites: tuple[TopTuner, ...], make: Callable[..., TopTuner], of: Any
) -> None:
    public, north, south = sites
    foreign = make().fit_features(of(THREE[115:150]), centers=public)
    other = foreign.provenance_ | {"weights_sha256": "0"}
    foreign.model_ = replace(foreign.model_, provenance=other)
    before = state(north)
    for model, error, why in (
        (make(n_centers=25).fit_features(of(THREE[115:150])), DataError, "different centers"),
        (
            make().fit_features(of(np.r_[THREE[115:140], FRESH]), centers=public),
            DataError,
            "classes",
        ),
        (make().fit_features(of(FIRST), centers=public), DataError, "in several of the models"),
        (foreign, ModelFileError, "the model to merge came from the network"),
    ):
        with pytest.raises(error, match=why):
            north.merge([south, model])
        assert all(state(north)[name] is value for name, value in before.items())


def test_centers_of_another_network_are_refused(
    sites: tuple[TopTuner, ...], make: Callable[..., TopTuner], of: Any
) -> None:
    public = sites[0]
    other = public.provenance_ | {"weights_sha256": "0"}
    public.model_ = replace(public.model_, provenance=other)
    with pytest.raises(ModelFileError, match="the model of the centers came from the network"):
        make().fit_features(of(FIRST), centers=public)


def test_one_group_is_too_few(make: Callable[..., TopTuner], of: Any) -> None:
    with pytest.warns(DataWarning, match="classes with a single group"):
        tuner = make().fit_features(of(FIRST, ["a"] * 59 + ["b"]))
    before = state(tuner)
    with pytest.raises(DataError, match="all images would belong to one group"):
        tuner.forget(tuner.ids_[-1])
    assert all(state(tuner)[name] is value for name, value in before.items())


def test_a_model_says_when_it_should_be_trained_anew(
    make: Callable[..., TopTuner], of: Any
) -> None:
    tuner = make().fit_features(of(FIRST))
    assert tuner.refresh_ is None
    tuner.partial_fit_features(of(SECOND))
    assert tuner.refresh_ == (
        "there are 90 images, and 60 when centers and hyperparameters were chosen"
    )


def test_lone_images_of_a_new_class_are_warned_of(make: Callable[..., TopTuner], of: Any) -> None:
    tuner = make().fit_features(of(FIRST))
    with pytest.warns(DataWarning, match="classes with a single image: three"):
        tuner.partial_fit_features(of(FRESH[:1]))
    assert tuner.classes_.tolist() == ["one", "three", "two", "zero"]

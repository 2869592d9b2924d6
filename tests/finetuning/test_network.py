"""Which weights are trained, and how fast."""

from __future__ import annotations

import itertools

import pytest
import timm
import torch
from training_helpers import finished, recipe, tiny_run

from toptune.features import Backbone
from toptune.finetuning.training.network import (
    classifier_parameters,
    fresh_network,
    layers_of,
    parameter_groups,
    set_trainable,
)
from toptune.finetuning.training.recipe import Mode


def test_fresh_network_classifier_is_zero_and_rest_pretrained(tiny: Backbone) -> None:
    before = torch.random.get_rng_state()
    network = fresh_network(tiny, 3)
    assert torch.equal(torch.random.get_rng_state(), before)
    state = network.state_dict()
    assert state["fc.weight"].shape == (3, tiny.n_features)
    assert not any(p.any() for p in classifier_parameters(network).values())
    for name, tensor in tiny.module.state_dict().items():
        assert torch.equal(state[name], tensor)
        assert state[name].data_ptr() != tensor.data_ptr()


EXPECTED = {"full": ("",), "last-block": ("layer4.", "fc."), "head-only": ("fc.",)}


@pytest.mark.parametrize("mode", EXPECTED)
def test_set_trainable_modes_move_their_parts(tiny: Backbone, mode: Mode) -> None:
    """Parameters and the statistics of normalisations alike."""
    before = fresh_network(tiny, 2).state_dict()
    run = finished(tiny_run(tiny, recipe(mode=mode)))
    after = run.network.state_dict()
    for name in before:
        changed = not torch.equal(before[name], after[name])
        assert changed == name.startswith(EXPECTED[mode]), name


def test_recipe_lp_ft_trains_classifier_first(tiny: Backbone) -> None:
    before = fresh_network(tiny, 2).state_dict()
    run = tiny_run(tiny, recipe(mode="lp-ft", epochs=1))
    run.train_epoch()
    after_head = {name: t.clone() for name, t in run.network.state_dict().items()}
    changed = [name for name in before if not torch.equal(before[name], after_head[name])]
    assert changed == ["fc.weight", "fc.bias"]
    assert not run.finished
    run.train_epoch()
    assert run.finished
    after = run.network.state_dict()
    assert all(not torch.equal(after_head[name], after[name]) for name in before)
    assert [(row["phase"], row["epoch"]) for row in run.history] == [(0, 1), (1, 1)]


@pytest.mark.parametrize(
    ("name", "first", "head"),
    [
        ("tf_efficientnet_lite0", "blocks.6.0.conv_pw.weight", "classifier.weight"),
        ("resnet18", "layer4.0.conv1.weight", "fc.weight"),
        ("convnext_atto", "stages.3.downsample.0.weight", "head.fc.weight"),
        ("vit_tiny_patch16_224", "blocks.11.norm1.weight", "head.weight"),
        ("mobilenetv3_small_050", "blocks.4.0.conv_pw.weight", "classifier.weight"),
        ("regnetx_002", "s4.b1.conv1.conv.weight", "head.fc.weight"),
    ],
)
def test_set_trainable_last_block_of_other_networks(name: str, first: str, head: str) -> None:
    with torch.device("meta"):
        network = timm.create_model(name, num_classes=5)
    set_trainable(network, "last-block")
    moving = [name for name, p in network.named_parameters() if p.requires_grad]
    assert (moving[0], moving[-2]) == (first, head)
    set_trainable(network, "head-only")
    moving = [name for name, p in network.named_parameters() if p.requires_grad]
    assert moving == [head, head.replace("weight", "bias")]


def test_parameter_groups_rates_fall_and_norms_do_not_decay(tiny: Backbone) -> None:
    network = fresh_network(tiny, 2).requires_grad_(True)
    groups = parameter_groups(network, 0.5)
    names = {id(p): name for name, p in network.named_parameters()}
    layers = layers_of(network, coarse=False)
    last = max(layers.values())
    seen = []
    for group in groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            seen.append(name)
            assert group["lr_scale"] == 0.5 ** (last - layers[name]), name
            assert (group["weight_decay"] == 0) == (parameter.dim() == 1), name
    assert sorted(seen) == sorted(names.values())
    assert len({group["lr_scale"] for group in groups}) > 5
    assert layers["fc.weight"] == last
    assert layers["conv1.0.weight" if "conv1.0.weight" in layers else "conv1.weight"] == 0


def test_run_optimizer_has_rates_of_layers(tiny: Backbone) -> None:
    run = tiny_run(tiny, recipe(layer_decay=0.5, epochs=1), rate=0.01)
    run.train_epoch()
    by_scale = {group["lr_scale"]: group["lr"] for group in run.optimizer.param_groups}
    rates = [by_scale[scale] for scale in sorted(by_scale)]
    assert all(a < b for a, b in itertools.pairwise(rates))
    assert rates[0] / rates[-1] == pytest.approx(min(by_scale) / max(by_scale))
    assert max(by_scale) == 1.0

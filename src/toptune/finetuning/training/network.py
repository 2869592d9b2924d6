"""The network that is trained: pretrained weights, a fresh classifier, and which parts move."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any, Literal

import torch
from timm.models import group_parameters
from timm.optim import param_groups_layer_decay  # type: ignore[attr-defined]
from torch import nn

from toptune.features import Backbone

Part = Literal["full", "last-block", "head-only"]

WEIGHT_DECAY = 0.05


def fresh_network(backbone: Backbone, n_classes: int) -> nn.Module:
    """Copy a backbone's network and give it a classifier whose weights are zero.

    From zero the first step moves the classifier alone: what was learnt before is not disturbed by
    the gradients of random weights. And nothing is drawn.
    """
    network = copy.deepcopy(backbone.module).cpu()
    devices: list[int] = []
    with torch.random.fork_rng(devices):  # timm draws the weights that are set to zero next
        network.reset_classifier(n_classes)  # type: ignore[operator]
    for parameter in classifier_parameters(network).values():
        nn.init.zeros_(parameter)
    return network


def classifier_parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters of the classifier by their name in the network."""
    classifier = network.get_classifier()  # type: ignore[operator]
    heads = classifier if isinstance(classifier, tuple | list) else (classifier,)
    own = {id(parameter) for head in heads for parameter in head.parameters()}
    return {name: p for name, p in network.named_parameters() if id(p) in own}


def set_trainable(network: nn.Module, part: Part) -> None:
    """Let the gradient reach `part` of the network and nothing else."""
    moving = set(_names(network, part))
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in moving)


def _names(network: nn.Module, part: Part) -> list[str]:
    parameters = dict(network.named_parameters())
    if part == "full":
        return list(parameters)
    head = list(classifier_parameters(network))
    if part == "head-only":
        return head
    # The last block is the last layer with several weight tensors, such as blocks.6 or layer4; what
    # comes after it, a last convolution or normalisation, is trained with it.
    layers = layers_of(network, coarse=True)
    weights = Counter(
        layers[name] for name, p in parameters.items() if p.dim() > 1 and name not in head
    )
    blocks = [layer for layer, count in weights.items() if count > 1] or list(weights)
    return [name for name in parameters if layers[name] >= max(blocks) or name in head]


def layers_of(network: nn.Module, *, coarse: bool) -> dict[str, int]:
    """Layer of each parameter, counted from the input; timm knows what is a layer."""
    matcher = network.group_matcher(coarse=coarse)  # type: ignore[operator]
    layers: dict[str, int] = group_parameters(network, matcher, reverse=True)
    return layers


def set_training_mode(network: nn.Module) -> None:
    """Switch to training mode what is trained; what is frozen stays as it is when predicting.

    A frozen batch normalisation must not follow the statistics of the new pictures either.
    """
    network.train()
    for module in network.modules():
        flags = [parameter.requires_grad for parameter in module.parameters()]
        if flags and not any(flags):
            module.eval()


def parameter_groups(network: nn.Module, layer_decay: float) -> list[dict[str, Any]]:
    """Group what is trained by layer, with and without weight decay, for an optimizer.

    The group of a layer has ``lr_scale = layer_decay ** (layers above it)``. Biases and the
    parameters of normalisations do not decay.
    """
    groups: list[dict[str, Any]] = param_groups_layer_decay(
        network, weight_decay=WEIGHT_DECAY, layer_decay=layer_decay
    )
    return groups

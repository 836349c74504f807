"""Small networks of every kind whose channels, heads and blocks must be found; random weights, settled statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from compresslab.models import Residual
from tests.torchvision_operators import define

if TYPE_CHECKING:
    from collections.abc import Callable

IMAGES = (3, 16, 16)


@dataclass(frozen=True)
class Case:
    """How to build a network, and what is known of it.

    Args:
        build: The network.
        example: Its inputs.
        kept: Layers that must stay, and a part of the reason.
        found: Groups that must be found, with their numbers of units.
        needs: The library that it comes from.
    """

    build: Callable[[], nn.Module]
    example: Callable[[], torch.Tensor]
    kept: dict[str, str]
    found: dict[str, int]
    needs: str | None = None


def images(size=16, channels=3):
    return lambda: torch.randn(4, channels, size, size, generator=torch.Generator().manual_seed(0))


def vectors():
    return torch.randn(4, 6, generator=torch.Generator().manual_seed(0))


def tokens():
    return torch.randint(1, 50, (4, 7), generator=torch.Generator().manual_seed(0))


class Inverted(nn.Module):
    """MobileNetV2's block: expand, depthwise, project, and add."""

    def __init__(self, width, out, stride=1, expand=3):
        super().__init__()
        inner = width * expand
        self.body = nn.Sequential(
            nn.Conv2d(width, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU6(),
            nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False), nn.BatchNorm2d(inner), nn.ReLU6(),
            nn.Conv2d(inner, out, 1, bias=False), nn.BatchNorm2d(out),
        )  # fmt: skip
        self.add = stride == 1 and width == out

    def forward(self, x):
        return x + self.body(x) if self.add else self.body(x)


class Mobile(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
        self.blocks = nn.Sequential(Inverted(16, 16), Inverted(16, 24, 2), Inverted(24, 24))
        self.last = nn.Sequential(nn.Conv2d(24, 32, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6())
        self.head = nn.Linear(32, 5)

    def forward(self, x):
        return self.head(self.last(self.blocks(self.stem(x))).mean((2, 3)))


class NextBlock(nn.Module):
    """ResNeXt's block: the middle convolution has 4 groups."""

    def __init__(self, width):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(width, 16, 1, bias=False), nn.BatchNorm2d(16)
        self.conv2, self.norm2 = nn.Conv2d(16, 16, 3, 1, 1, groups=4, bias=False), nn.BatchNorm2d(16)
        self.conv3, self.norm3 = nn.Conv2d(16, width, 1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x):
        inner = F.relu(self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))))
        return F.relu(x + self.norm3(self.conv3(inner)))


class Next(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 3, 2, 1)
        self.blocks = nn.Sequential(NextBlock(24), NextBlock(24))
        self.head = nn.Linear(24, 5)

    def forward(self, x):
        return self.head(self.blocks(F.relu(self.stem(x))).mean((2, 3)))


class Squeeze(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.down, self.up = nn.Conv2d(width, 8, 1), nn.Conv2d(8, width, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3), keepdim=True)))))


class Excited(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.norm1, self.gate = nn.Conv2d(3, 16, 3, 1, 1), nn.BatchNorm2d(16), Squeeze(16)
        self.conv2 = nn.Conv2d(16, 24, 3, 2, 1)
        self.head = nn.Linear(24, 5)

    def forward(self, x):
        return self.head(F.relu(self.conv2(self.gate(F.relu(self.norm1(self.conv1(x)))))).mean((2, 3)))


def vgg():
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 1, 1), nn.BatchNorm2d(16), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(16, 24, 3, 1, 1), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(24 * 16, 32), nn.ReLU(), nn.Dropout(), nn.Linear(32, 5),
    )  # fmt: skip


class DenseLayer(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(width), nn.Conv2d(width, 16, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(16), nn.Conv2d(16, 8, 3, 1, 1, bias=False)

    def forward(self, x):
        return torch.cat([x, self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))], 1)


class Dense(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.layers = nn.Sequential(*(DenseLayer(16 + 8 * i) for i in range(3)))
        self.norm, self.head = nn.BatchNorm2d(40), nn.Linear(40, 5)

    def forward(self, x):
        return self.head(F.relu(self.norm(self.layers(self.stem(x)))).mean((2, 3)))


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(6, 16)
        self.left, self.right = nn.Linear(16, 3), nn.Linear(16, 4)

    def forward(self, x):
        x = F.gelu(self.body(x))
        return torch.cat([self.left(x), self.right(x)], 1)


class Normed(nn.Module):
    """GroupNorm, a transposed convolution and a PReLU with a slope a channel."""

    def __init__(self):
        super().__init__()
        self.conv1, self.norm1, self.slope = nn.Conv2d(3, 16, 3, 1, 1), nn.InstanceNorm2d(16, affine=True), nn.PReLU(16)
        self.conv2, self.norm2 = nn.Conv2d(16, 16, 3, 2, 1), nn.GroupNorm(4, 16)
        self.up, self.last = nn.ConvTranspose2d(16, 12, 2, 2), nn.Conv2d(12, 3, 1)

    def forward(self, x):
        x = self.slope(self.norm1(self.conv1(x)))
        return self.last(F.relu(self.up(F.relu(self.norm2(self.conv2(x))))))


class Logits(nn.Module):
    """A network of transformers that answers with a tensor."""

    def __init__(self, net, pick):
        super().__init__()
        self.net, self.pick = net, pick

    def forward(self, x):
        return self.pick(self.net(x))


def timm(name, **arguments):
    def build():
        define()
        import timm

        return timm.create_model(name, pretrained=False, num_classes=5, **arguments)

    return build


def _sizes():
    return {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
            "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # fmt: skip


def bert(hidden=False):
    def build():
        define()
        import transformers

        config = transformers.BertConfig(vocab_size=50, max_position_embeddings=16, num_labels=5, **_sizes())
        if hidden:
            return Logits(transformers.BertModel(config, add_pooling_layer=False), lambda out: out.last_hidden_state)
        return Logits(transformers.BertForSequenceClassification(config), lambda out: out.logits)

    return build


def hf_vit():
    define()
    import transformers

    config = transformers.ViTConfig(image_size=16, patch_size=4, num_labels=5, **_sizes())
    return Logits(transformers.ViTForImageClassification(config), lambda out: out.logits)


OUTPUTS = "the network's outputs"
BY_HEADS = "cut by whole heads"

CASES = {
    "residual": Case(
        lambda: Residual(widths=(16, 32), blocks=(2, 1)).build(5, 3), images(), {"head": OUTPUTS},
        {"stem.0": 16, "stages.0.1.conv1": 16, "stages.1.0.conv1": 32},
    ),
    "mlp": Case(
        lambda: nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 24), nn.ReLU(),
                              nn.Linear(24, 5)),
        vectors, {"5": OUTPUTS}, {"0": 16, "3": 24},
    ),
    "two heads": Case(TwoHeads, vectors, {"left": OUTPUTS, "right": OUTPUTS}, {"body": 16}),
    "mobile": Case(Mobile, images(), {"head": OUTPUTS}, {"stem.0": 16, "blocks.0.body.0": 48, "last.0": 32}),
    "resnext": Case(Next, images(), {"head": OUTPUTS}, {"stem": 24, "blocks.0.conv1": 4, "blocks.1.conv2": 4}),
    "squeeze-excite": Case(Excited, images(), {"head": OUTPUTS}, {"conv1": 16, "gate.down": 8, "conv2": 24}),
    "vgg": Case(vgg, images(), {"11": OUTPUTS}, {"0": 16, "4": 24, "8": 32}),
    "dense": Case(Dense, images(), {"head": OUTPUTS}, {"stem": 16, "layers.0.conv1": 16, "layers.1.conv2": 8}),
    "norms": Case(Normed, images(), {"last": OUTPUTS}, {"conv1": 16, "conv2": 4, "up": 12}),
    "timm vit": Case(
        timm("vit_tiny_patch16_224", img_size=16, patch_size=4, embed_dim=32, depth=2, num_heads=4), images(),
        {"head": OUTPUTS, "blocks.0.attn.qkv": BY_HEADS},
        {"blocks.0.attn": 4, "blocks.0.mlp.fc1": 128, "patch_embed.proj": 32}, "timm",
    ),
    "timm mobilenetv2": Case(timm("mobilenetv2_050"), images(32), {"classifier": OUTPUTS}, {"conv_head": 1280}, "timm"),
    "timm resnet18": Case(timm("resnet18"), images(32), {"fc": OUTPUTS}, {"conv1": 64, "layer1.0.conv1": 64}, "timm"),
    "hf vit": Case(
        hf_vit, images(),
        {"net.classifier": OUTPUTS, "net.vit.encoder.layer.0.attention.attention.query": BY_HEADS},
        {"net.vit.encoder.layer.0.attention.attention": 4, "net.vit.encoder.layer.1.intermediate.dense": 64},
        "transformers",
    ),
    "bert": Case(
        bert(), tokens,
        {"net.classifier": OUTPUTS, "net.bert.encoder.layer.0.attention.self.value": BY_HEADS},
        {"net.bert.encoder.layer.0.attention.self": 4, "net.bert.encoder.layer.1.intermediate.dense": 64},
        "transformers",
    ),
    "bert's hidden states": Case(
        bert(hidden=True), tokens, {"net.encoder.layer.0.attention.output.dense": "changes the output from"},
        {"net.encoder.layer.0.intermediate.dense": 64}, "transformers",
    ),
}  # fmt: skip


def build(name):
    """The network in eval mode: normalizations of its own, so that no channel is like another or dead."""
    torch.manual_seed(0)
    module = CASES[name].build()
    for layer in module.modules():
        scale = getattr(layer, "weight", None)
        if isinstance(scale, nn.Parameter) and scale.ndim == 1 and not isinstance(layer, nn.PReLU):
            nn.init.uniform_(scale, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.2, 0.2)
        if isinstance(layer, nn.Linear | nn.Embedding):  # those of transformers are too small to say anything
            nn.init.normal_(layer.weight, std=layer.weight.shape[1] ** -0.5)
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.running_mean.uniform_(-0.2, 0.2)
            layer.running_var.uniform_(0.5, 1.5)
    return module.eval()

"""Small networks of the shapes that people bring, and inputs for them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from compresslab.export.compact import compact, to_bytes
from compresslab.export.rewrite import rewrite
from compresslab.export.to_onnx import to_onnx
from compresslab.models.residual_net import ResidualNet


class VggLike(nn.Module):
    """Plain convolutions, max pooling, functional ReLUs, a flatten, two linear layers and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 6, 3, padding=1)
        self.hidden, self.head = nn.Linear(6 * 2 * 2, 12), nn.Linear(12, 3)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.norm1(self.conv1(x))), 2)
        x = functional.avg_pool2d(torch.relu(self.conv2(x)), 2)
        return self.head(self.drop(functional.relu(self.hidden(torch.flatten(x, 1)))))


class MobileLike(nn.Module):
    """An inverted residual with a depthwise convolution, ReLU6, and adaptive pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
        self.expand = nn.Sequential(nn.Conv2d(16, 32, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6())
        self.depthwise = nn.Sequential(
            nn.Conv2d(32, 32, 3, 1, 1, groups=32, bias=False), nn.BatchNorm2d(32), nn.ReLU6()
        )
        self.project = nn.Sequential(nn.Conv2d(32, 16, 1, bias=False), nn.BatchNorm2d(16))
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.project(self.depthwise(self.expand(x)))
        return self.head(self.pool(x).flatten(1))


def residual() -> nn.Module:
    # Odd widths, as pruning may leave them.
    return ResidualNet(3, 1, widths=(16, 22), blocks=(1, 1), strides=(1, 2), stem=(16, 3, 1))


class GatedLike(nn.Module):
    """An inverted residual as MobileNetV3 has it: hard swish, and a squeeze-excite gate of two 1x1 convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish(inplace=True))
        self.depthwise = nn.Sequential(
            nn.Conv2d(16, 16, 3, 1, 1, groups=16, bias=False), nn.BatchNorm2d(16), nn.ReLU6()
        )
        self.squeeze, self.excite = nn.Conv2d(16, 8, 1), nn.Conv2d(8, 16, 1)
        self.project = nn.Sequential(nn.Conv2d(16, 16, 1, bias=False), nn.BatchNorm2d(16))
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.depthwise(x)
        y = y * torch.sigmoid(self.excite(functional.relu(self.squeeze(y.mean((2, 3), keepdim=True)))))
        return self.head((x + self.project(y)).mean((2, 3)))


class DenseLike(nn.Module):
    """Every layer reads what all before it gave; hard sigmoid at a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1)
        self.first = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(32, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.transition, self.pool, self.head = nn.Conv2d(48, 16, 1), nn.AvgPool2d(2), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.stem(x))
        x = torch.cat([x, self.first(x)], 1)
        x = torch.cat([x, self.second(x)], dim=1)
        return self.head(self.pool(functional.relu(self.transition(x))).mean((2, 3)))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "residual": residual, "vgg": VggLike, "mobile": MobileLike, "gated": GatedLike, "dense": DenseLike,
}  # fmt: skip


class Block(nn.Module):
    """Attention and a perceptron, each after a normalization (`before`), as ViT has it, or before one, as BERT has."""

    def __init__(self, width: int, heads: int, *, before: bool) -> None:
        super().__init__()
        self.heads, self.before = heads, before
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def attend(self, x: Tensor, mask: Tensor | None) -> Tensor:
        batch, length, width = x.shape
        if length > 10_000:  # what symbolic tracing cannot follow
            raise ValueError
        shape = (batch, length, 3, self.heads, width // self.heads)
        query, key, value = self.qkv(x).reshape(shape).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, width))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        if self.before:
            x = x + self.attend(self.norm1(x), mask)
            return x + self.fc2(functional.gelu(self.fc1(self.norm2(x))))
        x = self.norm1(x + self.attend(x, mask))
        return self.norm2(x + self.fc2(functional.gelu(self.fc1(x))))


class VitLike(nn.Module):
    """Patches, a class token, two blocks."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 2, 2)
        self.token, self.places = nn.Parameter(torch.randn(1, 1, width)), nn.Parameter(torch.randn(1, 17, width) * 0.1)
        self.blocks = nn.ModuleList([Block(width, 4, before=True) for _ in range(2)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.places
        for block in self.blocks:
            x = block(x, None)
        return self.head(self.norm(x)[:, 0])


class BertLike(nn.Module):
    """Token and place tables, padding masked (id 0), two blocks, the mean of what is not padding."""

    def __init__(self, words: int = 50, width: int = 32) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(words, width, padding_idx=0), nn.Embedding(16, width)
        self.norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList([Block(width, 4, before=False) for _ in range(2)])
        self.head = nn.Linear(width, 3)

    def forward(self, ids: Tensor) -> Tensor:
        present = (ids != 0).unsqueeze(-1).float()
        mask = (1 - present.transpose(1, 2).unsqueeze(1)) * -1e4
        x = self.norm(self.words(ids) + self.places(torch.arange(ids.shape[1])))
        for block in self.blocks:
            x = block(x, mask)
        return self.head((x * present).sum(1) / present.sum(1))


TRANSFORMERS: dict[str, Callable[[], nn.Module]] = {"vit": VitLike, "bert": BertLike}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small get slower with every thread, and very slow on a busy machine.

    For the modules of this folder alone: the number of threads is part of what identifies a result in the store, so a
    run that was made before must find it unchanged afterwards.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def build() -> Callable[[str], nn.Module]:
    """name -> a network whose normalizations have seen data, in eval mode; the same weights every time."""

    def make(name: str) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            if name in TRANSFORMERS:
                return TRANSFORMERS[name]().eval()
            network = NETWORKS[name]()
            with torch.no_grad():
                for _ in range(20):
                    network.train()(torch.randn(32, 1, 8, 8))
            return network.eval()

    return make


@pytest.fixture(scope="module")
def images() -> Tensor:
    """float32 [64, 1, 8, 8]."""
    return torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def ids() -> Tensor:
    """int64 [64, 12]: token ids, the last ones padding."""
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randint(1, 50, (64, 12), generator=generator)
    lengths = torch.randint(4, 13, (64, 1), generator=generator)
    return torch.where(torch.arange(12) < lengths, tokens, 0)


@pytest.fixture(scope="module")
def to_file(tmp_path_factory) -> Callable[[nn.Module, Tensor], Path]:
    """A network as `export` writes it, without its checks; whole numbers too."""

    def write(network: nn.Module, example: Tensor) -> Path:
        graph = to_onnx(network, example[:2], "logits")
        rewrite(graph)
        compact(graph)
        path = tmp_path_factory.mktemp("file") / "model.onnx"
        path.write_bytes(to_bytes(graph))
        return path

    return write

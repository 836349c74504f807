"""Small networks of the shapes that people bring, and inputs for them."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

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


NETWORKS: dict[str, Callable[[], nn.Module]] = {"residual": residual, "vgg": VggLike, "mobile": MobileLike}


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small get slower with every thread, and very slow on a busy machine."""
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

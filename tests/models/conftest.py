from importlib.util import find_spec

import pytest

from tests.torchvision_operators import define


@pytest.fixture(scope="session")
def libraries():
    """timm and transformers, also where torchvision does not belong to the torch that is here."""
    missing = [name for name in ("timm", "transformers") if find_spec(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    define()

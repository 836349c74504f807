from tests.models.conftest import libraries

__all__ = ["libraries"]

import pytest

from s0 import load_model
from s0.tasks.sandbox import Sandbox


@pytest.fixture(scope="module")
def pocket():
    return load_model("pocket:gdn")


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox() as cells:
        yield cells

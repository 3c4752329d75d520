import gc
import os

# Two processes test side by side, and start others: threads would wait for each other.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "fixed",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],  # which a busy machine is
)
settings.load_profile("fixed")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Gives each process whole files, so that it makes and clears what a file shares
    once. Those with the most tests come first."""
    from xdist.scheduler import LoadFileScheduling

    return LoadFileScheduling(config, log)


def pytest_collection_finish():
    """Has garbage be looked for among what tests make, not in all of TensorFlow."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def seeded():
    keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True, scope="module")
def cleared():
    yield
    keras.backend.clear_session()  # collects garbage: too slow to do for each test
    gc.freeze()  # what is left now would be looked through again by the next one


@pytest.fixture
def rng():
    return np.random.default_rng(0)

"""Shared by all tests: few threads, so that parallel processes do not fight, and digits at hand."""

import os

import pytest
import torch

import scoreae as sa

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 2)))


@pytest.fixture(scope="session")
def digits():
    "The three splits of the digits: (images, labels) each."
    return {split: sa.data.digits(split, labels=True) for split in ("train", "val", "test")}

from __future__ import annotations

import pytest
import torch

from advmix.engine import environment, make_fabric
from advmix.errors import UserError


@pytest.mark.parametrize("device", ["gpu", "", "cpu:x", "cuda:one"])
def test_unknown_device_is_refused_with_those_that_exist(device: str) -> None:
    with pytest.raises(UserError, match=rf"--device {device}: unknown; use auto, cpu"):
        make_fabric(device)


def test_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match="--device cuda:99: not on this machine; use --device cpu"):
        make_fabric("cuda:99")


def test_cpu_is_always_there() -> None:
    assert make_fabric("cpu").device == torch.device("cpu")


def test_environment_names_the_versions() -> None:
    found = environment()
    assert found["torch"] == torch.__version__
    assert found["cpu_threads"] == torch.get_num_threads()
    assert set(found) == {"advmix", "torch", "python", "platform", "cpu_threads", "gpu"}

"""The CUDA path, where there is CUDA: FAIL_WITHOUT_GPU=1 forbids to skip it."""

import os

import numpy as np
import pytest

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def cuda() -> str:
    import torch

    if not torch.cuda.is_available():
        if os.environ.get("FAIL_WITHOUT_GPU") == "1":
            pytest.fail("torch sees no CUDA device, and FAIL_WITHOUT_GPU=1")
        pytest.skip("torch sees no CUDA device")
    return "cuda"


def test_half_precision_on_cuda_finds_what_fp32_on_the_cpu_finds(cuda: str) -> None:
    from jobs.demo_footage import _background, _cut_out, _paste
    from pipeline.backend import DetectSettings
    from pipeline.torch_backend import TorchBackend
    from pipeline.weights import find_weights

    picture = _background()
    box = _paste(picture, _cut_out()["cream coat"], (320.0, 440.0), 330.0)
    pixels = np.ascontiguousarray(np.repeat(picture[None, ..., ::-1], 10, axis=0))
    weights = find_weights("yolov8n.pt")
    half = TorchBackend(
        DetectSettings(weights=weights, backend="torch", device=cuda, precision="fp16")
    ).begin(pixels, 10)()
    full = TorchBackend(DetectSettings(weights=weights, backend="torch")).begin(pixels, 10)()
    best = [boxes.xyxy[boxes.frame_row == 0][0] for boxes in (half, full)]
    assert np.abs(best[0] - best[1]).max() < 2
    assert np.abs(best[1] - np.array(box)).max() < 30
    # A short batch is padded to the full shape, and its padding is not seen.
    short = TorchBackend(
        DetectSettings(weights=weights, backend="torch", device=cuda, precision="fp16")
    ).begin(pixels[:3], 10)()
    assert set(short.frame_row.tolist()) == {0, 1, 2}

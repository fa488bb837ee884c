"""Single images as data URIs, for galleries that a browser lays out."""

from __future__ import annotations

import base64
import io

from PIL import Image
from torch import Tensor

from advmix.data import to_bytes

LARGEST = 192
"""Images are not inlined with more pixels to a side: a page of a hundred of them stays a few megabytes."""


def image_uri(image: Tensor) -> str:
    """`(C, H, W)` in [0, 1], C 1 or 3: PNG where it is small, JPEG where it is a photograph."""
    pixels = to_bytes(image.detach().cpu().expand(3, -1, -1)).permute(1, 2, 0).contiguous().numpy()
    picture = Image.fromarray(pixels)
    picture.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    kind, options = ("PNG", {}) if max(pixels.shape[:2]) <= 64 else ("JPEG", {"quality": 90})
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"

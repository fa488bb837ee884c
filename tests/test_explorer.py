"""The page to explore an audit: what is drawn, and what the page says without a browser."""

from __future__ import annotations

import json
import math
import shlex
import weakref
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from advmix.audit.explorer import EXPLORER, STRIPS, thumb_sheets
from advmix.audit.records import AuditRecords
from advmix.audit.statistics import STRENGTHS
from advmix.classifiers.networks import load_classifier
from advmix.cli import main
from advmix.encoders.autoencoder import load_autoencoder
from advmix.pools import data_of
from test_audit_command import MARKUP, done, runs  # noqa: F401  (fixtures)
from test_export import pixels, table


class Page(HTMLParser):
    """Tags of a page with their attributes, and what its script reads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = path.read_text()
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    @property
    def data(self) -> dict[str, Any]:
        """The JSON of the page."""
        start = self.text.index('id="data">') + len('id="data">')
        parsed: dict[str, Any] = json.loads(self.text[start : self.text.index("</script>", start)])
        return parsed


def test_the_curve_is_what_the_classifier_says_on_the_way(runs: Path, done: Path) -> None:  # noqa: F811
    """Held against mixes that are decoded one at a time."""
    found, page = AuditRecords.load(done), Page(done / EXPLORER)
    records, (network, _) = found.classifiers[0], load_classifier(runs / "nominal0")
    model, metadata = load_autoencoder(runs / "fit")
    shown = data_of(metadata, runs).test.batch(found.images.rows)[0]
    assert len(page.data["images"]) == len(found)
    for place, image in enumerate(page.data["images"]):
        (one,) = image["answers"]
        label, strength = image["label"], float(records.flip_strength[place])
        flips = 0 < strength < math.inf
        with torch.no_grad():
            start = model.generator.complete(found.images.latents[place : place + 1], shown[place : place + 1])
            own = found.split.perp_of(start)
            least, worst = records.flip_perp[place : place + 1], records.perp[place : place + 1]
            end = own + (least - own) / strength if flips else worst
            for step, part in enumerate(STRENGTHS):
                mix = model.generator(found.split.with_perp(start, own + part * (end - own)))
                expected = network(mix).softmax(1)[0]
                assert one["curve"][step] == pytest.approx(float(expected[label]), abs=2e-3)
        assert (one["state"] == "flips") <= flips
        if one["state"] == "flips":
            assert one["strength"] == pytest.approx(strength, abs=1e-4)
            assert one["answers"][math.ceil(strength * 10 - 1e-6)] != label


def test_every_image_has_a_card_and_a_strip(done: Path) -> None:  # noqa: F811
    page = Page(done / EXPLORER)
    data = page.data
    cards = [attrs["data-place"] for tag, attrs in page.tags if tag == "li"]
    assert sorted(int(str(card)) for card in cards) == list(range(len(data["images"])))
    strips = sorted(path.name for path in (done / STRIPS).iterdir())
    assert strips == [f"{place:04d}.jpg" for place in range(len(data["images"]))]
    with Image.open(done / STRIPS / "0000.jpg") as strip:
        assert strip.size == (len(STRENGTHS) * strip.height, strip.height)
    assert sum(one["answers"][0]["state"] == "flips" for one in data["images"]) == int(
        page.text.partition("<h1>")[2].split()[0]
    )


def test_the_page_needs_nothing_from_elsewhere_and_names_are_no_markup(done: Path) -> None:  # noqa: F811
    page = Page(done / EXPLORER)
    assert [attrs for tag, attrs in page.tags if tag == "script" and "src" in attrs] == []
    loaded = [attrs[key] for tag, attrs in page.tags for key in ("src", "href") if key in attrs]
    assert loaded == ["report.html"]
    assert "http" not in page.text.replace("http://www.w3.org/2000/svg", "")
    assert MARKUP not in page.text
    assert MARKUP in page.data["classes"]
    assert sum(tag == "script" for tag, _ in page.tags) == 2


def test_its_command_draws_the_picture_again(done: Path, tmp_path: Path) -> None:  # noqa: F811
    data = Page(done / EXPLORER).data
    image = next(one for one in data["images"] if one["answers"][0]["state"] == "flips")
    words = shlex.split(f"{data['command']} {shlex.quote(image['name'])}")
    assert words[0] == "advmix"
    assert main([*words[1:], "--out", str(tmp_path / "out"), "--device", "cpu"]) == 0
    (row,) = table(tmp_path / "out")
    assert (row["source"], row["fooled"]) == (image["name"], "yes")
    assert row["prediction_after"] == data["classes"][image["answers"][0]["after"][0]]
    drawn, original = (pixels(tmp_path / "out" / row[name]) for name in ("filename", "original"))
    change = float((drawn - original).square().mean().sqrt())
    assert change == pytest.approx(image["answers"][0]["change"], abs=5e-3)


def test_thumbnails_of_many_images_get_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of 500 photographs stays below 15 MB, whatever they show."""
    noise = torch.randint(0, 256, (6, 2, 96, 96, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    thumbs = [list(row) for row in noise.numpy()]
    whole = sum(map(len, thumb_sheets(thumbs)))
    monkeypatch.setattr("advmix.audit.explorer.THUMB_BYTES", whole // 2)
    assert sum(map(len, thumb_sheets(thumbs))) < whole / 2
    monkeypatch.setattr("advmix.audit.explorer.THUMB_BYTES", 0)
    assert len(thumb_sheets(thumbs)) == 1, "the smallest there are"


def test_thumbnails_are_let_go_sheet_by_sheet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("advmix.audit.explorer.SHEET_ROWS", 4)
    kept: list[weakref.ref[Any]] = []

    def rows() -> Iterator[list[Any]]:
        for _ in range(30):
            assert sum(one() is not None for one in kept) <= 9
            tile = np.zeros((64, 64, 3), dtype=np.uint8)
            kept.append(weakref.ref(tile))
            yield [tile]

    assert len(thumb_sheets(rows())) == 8

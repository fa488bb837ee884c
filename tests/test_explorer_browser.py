"""The page to explore in a real browser, from disk: the system's Chromium, driven by playwright (extra `browser`)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.transforms.functional import to_pil_image

import advmix
from advmix.audit.explorer import EXPLORER
from advmix.audit.records import AuditRecords
from advmix.audit.results import REPORT
from advmix.audit.statistics import LabelCheck
from advmix.audit.votes import read_votes, with_votes
from advmix.report.tables import RESULTS
from pictures import encoded, write

sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright; pip install 'advmix[browser]'")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this system")

LONG = "a name of two hundred letters " * 6 + "and so on and so on."
WIDTHS = (1400, 420)


def nearest_color(means: torch.Tensor, scale: float = 40) -> nn.Module:
    """A classifier by the mean colour of an image alone: it flips as soon as that does."""
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, len(means)))
    layer = net[-1]
    assert isinstance(layer, nn.Linear)
    layer.weight.data, layer.bias.data = scale * 2 * means, -scale * (means**2).sum(dim=1)
    return net.eval()


def audited(out: Path, classes: int, count: int = 30, name: str = "class {}", files: str = "") -> Path:
    """An audit of two classifiers of coloured noise; of images in files that are called so, or in memory."""
    rng = torch.Generator().manual_seed(0)
    means = 0.2 + 0.6 * torch.rand(classes, 3, generator=rng)
    names = tuple(name.format(place) for place in range(classes))
    labels = torch.arange(5 * max(2 * classes, count)) % classes
    noise = 0.3 * torch.rand(len(labels), 3, 16, 16, generator=rng) - 0.15
    pixels = (means[labels][:, :, None, None] + noise).clamp(0, 1)
    images: Any = advmix.open_images((pixels, labels), classes=names)
    if files:
        made = {
            f"{names[label]}/{files.format(place)}.png": encoded(to_pil_image(image))
            for place, (image, label) in enumerate(zip(pixels, labels.tolist(), strict=True))
        }
        images = advmix.open_images(write(out.parent / "files", made), size=16)
    others = means + 0.05 * torch.randn(means.shape, generator=rng)
    nets = {"first": nearest_color(means), "second": nearest_color(others)}
    search, reference = advmix.Search(restarts=2, steps=2), nearest_color(means, scale=5)
    advmix.audit_classifier(nets, images, reference=reference, search=search, count=count, pictures=2, out=out)
    return out / EXPLORER


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def explorer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return audited(tmp_path_factory.mktemp("explorer") / "audit", 3)


@contextmanager
def opened(browser: Any, path: Path, width: int = 1400, **options: Any) -> Iterator[Any]:
    """The page; an error of its script, or a request for anything but files beside it, fails the test."""
    context = browser.new_context(viewport={"width": width, "height": 900}, **options)
    page, troubles, asked = context.new_page(), [], []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda message: troubles.append(message.text))
    page.on("request", lambda request: asked.append(request.url))
    try:
        page.goto(path.as_uri())
        yield page
    finally:
        context.close()
    assert troubles == []
    assert all(url.startswith((path.parent.as_uri(), "data:image/jpeg")) for url in asked)


def places(page: Any) -> list[int]:
    found: list[int] = page.eval_on_selector_all(".grid li", "all => all.map((one) => Number(one.dataset.place))")
    return found


def chosen(page: Any) -> int:
    place: int = page.eval_on_selector("[aria-current=true]", "one => Number(one.parentNode.dataset.place)")
    return place


def data_of(page: Any) -> dict[str, Any]:
    found: dict[str, Any] = page.evaluate("JSON.parse(document.getElementById('data').textContent)")
    return found


def test_flips_come_first_and_the_least_change_first(browser: Any, explorer: Path) -> None:
    with opened(browser, explorer) as page:
        images, shown = data_of(page)["images"], places(page)
        flips = [place for place, one in enumerate(images) if one["answers"][0]["state"] == "flips"]
        assert len(flips) > 5
        assert sorted(shown) == flips
        strengths = [images[place]["answers"][0]["strength"] for place in shown]
        assert strengths == sorted(strengths)
        assert page.inner_text(".count") == f"{len(flips)} of {len(images)} images"
        assert chosen(page) == shown[0]


@pytest.mark.parametrize(
    ("choices", "wanted"),
    [
        ({"label": "1"}, lambda image, one: image["label"] == 1 and one["state"] == "flips"),
        ({"state": "withstands"}, lambda image, one: one["state"] == "withstands"),
        ({"state": ""}, lambda image, one: True),
        ({"state": "", "label": "2"}, lambda image, one: image["label"] == 2),
    ],
)
def test_filters_leave_what_is_wanted(
    browser: Any, explorer: Path, choices: dict[str, str], wanted: Callable[[Any, Any], bool]
) -> None:
    with opened(browser, explorer) as page:
        for name, value in choices.items():
            page.select_option(f"[name={name}]", value)
        images = data_of(page)["images"]
        assert sorted(places(page)) == [at for at, one in enumerate(images) if wanted(one, one["answers"][0])]


def test_sizes_kinds_and_extremes_are_filters_too(browser: Any, explorer: Path) -> None:
    with opened(browser, explorer) as page:
        images = data_of(page)["images"]
        first = [one["answers"][0] for one in images]
        page.fill("[name=most]", "50")
        assert sorted(places(page)) == [
            at for at, one in enumerate(first) if one["strength"] and one["strength"] <= 0.5
        ]
        page.fill("[name=most]", "100")
        page.check("[name=plain]")
        flips = [at for at, one in enumerate(first) if one["state"] == "flips"]
        assert sorted(places(page)) == [at for at in flips if not first[at]["extreme"]]
        page.uncheck("[name=plain]")
        kind = first[places(page)[0]]["kind"]
        assert kind
        kinds = page.eval_on_selector_all("[name=kind] option", "all => all.map((one) => one.value)")
        assert set(kinds) == {"", *(first[at]["kind"] for at in flips)}
        page.select_option("[name=kind]", kind)
        assert sorted(places(page)) == [at for at in flips if first[at]["kind"] == kind]
        page.select_option("[name=order]", "change")
        sizes = [first[at]["change"] for at in places(page)]
        assert sizes == sorted(sizes)


def test_keys_step_through_the_way_and_the_images(browser: Any, explorer: Path) -> None:
    with opened(browser, explorer) as page:
        images, shown = data_of(page)["images"], places(page)
        one = images[shown[0]]["answers"][0]
        for _ in range(12):
            page.keyboard.press("ArrowLeft")
        assert page.inner_text(".way span") == "as it is"
        for step in range(11):
            told = page.inner_text(".frames figure >> nth=0 >> b")
            assert told == f"class {one['answers'][step]}"
            right = page.eval_on_selector(".frames figure b", "told => told.className") == "right"
            assert right == (one["answers"][step] == images[shown[0]]["label"])
            assert f"label {100 * one['curve'][step]:.0f} %" in page.inner_text(".frames figure >> nth=0")
            page.keyboard.press("ArrowRight")
        assert page.inner_text(".way span") == "100 % of the way"
        page.keyboard.press("ArrowDown")
        assert chosen(page) == shown[1]
        page.focus(".grid li:nth-child(2) button")
        page.keyboard.press("ArrowDown")
        assert page.evaluate("Number(document.activeElement.parentNode.dataset.place)") == chosen(page) == shown[2]
        page.keyboard.press("ArrowUp")
        page.keyboard.press("ArrowUp")
        page.keyboard.press("ArrowUp")
        assert chosen(page) == shown[0]
        page.focus("[name=step]")
        page.keyboard.press("ArrowDown")
        assert chosen(page) == shown[1], "the slider leaves up and down to the images"


def test_frames_are_loaded_from_beside_the_page(browser: Any, explorer: Path) -> None:
    with opened(browser, explorer) as page:
        page.wait_for_function("[...document.querySelectorAll('.window img')].every((one) => one.complete)")
        sizes = page.eval_on_selector_all(
            ".window img", "all => all.map((one) => [one.naturalWidth, one.naturalHeight])"
        )
        assert sizes == [[11 * 48, 2 * 48]] * 2
        assert page.query_selector(".missing") is None


def test_a_page_without_its_folder_says_so(browser: Any, explorer: Path, tmp_path: Path) -> None:
    alone = Path(shutil.copy(explorer, tmp_path))
    context = browser.new_context()
    page = context.new_page()
    page.goto(alone.as_uri())
    page.wait_for_selector(".missing")
    assert len(places(page)) > 5
    context.close()


def test_two_classifiers_side_by_side(browser: Any, explorer: Path) -> None:
    with opened(browser, explorer) as page:
        place = chosen(page)
        assert page.locator(".frames figure").count() == 2
        assert page.locator(".curves polyline").count() == 2
        page.select_option("[name=beside]", "")
        assert page.locator(".frames figure").count() == 1
        page.select_option("[name=beside]", "0")
        page.select_option("[name=classifier]", "1")
        images = data_of(page)["images"]
        flips = sum(one["answers"][1]["state"] == "flips" for one in images)
        assert page.inner_text("h1") == f"{flips} of {len(images)} answers flip: second"
        assert sorted(places(page)) == [at for at, one in enumerate(images) if one["answers"][1]["state"] == "flips"]
        assert page.locator(".frames .name").all_inner_texts() == ["second", "first"]
        page.select_option("[name=state]", "")
        one, card = images[place]["answers"][1], page.locator(f"li[data-place='{place}']")
        assert card.locator("b").inner_text() == f"class {one['before'][0]} → class {one['after'][0]}"


def test_the_command_is_copied(browser: Any, tmp_path: Path) -> None:
    """Of images that can be read again; of those in memory there is none."""
    path = audited(tmp_path / "audit", 2, files="it's {}")
    with opened(browser, path, permissions=["clipboard-read", "clipboard-write"]) as page:
        page.click("[name=copy]")
        page.wait_for_function("document.querySelector('[name=copy]').textContent === 'Copied'")
        name = data_of(page)["images"][chosen(page)]["name"]
        command = page.evaluate("navigator.clipboard.readText()")
        assert command == page.inner_text(".again code")
        quoted = name.replace("'", """'"'"'""")
        assert command.endswith(f"--mix smallest --only '{quoted}'")


def test_images_in_memory_have_no_command(browser: Any, explorer: Path) -> None:
    with opened(browser, explorer) as page:
        assert not page.is_visible(".again")


def test_it_is_read_without_script(browser: Any, explorer: Path) -> None:
    with opened(browser, explorer, java_script_enabled=False) as page:
        assert page.is_visible("noscript")
        assert not page.is_visible(".filters")
        assert not page.is_visible(".detail")
        cards = page.locator(".grid li")
        assert cards.count() == 30
        first = cards.nth(0)
        assert "of the way" in first.inner_text()
        box = first.locator(".thumb").nth(1).bounding_box()
        assert box["width"] > 40


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_focus_is_seen_and_colours_follow_the_scheme(browser: Any, explorer: Path, scheme: str) -> None:
    with opened(browser, explorer, color_scheme=scheme) as page:
        paper = page.evaluate("getComputedStyle(document.querySelector('header')).backgroundColor")
        assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
        for _ in range(30):
            page.keyboard.press("Tab")
            style = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert style == "solid", page.evaluate("document.activeElement.outerHTML")


@pytest.mark.parametrize(
    ("classes", "name", "files"),
    [(2, LONG + "{}", LONG + "{}"), (10, "class {}", ""), (100, "class {}", "")],
    ids=["long names", "10", "100"],
)
def test_nothing_is_wider_than_the_window(browser: Any, tmp_path: Path, classes: int, name: str, files: str) -> None:
    path = audited(tmp_path / "audit", classes, name=name, files=files)
    for width in WIDTHS:
        with opened(browser, path, width) as page:
            for state in ("flips", ""):
                page.select_option("[name=state]", state)
                assert page.evaluate("document.documentElement.scrollWidth") == width
                for selector in (".detail", ".grid", ".filters"):
                    box = page.locator(selector).bounding_box()
                    assert box["x"] >= 0
                    assert box["x"] + box["width"] <= width
            assert page.locator(".grid li").first.bounding_box()["height"] < 260


def test_a_sheet_counts_the_answers_and_saves_them(browser: Any, explorer: Path, tmp_path: Path) -> None:
    """What the page says of the first classifier's flips, and the file that `--votes` reads."""
    report, found = explorer.parent / REPORT, AuditRecords.load(explorer.parent)
    entry = json.loads((explorer.parent / RESULTS).read_text())["classifiers"][0]
    kept, voted = entry["label_check"]["flipped_label_kept"], entry["label_check"]["flipped"]
    assert voted == kept + entry["label_check"]["flipped_label_lost"] > 0
    context = browser.new_context(viewport={"width": 1400, "height": 900}, accept_downloads=True)
    page = context.new_page()
    page.goto(report.as_uri())
    form = page.locator("form.sheet").first
    assert form.locator(".tally").inner_text() == f"Answered: 0 of {len(entry['sheet'])}."
    said = {}
    for row, vote in zip(entry["sheet"][:3], ("lost", "kept", "lost"), strict=True):
        form.locator(f"fieldset[data-place='{row['place']}'] input[value={vote}]").check()
        kept += (vote == "kept") - (row["vote"] == "kept")
        said[row["place"]] = vote
    assert (
        form.locator(".tally")
        .inner_text()
        .endswith(f"with the votes of the reference on the others in {kept} of {voted} flips.")
    )
    with page.expect_download() as download:
        form.locator("button").click()
    download.value.save_as(tmp_path / "votes.json")
    context.close()
    votes = read_votes(tmp_path / "votes.json")
    assert votes["votes"]["first"] == said
    check = LabelCheck(found.images, with_votes(found, ["first", "second"], votes, tmp_path).classifiers[0])
    assert int(check.kept.sum()) == kept

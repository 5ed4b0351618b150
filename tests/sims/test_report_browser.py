"""The page of a replay in a browser: it plays, obeys keys and pointer, fits a phone and asks no network."""

import json
import shutil
import time

import pytest

from sims.compare import main

pytestmark = pytest.mark.slow
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
PATIENCE = 10.0  # s until what should happen has happened
TRACKERS = ["gnn", "pmb"]
# Pixels of the canvas that have a colour, as [r, g, b], to within a rounding.
COUNT = """
const canvas = document.getElementById(arguments[0]), [r, g, b] = arguments[1];
const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", {willReadFrequently: true});
copy.drawImage(canvas, 0, 0);
const {data} = copy.getImageData(0, 0, canvas.width, canvas.height);
let n = 0;
for (let i = 0; i < data.length; i += 4)
  if (Math.abs(data[i] - r) + Math.abs(data[i+1] - g) + Math.abs(data[i+2] - b) < 4 && data[i+3] > 250) n++;
return n;
"""
MOVE = """
const slider = document.getElementById("scan");
slider.value = arguments[0];
slider.dispatchEvent(new Event("input"));
"""


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    file = tmp_path_factory.mktemp("page") / "crossing.html"
    assert main(["--trackers", *TRACKERS, "--runs", "1", "--report", str(file)]) == 0
    return file


@pytest.fixture(scope="module")
def browser():
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs the dev extra")
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no chromium and chromedriver here: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for word in ("--headless=new", "--no-sandbox", "--force-device-scale-factor=1", "--window-size=1280,800"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, html):
    """The page, new, in a window of 1280 x 800 and light; afterwards nothing may have been complained of."""
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    prefer(browser, "light")
    browser.get_log("performance")
    browser.get(html.as_uri())
    until(lambda: text(browser, "count") == "scan 40 / 40")
    yield browser
    assert browser.get_log("browser") == []
    sent = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    asked = {m["params"]["request"]["url"] for m in sent if m["method"] == "Network.requestWillBeSent"}
    assert {url for url in asked if not url.startswith("data:")} == {html.as_uri()}


def prefer(browser, theme, motion="no-preference"):
    features = {"prefers-color-scheme": theme, "prefers-reduced-motion": motion}
    media = [{"name": name, "value": value} for name, value in features.items()]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})


def until(holds):
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def text(browser, name):
    return browser.find_element("id", name).text


def press(browser, *keys):
    from selenium.webdriver.common.action_chains import ActionChains

    for key in keys:
        ActionChains(browser).send_keys(key).perform()
    painted(browser)


def painted(browser):
    """Wait until what was asked for has been drawn."""
    browser.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")


def scan(browser):
    return int(browser.execute_script("return document.getElementById('scan').value"))


def count(browser, canvas, rgb):
    return browser.execute_script(COUNT, canvas, rgb)


def picture(browser):
    """What the plane shows."""
    painted(browser)
    return browser.execute_script("return document.getElementById('stage').toDataURL()")


def colour(browser, name):
    code = browser.execute_script(
        "return getComputedStyle(document.documentElement).getPropertyValue(arguments[0]).trim()", f"--{name}"
    )
    return [int(code[i : i + 2], 16) for i in (1, 3, 5)]


def overflow(browser):
    return browser.execute_script("return document.documentElement.scrollWidth - innerWidth")


def at_point(browser, x, y, click=False):
    """Move the pointer to a place in the window."""
    from selenium.webdriver.common.action_chains import ActionChains

    actions = ActionChains(browser)
    actions.w3c_actions.pointer_action.move_to_location(round(x), round(y))
    if click:
        actions.w3c_actions.pointer_action.click()
    actions.perform()
    painted(browser)


def test_it_plays_to_the_end_and_pauses(page):
    button = page.find_element("id", "play")
    assert button.get_attribute("aria-label") == "Play"
    button.click()
    until(lambda: 1 <= scan(page) < 39)
    assert button.get_attribute("aria-label") == "Pause"
    button.click()
    here = scan(page)
    time.sleep(0.5)
    assert scan(page) == here
    page.execute_script(MOVE, 37)
    button.click()
    until(lambda: scan(page) == 39 and button.get_attribute("aria-label") == "Play")


def test_keys_go_through_time(page):
    from selenium.webdriver.common.keys import Keys

    press(page, Keys.HOME)
    assert (scan(page), text(page, "count")) == (0, "scan 1 / 40")
    press(page, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT)
    assert scan(page) == 1
    page.find_element("id", "scan").send_keys(Keys.ARROW_RIGHT)  # the slider's own key counts once
    assert scan(page) == 2
    press(page, Keys.END)
    assert scan(page) == 39
    press(page, Keys.HOME, "]", " ")
    until(lambda: scan(page) > 1)
    assert page.find_element("id", "rate").get_attribute("value") == "10"
    press(page, " ")
    assert page.find_element("id", "play").get_attribute("aria-label") == "Play"


def test_keys_and_clicks_hide_trackers(page):
    first, second = page.find_elements("css selector", ".tracker")
    series = [colour(page, f"series-{i}") for i in range(2)]
    assert min(count(page, canvas, c) for canvas in ("stage", "charts") for c in series) > 20
    press(page, "1")
    assert first.get_attribute("aria-pressed") == "false"
    assert [count(page, "stage", series[0]), count(page, "charts", series[0])] == [0, 0]
    assert count(page, "stage", series[1]) > 20
    press(page, "1")
    assert count(page, "stage", series[0]) > 20
    second.click()
    at_point(page, 5, 5)
    assert second.get_attribute("aria-pressed") == "false"
    assert count(page, "stage", series[1]) == 0


def test_layers_are_switched(page):
    page.execute_script(MOVE, 4)  # when something is missed
    painted(page)
    first = picture(page)
    seen = {first}
    for key in "mtelxcs":
        press(page, key)
        switched = picture(page)
        assert switched not in seen, key
        seen.add(switched)
    press(page, *"mtelxcs")
    assert picture(page) == first
    button = page.find_element("xpath", "//button[text()='Truth']")
    assert button.get_attribute("aria-pressed") == "true"
    button.click()
    until(lambda: button.get_attribute("aria-pressed") == "false")


def test_the_numbers_shown_are_those_of_the_scan(page):
    doc = json.loads(page.execute_script("return document.getElementById('data').textContent"))
    for k in (3, 20):
        page.execute_script(MOVE, k)
        painted(page)
        for i, button in enumerate(page.find_elements("css selector", ".tracker")):
            shown = float(button.find_elements("css selector", ".number")[1].text)
            assert shown == pytest.approx(doc["trackers"][i]["errors"][0][k], abs=0.06)
    table = [row.text.split() for row in page.find_elements("css selector", "#means tbody tr")]
    assert table == [[t["name"], *t["means"]] for t in doc["trackers"]]


def test_the_pointer_reads_and_follows_an_object(page):
    doc = json.loads(page.execute_script("return document.getElementById('data').textContent"))
    page.execute_script(MOVE, 30)
    press(page, "2")
    stage = page.execute_script("return document.getElementById('stage').getBoundingClientRect().toJSON()")
    x0, y0, x1, y1 = doc["box"]
    scale = min((stage["width"] - 56) / (x1 - x0), (stage["height"] - 56) / (y1 - y0))
    label, x, y = doc["trackers"][0]["scans"][30][:3]
    px = stage["x"] + stage["width"] / 2 + (x - (x0 + x1) / 2) * scale
    py = stage["y"] + stage["height"] / 2 - (y - (y0 + y1) / 2) * scale
    at_point(page, px, py)
    tip = page.find_element("id", "tip")
    assert tip.text.startswith(f"gnn · label {doc['trackers'][0]['labels'][label]}\nx ")
    assert "speed " in tip.text
    assert "existence " in tip.text
    at_point(page, px, py, click=True)
    at_point(page, 5, 5)
    before = tip.text
    press(page, "j")  # no key
    page.execute_script(MOVE, 31)
    painted(page)
    assert tip.is_displayed()
    assert tip.text.splitlines()[0] == before.splitlines()[0]
    assert tip.text != before


def test_a_click_in_the_charts_goes_there(page):
    chart = page.execute_script("return document.getElementById('charts').getBoundingClientRect().toJSON()")
    at_point(page, chart["x"] + 40 + (chart["width"] - 50) * 0.5, chart["y"] + 40, click=True)
    assert scan(page) in (19, 20)


def test_zoom_shows_less_and_zero_shows_everything(page):
    whole = picture(page)
    press(page, "+", "+")
    assert picture(page) != whole
    press(page, "0")
    assert picture(page) == whole
    press(page, "s")
    assert picture(page) != whole


def test_help_opens_and_closes(page):
    from selenium.webdriver.common.keys import Keys

    press(page, "?")
    assert page.find_element("id", "help").is_displayed()
    press(page, "1")  # means nothing meanwhile
    press(page, Keys.ESCAPE)
    assert not page.find_element("id", "help").is_displayed()
    assert page.find_element("css selector", ".tracker").get_attribute("aria-pressed") == "true"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_follows_the_system_and_the_reader(page, theme):
    other = {"light": "dark", "dark": "light"}[theme]
    prefer(page, theme)
    until(lambda: page.execute_script("return document.documentElement.dataset.theme") == theme)
    painted(page)
    own = colour(page, "series-0")
    assert count(page, "stage", own) > 20
    body = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (int(body[4:].split(",")[0]) < 128) == (theme == "dark")
    press(page, "d")
    assert page.execute_script("return document.documentElement.dataset.theme") == other
    assert colour(page, "series-0") != own
    assert count(page, "stage", colour(page, "series-0")) > 20
    prefer(page, other)
    prefer(page, theme, motion="reduce")  # the reader has chosen
    press(page, "d")
    assert page.execute_script("return document.documentElement.dataset.theme") == theme
    still = "return getComputedStyle(document.querySelector('.switch')).transitionDuration"
    assert page.execute_script(still) == "0s"


@pytest.mark.parametrize("width", [320, 390, 768])
def test_a_phone_shows_it_without_sideways_scrolling(page, width):
    size = {"width": width, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    painted(page)
    assert overflow(page) <= 0
    outside = page.execute_script(
        "return [...document.querySelectorAll('body *')].filter((e) => !e.closest('.wide, svg, dialog') &&"
        " e.getBoundingClientRect().width && (e.getBoundingClientRect().right > innerWidth + 0.5 ||"
        " e.getBoundingClientRect().left < -0.5)).map((e) => e.tagName + '#' + e.id)"
    )
    assert outside == []
    assert count(page, "stage", colour(page, "series-0")) > 20
    press(page, "?")
    assert overflow(page) <= 0


def test_focus_is_seen_and_every_control_has_a_name(page):
    from selenium.webdriver.common.keys import Keys

    seen = set()
    for _ in range(30):
        press(page, Keys.TAB)
        outline, name, tag = page.execute_script(
            "const e = document.activeElement; return [getComputedStyle(e).outlineStyle,"
            " e.getAttribute('aria-label') || e.textContent.trim(),"
            " e.tagName + (e.id || e.textContent)]"
        )
        if tag.startswith("BODY"):
            break
        assert outline != "none", tag
        assert name, tag
        seen.add(tag)
    assert len(seen) >= 15


def test_a_page_of_hostile_names_runs_nothing(browser, tmp_path):
    from dataclasses import replace

    from sims.report.page import page as written
    from sims.report.replay import of_scenario
    from sims.scenarios import scenario

    bad = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    problem = scenario("mt3-task1")
    found = of_scenario(problem, {"gnn": {}}, 0)
    file = tmp_path / "bad.html"
    names = {"title": bad, "about": bad, "shown": bad, "unit": bad, "metric": bad, "headings": [bad]}
    tracks, errors = {bad: found.tracks["gnn"]}, {bad: found.errors["gnn"]}
    file.write_text(written(replace(found, **names, tracks=tracks, errors=errors, rows={bad: [bad]})))
    browser.get(file.as_uri())
    until(lambda: text(browser, "title") == bad)
    assert browser.find_elements("tag name", "img") == []
    assert browser.title != "owned"
    assert browser.get_log("browser") == []

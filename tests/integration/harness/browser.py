"""The live page in a headless Chromium, for tests and for the picture in the README.

Chromium comes from Debian; Playwright only drives it. The browser can reach the loopback and nothing else.
"""

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator

from playwright.sync_api import Page, sync_playwright

from .wait import PATIENCE_S

FLAGS = [
    "--no-sandbox",  # tests run as root in containers, where Chromium's sandbox does not start
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
]


def find_chromium() -> str | None:
    """$PENSTOCK_CHROMIUM, else what the system has."""
    given = os.environ.get("PENSTOCK_CHROMIUM")
    return given or shutil.which("chromium") or shutil.which("chromium-browser")


class LivePage:
    """One tab with the live page. Keeps everything that a browser complains about."""

    def __init__(self, page: Page, admin_url: str):
        self.page = page
        self.admin_url = admin_url.rstrip("/")
        self.requests: list[str] = []
        self.problems: list[str] = []
        page.set_default_timeout(PATIENCE_S * 1000)
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.problems.append(f"exception: {error}"))

    def _on_console(self, message) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(f"{message.type}: {message.text} ({message.location.get('url', '')})")

    def open(self, path: str = "/") -> "LivePage":
        self.page.goto(self.admin_url + path)
        return self

    def text(self, selector: str) -> str:
        return self.page.locator(selector).first.inner_text()

    def wait_live(self) -> None:
        self.page.locator("#connection[data-level=good]").wait_for()

    def totals(self) -> dict[str, str]:
        """The numbers in the header, by their names."""
        return dict(self.page.eval_on_selector_all(
            "#totals div", "all => all.map(d => [d.querySelector('dt').innerText, d.querySelector('dd').innerText])"))

    def chart_values(self) -> dict[str, str]:
        """The number that stands over each curve, by the chart's title."""
        return dict(self.page.eval_on_selector_all(
            ".chart", "all => all.map(c => [c.querySelector('h2').innerText, c.querySelector('.chart-value').innerText])"))

    def curve_pixels(self) -> dict[str, int]:
        """How many pixels of each chart are neither paper nor grey axes, by the chart's title."""
        return dict(self.page.eval_on_selector_all(".chart", """all => all.map(chart => {
            const canvas = chart.querySelector("canvas");
            const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", {willReadFrequently: true});
            copy.drawImage(canvas, 0, 0);
            const {data} = copy.getImageData(0, 0, canvas.width, canvas.height);
            let colored = 0;
            for (let i = 0; i < data.length; i += 4) {
                const rgb = [data[i], data[i + 1], data[i + 2]];
                if (data[i + 3] > 128 && Math.max(...rgb) - Math.min(...rgb) > 60) ++colored;
            }
            return [chart.querySelector("h2").innerText, colored];
        })"""))

    def open_decision(self, index: int = 0) -> None:
        """By a click on its row, and waits for the explanation."""
        self.page.locator("#decision-rows tr").nth(index).click()
        self.page.locator("dialog[open] .story li").first.wait_for()


@contextlib.contextmanager
def browser(executable: str | None = None) -> Iterator:
    """A Chromium with an empty profile; gives the function that opens a LivePage.

    open_page(admin_url, width=1280, height=900, scheme="light", scale=1, touch=False)
    """
    executable = executable or find_chromium()
    if executable is None:
        raise FileNotFoundError("no chromium: apt-get install chromium, or set PENSTOCK_CHROMIUM")
    with contextlib.ExitStack() as stack:
        # A home of its own: Chromium writes beside its profile too.
        home = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        playwright = stack.enter_context(sync_playwright())
        chromium = playwright.chromium.launch(
            executable_path=executable, headless=True, args=FLAGS, env={**os.environ, "HOME": home},
            timeout=PATIENCE_S * 1000,
        )
        stack.callback(chromium.close)

        def open_page(admin_url: str, width=1280, height=900, scheme="light", scale=1, touch=False) -> LivePage:
            context = chromium.new_context(
                viewport={"width": width, "height": height}, color_scheme=scheme, device_scale_factor=scale,
                has_touch=touch, reduced_motion="reduce", service_workers="block",
            )
            return LivePage(context.new_page(), admin_url)

        yield open_page


def take_picture(admin_url: str, output: str, wait_s: float, decision: bool, width: int, height: int, scheme: str) -> None:
    with browser() as open_page:
        live = open_page(admin_url, width, height, scheme, scale=1.5).open()
        live.wait_live()
        live.page.locator("#decision-rows tr").first.wait_for()
        live.page.wait_for_timeout(wait_s * 1000)
        if decision:
            live.open_decision()
        live.page.screenshot(path=output)
        if live.problems:
            raise AssertionError(f"the page complained: {live.problems}")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="tools/screenshot", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Takes a picture of the live page of a running gateway.",
        epilog="example, for the README:\n"
        "  build/release/bin/penstock demo &\n"
        "  tools/screenshot http://127.0.0.1:9090 docs/images/console.png --wait 180",
    )
    parser.add_argument("admin_url", help="of the admin port, http://HOST:PORT")
    parser.add_argument("output", help="PNG file; its folder is made when it is missing")
    parser.add_argument("--wait", type=float, default=0, metavar="SECONDS", help="let curves grow first; default 0")
    parser.add_argument("--decision", action="store_true", help="with the newest decision explained")
    parser.add_argument("--size", default="1440x1000", metavar="WxH", help="default %(default)s")
    parser.add_argument("--scheme", choices=["light", "dark"], default="light")
    options = parser.parse_args(argv)
    try:
        width, height = map(int, options.size.split("x"))
    except ValueError:
        parser.error(f"--size {options.size}: is not WIDTHxHEIGHT")
    os.makedirs(os.path.dirname(os.path.abspath(options.output)), exist_ok=True)
    began = time.monotonic()
    try:
        take_picture(options.admin_url, options.output, options.wait, options.decision, width, height, options.scheme)
    except Exception as error:  # whatever browsers do: one line, not a trace
        print(f"tools/screenshot: {error}", file=sys.stderr)
        return 1
    print(f"{options.output}: {os.path.getsize(options.output) // 1024} KiB after {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

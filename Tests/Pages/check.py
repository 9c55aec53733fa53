#!/usr/bin/env python3
"""Opens pages in a real browser and says what is wrong with them; see README.md."""

import argparse
import pathlib
import shutil
import sys

from playwright.sync_api import sync_playwright

LAWS = pathlib.Path(__file__).with_name("in_page.js").read_text()
# A small telephone's width, and a desk's.
WIDTHS = (360, 1280)
SCHEMES = ("light", "dark")
# A4 between a printer's margins.
PAPER_WIDTH = 718
# What a page that opens at once may take on a machine that has much else to do.
OPEN_MS_MAX = 5000
# Drawings stay this small whatever a report holds.
ELEMENTS_MAX = 8000


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("pages", nargs="+", type=pathlib.Path)
    parser.add_argument("--screenshots", type=pathlib.Path, required=True)
    parser.add_argument("--browser", default=shutil.which("chromium"))
    return parser.parse_args()


class View:
    """One page at one width in one colour scheme."""

    def __init__(self, browser, path, width, scheme):
        self.path, self.width, self.scheme = path, width, scheme
        self.problems = []
        self.page = browser.new_page(
            viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
        )
        self.page.on("console", lambda message: self.problems.append(f"console: {message.text}"))
        self.page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        self.page.on("dialog", lambda dialog: self.problems.append(f"dialog: {dialog.message}"))
        self.page.on("request", self.request)

    def request(self, request):
        if request.url not in (self.path.as_uri(), "data:,"):
            self.problems.append(f"asks for {request.url}")

    def law(self, name):
        self.problems += self.page.evaluate(f"pageLaws.{name}()")

    def check(self, screenshots):
        self.page.goto(self.path.as_uri(), timeout=OPEN_MS_MAX)
        self.page.screenshot(
            path=screenshots / f"{self.path.stem}-{self.width}-{self.scheme}.png", full_page=True
        )
        # The protocol of the browser brings this in; the page's own policy lets no script run.
        self.page.evaluate(LAWS)
        elements = self.page.evaluate("document.querySelectorAll('*').length")
        if elements > ELEMENTS_MAX:
            self.problems.append(f"{elements} elements, above {ELEMENTS_MAX}")
        self.law("alternatives")
        self.law("overlaps")
        self.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        self.focus()
        self.law("overflow")
        self.law("contrasts")
        self.page.close()
        return [f"{self.path.name} at {self.width} {self.scheme}: {text}" for text in self.problems]

    def focus(self):
        """Walks through the page by Tab alone, in the order in which it is read."""
        wanted = self.page.evaluate("pageLaws.focusable()")
        seen = []
        for _ in range(wanted + 2):
            self.page.keyboard.press("Tab")
            place = self.page.evaluate(
                """() => {
                    const element = document.activeElement;
                    if (!element || element === document.body) return null;
                    const all = [...document.querySelectorAll('*')];
                    const outline = getComputedStyle(element);
                    return [all.indexOf(element), outline.outlineStyle, parseFloat(outline.outlineWidth)];
                }"""
            )
            if place is None or place[0] in [index for index, _, _ in seen]:
                break
            seen.append(place)
        if len(seen) != wanted:
            self.problems.append(f"Tab reaches {len(seen)} of {wanted} elements")
        if [index for index, _, _ in seen] != sorted(index for index, _, _ in seen):
            self.problems.append("Tab does not follow the order of reading")
        if any(style == "none" or width < 2 for _, style, width in seen):
            self.problems.append("an element does not show that it has the focus")


def printed(browser, path, screenshots):
    """The page as PDF, from a dark screen; paper stays white."""
    page = browser.new_page(color_scheme="dark", viewport={"width": PAPER_WIDTH, "height": 1000})
    page.goto(path.as_uri(), timeout=OPEN_MS_MAX)
    pdf = page.pdf(path=screenshots / f"{path.stem}.pdf", format="A4")
    page.emulate_media(media="print", color_scheme="dark")
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    wide = page.evaluate("getComputedStyle(document.querySelector('svg.wide')).display")
    overflow = page.evaluate(LAWS + "pageLaws.overflow()")
    page.close()
    problems = overflow if pdf.startswith(b"%PDF-") else ["it prints no PDF", *overflow]
    if paper != "rgb(255, 255, 255)":
        problems.append(f"paper is {paper}")
    if wide == "none":
        problems.append("drawings are not printed")
    return [f"{path.name} printed: {text}" for text in problems]


def main():
    options = arguments()
    if options.browser is None:
        sys.exit("there is no chromium: apt-get install chromium, or give --browser PATH")
    options.screenshots.mkdir(parents=True, exist_ok=True)
    problems, views = [], 0
    with sync_playwright() as playwright:
        # As root there is no sandbox; the pages are our own.
        browser = playwright.chromium.launch(
            executable_path=options.browser, args=["--no-sandbox"]
        )
        for path in (page.resolve() for page in options.pages):
            for width in WIDTHS:
                for scheme in SCHEMES:
                    problems += View(browser, path, width, scheme).check(options.screenshots)
                    views += 1
            problems += printed(browser, path, options.screenshots)
        browser.close()
    print("\n".join(problems))
    print(f"{views} views, {len(problems)} problems")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()

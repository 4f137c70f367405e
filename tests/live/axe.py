"""axe-core in a page of a real browser: what it finds wrong, by the rules of WCAG 2.1 at levels A and AA."""

import importlib.util
import json
import os
import pathlib

from tests.live.browser import Page

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]


def axe_core() -> str | None:
    """The script of axe-core: of the file that the variable AXE_CORE names, or of the package axe-core-python."""
    path = os.environ.get("AXE_CORE")
    spec = importlib.util.find_spec("axe_core_python")
    if path is None and spec is not None and spec.origin is not None:
        path = str(pathlib.Path(spec.origin).with_name("axe.min.js"))
    return pathlib.Path(path).read_text("utf-8") if path is not None else None


def violations(page: Page, axe: str) -> list[str]:
    """What axe-core finds wrong with the page as it is now: rule, element and reason."""
    if not page.value("typeof axe === 'object'"):
        page.value(axe)
    options = json.dumps({"runOnly": RULES, "resultTypes": ["violations"]})
    found = page.call(
        "Runtime.evaluate", expression=f"axe.run(document, {options})", awaitPromise=True, returnByValue=True
    )
    assert "exceptionDetails" not in found, found
    result = found["result"]["value"]
    assert len(result["passes"]) > 10, "it has looked"
    return [
        f"{each['id']}: {node['target']}: {node['failureSummary']}"
        for each in result["violations"]
        for node in each["nodes"]
    ]

"""The dashboard for Grafana, as tests read it."""

import json
import re
from pathlib import Path
from typing import Any

PATH = Path(__file__).parent.parent / "cluster" / "deploy" / "grafana" / "footfall.json"
# What Grafana puts in, for a scrape each second; a variable that is set to all is ".*".
_BUILT_IN = {"$__rate_interval": "20s", "$__range": "1h"}


def dashboard() -> dict[str, Any]:
    return json.loads(PATH.read_text())


def panels() -> list[dict[str, Any]]:
    """Return the panels that show something."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries() -> dict[str, str]:
    """Return each query by its panel's title and its own letter."""
    return {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in panels()
        for target in panel["targets"]
    }


def filled_in(query: str, run_id: str) -> str:
    """Return a query as Grafana sends it, when one run is chosen."""
    for name, value in {**_BUILT_IN, "$run": run_id}.items():
        query = query.replace(name, value)
    return re.sub(r"\$\w+", ".*", query)

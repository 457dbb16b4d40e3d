"""The dashboard and the scrape configuration name what exists, and fit together."""

import re

import yaml

from cluster.live import __doc__ as live_names
from tests.dashboard import dashboard, filled_in, panels, queries
from tests.ray_local.prometheus import CONFIG

KINDS = {"timeseries", "stat", "gauge", "row"}
TAGS = {"job", "footfall_run", "footfall_node", "footfall_step"}


def declared() -> dict[str, str]:
    """Return each metric with what it is: "counter" or "gauge"."""
    return dict(re.findall(r"^    (footfall_\w+) +(counter|gauge) ", str(live_names), re.M))


def test_every_query_names_metrics_that_a_job_shows_and_each_of_these_is_on_the_dashboard() -> None:
    named = {name for query in queries().values() for name in re.findall(r"ray_(\w+)", query)}
    assert named == set(declared())
    assert len(named) == 16


def test_counters_are_asked_for_their_rise_and_gauges_for_what_they_are() -> None:
    for query in queries().values():
        for name, kind in declared().items():
            for found in re.finditer(rf"(\w+)\(ray_{name}{{[^}}]*}}(\[?)", query):
                assert (found[2] == "[") == (kind == "counter"), query
                assert (found[1] in ("rate", "increase", "max_over_time")) == (found[2] == "["), (
                    query
                )


def test_labels_in_queries_and_legends_are_those_that_metrics_have() -> None:
    for panel in panels():
        for target in panel["targets"]:
            query, legend = target["expr"], target["legendFormat"]
            matched = set(re.findall(r'(\w+)(?:=~|!=|=)"', query))
            grouped = {
                tag for tags in re.findall(r" by \(([^)]*)\)", query) for tag in tags.split(", ")
            }
            assert matched | grouped <= TAGS, query
            # A legend can only show what is left of the labels.
            assert set(re.findall(r"{{(\w+)}}", legend)) == grouped, query
            assert matched >= {"job", "footfall_run"}, query


def test_all_variables_are_defined_and_everything_comes_from_the_chosen_datasource() -> None:
    text = str([panels(), dashboard()["templating"]])
    defined = {variable["name"] for variable in dashboard()["templating"]["list"]}
    assert defined == {"datasource", "job", "run", "node"}
    assert set(re.findall(r"\$\{?([a-z]\w+)", text)) == defined
    for each in [*panels(), *(t for panel in panels() for t in panel["targets"])]:
        assert each["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    for variable in dashboard()["templating"]["list"][1:]:
        asked = variable["query"]["query"]
        (name, tag), *_ = re.findall(r"^label_values\(ray_(\w+)(?:{.*})?, (\w+)\)$", asked)
        assert name in declared()
        assert tag in TAGS
    assert not any("$" in filled_in(query, "run") for query in queries().values())


def test_panels_are_of_known_kinds_have_units_and_do_not_overlap() -> None:
    whole = dashboard()
    assert whole["schemaVersion"] >= 39
    ids = [panel["id"] for panel in whole["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in whole["panels"]:
        assert panel["type"] in KINDS
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not taken & cells, panel["title"]
        taken |= cells
    for panel in panels():
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["description"]
        letters = [target["refId"] for target in panel["targets"]]
        assert letters == ["A", "B"][: len(letters)]


def test_shares_of_the_cap_turn_orange_where_the_job_goes_slower_and_red_at_the_cap() -> None:
    shares = [p for p in panels() if p["fieldConfig"]["defaults"]["unit"] == "percentunit"]
    assert len(shares) == 2
    for panel in shares:
        steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        assert [(step["color"], step["value"]) for step in steps] == [
            ("green", None), ("orange", 0.8), ("red", 1),
        ]  # fmt: skip


def test_the_scrape_configuration_reads_the_file_that_ray_writes() -> None:
    from ray._private.ray_constants import PROMETHEUS_SERVICE_DISCOVERY_FILE

    (scrape,) = yaml.safe_load(CONFIG.read_text())["scrape_configs"]
    (files,) = scrape["file_sd_configs"]
    assert files["files"] == [f"/tmp/ray/{PROMETHEUS_SERVICE_DISCOVERY_FILE}"]

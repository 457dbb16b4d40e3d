"""What is left out, and done meanwhile, when a local Ray is started; without a Ray."""

import importlib
import sys

import pytest
import ray

from cluster import session


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Return the name of a module that nobody has imported."""
    (tmp_path / "needed_soon.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    yield "needed_soon"
    sys.modules.pop("needed_soon", None)


def test_what_is_needed_soon_is_imported_once_the_raylet_is_started(module, monkeypatch):
    began = []

    class Node:
        def start_raylet(self, *given, **named):
            began.append((given, named, module in sys.modules))

    monkeypatch.setattr(ray._private.node, "Node", Node)
    usual = Node.start_raylet
    with session._imported_meanwhile(module):
        assert module not in sys.modules
        Node().start_raylet(1, plasma=2)
    assert module in sys.modules
    assert began == [((1,), {"plasma": 2}, False)]
    assert Node.start_raylet is usual


def test_it_is_imported_where_ray_starts_in_another_way(module, monkeypatch):
    monkeypatch.setattr(ray._private.node, "Node", type("Node", (), {}))
    with session._imported_meanwhile(module):
        assert module not in sys.modules
    assert module in sys.modules


def test_ray_s_functions_are_its_own_again_whatever_happens():
    node, utils = ray._private.node.Node, importlib.import_module("ray._private.utils")
    usual = node.start_monitor, utils.get_dashboard_dependency_error
    with pytest.raises(RuntimeError, match="no"), session._few_processes():
        assert node.start_monitor is not usual[0]
        assert utils.get_dashboard_dependency_error is not usual[1]
        raise RuntimeError("no")
    assert (node.start_monitor, utils.get_dashboard_dependency_error) == usual

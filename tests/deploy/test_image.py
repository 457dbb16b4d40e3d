"""The image: its recipe is clean, and has what it copies, pins and promises."""

import fnmatch
import re
import subprocess
import sys
from pathlib import Path

from tests.deploy.files import DEPLOY, ROOT

RECIPE = (DEPLOY / "Dockerfile").read_text()


def test_hadolint_has_nothing_to_say():
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [hadolint, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_a_misspelt_instruction_is_refused(tmp_path):
    wrong = tmp_path / "Dockerfile"
    wrong.write_text(RECIPE.replace("WORKDIR", "WORKDIRR"))
    hadolint = Path(sys.executable).with_name("hadolint")
    assert subprocess.run([hadolint, wrong], capture_output=True, check=False).returncode


def test_the_base_has_the_cuda_that_torch_was_built_for():
    (base,) = re.findall(r"^FROM nvidia/cuda:(\d+\.\d+)\.\d+-runtime-", RECIPE, re.MULTILINE)
    lock = (ROOT / "requirements.lock").read_text()
    (ours,) = re.findall(r"^cuda-toolkit==(\d+\.\d+)", lock, re.MULTILINE)
    assert base == ours


def test_packages_are_those_of_the_lock_and_the_installer_is_the_makefiles():
    assert "--require-hashes -r /opt/build/requirements.lock" in RECIPE
    (version,) = re.findall(r"uv==([\d.]+)", RECIPE)
    assert f"UV_VERSION := {version}\n" in (ROOT / "Makefile").read_text()


def test_code_is_installed_and_not_linked_so_that_an_uploaded_one_wins():
    (code,) = re.findall(r"^RUN uv pip install (.*?)&&", RECIPE, re.MULTILINE | re.DOTALL)
    words = code.replace("\\\n", " ").split()
    assert words[-1] == "/opt/build"
    assert not {"-e", "--editable"} & set(words)
    assert "PYTHONPATH" not in RECIPE


def test_it_runs_as_a_user_who_owns_his_home_and_the_cache():
    steps = RECIPE.splitlines()
    assert steps.index("USER 1000:1000") < next(
        number for number, line in enumerate(steps) if "jobs.weights" in line
    )
    assert "FOOTFALL_CACHE=/opt/footfall-cache" in RECIPE
    assert "install -d -o ray -g ray /home/ray/.ray /opt/footfall-cache" in RECIPE


def _let_in(path):
    """Say whether .dockerignore lets a path into the build: its last line that fits decides."""
    is_in = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        # An asterisk does not stand for a slash there.
        if pattern == "*" or (
            fnmatch.fnmatch(path, pattern) and path.count("/") == pattern.count("/")
        ):
            is_in = line.startswith("!")
    return is_in


def test_what_the_build_needs_is_let_in_and_nothing_else():
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    let_in = {name for name in listed.split("\0") if name and _let_in(name)}
    modules = {name for name in let_in if name.endswith(".py")}
    assert {Path(name).parts[0] for name in modules} == {"cluster", "jobs", "pipeline"}
    assert let_in - modules == {
        "LICENSE", "NOTICE", "README.md", "pyproject.toml", "requirements.lock",
    }  # fmt: skip
    for folder in ("cluster", "jobs", "pipeline"):
        on_disk = {str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob("*.py")}
        assert {name for name in on_disk if not _let_in(name)} == set()
    for source in re.findall(r"^COPY (.+) \S+$", RECIPE, re.MULTILINE):
        for name in source.split():
            assert any(each == name or each.startswith(f"{name}/") for each in let_in)

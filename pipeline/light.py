"""Keep a process light: libraries that others drag in, and that nothing here uses."""

import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec


class _Without(MetaPathFinder):
    """Lets a package look as if it were not installed."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(self, fullname: str, *_: object) -> ModuleSpec | None:
        if fullname == self.package:
            raise ModuleNotFoundError(f"{fullname} is kept out of this process", name=fullname)
        return None


def keep_out(package: str) -> None:
    """Make importing a package fail from now on in this process; one that is loaded stays.

    pyarrow imports pandas, where it is installed, for its first array: 30 MB a process.
    """
    known = any(isinstance(f, _Without) and f.package == package for f in sys.meta_path)
    if not known:
        sys.meta_path.insert(0, _Without(package))

"""Which machine a figure was measured on, and when."""

import os
import platform
from datetime import UTC, datetime
from pathlib import Path


def machine_line() -> str:
    """Return date, processor and cores, as they stand beside a figure."""
    when = datetime.now(UTC).date().isoformat()
    return f"{when}, {_processor()}, {len(os.sched_getaffinity(0))} cores"


def _processor() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "an unknown processor"
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "an unknown processor"

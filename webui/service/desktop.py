"""The desktop of the machine that Easel runs on: its file manager."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

from webui.core.errors import BadRequest

OPENERS = {"darwin": "open", "win32": "explorer"}
USUAL_OPENER = "xdg-open"


def open_folder(folder: Path) -> None:
    """Show a folder in the file manager; returns at once. Raises BadRequest where there is none."""
    command = shutil.which(OPENERS.get(sys.platform, USUAL_OPENER))
    seen = sys.platform in OPENERS or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if command is None or not seen:
        raise BadRequest(f"this machine has no file manager that could be opened; the folder is {folder.resolve()}")
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    call = threading.Thread(target=subprocess.run, args=([command, str(folder.resolve())],), kwargs=quiet, daemon=True)
    call.start()

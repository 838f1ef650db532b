"""Easel's front door: flags -> Settings -> build -> serve."""

import os
import sys

# Set before gradio or huggingface_hub can be imported, here and in every worker process: Easel asks nothing of any network.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"


def main() -> None:
    """Read the command line and serve until told to stop."""
    from webui.core.settings import parse_flags

    settings = parse_flags(sys.argv[1:])

    from webui.build import serve

    if serve(settings):
        os.execv(sys.executable, sys.orig_argv)


if __name__ == "__main__":
    main()

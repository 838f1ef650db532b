"""The benchmarks. The engine comes first: it keeps diffusers from a torchvision that may not fit the torch that is here."""

import webui.engine  # noqa: F401

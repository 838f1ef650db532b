"""The engine: models, samplers and pictures. torch and diffusers live here.

No part of Easel uses torchvision, which spandrel brings along: where it was built for another torch than the one that is here, and for
a CPU's torch on Linux it mostly was, diffusers and transformers fail on it; and where it fits, they use it and then prepare pictures a
little differently. So both are kept from finding it, and make the same pictures everywhere.
"""

import sys

sys.modules.setdefault("torchvision", None)  # type: ignore[arg-type]  # Python's own way to say: cannot be imported

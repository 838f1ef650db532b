"""The largest values that requests may have."""

MAX_SIDE = 4096  # pixels
MAX_STEPS = 1000
MAX_BATCH_SIZE = 64
MAX_BATCH_COUNT = 1000
MAX_PROMPT = 100_000  # characters
MAX_SEED = 2**63 - 1

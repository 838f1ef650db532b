"""Many rows for the gallery, made up quickly: what a person has after years."""

import json
import random

from webui.service.database import Database
from webui.service.picture_rows import NewPicture, insert_picture

WORDS = (
    "fox",
    "house",
    "castle",
    "river",
    "红色的狐狸",
    "portrait",
    "sunset",
    "forest",
    "robot",
    "ship",
    "moon",
    "garden",
    "horse",
    "café",
)
CHECKPOINTS = ("alpha", "people/beta", "gamma", "delta", "epsilon")
SAMPLERS = ("Euler a", "DPM++ 2M", "DDIM", "UniPC")
SIZES = ((512, 512), (512, 768), (768, 512), (1024, 1024))
BEGAN = 1_700_000_000.0  # unix seconds of the first picture; one every ten minutes


def add_rows(database: Database, count: int, seed: int = 0) -> None:
    """Pictures without files: "a picture of <words>, <number>", every 7th a favourite, every 10th with LoRA ink, a unicorn in 1000."""
    chance = random.Random(seed)
    for start in range(0, count, 5000):
        with database.write() as connection:
            for number in range(start, min(start + 5000, count)):
                insert_picture(connection, made_up(number, chance))
            connection.execute("UPDATE picture_facts SET favourite = 1 WHERE picture % 7 = 0 AND picture > ?", (start,))


def made_up(number: int, chance: random.Random) -> NewPicture:
    width, height = chance.choice(SIZES)
    extra = f"{' <lora:ink:0.8>' if number % 10 == 0 else ''}{' unicorn' if number % 1000 == 0 else ''}"
    prompt = f"a picture of {', '.join(chance.sample(WORDS, 4))}, highly detailed, number {number}{extra}"
    checkpoint, sampler = chance.choice(CHECKPOINTS), chance.choice(SAMPLERS)
    settings = f"Steps: 20, Sampler: {sampler}, CFG scale: 7, Seed: {number}, Size: {width}x{height}, Model: {checkpoint}"
    return NewPicture(
        path=f"2024-01-01/{number:06d}-{number}.png",
        infotext=f"{prompt}\nNegative prompt: blurry, watermark\n{settings}",
        request=json.dumps({"prompt": prompt, "seed": number, "checkpoint": checkpoint, "sampler": sampler, "filler": "x" * 1500}),
        seed=number,
        width=width,
        height=height,
        created=BEGAN + 600 * number,
        owner=("ann", "bob")[number % 2],
        sha256=f"{number:064x}",
    )

"""The words of a job's pictures: its styles put in, and what its prompts leave to chance decided by seeds."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

from webui.core.dynamic_prompt import resolve
from webui.core.errors import BadRequest
from webui.core.hires import HiresFix
from webui.core.prompt import without_comments
from webui.core.request import MAX_BATCH_COUNT, GenerationRequest
from webui.core.styles import Style, with_styles
from webui.service.phrases import Phrases

MAX_DRAWN = 5_000_000  # characters of the prompts that chance gives to the pictures of a job
Words = tuple[str, str, str, str]  # a picture's prompt, negative prompt, and those of hires fix
SEEDS = 2**32  # drawn seeds lie below


def settled_words(request: GenerationRequest, phrases: Phrases, comments: bool) -> GenerationRequest:
    """Styles put into the prompts, comments taken out, and what the prompts leave to chance decided by the request's seed."""
    styles = {style.name: style for style in phrases.styles()} if request.styles else {}
    chosen = [styles[name] for name in request.styles if name in styles]
    texts = (
        with_styles(request.prompt, [style.prompt for style in chosen]),
        with_styles(request.negative_prompt, [style.negative_prompt for style in chosen]),
    )
    clean = without_comments if comments else str
    texts = (clean(texts[0]), clean(texts[1]))
    request = replace(request, prompt=texts[0], negative_prompt=texts[1], styles=(), seed=drawn_seed(request.seed))
    if request.template or request.negative_template:
        return request  # has been decided before
    second = _second_words(request.hires, chosen)

    def decided(seed: int) -> Words:
        chance = Random(seed)
        first, negative, again, again_negative = (clean(resolve(clean(text), chance, phrases.lines)) for text in (*texts, *second))
        return first, negative, again, again_negative

    words = decided(request.seed)
    if words != (*texts, *second):
        request = _each_with_its_own(request, decided)
    return replace(
        request,
        hires=replace(request.hires, prompt=words[2], negative_prompt=words[3]) if request.hires else None,
        prompt=words[0],
        negative_prompt=words[1],
        template=texts[0] if words[0] != texts[0] else "",
        negative_template=texts[1] if words[1] != texts[1] else "",
    )


def _second_words(hires: HiresFix | None, styles: Sequence[Style]) -> tuple[str, str]:
    """Prompt and negative prompt of hires fix; styles are for them, too, where there are some."""
    if hires is None:
        return "", ""
    prompt = with_styles(hires.prompt, [style.prompt for style in styles]) if hires.prompt else ""
    negative = with_styles(hires.negative_prompt, [style.negative_prompt for style in styles]) if hires.negative_prompt else ""
    return prompt, negative


def _each_with_its_own(request: GenerationRequest, decided: Callable[[int], Words]) -> GenerationRequest:
    """With the prompts of each picture, as its own seed decides them; then one is made at a time. Raises BadRequest for too many."""
    pictures, length = request.batch_size * request.batch_count, 0
    if pictures > MAX_BATCH_COUNT:
        raise BadRequest(
            f"a prompt that leaves something to chance can be drawn for at most {MAX_BATCH_COUNT} pictures at once: ask for fewer"
        )
    each: list[Words] = []
    for number in range(pictures):
        each.append(decided(request.seed + number))
        length += sum(map(len, each[-1]))
        if length > MAX_DRAWN:
            raise BadRequest(f"the prompts of all pictures would have more than {MAX_DRAWN} characters: ask for fewer pictures at once")
    if len(set(each)) < 2:
        return request
    return replace(request, each=tuple(each), batch_size=1, batch_count=pictures)


def drawn_seed(seed: int) -> int:
    """`seed`, or for -1 one that chance gives."""
    return secrets.randbelow(SEEDS) if seed == -1 else seed

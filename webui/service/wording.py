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
NO_HIRES = HiresFix()
Words = tuple[str, str, str, str]  # a picture's prompt, negative prompt, and those of hires fix
SEEDS = 2**32  # drawn seeds lie below


def settled_words(request: GenerationRequest, phrases: Phrases, comments: bool) -> GenerationRequest:
    """Styles put into the prompts, comments taken out, and what the prompts leave to chance decided by the request's seed."""
    styles = {style.name: style for style in phrases.styles()} if request.styles else {}
    chosen = [styles[name] for name in request.styles if name in styles]
    clean = without_comments if comments else str
    prompt, negative_prompt, again, again_negative = map(clean, _styled(request, chosen))
    asked = prompt, negative_prompt, again, again_negative
    came, before = _words(request), _templates(request)
    request = replace(request, styles=(), seed=drawn_seed(request.seed))

    def decided(seed: int) -> Words:
        """What has a template already has been decided before, or is text."""
        chance = Random(seed)
        made = (text if told else clean(resolve(text, chance, phrases.lines)) for text, told in zip(asked, before, strict=True))
        first, negative, second, second_negative = made
        return first, negative, second, second_negative

    words = decided(request.seed)
    if words != asked:
        request = _each_with_its_own(request, decided)
    return _with_words(request, words, list(map(_template, before, came, asked, words)))


def before_chance(request: GenerationRequest) -> GenerationRequest:
    """The request with its templates in the place of what chance made of them; what is text stays so."""
    told = list(zip(_words(request), _templates(request), strict=True))
    asked, kept = [template or word for word, template in told], [template if template == word else "" for word, template in told]
    return _with_words(replace(request, each=()), asked, kept)


def _with_words(request: GenerationRequest, words: Sequence[str], templates: Sequence[str]) -> GenerationRequest:
    """With these prompts and templates, those of hires fix behind them, where there is any."""
    names = ("prompt", "negative_prompt", "template", "negative_template")
    first, second = (dict(zip(names, (*words[i : i + 2], *templates[i : i + 2]), strict=True)) for i in (0, 2))
    hires = replace(request.hires, **second) if request.hires else None  # type: ignore[arg-type]
    return replace(request, **first, hires=hires)  # type: ignore[arg-type]


def _words(request: GenerationRequest) -> Words:
    hires = request.hires or NO_HIRES
    return request.prompt, request.negative_prompt, hires.prompt, hires.negative_prompt


def _templates(request: GenerationRequest) -> Words:
    hires = request.hires or NO_HIRES
    return request.template, request.negative_template, hires.template, hires.negative_template


def _template(before: str, came: str, asked: str, word: str) -> str:
    """Of one prompt: the one it had, with the styles where it is the prompt itself; else what was asked for, if chance had a say."""
    if before:
        return asked if before == came else before
    return asked if word != asked else ""


def _styled(request: GenerationRequest, styles: Sequence[Style]) -> Words:
    """The request's prompts with styles; hires fix's empty ones, which are those of the first pass, stay empty."""
    first, negative, again, again_negative = _words(request)
    for_prompt, for_negative = [style.prompt for style in styles], [style.negative_prompt for style in styles]
    return (
        with_styles(first, for_prompt),
        with_styles(negative, for_negative),
        with_styles(again, for_prompt) if again else "",
        with_styles(again_negative, for_negative) if again_negative else "",
    )


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

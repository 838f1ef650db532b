"""The page: top row, tabs, and what `gr.mount_gradio_app` needs to show them (theme, CSS, script). Jobs never run inside Gradio."""

import json
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from webui.core.settings import Settings
from webui.service.service import Service
from webui.ui import (
    actions,
    extras,
    gallery,
    img2img,
    merger,
    outpaint,
    png_info,
    preferences,
    queue,
    quick_row,
    studio,
    train,
    txt2img,
    xray,
)
from webui.ui.fields import FIELDS
from webui.ui.studio import QUIET, Studio

STATIC = Path(__file__).parent / "static"
LANGUAGES = Path(__file__).parent / "languages"  # one file for each but English: its words -> theirs
SCRIPTS = (
    "easel.js",
    "drafts.js",
    "zoom.js",
    "result.js",
    "batch.js",
    "canvas_zoom.js",
    "canvas.js",
    "outpaint.js",
    "inspector.js",
    "cards.js",
    "complete.js",
    "prompt.js",
    "keys.js",
    "habits.js",
    "overrides.js",
    "styles.js",
    "touch.js",
    "language.js",
    "settings.js",
    "orders.js",
    "extras.js",
    "gallery.js",
    "gallery_parts.js",
    "gallery_picture.js",
    "queue.js",
    "xray_parts.js",
    "xray_steps.js",
    "xray_studies.js",
    "xray_compare.js",
    "xray.js",
    "train.js",
    "status.js",
)
STYLES = (
    "icons.css",
    "easel.css",
    "parts.css",
    "habits.css",
    "extras.css",
    "gallery.css",
    "queue.css",
    "settings.css",
    "xray.css",
    "train.css",
)
HEAD_STYLES = ("status.css",)  # untouched by Gradio, which keeps rules within @media from all that lies outside its own blocks
ICON = STATIC / "easel.svg"
QUEUE_PAUSE = 1.0  # seconds between Gradio's looks at its own queue, which no event of ours uses; its 0.001 slowed every step down


def build_page(service: Service, settings: Settings) -> gr.Blocks:
    with gr.Blocks(title="Easel", analytics_enabled=False, fill_width=True) as page:
        quick, refresh = _top_row(service)
        quick_row.overrides()
        gr.HTML(html_template="<nav class='tabs'></nav>", js_on_load="easel.tabsView(element.querySelector('.tabs'))", elem_id="tabs")
        studios = []
        for module in (
            txt2img,
            img2img,
            outpaint,
        ):  # own tabs: Gradio's mount a tab when it is first opened, so nothing could be sent there
            with gr.Column(elem_id=f"tab_{module.__name__.rpartition('.')[2]}", elem_classes=["tab-panel"]):
                studios.append(module.build())
        with gr.Column(elem_id="tab_extras", elem_classes=["tab-panel"]):
            upscaling = extras.build()
        with gr.Column(elem_id="tab_png_info", elem_classes=["tab-panel"]):
            png_info.build()
        with gr.Column(elem_id="tab_gallery", elem_classes=["tab-panel"]):
            gallery.build()
        with gr.Column(elem_id="tab_queue", elem_classes=["tab-panel"]):
            queue.build()
        with gr.Column(elem_id="tab_xray", elem_classes=["tab-panel"]):
            xray.build()
        with gr.Column(elem_id="tab_train", elem_classes=["tab-panel"]):
            train.build()
        with gr.Column(elem_id="tab_merger", elem_classes=["tab-panel"]):
            merging = merger.build()
        with gr.Column(elem_id="tab_settings", elem_classes=["tab-panel"]):
            preferences.build()
        view = "easel.statusLine(element.querySelector('.statusline'))"
        gr.HTML(html_template="<div class='statusline'></div>", js_on_load=view, elem_id="statusline")
        for each in studios:
            studio.wire(each, quick, service)
            _wire_sizes(each, quick, service)
        quick_row.wire(studios, quick, service)
        lists = [*merging.checkpoints, *merging.vaes, *upscaling.lists]
        refresh.click(
            lambda: _refreshed(service, quick, merging) | upscaling.choices(service),
            None,
            [quick["checkpoint"], quick["vae"], *lists],
            **QUIET,
        )
    _wire_start(page, studios, quick, merging, upscaling, service)
    page._queue.sleep_when_free = page._queue.progress_update_sleep_when_free = QUEUE_PAUSE
    return page


def mount_page(app: Any, service: Service, settings: Settings) -> None:
    """Put the page below the routes of `app`, a FastAPI."""
    gr.mount_gradio_app(app, build_page(service, settings), path="/", **mount_arguments(settings))


def mount_arguments(settings: Settings) -> dict[str, Any]:
    """Keyword arguments for `gr.mount_gradio_app` that make the page look and work as it should, without the network."""
    catalogues = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(LANGUAGES.glob("*.json"))}
    told = json.dumps(catalogues, ensure_ascii=False).replace("</", "<\\/")
    script = "\n".join([*((STATIC / name).read_text("utf-8") for name in SCRIPTS), f"easel.language.catalogues = {told};"])
    style = "\n".join((STATIC / name).read_text("utf-8") for name in HEAD_STYLES)
    theme = json.dumps(settings.theme or "")
    viewport = "<meta name='viewport' content='width=device-width, initial-scale=1'>"
    return {
        "theme": _theme(),
        "css": "\n".join((STATIC / name).read_text("utf-8") for name in STYLES),
        "head": f"{viewport}<style>{style}</style><script>{script}\neasel.start({theme});</script>",
        "favicon_path": str(ICON),
        "footer_links": [],
        "run_history": False,
        "ssr_mode": False,
        "pwa": False,
        "show_error": True,
    }


def _theme() -> gr.themes.Base:
    fonts = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "Noto Sans CJK SC", "sans-serif"]
    mono = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace"]
    clay = gr.themes.Color(
        c50="#fdf4f0", c100="#fae5dc", c200="#f4c9b8", c300="#eba68b", c400="#e07f5c", c500="#d05f38", c600="#b94a25",
        c700="#983a1c", c800="#7a301a", c900="#632918", c950="#36130a",
    )  # fmt: skip
    base = gr.themes.Base(
        primary_hue=clay,
        secondary_hue=clay,
        neutral_hue=gr.themes.colors.stone,
        font=fonts,
        font_mono=mono,
        radius_size="md",
        spacing_size="sm",
    )
    return base.set(
        body_background_fill="#f5f2ee",
        body_background_fill_dark="#181614",
        block_background_fill="#ffffff",
        block_background_fill_dark="#211e1c",
        block_border_width="0px",
        block_label_background_fill="transparent",
        block_title_text_weight="500",
        block_title_text_size="13px",
        block_shadow="none",
        input_background_fill="#faf8f6",
        input_background_fill_dark="#191715",
        input_border_color="#ddd6cf",
        input_border_color_dark="#3a3532",
        input_border_color_focus="*primary_500",
        border_color_primary="#e6e0da",
        border_color_primary_dark="#35302d",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_500",
        button_primary_text_color="#ffffff",
        button_secondary_background_fill="#efeae5",
        button_secondary_background_fill_hover="#e4ddd6",
        button_secondary_background_fill_dark="#302b28",
        button_secondary_background_fill_hover_dark="#3c3632",
        button_secondary_border_color="transparent",
        button_secondary_border_color_dark="transparent",
        slider_color="*primary_500",
    )


def _refreshed(service: Service, quick: dict[str, Component], merging: merger.Merger) -> dict[Component, Any]:
    """Every list of checkpoints and VAEs, after a look into the folders."""
    service.refresh_models()
    checkpoints, vaes = actions.checkpoint_choices(service), actions.vae_choices(service)
    return {quick["checkpoint"]: gr.Dropdown(choices=checkpoints), quick["vae"]: gr.Dropdown(choices=vaes), **merging.choices(service)}


def _top_row(service: Service) -> tuple[dict[str, Component], gr.Button]:
    """The widgets that all tabs share, and the button that looks for new files."""
    mark = ICON.read_text("utf-8")
    with gr.Row(elem_id="quicksettings"):
        gr.HTML(f"<div class='brand'>{mark}<span>Easel</span></div>", elem_id="brand")
        checkpoints = actions.checkpoint_choices(service)
        first = actions.first_checkpoint(service)
        quick = {"checkpoint": FIELDS["checkpoint"].make("setting", choices=checkpoints, value=first, scale=4, min_width=220)}
        refresh = gr.Button("Look for new model files", elem_id="refresh_checkpoints", elem_classes=["icon", "refresh"])
        quick["vae"] = FIELDS["vae"].make("setting", choices=actions.vae_choices(service), scale=2, min_width=140)
        quick["clip_skip"] = FIELDS["clip_skip"].make("setting", scale=2, min_width=150)
        gr.HTML(
            html_template="<div class='corner'></div>", js_on_load="easel.cornerView(element.querySelector('.corner'))", elem_id="corner"
        )

    gr.on(
        [widget.change for widget in quick.values()],
        None,
        list(quick.values()),
        None,
        js=f"(...values) => easel.keep('quick', {json.dumps(list(quick))}, values)",
        **QUIET,
    )
    return quick, refresh


def _wire_sizes(each: Studio, quick: dict[str, Component], service: Service) -> None:
    """Sizes follow the checkpoint until the user chooses their own; a new picture on the canvas brings its shape along."""
    if "width" not in each.widgets:
        return
    sizes = [each.widgets["width"], each.widgets["height"]]

    def on_checkpoint(checkpoint: str, width: Any, height: Any) -> tuple[int, int]:
        return actions.sizes_after(service, checkpoint, width, height)

    def on_image(event: gr.EventData, checkpoint: str) -> tuple[int, int]:
        return actions.sizes_like(service, checkpoint, int(event._data["width"]), int(event._data["height"]))

    quick["checkpoint"].input(on_checkpoint, [quick["checkpoint"], *sizes], sizes, **QUIET)
    assert each.bridge is not None
    each.bridge.image(on_image, [quick["checkpoint"]], sizes, **QUIET)


def _wire_start(
    page: gr.Blocks,
    studios: list[Studio],
    quick: dict[str, Component],
    merging: merger.Merger,
    upscaling: extras.Extras,
    service: Service,
) -> None:
    """On every visit: today's models, the browser's drafts, the checkpoint's native size.

    An output costs the server a millisecond even where nothing is said of it. So the first answer is about lists and about what a first
    visit shows otherwise than the page was built; all else, which drafts or changed settings bring, the page asks for where there is any.
    """
    groups = {"quick": quick} | {each.name: each.widgets for each in studios}
    groups |= {each.scripts.group: each.scripts.widgets for each in studios if each.scripts}
    first = studios[0].bridge
    assert first is not None

    def start(drafts: Any) -> dict[Component, Any]:
        start = actions.start_values(service, drafts)
        filled = {groups[tab][name]: value for tab, values in start.items() if tab in groups for name, value in values.items()}
        return filled | merging.start(service, drafts) | upscaling.start(service, drafts)

    # not within the page: what is told of a list is a Dropdown, too, and would be drawn
    usual = [widget for widget, value in start({}).items() if isinstance(value, gr.Dropdown) or _is_news(widget, value)]

    def on_load(drafts: Any) -> dict[Component, Any]:
        news = _news(start(drafts))
        told = {widget: news[widget] for widget in usual if widget in news}
        return told | {first: {"started": len(told) == len(news)}}

    def on_rest(event: gr.EventData) -> dict[Component, Any]:
        return _news(start(event._data)) | {first: {"started": True}}

    outputs = [widget for widgets in groups.values() for widget in widgets.values()]
    outputs += [*(widget for fields in merging.forms.values() for widget in fields.values()), *upscaling.widgets.values(), first]
    with page:
        page.load(on_load, [first], [*usual, first], js="() => [easel.drafts()]", show_progress_on=first, **QUIET)
        first.rest(on_rest, None, outputs, show_progress_on=first, **QUIET)


def _news(told: dict[Component, Any]) -> dict[Component, Any]:
    """What is not yet so on the page as it was built: each value told costs the browser a millisecond."""
    return {widget: value for widget, value in told.items() if _is_news(widget, value)}


def _is_news(widget: Component, told: Any) -> bool:
    """Whether a value, or a list and its value, is another than the page was built with."""
    if isinstance(widget, gr.Dropdown) and isinstance(told, gr.Dropdown):
        return bool(told.choices != widget.choices or told.constructor_args.get("value", widget.value) != widget.value)
    return bool(told != widget.value)

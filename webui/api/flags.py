"""The flags that Easel was started with, as clients may see them: without passwords."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from webui.core.settings import Settings

SECRET = ("gradio_auth", "api_auth", "guest_auth")
FOLDERS = {"ckpt": "checkpoint", "vae": "vae", "lora": "lora", "embeddings": "embeddings", "hypernetwork": "hypernetwork"}


def told_flags(settings: Settings) -> dict[str, Any]:
    """By name; passwords are told as "***" where there are any."""
    flags = {field.name: _plain(getattr(settings, field.name)) for field in fields(settings) if field.name not in SECRET}
    singular = {f"{kind}_dir": flags[f"{name}_dirs"][-1] for kind, name in FOLDERS.items()}
    return {**flags, **singular, "ckpt": settings.checkpoint, **{name: "***" if getattr(settings, name) else None for name in SECRET}}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value

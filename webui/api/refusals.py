"""Answers of the guard: refusals in the API's error shape, and the login page."""

import html
import json

from starlette.responses import HTMLResponse, Response

LOGIN_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Easel: log in</title>
<style>:root{color-scheme:light dark;font:16px system-ui,sans-serif}body{display:grid;place-content:center;min-height:90vh}
form{display:grid;gap:.8rem;width:18rem}input,button{font:inherit;padding:.5rem}label{display:grid;gap:.2rem}[role=alert]{color:#c22}</style>
<form method="post" action="{action}"><h1>Easel</h1>{message}<input type="hidden" name="next" value="{next}">
<label>User<input name="username" autocomplete="username" autofocus required></label>
<label>Password<input name="password" type="password" autocomplete="current-password" required></label>
<button>Log in</button></form></html>"""


def refuse(status: int, sentence: str, headers: dict[str, str] | None = None) -> Response:
    """A refusal; ASCII, since the sentence may quote what was sent."""
    text = json.dumps({"error": "Refused", "detail": sentence, "body": "", "errors": sentence})
    return Response(text, status, headers, media_type="application/json")


def too_many_passwords(seconds: int) -> Response:
    return refuse(429, f"too many wrong passwords; try again in {seconds} seconds", {"Retry-After": str(seconds)})


def too_many_requests() -> Response:
    return refuse(429, "too many requests; ask less often, or have --rate-limit raised", {"Retry-After": "1"})


def login_page(action: str, target: str, message: str = "", status: int = 401) -> Response:
    """The form that asks for user and password. action: where it is sent; target: where the visitor wanted to."""
    note = f'<p role="alert">{html.escape(message)}</p>' if message else ""
    page = LOGIN_PAGE.replace("{action}", html.escape(action)).replace("{message}", note)
    headers = {"Cache-Control": "no-store", "X-Frame-Options": "DENY", "Content-Security-Policy": "frame-ancestors 'none'"}
    return HTMLResponse(page.replace("{next}", html.escape(target)), status, headers)

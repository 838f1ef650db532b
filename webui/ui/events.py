"""How all of the page's events are: short, unseen, without a public endpoint."""

QUIET = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}

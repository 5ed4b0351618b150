"""A replay as one file of HTML: script, style and data inside it, nothing asked of any network.

The policy in its head lets the browser run and apply exactly what this module put there, by its SHA-256, and
connect to nothing. Names come in as data and are set as text, so none of them can be markup.
"""

import base64
import hashlib
import html
import json
from importlib.resources import files

from sims.report.document import document
from sims.report.replay import LARGEST, Replay

SCRIPTS = ("replay", "state", "marks", "stage", "pointer", "charts", "panel", "transport", "main")
_UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def page(replay: Replay) -> str:
    """The page.

    Raises:
        ValueError: it would be larger than LARGEST bytes.
    """
    theme, script = _part("theme.js"), "\n".join(_part(f"{name}.js") for name in SCRIPTS)
    style, data = _part("style.css"), as_data(document(replay))
    if len(data) > LARGEST:
        raise ValueError(
            f"the page would have {len(data) / 1e6:.0f} MB, accepted are {LARGEST / 1e6:.0f}. Compare fewer "
            "trackers, or a smaller scenario or recording."
        )
    policy = (
        f"default-src 'none'; script-src {_hash(theme)} {_hash(script)}; style-src {_hash(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    filled = {
        "TITLE": html.escape(f"{replay.title}: {', '.join(replay.tracks)}"),
        "POLICY": policy,
        "THEME": theme,
        "SCRIPT": script,
        "STYLE": style,
        "DATA": data,
    }
    pieces = _part("page.html").split("%%")
    return "".join(filled[piece] if i % 2 else piece for i, piece in enumerate(pieces))


def as_data(value) -> str:
    """JSON that is safe inside a `<script>` element, whatever its strings hold."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    return "".join(_UNSAFE.get(letter, letter) for letter in text) if _UNSAFE.keys() & set(text) else text


def _part(name):
    return files("sims.report").joinpath("page", name).read_text(encoding="utf-8")


def _hash(text):
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"

"""The templates of pages."""

from pathlib import Path

import jinja2


def page_template(name: str) -> jinja2.Template:
    """A template from this folder."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template(name)

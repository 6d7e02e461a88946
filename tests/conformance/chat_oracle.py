"""Python's jinja2, set up as transformers does for chat templates: what `penstock render` has to agree with."""

import functools
import json
from datetime import datetime

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox

NOW = "2026-01-31T12:34:56"


class Generation(jinja2.ext.Extension):
    """{% generation %} ... {% endgeneration %}: marks what the model wrote; its text is its body's."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def environment() -> jinja2.Environment:
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    out = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    out.filters["tojson"] = tojson
    out.globals["raise_exception"] = raise_exception
    out.globals["strftime_now"] = lambda format: datetime.fromisoformat(NOW).strftime(format)
    return out


ENVIRONMENT = environment()


@functools.lru_cache(maxsize=8)
def compiled(source: str) -> jinja2.Template:
    return ENVIRONMENT.from_string(source)


def render(request: dict) -> tuple[str | None, str]:
    """The text of a line of `penstock render --batch`, or None and Python's error."""
    variables = {**request.get("special_tokens", {}), **request.get("chat_template_kwargs", {})}
    try:
        return compiled(request["template"]).render(
            messages=request["messages"], tools=request.get("tools"), documents=request.get("documents"),
            add_generation_prompt=request.get("add_generation_prompt", False), **variables), ""
    except Exception as error:  # noqa: BLE001  any error of Python is to be an error of ours
        return None, f"{type(error).__name__}: {error}"

"""Requests whose answers by real vLLM are recorded in vllm.json, and what is compared of an answer: its shape.

The shape of JSON keeps names and types and drops values. A stream's shape is the list of its events in order, equal
neighbours once.
"""

import json
from dataclasses import dataclass


@dataclass
class Case:
    name: str
    method: str
    path: str
    body: dict | None = None


CHAT = [{"role": "user", "content": "The router picks an engine."}]


def cases(model: str) -> list[Case]:
    chat, text = "/v1/chat/completions", "/v1/completions"
    short = {"model": model, "max_tokens": 4, "ignore_eos": True}
    usage = {"stream": True, "stream_options": {"include_usage": True}}
    return [
        Case("models", "GET", "/v1/models"),
        Case("version", "GET", "/version"),
        Case("chat", "POST", chat, {**short, "messages": CHAT}),
        Case("chat two choices", "POST", chat, {**short, "messages": CHAT, "n": 2}),
        Case("chat stream", "POST", chat, {**short, "messages": CHAT, "stream": True}),
        Case("chat stream usage", "POST", chat, {**short, "messages": CHAT, **usage}),
        Case("text", "POST", text, {**short, "prompt": "The second turn"}),
        Case("text of tokens", "POST", text, {**short, "prompt": [5, 6, 7]}),
        Case("text stream usage", "POST", text, {**short, "prompt": "The second turn", **usage}),
        Case("messages", "POST", "/v1/messages", {"model": model, "max_tokens": 4, "messages": CHAT}),
        Case("messages stream", "POST", "/v1/messages",
             {"model": model, "max_tokens": 4, "messages": CHAT, "stream": True}),
        Case("responses", "POST", "/v1/responses", {"model": model, "max_output_tokens": 4, "input": "First words"}),
        Case("tokenize", "POST", "/tokenize", {"model": model, "prompt": "The second turn"}),
        Case("tokenize chat", "POST", "/tokenize", {"model": model, "messages": CHAT}),
        Case("unknown model", "POST", chat, {"model": "none", "messages": CHAT}),
        Case("messages missing", "POST", chat, {"model": model}),
        Case("messages of wrong type", "POST", chat, {"model": model, "messages": 7}),
        Case("negative limit", "POST", chat, {"model": model, "messages": CHAT, "max_tokens": -1}),
        Case("limit above the model's", "POST", chat, {"model": model, "messages": CHAT, "max_tokens": 10_000_000}),
        Case("anthropic unknown model", "POST", "/v1/messages",
             {"model": "none", "max_tokens": 4, "messages": CHAT}),
        Case("unknown route", "GET", "/v1/none"),
        Case("wrong method", "GET", "/v1/chat/completions"),
    ]


def shape(value):
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    return "null" if value is None else "string"


def shape_of_stream(body: bytes) -> list:
    events = []
    for block in body.decode().split("\n\n"):
        name, data = "", ""
        for line in block.split("\n"):
            field, _, text = line.partition(":")
            if field == "event":
                name = text.strip()
            elif field == "data":
                data = text.strip()
        if not data:
            continue
        event = [name, "[DONE]" if data == "[DONE]" else shape(json.loads(data))]
        if not events or events[-1] != event:
            events.append(event)
    return events


def record(response) -> dict:
    """What is kept of a Response of harness.raw."""
    kind = response.headers.get("content-type", "").partition(";")[0]
    out = {"status": response.status, "type": kind}
    if kind == "text/event-stream":
        out["events"] = shape_of_stream(response.body)
    elif kind == "application/json":
        out["json"] = shape(response.json())
    return out


def record_metrics(metrics) -> dict:
    """Names of the vllm: families with their types and label names."""
    out = {}
    for name, kind in sorted(metrics.types.items()):
        if not name.startswith("vllm:"):
            continue
        samples = {"counter": ["", "_total"], "histogram": ["_count"]}.get(kind, [""])
        labels = [sorted(has) for suffix in samples for has in metrics.labels(name + suffix)]
        out[name.removesuffix("_total")] = {"type": kind, "labels": labels[0] if labels else []}
    return out

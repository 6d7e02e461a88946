"""Records what vLLM makes of Anthropic messages: what a template sees of the chat, its tools, the reasoning effort.

  $(tools/peers/vllm install) tests/conformance/record_anthropic.py > tests/conformance/anthropic.json
"""

import json
import logging
import sys
from types import SimpleNamespace

PNG = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"name": "get_weather", "description": "Tells the weather", "input_schema": SCHEMA}
HI = [{"role": "user", "content": "Hi"}]
USE = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Città", "n": 1.0, "deep": [1, None]}}


def user(*blocks):
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks):
    return {"role": "assistant", "content": list(blocks)}


def text(words, **more):
    return {"type": "text", "text": words, **more}


def result(content, **more):
    return {"type": "tool_result", "tool_use_id": "toolu_1", "content": content, **more}


REQUESTS = {
    "plain": {"messages": HI},
    "system": {"system": "Be brief.", "messages": HI},
    "system empty": {"system": "", "messages": HI},
    "system in blocks": {"system": [text("Be ", cache_control={"type": "ephemeral"}), text("brief."), text("")],
                         "messages": HI},
    "system with billing header": {"system": [text("x-anthropic-billing-header: cch=1"), text("Be brief.")],
                                   "messages": HI},
    "system is a billing header": {"system": [text("x-anthropic-billing-header: cch=1\nmore")], "messages": HI},
    "system text with billing header": {"system": "x-anthropic-billing-header: cch=1\nBe brief.", "messages": HI},
    "system inside": {"system": "A", "messages": HI + [{"role": "system", "content": "B"}] + HI},
    "system inside in blocks": {"messages": HI + [{"role": "system", "content": [
        text("x-anthropic-billing-header: 2"), text("B"), text("C")]}] + HI},
    "system inside empty": {"messages": HI + [{"role": "system", "content": [text("x-anthropic-billing-header: 2")]},
                                              {"role": "system", "content": ""},
                                              {"role": "system", "content": "x-anthropic-billing-header: 3"}] + HI},
    "one block": {"messages": [user(text("one"))]},
    "two blocks": {"messages": [user(text("one", cache_control={"type": "ephemeral"}), text("two"))]},
    "empty block": {"messages": [user(text("")), user(text(""), text("x"))]},
    "no blocks": {"messages": [user(), assistant()]},
    "empty text": {"messages": [{"role": "user", "content": ""}]},
    "thinking": {"messages": HI + [assistant({"type": "thinking", "thinking": "hm", "signature": "s"},
                                             {"type": "thinking", "thinking": "so"}, text("ok"))]},
    "thinking alone": {"messages": HI + [assistant({"type": "thinking", "thinking": "hm", "signature": "s"})]},
    "thinking empty": {"messages": HI + [assistant({"type": "thinking", "thinking": ""}, text("ok"))]},
    "redacted thinking": {"messages": HI + [assistant({"type": "redacted_thinking", "data": "abc"}, text("ok"))]},
    "redacted thinking alone": {"messages": HI + [assistant({"type": "redacted_thinking", "data": "abc"})]},
    "tool use": {"tools": [WEATHER], "messages": HI + [assistant(text("I look."), USE), user(result("18 degrees"))]},
    "tool use alone": {"tools": [WEATHER], "messages": HI + [assistant(USE, {**USE, "id": "toolu_2", "input": {}})]},
    "tool use without input": {"messages": HI + [assistant({"type": "tool_use", "id": "t", "name": "f"})]},
    "tool use without name": {"messages": HI + [assistant({"type": "tool_use", "id": "t", "input": {"a": "\u00e8<b>"}})]},
    "tool result in blocks": {"messages": [user(result([text("18"), text("degrees")]), text("And?"))]},
    "tool result empty": {"messages": [user(result([])), user(result("")), user(result(None))]},
    "tool result without id": {"messages": [user({"type": "tool_result", "content": "x"})]},
    "tool result with reference": {"messages": [user(result([{"type": "tool_reference", "tool_name": "f"},
                                                             {"type": "tool_reference", "name": "g"},
                                                             {"type": "tool_reference"}, text("x")]))]},
    "tool result with other blocks": {"messages": [user(result([{"type": "smell"}, {"text": "x"}, text("y"),
                                                                {"type": "text"}]))]},
    "tool result of an assistant": {"messages": HI + [assistant(result("18"), result(None), result(""))]},
    "tool reference": {"messages": [user({"type": "tool_reference", "tool_name": "f"}, text("x"))]},
    "image": {"messages": [user({"type": "image", "source": PNG}, text("What is it?"))]},
    "image without source": {"messages": [user({"type": "image"}, text("What is it?"))]},
    "image of a tool": {"messages": [user(result([{"type": "image", "source": PNG}, text("x")]))]},
    "tools": {"tools": [WEATHER, {"name": "g", "input_schema": {"properties": {}}, "strict": True},
                        {"name": "h", "description": "", "input_schema": {"type": "object"}, "defer_loading": True,
                         "cache_control": {"type": "ephemeral"}}], "messages": HI},
    "no tools": {"tools": [], "messages": HI},
    "tool choice": {"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "get_weather"}, "messages": HI},
    "tools changed": {"tools": [WEATHER, {"name": "g", "input_schema": SCHEMA, "defer_loading": True},
                                {"name": "h", "input_schema": SCHEMA}],
                      "messages": HI + [{"role": "system", "content": [
                          {"type": "tool_addition", "tool": {"type": "tool_reference", "name": "g"}},
                          {"type": "tool_removal", "tool": {"type": "tool_reference", "name": "h"}},
                          {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": {
                              "name": "new", "input_schema": {}}}}]}] + HI},
    "tools removed and added": {"tools": [WEATHER], "messages": HI + [{"role": "system", "content": [
        {"type": "tool_removal", "tool": {"type": "tool_reference", "name": "get_weather"}}]}] + HI + [
        {"role": "system", "content": [text("B"), {"type": "tool_addition", "tool": {
            "type": "tool_reference", "name": "get_weather"}}]}] + HI},
    "all tools removed": {"tools": [WEATHER], "messages": HI + [{"role": "system", "content": [
        {"type": "tool_removal", "tool": {"type": "tool_reference", "name": "get_weather"}}]}] + HI},
    "thinking disabled": {"thinking": {"type": "disabled"}, "messages": HI},
    "thinking enabled": {"thinking": {"type": "enabled", "budget_tokens": 1024}, "messages": HI},
    "thinking adaptive": {"thinking": {"type": "adaptive"}, "messages": HI},
    "effort": {"output_config": {"effort": "high"}, "messages": HI},
    "effort of null": {"output_config": {"effort": None}, "messages": HI},
    "effort and thinking disabled": {"output_config": {"effort": "high"}, "thinking": {"type": "disabled"},
                                     "messages": HI},
    # What is refused.
    "system of a number": {"system": 5, "messages": HI},
    "system in an object": {"system": {"type": "text", "text": "x"}, "messages": HI},
    "role of a tool": {"messages": [{"role": "tool", "content": "x"}]},
    "no role": {"messages": [{"content": "x"}]},
    "no content": {"messages": [{"role": "user"}]},
    "content of null": {"messages": [{"role": "user", "content": None}]},
    "unknown block": {"messages": [user({"type": "smell"})]},
    "block without type": {"messages": [user({"text": "x"})]},
    "text of a number": {"messages": [user({"type": "text", "text": 5})]},
    "text of null": {"messages": [user({"type": "text", "text": None})]},
    "input of a text": {"messages": [assistant({"type": "tool_use", "id": "t", "name": "f", "input": "{}"})]},
    "result of a number": {"messages": [user(result(5))]},
    "result of texts": {"messages": [user(result(["x"]))]},
    "tool without schema": {"tools": [{"name": "f"}], "messages": HI},
    "tool without name": {"tools": [{"input_schema": {}}], "messages": HI},
    "tool change of a user": {"messages": [user({"type": "tool_removal", "tool": {
        "type": "tool_reference", "name": "f"}})]},
    "unknown tool changed": {"messages": HI + [{"role": "system", "content": [
        {"type": "tool_removal", "tool": {"type": "tool_reference", "name": "f"}}]}]},
    "removal by value": {"messages": HI + [{"role": "system", "content": [{"type": "tool_removal", "tool": {
        "type": "tool_definition", "definition": WEATHER}}]}]},
    "change without tool": {"messages": HI + [{"role": "system", "content": [{"type": "tool_addition"}]}]},
    "unknown thinking": {"thinking": {"type": "deep"}, "messages": HI},
    "unknown effort": {"output_config": {"effort": "none"}, "messages": HI},
}


def main() -> None:
    logging.disable(logging.CRITICAL)
    from vllm.entrypoints.anthropic.protocol import AnthropicMessagesRequest
    from vllm.entrypoints.anthropic.serving import AnthropicServingMessages
    from vllm.renderers import chat_utils

    model = SimpleNamespace(multimodal_config=None, enable_prompt_embeds=False, allowed_media_domains=None)

    def chat(given, merge, effort):
        request = AnthropicMessagesRequest.model_validate(
            json.loads(json.dumps({"model": "m", "max_tokens": 4096, **given})))
        made = AnthropicServingMessages.to_chat_completion_request(
            request, merge_inline_system=merge, disabled_thinking_effort=effort)
        tools = None if made.tools is None else [tool.model_dump() for tool in made.tools]
        if "image_url" in json.dumps(made.model_dump(mode="json")["messages"]):
            return "media"
        messages = chat_utils.parse_chat_messages(made.messages, model, "string")[0]
        return {"messages": messages, "tools": tools, "reasoning_effort": made.reasoning_effort}

    out = {}
    for name, given in REQUESTS.items():
        out[name] = {"given": given}
        for variant, merge, effort in (("as it is", False, "none"), ("merged", True, "low")):
            try:
                out[name][variant] = chat(given, merge, effort)
            except ValueError:  # pydantic's errors are of that kind
                out[name][variant] = "refused"
    json.dump(out, sys.stdout, indent=1, ensure_ascii=False)
    print()


if __name__ == "__main__":
    main()

"""Records what vLLM makes of the messages and tools of chat requests before a template sees them.

  $(tools/peers/vllm install) tests/conformance/record_chat_messages.py > tests/conformance/chat_messages.json
"""

import json
import logging
import sys
from types import SimpleNamespace

CALL = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": "{\"city\": \"Paris\"}"}}


def calls(arguments, **more):
    return [{"role": "assistant", "content": None,
             "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}, **more}]}]


MESSAGES = {
    "plain": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
    "parts": [{"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]}],
    "one part": [{"role": "user", "content": [{"type": "text", "text": "one"}]}],
    "parts with more fields": [{"role": "user", "content": [
        {"type": "text", "text": "one", "cache_control": {"type": "ephemeral"}}]}],
    "empty parts": [{"role": "user", "content": []}],
    "empty text": [{"role": "user", "content": ""}],
    "no content": [{"role": "assistant", "content": None}],
    "content missing": [{"role": "assistant", "tool_calls": [CALL]}],
    "refusal part": [{"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}],
    "name": [{"role": "user", "content": "Hi", "name": "ann"}],
    "unknown field": [{"role": "user", "content": "Hi", "mood": "good"}],
    "reasoning": [{"role": "assistant", "content": "4", "reasoning": "2 and 2"}],
    "reasoning_content": [{"role": "assistant", "content": "4", "reasoning_content": "2 and 2"}],
    "reasoning of a user": [{"role": "user", "content": "4", "reasoning": "2 and 2"}],
    "tool calls": [{"role": "assistant", "content": "", "tool_calls": [CALL, CALL]}],
    "tool calls in another order": [{"tool_calls": [
        {"function": {"arguments": "{\"b\": 1, \"a\": [1.0, null]}", "name": "f"}, "type": "function", "id": "x"}],
        "content": "text", "role": "assistant"}],
    "no tool calls": [{"role": "assistant", "content": "x", "tool_calls": []}],
    "tool calls of None": [{"role": "assistant", "content": "x", "tool_calls": None}],
    "arguments empty": calls(""),
    "arguments a list": calls("[1]"),
    "arguments a number": calls("42"),
    "arguments broken": calls("{\"a\": "),
    "arguments null": calls("null"),
    "arguments with unicode": calls("{\"città\": \"\\u00e8 <b>\"}"),
    "call with index": calls("{}", index=0),
    "tool result": [{"role": "tool", "tool_call_id": "call_1", "content": "18 degrees"}],
    "tool result in parts": [{"role": "tool", "tool_call_id": "call_1", "content": [
        {"type": "text", "text": "18"}, {"type": "text", "text": "degrees"}]}],
    "tool result empty": [{"role": "tool", "tool_call_id": "call_1", "content": []}],
    "tool result with name": [{"role": "tool", "tool_call_id": "c", "name": "f", "content": "x"}],
    "developer": [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
    "billing header": [{"role": "system", "content": [
        {"type": "text", "text": "x-anthropic-billing-header: cch=1"}, {"type": "text", "text": "Be brief."}]}],
    "billing header and more": [{"role": "system", "content": "x-anthropic-billing-header: cch=1\nBe brief."}],
    "billing header of a user": [{"role": "user", "content": "x-anthropic-billing-header: cch=1"}],
    "thinking part": [{"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"},
                                                        {"type": "text", "text": "ok"}]}],
}

TOOLS = {
    "full": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {
        "type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"]}}}],
    "bare": [{"type": "function", "function": {"name": "f"}}],
    "other order": [{"function": {"parameters": {"b": 1, "a": 2}, "strict": True, "description": "d", "name": "f"},
                     "type": "function"}],
    "no type": [{"function": {"name": "f"}}],
    "more fields": [{"type": "function", "function": {"name": "f", "returns": "x"}, "note": 1}],
    "strict of None": [{"type": "function", "function": {"name": "f", "strict": None}}],
    "deferred": [{"type": "function", "defer_loading": True, "function": {"name": "f"}}],
}


def main() -> None:
    logging.disable(logging.CRITICAL)
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.renderers import chat_utils, hf

    model = SimpleNamespace(multimodal_config=None, enable_prompt_embeds=False, allowed_media_domains=None)

    def prepared(messages, content_format):
        request = ChatCompletionRequest.model_validate(json.loads(json.dumps({"model": "m", "messages": messages})))
        try:
            return chat_utils.parse_chat_messages(request.messages, model, content_format)[0]
        except ValueError as error:
            return {"error": str(error)}

    out = {"messages": {}, "tools": {}, "without developer": {}}
    for name, messages in MESSAGES.items():
        out["messages"][name] = {"given": messages, "string": prepared(messages, "string"),
                                 "openai": prepared(messages, "openai")}
    for name, messages in {
        "one": MESSAGES["developer"],
        "two": [{"role": "system", "content": "A"}, {"role": "developer", "content": "B", "tools": []},
                {"role": "user", "content": "C"}],
        "late": [{"role": "user", "content": "C"}, {"role": "developer", "content": "B"}],
        "empty": [{"role": "developer", "content": ""}, {"role": "user", "content": "C"},
                  {"role": "developer", "content": "D"}],
    }.items():
        conversation = prepared(messages, "string")
        conversation = hf._consolidate_system_messages(hf._convert_developer_to_system(conversation))
        out["without developer"][name] = {"given": messages, "string": conversation}
    for name, tools in TOOLS.items():
        request = ChatCompletionRequest.model_validate({"model": "m", "messages": [], "tools": tools})
        out["tools"][name] = {"given": tools, "prepared": [tool.model_dump() for tool in request.tools]}
    json.dump(out, sys.stdout, indent=1, ensure_ascii=False)
    print()


if __name__ == "__main__":
    main()

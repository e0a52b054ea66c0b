"""What model servers are known to do, one behaviour a line, and what is expected of a run.

Wordings are those that the servers' public sources and issue trackers have.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from crb_dspy.data.schema import load_schema
from tests.fake_server import Body, Raw, Reply, asked_keys, completion

# The report about which a server misbehaves, where it does not so about all.
SPECIAL = "SPECIAL"
TITLES = {category.key: category.title for category in load_schema("casereportbench").categories}
QUOTE = "no fever"


@dataclass(frozen=True)
class Behaviour:
    """What a server does, for one report or for `all`, and what becomes of that report's cells.

    `found`: the quotes of each cell, None for an error. `said` stands in the cell's error, or in
    what was mended, or (with `learnt`) in the summary.
    """

    name: str
    reply: Callable[[Body], Reply]
    found: tuple[str, ...] | None = (QUOTE,)
    said: str = ""
    all: bool = False
    learnt: str = ""


def good(body: Body) -> str:
    """Answer as asked: one quote in each category."""
    if "Task:" not in text_of(body):
        return '{"answer": ["yes"]}'
    return json.dumps({key: [QUOTE] for key in asked_keys(body)})


def text_of(body: Body) -> str:
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def serving_as(behaviour: Behaviour) -> Callable[[Body], Reply]:
    """Return a server that behaves so, and answers all else."""

    def reply(body: Body) -> Reply:
        meant = behaviour.all or SPECIAL in text_of(body)
        return behaviour.reply(body) if meant else good(body)

    return reply


def refusing(status: int, payload: Any) -> Callable[[Body], Reply]:
    return lambda body: Raw(payload, status)


def saying(form: str) -> Callable[[Body], Reply]:
    """Answer in a form: `KEY` is the category asked for, `GOOD` the right answer."""

    def reply(body: Body) -> Reply:
        if "Task:" not in text_of(body):
            return good(body)
        return form.replace("KEY", asked_keys(body)[0]).replace("GOOD", good(body))

    return reply


def packed(pack: Callable[[str, str], str]) -> Callable[[Body], Reply]:
    """Answer with what is made of the category asked for and the right answer."""

    def reply(body: Body) -> Reply:
        return pack(asked_keys(body)[0], good(body)) if "Task:" in text_of(body) else good(body)

    return reply


def message(finish: str | None = "stop", **fields: Any) -> Callable[[Body], Reply]:
    """Answer with these fields of the message in place of its content."""

    def reply(body: Body) -> Reply:
        if "Task:" not in text_of(body):
            return good(body)
        filled = _filled(fields, body)
        return Raw(_with(body, {"role": "assistant", **filled}, finish))

    return reply


def _filled(value: Any, body: Body) -> Any:
    if isinstance(value, str):
        return value.replace("GOOD", good(body)).replace("KEY", asked_keys(body)[0])
    if isinstance(value, dict):
        return {name: _filled(its, body) for name, its in value.items()}
    return [_filled(its, body) for its in value] if isinstance(value, list) else value


def _with(body: Body, message: Body, finish: str | None = "stop") -> Body:
    payload = completion(body, good(body))
    payload["choices"][0] |= {"message": message, "finish_reason": finish}
    return payload


def without_if(holds: Callable[[Body], bool], status: int, payload: Any) -> Callable[[Body], Reply]:
    """Refuse what holds something, and answer the rest."""
    return lambda body: Raw(payload, status) if holds(body) else good(body)


def changed(**fields: Any) -> Callable[[Body], Reply]:
    """Answer as asked, but for fields of the whole reply; None leaves one out."""

    def reply(body: Body) -> Reply:
        payload = completion(body, good(body)) | fields
        return Raw({name: value for name, value in payload.items() if value is not None})

    return reply


def has_system(body: Body) -> bool:
    return bool(body["messages"][0]["role"] == "system")


def streamed(body: Body) -> Reply:
    answer, half = good(body), len(good(body)) // 2
    if body.get("stream") is False:
        return answer
    chunks = [
        {"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]}
        for piece in (answer[:half], answer[half:])
    ]
    lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    return Raw("".join([*lines, "data: [DONE]\n\n"]).encode(), 200)


def always_streamed(body: Body) -> Reply:
    return streamed({**body, "stream": None})


def openai(text: str, **more: Any) -> Body:
    return {"error": {"message": text, "type": "invalid_request_error", "param": None, **more}}


TOO_LONG = [
    Behaviour(f"too long, {name}", refusing(status, payload), None, "context = TOKENS")
    for name, status, payload in [
        ("vLLM", 400, {"object": "error", "message": "This model's maximum context length is 4096 "
         "tokens. However, you requested 5120 tokens (4800 in the messages, 320 in the answer).",
         "type": "BadRequestError", "param": None, "code": 400}),
        ("SGLang", 400, {"object": "error", "message": "The input (5000 tokens) is longer than the "
         "model's context length (4096 tokens).", "type": "BadRequestError", "code": 400}),
        ("llama.cpp", 400, {"error": {"code": 400, "message": "the request exceeds the available "
         "context size. try increasing the context size", "type": "exceed_context_size_error"}}),
        ("older llama.cpp", 500, {"error": {"code": 500, "message": "input is too large to "
         "process. increase the physical batch size", "type": "server_error"}}),
        ("Ollama", 500, {"error": {"message": "input length exceeds maximum context length",
         "type": "api_error", "param": None, "code": None}}),
        ("LM Studio", 400, {"error": "Trying to keep the first 5000 tokens when context the "
         "overflows. However, the model is loaded with context length of only 4096 tokens"}),
        ("TGI", 422, {"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be "
         "<= 4096. Given: 4800 `inputs` tokens and 320 `max_new_tokens`",
         "error_type": "validation"}),
        ("LiteLLM proxy", 400, openai("litellm.ContextWindowExceededError: prompt is too long")),
        ("OpenAI", 400, openai("Input tokens exceed the configured limit of 272000 tokens.",
         code="context_length_exceeded")),
        ("Anthropic", 400, {"type": "error", "error": {"type": "invalid_request_error",
         "message": "prompt is too long: 210000 tokens > 200000 maximum"}}),
        ("Gemini", 400, {"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "The "
         "input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."}}),
        ("a gateway", 413, {"error": "Payload Too Large"}),
        ("nginx", 413, b"<html><head><title>413 Request Entity Too Large</title></head></html>"),
    ]
]  # fmt: skip
FILTERED = [
    Behaviour("filtered, Azure", refusing(400, openai(
        "The response was filtered due to the prompt triggering Azure OpenAI's content management "
        "policy.", code="content_filter", innererror={"code": "ResponsibleAIPolicyViolation"})),
        None, "content management policy"),
    Behaviour("filtered, a reply without text", message("content_filter", content=None), None,
              "content filter"),
    Behaviour("refused by the model", message(content=None, refusal="I can't help with that."),
              None, "refused: I can't help"),
    Behaviour("filtered, OpenAI", refusing(400, openai("Invalid prompt: your prompt was flagged as "
              "potentially violating our usage policy.", code="invalid_prompt")), None, "flagged"),
    Behaviour("filtered, Gemini", message("SAFETY", content=None), None, "content filter"),
    Behaviour("a fault while it wrote, TGI", refusing(424, {"error": "Request failed during "
              "generation: Server error: boom", "error_type": "generation"}), None, "Request fail"),
    Behaviour("not ready, llama.cpp", refusing(503, {"error": {"code": 503, "type":
              "unavailable_error", "message": "Loading model"}}), None, "Loading model"),
    Behaviour("overloaded, Anthropic", refusing(529, {"type": "error", "error": {"type":
              "overloaded_error", "message": "Overloaded"}}), None, "Overloaded"),
    Behaviour("unknown words", refusing(400, {"error": "E1234"}), None, "E1234"),
    Behaviour("a word of FastAPI", refusing(422, {"detail": [{"loc": ["body", 0], "msg": "no"}]}),
              None, "no"),
    Behaviour("an unheard-of status", refusing(451, {"title": "Not for you"}), None, "Not for you"),
    Behaviour("a crash at one report", refusing(500, {"error": {"message": "CUDA error"}}), None,
              "CUDA error"),
    Behaviour("a gateway's page", refusing(502, b"<html><h1>Bad gateway</h1></html>"), None,
              "Bad gateway"),
    Behaviour("an error with 200", refusing(200, {"error": {"message": "boom", "code": 500}}), None,
              "boom"),
    Behaviour("a login page with 200", refusing(200, b"<html>Please log in</html>"), None,
              "Please log in"),
    Behaviour("half a body", refusing(200, b'{"id": "x", "choi'), None, "no JSON in the reply"),
    Behaviour("a list", refusing(200, [1, 2]), None, "no answer in the reply"),
    Behaviour("an empty body", refusing(200, b""), None, "no JSON in the reply"),
    Behaviour("no choices", changed(choices=[]), None, "its list of choices is empty"),
    Behaviour("choices left out", changed(choices=None), None, "no answer in the reply"),
]  # fmt: skip
LACKS = [
    Behaviour(name, without_if(holds, status, payload), all=True, learnt=learnt)
    for name, holds, status, payload, learnt in [
        ("maxItems, named", lambda b: "maxItems" in json.dumps(b), 400, openai(
            "Invalid schema for response_format 'answer': 'maxItems' is not permitted."),
            "takes no schema keywords"),
        ("maxItems, unnamed", lambda b: "maxItems" in json.dumps(b), 400, {"error": "Bad request"},
            "takes no schema keywords"),
        ("response_format, named", lambda b: "response_format" in b, 400, openai(
            "This model does not support the parameter response_format"), "takes no response"),
        ("response_format, unnamed", lambda b: "response_format" in b, 400, openai("Bad Request"),
            "takes no response format"),
        ("response_format, 501", lambda b: "response_format" in b, 501,
            {"error": "not implemented"}, "takes no response format"),
        ("response_format, a grammar", lambda b: "response_format" in b, 400, {"error": {
            "code": 400, "message": "Failed to parse grammar", "type": "invalid_request_error"}},
            "takes no response format"),
        ("temperature", lambda b: "temperature" in b, 400, openai(
            "Unsupported value: 'temperature' does not support 0 with this model. Only the default "
            "(1) value is supported.", code="unsupported_value"), "takes no temperature"),
        ("temperature, unnamed", lambda b: "temperature" in b, 422, {"detail": "x"},
            "takes no temperature"),
        ("max_tokens", lambda b: "max_tokens" in b, 400, openai(
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
            "'max_completion_tokens' instead."), "takes no max tokens"),
        ("temperature and max_tokens", lambda b: "max_tokens" in b or "temperature" in b, 400,
            openai("Unsupported: 'temperature' or 'max_tokens'"), "takes no max tokens"),
        ("the system role", has_system, 400, openai("System role not supported"),
            "takes no system"),
        ("the system role, alternation", has_system, 400, openai(
            "Conversation roles must alternate user/assistant/user/assistant/..."),
            "takes no system"),
        ("the system role, a template that fails", has_system, 400, {"error": "jinja"},
            "takes no system"),
        ("stream", lambda b: "stream" in b, 400, {"detail": [{"type": "extra_forbidden",
            "loc": ["body", "stream"], "msg": "Extra inputs are not permitted"}]},
            "takes no stream"),
    ]
]  # fmt: skip
SILENT = Behaviour(
    "an empty answer under a schema",
    lambda b: "" if "response_format" in b else good(b),
    all=True,
    learnt="takes no response format",
)
_TOOL = {"id": "a", "type": "function", "function": {"name": "answer", "arguments": "GOOD"}}
READ = [
    Behaviour("in reasoning_content", message(content=None, reasoning_content="GOOD"),
              said="taken from reasoning"),
    Behaviour("in reasoning", message(content="", reasoning="So: GOOD"), said="taken from reason"),
    Behaviour("in thinking", message(content="", thinking="GOOD"), said="taken from thinking"),
    Behaviour("reasoning beside it", message(content="GOOD", reasoning_content='{"KEY": ["x"]}')),
    Behaviour("thoughts closed", saying('<think>{"KEY": ["fever"]}</think>GOOD')),
    Behaviour("thoughts without a beginning", saying('draft {"KEY": ["fever"]}</think>GOOD'),
              said="thoughts without a beginning"),
    Behaviour("thoughts without an end", message(content='GOOD <think> or "fever"?'),
              said="thoughts without an end"),
    Behaviour("thoughts afterwards", saying("GOOD\n<think>That is it.</think>")),
    Behaviour("an answer within thoughts", message(content='<think>{"KEY": ["fever"]} no: GOOD'),
              said="taken from its thoughts"),
    Behaviour("other marks", saying('<reasoning>{"KEY": ["a"]}</reasoning>\nGOOD')),
    Behaviour("Magistral's marks", saying('[THINK]{"KEY": ["a"]}[/THINK]GOOD')),
    Behaviour("Kimi's marks", saying('◁think▷{"KEY": ["a"]}◁/think▷GOOD')),
    Behaviour("Cohere's marks", saying("<|START_THINKING|>x<|END_THINKING|>GOOD")),
    Behaviour("GPT-OSS's channels", saying('<|channel|>analysis<|message|>{"KEY": ["a"]}<|end|>'
              "<|start|>assistant<|channel|>final<|message|>GOOD<|return|>")),
    Behaviour("a mark of the template's end", saying("GOOD<|im_end|>")),
    Behaviour("content in parts", message(content=[{"type": "text", "text": "GOOD"}])),
    Behaviour("parts, a thought among them", message(content=[
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "GOOD"}])),
    Behaviour("a tool call", message("tool_calls", content=None, tool_calls=[_TOOL]),
              said="taken from a tool call"),
    Behaviour("a tool call of old", message("function_call", content=None, function_call={
        "name": "answer", "arguments": "GOOD"}), said="taken from a tool call"),
    Behaviour("cut off while it thought", message("length", content=None, reasoning_content="hm"),
              None, "raise max_answer_tokens"),
    Behaviour("cut off within its marks", message("length", content='<think> {"KEY": ["fever"]}'),
              None, "raise max_answer_tokens"),
    Behaviour("nothing, cut off", message("length", content=None), None, "max_answer_tokens"),
    Behaviour("no finish reason", message(None, content="GOOD")),
    Behaviour("an unheard-of finish reason", message("eos_token", content="GOOD")),
    Behaviour("a choice of old", lambda b: Raw(completion(b, "") | {"choices": [
        {"index": 0, "text": good(b), "finish_reason": "stop"}]})),
    Behaviour("a chunk", lambda b: Raw(completion(b, "") | {"choices": [
        {"index": 0, "delta": {"content": good(b)}, "finish_reason": "stop"}]})),
    Behaviour("Ollama's own shape", lambda b: Raw({"model": "m", "done_reason": "stop",
        "message": {"role": "assistant", "content": good(b)}, "prompt_eval_count": 900,
        "eval_count": 9})),
    Behaviour("streamed unless told not to", streamed, all=True),
    Behaviour("always streamed", always_streamed, all=True),
    Behaviour("usage left out", changed(usage=None), learnt="estimated"),
    Behaviour("usage of zero", changed(usage={"prompt_tokens": 0, "completion_tokens": 0}),
              learnt="estimated"),
    Behaviour("usage below zero", changed(usage={"prompt_tokens": -5, "completion_tokens": -1}),
              learnt="estimated"),
    Behaviour("usage beyond all bounds", changed(usage={"prompt_tokens": 10**12,
              "completion_tokens": 10**12}), learnt="estimated"),
    Behaviour("usage in words", changed(usage={"prompt_tokens": "many", "completion_tokens": None}),
              learnt="estimated"),
]  # fmt: skip
PARSED = [
    Behaviour("two answers", saying('{"KEY": ["fever"]}\nNo, better:\nGOOD'), said="prose"),
    Behaviour("a draft in a fence", saying('```json\n{"KEY": ["a"]}\n```\n```json\nGOOD\n```'),
              said="code fence"),
    Behaviour("a key in other letters", lambda b: good(b).lower() if "Task:" in text_of(b) else
              good(b), said="in place of"),
    Behaviour("a title as key", packed(lambda key, its: its.replace(key, TITLES[key])),
              said="in place of"),
    Behaviour("an open fence", saying("```json\nGOOD"), said="code fence"),
    Behaviour("JSON in a string", packed(lambda key, its: json.dumps(its)), said="in a string"),
    Behaviour("a list in a string", packed(lambda key, its: json.dumps({key: json.dumps([QUOTE])})),
              said="a string in place of a list"),
    Behaviour("items in strings", packed(lambda key, its: json.dumps(
              {key: [json.dumps({"quote": QUOTE})]}))),
    Behaviour("a tool call in words", saying(
              '<tool_call>{"name": "answer", "arguments": GOOD}</tool_call>'), said="prose"),
    Behaviour("cut off within a list", message("length", content='{"KEY": ["no fever", "no vo'),
              said="cut off by the token limit"),
    Behaviour("a wrapper", saying('{"findings": GOOD}'), said="wrapper"),
    Behaviour("two wrappers", saying('{"result": {"answer": GOOD}}'), said="wrapper"),
    Behaviour("a bare list", saying('["no fever"]'), said="bare list"),
    Behaviour("items as objects", saying('{"KEY": [{"quote": "no fever", "confidence": 0.9}]}')),
    Behaviour("no quotes as items", saying('{"KEY": ["no fever", NaN, 5, true]}'),
              said="no quotes, left out"),
    Behaviour("records", saying('[{"category": "KEY", "text": "no fever"}]'), said="records"),
    Behaviour("prose", saying("The patient is well."), None, "no list of quotes"),
    Behaviour("nothing", saying(""), None, "empty answer"),
    Behaviour("a number", saying("42"), None, "no list of quotes"),
]  # fmt: skip
# Those that would take long in great numbers stand apart: `HUGE`.
HUGE = [
    Behaviour("5 MB of quotes", saying('{"KEY": ["no fever", ' + ", ".join(
        f'"made up {n}"' for n in range(150_000)) + "]}"), None),
    Behaviour("5 MB of thoughts without an end", saying("<think>" + "so [it {is " * 450_000), None),
]  # fmt: skip
TABLE = [*TOO_LONG, *FILTERED, *LACKS, SILENT, *READ, *PARSED]

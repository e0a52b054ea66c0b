"""Where in a server's reply the answer stands: every shape that chat servers are known to send.

It knows the standard library alone, since exported scripts carry it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Where servers put what a model thought before it answered.
THOUGHTS = ("reasoning_content", "reasoning", "thinking", "reasoning_text", "thought")
_CUT = ("length", "max_tokens", "max_output_tokens", "model_length", "max_length")
_FILTERED = ("content_filter", "safety", "recitation", "prohibited_content", "blocklist", "spii")
# Marks around thoughts, by the chat templates that models publish: DeepSeek, Qwen, GLM and their
# kin, Kimi, Magistral, Cohere, Sky-T1, Seed.
_WORDS = r"(?:\w{1,8}:)?(?:think(?:ing)?|thoughts?|reasoning|reflection|scratchpad)"
_MARK = re.compile(
    rf"(?P<open><{_WORDS}(?:\s[^<>]{{0,40}})?>|\[THINK\]|◁think▷"
    r"|<\|begin_of_thought\|>|<\|START_THINKING\|>)"
    rf"|</{_WORDS}\s*>|\[/THINK\]|◁/think▷|<\|end_of_thought\|>|<\|END_THINKING\|>",
    re.IGNORECASE,
)
# GPT-OSS: <|channel|>analysis<|message|>... <|channel|>final<|message|>...
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)[^<]{0,40}<\|message\|>")
_END = re.compile(r"<\|(?:end|return|start|call)\|>")
_AROUND = re.compile(
    r"<\|(?:im_end|eot_id|endoftext|end_of_text|begin_of_solution|end_of_solution|START_RESPONSE"
    r"|END_RESPONSE|end)\|>|<｜end▁of▁sentence｜>|</s>"
)


class Unreadable(ValueError):
    """A body that is no reply of a chat server; says what it begins with."""


@dataclass(frozen=True)
class Reply:
    """An answer's text and how it ended; what a server did not say is None or "".

    `note` says where the text stood, if not in its usual place; `failed` why there is none. `sent`,
    `written` and `cached` are tokens by the server's own count.
    """

    text: str = ""
    note: str = ""
    failed: str = ""
    cut: bool = False
    sent: int | None = None
    written: int | None = None
    cached: int = 0
    id: str = ""
    model: str = ""


def of_body(body: str) -> Any:
    """Return what the body of a reply holds, chunks of a stream put together.

    Unreadable for anything but JSON and server-sent events.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        chunks = [line[5:].strip() for line in body.split("\n") if line.startswith("data:")]
    try:
        return _joined([json.loads(chunk) for chunk in chunks if chunk and chunk != "[DONE]"])
    except (ValueError, RecursionError, TypeError, AttributeError) as error:
        raise Unreadable(f"no JSON in the reply: {' '.join(body.split())[:120]!r}") from error


def _joined(chunks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if not chunks:
        raise ValueError
    whole: dict[str, Any] = {"choices": []}
    texts: dict[str, str] = {}
    finish = None
    for chunk in chunks:
        whole |= {name: value for name, value in chunk.items() if name != "choices" and value}
        for choice in (chunk.get("choices") or [])[:1]:
            finish = choice.get("finish_reason") or finish
            for name in ("content", *THOUGHTS):
                piece = (choice.get("delta") or {}).get(name)
                texts[name] = texts.get(name, "") + (piece if isinstance(piece, str) else "")
    return whole | {"choices": [{"message": texts, "finish_reason": finish}]}


def read(reply: Any) -> Reply:
    """Return what a reply says: LiteLLM's object, or the JSON of a server as it came.

    Unreadable for what holds neither answers nor a place for them.
    """
    usage, choices = get(reply, "usage"), get(reply, "choices")
    if choices is None and any(get(reply, name) is not None for name in ("message", "text")):
        choices = [reply]  # as Ollama's own API has it
    if not isinstance(choices, list | tuple):
        raise Unreadable(f"no answer in the reply: {str(reply)[:120]!r}")
    own = Reply(
        id=str(get(reply, "id") or ""),
        model=str(get(reply, "model") or ""),
        sent=_tokens(_either(usage, reply, "prompt_tokens", "input_tokens", "prompt_eval_count")),
        written=_tokens(_either(usage, reply, "completion_tokens", "output_tokens", "eval_count")),
        cached=_tokens(get(get(usage, "prompt_tokens_details"), "cached_tokens")) or 0,
    )
    if not choices:
        return _with(own, failed="no answer in the reply: its list of choices is empty")
    return _of_choice(own, choices[0])


def _of_choice(own: Reply, choice: Any) -> Reply:
    message = get(choice, "message") or get(choice, "delta") or {}
    finish = str(get(choice, "finish_reason") or get(choice, "done_reason") or "").lower()
    cut = finish in _CUT
    content, thought = _content(get(message, "content"))
    text, note, open_thought = without_thoughts(content or _string(get(choice, "text")))
    if text:
        if finish in _FILTERED:
            note = "cut off by the server's content filter"
        return _with(own, text=text, note=note, cut=cut)
    if called := _called(message):
        return _with(own, text=called, note="taken from a tool call", cut=cut)
    if refused := _string(get(message, "refusal") or _extra(message, "refusal")):
        return _with(own, failed=f"refused: {refused[:200]}")
    if finish in _FILTERED:
        return _with(own, failed="stopped by the server's content filter")
    place, thought = ("its thoughts", thought) if thought else _thought(message)
    place, thought = ("its thoughts", open_thought) if open_thought else (place, thought)
    if cut:
        spent = f" after {own.written} tokens" if own.written else ""
        what = "cut off while it thought" if thought else "cut off before an answer"
        return _with(
            own, failed=f"{what},{spent or ' by the token limit'}: raise {LIMIT}", cut=True
        )
    if "{" in thought or "[" in thought:
        return _with(own, text=thought, note=f"taken from {place}")
    return _with(own, failed="no answer after its thoughts" if thought.strip() else "")


# The setting that gives answers more room.
LIMIT = "max_answer_tokens"


def without_thoughts(text: str) -> tuple[str, str, str]:
    """Return an answer without thoughts around it, a note if it was marked oddly, and the thoughts.

    Thoughts stand before or after the answer, perhaps without their first or their last mark. The
    thoughts are returned only where nothing else is left.
    """
    plain = text.strip()
    if "<|channel|>" in plain:
        return _of_channels(plain)
    if not _MARK.search(plain) or _is_json(plain):
        return _AROUND.sub("", plain).strip(), "", ""
    kept: list[str] = []
    at, inside, odd = 0, False, ""
    for mark in _MARK.finditer(plain):
        if mark["open"]:
            if not inside:
                kept.append(plain[at : mark.start()])
            inside = True
            continue
        if not inside:  # its first mark stood in the prompt
            kept.clear()
            odd = "after thoughts without a beginning"
        at, inside = mark.end(), False
    if inside:
        odd = "before thoughts without an end"
    else:
        kept.append(plain[at:])
    answer = _AROUND.sub("", "".join(kept)).strip()
    return (answer, odd, "") if answer else ("", "", _MARK.sub(" ", plain).strip())


def _of_channels(text: str) -> tuple[str, str, str]:
    parts = _CHANNEL.split(text)
    named = list(zip(parts[1::2], parts[2::2], strict=False))
    final = [body for name, body in named if name == "final"]
    if final and (answer := _END.split(final[-1])[0].strip()):
        return answer, "", ""
    return "", "", " ".join(_END.split(body)[0] for _, body in named)


def _is_json(text: str) -> bool:
    if text[:1] not in "{[":
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _content(content: Any) -> tuple[str, str]:
    """Return the text of a message and its thoughts, whether they come as a text or in parts."""
    if not isinstance(content, list | tuple):
        if isinstance(content, Mapping):  # JSON that was read already
            return json.dumps(content, ensure_ascii=False), ""
        return _string(content), ""
    texts: list[str] = []
    thoughts: list[str] = []
    for part in content:
        kind = str(get(part, "type") or "text")
        value = part if isinstance(part, str) else _first(part, "text", "content", *THOUGHTS)
        inner = _content(value)[0] if isinstance(value, list | tuple) else _string(value)
        (thoughts if "think" in kind or "reason" in kind else texts).append(inner)
    return "".join(texts), "\n".join(thoughts)


def _called(message: Any) -> str:
    """Return the arguments of the last tool call, as text."""
    calls = get(message, "tool_calls") or []
    functions = [get(call, "function") for call in calls] + [get(message, "function_call")]
    for function in reversed(functions):
        given = get(function, "arguments") or get(function, "parameters")
        if given:
            return given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
    return ""


def _thought(message: Any) -> tuple[str, str]:
    for name in THOUGHTS:
        found = get(message, name) or _extra(message, name)
        if text := _content(found)[0].strip():
            return name, text
    blocks = get(message, "thinking_blocks") or get(message, "reasoning_details") or []
    return "its thoughts", _content(blocks)[1] or _content(blocks)[0]


def _extra(message: Any, name: str) -> Any:
    """Return a field of a message that LiteLLM has no place for."""
    return get(get(message, "provider_specific_fields"), name)


def _either(usage: Any, reply: Any, *names: str) -> Any:
    found = _first(usage, *names)
    return found if found is not None else _first(reply, *names)


def _first(thing: Any, *names: str) -> Any:
    found = (get(thing, name) for name in names)
    return next((value for value in found if value is not None), None)


def get(thing: Any, name: str) -> Any:
    """Return a field of a JSON object or an attribute of anything else, None where it has none."""
    return thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)


def _string(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def _tokens(value: Any) -> int | None:
    """Return a count that can be one, None for anything else."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return int(number) if math.isfinite(number) and 0 <= number < 1e9 else None


def _with(own: Reply, **changes: Any) -> Reply:
    return Reply(**{**vars(own), **changes})

"""Whether celslm gives a model the tokens that llama-server gives it for the same conversations."""
import json
import pathlib

from . import api
from .peer import LlamaServer
from .programs import Programs, celslm, json_lines_of

# For files that carry no template: the one that is then given to both.
TEMPLATES = {"gemma-3-270m-q4_k_m.gguf": pathlib.Path(__file__).with_name("gemma3.jinja")}

CODE = """def mean(values):
    \"\"\"Of at least one.\"\"\"
\treturn sum(values) / len(values)  # not <= 0


if __name__ == "__main__":
    print({"mean": mean([1, 2, 3.5])}, f"{3:>5}|")
"""
MANUAL = """# Pump 7B

1. Close valve `A-3` (see <figure 2>).
2. Wait 90 s; pressure must be < 1.5 bar.

| state | lamp |
|-------|------|
| idle  | off  |
"""
# Everything but control tokens: celslm takes those that a message spells as text, llama-server as control tokens.
TEXTS = [
    "Hello!",
    "",
    " leading and trailing blanks \t",
    "\n\nnewlines around\n\n",
    "What is 12345678 * 9.75?\r\nAnd 1/3?",
    "🙂👩‍👩‍👧 emoji, and a flag 🇨🇭!",
    "Grüezi, wie geht's? Ça va? Привет. こんにちは 数学 שלום",
    CODE,
    MANUAL,
    '{"a": [1, 2, {"b": null}], "c": "\\n"} {{ messages }} {% if x %} {# comment #} <b>&amp;</b>',
    "< | im_end | > </s <tool_call <<< [INST [/ >>> |> 's 'LL don't",
    "a" * 300 + " " * 40 + "\n" * 5 + "7" * 20 + "   end   of   it",
]


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def system(text):
    return {"role": "system", "content": text}


def conversations():
    """40 conversations of all shapes."""
    out = [[user(text)] for text in TEXTS]
    out += [[system(text), user(TEXTS[i - 1])] for i, text in enumerate(TEXTS)]
    out += [[user(text), assistant(TEXTS[i - 2]), user(TEXTS[i - 3])] for i, text in enumerate(TEXTS) if i % 2 == 0]
    out += [[system(TEXTS[i - 4]), user(text), assistant(TEXTS[i - 5]), user(TEXTS[i - 6])]
            for i, text in enumerate(TEXTS) if i % 2 == 1]
    out += [
        [system(MANUAL), *[turn for text in TEXTS for turn in (user(text), assistant(text[::-1]))], user("Go on.")],
        [user("Which?"), assistant(" that one\n"), user("This?"), assistant(""), user("Both?")],
        [system("You are a helpful assistant."), user("Say hi.")],
        [system("You are a helpful assistant.\n"), user("\tSay hi."), assistant("hi"), user(CODE)],
    ]
    return out


def tool(name, **properties):
    return {"type": "function", "function": {"name": name, "description": f"Do {name}.\nWell.", "parameters": {
        "type": "object", "properties": properties, "required": list(properties)}}}


def call(number, name, **arguments):
    return {"id": f"abcdefgh{number}", "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments)}}


def tool_requests():
    """Chats with tools, and with calls and results in the history."""
    tools = [tool("zap", z={"type": "string", "enum": ["x", "y"]}, a={"type": "array", "items": {"type": "number"}}),
             tool("get_weather", city={"type": "string", "description": "Like \"Zürich\" <here>"})]
    asked = [user("What is the weather in Zürich?")]
    called = {"role": "assistant", "content": None, "tool_calls": [call(1, "get_weather", city="Zürich \"7\"")]}
    result = {"role": "tool", "tool_call_id": "abcdefgh1", "content": '{"celsius": 7.5, "sky": ["clear"]}'}
    return [
        {"messages": asked, "tools": tools},
        {"messages": [system("Be brief."), *asked], "tools": tools[1:]},
        {"messages": [*asked, called, result], "tools": tools},
        {"messages": [system("Be brief."), *asked, called, result, assistant("7.5 degrees."), user("Thanks.")],
         "tools": tools},
    ]


def request_of(chat):
    """A list of messages, or a request with more than these."""
    return {"messages": chat} if isinstance(chat, list) else chat


def celslm_tokens(binary, model, chats, folder):
    """What `celslm tokens --json` prints for each conversation: {"tokens", "n_context"}."""
    requests = pathlib.Path(folder) / "chats.jsonl"
    requests.write_text("\n".join(json.dumps(request_of(chat)) for chat in chats), encoding="utf-8")
    template = TEMPLATES.get(pathlib.Path(model).name)
    return json_lines_of(binary, "tokens", requests, "--model", model, "--json",
                         *(("--chat-template", template) if template else ()))


def llama_server_tokens(started, model, chats):
    """The token ids that llama-server's chat endpoint would give the model."""
    template = TEMPLATES.get(pathlib.Path(model).name)
    arguments = ["--no-warmup", *(("--chat-template-file", template) if template else ())]
    out = []
    with LlamaServer(started, model, 512, *arguments) as server:
        for chat in chats:
            prompt = api.request("POST", f"{server.url}/apply-template", request_of(chat))["prompt"]
            body = {"content": prompt, "add_special": True, "parse_special": True}
            out.append(api.request("POST", f"{server.url}/tokenize", body)["tokens"])
    return out


def different(model, chats, binary=None):
    """Those of the conversations for which the two give different tokens."""
    with Programs() as started:
        ours = celslm_tokens(binary or celslm(), model, chats, started.folder)
        theirs = llama_server_tokens(started, model, chats)
    return [chat for chat, mine, peers in zip(chats, ours, theirs, strict=True) if mine["tokens"] != peers]


def template_agreement(model, binary=None):
    """(conversations with equal token ids, conversations)."""
    chats = conversations()
    return len(chats) - len(different(model, chats, binary)), len(chats)

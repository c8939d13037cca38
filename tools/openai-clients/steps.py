"""The steps of compare.py with Python's client: python3 steps.py URL MODEL. Prints a line of JSON for each step:
{"step", "works", "note"}. A step works when the client got what OpenAI's documentation promises.
"""
import copy
import json
import math
import os
import sys
import time

import openai

URL, MODEL = sys.argv[1:3]
CLIENT = openai.OpenAI(base_url=f"{URL}/v1", api_key=os.environ.get("CELSLM_TOKEN", "none"), max_retries=0, timeout=300)

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
                       "additionalProperties": False},
    },
}
PERSON = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
          "required": ["name", "age"], "additionalProperties": False}
STEPS = {}


class Wrong(Exception):
    """The server gave something else than the API promises."""


def step(name):
    def keep(function):
        STEPS[name] = function
        return function
    return keep


def check(condition, otherwise):
    if not condition:
        raise Wrong(otherwise)


def user(text):
    return {"role": "user", "content": text}


ASK = [user("What is the weather in Oslo? Use the tool.")]


def chat(**fields):
    return CLIENT.chat.completions.create(**{"model": MODEL, "temperature": 0, "max_tokens": 256, **fields})


def check_call(call):
    check(call.function.name == "get_weather", f"a call of {call.function.name}")
    check(isinstance(json.loads(call.function.arguments)["city"], str), "city is no string")


def second_round(messages, message):
    results = [{"role": "tool", "tool_call_id": call.id, "content": '{"celsius": 7, "sky": "clear"}'}
               for call in message.tool_calls]
    answer = chat(messages=[*messages, message, *results], tools=[WEATHER]).choices[0].message
    check(answer.content or answer.tool_calls, "neither text nor calls after the results")
    return used(answer.content)


def used(text):
    if not text:
        return "it called again"
    return "the answer uses the result" if "7" in text else "an answer, without the result"


@step("chat")
def plain():
    answer = chat(messages=[user("Say hello.")])
    check(answer.choices[0].message.content and answer.usage.completion_tokens > 0, "no text")
    return f"{answer.usage.completion_tokens} tokens"


@step("chat, streamed")
def streamed():
    chunks = list(chat(messages=[user("Say hello.")], stream=True, stream_options={"include_usage": True}))
    check(len(chunks) > 2 and chunks[-1].usage.completion_tokens > 0, "no usage at the end")
    return f"{len(chunks)} chunks"


@step("tools, two rounds")
def two_rounds():
    choice = chat(messages=ASK, tools=[WEATHER], tool_choice="required").choices[0]
    check(choice.finish_reason == "tool_calls", f"it finished by {choice.finish_reason}")
    check_call(choice.message.tool_calls[0])
    return second_round(ASK, choice.message)


@step("tools, left to the model")
def left_to_the_model():
    message = chat(messages=ASK, tools=[WEATHER]).choices[0].message
    if not message.tool_calls:
        return "it answered with text"
    check_call(message.tool_calls[0])
    return "it called"


@step("tools, streamed")
def tools_streamed():
    name, arguments, deltas = "", "", 0
    for chunk in chat(messages=ASK, tools=[WEATHER], tool_choice="required", stream=True):
        for call in (chunk.choices[0].delta.tool_calls or []) if chunk.choices else []:
            deltas += 1
            if call.index == 0:
                name += call.function.name or ""
                arguments += call.function.arguments or ""
    check(name == "get_weather" and isinstance(json.loads(arguments)["city"], str), f"{name} {arguments}")
    return f"{deltas} deltas"


@step("a named tool")
def named():
    other = copy.deepcopy(WEATHER)
    other["function"]["name"] = "get_time"
    choice = {"type": "function", "function": {"name": "get_weather"}}
    check_call(chat(messages=[user("Hi")], tools=[other, WEATHER], tool_choice=choice).choices[0].message.tool_calls[0])
    return ""


@step("parallel tools")
def parallel():
    messages = [user("What is the weather in Oslo and in Rome? Call the tool once for each city.")]
    message = chat(messages=messages, tools=[WEATHER], tool_choice="required", parallel_tool_calls=True).choices[0].message
    for call in message.tool_calls:
        check_call(call)
    check(len({call.id for call in message.tool_calls}) == len(message.tool_calls), "two calls with one id")
    second_round(messages, message)
    return f"{len(message.tool_calls)} call(s)"


@step("strict schema")
def strict():
    wanted = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": PERSON}}
    value = json.loads(chat(messages=[user("Invent a person.")], response_format=wanted).choices[0].message.content)
    check(sorted(value) == ["age", "name"] and isinstance(value["age"], int), str(value))
    return ""


@step("log probabilities")
def logprobs():
    content = chat(messages=[user("Hi")], logprobs=True, top_logprobs=3, max_tokens=4).choices[0].logprobs.content
    check(content and all(c.logprob <= 0 and len(c.top_logprobs) == 3 for c in content), "not three for each token")
    return f"{len(content)} tokens"


@step("embeddings")
def embeddings():
    data = CLIENT.embeddings.create(model=MODEL, input=["a cat", "a dog"]).data
    norm = math.hypot(*data[0].embedding)
    check(len(data) == 2 and abs(norm - 1) < 1e-3, f"{len(data)} of norm {norm}")
    return f"{len(data[0].embedding)} dimensions"


def respond(**fields):
    return CLIENT.responses.create(**{"model": MODEL, "temperature": 0, "max_output_tokens": 32, **fields})


@step("responses")
def responses():
    answer = respond(input="Say hello.", instructions="Be brief.")
    check(answer.output_text and answer.usage.output_tokens > 0, "no text")
    return ""


@step("responses, streamed")
def responses_streamed():
    events = list(respond(input="Say hello.", stream=True))
    check(events[0].type == "response.created", events[0].type)
    check(events[-1].type in ("response.completed", "response.incomplete"), events[-1].type)
    text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    check(text == events[-1].response.output_text, "the deltas are not the text")
    return f"{len(events)} events"


@step("responses, tools")
def responses_tools():
    tools = [{"type": "function", **WEATHER["function"], "strict": True}]
    first = respond(input=ASK, tools=tools, tool_choice="required", max_output_tokens=256)
    call = next(item for item in first.output if item.type == "function_call")
    check(isinstance(json.loads(call.arguments)["city"], str), call.arguments)
    result = {"type": "function_call_output", "call_id": call.call_id, "output": '{"celsius": 7}'}
    second = respond(input=[*ASK, *first.output, result], tools=tools, max_output_tokens=256)
    check(second.output, "nothing after the result")
    return used(second.output_text)


@step("abort")
def abort():
    begin = time.monotonic()
    with chat(messages=[user("Count from 1 to 1000.")], stream=True, max_tokens=2000) as stream:
        next(chunk for chunk in stream if chunk.choices and chunk.choices[0].delta.content)
    chat(messages=[user("Hi")], max_tokens=1)
    return f"next answer after {time.monotonic() - begin:.1f} s"


@step("too long a prompt")
def too_long():
    try:
        chat(messages=[user("far too long " * 60_000)])
    except openai.BadRequestError as error:
        check(error.code == "context_length_exceeded", f"its code is {error.code}")
        return ""
    raise Wrong("it was accepted")


def main():
    for name, run in STEPS.items():
        try:
            works, note = True, run()
        except Exception as error:  # whatever the client raises is this step's outcome
            works, note = False, (str(error) or type(error).__name__).splitlines()[0][:200]
        print(json.dumps({"step": name, "works": works, "note": note}), flush=True)


if __name__ == "__main__":
    main()

// The steps of compare.py with the npm client: node steps.mjs URL MODEL. Prints a line of JSON for each step:
// {"step", "works", "note"}. A step works when the client got what OpenAI's documentation promises.
import assert from 'node:assert/strict';
import OpenAI from 'openai';

const [url, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: process.env.CELSLM_TOKEN ?? 'none', maxRetries: 0, timeout: 300_000 });

const weather = {
  type: 'function',
  function: {
    name: 'get_weather',
    description: 'The weather in a city',
    parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'], additionalProperties: false },
  },
};
const person = {
  type: 'object',
  properties: { name: { type: 'string' }, age: { type: 'integer' } },
  required: ['name', 'age'],
  additionalProperties: false,
};
const user = (content) => ({ role: 'user', content });
const chat = (fields, init) => client.chat.completions.create({ model, temperature: 0, max_tokens: 256, ...fields }, init);
const kAsk = [user('What is the weather in Oslo? Use the tool.')];

function checkCall(call) {
  assert.equal(call.type, 'function');
  assert.equal(call.function.name, 'get_weather');
  assert.equal(typeof JSON.parse(call.function.arguments).city, 'string');
}

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

async function secondRound(messages, message) {
  const results = message.tool_calls.map((call) => ({ role: 'tool', tool_call_id: call.id, content: '{"celsius": 7, "sky": "clear"}' }));
  const answer = await chat({ messages: [...messages, message, ...results], tools: [weather] });
  const { content, tool_calls } = answer.choices[0].message;
  assert(content || tool_calls, 'neither text nor calls after the results');
  if (!content) return 'it called again';
  return content.includes('7') ? 'the answer uses the result' : 'an answer, without the result';
}

const steps = {
  async 'chat'() {
    const answer = await chat({ messages: [user('Say hello.')] });
    assert(answer.choices[0].message.content && answer.usage.completion_tokens > 0);
    return `${answer.usage.completion_tokens} tokens`;
  },
  async 'chat, streamed'() {
    const chunks = await collect(await chat({ messages: [user('Say hello.')], stream: true, stream_options: { include_usage: true } }));
    assert(chunks.length > 2 && chunks.at(-1).usage.completion_tokens > 0);
    return `${chunks.length} chunks`;
  },
  async 'tools, two rounds'() {
    const first = await chat({ messages: kAsk, tools: [weather], tool_choice: 'required' });
    const { message, finish_reason } = first.choices[0];
    assert.equal(finish_reason, 'tool_calls');
    checkCall(message.tool_calls[0]);
    return secondRound(kAsk, message);
  },
  async 'tools, left to the model'() {
    const { message } = (await chat({ messages: kAsk, tools: [weather] })).choices[0];
    if (!message.tool_calls?.length) return 'it answered with text';
    checkCall(message.tool_calls[0]);
    return 'it called';
  },
  async 'tools, streamed'() {
    const stream = client.chat.completions.stream({ model, temperature: 0, max_tokens: 256, messages: kAsk, tools: [weather], tool_choice: 'required' });
    let deltas = 0;
    stream.on('chunk', (chunk) => { deltas += chunk.choices[0]?.delta.tool_calls ? 1 : 0; });
    const whole = await stream.finalChatCompletion();
    checkCall(whole.choices[0].message.tool_calls[0]);
    return `${deltas} deltas`;
  },
  async 'a named tool'() {
    const other = structuredClone(weather);
    other.function.name = 'get_time';
    const choice = { type: 'function', function: { name: 'get_weather' } };
    const { message } = (await chat({ messages: [user('Hi')], tools: [other, weather], tool_choice: choice })).choices[0];
    checkCall(message.tool_calls[0]);
    return '';
  },
  async 'parallel tools'() {
    const messages = [user('What is the weather in Oslo and in Rome? Call the tool once for each city.')];
    const { message } = (await chat({ messages, tools: [weather], tool_choice: 'required', parallel_tool_calls: true })).choices[0];
    message.tool_calls.forEach(checkCall);
    assert.equal(new Set(message.tool_calls.map((call) => call.id)).size, message.tool_calls.length);
    await secondRound(messages, message);
    return `${message.tool_calls.length} call(s)`;
  },
  async 'strict schema'() {
    const response_format = { type: 'json_schema', json_schema: { name: 'person', strict: true, schema: person } };
    const answer = await chat({ messages: [user('Invent a person.')], response_format });
    const value = JSON.parse(answer.choices[0].message.content);
    assert.deepEqual(Object.keys(value).sort(), ['age', 'name']);
    assert(Number.isInteger(value.age) && typeof value.name === 'string');
    return '';
  },
  async 'log probabilities'() {
    const answer = await chat({ messages: [user('Hi')], logprobs: true, top_logprobs: 3, max_tokens: 4 });
    const { content } = answer.choices[0].logprobs;
    assert(content.length > 0 && content.every((c) => c.logprob <= 0 && c.top_logprobs.length === 3));
    return `${content.length} tokens`;
  },
  async 'embeddings'() {
    const answer = await client.embeddings.create({ model, input: ['a cat', 'a dog'] });
    assert.equal(answer.data.length, 2);
    const norm = Math.hypot(...answer.data[0].embedding);
    assert(Math.abs(norm - 1) < 1e-3, `its norm is ${norm}`);
    return `${answer.data[0].embedding.length} dimensions`;
  },
  async 'responses'() {
    const answer = await client.responses.create({ model, input: 'Say hello.', instructions: 'Be brief.', temperature: 0, max_output_tokens: 32 });
    assert(answer.output_text && answer.usage.output_tokens > 0);
    return '';
  },
  async 'responses, streamed'() {
    const events = await collect(await client.responses.create({ model, input: 'Say hello.', temperature: 0, max_output_tokens: 32, stream: true }));
    assert.equal(events[0].type, 'response.created');
    assert(['response.completed', 'response.incomplete'].includes(events.at(-1).type), events.at(-1).type);
    const text = events.filter((e) => e.type === 'response.output_text.delta').map((e) => e.delta).join('');
    assert.equal(text, events.at(-1).response.output.find((o) => o.type === 'message').content[0].text);
    return `${events.length} events`;
  },
  async 'responses, tools'() {
    const tools = [{ type: 'function', ...weather.function, strict: true }];
    const input = [user('What is the weather in Oslo? Use the tool.')];
    const fields = { model, tools, temperature: 0, max_output_tokens: 256 };
    const first = await client.responses.create({ ...fields, input, tool_choice: 'required' });
    const call = first.output.find((item) => item.type === 'function_call');
    assert.equal(typeof JSON.parse(call.arguments).city, 'string');
    const result = { type: 'function_call_output', call_id: call.call_id, output: '{"celsius": 7}' };
    const second = await client.responses.create({ ...fields, input: [...input, ...first.output, result] });
    assert(second.output.length > 0, 'nothing after the result');
    if (!second.output_text) return 'it called again';
    return second.output_text.includes('7') ? 'the answer uses the result' : 'an answer, without the result';
  },
  async 'abort'() {
    const controller = new AbortController();
    const messages = [user('Count from 1 to 1000.')];
    const begin = Date.now();
    for await (const chunk of await chat({ messages, stream: true, max_tokens: 2000 }, { signal: controller.signal })) {
      if (chunk.choices[0]?.delta.content) controller.abort();
    }
    await chat({ messages: [user('Hi')], max_tokens: 1 });
    return `next answer after ${((Date.now() - begin) / 1000).toFixed(1)} s`;
  },
  async 'too long a prompt'() {
    const error = await chat({ messages: [user('far too long '.repeat(60_000))] }).then(() => assert.fail('it was accepted'), (e) => e);
    assert(error instanceof OpenAI.BadRequestError, String(error));
    assert.equal(error.code, 'context_length_exceeded', `its code is ${error.code}`);
    return '';
  },
};

for (const [step, run] of Object.entries(steps)) {
  let [works, note] = [true, ''];
  try {
    note = await run();
  } catch (error) {
    [works, note] = [false, String(error.message ?? error).split('\n')[0].slice(0, 200)];
  }
  console.log(JSON.stringify({ step, works, note }));
}

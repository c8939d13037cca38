// The real OpenAI client against a running edge:
//   node client_test.mjs URL MODEL [--plain] [--overload N]
// --plain: any server that speaks OpenAI's API and takes a GBNF grammar (llama-server), without what is our own.
// --overload N: N requests at once are more than the server takes; some must get 429 and the others their answers.
// Grammars fix most answers, so that what is expected does not depend on how well a model is trained.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { parseArgs } from 'node:util';
import OpenAI from 'openai';

const { values: options, positionals: [url, model] } = parseArgs({
  allowPositionals: true,
  options: { plain: { type: 'boolean' }, overload: { type: 'string' } },
});
assert(url && model, 'usage: node client_test.mjs URL MODEL [--plain] [--overload N]');

const apiKey = process.env.CELSLM_TOKEN ?? 'none';
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0, timeout: 120_000 });
const ours = { skip: options.plain ? 'not in every server' : false };

const user = (content) => [{ role: 'user', content }];
const exactly = (text) => `root ::= ${JSON.stringify(text)}`;
const kLetters = 'root ::= [a-z]{300}'; // goes on until someone stops it
const chat = (fields, init) => client.chat.completions.create({ model, messages: user('Hello'), temperature: 0, ...fields }, init);
const completion = (fields) => client.completions.create({ model, prompt: 'Hello', temperature: 0, ...fields });
const textOf = (response) => response.choices[0].message.content;

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}
const deltas = (chunks) => chunks.flatMap((c) => c.choices).map((c) => c.delta?.content ?? c.text ?? '');

// Like Promise.all, but nothing is left running when one fails, so that no later test meets a busy server.
async function all(promises) {
  const results = await Promise.allSettled(promises);
  for (const result of results) if (result.status === 'rejected') throw result.reason;
  return results.map((result) => result.value);
}

// An API error of this class, for the caller to look at.
async function refused(promise, errorClass) {
  const error = await promise.then(() => assert.fail('the request was not refused'), (e) => e);
  assert(error instanceof errorClass, `${errorClass.name} expected, not ${error.stack}`);
  return error;
}

describe('models', () => {
  test('the list names the model', async () => {
    const ids = [];
    for await (const item of client.models.list()) {
      assert.equal(item.object, 'model');
      ids.push(item.id);
    }
    assert(ids.includes(model), `${model} is not among ${ids}`);
  });
});

describe('chat', () => {
  test('answers with text, reason and counts', async () => {
    const response = await chat({ grammar: exactly('alpha beta') });
    assert.equal(response.object, 'chat.completion');
    assert.match(response.id, /^chatcmpl-/);
    assert.equal(response.model, model);
    assert(Math.abs(response.created - Date.now() / 1000) < 600);
    assert.equal(response.choices.length, 1);
    assert.equal(response.choices[0].message.role, 'assistant');
    assert.equal(textOf(response), 'alpha beta');
    assert.equal(response.choices[0].finish_reason, 'stop');
    const { prompt_tokens, completion_tokens, total_tokens } = response.usage;
    assert(prompt_tokens > 0 && completion_tokens > 0);
    assert.equal(total_tokens, prompt_tokens + completion_tokens);
  });

  test('takes text parts and earlier turns', async () => {
    const messages = [{ role: 'system', content: 'Be brief.' }, ...user([{ type: 'text', text: 'Hello' }]),
      { role: 'assistant', content: 'Hi' }, ...user('And?')];
    const longer = await chat({ messages, max_tokens: 1 });
    const shorter = await chat({ max_tokens: 1 });
    assert(longer.usage.prompt_tokens > shorter.usage.prompt_tokens);
  });

  test('streams the same text, with the role first, the reason last and the counts after it', async () => {
    const grammar = exactly('one two three');
    const chunks = await collect(await chat({ grammar, stream: true, stream_options: { include_usage: true } }));
    assert.equal(chunks[0].choices[0].delta.role, 'assistant');
    assert(chunks.every((c) => c.object === 'chat.completion.chunk' && c.id === chunks[0].id));
    assert.equal(deltas(chunks).join(''), 'one two three');
    assert(deltas(chunks).filter((d) => d).length > 1, 'the text came in one piece');
    const reasons = chunks.flatMap((c) => c.choices).map((c) => c.finish_reason);
    assert.deepEqual(reasons.filter((r) => r), ['stop']);
    assert.equal(reasons.at(-1), 'stop');
    assert.deepEqual(chunks.at(-1).choices, []);
    const whole = await chat({ grammar });
    assert.equal(chunks.at(-1).usage.completion_tokens, whole.usage.completion_tokens);
    assert.equal(chunks.at(-1).usage.prompt_tokens, whole.usage.prompt_tokens);
  });

  test("the client's own accumulator puts a stream together", async () => {
    const stream = client.chat.completions.stream({ model, messages: user('Hello'), grammar: exactly('one two'), logprobs: true });
    const whole = await stream.finalChatCompletion();
    assert.equal(textOf(whole), 'one two');
    assert.equal(whole.choices[0].finish_reason, 'stop');
    assert(whole.choices[0].logprobs.content.length > 0);
  });

  test('streams whole characters only', async () => {
    const text = 'é € 😀 漢字';
    const chunks = await collect(await chat({ grammar: exactly(text), stream: true }));
    assert.equal(deltas(chunks).join(''), text);
    assert(deltas(chunks).every((d) => d.isWellFormed() && !d.includes('\ufffd')));
  });

  test('a stream and a whole answer are the same without a grammar too', async () => {
    const [whole, chunks] = [await chat({ max_tokens: 24 }), await collect(await chat({ max_tokens: 24, stream: true }))];
    assert.equal(deltas(chunks).join(''), textOf(whole));
  });

  test('JSON mode yields JSON', async () => {
    const response = await chat({ response_format: { type: 'json_object' }, max_tokens: 200 });
    assert(textOf(response).trimStart().startsWith('{'), textOf(response));
    if (response.choices[0].finish_reason === 'stop') assert.equal(typeof JSON.parse(textOf(response)), 'object');
  });
});

describe('completions', () => {
  test('continue a text', async () => {
    const response = await completion({ grammar: exactly('alpha beta') });
    assert.equal(response.object, 'text_completion');
    assert.equal(response.choices[0].text, 'alpha beta');
    assert.equal(response.choices[0].finish_reason, 'stop');
    assert(response.usage.completion_tokens > 0);
  });

  test('stream the same', async () => {
    const chunks = await collect(await completion({ grammar: exactly('alpha beta'), stream: true }));
    assert.equal(deltas(chunks).join(''), 'alpha beta');
    assert.equal(chunks.at(-1).choices[0].finish_reason, 'stop');
  });

  test('carry the log probabilities of tokens as parallel lists', ours, async () => {
    const response = await completion({ max_tokens: 4, logprobs: 3 });
    const { text, logprobs: { tokens, token_logprobs, top_logprobs, text_offset } } = response.choices[0];
    assert.equal(tokens.length, response.usage.completion_tokens);
    assert(token_logprobs.length === tokens.length && top_logprobs.length === tokens.length && text_offset.length === tokens.length);
    assert.equal(text_offset[0], 0);
    tokens.forEach((token, i) => assert.equal(top_logprobs[i][token], token_logprobs[i]));
    if (!tokens.some((t) => t.startsWith('bytes:'))) assert(tokens.join('').startsWith(text));
  });

  test('echo the prompt when asked to', ours, async () => {
    const response = await completion({ prompt: 'Hello', echo: true, grammar: exactly(' there') });
    assert.equal(response.choices[0].text, 'Hello there');
  });
});

describe('where an answer ends', () => {
  for (const [what, stop, expected] of [
    ['a stop string', 'eta', 'alpha b'],
    ['the stop string that comes first', ['gamma', 'beta'], 'alpha '],
    ['a stop string across words', 'ta ga', 'alpha be'],
    ['no stop string at all', ['delta'], 'alpha beta gamma'],
  ]) {
    test(`at ${what}, streamed or not`, async () => {
      const fields = { grammar: exactly('alpha beta gamma'), stop };
      const whole = await chat(fields);
      assert.equal(textOf(whole), expected);
      assert.equal(whole.choices[0].finish_reason, 'stop');
      assert.equal(deltas(await collect(await chat({ ...fields, stream: true }))).join(''), expected);
    });
  }

  for (const name of ['max_tokens', 'max_completion_tokens']) {
    test(`at ${name}`, async () => {
      const response = await chat({ grammar: kLetters, [name]: 5 });
      assert.equal(response.choices[0].finish_reason, 'length');
      assert.equal(response.usage.completion_tokens, 5);
    });
  }
});

describe('sampling', () => {
  test('the same seed gives the same text, other seeds other texts', async () => {
    const draw = async (seed) => textOf(await chat({ grammar: kLetters, max_tokens: 24, temperature: 1.5, seed }));
    const drawn = [];
    for (const seed of [1, 2, 3, 1]) drawn.push(await draw(seed));
    assert.equal(drawn[0], drawn[3]);
    assert(new Set(drawn).size > 1, 'three seeds gave one text');
  });

  test('without a seed two answers differ', async () => {
    const drawn = [];
    for (let i = 0; i < 3; ++i) drawn.push(textOf(await chat({ grammar: kLetters, max_tokens: 24, temperature: 1.5 })));
    assert(new Set(drawn).size > 1, 'three draws gave one text');
  });

  test('log probabilities belong to the text', async () => {
    const response = await chat({ max_tokens: 6, logprobs: true, top_logprobs: 3 });
    const { content } = response.choices[0].logprobs;
    assert.equal(content.length, response.usage.completion_tokens);
    for (const { token, logprob, bytes, top_logprobs } of content) {
      assert(typeof token === 'string' && logprob <= 0);
      assert.equal(top_logprobs.length, 3);
      assert.equal(top_logprobs[0].logprob, logprob, 'greedy means the most probable one');
      assert.deepEqual(top_logprobs[0].bytes, bytes);
      assert(top_logprobs[0].logprob >= top_logprobs[1].logprob && top_logprobs[1].logprob >= top_logprobs[2].logprob);
    }
    const bytes = Buffer.from(content.flatMap((c) => c.bytes));
    assert(bytes.toString().startsWith(textOf(response)));
  });

  test('log probabilities come in streams too', async () => {
    const chunks = await collect(await chat({ max_tokens: 4, logprobs: true, stream: true }));
    const tokens = chunks.flatMap((c) => c.choices).flatMap((c) => c.logprobs?.content ?? []);
    const whole = await chat({ max_tokens: 4, logprobs: true });
    assert.deepEqual(tokens.map((t) => t.token), whole.choices[0].logprobs.content.map((t) => t.token));
  });
});

describe('several at once', () => {
  test('everyone gets their own answer', async () => {
    const texts = ['alpha', 'beta', 'gamma', 'delta', 'epsilon', 'zeta'].map((word) => `${word} ${word}`);
    const responses = await all(texts.map((text) => chat({ grammar: exactly(text) })));
    assert.deepEqual(responses.map(textOf), texts);
  });

  test('the answer is the one given alone', async () => {
    const ask = async (question) => textOf(await chat({ messages: user(question), max_tokens: 12 }));
    const questions = ['Who?', 'Where is Olsen?', 'What is in the crate?', 'Which ship carries it?'];
    const alone = [];
    for (const question of questions) alone.push(await ask(question));
    assert.deepEqual(await all(questions.map(ask)), alone);
  });

  test('a client that goes away gives its place back', async () => {
    for (let i = 0; i < 12; ++i) { // more than a server has places
      const controller = new AbortController();
      const stream = await chat({ grammar: kLetters, stream: true }, { signal: controller.signal });
      for await (const chunk of stream) {
        if (deltas([chunk])[0]) controller.abort();
      }
      assert(controller.signal.aborted, 'the stream ended before it could be left');
    }
    assert.equal(textOf(await chat({ grammar: exactly('still here') })), 'still here');
  });

  test('too many get 429, the others their answers', { skip: options.overload ? false : 'no --overload' }, async () => {
    const many = Array.from({ length: Number(options.overload) }, () => chat({ grammar: kLetters, max_tokens: 200 }));
    const results = await Promise.allSettled(many);
    const errors = results.filter((r) => r.status === 'rejected').map((r) => r.reason);
    assert(errors.length > 0 && errors.length < many.length, `${errors.length} of ${many.length} were refused`);
    for (const error of errors) {
      assert(error instanceof OpenAI.RateLimitError, String(error));
      assert.equal(error.code, 'overloaded');
      assert(Number(error.headers.get('retry-after')) >= 1);
    }
  });
});

describe('errors', () => {
  test('a wrong type is a BadRequestError', async () => {
    await refused(chat({ messages: 'Hello' }), OpenAI.BadRequestError);
  });

  test('it names the field', ours, async () => {
    for (const fields of [{ temperature: 'hot' }, { top_p: 2 }, { max_tokens: 0 }, { stop: [''] }, { n: 0 }, { x_celslm: { context: 'x' } }]) {
      const error = await refused(chat(fields), OpenAI.BadRequestError);
      assert.equal(error.code, 'invalid_request');
      assert(error.message.includes(Object.keys(fields)[0]), error.message);
    }
    const error = await refused(completion({ prompt: 7 }), OpenAI.BadRequestError);
    assert(error.message.includes('prompt'));
  });

  test('a prompt longer than the context is a BadRequestError', async () => {
    await refused(chat({ messages: user('far too long '.repeat(100_000)) }), OpenAI.BadRequestError);
  });

  test('a body that is no JSON is refused as such', ours, async () => {
    const response = await fetch(`${url}/v1/chat/completions`, { method: 'POST', body: '{"messages": [', headers: { authorization: `Bearer ${apiKey}` } });
    assert.equal(response.status, 400);
    assert.equal((await response.json()).error.code, 'invalid_request');
  });

  test('an unknown path is a NotFoundError', async () => {
    await refused(client.get('/nothing/here'), OpenAI.NotFoundError);
  });

  test('an unknown model is a NotFoundError', ours, async () => {
    assert.equal((await refused(chat({ model: 'no-such-model' }), OpenAI.NotFoundError)).code, 'model_not_found');
  });

  test('an unknown context is a NotFoundError', ours, async () => {
    const error = await refused(chat({ x_celslm: { context: '0'.repeat(64) } }), OpenAI.NotFoundError);
    assert.equal(error.code, 'unknown_context');
  });
});

describe('x_celslm', ours, () => {
  const text = `The manifest of ${Date.now()}. ${'Parcel Olsen is in crate Amber. '.repeat(20)}`;
  let handle;

  before(async () => {
    handle = (await client.post('/contexts', { body: { text, name: 'client test' } })).id;
    assert.match(handle, /^[0-9a-f]{64}$/);
  });

  function check(extension) {
    assert.equal(extension.context, handle);
    assert.match(extension.context_id, /^[0-9a-f]{64}$/);
    assert(extension.context_tokens > 0 && extension.layers.length > 0 && extension.bytes >= 0);
    for (const { provenance, source } of extension.layers) {
      assert(['native', 'proxy', 'mapped', 'fused'].includes(provenance), provenance);
      assert(['compute', 'memory', 'disk', 'peer', 'cloud'].includes(source), source);
    }
    for (const phase of ['queue', 'context', 'prefill', 'first_token', 'decode']) assert(extension.ms[phase] >= 0, phase);
  }

  test('a handle brings the context in, and the answer says where from', async () => {
    const response = await chat({ x_celslm: { context: handle }, max_tokens: 4 });
    check(response.x_celslm);
    assert(response.usage.prompt_tokens > response.x_celslm.context_tokens);
  });

  test('a system message that is the registered text means the same', async () => {
    const messages = [{ role: 'system', content: text }, ...user('Where is Olsen?')];
    const byText = await chat({ messages, max_tokens: 8 });
    const byHandle = await chat({ messages: user('Where is Olsen?'), x_celslm: { context: handle }, max_tokens: 8 });
    check(byText.x_celslm);
    assert.equal(textOf(byText), textOf(byHandle));
    assert.equal(byText.usage.prompt_tokens, byHandle.usage.prompt_tokens);
    assert(byHandle.usage.prompt_tokens_details.cached_tokens >= byHandle.x_celslm.context_tokens);
    assert(byHandle.x_celslm.layers.every((layer) => layer.source === 'memory'), 'the context was not resident by then');
  });

  test('it comes in the last chunk of a stream that has a reason', async () => {
    const chunks = await collect(await chat({ x_celslm: { context: handle }, max_tokens: 4, stream: true }));
    const carriers = chunks.filter((c) => c.x_celslm);
    assert.equal(carriers.length, 1);
    assert(carriers[0].choices[0].finish_reason);
    check(carriers[0].x_celslm);
  });

  test('a request without a context says so', async () => {
    assert.equal((await chat({ max_tokens: 1 })).x_celslm.context, null);
  });
});

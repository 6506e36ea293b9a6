// coap.mjs SETTINGS: does with the npm package coap what the settings name, and prints what came of each as a line of JSON: {name, error}.
// The package knows neither Echo nor Request-Tag, and sends all blocks of a body with one token.
import { createHash } from 'node:crypto';
import coap from 'coap';

const { url, token } = JSON.parse(process.argv[2]);
const port = Number(new URL(url).port);
const patience = 60_000;
const sha = (bytes) => createHash('sha256').update(bytes).digest('hex');

function body(length) {
  const bytes = Buffer.alloc(length);
  for (let i = 0; i < length; i++) bytes[i] = (i * 7 + (i >> 8) * 13) & 0xff;
  return bytes;
}

/** Sends a request from a socket of its own; gives the code and body of the answer, and its options. */
function ask(method, path, { payload, block1, credential, options = {}, ...more } = {}) {
  const agent = new coap.Agent({ type: 'udp4' });
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('no answer')), patience);
    const [pathname, query] = path.split('?');
    const request = coap.request({ hostname: '127.0.0.1', port, pathname, query, method, agent, ...more });
    if (block1 !== undefined) request.setOption('Block1', Buffer.of(block1));
    if (credential) request.setOption('65002', Buffer.from(credential));
    for (const [name, value] of Object.entries(options)) request.setOption(name, value);
    request.on('response', (response) => {
      const chunks = [];
      response.on('data', (chunk) => chunks.push(chunk));
      response.on('end', () => { clearTimeout(timer); resolve({ code: response.code, body: Buffer.concat(chunks), headers: response.headers }); });
    });
    request.on('error', reject);
    request.end(payload);
  });
}

function want(got, expected) {
  if (got !== expected) throw new Error(`${got}, not ${expected}`);
}

const steps = {
  'CON GET': async () => want(sha((await ask('GET', '/open/npm-small')).body), sha(body(20))),
  'NON GET': async () => want(sha((await ask('GET', '/open/npm-small', { confirmable: false })).body), sha(body(20))),
  'PUT, POST and DELETE': async () => {
    want((await ask('PUT', '/open/npm-own', { payload: body(50) })).code, '2.04');
    want((await ask('POST', '/open/npm-own', { payload: body(9) })).code, '2.01');
    want((await ask('DELETE', '/open/npm-own')).code, '2.02');
    want((await ask('GET', '/open/npm-own')).code, '4.04');
  },
  'a separate response': async () => want((await ask('GET', '/open/slow-npm')).code, '2.05'),
  'Accept': async () => {
    want((await ask('GET', '/open/json', { options: { Accept: 'application/cbor' } })).headers['Content-Format'], 'application/cbor');
    want((await ask('GET', '/open/json', { options: { Accept: 'text/plain' } })).code, '4.06');
  },
  'GET 64 KiB by a known device': async () => want(sha((await ask('GET', '/known/big64', { credential: token })).body), sha(body(64 << 10))),
  'GET 8 KiB by nobody known, in small blocks': async () => want(sha((await ask('GET', '/open/big8')).body), sha(body(8 << 10))),
  'PUT 64 KiB by a known device': async () => want((await ask('PUT', '/known/npm64', { credential: token, payload: body(64 << 10), block1: 6 })).code, '2.04'),
  'PUT 8 KiB by nobody known': async () => want((await ask('PUT', '/open/npm8', { payload: body(8 << 10), block1: 6 })).code, '2.04'),
  'observe without Echo': async () => {
    const agent = new coap.Agent({ type: 'udp4' });
    const request = coap.request({ hostname: '127.0.0.1', port, pathname: '/news/npm', method: 'GET', observe: true, agent });
    const seen = await new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error('was not notified')), patience);
      request.on('error', reject);
      request.on('response', (response) => {
        let last = '';
        const publish = setInterval(() => ask('POST', '/news/npm', { credential: token, payload: Buffer.from('{"n":4711}'), options: { 'Content-Format': 'application/json' } }), 200);
        response.on('data', (chunk) => {
          last = chunk.toString();
          if (last.includes('4711')) { clearTimeout(timer); clearInterval(publish); response.close(); resolve(last); }
        });
      });
      request.end();
    });
    want(seen, '{"n":4711}');
  },
};

await Promise.all(Object.entries(steps).map(async ([name, step]) => {
  let error = '';
  try { await step(); } catch (failure) { error = String(failure.stack ?? failure); }
  console.log(JSON.stringify({ name, error }));
}));
process.exit(0);

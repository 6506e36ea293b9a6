// coap_device.mjs SETTINGS: a device of the npm package coap, which registers with the gateway that the settings name and then answers
// what it is asked, until its standard input ends. It prints "registered" with the code of the answer.
import coap from 'coap';

const { host, port, token } = JSON.parse(process.argv[2]);
const server = coap.createServer({ type: 'udp4' }, (request, response) => {
  response.setOption('Content-Format', 'text/plain');
  const body = request.payload.length ? ` ${request.payload}` : '';
  response.end(request.url === '/large' ? '0123456789'.repeat(800) : `${request.method} ${request.url}${body}`);
});
server.listen(0, '127.0.0.1', () => {
  const base = `coap://127.0.0.1:${server._sock.address().port}`;
  const request = coap.request({ hostname: host, port, pathname: '/rd', query: `lt=300&base=${base}`, method: 'POST', agent: new coap.Agent({ type: 'udp4' }) });
  request.setOption('65002', Buffer.from(token));
  request.setOption('Content-Format', 'application/link-format');
  request.on('response', (response) => console.log(`registered ${response.code}`));
  request.end('</temperature>;rt="temperature"');
});
process.stdin.on('end', () => process.exit()).resume();

// A service for pump.openapi.yaml: node service.mjs PORT NAME. It counts its calls, so that one sees which never reached it.
import { createServer } from 'node:http'

const [port, name] = process.argv.slice(2)
let calls = 0

createServer((request, response) => {
  calls++
  let content = ''
  request.on('data', (piece) => { content += piece })
  request.on('end', () => {
    const { pathname } = new URL(request.url, 'http://service')
    response.setHeader('Content-Type', 'application/json')
    if (pathname.startsWith('/drugs/')) {
      response.setHeader('ETag', '"drugs-1"')
      response.end(JSON.stringify([{ name: 'saline', maxRate: 999 }]))
    } else if (pathname.endsWith('/doses')) {
      response.statusCode = 201
      response.end(JSON.stringify({ dose: calls, ...JSON.parse(content) }))
    } else {
      response.setHeader('X-Batch', 'b-17')
      response.end(JSON.stringify({ service: name, calls, rate: 12.5, unit: request.headers['x-unit'] }))
    }
  })
}).listen(Number(port), '127.0.0.1')

// A hub of ASP.NET Core SignalR, as far as its documents go: negotiation (TransportProtocols.md), and the hub protocol in
// JSON (HubProtocol.md). As there, an id is known to the process that gave it, and to no other.
'use strict'

const { randomUUID } = require('node:crypto')
const { createServer } = require('node:http')
const { WebSocketServer } = require('ws')

/** The end of a message. */
const END = '\x1e'
const INVOCATION = 1, ITEM = 2, COMPLETION = 3, STREAM = 4, PING = 6

const methods = {
  Echo: (text) => `${text} from ${process.pid}`,
  Fail: () => { throw new Error('it failed, as asked') },
  *Count(to) { for (let number = 1; number <= to; number++) yield number },
}
const ids = new Set()
const hub = new WebSocketServer({ noServer: true })

const server = createServer((request, response) => {
  const url = new URL(request.url, 'http://hub')
  if (request.method !== 'POST' || url.pathname !== '/hubs/chat/negotiate') return response.writeHead(404).end()
  const connectionToken = randomUUID()
  ids.add(connectionToken)
  const availableTransports = [{ transport: 'WebSockets', transferFormats: ['Text', 'Binary'] }]
  request.resume().on('end', () => {
    response.writeHead(200, { 'content-type': 'application/json' })
    response.end(JSON.stringify({ negotiateVersion: 1, connectionId: randomUUID(), connectionToken, availableTransports }))
  })
})

server.on('upgrade', (request, socket, head) => {
  const id = new URL(request.url, 'http://hub').searchParams.get('id')
  if (ids.delete(id)) hub.handleUpgrade(request, socket, head, serve)
  else socket.end('HTTP/1.1 404 Not Found\r\nContent-Length: 27\r\n\r\nNo Connection with that ID.')
})

function serve(socket) {
  const send = (message) => socket.send(JSON.stringify(message) + END)
  let greeted = false
  socket.on('message', (data) => {
    for (const text of data.toString().split(END).slice(0, -1)) {
      const message = JSON.parse(text)
      if (!greeted) {
        greeted = message.protocol === 'json' && message.version === 1
        send(greeted ? {} : { error: 'json, version 1, is what is spoken here' })
        send({ type: INVOCATION, target: 'welcome', arguments: [process.pid] })
      } else answer(message, send)
    }
  })
}

function answer({ type, invocationId, target, arguments: values }, send) {
  if (type === PING) return send({ type: PING })
  if (type !== INVOCATION && type !== STREAM) return
  try {
    const result = methods[target](...values)
    if (type === STREAM) for (const item of result) send({ type: ITEM, invocationId, item })
    send({ type: COMPLETION, invocationId, ...(type === INVOCATION && { result }) })
  } catch (error) {
    send({ type: COMPLETION, invocationId, error: error.message })
  }
}
require('./listen')(server)

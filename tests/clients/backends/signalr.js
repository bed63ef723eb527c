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
/** By connectionToken: how each takes what its client sends, once a transport is open. */
const connections = new Map()
const hub = new WebSocketServer({ noServer: true })
const formats = { WebSockets: ['Text', 'Binary'], ServerSentEvents: ['Text'], LongPolling: ['Text', 'Binary'] }

const server = createServer(async (request, response) => {
  const end = (status, body = '') => response.writeHead(status, { 'content-length': Buffer.byteLength(body) }).end(body)
  const url = new URL(request.url, 'http://hub')
  let body = ''
  for await (const part of request) body += part
  if (request.method === 'POST' && url.pathname === '/hubs/chat/negotiate') {
    const connectionToken = randomUUID()
    connections.set(connectionToken, {})
    const availableTransports = Object.entries(formats).map(([transport, transferFormats]) => ({ transport, transferFormats }))
    return end(200, JSON.stringify({ negotiateVersion: 1, connectionId: randomUUID(), connectionToken, availableTransports }))
  }
  const id = url.searchParams.get('id')
  const connection = connections.get(id)
  if (!connection || url.pathname !== '/hubs/chat') return end(404, 'No Connection with that ID.')
  if (request.method === 'POST') {
    connection.receive(body)
    return end(200)
  }
  if (request.method === 'DELETE') {
    connections.delete(id)
    connection.waiting?.(204)
    return end(202)
  }
  if (request.headers.accept?.includes('text/event-stream')) {
    response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders()
    connection.receive = receiver((text) => response.write(`data: ${text}\r\n\r\n`))
    return
  }
  // Long polling: the first poll opens the connection, each other one waits for something to be told.
  if (!connection.receive) {
    let queue = ''
    connection.flush = () => {
      if (!queue || !connection.waiting) return
      const text = queue
      queue = ''
      connection.waiting(200, text)
    }
    connection.receive = receiver((text) => {
      queue += text
      connection.flush()
    })
    return end(200)
  }
  connection.waiting = (status, text) => {
    connection.waiting = undefined
    end(status, text)
  }
  connection.flush()
})

server.on('upgrade', (request, socket, head) => {
  const connection = connections.get(new URL(request.url, 'http://hub').searchParams.get('id'))
  if (!connection) return socket.end('HTTP/1.1 404 Not Found\r\nContent-Length: 27\r\n\r\nNo Connection with that ID.')
  hub.handleUpgrade(request, socket, head, (socket) => {
    connection.receive = receiver((text) => socket.send(text))
    socket.on('message', (data) => connection.receive(data.toString()))
  })
})

/** What takes a client's bytes, and has an answer sent for each message. */
function receiver(write) {
  const send = (message) => write(JSON.stringify(message) + END)
  let greeted = false
  return (data) => {
    for (const text of data.split(END).slice(0, -1)) {
      const message = JSON.parse(text)
      if (!greeted) {
        greeted = message.protocol === 'json' && message.version === 1
        send(greeted ? {} : { error: 'json, version 1, is what is spoken here' })
        send({ type: INVOCATION, target: 'welcome', arguments: [process.pid] })
      } else answer(message, send)
    }
  }
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

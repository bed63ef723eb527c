// Microsoft's SignalR client: negotiate by POST, then the WebSocket with the id, at the pod that gave it; and what it falls back
// to on networks that let no WebSocket through.
'use strict'

const assert = require('node:assert/strict')
const { randomUUID } = require('node:crypto')
const { before, test } = require('node:test')
const signalr = require('@microsoft/signalr')
const { backend, check, gateway, recipe, toEach, until, within } = require('./support')

const text = recipe('SignalR')
let pods, tidegate

before(async () => {
  pods = await Promise.all([backend('signalr'), backend('signalr')])
  tidegate = await gateway(text, { chat: pods.map(({ port }) => port) })
})

/** An open connection, with the process that it leads to. */
async function connect(options = {}) {
  const connection = new signalr.HubConnectionBuilder()
    .withUrl(`${tidegate.https}/hubs/chat?pod=${randomUUID()}`, options)
    .withAutomaticReconnect([0, 20, 20, 100, 100, 500])
    .configureLogging(signalr.LogLevel.None)
    .build()
  const welcome = new Promise((resolve) => connection.on('welcome', (pid) => {
    connection.pid = pid
    resolve()
  }))
  await within('start', connection.start())
  await within('welcome', welcome)
  return connection
}

/** All items of a stream. */
function items(stream) {
  const all = []
  return within('the stream', new Promise((resolve, reject) => stream.subscribe({
    next: (item) => all.push(item),
    complete: () => resolve(all),
    error: reject,
  })))
}

test('the recipe passes tidegate check', async () => {
  const { code, said } = await check(text)
  assert.equal(code, 0, said)
})

/** Clients at both pods; each invokes and streams. How many there were. */
async function converse(options) {
  const connections = await toEach(pods, () => connect(options))
  for (const connection of connections) {
    const answer = await within('invoke', connection.invoke('Echo', 'high water'))
    assert.equal(answer, `high water from ${connection.pid}`)
    assert.deepEqual(await items(connection.stream('Count', 5)), [1, 2, 3, 4, 5])
    await assert.rejects(connection.invoke('Fail'), /it failed, as asked/)
    await within('stop', connection.stop())
  }
  return connections.length
}

test('clients negotiate, connect, invoke and stream', async () => {
  const clients = await converse()
  const forwarded = /^tidegate_http_requests_total\{[^}]*\} (\d+)$/m.exec(await tidegate.metrics())
  assert.equal(Number(forwarded?.[1]), clients, 'each client negotiates, and the rest is a WebSocket')
})

for (const fallback of ['ServerSentEvents', 'LongPolling']) {
  test(`without WebSockets the same goes by ${fallback}`, async () => {
    await converse({ transport: signalr.HttpTransportType[fallback] })
  })
}

// The last one: it takes a pod away.
test('when a pod dies its clients connect again, and reach the other', async () => {
  const [dead, alive] = pods
  const all = await toEach(pods, () => connect())
  await dead.end()
  await Promise.all(all.map((connection) => until('the other pod', () => connection.pid === alive.pid)))
  for (const connection of all) {
    assert.equal(await within('invoke', connection.invoke('Echo', 'back')), `back from ${alive.pid}`)
    await connection.stop()
  }
})

// Socket.IO's client and server, two processes of it: from long polling to the upgrade, and without.
'use strict'

const assert = require('node:assert/strict')
const https = require('node:https')
const { randomUUID } = require('node:crypto')
const { before, test } = require('node:test')
const { io } = require('socket.io-client')
const { backend, check, event, gateway, recipe, toEach, until, within } = require('./support')

const text = recipe('Socket.IO with several pods')
let pods, tidegate

before(async () => {
  pods = await Promise.all([backend('socketio'), backend('socketio')])
  tidegate = await gateway(text, { play: pods.map(({ port }) => port) })
})

/** A client with a connection of its own, and what it notices. */
function connect(options) {
  const socket = io((options.to ?? tidegate).https, {
    forceNew: true,
    reconnection: false,
    reconnectionDelay: 20,
    ...options,
  })
  const began = transport(socket)
  const failed = new Promise((_, reject) => socket.once('connect_error', reject))
  failed.catch(() => {})
  const welcome = new Promise((resolve) => socket.once('welcome', resolve))
  return within('connect', Promise.race([welcome, failed])).then((pid) => Object.assign(socket, { began, pid }))
}

const ask = (socket, question) => within('an answer', socket.timeout(20_000).emitWithAck('ask', question))
const transport = (socket) => socket.io.engine.transport.name
const upgraded = (socket) => until('the upgrade', () => transport(socket) === 'websocket')
const keyed = (options) => toEach(pods, () => connect({ query: { pod: randomUUID() }, ...options }))

test('the recipe passes tidegate check', async () => {
  const { code, said } = await check(text)
  assert.equal(code, 0, said)
})

test('clients begin with long polling, upgrade, and stay with their pod', async () => {
  const sockets = await keyed()
  for (const socket of sockets) {
    assert.equal(socket.began, 'polling')
    await upgraded(socket)
    const answer = await ask(socket, 'where?')
    assert.deepEqual(answer, { question: 'where?', pid: socket.pid, transport: 'websocket' })
  }
  // From the server too, to all clients of one process.
  const [teller] = sockets
  const hearers = sockets.filter(({ pid }) => pid === teller.pid)
  const news = Promise.all(hearers.map((socket) => event(socket, 'news')))
  teller.emit('tell', 'high water')
  assert.deepEqual(await news, hearers.map(() => ['high water']))
  sockets.forEach((socket) => socket.disconnect())
})

test('clients that only poll are served, each by one pod', async () => {
  const sockets = await keyed({ transports: ['polling'] })
  for (const socket of sockets) {
    for (const question of ['one', 'two', 'three']) {
      assert.deepEqual(await ask(socket, question), { question, pid: socket.pid, transport: 'polling' })
    }
    assert.equal(transport(socket), 'polling')
  }
  const [teller] = sockets
  const news = event(teller, 'news')
  teller.emit('tell', 'low water')
  assert.deepEqual(await news, ['low water'])
  sockets.forEach((socket) => socket.disconnect())
})

test('without long polling no key is needed', async () => {
  const sockets = await toEach(pods, () => connect({ transports: ['websocket'] }))
  for (const socket of sockets) assert.equal((await ask(socket, 'where?')).pid, socket.pid)
  sockets.forEach((socket) => socket.disconnect())
})

test('a key that clients send as a cookie, or their address, does as well', async () => {
  const hash = 'hashOn: {source: QueryParam, name: pod}'
  assert.ok(text.includes(hash))
  const ports = { play: pods.map(({ port }) => port) }
  const cookie = await gateway(text.replace(hash, 'hashOn: {source: Cookie, name: session}'), ports)
  const address = await gateway(text.replace(hash, 'hashOn: {source: ClientIP}'), ports)
  for (const [to, options] of [
    [cookie, (number) => ({ extraHeaders: { cookie: `session=visitor-${number}` } })],
    [address, (number) => ({ agent: new https.Agent({ localAddress: `127.0.1.${number + 1}` }) })],
  ]) {
    const polling = await toEach(pods, (number) => connect({ to, ...options(number), transports: ['polling'] }))
    for (const socket of polling) assert.equal((await ask(socket, 'where?')).pid, socket.pid)
    const upgrading = await connect({ to, ...options(0) })
    await upgraded(upgrading)
    for (const socket of [...polling, upgrading]) socket.disconnect()
  }
  await Promise.all([cookie.end(), address.end()])
})

test('with one pod after the other, long polling fails: this is why the recipe has a key', async () => {
  const policy = text.replace(/loadBalancing:[^]*?backendRefs/, 'loadBalancing: {policy: RoundRobin, slowStart: 0s}\n    backendRefs')
  const uneven = await gateway(policy, { play: pods.map(({ port }) => port) })
  const socket = io(uneven.https, { forceNew: true, reconnection: false, transports: ['polling'] })
  const outcome = new Promise((resolve) => {
    socket.once('connect_error', resolve)
    socket.once('disconnect', resolve)
    socket.once('connect', () => ask(socket, 'where?').then(() => resolve('an answer')))
  })
  assert.notEqual(String(await within('an outcome', outcome)), 'an answer')
  socket.disconnect()
  await uneven.end()
})

// The last one: it takes a pod away.
test('when a pod dies its clients connect again, and reach the other', async () => {
  const [dead, alive] = pods
  const all = await keyed({ reconnection: true })
  const sockets = all.filter(({ pid }) => pid === dead.pid)
  await Promise.all(all.map(upgraded))
  const welcomes = Promise.all(sockets.map((socket) => event(socket, 'welcome')))
  await dead.end()
  assert.deepEqual(await welcomes, sockets.map(() => [alive.pid]))
  for (const socket of all) assert.equal((await ask(socket, 'where?')).pid, alive.pid)
  all.forEach((socket) => socket.disconnect())
})

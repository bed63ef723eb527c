// graphql-ws and MQTT.js at one hostname, path and port: the subprotocol decides.
'use strict'

const assert = require('node:assert/strict')
const { before, test } = require('node:test')
const { createClient } = require('graphql-ws')
const mqtt = require('mqtt')
const WebSocket = require('ws')
const { backend, check, event, gateway, recipe, until, within } = require('./support')

const text = recipe('GraphQL and MQTT at one address')
let subscriptions, broker, tidegate, url

before(async () => {
  [subscriptions, broker] = await Promise.all([backend('graphql'), backend('mqtt')])
  tidegate = await gateway(text, { subscriptions: [subscriptions.port], broker: [broker.port] })
  url = `${tidegate.wss}/realtime`
})

/** A client of graphql-ws that connects again at once. */
function graphql(options) {
  return createClient({ url, webSocketImpl: WebSocket, retryWait: async () => {}, retryAttempts: 100, ...options })
}

/** What a subscription hears next. */
const next = (heard) => within('the next text', heard.next()).then(({ value }) => value.data.heard)

/** The answer to an upgrade that is not granted. */
async function refused(address, subprotocols) {
  const socket = new WebSocket(address, subprotocols)
  const [, response] = await event(socket, 'unexpected-response')
  let body = ''
  for await (const part of response) body += part
  return { status: response.statusCode, reason: response.headers['tidegate-reason'], body }
}

test('the recipe passes tidegate check', async () => {
  const { code, said } = await check(text)
  assert.equal(code, 0, said)
})

test('graphql-ws: a subscription hears what another client says', async () => {
  const [ear, mouth] = [graphql(), graphql()]
  const heard = ear.iterate({ query: 'subscription { heard }' })
  assert.equal(await next(heard), `listening at ${subscriptions.pid}`)
  for (const said of ['high water', 'low water']) {
    const query = `mutation { say(text: ${JSON.stringify(said)}) }`
    const { value } = await within('the mutation', mouth.iterate({ query }).next())
    assert.deepEqual(value.data, { say: true })
    assert.equal(await next(heard), said)
  }
  await Promise.all([ear.dispose(), mouth.dispose()])
})

for (const [version, options] of Object.entries({
  '3.1.1': {},
  3.1: { protocolId: 'MQIsdp', protocolVersion: 3 },
})) {
  test(`MQTT ${version}: a subscriber gets what is published, and what was retained`, async () => {
    const topic = `tide/${version}`
    const publisher = await within('connect', mqtt.connectAsync(url, options))
    await within('publish', publisher.publishAsync(topic, 'high', { qos: 1, retain: true }))
    const subscriber = await within('connect', mqtt.connectAsync(url, options))
    const retained = event(subscriber, 'message')
    await within('subscribe', subscriber.subscribeAsync(topic, { qos: 1 }))
    assert.deepEqual((await retained).slice(0, 2).map(String), [topic, 'high'])
    const fresh = event(subscriber, 'message')
    await within('publish', publisher.publishAsync(topic, 'low', { qos: 1 }))
    assert.deepEqual((await fresh).slice(0, 2).map(String), [topic, 'low'])
    await Promise.all([publisher.endAsync(), subscriber.endAsync()])
  })
}

test('a client that offers no subprotocol, or another one, is told which are served here', async () => {
  const served = 'graphql-transport-ws, mqtt, mqttv3.1'
  for (const [offer, said] of [[undefined, 'offers none.'], ['graphql-ws', 'offers others.']]) {
    const { status, reason, body } = await refused(url, offer)
    assert.equal(status, 404)
    assert.equal(reason, 'no_route')
    assert.ok(body.includes(served) && body.includes('Sec-WebSocket-Protocol') && body.includes(said), body)
  }
  const { body } = await refused(`${tidegate.wss}/elsewhere`, 'mqtt')
  assert.ok(!body.includes('subprotocol'), body)
})

// The last one: it takes both backends away.
test('when a pod dies both libraries are told 1012, connect again and subscribe anew', async () => {
  const closed = []
  const ear = graphql({ on: { closed: ({ code }) => closed.push(code) } })
  const heard = ear.iterate({ query: 'subscription { heard }' })
  assert.equal(await next(heard), `listening at ${subscriptions.pid}`)
  const createWebsocket = (address, subprotocols, options) => {
    const socket = new WebSocket(address, subprotocols, options.wsOptions)
    socket.once('close', (code) => closed.push(code))
    return socket
  }
  const device = await within('connect', mqtt.connectAsync(url, { reconnectPeriod: 20, createWebsocket }))
  await within('subscribe', device.subscribeAsync('tide', { qos: 1 }))

  const fresh = await Promise.all([backend('graphql'), backend('mqtt')])
  tidegate.endpoints({ subscriptions: [fresh[0].port], broker: [fresh[1].port] })
  await until('the new endpoints', async () => {
    const table = await tidegate.table()
    return fresh.every(({ port }) => table.includes(`:${port}`)) && !table.includes(`:${broker.port}"`)
  })
  const again = event(device, 'connect')
  await Promise.all([subscriptions.end(), broker.end()])

  assert.equal(await next(heard), `listening at ${fresh[0].pid}`)
  await again
  assert.deepEqual(closed, [1012, 1012])
  const publisher = await within('connect', mqtt.connectAsync(url))
  const message = event(device, 'message')
  await until('the subscription made anew', async () => {
    await publisher.publishAsync('tide', 'high', { qos: 1 })
    return Promise.race([message, false])
  })
  await Promise.all([ear.dispose(), device.endAsync(), publisher.endAsync()])
})

// permessage-deflate between a real client and a real server.
'use strict'

const assert = require('node:assert/strict')
const { before, test } = require('node:test')
const WebSocket = require('ws')
const { backend, event, gateway, recipe } = require('./support')

// Any recipe that takes a client without a subprotocol.
const text = recipe('Socket.IO with several pods')
let tidegate

before(async () => {
  const echo = await backend('echo')
  tidegate = await gateway(text, { play: [echo.port] })
})

for (const perMessageDeflate of [{ threshold: 0 }, false]) {
  test(`messages come back whole, ${perMessageDeflate ? '' : 'not '}compressed`, async () => {
    const socket = new WebSocket(`${tidegate.wss}/socket.io/`, { perMessageDeflate })
    await event(socket, 'open')
    assert.equal(socket.extensions, perMessageDeflate ? 'permessage-deflate' : '')
    for (const message of ['', 'tide', 'high water '.repeat(100_000)]) {
      const echo = event(socket, 'message')
      socket.send(message)
      assert.equal(String((await echo)[0]), message)
    }
    const echo = event(socket, 'message')
    socket.send(Buffer.alloc(300_000, 7), { binary: true })
    const [data, isBinary] = await echo
    assert.ok(isBinary && data.equals(Buffer.alloc(300_000, 7)))
    const closed = event(socket, 'close')
    socket.close(4321, 'enough')
    assert.equal((await closed)[0], 4321)
  })
}

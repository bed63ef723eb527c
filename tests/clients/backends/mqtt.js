// An MQTT broker behind WebSockets.
'use strict'

const { createServer } = require('node:http')
const aedes = require('aedes')()
const { WebSocketServer, createWebSocketStream } = require('ws')

const server = createServer()
const handleProtocols = (offered) => ['mqtt', 'mqttv3.1'].find((known) => offered.has(known)) ?? false
new WebSocketServer({ server, handleProtocols }).on('connection', (socket, request) => {
  const stream = createWebSocketStream(socket)
  stream.on('error', () => stream.destroy())
  aedes.handle(stream, request)
})
require('./listen')(server)

// Sends back what comes, compressed.
'use strict'

const { createServer } = require('node:http')
const { WebSocketServer } = require('ws')

const server = createServer()
new WebSocketServer({ server, perMessageDeflate: { threshold: 0 } }).on('connection', (socket) => {
  socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }))
})
require('./listen')(server)

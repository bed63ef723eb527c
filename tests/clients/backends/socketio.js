// A Socket.IO server that says which process it is.
'use strict'

const { createServer } = require('node:http')
const { Server } = require('socket.io')

const server = createServer()
const io = new Server(server)
io.on('connection', (socket) => {
  socket.emit('welcome', process.pid)
  socket.on('ask', (question, answer) => answer({ question, pid: process.pid, transport: socket.conn.transport.name }))
  socket.on('tell', (news) => io.emit('news', news))
})
require('./listen')(server)

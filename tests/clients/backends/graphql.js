// GraphQL subscriptions: what one client says all hear.
'use strict'

const { EventEmitter, on } = require('node:events')
const { createServer } = require('node:http')
const { buildSchema } = require('graphql')
const { useServer } = require('graphql-ws/use/ws')
const { WebSocketServer } = require('ws')

const said = new EventEmitter().setMaxListeners(0)
const schema = buildSchema(`
  type Query { pid: Int! }
  type Mutation { say(text: String!): Boolean! }
  type Subscription { heard: String! }
`)
const roots = {
  query: { pid: process.pid },
  mutation: { say: ({ text }) => said.emit('text', text) },
  subscription: {
    async *heard() {
      const texts = on(said, 'text')
      yield { heard: `listening at ${process.pid}` }
      for await (const [text] of texts) yield { heard: text }
    },
  },
}
const server = createServer()
useServer({ schema, roots }, new WebSocketServer({ server }))
require('./listen')(server)

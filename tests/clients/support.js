// What the tests share: the routes of docs/recipes.md, a gateway that serves them over TLS, backends as processes.
'use strict'

const { spawn } = require('node:child_process')
const dns = require('node:dns')
const fs = require('node:fs')
const path = require('node:path')
const { after } = require('node:test')
const YAML = require('yaml')

/** How long anything may take, ms. */
const DEADLINE = 20_000
const ADDRESS = '127.0.0.1'
const ROOT = path.join(__dirname, '../..')

/** What `run` sets: the program, and a folder with ca.pem, cert.pem, key.pem that is ours alone. */
const { TIDEGATE_BIN, CLIENTS_WORK } = process.env

// The hostnames of the recipes lead here, for every library that asks for them.
const lookup = dns.lookup
dns.lookup = (hostname, options, callback = options) => {
  if (!hostname.endsWith('.example.com')) return lookup(hostname, options, callback)
  if (options.all) process.nextTick(callback, null, [{ address: ADDRESS, family: 4 }])
  else process.nextTick(callback, null, ADDRESS, 4)
}

const children = new Set()
process.on('exit', () => children.forEach((child) => child.kill('SIGKILL')))

/** The promise's value, or an error that names what did not come in time. */
function within(what, promise) {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${DEADLINE} ms`)), DEADLINE)
    // What nobody waits for any more holds up no end.
    timer.unref()
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

/** Asks until the answer is true, and returns it. */
async function until(what, ask) {
  const end = Date.now() + DEADLINE
  for (;;) {
    const answer = await ask()
    if (answer) return answer
    if (Date.now() > end) throw new Error(`${what}: not within ${DEADLINE} ms`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

/**
 * Connections to every one of the pods: a dozen, and more where chance has led all of these to one. `connect` is called with
 * numbers, and what it resolves to says by `pid` which pod it is.
 */
async function toEach(pods, connect) {
  const connections = await Promise.all(Array.from({ length: 12 }, (_, number) => connect(number)))
  const reached = () => new Set(connections.map(({ pid }) => pid))
  while (reached().size < pods.length) {
    if (connections.length === 100) throw new Error(`100 connections have all gone to ${[...reached()]}`)
    connections.push(await connect(connections.length))
  }
  return connections
}

/** The first event of an emitter, as the list of its arguments. */
function event(emitter, name) {
  return within(`event ${name}`, new Promise((resolve) => emitter.once(name, (...all) => resolve(all))))
}

/** Starts a program; it has said `wanted` (a RegExp) when the promise resolves, with the match. */
function start(command, args, wanted) {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] })
  children.add(child)
  child.said = ''
  child.logged = ''
  child.ended = new Promise((resolve) => child.once('exit', (...how) => resolve(how)))
  child.ended.then(() => children.delete(child))
  child.end = (signal = 'SIGKILL') => (child.kill(signal), child.ended)
  child.stderr.on('data', (data) => (child.logged += data))
  const ready = new Promise((resolve, reject) => {
    child.stdout.on('data', (data) => {
      child.said += data
      const match = wanted.exec(child.said)
      if (match) resolve(Object.assign(child, { match }))
    })
    child.once('error', reject)
    child.ended.then((how) => reject(new Error(`${command} ended: ${how}\n${child.said}${child.logged}`)))
  })
  return within(`start of ${command} ${args.join(' ')}`, ready)
}

/** A backend of the folder backends/; `port` is where it listens. */
async function backend(name) {
  const child = await start(process.execPath, [path.join(__dirname, 'backends', `${name}.js`)], /^port (\d+)$/m)
  return Object.assign(child, { port: Number(child.match[1]) })
}

/** The manifests under a heading of docs/recipes.md, as text. */
function recipe(heading) {
  const page = fs.readFileSync(path.join(ROOT, 'docs/recipes.md'), 'utf8')
  const section = page.split('\n## ').find((part) => part.startsWith(`${heading}\n`))
  if (!section) throw new Error(`docs/recipes.md has no section ${heading}`)
  return /```yaml\n([^]*?)```/.exec(section)[1]
}

/** A gateway with the manifests `text`; its Services lead to the ports of `backends`, by Service. */
async function gateway(text, backends) {
  const folder = fs.mkdtempSync(path.join(CLIENTS_WORK, 'source-'))
  const objects = YAML.parseAllDocuments(text).map((document) => document.toJS())
  const services = objects.filter((object) => object.kind === 'Service')
  const routes = objects.filter((object) => object.kind === 'WebSocketRoute')
  const write = (name, list) => {
    const file = path.join(folder, name)
    fs.writeFileSync(`${file}.partial`, list.map((object) => YAML.stringify(object)).join('---\n'))
    fs.renameSync(`${file}.partial`, file)
  }
  const endpoints = (ports) => {
    write('endpoints.yaml', services.flatMap(({ metadata, spec }) => ports[metadata.name].map((port) => ({
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: {
        ...metadata,
        name: `${metadata.name}-${port}`,
        labels: { 'kubernetes.io/service-name': metadata.name },
      },
      addressType: 'IPv4',
      ports: [{ name: spec.ports[0].name, port }],
      endpoints: [{ addresses: [ADDRESS] }],
    }))))
  }
  const pem = (name) => fs.readFileSync(path.join(CLIENTS_WORK, name)).toString('base64')
  write('secrets.yaml', routes.map(({ metadata, spec }) => ({
    apiVersion: 'v1',
    kind: 'Secret',
    type: 'kubernetes.io/tls',
    metadata: { ...metadata, name: spec.tls.secretName },
    data: { 'tls.crt': pem('cert.pem'), 'tls.key': pem('key.pem') },
  })))
  // As it stands in the docs, not as a parser of ours wrote it again.
  fs.writeFileSync(path.join(folder, 'recipe.yaml'), text)
  endpoints(backends)
  const listen = ['--https-listen', `${ADDRESS}:0`, '--http-listen', 'off', '--admin-listen', `${ADDRESS}:0`]
  const drain = ['--drain-delay', '0s', '--drain-spread', '0s', '--drain-timeout', '5s']
  const child = await start(TIDEGATE_BIN, ['serve', '--debug-endpoints', '--source', folder, ...listen, ...drain], /^ready$/m)
  const port = Number(/^https .*:(\d+)$/m.exec(child.said)[1])
  const admin = `http://${ADDRESS}:${/^admin .*:(\d+)$/m.exec(child.said)[1]}`
  const host = routes[0].spec.hostnames[0]
  return Object.assign(child, {
    endpoints,
    wss: `wss://${host}:${port}`,
    https: `https://${host}:${port}`,
    table: async () => (await fetch(`${admin}/debug/table`)).text(),
    metrics: async () => (await fetch(`${admin}/metrics`)).text(),
  })
}

/** What `tidegate check` says of manifests. */
function check(text) {
  return new Promise((resolve) => {
    const child = spawn(TIDEGATE_BIN, ['check', '-'])
    let said = ''
    child.stdout.on('data', (data) => (said += data))
    child.stderr.on('data', (data) => (said += data))
    child.once('exit', (code) => resolve({ code, said }))
    child.stdin.end(text)
  })
}

/** Ends all children when the file's tests are done, whatever came of them. */
after(async () => {
  for (const child of [...children]) await child.end()
})

module.exports = { ADDRESS, backend, check, event, gateway, recipe, toEach, until, within }

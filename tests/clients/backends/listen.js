// Listens on a port that the system chooses, says which one, and ends with the process that started it.
'use strict'

module.exports = (server) => {
  server.listen(0, '127.0.0.1', () => console.log(`port ${server.address().port}`))
  process.stdin.on('end', () => process.exit()).resume()
}

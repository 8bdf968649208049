// Brings what is published in Redis to peers that want it in another form: to Socket.IO through the
// emitter of its Redis adapter, to nchan by HTTP. Runs beside the publisher, not on the peer's core.
//
//   node bridge.mjs socketio REDIS-URL PREFIX CHANNELS
//   node bridge.mjs nchan    REDIS-URL PREFIX CHANNELS PORT
//
// Prints `ready` when it hears the channels, quote:B000000 and on.
import { connect } from 'node:net'
import { Emitter } from '@socket.io/redis-emitter'
import Redis from 'ioredis'

const CONNECTIONS = 8 // to nchan; a channel keeps to one, so that its order is kept
const [kind, redisUrl, prefix, count, port] = process.argv.slice(2)
const redis = new Redis(redisUrl)

function toSocketIo () {
  const emitter = new Emitter(new Redis(redisUrl))
  // As an object: what Socket.IO's users emit, and a string would be escaped once more.
  return (channel, message) => emitter.to(channel).emit('quote', JSON.parse(message))
}

function toNchan () {
  const connections = Array.from({ length: CONNECTIONS }, () => {
    const socket = connect(Number(port), '127.0.0.1')
    socket.setNoDelay(true)
    socket.resume() // the answers say nothing that a loss would not
    return socket
  })
  return (channel, message) => {
    const place = Number(channel.slice(-6)) % CONNECTIONS
    connections[place].write(`POST /pub?id=${channel} HTTP/1.1\r\nHost: localhost\r\n` +
      `Content-Length: ${Buffer.byteLength(message)}\r\n\r\n${message}`)
  }
}

const kinds = { socketio: toSocketIo, nchan: toNchan }
const forward = kinds[kind]()
redis.on('message', (name, message) => forward(name.slice(prefix.length), message))

const names = Array.from({ length: Number(count) },
  (_, i) => `${prefix}quote:B${String(i).padStart(6, '0')}`)
await redis.subscribe(...names)
console.log('ready')
process.on('SIGTERM', () => process.exit(0))

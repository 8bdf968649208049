// The fan-out that one writes with `ws` and a Redis subscriber: a set of sockets for each channel,
// and every message sent to each of them.
//
//   node ws.mjs REDIS-URL PREFIX        prints `ready port=N`
//
// Clients name their channels in the URL, as tickcast's do: /ws?channels=a,b
import Redis from 'ioredis'
import { WebSocketServer } from 'ws'

const [redisUrl, prefix] = process.argv.slice(2)
const redis = new Redis(redisUrl)
const channels = new Map() // full name -> set of sockets

const server = new WebSocketServer({
  host: '127.0.0.1',
  port: 0,
  backlog: 4096,
  // Granted to who offers it. A quote is shorter than the default threshold of 1,024 bytes.
  perMessageDeflate: { threshold: 0, serverNoContextTakeover: true, zlibDeflateOptions: { level: 1 } }
})

function subscribe (socket, name) {
  let sockets = channels.get(name)
  if (sockets === undefined) {
    channels.set(name, sockets = new Set())
    redis.subscribe(name)
  }
  sockets.add(socket)
}

function unsubscribe (socket, name) {
  const sockets = channels.get(name)
  sockets.delete(socket)
  if (sockets.size === 0) {
    channels.delete(name)
    redis.unsubscribe(name)
  }
}

server.on('connection', (socket, request) => {
  const list = new URL(request.url, 'http://localhost').searchParams.get('channels') ?? ''
  const names = list.split(',').filter(Boolean).map(name => prefix + name)
  for (const name of names) subscribe(socket, name)
  socket.on('close', () => { for (const name of names) unsubscribe(socket, name) })
  socket.on('error', () => {})
})

redis.on('message', (name, message) => {
  for (const socket of channels.get(name) ?? []) socket.send(message)
})

server.on('listening', () => console.log(`ready port=${server.address().port}`))
process.on('SIGTERM', () => process.exit(0))

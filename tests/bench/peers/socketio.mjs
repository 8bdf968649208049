// A Socket.IO node with the Redis adapter: clients join a room for each channel, and what is emitted
// to a room anywhere in the fleet comes through the adapter. bridge.mjs emits.
//
//   node socketio.mjs REDIS-URL         prints `ready port=N`
import { createServer } from 'node:http'
import { createAdapter } from '@socket.io/redis-adapter'
import Redis from 'ioredis'
import { Server } from 'socket.io'

const [redisUrl] = process.argv.slice(2)
const publisher = new Redis(redisUrl)
const http = createServer()
const io = new Server(http, {
  adapter: createAdapter(publisher, publisher.duplicate()),
  transports: ['websocket'], // no polling first: the client is one of benchmarks
  serveClient: false
})

io.on('connection', socket => {
  socket.on('subscribe', (channels, done) => {
    socket.join(channels)
    done()
  })
})

http.listen({ host: '127.0.0.1', port: 0, backlog: 4096 },
  () => console.log(`ready port=${http.address().port}`))
process.on('SIGTERM', () => process.exit(0))
